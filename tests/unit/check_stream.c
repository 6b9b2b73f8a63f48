/* SPDX-License-Identifier: MIT */

/* A stream of records over a connection that breaks: each record once, in order, at the right place. */

#include "client/libpmux/stream.h"

#include "tests/support/check-main.h"
#include "tests/support/fake-daemon.h"

static FakeDaemon fake;
static Pmux *pmux;
static PmuxStream *stream;
static int n_fds;
static char seen[4096]; /* what was delivered: data as it is, other records as <kind:value> */
static char failure[64];

static void on_record(PmuxStream *from, const PmuxRecord *record, void *userdata) {
        size_t n = strlen(seen);

        (void)from;
        (void)userdata;
        if (record->kind == PMUX_DATA)
                (void)snprintf(seen + n, sizeof(seen) - n, "%.*s", (int)record->size,
                               (const char *)record->data);
        else
                (void)snprintf(seen + n, sizeof(seen) - n, "<%s:%llu>", record_kind_name(record->kind),
                               (unsigned long long)record->value);
}

static void on_failed(PmuxStream *from, const PmuxError *error, void *userdata) {
        (void)from;
        (void)userdata;
        (void)snprintf(failure, sizeof(failure), "%s", error->code);
}

static PmuxStreamOptions options = { .size = sizeof(PmuxStreamOptions),
                                     .on_record = on_record,
                                     .on_failed = on_failed };

static void setup(void) {
        n_fds = open_fds_count();
        *seen = *failure = '\0';
        options.window_bytes = 0;
        options.flags = 0;
        stream = NULL;
        pmux = fake_open(&fake, 0, 0);
}

static void teardown(void) {
        fake_close(&fake, pmux);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static void see(const char *expected) {
        uint64_t deadline = clock_monotonic_usec() + FAKE_PATIENCE_USEC;

        while (strcmp(seen, expected) != 0 && !*failure && clock_monotonic_usec() < deadline)
                (void)pmux_turn(pmux, 100 * USEC_PER_MSEC, NULL);
        ck_assert_str_eq(seen, expected);
}

static uint32_t open_stream(const char *params, const char *result) {
        json_t *request;
        uint32_t number;

        ck_assert_int_eq(pmux_stream_start(pmux, "subscribe", params, &options, &stream, NULL), 0);
        (void)pmux_dispatch(pmux, NULL);
        request = fake_read_request(&fake, "subscribe");
        number = (uint32_t)fake_param(request, "stream");
        fake_reply(&fake, request, result);
        return number;
}

/* Breaks the connection and reads the subscription that follows. */
static json_t *reconnect(void) {
        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, fake.n_dials + 1);
        fake_greet(&fake);
        return fake_read_request(&fake, "subscribe");
}

START_TEST(records_arrive_in_order)
{
        uint32_t n = open_stream("{\"target\":5}", "{\"id\":5,\"from\":0}");

        fake_record(&fake, n, 0, 1, RECORD_START, 77);
        fake_bytes(&fake, n, 0, "one ");
        fake_bytes(&fake, n, 4, "two");
        fake_record(&fake, n, 7, 9, RECORD_EXIT, 3);
        fake_record(&fake, n, 7, 9, RECORD_END, 0);
        see("<start:77>one two<exit:3><end:0>");
}
END_TEST

START_TEST(a_broken_stream_goes_on_at_the_next_byte)
{
        uint32_t n = open_stream("{\"target\":\"web\",\"from\":2}", "{\"id\":5,\"from\":2}");
        json_t *request;

        fake_bytes(&fake, n, 2, "abc");
        see("abc");
        request = reconnect();
        ck_assert_int_eq(fake_param(request, "from"), 5);
        ck_assert_int_eq(fake_param(request, "target"), 5);
        ck_assert_int_eq(fake_param(request, "stream"), n);
        fake_reply(&fake, request, "{\"id\":5,\"from\":5}");
        fake_bytes(&fake, n, 5, "def");
        see("abcdef");
}
END_TEST

START_TEST(records_without_bytes_are_not_seen_twice)
{
        uint32_t n = open_stream("{\"target\":5}", "{\"id\":5,\"from\":0}");

        fake_bytes(&fake, n, 0, "abc");
        fake_record(&fake, n, 3, 10, RECORD_INPUT, 1);
        fake_record(&fake, n, 3, 10, RECORD_INPUT, 1);
        see("abc<input:1><input:1>");
        fake_reply(&fake, reconnect(), "{\"id\":5,\"from\":3}");
        fake_record(&fake, n, 3, 10, RECORD_INPUT, 1);
        fake_record(&fake, n, 3, 10, RECORD_INPUT, 1);
        fake_record(&fake, n, 3, 10, RECORD_INPUT, 1);
        fake_record(&fake, n, 3, 12, RECORD_EXIT, 0);
        see("abc<input:1><input:1><input:1><exit:0>");
}
END_TEST

