/* SPDX-License-Identifier: MIT */

/* Batches against a fake daemon that runs what it is asked to: which commands are begun and when, and that
 * each is begun once whenever the connection breaks. */

#include "tests/support/check-main.h"
#include "tests/support/fake-daemon.h"

#include <stdio.h>
#include <sys/eventfd.h>

#define N_MAX 64
#define PIECE ((size_t)16 * 1024) /* of output, in one turn */

/* A command, as the daemon knows it; its process's id is its index and one. */
typedef struct Command {
        char *key;       /* owned; NULL: it was not begun */
        json_t *waiting; /* owned; the request, until its turn comes */
        unsigned n_runs;
        bool exited;
        uint32_t stream;      /* 0: nobody reads it */
        uint64_t sent;        /* of its output */
        bool told, told_exit; /* START and the end have been sent */
} Command;

typedef struct Told {
        size_t n;
        PmuxBatchResult results[N_MAX];
        char codes[N_MAX][32]; /* of their errors */
        bool good_output;
} Told;

static FakeDaemon fake;
static Pmux *pmux;
static PmuxBatch *batch;
static PmuxBatchOptions options;
static Command commands[N_MAX];
static Told told;
static PmuxBatchCounts counts;
static size_t n_running, n_running_most, n_running_late /* from the 50th on */, n_begun;
static size_t output_size;            /* of every command */
static unsigned n_steps;              /* things that the daemon has done */
static unsigned break_at;             /* the connection breaks when it has done so many; 0: never */
static bool (*may_end)(size_t index); /* whether a command that runs ends; NULL: at once */
static uint64_t (*exit_of)(size_t index);
static const char *(*refusal_of)(size_t index); /* the error of a command that cannot be run */
static void (*on_told)(size_t index);
static unsigned n_stops;
static bool is_cancelled, stops_on_failure; /* the queue */
static int n_fds_before, tick;

static char output_byte(size_t index, uint64_t offset) {
        return (char)('a' + (index * 7 + offset) % 23);
}

/* --- the daemon --- */

/* Counts what is done; breaks the connection when its time has come. Return: whether it did. */
static bool step(void) {
        if (++n_steps != break_at)
                return false;
        fake_break(&fake);
        for (size_t i = 0; i < N_MAX; i++) {
                commands[i].stream = 0;
                json_decref(TAKE(commands[i].waiting));
        }
        return true;
}

static void answer_run(json_t *request, Command *command, size_t index) {
        json_t *params = json_object_get(request, "params");
        const char *key = json_string_value(json_object_get(params, "key"));
        char result[128];

        ck_assert_ptr_nonnull(key);
        if (refusal_of && refusal_of(index)) {
                fake_refuse(&fake, request, refusal_of(index));
                return;
        }
        if (!command->key) {
                command->key = strdup(key);
                command->n_runs++;
                n_begun++;
                n_running++;
                n_running_most = MAX(n_running_most, n_running);
                if (index >= 50)
                        n_running_late = MAX(n_running_late, n_running);
        }
        ck_assert_str_eq(command->key, key);
        command->stream =
                (uint32_t)json_integer_value(json_object_get(json_object_get(params, "subscribe"), "stream"));
        command->sent = 0;
        command->told = command->told_exit = false;
        (void)snprintf(result, sizeof(result),
                       "{\"id\":%zu,\"run\":1,\"pid\":9,\"offset\":0,\"existing\":false}", index + 1);
        if (step()) { /* it runs, but nobody is told */
                json_decref(request);
                return;
        }
        fake_reply(&fake, request, result);
}

/* A command ends; others may not begin any more if it has failed. */
static void end_command(size_t index) {
        if (commands[index].exited)
                return;
        commands[index].exited = true;
        n_running--;
        is_cancelled |= stops_on_failure && exit_of && exit_of(index) != 0;
}

/* Begins those that wait, as many as may run, in their order. */
static void begin_waiting(void) {
        for (size_t i = 0; i < N_MAX && fake.fd >= 0; i++) {
                if (!commands[i].waiting)
                        continue;
                if (is_cancelled)
                        fake_refuse(&fake, TAKE(commands[i].waiting), "cancelled");
                else if (n_running < MAX(options.jobs, (size_t)1))
                        answer_run(TAKE(commands[i].waiting), &commands[i], i);
        }
}

