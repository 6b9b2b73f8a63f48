/* SPDX-License-Identifier: MIT */

/* wait by conditions, as a client sees it, in the whole engine of engine-fixture.h. */

#include "tests/support/engine-requests.h"

static FixtureClient client;
static int n_fds_before;

static void turns(void) {
        fixture_settle(&client);
}

#define ask(...) ask_by(&client, __VA_ARGS__)
#define answered(id) answered_by(&client, id)
#define ck_refused(wanted) ck_refused_by(&client, wanted, NULL)

/* The rows of what was met, as "id.condition@offset …"; "timeout:" before, if it was that. */
static const char *met(void) {
        json_t *result = json_object_get(client.last, "result"), *row;
        static char text[1024];
        const char *reason = json_string_value(json_object_get(result, "reason"));
        size_t i, n = 0;

        ck_assert_msg(reason, "%s", json_dumps(client.last, 0));
        if (strcmp(reason, "timeout") == 0)
                n = (size_t)snprintf(text, sizeof(text), "timeout:");
        text[n] = '\0';
        json_array_foreach(json_object_get(result, "satisfied"), i, row) {
                json_t *offset = json_object_get(row, "offset");

                n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%lld.%lld", i > 0 ? " " : "",
                                      (long long)json_integer_value(json_object_get(row, "id")),
                                      (long long)json_integer_value(json_object_get(row, "condition")));
                if (offset)
                        n += (size_t)snprintf(text + n, sizeof(text) - n, "@%lld",
                                              (long long)json_integer_value(offset));
        }
        return text;
}

static Process *named(const char *name) {
        Process *process = supervisor_find_name(&engine.supervisor, name);

        ck_assert_ptr_nonnull(process);
        return process;
}

static void say(const char *name, const char *text) {
        fake_child_write(fake_child(named(name)->id, 1), 1, text, strlen(text));
        turns();
}

static void run(const char *program, const char *name) {
        (void)ask("run", "{\"argv\":[\"%s\"],\"name\":\"%s\"}", program, name);
        turns();
}

/* Nobody waits for anything any more, and nothing of it is left. */
static void ck_rest(void) {
        ck_assert_uint_eq(engine.requests.n_wait_terms, 0);
        ck_assert_uint_eq(engine.requests.n_wait_targets, 0);
        ck_assert_uint_eq(engine.requests.n_reads, 0);
        ck_assert_uint_eq(engine.requests.readers.n, 0);
        ck_assert(list_empty(&engine.requests.readers.due));
        ck_assert(list_empty(&engine.requests.due));
        LIST_FOREACH(Process, process, &engine.supervisor.processes, link) {
                ck_assert(list_empty(&process->readers));
                ck_assert(list_empty(&process->watches));
        }
}

static void connect_client(void) {
        fixture_connect(&client);
        fixture_hello(&client);
        turns();
}

static void setup(void) {
        n_fds_before = open_fds_count();
        fixture_open();
        connect_client();
        run("cat", "a");
        run("cat", "b");
}