START_TEST(a_stream_that_had_nothing_yet_asks_as_before)
{
        json_t *request;

        (void)open_stream("{\"target\":5,\"since_usec\":1000}", "{\"id\":5,\"from\":40}");
        (void)pmux_dispatch(pmux, NULL);
        request = reconnect();
        ck_assert_int_eq(fake_param(request, "since_usec"), 1000);
        ck_assert_int_eq(fake_param(request, "from"), -1);
        json_decref(request);
}
END_TEST

START_TEST(last_lines_are_counted_once)
{
        json_t *request;

        (void)open_stream("{\"target\":5,\"last_lines\":3}", "{\"id\":5,\"from\":40}");
        (void)pmux_dispatch(pmux, NULL);
        request = reconnect();
        ck_assert_int_eq(fake_param(request, "last_lines"), -1);
        ck_assert_int_eq(fake_param(request, "from"), 40);
        json_decref(request);
}
END_TEST

START_TEST(head_bytes_are_counted_over_a_break)
{
        uint32_t n = open_stream("{\"target\":5,\"head_bytes\":5}", "{\"id\":5,\"from\":0}");
        json_t *request;

        fake_bytes(&fake, n, 0, "abc");
        see("abc");
        request = reconnect();
        ck_assert_int_eq(fake_param(request, "head_bytes"), 2);
        fake_reply(&fake, request, "{\"id\":5,\"from\":3}");
        fake_bytes(&fake, n, 3, "de");
        see("abcde");
        fake_break(&fake); /* all that was asked for is there: only the end is missing */
        see("abcde<end:0>");
}
END_TEST

START_TEST(a_run_whose_answer_was_lost_is_repeated_with_its_stream)
{
        json_t *first, *second;
        uint32_t n;

        ck_assert_int_eq(pmux_stream_start(pmux, "run", "{\"argv\":[\"true\"]}", &options, &stream, NULL), 0);
        (void)pmux_dispatch(pmux, NULL);
        first = fake_read_request(&fake, "run");
        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, 2);
        fake_greet(&fake);
        second = fake_read_request(&fake, "run");
        ck_assert(json_equal(first, second));
        n = (uint32_t)json_integer_value(
                json_object_get(json_object_get(json_object_get(second, "params"), "subscribe"), "stream"));
        json_decref(first);
        fake_reply(&fake, second, "{\"id\":5,\"run\":1,\"offset\":0,\"existing\":true}");
        fake_record(&fake, n, 0, 1, RECORD_START, 9);
        fake_bytes(&fake, n, 0, "x");
        see("<start:9>x");
        second = reconnect();
        ck_assert_int_eq(fake_param(second, "from"), 1);
        json_decref(second);
}
END_TEST

/* A second run begins where the exit record of the first one stands: that one was never part of this stream.
 */
START_TEST(records_of_earlier_runs_stay_out_after_a_break)
{
        const RecordHeader start_of_2 = { .offset = 9, .time_usec = 50, .run = 2, .kind = RECORD_START };
        uint8_t payload[RECORD_HEADER_SIZE + 8] = {};
        json_t *request;
        uint32_t n;

        ck_assert_int_eq(pmux_stream_start(pmux, "restart", "{\"target\":5}", &options, &stream, NULL), 0);
        (void)pmux_dispatch(pmux, NULL);
        request = fake_read_request(&fake, "restart");
        n = (uint32_t)json_integer_value(
                json_object_get(json_object_get(json_object_get(request, "params"), "subscribe"), "stream"));
        fake_reply(&fake, request, "{\"id\":5,\"run\":2,\"offset\":9}");
        (void)pmux_dispatch(pmux, NULL);
        request = reconnect();
        ck_assert_int_eq(fake_param(request, "from"), 9);
        fake_reply(&fake, request, "{\"id\":5,\"from\":9}");
        fake_record(&fake, n, 9, 40, RECORD_EXIT, 0); /* of run 1 */
        record_header_encode(payload, &start_of_2);
        fake_send(&fake, FRAME_DATA, n, payload, sizeof(payload));
        see("<start:0>");
}
END_TEST