static void on_run(json_t *request) {
        json_t *params = json_object_get(request, "params"), *queue = json_object_get(params, "queue");
        size_t index = (size_t)atoi(json_string_value(json_array_get(json_object_get(params, "argv"), 0)));

        ck_assert_uint_lt(index, N_MAX);
        ck_assert_int_eq(json_integer_value(json_object_get(queue, "jobs")),
                         (int)MAX(options.jobs, (size_t)1));
        stops_on_failure = json_is_true(json_object_get(queue, "stop_on_failure"));
        if (commands[index].key)
                answer_run(request, &commands[index], index); /* asked again */
        else
                commands[index].waiting = request;
}

static void on_cancel(json_t *request) {
        ck_assert(json_is_string(json_object_get(json_object_get(request, "params"), "queue")));
        is_cancelled = true;
        fake_reply(&fake, request, "{}");
}

static void on_subscribe(json_t *request) {
        json_t *params = json_object_get(request, "params");
        Command *command = &commands[json_integer_value(json_object_get(params, "target")) - 1];
        char result[96];

        command->stream = (uint32_t)json_integer_value(json_object_get(params, "stream"));
        command->sent = (uint64_t)json_integer_value(json_object_get(params, "from"));
        command->told = command->sent > 0;
        command->told_exit = false;
        (void)snprintf(result, sizeof(result), "{\"stream\":%u,\"id\":1,\"from\":%llu,\"end\":%llu}",
                       command->stream, (unsigned long long)command->sent, (unsigned long long)command->sent);
        fake_reply(&fake, request, result);
}

static void on_stop(json_t *request) {
        json_t *targets = json_object_get(json_object_get(request, "params"), "targets");

        n_stops++;
        end_command((size_t)json_integer_value(json_array_get(targets, 0)) - 1);
        fake_reply(&fake, request, "{\"processes\":[]}");
}

static void on_request(void) {
        static const struct {
                const char *method;
                void (*fn)(json_t *request);
        } methods[] = {
                { "run", on_run }, { "cancel", on_cancel }, { "subscribe", on_subscribe }, { "stop", on_stop }
        };
        json_t *request = json_loads((char *)fake.payload, JSON_ALLOW_NUL, NULL);
        const char *method = json_string_value(json_object_get(request, "method"));

        for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
                if (strcmp(method, methods[i].method) == 0) {
                        methods[i].fn(request);
                        return;
                }
        fake_reply(&fake, request, "{}"); /* renew, unsubscribe */
}

/* Sends what a command has written and how it ended, a piece at a time. */
static void send_log(Command *command, size_t index) {
        RecordHeader header = { .time_usec = 1000, .run = 1, .kind = RECORD_DATA, .source = SOURCE_STDOUT };
        size_t size = MIN(output_size - (size_t)command->sent, PIECE);
        static uint8_t payload[RECORD_HEADER_SIZE + PIECE];

        if (!command->told) {
                command->told = true;
                fake_record(&fake, command->stream, 0, 500, RECORD_START, 9);
        } else if (size > 0) {
                header.offset = command->sent;
                record_header_encode(payload, &header);
                for (size_t i = 0; i < size; i++)
                        payload[RECORD_HEADER_SIZE + i] = (uint8_t)output_byte(index, command->sent + i);
                command->sent += size;
                fake_send(&fake, FRAME_DATA, command->stream, payload, RECORD_HEADER_SIZE + size);
        } else if (!command->told_exit && (command->exited || !may_end || may_end(index))) {
                end_command(index);
                command->told_exit = true;
                fake_record(&fake, command->stream, output_size, 2000, RECORD_EXIT,
                            exit_of ? exit_of(index) : 0);
                fake_record(&fake, command->stream, output_size, 2000, RECORD_END, 0);
        } else
                return;
        (void)step();
}

/* Called whenever the batch looks: the daemon's turn. */
static void on_fd(PmuxBatch *which, void *userdata) {
        (void)userdata;
        ck_assert_ptr_eq(which, batch);
        while (fake.fd >= 0 && !fake_silent(&fake)) {
                FrameHeader header = fake_read_frame(&fake);

                if (header.type == FRAME_HELLO)
                        fake_answer_hello(&fake);
                else if (header.type == FRAME_CONTROL)
                        on_request();
                if (fake.fd >= 0 && step())
                        break;
        }
        begin_waiting();
        for (size_t i = 0; i < N_MAX; i++)
                if (fake.fd >= 0 && commands[i].stream != 0)
                        send_log(&commands[i], i);
}

