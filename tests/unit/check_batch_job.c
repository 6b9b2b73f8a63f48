/* SPDX-License-Identifier: MIT */

/* One command of a batch against a fake daemon: what is asked, in which order, and what comes of lost
 * connections. */

#include "client/libpmux/batch-job.h"

#include "tests/support/check-main.h"
#include "tests/support/fake-daemon.h"

static FakeDaemon fake;
static Pmux *pmux;
static BatchJob *job;
static int n_over;
static int n_fds;

static void on_over(BatchJob *which, void *userdata) {
        ck_assert_ptr_eq(which, job);
        ck_assert_ptr_eq(userdata, &n_over);
        n_over++;
}

static BatchJobOptions options;

static void setup(void) {
        n_fds = open_fds_count();
        n_over = 0;
        options = (BatchJobOptions){ .output_max = 8, .on_over = on_over, .userdata = &n_over };
        pmux = fake_open(&fake, 0, 0);
}

static void teardown(void) {
        job = batch_job_free(job);
        fake_close(&fake, pmux);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

/* Starts the job; the stream that it wants. */
static uint32_t begin(json_t **ret_request) {
        json_t *params;

        job = batch_job_new(pmux, 7, &options);
        batch_job_start(job, json_pack("{s:[s]}", "argv", "x"));
        *ret_request = fake_read_request(&fake, "run");
        params = json_object_get(*ret_request, "params");
        ck_assert_ptr_nonnull(json_object_get(params, "key"));
        return (uint32_t)json_integer_value(json_object_get(json_object_get(params, "subscribe"), "stream"));
}

static void settle(void) {
        uint64_t deadline = clock_monotonic_usec() + FAKE_PATIENCE_USEC;

        while (n_over == 0 && clock_monotonic_usec() < deadline)
                (void)pmux_turn(pmux, 100 * USEC_PER_MSEC, NULL);
        ck_assert_int_eq(n_over, 1);
        ck_assert(batch_job_is_over(job));
}

#define RESULT "{\"id\":5,\"run\":1,\"pid\":9,\"offset\":0,\"existing\":false}"

START_TEST(the_exit_record_makes_the_result)
{
        const PmuxBatchResult *result;
        json_t *request;
        uint32_t stream;

        stream = begin(&request);
        ck_assert(json_is_array(json_object_get(
                json_object_get(json_object_get(request, "params"), "subscribe"), "sources")));
        fake_reply(&fake, request, RESULT);
        fake_record(&fake, stream, 0, 100, RECORD_START, 9);
        fake_record(&fake, stream, 20, 300, RECORD_EXIT, 3);
        fake_record(&fake, stream, 20, 300, RECORD_END, 0);
        settle();
        result = batch_job_result(job);
        ck_assert_uint_eq(result->index, 7);
        ck_assert_int_eq(result->started, 1);
        ck_assert_uint_eq(result->exit, 3);
        ck_assert_uint_eq(result->id, 5);
        ck_assert_uint_eq(result->to, 20);
        ck_assert_uint_eq(result->end_usec - result->start_usec, 200);
        ck_assert_ptr_null(result->error);
}
END_TEST

START_TEST(output_is_kept_up_to_its_bound_and_counted)
{
        const PmuxBatchResult *result;
        json_t *request;
        uint32_t stream;

        options.wants_output = true;
        stream = begin(&request);
        fake_reply(&fake, request, RESULT);
        fake_bytes(&fake, stream, 0, "hello");
        fake_bytes(&fake, stream, 5, "world");
        fake_bytes(&fake, stream, 10, "again");
        fake_record(&fake, stream, 15, 300, RECORD_EXIT, 0);
        fake_record(&fake, stream, 15, 300, RECORD_END, 0);
        settle();
        result = batch_job_result(job);
        ck_assert_uint_eq(result->out_size[0], 8);
        ck_assert_int_eq(memcmp(result->out[0], "hellowor", 8), 0);
        ck_assert_uint_eq(result->out_total[0], 15);
        ck_assert_uint_eq(result->out_total[1], 0);
}
END_TEST

START_TEST(a_refused_run_is_a_result_with_an_error)
{
        const PmuxBatchResult *result;
        json_t *request;

        (void)begin(&request);
        fake_refuse(&fake, request, "limit");
        settle();
        result = batch_job_result(job);
        ck_assert_int_eq(result->started, 0);
        ck_assert_str_eq(result->error->code, "limit");
}
END_TEST

START_TEST(an_engine_that_dies_is_asked_again_with_the_key)
{
        json_t *request, *again;
        char *key;
        uint32_t stream;

        stream = begin(&request);
        key = strdup(json_string_value(json_object_get(json_object_get(request, "params"), "key")));
        json_decref(request);
        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, 2);
        fake_greet(&fake);
        again = fake_read_request(&fake, "run");
        ck_assert_str_eq(json_string_value(json_object_get(json_object_get(again, "params"), "key")), key);
        free(key);
        fake_reply(&fake, again, RESULT);
        fake_record(&fake, stream, 0, 300, RECORD_EXIT, 0);
        fake_record(&fake, stream, 0, 300, RECORD_END, 0);
        settle();
        ck_assert_ptr_null(batch_job_result(job)->error);
}
END_TEST

START_TEST(the_deadline_is_asked_for)
{
        json_t *request;
        uint32_t stream;

        options.has_timeout = true;
        stream = begin(&request);
        fake_reply(&fake, request, RESULT);
        fake_record(&fake, stream, 0, 300, RECORD_EXIT, 15 << 8);
        while (fake_silent(&fake))
                (void)pmux_turn(pmux, 10 * USEC_PER_MSEC, NULL);
        request = fake_read_request(&fake, "wait");
        ck_assert_int_eq(n_over, 0);
        fake_reply(&fake, request, "{\"processes\":[{\"exit\":{\"cause\":\"timeout\"}}]}");
        settle();
        ck_assert_int_eq(batch_job_result(job)->timed_out, 1);
}
END_TEST

START_TEST(what_is_stopped_is_over_when_its_tree_is_empty)
{
        json_t *request;
        uint32_t stream;

        stream = begin(&request);
        batch_job_stop(job, false); /* before it is known who it is */
        fake_reply(&fake, request, RESULT);
        while (fake_silent(&fake))
                (void)pmux_turn(pmux, 10 * USEC_PER_MSEC, NULL);
        request = fake_read_request(&fake, "stop");
        fake_record(&fake, stream, 0, 300, RECORD_EXIT, 15 << 8);
        fake_record(&fake, stream, 0, 300, RECORD_END, 0);
        for (int i = 0; i < 5; i++)
                (void)pmux_turn(pmux, USEC_PER_MSEC, NULL);
        ck_assert_int_eq(n_over, 0);
        fake_reply(&fake, request, "{\"processes\":[]}");
        settle();
}
END_TEST

static Suite *batch_job_suite(void) {
        Suite *suite = suite_create("batch-job");
        TCase *tcase = tcase_create("job");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, the_exit_record_makes_the_result);
        tcase_add_test(tcase, output_is_kept_up_to_its_bound_and_counted);
        tcase_add_test(tcase, a_refused_run_is_a_result_with_an_error);
        tcase_add_test(tcase, an_engine_that_dies_is_asked_again_with_the_key);
        tcase_add_test(tcase, the_deadline_is_asked_for);
        tcase_add_test(tcase, what_is_stopped_is_over_when_its_tree_is_empty);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(batch_job_suite);