START_TEST(a_lease_is_taken_over_by_the_new_connection)
{
        json_t *request;

        ck_assert_int_eq(pmux_stream_start(pmux, "run", "{\"argv\":[\"true\"],\"lease\":\"client\"}",
                                           &options, &stream, NULL),
                         0);
        fake_reply(&fake, fake_read_request(&fake, "run"), "{\"id\":5,\"run\":1,\"offset\":0}");
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        (void)pmux_dispatch(pmux, NULL);
        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, 2);
        fake_greet(&fake);
        request = fake_read_request(&fake, "renew");
        ck_assert_int_eq(fake_param(request, "target"), 5);
        json_decref(request);
}
END_TEST

START_TEST(the_window_opens_as_records_are_had)
{
        FrameHeader header;
        uint32_t n;

        options.window_bytes = 100;
        n = open_stream("{\"target\":5}", "{\"id\":5,\"from\":0}");
        fake_bytes(&fake, n, 0, "0123456789");
        see("0123456789");
        (void)pmux_dispatch(pmux, NULL);
        header = fake_read_frame(&fake);
        ck_assert_int_eq(header.type, FRAME_CREDIT);
        ck_assert_uint_eq(header.stream, n);
        ck_assert_uint_eq(le64_get(fake.payload), 134);
}
END_TEST

START_TEST(what_is_not_consumed_opens_no_window)
{
        json_t *request;
        uint32_t n;

        options.window_bytes = 100;
        options.flags = PMUX_STREAM_MANUAL_CREDIT;
        n = open_stream("{\"target\":5}", "{\"id\":5,\"from\":0}");
        fake_bytes(&fake, n, 0, "0123456789");
        see("0123456789");
        (void)pmux_dispatch(pmux, NULL);
        ck_assert(fake_silent(&fake));
        request = reconnect();
        ck_assert_int_eq(fake_param(request, "credit"), 66);
        fake_reply(&fake, request, "{\"id\":5,\"from\":10}");
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        pmux_stream_consumed(stream, 34);
        (void)pmux_dispatch(pmux, NULL);
        ck_assert_int_eq(fake_read_frame(&fake).type, FRAME_CREDIT);
        ck_assert_uint_eq(le64_get(fake.payload), 100);
}
END_TEST

