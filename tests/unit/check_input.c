/* SPDX-License-Identifier: MIT */

/* A stream of input over a connection that breaks: each byte once, and the end of file after them. */

#include "client/libpmux/input.h"

#include "tests/support/check-main.h"
#include "tests/support/fake-daemon.h"

static FakeDaemon fake;
static Pmux *pmux;
static PmuxInput *input;
static int n_fds;
static char closed[64];
static uint32_t number;

static void on_closed(PmuxInput *from, const PmuxError *error, void *userdata) {
        ck_assert_ptr_eq(from, input);
        (void)userdata;
        (void)snprintf(closed, sizeof(closed), "%s", error->code);
}

/* The daemon answers open-stdin; the library has read it when this returns. */
static void answer_open(const char *result) {
        json_t *request = fake_read_request(&fake, "open-stdin");

        number = (uint32_t)fake_param(request, "stream");
        fake_reply(&fake, request, result);
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
}

static void setup(void) {
        static const PmuxInputOptions options = { .size = sizeof(options), .on_closed = on_closed };

        n_fds = open_fds_count();
        *closed = '\0';
        pmux = fake_open(&fake, 0, 0);
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        ck_assert_int_eq(pmux_input_start(pmux, "7", &options, &input, NULL), 0);
        (void)pmux_dispatch(pmux, NULL);
}

static void teardown(void) {
        fake_close(&fake, pmux);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static void put(const char *text) {
        ck_assert_int_eq(pmux_input_write(input, text, strlen(text), NULL), (ssize_t)strlen(text));
        (void)pmux_dispatch(pmux, NULL);
}

static void expect_input(uint64_t position, const char *text) {
        FrameHeader header = fake_read_frame(&fake);

        ck_assert_int_eq(header.type, FRAME_INPUT);
        ck_assert_uint_eq(header.stream, number);
        ck_assert_uint_eq(le64_get(fake.payload), position);
        ck_assert_uint_eq(header.size, INPUT_HEADER_SIZE + strlen(text));
        ck_assert_mem_eq(fake.payload + INPUT_HEADER_SIZE, text, strlen(text));
}

static void reconnect(void) {
        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, fake.n_dials + 1);
        fake_greet(&fake);
}

START_TEST(bytes_wait_for_the_answer_and_then_go)
{
        put("hello");
        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":100,\"run\":1}");
        expect_input(0, "hello");
        put("world");
        expect_input(5, "world");
        ck_assert(!pmux_input_finished(input));
        fake_ack(&fake, number, 10, 5, 110);
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        ck_assert(pmux_input_finished(input));
        ck_assert_uint_eq(pmux_input_taken(input), 5);
}
END_TEST

START_TEST(nothing_is_sent_beyond_the_limit)
{
        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":3,\"run\":1}");
        put("hello");
        expect_input(0, "hel");
        ck_assert(fake_silent(&fake));
        fake_ack(&fake, number, 3, 3, 10);
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        expect_input(3, "lo");
}
END_TEST

START_TEST(no_more_is_kept_than_the_bound)
{
        static const char chunk[64 * 1024];
        size_t sum = 0;
        ssize_t n;

        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":3,\"run\":1}");
        while ((n = pmux_input_write(input, chunk, sizeof(chunk), NULL)) > 0)
                sum += (size_t)n;
        ck_assert_int_eq(n, 0);
        ck_assert_uint_eq(sum, 1024 * 1024);
        ck_assert_uint_eq(pmux_input_room(input), 0);
        (void)pmux_dispatch(pmux, NULL);
        fake_ack(&fake, number, 3, 0, 3);
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        ck_assert_uint_eq(pmux_input_room(input), 3);
}
END_TEST

START_TEST(what_was_not_accepted_is_sent_again)
{
        json_t *first, *second;
        char *text;

        first = fake_read_request(&fake, "open-stdin");
        text = strdup(json_string_value(json_object_get(json_object_get(first, "params"), "writer")));
        number = (uint32_t)fake_param(first, "stream");
        fake_reply(&fake, first, "{\"accepted\":0,\"taken\":0,\"limit\":100,\"run\":1}");
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        put("hello");
        put("world");
        expect_input(0, "hello");
        expect_input(5, "world");
        fake_ack(&fake, number, 3, 0, 100);
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        reconnect();
        second = fake_read_request(&fake, "open-stdin");
        ck_assert_str_eq(json_string_value(json_object_get(json_object_get(second, "params"), "writer")),
                         text);
        fake_reply(&fake, second, "{\"accepted\":7,\"taken\":7,\"limit\":100,\"run\":1}");
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        while (pmux_input_accepted(input) < 7)
                (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        expect_input(7, "rld");
        free(text);
}
END_TEST

START_TEST(an_end_of_file_waits_until_all_is_accepted)
{
        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":100,\"run\":1}");
        put("bye");
        ck_assert_int_eq(pmux_input_eof(input, NULL), 0);
        expect_input(0, "bye");
        ck_assert(fake_silent(&fake));
        ck_assert_int_lt(pmux_input_write(input, "x", 1, NULL), 0);
        fake_ack(&fake, number, 3, 0, 100);
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        (void)pmux_dispatch(pmux, NULL);
        fake_reply(&fake, fake_read_request(&fake, "close-stdin"), "{\"accepted\":3}");
        ck_assert_int_eq(pmux_input_flush(input, 0, FAKE_PATIENCE_USEC, NULL), 0);
}
END_TEST

