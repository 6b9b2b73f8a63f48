/* SPDX-License-Identifier: MIT */

/* write as a client sees it: room, drain, consumed and keys, in the whole engine of engine-fixture.h. */

#include "daemon/engine/request-write.h"

#include "tests/support/engine-requests.h"

#define MIB ((size_t)1024 * 1024)

static FixtureClient client, other;
static Process *process;
static int n_fds_before;

static void turns(void) {
        fixture_settle(&client);
        while (fixture_read(&other))
                ;
}

#define ask(...) ask_by(&client, __VA_ARGS__)

#define answered(id) answered_by(&client, id)

#define ck_refused(wanted) ck_refused_by(&client, wanted, NULL)

static json_int_t result(const char *name) {
        json_t *value = json_object_get(json_object_get(client.last, "result"), name);

        ck_assert_msg(json_is_integer(value), "%s", json_dumps(client.last, 0));
        return json_integer_value(value);
}

static StdinLog *input(void) {
        StdinLog *log;

        ck_assert_int_eq(process_stdin_log(process, &log, NULL), 0);
        return log;
}

/* The program reads nothing, or goes on. */
static void freeze(bool frozen) {
        fake_child(process->id, process->run.run)->frozen = frozen;
}

/* Everything that may be accepted is, but so many bytes; the program is frozen. */
static void fill(size_t leave) {
        static char block[MIB];
        const InputFrom from = {};

        freeze(true);
        memset(block, 'f', sizeof(block));
        while (process_input_room(process) > leave) {
                size_t size = MIN(sizeof(block), (size_t)process_input_room(process) - leave);

                ck_assert_int_eq(process_input(process, &from, 0, block, size, false, NULL, NULL, NULL), 0);
                turns(); /* the pipe takes some */
        }
        ck_assert_uint_eq(process_input_room(process), leave);
}

static void connect_client(FixtureClient *who) {
        fixture_connect(who);
        fixture_hello(who);
        turns();
}

static void setup(void) {
        n_fds_before = open_fds_count();
        other = (FixtureClient){ .fd = -1 };
        fixture_open();
        connect_client(&client);
        connect_client(&other);
        (void)ask("run", "{\"argv\":[\"cat\"],\"name\":\"p\"}");
        turns();
        process = supervisor_find_name(&engine.supervisor, "p");
        ck_assert_ptr_nonnull(process);
}