START_TEST(more_than_the_credit_ends_the_connection)
{
        uint32_t n;

        options.window_bytes = 30;
        n = open_stream("{\"target\":5}", "{\"id\":5,\"from\":0}");
        fake_bytes(&fake, n, 0, "0123456789");
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        while (!*failure)
                (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        ck_assert_str_eq(failure, "protocol-error");
        ck_assert_str_eq(seen, "");
}
END_TEST

START_TEST(a_record_of_impossible_size_ends_the_connection)
{
        uint32_t n = open_stream("{\"target\":5}", "{\"id\":5,\"from\":0}");
        uint8_t payload[RECORD_HEADER_SIZE + 1] = {};

        record_header_encode(payload, &(RecordHeader){ .kind = RECORD_EXIT });
        fake_send(&fake, FRAME_DATA, n, payload, sizeof(payload));
        while (!*failure)
                (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        ck_assert_str_eq(failure, "protocol-error");
}
END_TEST

START_TEST(a_process_that_is_gone_after_a_break_fails_the_stream)
{
        (void)open_stream("{\"target\":5}", "{\"id\":5,\"from\":0}");
        (void)pmux_dispatch(pmux, NULL);
        fake_refuse(&fake, reconnect(), "not-found");
        while (!*failure)
                (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        ck_assert_str_eq(failure, "not-found");
}
END_TEST

START_TEST(what_a_program_did_not_know_of_is_not_taken_from_it)
{
        const PmuxRecord *record;
        uint32_t n;

        options.size = offsetof(PmuxStreamOptions, on_record);
        n = open_stream("{\"target\":5}", "{\"id\":5,\"from\":0}");
        options.size = sizeof(options);
        fake_bytes(&fake, n, 0, "abc");
        ck_assert_int_eq(pmux_stream_next(stream, &record, PMUX_INFINITY, NULL), 1);
        ck_assert_str_eq(seen, "");
}
END_TEST

START_TEST(a_freed_stream_is_unsubscribed_and_hears_nothing)
{
        uint32_t n = open_stream("{\"target\":5}", "{\"id\":5,\"from\":0}");
        json_t *request;

        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        ck_assert_ptr_null(pmux_stream_free(stream));
        fake_bytes(&fake, n, 0, "late");
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        request = fake_read_request(&fake, "unsubscribe");
        ck_assert_int_eq(fake_param(request, "stream"), n);
        json_decref(request);
        ck_assert_str_eq(seen, "");
}
END_TEST

START_TEST(records_are_kept_for_who_asks_for_them)
{
        const PmuxRecord *record;
        uint32_t n;

        options.on_record = NULL;
        n = open_stream("{\"target\":5}", "{\"id\":5,\"from\":0}");
        options.on_record = on_record;
        fake_bytes(&fake, n, 0, "abc");
        fake_record(&fake, n, 3, 9, RECORD_END, 0);
        ck_assert_int_eq(pmux_stream_next(stream, &record, PMUX_INFINITY, NULL), 1);
        ck_assert_uint_eq(record->size, 3);
        ck_assert_mem_eq(record->data, "abc", 3);
        ck_assert_int_eq(pmux_stream_next(stream, &record, PMUX_INFINITY, NULL), 1);
        ck_assert_int_eq(record->kind, PMUX_END);
        ck_assert_int_eq(pmux_stream_next(stream, &record, PMUX_INFINITY, NULL), 0);
        ck_assert_str_eq(seen, "");
}
END_TEST

START_TEST(waiting_for_a_record_has_a_deadline)
{
        const PmuxRecord *record;
        PmuxError error;

        options.on_record = NULL;
        (void)open_stream("{\"target\":5}", "{\"id\":5,\"from\":0}");
        options.on_record = on_record;
        ck_assert_int_eq(pmux_stream_next(stream, &record, 1, &error), -ETIMEDOUT);
        ck_assert_str_eq(error.code, "timeout");
}
END_TEST

START_TEST(what_has_come_is_found_without_waiting)
{
        const PmuxRecord *record;
        uint32_t n;

        options.on_record = NULL;
        n = open_stream("{\"target\":5}", "{\"id\":5,\"from\":0}");
        options.on_record = on_record;
        ck_assert_int_eq(pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL), 0);
        ck_assert_int_eq(pmux_stream_next(stream, &record, 0, NULL), -ETIMEDOUT);
        fake_bytes(&fake, n, 0, "abc");
        ck_assert_int_eq(pmux_stream_next(stream, &record, 0, NULL), 1);
        ck_assert_mem_eq(record->data, "abc", 3);
}
END_TEST

static void add_credit(Suite *suite) {
        TCase *credit = tcase_create("credit");

        tcase_add_checked_fixture(credit, setup, teardown);
        tcase_add_test(credit, the_window_opens_as_records_are_had);
        tcase_add_test(credit, what_is_not_consumed_opens_no_window);
        tcase_add_test(credit, more_than_the_credit_ends_the_connection);
        tcase_add_test(credit, a_record_of_impossible_size_ends_the_connection);
        suite_add_tcase(suite, credit);
}

static Suite *stream_suite(void) {
        Suite *suite = suite_create("stream");
        TCase *records = tcase_create("records");

        tcase_add_checked_fixture(records, setup, teardown);
        tcase_add_test(records, records_arrive_in_order);
        tcase_add_test(records, a_broken_stream_goes_on_at_the_next_byte);
        tcase_add_test(records, records_without_bytes_are_not_seen_twice);
        tcase_add_test(records, a_stream_that_had_nothing_yet_asks_as_before);
        tcase_add_test(records, last_lines_are_counted_once);
        tcase_add_test(records, head_bytes_are_counted_over_a_break);
        tcase_add_test(records, a_run_whose_answer_was_lost_is_repeated_with_its_stream);
        tcase_add_test(records, records_of_earlier_runs_stay_out_after_a_break);
        tcase_add_test(records, a_lease_is_taken_over_by_the_new_connection);
        tcase_add_test(records, a_process_that_is_gone_after_a_break_fails_the_stream);
        tcase_add_test(records, a_freed_stream_is_unsubscribed_and_hears_nothing);
        tcase_add_test(records, records_are_kept_for_who_asks_for_them);
        tcase_add_test(records, what_a_program_did_not_know_of_is_not_taken_from_it);
        tcase_add_test(records, waiting_for_a_record_has_a_deadline);
        tcase_add_test(records, what_has_come_is_found_without_waiting);
        suite_add_tcase(suite, records);
        add_credit(suite);
        return suite;
}

CHECK_MAIN(stream_suite);
