/* SPDX-License-Identifier: MIT */

/* A connection that breaks at chosen points, and what becomes of the calls on it. */

#include "client/libpmux/connection.h"

#include "tests/support/check-main.h"
#include "tests/support/fake-daemon.h"

static FakeDaemon fake;
static Pmux *pmux;
static int n_fds;

typedef struct Answer {
        int n;
        char result[256];
        PmuxError error;
} Answer;

static void on_answer(Pmux *from, const char *result, const PmuxError *error, void *userdata) {
        Answer *answer = userdata;

        ck_assert_ptr_eq(from, pmux);
        ck_assert((result == NULL) != (error == NULL));
        answer->n++;
        if (result)
                (void)snprintf(answer->result, sizeof(answer->result), "%s", result);
        else
                answer->error = *error;
}

static void setup(void) {
        n_fds = open_fds_count();
        pmux = fake_open(&fake, 0, 0);
}

static void teardown(void) {
        fake_close(&fake, pmux);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static void start(const char *method, const char *params, Answer *answer) {
        ck_assert_int_eq(pmux_call_start(pmux, method, params, on_answer, answer, NULL, NULL), 0);
        (void)pmux_dispatch(pmux, NULL);
}

/* Lets the library read until the call is answered. */
static void finish(const Answer *answer) {
        uint64_t deadline = clock_monotonic_usec() + FAKE_PATIENCE_USEC;

        while (answer->n == 0) {
                ck_assert_uint_lt(clock_monotonic_usec(), deadline);
                (void)pmux_turn(pmux, 100 * USEC_PER_MSEC, NULL);
        }
}

START_TEST(a_call_is_answered_once)
{
        Answer answer = {};

        start("list", NULL, &answer);
        fake_reply(&fake, fake_read_request(&fake, "list"), "{\"seq\":7}");
        finish(&answer);
        ck_assert_int_eq(answer.n, 1);
        ck_assert_str_eq(answer.result, "{\"seq\":7}");
        ck_assert_uint_eq(pmux_engine_pid(pmux), 4711);
}
END_TEST

START_TEST(answers_may_come_in_any_order)
{
        Answer first = {}, second = {};
        json_t *a, *b;

        start("list", NULL, &first);
        start("version", NULL, &second);
        a = fake_read_request(&fake, "list");
        b = fake_read_request(&fake, "version");
        fake_reply(&fake, b, "{\"b\":1}");
        fake_reply(&fake, a, "{\"a\":1}");
        finish(&first);
        finish(&second);
        ck_assert_str_eq(first.result, "{\"a\":1}");
        ck_assert_str_eq(second.result, "{\"b\":1}");
}
END_TEST

START_TEST(an_error_keeps_its_code_errno_and_message)
{
        Answer answer = {};

        start("show", "{\"target\":1}", &answer);
        fake_refuse(&fake, fake_read_request(&fake, "show"), "not-found");
        finish(&answer);
        ck_assert_str_eq(answer.error.code, "not-found");
        ck_assert_int_eq(answer.error.errno_value, 1);
        ck_assert_str_eq(answer.error.message, "refused");
}
END_TEST

START_TEST(a_lost_answer_is_asked_for_again_with_the_same_key)
{
        Answer answer = {};
        json_t *first, *second;

        start("run", "{\"argv\":[\"true\"]}", &answer);
        first = fake_read_request(&fake, "run");
        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, 2);
        fake_greet(&fake);
        second = fake_read_request(&fake, "run");
        ck_assert(json_is_string(json_object_get(json_object_get(first, "params"), "key")));
        ck_assert(json_equal(first, second));
        json_decref(first);
        fake_reply(&fake, second, "{\"id\":1}");
        finish(&answer);
        ck_assert_int_eq(answer.n, 1);
        ck_assert_str_eq(answer.result, "{\"id\":1}");
}
END_TEST

START_TEST(a_call_that_was_answered_is_not_repeated)
{
        Answer first = {}, second = {};

        start("list", NULL, &first);
        fake_reply(&fake, fake_read_request(&fake, "list"), "{}");
        finish(&first);
        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, 2);
        fake_greet(&fake);
        start("version", NULL, &second);
        fake_reply(&fake, fake_read_request(&fake, "version"), "{}");
        finish(&second);
        ck_assert_int_eq(first.n, 1);
}
END_TEST