static void teardown(void) {
        ck_assert_uint_eq(engine.requests.waiting_write_bytes, 0);
        fixture_disconnect(&client);
        fixture_disconnect(&other);
        fixture_clean();
        fixture_close();
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

/* Nobody waits to have written. */
static void ck_rest(void) {
        ck_assert_uint_eq(engine.requests.waiting_write_bytes, 0);
        ck_assert(list_empty(&engine.requests.due));
        ck_assert(list_empty(&process->watches));
}

/* Sends all of a long frame, piece by piece, with a turn of the engine between them. */
static void send_long(const char *text, size_t size) {
        FrameHeader header = { .size = (uint32_t)size, .type = FRAME_CONTROL };
        uint8_t bytes[FRAME_HEADER_SIZE];

        frame_header_encode(bytes, &header);
        fixture_send(&client, bytes, sizeof(bytes));
        for (size_t at = 0, n; at < size; at += n) {
                n = MIN(size - at, (size_t)64 * 1024);
                fixture_send(&client, text + at, n);
                (void)fixture_turn();
        }
        turns();
}

static void await(uint32_t id) {
        for (uint64_t begin = clock_monotonic_usec(); !answered(id);) {
                ck_assert_uint_lt(clock_monotonic_usec() - begin, 30 * USEC_PER_SEC);
                turns();
        }
}

/* --- accepted as a whole or not at all --- */

START_TEST(the_largest_is_taken_and_one_byte_more_is_not)
{
        char *text = malloc(MIB + 4096), *data;
        size_t size = INPUT_DATA_MAX + (size_t)_i;
        int n;

        n = sprintf(
                text,
                "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"write\",\"params\":{\"target\":1,\"data\":\"",
                ++client.next_id);
        data = text + n;
        memset(data, 'd', size);
        strcpy(data + size, "\"}}");
        send_long(text, (size_t)n + size + 3);
        free(text);
        if (_i == 0)
                ck_assert_int_eq(result("accepted"), (json_int_t)size);
        else
                ck_refused("too-large");
        ck_assert_uint_eq(stdin_log_accepted(input()), _i == 0 ? size : 0);
}
END_TEST

START_TEST(any_bytes_arrive_as_they_are)
{
        (void)ask("write", "{\"target\":1,\"data\":{\"base64\":\"AP8Kww==\"}}");
        turns();
        ck_assert_int_eq(result("bytes"), 4);
        (void)ask("read", "{\"target\":1,\"for\":\"exactly\",\"n\":4,\"timeout_usec\":10000000}");
        turns();
        ck_assert_str_eq(json_string_value(json_object_get(
                                 json_object_get(json_object_get(client.last, "result"), "data"), "base64")),
                         "AP8Kww==");
}
END_TEST

START_TEST(what_does_not_fit_is_refused_as_a_whole)
{
        uint64_t accepted;

        fill(3);
        accepted = stdin_log_accepted(input());
        (void)ask("write", "{\"target\":1,\"data\":\"four\"}");
        turns();
        ck_refused("would-block");
        (void)ask("write", "{\"target\":1,\"data\":\"four\",\"timeout_usec\":0}");
        turns();
        ck_refused("would-block");
        ck_assert_uint_eq(stdin_log_accepted(input()), accepted);
        (void)ask("write", "{\"target\":1,\"data\":\"3.3\"}");
        turns();
        ck_assert_int_eq(result("accepted"), (json_int_t)accepted + 3);
        ck_rest();
}
END_TEST

static const char *const wrong[] = {
        "{\"target\":1}",
        "{\"target\":1,\"data\":1}",
        "{\"target\":1,\"data\":{\"base64\":\"?\"}}",
        "{\"target\":1,\"data\":\"x\",\"timeout_usec\":-1}",
        "{\"target\":1,\"data\":\"x\",\"drain\":1}",
        "{\"target\":1,\"data\":\"x\",\"key\":\"\"}",
};

START_TEST(what_is_wrong_is_refused_and_writes_nothing)
{
        (void)ask("write", "%s", wrong[_i]);
        turns();
        ck_refused("invalid-argument");
        ck_assert_uint_eq(stdin_log_accepted(input()), 0);
        ck_rest();
}
END_TEST

/* --- waiting for room --- */

START_TEST(those_that_wait_for_room_are_accepted_in_their_order)
{
        uint32_t first, second, late;
        uint64_t accepted;

        fill(1);
        accepted = stdin_log_accepted(input());
        first = ask("write", "{\"target\":1,\"data\":\"first\",\"timeout_usec\":60000000}");
        turns();
        second = ask("write", "{\"target\":1,\"data\":\"2\",\"timeout_usec\":60000000}"); /* would fit */
        turns();
        ck_assert(!answered(first) && !answered(second));
        ck_assert_uint_eq(engine.requests.waiting_write_bytes, 6);
        late = ask_by(&other, "write", "{\"target\":1,\"data\":\"!\"}"); /* does not overtake them */
        turns();
        ck_assert(answered_by(&other, late));
        ck_refused_by(&other, "would-block", NULL);
        freeze(false);
        for (unsigned i = 0; i < 100 && !answered(second); i++)
                turns();
        ck_assert(answered(first) && answered(second));
        ck_assert_int_eq(result("accepted"), (json_int_t)accepted + 6); /* the second's came last */
        ck_rest();
}
END_TEST

START_TEST(without_room_in_time_nothing_is_accepted)
{
        uint64_t accepted;
        uint32_t id;

        fill(1);
        accepted = stdin_log_accepted(input());
        id = ask("write", "{\"target\":1,\"data\":\"ab\",\"timeout_usec\":10000}");
        await(id);
        ck_refused_by(&client, "timeout", "room");
        ck_assert_uint_eq(stdin_log_accepted(input()), accepted);
        ck_rest();
}
END_TEST

START_TEST(one_that_leaves_or_is_cancelled_takes_its_turn_with_it)
{
        uint32_t first, second;

        fill(1);
        first = ask_by(&other, "write", "{\"target\":1,\"data\":\"large\",\"timeout_usec\":60000000}");
        turns();
        second = ask("write", "{\"target\":1,\"data\":\"2\",\"timeout_usec\":60000000}");
        turns();
        ck_assert(!answered(second));
        if (_i == 0)
                fixture_disconnect(&other);
        else
                (void)ask_by(&other, "cancel", "{\"request\":%u}", first);
        turns();
        ck_assert(answered(second)); /* there was room for it */
        ck_assert_int_eq(result("bytes"), 1);
        ck_rest();
        freeze(false);
        for (unsigned i = 0; i < 100; i++)
                turns();
        ck_assert_uint_eq(stdin_log_accepted(input()), stdin_log_taken(input()));
        if (_i == 0)
                connect_client(&other);
}
END_TEST

START_TEST(what_waits_for_room_has_a_bound_of_its_own)
{
        fill(1);
        engine.requests.waiting_write_bytes = LIMIT_WAITING_WRITE_BYTES - 3; /* of others */
        (void)ask("write", "{\"target\":1,\"data\":\"four\",\"timeout_usec\":60000000}");
        turns();
        ck_refused("would-block");
        (void)ask("write", "{\"target\":1,\"data\":\"3.3\",\"timeout_usec\":60000000}");
        turns();
        ck_assert_uint_eq(engine.requests.waiting_write_bytes, LIMIT_WAITING_WRITE_BYTES);
        fixture_disconnect(&client);
        fixture_settle(NULL);
        ck_assert_uint_eq(engine.requests.waiting_write_bytes, LIMIT_WAITING_WRITE_BYTES - 3);
        engine.requests.waiting_write_bytes = 0;
        connect_client(&client);
}
END_TEST

static const struct {
        const char *how, *params; /* what ends the wait */
        const char *code;
} ends[] = {
        { "stop", "{\"targets\":[1],\"now\":true}", "not-running" },
        { "restart", "{\"target\":1,\"grace_usec\":0}", "not-running" },
        { "remove", "{\"targets\":[1],\"force\":true}", "not" /* -running or -found, as it comes */ },
};

/* Waits for room, for the pipe, or for the program when the process goes away. */
START_TEST(the_end_of_the_process_ends_every_wait)
{
        static const char *const waits[] = {
                "{\"target\":1,\"data\":\"abc\",\"timeout_usec\":60000000}",
                "{\"target\":1,\"data\":\"a\",\"drain\":true}",
                "{\"target\":1,\"data\":\"a\",\"consumed\":true}",
        };
        int how = _i / 3, what = _i % 3;
        uint32_t id;

        fill(1);
        id = ask("write", "%s", waits[what]);
        turns();
        ck_assert(!answered(id));
        (void)ask_by(&other, ends[how].how, "%s", ends[how].params);
        await(id);
        ck_assert_int_eq(strncmp(code_of(&client), ends[how].code, strlen(ends[how].code)), 0);
        ck_assert_uint_eq(engine.requests.waiting_write_bytes, 0);
}
END_TEST

START_TEST(a_lock_that_is_taken_meanwhile_refuses_what_waits)
{
        uint32_t id;

        fill(1);
        id = ask("write", "{\"target\":1,\"data\":\"abc\",\"timeout_usec\":60000000}");
        turns();
        (void)ask_by(&other, "lock-stdin", "{\"target\":1,\"holder\":\"h\",\"ttl_usec\":60000000}");
        turns();
        freeze(false);
        await(id);
        ck_refused("locked");
        ck_rest();
}
END_TEST

/* --- waiting until it is taken, and read --- */

START_TEST(drain_is_answered_when_the_pipe_has_it)
{
        uint32_t id;

        fill(2);
        id = ask("write", "{\"target\":1,\"data\":\"ab\",\"drain\":true,\"timeout_usec\":60000000}");
        turns();
        ck_assert(!answered(id));
        freeze(false);
        for (unsigned i = 0; i < 200 && !answered(id); i++) {
                ck_assert_uint_lt(process_input_taken(process), stdin_log_accepted(input()));
                (void)fixture_turn();
                (void)fixture_read(&client);
        }
        await(id);
        ck_assert_int_eq(result("taken"), result("accepted"));
        ck_rest();
}
END_TEST

START_TEST(drain_is_not_answered_while_a_byte_is_left)
{
        static char block[MIB];
        const InputFrom from = {};
        size_t size = (size_t)fcntl(process->stdin_fd, F_GETPIPE_SZ);
        uint32_t id;

        freeze(true);
        ck_assert_uint_le(size, sizeof(block));
        ck_assert_int_eq(process_input(process, &from, 0, block, size, false, NULL, NULL, NULL), 0);
        turns();
        ck_assert_uint_eq(process_input_taken(process), size); /* the pipe is full, to the byte */
        id = ask("write", "{\"target\":1,\"data\":\"x\",\"drain\":true}");
        turns();
        ck_assert(!answered(id));
        ck_assert_int_eq(read(fake_child(process->id, 1)->fds[0], block, size), (ssize_t)size);
        turns();
        ck_assert(answered(id));
        ck_assert_int_eq(result("taken"), (json_int_t)size + 1);
}
END_TEST

START_TEST(consumed_is_not_answered_while_a_byte_is_left)
{
        FakeChild *child = fake_child(process->id, 1);
        uint32_t id;
        char byte;

        freeze(true);
        id = ask("write", "{\"target\":1,\"data\":\"ab\",\"consumed\":true}");
        turns();
        for (unsigned i = 0; i < 2; i++) {
                ck_assert_int_eq(read(child->fds[0], &byte, 1), 1);
                for (uint64_t begin = clock_monotonic_usec();
                     i == 0 && clock_monotonic_usec() - begin < 20000;) {
                        turns();
                        ck_assert(!answered(id));
                }
        }
        await(id);
}
END_TEST

START_TEST(consumed_is_answered_when_it_was_read_and_not_before)
{
        uint32_t id;

        freeze(true);
        id = ask("write", "{\"target\":1,\"data\":\"ab\",\"consumed\":true,\"eof\":%s}",
                 _i ? "true" : "false");
        turns();
        ck_assert_uint_eq(process_input_taken(process), 2);
        for (uint64_t begin = clock_monotonic_usec(); clock_monotonic_usec() - begin < 20000;) {
                turns(); /* it asks again and again meanwhile */
                ck_assert(!answered(id));
        }
        freeze(false);
        await(id);
        ck_assert_int_eq(result("accepted"), 2);
        ck_rest();
}
END_TEST

static const struct {
        const char *member, *step;
} late[] = { { "drain", "drain" }, { "consumed", "drain" }, { "consumed", "consumed" } };

START_TEST(what_is_not_done_in_time_stays_accepted)
{
        uint64_t accepted;
        uint32_t id;

        if (_i < 2)
                fill(2);
        freeze(true);
        id = ask("write", "{\"target\":1,\"data\":\"ab\",\"%s\":true,\"timeout_usec\":10000}",
                 late[_i].member);
        await(id);
        ck_refused_by(&client, "timeout", late[_i].step);
        accepted = stdin_log_accepted(input());
        freeze(false);
        for (unsigned i = 0; i < 100 && process_input_taken(process) < accepted; i++)
                turns();
        ck_assert_uint_eq(process_input_taken(process), accepted);
        ck_rest();
}
END_TEST

START_TEST(input_that_is_cancelled_answers_those_behind_it_alone)
{
        uint32_t before, behind;

        freeze(true);
        before = ask("write", "{\"target\":1,\"data\":\"taken\",\"consumed\":true}");
        turns();
        fill(1);
        behind = ask_by(&other, "write", "{\"target\":1,\"data\":\"x\",\"drain\":true}");
        turns();
        (void)ask("cancel-input", "{\"target\":1}");
        turns();
        ck_assert(answered_by(&other, behind));
        ck_refused_by(&other, "cancelled", NULL);
        ck_assert(!answered(before));
        freeze(false);
        await(before);
        ck_assert_int_eq(result("accepted"), 5);
        ck_rest();
}
END_TEST

START_TEST(leaving_while_it_waits_leaves_what_was_accepted)
{
        static const char *const members[] = { "drain", "consumed" };
        uint64_t accepted;

        fill(2);
        (void)ask_by(&other, "write", "{\"target\":1,\"data\":\"ab\",\"%s\":true,\"eof\":true}", members[_i]);
        turns();
        accepted = stdin_log_accepted(input());
        ck_assert_uint_eq(process_input_room(process), 0);
        fixture_disconnect(&other);
        turns();
        ck_rest();
        freeze(false);
        for (unsigned i = 0; i < 200 && process_input_taken(process) < accepted; i++)
                turns();
        ck_assert_uint_eq(process_input_taken(process), accepted);
        connect_client(&other);
}
END_TEST

/* --- keys --- */

START_TEST(a_key_is_for_one_write)
{
        (void)ask("write", "{\"target\":1,\"data\":\"abc\",\"key\":\"k\"}");
        turns();
        ck_assert_int_eq(result("accepted"), 3);
        (void)ask("write", "{\"target\":1,\"data\":\"def\",\"key\":\"l\"}");
        turns();
        (void)ask("write", "{\"target\":1,\"data\":\"abc\",\"key\":\"k\"}");
        turns();
        ck_assert_int_eq(result("accepted"), 3);
        ck_assert_int_eq(result("bytes"), 3);
        ck_assert_uint_eq(stdin_log_accepted(input()), 6);
        (void)ask("write", "{\"target\":1,\"data\":\"abcd\",\"key\":\"k\"}");
        turns();
        ck_refused("invalid-argument");
        fixture_restart(); /* the next engine knows it as well */
        fixture_disconnect(&client);
        fixture_disconnect(&other);
        connect_client(&client);
        connect_client(&other);
        process = supervisor_find_name(&engine.supervisor, "p");
        (void)ask("write", "{\"target\":1,\"data\":\"abc\",\"key\":\"k\"}");
        turns();
        ck_assert_int_eq(result("accepted"), 3);
        ck_assert_uint_eq(stdin_log_accepted(input()), 6);
}
END_TEST

START_TEST(a_retry_of_what_waited_for_room_is_written_once)
{
        uint64_t accepted;
        uint32_t id;

        fill(1);
        accepted = stdin_log_accepted(input());
        (void)ask_by(&other, "write",
                     "{\"target\":1,\"data\":\"abc\",\"key\":\"k\",\"timeout_usec\":60000000}");
        turns();
        if (_i == 0) /* it leaves before it was accepted … */
                fixture_disconnect(&other);
        turns();
        freeze(false);
        for (unsigned i = 0; i < 100 && process_input_room(process) < MIB; i++)
                turns();
        if (_i == 1) /* … or behind that */
                fixture_disconnect(&other);
        id = ask("write", "{\"target\":1,\"data\":\"abc\",\"key\":\"k\",\"timeout_usec\":60000000}");
        turns();
        ck_assert(answered(id));
        ck_assert_int_eq(result("accepted"), (json_int_t)accepted + 3);
        ck_assert_uint_eq(stdin_log_accepted(input()), accepted + 3);
        connect_client(&other);
}
END_TEST

START_TEST(the_same_key_twice_at_a_time_is_written_once)
{
        uint64_t accepted;
        uint32_t first, second;

        fill(1);
        accepted = stdin_log_accepted(input());
        first = ask("write", "{\"target\":1,\"data\":\"abc\",\"key\":\"k\",\"timeout_usec\":60000000}");
        turns();
        second = ask("write", "{\"target\":1,\"data\":\"abc\",\"key\":\"k\",\"timeout_usec\":60000000}");
        turns();
        freeze(false);
        for (unsigned i = 0; i < 100 && !(answered(first) && answered(second)); i++)
                turns();
        ck_assert(answered(first) && answered(second));
        ck_assert_int_eq(result("accepted"), (json_int_t)accepted + 3);
        ck_assert_uint_eq(stdin_log_accepted(input()), accepted + 3);
        ck_rest();
}
END_TEST

static TCase *theme(Suite *suite, const char *name) {
        TCase *tcase = tcase_create(name);

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 120);
        suite_add_tcase(suite, tcase);
        return tcase;
}