/* --- the program --- */

static int command_params(size_t index, char **ret_params, void *userdata) {
        (void)userdata;
        return asprintf(ret_params, "{\"argv\":[\"%zu\"]}", index) < 0 ? -ENOMEM : 0;
}

static void on_result(PmuxBatch *which, const PmuxBatchResult *result, void *userdata) {
        const char *out = result->out[0];
        size_t n_wrong = 0;

        (void)which;
        (void)userdata;
        ck_assert_uint_eq(result->index, told.n); /* in order, each once */
        told.results[told.n] = *result;
        if (result->error)
                (void)snprintf(told.codes[told.n], sizeof(told.codes[0]), "%s", result->error->code);
        for (size_t i = 0; i < result->out_size[0]; i++)
                n_wrong += out[i] != output_byte(result->index, i);
        ck_assert_uint_eq(n_wrong, 0);
        told.n++;
        if (on_told)
                on_told(result->index);
}

static void on_progress(PmuxBatch *which, const PmuxBatchCounts *now, void *userdata) {
        (void)which;
        (void)userdata;
        ck_assert_uint_le(now->running, MAX(options.jobs, (size_t)1));
        ck_assert_uint_le(now->ended + now->running, now->n);
        counts = *now;
}

static void reset(void) {
        for (size_t i = 0; i < N_MAX; i++) {
                free(commands[i].key);
                json_decref(commands[i].waiting);
        }
        memset(commands, 0, sizeof(commands));
        told = (Told){};
        counts = (PmuxBatchCounts){};
        n_running = n_running_most = n_running_late = n_begun = n_steps = break_at = n_stops = 0;
        is_cancelled = stops_on_failure = false;
        output_size = 0;
        may_end = NULL;
        exit_of = NULL;
        refusal_of = NULL;
        on_told = NULL;
        options = (PmuxBatchOptions){ .size = sizeof(options),
                                      .command = command_params,
                                      .on_result = on_result,
                                      .on_progress = on_progress,
                                      .on_fd = on_fd,
                                      .fd = tick };
}

static void setup(void) {
        n_fds_before = open_fds_count();
        tick = eventfd(1, EFD_CLOEXEC); /* always readable */
        reset();
        pmux = fake_open(&fake, 0, 0);
}