START_TEST(a_break_in_the_middle_of_an_answer_is_mended)
{
        Answer answer = {};
        uint8_t half[FRAME_HEADER_SIZE + 3] = {};

        start("list", NULL, &answer);
        json_decref(fake_read_request(&fake, "list"));
        frame_header_encode(half, &(FrameHeader){ .size = 100, .type = FRAME_CONTROL });
        ck_assert_int_eq(send(fake.fd, half, sizeof(half), 0), sizeof(half));
        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, 2);
        fake_greet(&fake);
        fake_reply(&fake, fake_read_request(&fake, "list"), "{\"whole\":1}");
        finish(&answer);
        ck_assert_str_eq(answer.result, "{\"whole\":1}");
}
END_TEST

START_TEST(removing_what_a_lost_answer_had_removed_succeeds)
{
        Answer answer = {};

        start("remove", "{\"targets\":[1]}", &answer);
        json_decref(fake_read_request(&fake, "remove"));
        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, 2);
        fake_greet(&fake);
        fake_refuse(&fake, fake_read_request(&fake, "remove"), "not-found");
        finish(&answer);
        ck_assert_str_eq(answer.error.code, "");
        ck_assert_str_eq(answer.result, "{}");
}
END_TEST

START_TEST(removing_what_never_was_fails)
{
        Answer answer = {};

        start("remove", "{\"targets\":[1]}", &answer);
        fake_refuse(&fake, fake_read_request(&fake, "remove"), "not-found");
        finish(&answer);
        ck_assert_str_eq(answer.error.code, "not-found");
}
END_TEST

START_TEST(a_forgotten_call_is_neither_told_nor_repeated)
{
        Answer answer = {}, other = {};
        PmuxCall *call;

        ck_assert_int_eq(pmux_call_start(pmux, "list", NULL, on_answer, &answer, &call, NULL), 0);
        (void)pmux_dispatch(pmux, NULL);
        fake_reply(&fake, fake_read_request(&fake, "list"), "{}");
        ck_assert_ptr_null(pmux_call_forget(call));
        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, 2);
        fake_greet(&fake);
        start("version", NULL, &other);
        fake_reply(&fake, fake_read_request(&fake, "version"), "{}");
        finish(&other);
        ck_assert_int_eq(answer.n, 0);
}
END_TEST

START_TEST(goodbye_ends_the_connection_with_its_reason)
{
        static const char reason[] =
                "{\"code\":-32000,\"message\":\"not you\",\"data\":{\"code\":\"denied\",\"errno\":1}}";
        Answer answer = {};
        PmuxError error;

        start("list", NULL, &answer);
        json_decref(fake_read_request(&fake, "list"));
        fake_send(&fake, FRAME_GOODBYE, 0, reason, strlen(reason));
        finish(&answer);
        ck_assert_str_eq(answer.error.code, "denied");
        ck_assert_str_eq(answer.error.message, "not you");
        ck_assert_int_lt(pmux_call(pmux, "list", NULL, NULL, &error), 0);
        ck_assert_str_eq(error.code, "denied");
        ck_assert_int_eq(fake.n_dials, 1);
}
END_TEST

START_TEST(a_malformed_frame_ends_the_connection)
{
        static const uint8_t junk[FRAME_HEADER_SIZE] = { 0xff, 0xff, 0xff, 0xff, FRAME_ACK };
        Answer answer = {};

        start("list", NULL, &answer);
        ck_assert_int_eq(send(fake.fd, junk, sizeof(junk), 0), sizeof(junk));
        finish(&answer);
        ck_assert_str_eq(answer.error.code, "protocol-error");
}
END_TEST

START_TEST(json_that_is_no_object_ends_the_connection)
{
        Answer answer = {};

        start("list", NULL, &answer);
        fake_send(&fake, FRAME_CONTROL, 0, "[1]", 3);
        finish(&answer);
        ck_assert_str_eq(answer.error.code, "protocol-error");
}
END_TEST

START_TEST(strange_answers_and_notifications_are_ignored)
{
        static const char *const strange[] = { "{}",
                                               "{\"id\":99,\"result\":{}}",
                                               "{\"id\":null,\"error\":3}",
                                               "{\"method\":\"news\"}",
                                               "{\"method\":\"event\",\"params\":[]}",
                                               "{\"method\":\"stdin-closed\",\"params\":{\"stream\":-1}}" };
        Answer answer = {};

        start("list", NULL, &answer);
        for (size_t i = 0; i < ARRAY_SIZE(strange); i++)
                fake_send(&fake, FRAME_CONTROL, 0, strange[i], strlen(strange[i]));
        fake_reply(&fake, fake_read_request(&fake, "list"), "{}");
        finish(&answer);
        ck_assert_str_eq(answer.result, "{}");
}
END_TEST