static Suite *request_write_suite(void) {
        Suite *suite = suite_create("request-write");
        TCase *tcase = theme(suite, "as a whole");

        tcase_add_loop_test(tcase, the_largest_is_taken_and_one_byte_more_is_not, 0, 2);
        tcase_add_test(tcase, any_bytes_arrive_as_they_are);
        tcase_add_test(tcase, what_does_not_fit_is_refused_as_a_whole);
        tcase_add_loop_test(tcase, what_is_wrong_is_refused_and_writes_nothing, 0, ARRAY_SIZE(wrong));
        tcase = theme(suite, "room");
        tcase_add_test(tcase, those_that_wait_for_room_are_accepted_in_their_order);
        tcase_add_test(tcase, without_room_in_time_nothing_is_accepted);
        tcase_add_loop_test(tcase, one_that_leaves_or_is_cancelled_takes_its_turn_with_it, 0, 2);
        tcase_add_test(tcase, what_waits_for_room_has_a_bound_of_its_own);
        tcase_add_loop_test(tcase, the_end_of_the_process_ends_every_wait, 0, 3 * ARRAY_SIZE(ends));
        tcase_add_test(tcase, a_lock_that_is_taken_meanwhile_refuses_what_waits);
        tcase = theme(suite, "taken and read");
        tcase_add_test(tcase, drain_is_answered_when_the_pipe_has_it);
        tcase_add_test(tcase, drain_is_not_answered_while_a_byte_is_left);
        tcase_add_test(tcase, consumed_is_not_answered_while_a_byte_is_left);
        tcase_add_loop_test(tcase, consumed_is_answered_when_it_was_read_and_not_before, 0, 2);
        tcase_add_loop_test(tcase, what_is_not_done_in_time_stays_accepted, 0, ARRAY_SIZE(late));
        tcase_add_test(tcase, input_that_is_cancelled_answers_those_behind_it_alone);
        tcase_add_loop_test(tcase, leaving_while_it_waits_leaves_what_was_accepted, 0, 2);
        tcase = theme(suite, "keys");
        tcase_add_test(tcase, a_key_is_for_one_write);
        tcase_add_loop_test(tcase, a_retry_of_what_waited_for_room_is_written_once, 0, 2);
        tcase_add_test(tcase, the_same_key_twice_at_a_time_is_written_once);
        return suite;
}

CHECK_MAIN(request_write_suite);