static void teardown(void) {
        ck_rest();
        fixture_disconnect(&client);
        fixture_clean();
        fixture_close();
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

/* --- what is met, and where --- */

static const struct {
        const char *condition;
        const char *data;
        size_t end; /* met once so many bytes are there */
} splits[] = {
        { "{\"for\":\"pattern\",\"pattern\":\"(?<=a: )(\\\\w+);\"}", "b: c, a: value; d", 15 },
        { "{\"for\":\"pattern\",\"pattern\":\"\u00e4\u20ac\U0001f600!\"}",
          "\u00e4\u20ac\u00e4\u20ac\U0001f600!?", 15 },
        { "{\"for\":\"bytes\",\"n\":7}", "0123456789", 7 },
};

START_TEST(it_is_met_at_the_same_place_wherever_the_output_is_cut)
{
        const char *data = splits[_i].data;
        size_t size = strlen(data);

        for (size_t at = 0; at <= size; at++) {
                char name[24], left[64] = "", expected[64];
                unsigned long long id;
                uint32_t wait;

                (void)snprintf(name, sizeof(name), "s%zu", at);
                run("cat", name);
                id = named(name)->id;
                (void)snprintf(expected, sizeof(expected), "%llu.0@%zu", id, splits[_i].end);
                memcpy(left, data, at);
                wait = ask("wait", "{\"targets\":[%llu],\"conditions\":[%s]}", id, splits[_i].condition);
                turns();
                if (at > 0)
                        say(name, left);
                ck_assert_int_eq(answered(wait), at >= splits[_i].end);
                if (at < size)
                        say(name, data + at);
                ck_assert(answered(wait));
                ck_assert_str_eq(met(), expected);
                (void)ask("wait", "{\"targets\":[%llu],\"conditions\":[%s]}", id, splits[_i].condition);
                turns(); /* for what is there already, too */
                ck_assert_str_eq(met(), expected);
                (void)ask("remove", "{\"targets\":[%llu],\"force\":true}", id);
                turns();
        }
}
END_TEST

START_TEST(all_are_waited_for_and_what_was_met_stays_met)
{
        uint32_t wait;

        wait = ask("wait", "{\"targets\":[1,2],\"conditions\":[{\"for\":\"pattern\",\"pattern\":\"go\"},"
                           "{\"for\":\"exited\",\"targets\":[1]},{\"for\":\"state\",\"state\":\"paused\","
                           "\"targets\":[2]}]}");
        turns();
        say("a", "go");
        (void)ask("pause", "{\"targets\":[2]}");
        turns();
        (void)ask("resume", "{\"targets\":[2]}"); /* it has been in that state */
        turns();
        fake_child_exit(fake_child(1, 1), CLD_EXITED, 0);
        turns();
        ck_assert(!answered(wait));
        say("b", "go");
        ck_assert(answered(wait));
        ck_assert_str_eq(met(), "1.0@2 2.0@2 1.1 2.2");
}
END_TEST

START_TEST(any_is_the_first_to_be_met)
{
        uint32_t wait = ask("wait", "{\"targets\":[1,2],\"any\":true,\"conditions\":[{\"for\":\"pattern\","
                                    "\"pattern\":\"go\"},{\"for\":\"exited\"}]}");

        turns();
        ck_assert(!answered(wait));
        say("b", "so go");
        ck_assert(answered(wait));
        ck_assert_str_eq(met(), "2.0@5");
}
END_TEST

START_TEST(the_answer_at_the_deadline_has_what_was_met_by_then)
{
        uint32_t wait;

        say("a", "go");
        (void)ask("wait", "{\"targets\":[1,2],\"timeout_usec\":0,\"conditions\":[{\"for\":\"pattern\","
                          "\"pattern\":\"go\"},{\"for\":\"running\",\"targets\":[2]}]}");
        turns();
        ck_assert_str_eq(met(), "timeout:1.0@2 2.1");
        wait = ask("wait",
                   "{\"targets\":[2],\"timeout_usec\":20000,\"conditions\":[{\"for\":\"bytes\",\"n\":3}]}");
        say("b", "12");
        for (uint64_t begin = clock_monotonic_usec(); !answered(wait);) {
                ck_assert_uint_lt(clock_monotonic_usec() - begin, 30 * USEC_PER_SEC);
                turns();
        }
        ck_assert_str_eq(met(), "timeout:");
        say("b", "3");
        ck_rest();
}
END_TEST

START_TEST(only_the_sources_and_the_place_that_were_asked_for_count)
{
        FakeChild *child = fake_child(1, 1);

        fake_child_write(child, 2, "eee", 3);
        turns();
        say("a", "ooo");
        (void)ask("wait", "{\"targets\":[1],\"timeout_usec\":0,\"conditions\":["
                          "{\"for\":\"bytes\",\"n\":3,\"sources\":[\"stdout\"]},"
                          "{\"for\":\"bytes\",\"n\":4,\"sources\":[\"stderr\"]},"
                          "{\"for\":\"bytes\",\"n\":4,\"from\":2},"
                          "{\"for\":\"bytes\",\"n\":5,\"from\":2},"
                          "{\"for\":\"bytes\",\"n\":1,\"from\":\"end\"},"
                          "{\"for\":\"bytes\",\"n\":6,\"from\":\"start\"}]}");
        turns();
        ck_assert_str_eq(met(), "timeout:1.0@6 1.2@6 1.5@6");
}
END_TEST

START_TEST(what_is_lost_matches_nothing_but_what_comes_behind_it_may)
{
        static const char text[] = "lost";
        uint32_t wait = ask("wait", "{\"targets\":[1],\"conditions\":[{\"for\":\"pattern\",\"pattern\":"
                                    "\"heretail|tail!\"}]}");
        int fd, ends[2];
        size_t n;
        Log *log;

        turns();
        say("a", "here");
        ck_assert_int_eq(process_log(named("a"), &log, NULL), 0);
        ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
        ck_assert_int_eq(write(ends[1], text, strlen(text)), (ssize_t)strlen(text));
        ck_assert_int_eq(log_discard_begin(log, 1, &fd, NULL), 0);
        ck_assert_int_eq(log_discard(log, fd, ends[0], 100, &n, NULL), 0);
        ck_assert_int_eq(log_discard_end(log, fd, NULL), 0);
        (void)fd_close(fd);
        (void)fd_close(ends[0]);
        (void)fd_close(ends[1]);
        say("a", "tail");
        ck_assert(!answered(wait));
        say("a", "!");
        ck_assert_str_eq(met(), "1.0@13");
}
END_TEST

START_TEST(the_end_of_a_run_does_not_end_a_search)
{
        uint32_t wait = ask("wait", "{\"targets\":[\"a\"],\"conditions\":[{\"for\":\"bytes\",\"n\":4}]}");

        turns();
        say("a", "12");
        fake_child_exit(fake_child(1, 1), CLD_EXITED, 0);
        turns();
        (void)ask("start", "{\"target\":1}");
        turns();
        ck_assert(!answered(wait));
        fake_child_write(fake_child(1, 2), 1, "34", 2);
        turns();
        ck_assert(answered(wait));
        ck_assert_str_eq(met(), "1.0@4");
}
END_TEST

/* --- bounds and errors --- */

/* A list of so many conditions, in a buffer that is used again. */
static const char *conditions(unsigned n) {
        static char text[8192];
        size_t size = 0;

        text[0] = '\0';
        for (unsigned i = 0; i < n; i++)
                size += (size_t)snprintf(text + size, sizeof(text) - size, "%s{\"for\":\"bytes\",\"n\":%u}",
                                         i > 0 ? "," : "", i + 1);
        return text;
}

START_TEST(as_many_conditions_as_there_may_be_and_no_more)
{
        (void)ask("wait", "{\"targets\":[1],\"timeout_usec\":0,\"conditions\":[%s]}",
                  conditions(LIMIT_WAIT_CONDITIONS));
        turns();
        ck_assert_str_eq(met(), "timeout:");
        (void)ask("wait", "{\"targets\":[1],\"conditions\":[%s]}", conditions(LIMIT_WAIT_CONDITIONS + 1));
        turns();
        ck_refused("invalid-argument");
        (void)ask("wait", "{\"targets\":[1],\"conditions\":[]}");
        turns();
        ck_refused("invalid-argument");
}
END_TEST

START_TEST(conditions_times_processes_have_a_bound)
{
        enum {
                N = LIMIT_WAIT_TERMS / LIMIT_WAIT_CONDITIONS + 1
        };
        static char targets[1024];
        size_t size = 0;

        for (unsigned i = 0; i < N; i++) {
                (void)ask("run", "{\"argv\":[\"quit\"]}");
                turns();
        }
        (void)ask("list", "{\"fields\":[\"id\"]}");
        turns();
        for (unsigned i = 0; i < N; i++)
                size += (size_t)snprintf(targets + size, sizeof(targets) - size, "%s%u", i > 0 ? "," : "",
                                         i + 3);
        (void)ask("wait", "{\"targets\":[%s],\"conditions\":[%s]}", targets,
                  conditions(LIMIT_WAIT_CONDITIONS));
        turns();
        ck_refused("limit");
        *strrchr(targets, ',') = '\0';
        (void)ask("wait", "{\"targets\":[%s],\"timeout_usec\":0,\"conditions\":[%s]}", targets,
                  conditions(LIMIT_WAIT_CONDITIONS));
        turns();
        ck_assert_ptr_nonnull(json_object_get(client.last, "result"));
}
END_TEST

/* What daemon-status says of a bound. */
static json_int_t used(const char *name) {
        json_t *limits;

        (void)ask("daemon-status", "{}");
        turns();
        limits = json_object_get(json_object_get(client.last, "result"), "limits");
        return json_integer_value(json_object_get(json_object_get(limits, name), "used"));
}

static const struct {
        const char *name;
        size_t max;
        const char *method, *params; /* takes 2 of it, 1 of a read */
        json_int_t n;
} together[] = {
        { "wait-terms", LIMIT_ALL_WAIT_TERMS, "wait",
          "{\"targets\":[1,2],\"conditions\":[{\"for\":\"pattern\",\"pattern\":\"x\"}]}", 2 },
        { "wait-targets", LIMIT_ALL_WAIT_TARGETS, "wait", "{\"targets\":[1,2]}", 2 },
        { "waiting-reads", LIMIT_WAITING_READS, "read", "{\"target\":1}", 1 },
        { "waiting-reads", LIMIT_WAITING_READS, "ask", "{\"target\":2,\"data\":\"a\",\"for\":\"line\"}", 1 },
};

static size_t *count_of(int i) {
        return i == 0   ? &engine.requests.n_wait_terms
               : i == 1 ? &engine.requests.n_wait_targets
                        : &engine.requests.n_reads;
}

START_TEST(all_that_wait_together_have_a_bound)
{
        size_t others = together[_i].max - 2 * (size_t)together[_i].n + 1;
        uint32_t id;
        StdinLog *log;

        *count_of(_i) = others; /* on other connections */
        id = ask(together[_i].method, "%s", together[_i].params);
        turns();
        ck_assert(!answered(id));
        ck_assert_int_eq(used(together[_i].name), (json_int_t)others + together[_i].n);
        *count_of(_i) += (size_t)together[_i].n - 1;
        (void)ask(together[_i].method, "%s", together[_i].params);
        turns();
        ck_refused("limit");
        ck_assert_int_eq(process_stdin_log(named("b"), &log, NULL), 0);
        ck_assert_uint_eq(stdin_log_accepted(log), _i == 3 ? 1 : 0); /* the first ask's alone */
        (void)ask("cancel", "{\"request\":%u}", id);
        turns();
        ck_assert_int_eq(used(together[_i].name), (json_int_t)others + together[_i].n - 1);
        *count_of(_i) = 0;
}
END_TEST

START_TEST(as_many_waits_as_a_connection_may_have_and_no_more)
{
        uint32_t first = 0, last = 0;

        for (unsigned i = 0; i < LIMIT_REQUESTS_PER_CLIENT; i++) {
                last = ask("wait",
                           "{\"targets\":[1],\"conditions\":[{\"for\":\"pattern\",\"pattern\":\"m%u$\"}]}",
                           i);
                first = first ? first : last;
                turns();
        }
        ck_assert_uint_eq(engine.requests.readers.n, LIMIT_REQUESTS_PER_CLIENT);
        (void)ask("wait", "{\"targets\":[1],\"conditions\":[{\"for\":\"bytes\",\"n\":1}]}");
        turns();
        ck_refused("limit");
        ck_assert_uint_eq(engine.requests.readers.n, LIMIT_REQUESTS_PER_CLIENT);
        say("a", "m77\n");
        for (uint32_t id = first; id <= last; id++)
                ck_assert_int_eq(answered(id), id == first + 77);
        ck_assert_str_eq(met(), "1.0@3");
        for (uint32_t id = first; id <= last; id++) {
                (void)ask("cancel", "{\"request\":%u}", id);
                turns();
        }
}
END_TEST

static const char *const wrong[] = {
        "{\"for\":\"pattern\"}",
        "{\"for\":\"pattern\",\"pattern\":\"(\"}",
        "{\"for\":\"pattern\",\"pattern\":\"\"}",
        "{\"for\":\"quiet\"}",
        "{\"for\":\"quiet\",\"quiet_usec\":-1}",
        "{\"for\":\"bytes\",\"n\":0}",
        "{\"for\":\"state\",\"state\":\"asleep\"}",
        "{\"for\":\"bytes\",\"n\":1,\"from\":1}",
        "{\"for\":\"bytes\",\"n\":1,\"from\":\"middle\"}",
        "{\"for\":\"bytes\",\"n\":1,\"sources\":[]}",
        "{\"for\":\"bytes\",\"n\":1,\"more\":1}",
        "[]",
};

START_TEST(what_is_wrong_is_refused_and_leaves_nothing)
{
        (void)ask("wait", "{\"targets\":[1,2],\"conditions\":[{\"for\":\"bytes\",\"n\":1},%s]}", wrong[_i]);
        turns();
        ck_refused("invalid-argument");
        ck_rest();
}
END_TEST

START_TEST(a_pattern_without_end_is_refused_and_the_others_go_on)
{
        uint32_t other = ask("wait", "{\"targets\":[2],\"conditions\":[{\"for\":\"bytes\",\"n\":1}]}"), wait;

        turns();
        (void)ask("run", "{\"argv\":[\"full\"],\"name\":\"f\"}");
        turns();
        wait = ask("wait", "{\"targets\":[\"f\"],\"conditions\":[{\"for\":\"pattern\",\"pattern\":"
                           "\"(f+|f+\\\\n)+(.|\\\\n)*(g)\\\\3\"}]}");
        for (uint64_t begin = clock_monotonic_usec(); !answered(wait);) {
                ck_assert_uint_lt(clock_monotonic_usec() - begin, 60 * USEC_PER_SEC);
                turns();
        }
        ck_refused("limit");
        say("b", "x");
        ck_assert(answered(other));
}
END_TEST

/* --- going away --- */

START_TEST(a_process_that_is_removed_cannot_be_met_any_more)
{
        uint32_t all = ask("wait", "{\"targets\":[1,2],\"conditions\":[{\"for\":\"bytes\",\"n\":9}]}"), any;

        turns();
        any = ask("wait", "{\"targets\":[1,2],\"any\":true,\"conditions\":[{\"for\":\"bytes\",\"n\":9}]}");
        turns();
        fake_child_exit(fake_child(1, 1), CLD_EXITED, 0);
        turns();
        (void)ask("remove", "{\"targets\":[1]}");
        turns();
        ck_assert(answered(all));
        ck_assert(!answered(any));
        fake_child_exit(fake_child(2, 1), CLD_EXITED, 0);
        turns();
        (void)ask("remove", "{\"targets\":[2]}");
        turns();
        ck_assert(answered(any));
        ck_rest();
}
END_TEST

START_TEST(what_was_met_before_the_removal_counts)
{
        uint32_t wait = ask("wait", "{\"targets\":[1,2],\"conditions\":[{\"for\":\"exited\",\"targets\":[1]},"
                                    "{\"for\":\"bytes\",\"n\":2}]}");

        turns();
        say("a", "12");
        fake_child_exit(fake_child(1, 1), CLD_EXITED, 0);
        turns();
        (void)ask("remove", "{\"targets\":[1]}");
        turns();
        ck_assert(!answered(wait));
        say("b", "12");
        ck_assert(answered(wait));
        ck_assert_str_eq(met(), "1.0 1.1@2 2.1@2");
}
END_TEST

START_TEST(one_that_is_cancelled_leaves_nothing)
{
        uint32_t wait = ask("wait", "{\"targets\":[1,2],\"timeout_usec\":60000000,\"conditions\":[{\"for\":"
                                    "\"pattern\",\"pattern\":\"x\"},{\"for\":\"quiet\",\"quiet_usec\":"
                                    "60000000},{\"for\":\"exited\"}]}");

        turns();
        ck_assert_uint_eq(engine.requests.readers.n, 4);
        (void)ask("cancel", "{\"request\":%u}", wait);
        turns();
        ck_assert(answered(wait));
        ck_rest();
        say("a", "x");
        ck_assert_uint_eq(client.answered[wait - FIXTURE_ID], 1);
}
END_TEST

START_TEST(a_client_that_leaves_leaves_nothing)
{
        say("a", "some ");
        for (unsigned turn = 0; turn < 4; turn++) {
                (void)ask("wait",
                          "{\"targets\":[1,2],\"timeout_usec\":60000000,\"conditions\":[{\"for\":"
                          "\"pattern\",\"pattern\":\"x\"},{\"for\":\"quiet\",\"quiet_usec\":60000000},"
                          "{\"for\":\"exited\"}]}");
                for (unsigned i = 0; i < turn; i++)
                        fixture_turn();
                if (turn == 3)
                        fake_child_write(fake_child(1, 1), 1, "x", 1); /* in the turn that would meet it */
                fixture_disconnect(&client);
                fixture_settle(NULL);
                ck_rest();
                ck_assert_uint_eq(engine.clients.n_clients, 0);
                connect_client();
        }
        (void)ask("wait", "{\"targets\":[1],\"conditions\":[{\"for\":\"pattern\",\"pattern\":\"x\"}]}");
        turns();
        ck_assert_str_eq(met(), "1.0@6");
}
END_TEST

static TCase *theme(Suite *suite, const char *name) {
        TCase *tcase = tcase_create(name);

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 120);
        suite_add_tcase(suite, tcase);
        return tcase;
}