START_TEST(parameters_that_are_no_object_are_refused)
{
        PmuxError error;

        ck_assert_int_eq(pmux_call(pmux, "list", "[]", NULL, &error), -EINVAL);
        ck_assert_str_eq(error.code, "invalid-argument");
        ck_assert_int_eq(pmux_call(pmux, "list", "{", NULL, &error), -EINVAL);
}
END_TEST

START_TEST(a_request_that_is_too_large_is_not_sent)
{
        char *params = malloc(9 * 1024 * 1024);
        PmuxError error;

        memset(params, ' ', 9 * 1024 * 1024);
        memcpy(params, "{\"x\":\"", 6);
        memset(params + 6, 'x', 9 * 1024 * 1024 - 10);
        memcpy(params + 9 * 1024 * 1024 - 4, "\"} ", 4);
        ck_assert_int_eq(pmux_call(pmux, "list", params, NULL, &error), -EMSGSIZE);
        ck_assert_str_eq(error.code, "too-large");
        free(params);
}
END_TEST

static int n_notices[3];

static void on_notice(Pmux *from, PmuxNotice notice, void *userdata) {
        (void)from;
        ck_assert_ptr_eq(userdata, &fake);
        n_notices[notice]++;
}

START_TEST(a_loss_and_its_mending_are_told)
{
        memset(n_notices, 0, sizeof(n_notices));
        pmux->on_notice = on_notice;
        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, 2);
        ck_assert_int_eq(n_notices[PMUX_NOTICE_LOST], 1);
        ck_assert_int_eq(n_notices[PMUX_NOTICE_BACK], 0);
        fake_greet(&fake);
        while (n_notices[PMUX_NOTICE_BACK] == 0)
                ck_assert_int_eq(pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL), 0);
        ck_assert_int_eq(n_notices[PMUX_NOTICE_LOST], 1);
}
END_TEST

START_TEST(a_connection_that_stays_away_is_given_up)
{
        Answer answer = {};

        fake_close(&fake, pmux);
        pmux = fake_open(&fake, 0, 50 * USEC_PER_MSEC);
        start("list", NULL, &answer);
        fake.refuse = true;
        fake_break(&fake);
        finish(&answer);
        ck_assert_str_eq(answer.error.code, "unreachable");
        ck_assert_int_lt(pmux_dispatch(pmux, NULL), 0);
}
END_TEST

/* An engine that takes connections and dies before it greets, for ever: that must end, too. */
START_TEST(a_daemon_that_never_greets_is_given_up)
{
        uint64_t deadline = clock_monotonic_usec() + FAKE_PATIENCE_USEC;
        Answer answer = {};

        fake_close(&fake, pmux);
        pmux = fake_open(&fake, 0, 50 * USEC_PER_MSEC);
        start("list", NULL, &answer);
        while (answer.n == 0) {
                ck_assert_uint_lt(clock_monotonic_usec(), deadline);
                fake_break(&fake);
                (void)pmux_turn(pmux, 10 * USEC_PER_MSEC, NULL);
        }
        ck_assert_str_eq(answer.error.code, "unreachable");
}
END_TEST

START_TEST(without_reconnection_a_break_is_final)
{
        Answer answer = {};

        fake_close(&fake, pmux);
        pmux = fake_open(&fake, PMUX_NO_RECONNECT, 0);
        start("list", NULL, &answer);
        fake_break(&fake);
        finish(&answer);
        ck_assert_str_eq(answer.error.code, "unreachable");
        ck_assert_int_eq(fake.n_dials, 1);
}
END_TEST

START_TEST(what_is_given_up_is_waited_for_no_more)
{
        PmuxError error;

        fake_close(&fake, pmux);
        pmux = fake_open(&fake, PMUX_NO_RECONNECT, 0);
        fake_break(&fake);
        while (pmux_turn(pmux, PMUX_INFINITY, NULL) == 0)
                ;
        for (int i = 0; i < 4; i++) {
                ck_assert_int_lt(pmux_turn(pmux, PMUX_INFINITY, &error), 0);
                ck_assert_str_eq(error.code, "unreachable");
        }
}
END_TEST