static void teardown(void) {
        batch = pmux_batch_free(batch);
        fake_close(&fake, pmux);
        reset();
        ck_assert_int_eq(close(tick), 0);
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

static int run_batch(size_t n, size_t jobs, unsigned flags) {
        PmuxError error = {};
        int r;

        options.n = n;
        options.jobs = jobs;
        options.flags = flags;
        ck_assert_int_eq(pmux_batch_new(&batch, pmux, &options, &error), 0);
        r = pmux_batch_run(batch, &error);
        ck_assert_uint_eq(told.n, n);
        batch = pmux_batch_free(batch);
        return r;
}

static void ck_good(size_t index) {
        const PmuxBatchResult *result = &told.results[index];

        ck_assert_int_eq(result->started, 1);
        ck_assert_ptr_null(result->error);
        ck_assert_uint_eq(result->id, index + 1);
        ck_assert_uint_eq(result->exit, exit_of ? exit_of(index) : 0);
        ck_assert_uint_eq(result->to - result->from, output_size);
        if (options.flags & PMUX_BATCH_OUTPUT)
                ck_assert_uint_eq(result->out_total[0], output_size);
        ck_assert_uint_eq(commands[index].n_runs, 1);
}

static void ck_not_begun(size_t index) {
        ck_assert_int_eq(told.results[index].started, 0);
        ck_assert_ptr_null(told.results[index].error);
        ck_assert_ptr_null(commands[index].key);
}

static bool last_first(size_t index) {
        for (size_t i = index + 1; i < options.n; i++)
                if (commands[i].key && !commands[i].exited)
                        return false;
        return n_running == MIN(options.jobs, options.n) || n_begun == options.n;
}

START_TEST(results_come_in_order_whatever_ends_first)
{
        may_end = last_first;
        output_size = 10;
        ck_assert_int_eq(run_batch(10, 4, PMUX_BATCH_OUTPUT), 0);
        for (size_t i = 0; i < 10; i++)
                ck_good(i);
        ck_assert_uint_eq(n_running_most, 4);
        ck_assert_uint_eq(counts.ended, 10);
        ck_assert_uint_eq(counts.failed, 0);
}
END_TEST

START_TEST(one_at_a_time_unless_asked_for_more)
{
        ck_assert_int_eq(run_batch(5, (size_t)_i, 0), 0);
        ck_assert_uint_eq(n_running_most, (size_t)MAX(_i, 1));
        ck_assert_uint_eq(n_begun, 5);
}
END_TEST

START_TEST(of_nothing_there_is_nothing_to_tell)
{
        ck_assert_int_eq(run_batch(0, 3, 0), 0);
        ck_assert_uint_eq(n_begun, 0);
}
END_TEST

START_TEST(more_at_a_time_than_there_may_be_are_refused)
{
        PmuxError error = {};

        options.n = 1;
        options.jobs = PMUX_BATCH_JOBS_MAX + 1;
        ck_assert_int_eq(pmux_batch_new(&batch, pmux, &options, &error), -EINVAL);
        options.jobs = 1;
        options.command = NULL;
        ck_assert_int_eq(pmux_batch_new(&batch, pmux, &options, &error), -EINVAL);
        options.command = command_params;
        options.params = "[]";
        ck_assert_int_eq(pmux_batch_new(&batch, pmux, &options, &error), -EINVAL);
        ck_assert_ptr_null(batch);
}
END_TEST

/* --- failures --- */

static uint64_t third_fails(size_t index) {
        return index == 2 ? 5 : 0;
}

START_TEST(a_failure_ends_the_batch_but_not_what_runs)
{
        exit_of = third_fails;
        ck_assert_int_eq(run_batch(9, 1, 0), 0);
        for (size_t i = 0; i < 3; i++)
                ck_good(i);
        for (size_t i = 3; i < 9; i++)
                ck_not_begun(i);
        ck_assert_uint_eq(counts.failed, 1);
        reset();
        exit_of = third_fails;
        ck_assert_int_eq(run_batch(9, 1, PMUX_BATCH_KEEP_GOING), 0);
        for (size_t i = 0; i < 9; i++)
                ck_good(i);
        ck_assert_uint_eq(counts.failed, 1);
}
END_TEST

static const char *second_is_refused(size_t index) {
        return index == 1 ? "spawn-failed" : NULL;
}

static int second_has_no_params(size_t index, char **ret_params, void *userdata) {
        return index == 1 ? -EIO : command_params(index, ret_params, userdata);
}

START_TEST(what_cannot_be_begun_is_a_result_like_any_other)
{
        if (_i == 0)
                refusal_of = second_is_refused;
        else
                options.command = second_has_no_params;
        ck_assert_int_eq(run_batch(4, 2, PMUX_BATCH_KEEP_GOING), 0);
        ck_good(0);
        ck_assert_int_eq(told.results[1].started, 0);
        ck_assert_str_eq(told.codes[1], _i == 0 ? "spawn-failed" : "system");
        ck_good(2);
        ck_good(3);
}
END_TEST

/* --- the connection breaks --- */

START_TEST(each_is_run_once_wherever_the_connection_breaks)
{
        unsigned n_breaks = 0, n_all;

        output_size = 5;
        ck_assert_int_eq(run_batch(3, 2, PMUX_BATCH_OUTPUT), 0);
        n_all = n_steps;
        ck_assert_uint_gt(n_all, 10);
        for (unsigned at = 1; at < n_all; at++) {
                reset();
                output_size = 5;
                break_at = at;
                exit_of = third_fails;
                ck_assert_int_eq(run_batch(3, 2, PMUX_BATCH_OUTPUT | PMUX_BATCH_KEEP_GOING), 0);
                for (size_t i = 0; i < 3; i++)
                        ck_good(i);
                n_breaks += n_steps >= at;
        }
        ck_assert_uint_eq(n_breaks, n_all - 1);
        ck_assert_int_gt(fake.n_dials, (int)n_all / 2);
}
END_TEST

static void gone_after_the_first(size_t index) {
        (void)index;
        fake.refuse = true;
        fake_break(&fake);
}

START_TEST(a_daemon_that_stays_away_is_told_for_each)
{
        unsigned n_failed = 0, n_not_begun = 0;

        fake_close(&fake, pmux);
        pmux = fake_open(&fake, 0, 50 * USEC_PER_MSEC);
        on_told = gone_after_the_first;
        ck_assert_int_lt(run_batch(20, 2, PMUX_BATCH_KEEP_GOING), 0);
        for (size_t i = 0; i < 20; i++) {
                n_failed += told.codes[i][0] != '\0';
                n_not_begun += told.codes[i][0] == '\0' && !told.results[i].started;
        }
        ck_assert_int_ge(told.results[0].started, 1);
        ck_assert_uint_ge(n_failed, 1);
        ck_assert_uint_ge(n_not_begun, 10);
        ck_assert_uint_le(n_begun, 4);
}
END_TEST

/* --- stopping, and what is held --- */

static bool never(size_t index) {
        return index == 0;
}

static void stop_it(size_t index) {
        if (index == 0)
                pmux_batch_stop(batch, 0);
}

START_TEST(what_is_stopped_begins_nothing_more_and_ends_what_runs)
{
        may_end = never;
        on_told = stop_it;
        ck_assert_int_eq(run_batch(9, 3, PMUX_BATCH_KEEP_GOING), 0);
        ck_good(0);
        ck_assert_uint_eq(n_stops, n_begun - 1);
        ck_assert_uint_le(n_begun, 4);
        for (size_t i = n_begun; i < 9; i++)
                ck_not_begun(i);
        for (size_t i = 0; i < n_begun; i++)
                ck_assert(commands[i].exited);
}
END_TEST

static size_t n_begun_while_waiting;
static unsigned n_asked;

/* The first ends once nothing has been begun for a while. */
static bool first_is_slow(size_t index) {
        if (index != 0)
                return true;
        if (n_begun != n_begun_while_waiting)
                n_asked = 0;
        n_begun_while_waiting = n_begun;
        return ++n_asked > 2000;
}

START_TEST(results_that_wait_are_bounded)
{
        may_end = first_is_slow;
        output_size = (size_t)1024 * 1024;
        ck_assert_int_eq(run_batch(N_MAX, 2, PMUX_BATCH_OUTPUT), 0);
        ck_assert_uint_ge(n_begun_while_waiting, 32);
        ck_assert_uint_le(n_begun_while_waiting, 40);
        ck_assert_uint_eq(n_running_late, 2); /* and then there is room again */
        for (size_t i = 0; i < N_MAX; i++) {
                ck_good(i);
                ck_assert_uint_eq(told.results[i].out_size[0], output_size);
        }
}
END_TEST

START_TEST(a_batch_that_is_given_up_leaves_nothing)
{
        options.n = 3;
        ck_assert_int_eq(pmux_batch_new(&batch, pmux, &options, NULL), 0);
        batch = pmux_batch_free(batch); /* never run; the checks are those of teardown */
        ck_assert_ptr_null(pmux_batch_free(NULL));
}
END_TEST

static Suite *batch_suite(void) {
        Suite *suite = suite_create("batch");
        TCase *tcase = tcase_create("batch");

        tcase_set_timeout(tcase, 60);
        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, results_come_in_order_whatever_ends_first);
        tcase_add_loop_test(tcase, one_at_a_time_unless_asked_for_more, 0, 4);
        tcase_add_test(tcase, of_nothing_there_is_nothing_to_tell);
        tcase_add_test(tcase, more_at_a_time_than_there_may_be_are_refused);
        tcase_add_test(tcase, a_failure_ends_the_batch_but_not_what_runs);
        tcase_add_loop_test(tcase, what_cannot_be_begun_is_a_result_like_any_other, 0, 2);
        tcase_add_test(tcase, each_is_run_once_wherever_the_connection_breaks);
        tcase_add_test(tcase, a_daemon_that_stays_away_is_told_for_each);
        tcase_add_test(tcase, what_is_stopped_begins_nothing_more_and_ends_what_runs);
        tcase_add_test(tcase, results_that_wait_are_bounded);
        tcase_add_test(tcase, a_batch_that_is_given_up_leaves_nothing);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(batch_suite);