START_TEST(an_end_of_file_whose_answer_was_lost_is_repeated)
{
        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":100,\"run\":1}");
        ck_assert_int_eq(pmux_input_eof(input, NULL), 0);
        json_decref(fake_read_request(&fake, "close-stdin"));
        reconnect();
        fake_refuse(&fake, fake_read_request(&fake, "close-stdin"), "stdin-closed");
        ck_assert_int_eq(pmux_input_flush(input, 0, FAKE_PATIENCE_USEC, NULL), 0);
        ck_assert_str_eq(closed, "");
}
END_TEST

START_TEST(an_acknowledgement_of_what_was_not_sent_ends_the_connection)
{
        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":3,\"run\":1}");
        put("hello");
        fake_ack(&fake, number, 4, 0, 10);
        while (!*closed)
                (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        ck_assert_str_eq(closed, "protocol-error");
}
END_TEST

START_TEST(a_notification_closes_the_input)
{
        char text[200];

        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":3,\"run\":1}");
        (void)snprintf(text, sizeof(text),
                       "{\"method\":\"stdin-closed\",\"params\":{\"stream\":%u,\"error\":{\"message\":\"m\","
                       "\"data\":"
                       "{\"code\":\"not-running\",\"errno\":10}}}}",
                       number);
        fake_send(&fake, FRAME_CONTROL, 0, text, strlen(text));
        while (!*closed)
                (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        ck_assert_str_eq(closed, "not-running");
        ck_assert_int_eq(pmux_input_write(input, "x", 1, NULL), -10);
}
END_TEST

START_TEST(another_run_does_not_get_what_was_for_this_one)
{
        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":30,\"run\":1}");
        put("hello");
        reconnect();
        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":30,\"run\":2}");
        while (!*closed)
                (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        ck_assert_str_eq(closed, "not-running");
}
END_TEST

START_TEST(a_forgotten_writer_goes_on_if_all_it_sent_is_accepted)
{
        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":30,\"run\":1}");
        put("hello");
        expect_input(0, "hello");
        fake_ack(&fake, number, 5, 5, 30);
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        reconnect();
        put("more");
        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":30,\"run\":1}");
        while (fake_silent(&fake))
                (void)pmux_turn(pmux, 10 * USEC_PER_MSEC, NULL);
        expect_input(0, "more");
}
END_TEST

START_TEST(a_forgotten_writer_with_bytes_under_way_is_an_error)
{
        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":30,\"run\":1}");
        put("hello");
        fake_ack(&fake, number, 3, 3, 30);
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        reconnect();
        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":30,\"run\":1}");
        while (!*closed)
                (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        ck_assert_str_eq(closed, "system");
}
END_TEST

START_TEST(flushing_has_a_deadline)
{
        PmuxError error;

        answer_open("{\"accepted\":0,\"taken\":0,\"limit\":30,\"run\":1}");
        put("hello");
        ck_assert_int_eq(pmux_input_flush(input, 0, 1, &error), -ETIMEDOUT);
        ck_assert_str_eq(error.code, "timeout");
        fake_ack(&fake, number, 5, 0, 30);
        ck_assert_int_eq(pmux_input_flush(input, 0, 0, &error), 0);
        ck_assert_int_eq(pmux_input_flush(input, 1, 0, &error), -ETIMEDOUT);
}
END_TEST

static Suite *input_suite(void) {
        Suite *suite = suite_create("input");
        TCase *sending = tcase_create("sending"), *mending = tcase_create("mending");

        tcase_add_checked_fixture(sending, setup, teardown);
        tcase_add_test(sending, bytes_wait_for_the_answer_and_then_go);
        tcase_add_test(sending, nothing_is_sent_beyond_the_limit);
        tcase_add_test(sending, no_more_is_kept_than_the_bound);
        tcase_add_test(sending, an_end_of_file_waits_until_all_is_accepted);
        tcase_add_test(sending, an_acknowledgement_of_what_was_not_sent_ends_the_connection);
        tcase_add_test(sending, a_notification_closes_the_input);
        tcase_add_test(sending, flushing_has_a_deadline);
        suite_add_tcase(suite, sending);
        tcase_add_checked_fixture(mending, setup, teardown);
        tcase_add_test(mending, what_was_not_accepted_is_sent_again);
        tcase_add_test(mending, an_end_of_file_whose_answer_was_lost_is_repeated);
        tcase_add_test(mending, another_run_does_not_get_what_was_for_this_one);
        tcase_add_test(mending, a_forgotten_writer_goes_on_if_all_it_sent_is_accepted);
        tcase_add_test(mending, a_forgotten_writer_with_bytes_under_way_is_an_error);
        suite_add_tcase(suite, mending);
        return suite;
}

CHECK_MAIN(input_suite);