START_TEST(what_a_program_did_not_know_of_is_not_taken_from_it)
{
        const PmuxOptions options = { .size = offsetof(PmuxOptions, connect),
                                      .socket_path = "/nowhere/fake",
                                      .flags = PMUX_NO_AUTOSTART,
                                      .connect = fake_dial,
                                      .userdata = &fake };
        Pmux *other = NULL;

        ck_assert_int_lt(pmux_open(&other, &options, NULL), 0);
        ck_assert_int_eq(fake.n_dials, 1);
        ck_assert_ptr_null(other);
}
END_TEST

START_TEST(another_version_is_refused)
{
        uint8_t hello[FRAME_HELLO_DAEMON_SIZE] = PROTOCOL_MAGIC;
        Answer answer = {};

        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, 2);
        le16_put(hello + 4, PROTOCOL_VERSION + 1);
        start("list", NULL, &answer);
        fake_send(&fake, FRAME_HELLO, 0, hello, sizeof(hello));
        finish(&answer);
        ck_assert_str_eq(answer.error.code, "version-mismatch");
}
END_TEST

START_TEST(a_thing_that_is_no_daemon_is_refused)
{
        uint8_t hello[FRAME_HELLO_DAEMON_SIZE] = "HTTP";
        Answer answer = {};

        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, 2);
        start("list", NULL, &answer);
        fake_send(&fake, FRAME_HELLO, 0, hello, sizeof(hello));
        finish(&answer);
        ck_assert_str_eq(answer.error.code, "protocol-error");
}
END_TEST

START_TEST(keys_differ)
{
        char a[PMUX_KEY_SIZE], b[PMUX_KEY_SIZE];

        ck_assert_int_eq(pmux_key(a), 0);
        ck_assert_int_eq(pmux_key(b), 0);
        ck_assert_uint_eq(strlen(a), PMUX_KEY_SIZE - 1);
        ck_assert_str_ne(a, b);
}
END_TEST

static void add_calls(Suite *suite) {
        TCase *calls = tcase_create("calls");

        tcase_add_checked_fixture(calls, setup, teardown);
        tcase_add_test(calls, a_call_is_answered_once);
        tcase_add_test(calls, answers_may_come_in_any_order);
        tcase_add_test(calls, an_error_keeps_its_code_errno_and_message);
        tcase_add_test(calls, a_lost_answer_is_asked_for_again_with_the_same_key);
        tcase_add_test(calls, a_call_that_was_answered_is_not_repeated);
        tcase_add_test(calls, a_break_in_the_middle_of_an_answer_is_mended);
        tcase_add_test(calls, removing_what_a_lost_answer_had_removed_succeeds);
        tcase_add_test(calls, removing_what_never_was_fails);
        tcase_add_test(calls, a_forgotten_call_is_neither_told_nor_repeated);
        tcase_add_test(calls, parameters_that_are_no_object_are_refused);
        tcase_add_test(calls, a_request_that_is_too_large_is_not_sent);
        tcase_add_test(calls, keys_differ);
        suite_add_tcase(suite, calls);
}

static Suite *connection_suite(void) {
        Suite *suite = suite_create("connection");
        TCase *ends = tcase_create("ends");

        add_calls(suite);
        tcase_add_checked_fixture(ends, setup, teardown);
        tcase_add_test(ends, goodbye_ends_the_connection_with_its_reason);
        tcase_add_test(ends, a_malformed_frame_ends_the_connection);
        tcase_add_test(ends, json_that_is_no_object_ends_the_connection);
        tcase_add_test(ends, strange_answers_and_notifications_are_ignored);
        tcase_add_test(ends, a_loss_and_its_mending_are_told);
        tcase_add_test(ends, a_connection_that_stays_away_is_given_up);
        tcase_add_test(ends, a_daemon_that_never_greets_is_given_up);
        tcase_add_test(ends, without_reconnection_a_break_is_final);
        tcase_add_test(ends, what_is_given_up_is_waited_for_no_more);
        tcase_add_test(ends, what_a_program_did_not_know_of_is_not_taken_from_it);
        tcase_add_test(ends, another_version_is_refused);
        tcase_add_test(ends, a_thing_that_is_no_daemon_is_refused);
        suite_add_tcase(suite, ends);
        return suite;
}

CHECK_MAIN(connection_suite);