static Suite *request_wait_suite(void) {
        Suite *suite = suite_create("request-wait");
        TCase *tcase = theme(suite, "what is met");

        tcase_add_loop_test(tcase, it_is_met_at_the_same_place_wherever_the_output_is_cut, 0,
                            ARRAY_SIZE(splits));
        tcase_add_test(tcase, all_are_waited_for_and_what_was_met_stays_met);
        tcase_add_test(tcase, any_is_the_first_to_be_met);
        tcase_add_test(tcase, the_answer_at_the_deadline_has_what_was_met_by_then);
        tcase_add_test(tcase, only_the_sources_and_the_place_that_were_asked_for_count);
        tcase_add_test(tcase, what_is_lost_matches_nothing_but_what_comes_behind_it_may);
        tcase_add_test(tcase, the_end_of_a_run_does_not_end_a_search);
        tcase = theme(suite, "bounds and errors");
        tcase_add_test(tcase, as_many_conditions_as_there_may_be_and_no_more);
        tcase_add_test(tcase, conditions_times_processes_have_a_bound);
        tcase_add_loop_test(tcase, all_that_wait_together_have_a_bound, 0, ARRAY_SIZE(together));
        tcase_add_test(tcase, as_many_waits_as_a_connection_may_have_and_no_more);
        tcase_add_loop_test(tcase, what_is_wrong_is_refused_and_leaves_nothing, 0, ARRAY_SIZE(wrong));
        tcase_add_test(tcase, a_pattern_without_end_is_refused_and_the_others_go_on);
        tcase = theme(suite, "going away");
        tcase_add_test(tcase, a_process_that_is_removed_cannot_be_met_any_more);
        tcase_add_test(tcase, what_was_met_before_the_removal_counts);
        tcase_add_test(tcase, one_that_is_cancelled_leaves_nothing);
        tcase_add_test(tcase, a_client_that_leaves_leaves_nothing);
        return suite;
}

CHECK_MAIN(request_wait_suite);
