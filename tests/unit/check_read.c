/* SPDX-License-Identifier: MIT */

/* Portions with types, against a daemon that answers by hand. */

#include "client/libpmux/pmux-read.h"

#include <errno.h>

#include "tests/support/check-main.h"
#include "tests/support/fake-daemon.h"

static FakeDaemon fake;
static Pmux *pmux;
static int n_fds;
static int n_told;
static PmuxRead told;
static PmuxError told_error;

static void setup(void) {
        n_fds = open_fds_count();
        n_told = 0;
        told = (PmuxRead){};
        memset(&told_error, 0, sizeof(told_error));
        pmux = fake_open(&fake, 0, 0);
}

static void teardown(void) {
        pmux_read_deinit(&told);
        fake_close(&fake, pmux);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static void on_read(Pmux *self, const PmuxRead *read, const PmuxError *error, void *userdata) {
        ck_assert_ptr_eq(self, pmux);
        ck_assert_ptr_eq(userdata, &fake);
        n_told++;
        if (read) {
                told = *read;
                told.data = malloc(read->size + 1);
                memcpy(told.data, read->data, read->size + 1);
                told.groups = calloc(read->n_groups + 1, sizeof(*read->groups));
                if (read->n_groups > 0)
                        memcpy(told.groups, read->groups, read->n_groups * sizeof(*read->groups));
        }
        if (error)
                told_error = *error;
}

static void turn_until_told(void) {
        uint64_t deadline = clock_monotonic_usec() + FAKE_PATIENCE_USEC;

        while (n_told == 0) {
                ck_assert_uint_lt(clock_monotonic_usec(), deadline);
                (void)pmux_turn(pmux, 100 * USEC_PER_MSEC, NULL);
        }
}

static void read_with(const PmuxReadOptions *options, const char *answer) {
        ck_assert_int_eq(pmux_read_start(pmux, "7", options, on_read, &fake, NULL, NULL), 0);
        fake_reply(&fake, fake_read_request(&fake, "read"), answer);
        turn_until_told();
}

START_TEST(a_request_says_what_is_wanted)
{
        const PmuxReadOptions options = { .size = sizeof(options),
                                          .what = PMUX_FOR_SEPARATOR,
                                          .text = "\0\xff",
                                          .text_size = 2,
                                          .flags = PMUX_READ_PEEK | PMUX_READ_STDERR | PMUX_READ_FROM,
                                          .from = 12,
                                          .cursor = "mine",
                                          .timeout_usec = 5000 };
        json_t *request, *params;
        char *text;

        ck_assert_int_eq(pmux_read_start(pmux, "web", &options, on_read, &fake, NULL, NULL), 0);
        request = fake_read_request(&fake, "read");
        params = json_object_get(request, "params");
        ck_assert(json_is_string(json_object_get(params, "key")));
        (void)json_object_del(params, "key");
        text = json_dumps(params, JSON_COMPACT | JSON_SORT_KEYS);
        ck_assert_str_eq(text,
                         "{\"cursor\":\"mine\",\"for\":\"separator\",\"from\":12,\"peek\":true,"
                         "\"separator\":{\"base64\":\"AP8=\"},\"sources\":[\"stderr\"],\"target\":\"web\","
                         "\"timeout_usec\":5000}");
        free(text);
        fake_refuse(&fake, request, "not-found");
        turn_until_told();
        ck_assert_str_eq(told_error.code, "not-found");
        ck_assert_ptr_null(told.data);
}
END_TEST

START_TEST(the_streams_are_those_that_are_named)
{
        static const struct {
                unsigned flags;
                const char *sources;
        } rows[] = {
                { 0, NULL },
                { PMUX_READ_STDOUT, "[\"stdout\"]" },
                { PMUX_READ_STDIN, "[\"stdin\"]" },
                { PMUX_READ_STDERR | PMUX_READ_STDIN, "[\"stderr\",\"stdin\"]" },
                { PMUX_READ_STDOUT | PMUX_READ_STDERR, NULL },
                { PMUX_READ_STDOUT | PMUX_READ_STDERR | PMUX_READ_STDIN,
                  "[\"stdout\",\"stderr\",\"stdin\"]" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                const PmuxReadOptions options = { .size = sizeof(options), .flags = rows[i].flags };
                json_t *request, *sources;
                char *text;

                ck_assert_int_eq(pmux_read_start(pmux, "7", &options, on_read, &fake, NULL, NULL), 0);
                request = fake_read_request(&fake, "read");
                sources = json_object_get(json_object_get(request, "params"), "sources");
                text = sources ? json_dumps(sources, JSON_COMPACT) : NULL;
                ck_assert_pstr_eq(text, rows[i].sources);
                free(text);
                json_decref(request);
        }
}
END_TEST

START_TEST(an_answer_has_types)
{
        read_with(NULL, "{\"reason\":\"satisfied\",\"data\":\"a\\u0000b\",\"bytes\":3,\"from\":10,\"next\":"
                        "13,\"run\":2,"
                        "\"lost\":{\"from\":4,\"to\":10}}");
        ck_assert_str_eq(told_error.code, "");
        ck_assert_uint_eq(told.size, 3);
        ck_assert_mem_eq(told.data, "a\0b", 4);
        ck_assert_uint_eq(told.next, 13);
        ck_assert_uint_eq(told.run, 2);
        ck_assert_uint_eq(told.lost_to - told.lost_from, 6);
}
END_TEST

START_TEST(an_end_before_its_time_carries_what_there_was)
{
        const PmuxReadOptions options = { .size = sizeof(options), .what = PMUX_FOR_EXACTLY, .n = 10 };

        read_with(&options,
                  "{\"reason\":\"eof\",\"data\":\"abc\",\"from\":0,\"next\":3,\"run\":1,\"missing\":7}");
        ck_assert_str_eq(told_error.code, "incomplete");
        ck_assert_int_eq(told_error.errno_value, ENODATA);
        ck_assert_ptr_nonnull(strstr(told_error.message, "7 more"));
        ck_assert_uint_eq(told.missing, 7);
        ck_assert_str_eq(told.data, "abc");
}
END_TEST

START_TEST(an_end_that_was_waited_for_is_none)
{
        const PmuxReadOptions options = { .size = sizeof(options), .what = PMUX_FOR_EOF };

        read_with(&options, "{\"reason\":\"eof\",\"data\":\"abc\",\"from\":0,\"next\":3,\"run\":1}");
        ck_assert_str_eq(told_error.code, "");
        ck_assert_int_eq(told.reason, PMUX_ENDED);
}
END_TEST

START_TEST(an_end_before_it_was_quiet_is_no_success)
{
        const PmuxReadOptions options = { .size = sizeof(options),
                                          .what = PMUX_FOR_QUIET,
                                          .quiet_usec = 1000 };

        read_with(&options, "{\"reason\":\"eof\",\"data\":\"\",\"from\":0,\"next\":0,\"run\":1}");
        ck_assert_str_eq(told_error.code, "incomplete");
        ck_assert_int_eq(told.reason, PMUX_ENDED);
        ck_assert_uint_eq(told.size, 0);
}
END_TEST

START_TEST(a_question_whose_answer_never_came_is_no_success)
{
        ck_assert_int_eq(pmux_ask_start(pmux, "7", "exit\n", 5, NULL, on_read, &fake, NULL, NULL), 0);
        fake_reply(&fake, fake_read_request(&fake, "ask"),
                   "{\"reason\":\"eof\",\"data\":\"\",\"from\":0,\"next\":0,\"run\":1,\"accepted\":5}");
        turn_until_told();
        ck_assert_str_eq(told_error.code, "incomplete");
        ck_assert_uint_eq(told.accepted, 5);
}
END_TEST

START_TEST(a_deadline_carries_what_there_is)
{
        const PmuxReadOptions options = { .size = sizeof(options), .what = PMUX_FOR_LINE };

        read_with(&options, "{\"reason\":\"timeout\",\"data\":\"ab\",\"from\":0,\"next\":0,\"run\":1}");
        ck_assert_str_eq(told_error.code, "timeout");
        ck_assert_int_eq(told_error.errno_value, ETIMEDOUT);
        ck_assert_str_eq(told.data, "ab");
}
END_TEST

START_TEST(a_repeated_request_has_its_key)
{
        json_t *first, *second;

        ck_assert_int_eq(pmux_ask_start(pmux, "7", "1+1\n", 4, NULL, on_read, &fake, NULL, NULL), 0);
        first = fake_read_request(&fake, "ask");
        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, 2);
        fake_greet(&fake);
        second = fake_read_request(&fake, "ask");
        ck_assert(json_equal(json_object_get(first, "params"), json_object_get(second, "params")));
        ck_assert(json_is_string(json_object_get(json_object_get(second, "params"), "key")));
        json_decref(first);
        fake_reply(&fake, second,
                   "{\"reason\":\"satisfied\",\"data\":\"2\\n\",\"from\":5,\"next\":7,\"run\":1,"
                   "\"accepted\":4}");
        turn_until_told();
        ck_assert_int_eq(n_told, 1);
        ck_assert_str_eq(told.data, "2\n");
        ck_assert_uint_eq(told.accepted, 4);
}
END_TEST

START_TEST(a_group_that_a_lookahead_saw_behind_the_data_is_none)
{
        const PmuxReadOptions options = { .size = sizeof(options),
                                          .what = PMUX_FOR_PATTERN,
                                          .text = "(a)(?=(b))" };

        read_with(
                &options,
                "{\"reason\":\"satisfied\",\"data\":\"a\",\"from\":0,\"next\":1,\"run\":1,\"match\":"
                "{\"from\":0,\"to\":1,\"groups\":[{\"n\":0,\"name\":null,\"from\":0,\"to\":1},"
                "{\"n\":1,\"name\":null,\"from\":0,\"to\":1},{\"n\":2,\"name\":null,\"from\":1,\"to\":2}]}}");
        ck_assert_str_eq(told_error.code, "");
        ck_assert_uint_eq(told.n_groups, 3);
        ck_assert_int_eq(told.groups[1].matched, 1);
        ck_assert_int_eq(told.groups[2].matched, 0);
}
END_TEST

START_TEST(groups_that_lie_outside_of_the_data_are_refused)
{
        const PmuxReadOptions options = { .size = sizeof(options),
                                          .what = PMUX_FOR_PATTERN,
                                          .text = "a(b)?" };

        read_with(&options,
                  "{\"reason\":\"satisfied\",\"data\":\"a\",\"from\":0,\"next\":1,\"run\":1,\"match\":"
                  "{\"from\":0,\"to\":1,\"groups\":[{\"n\":0,\"name\":null,\"from\":0,\"to\":9},null]}}");
        ck_assert_int_eq(told_error.errno_value, EPROTO);
}
END_TEST

START_TEST(a_forgotten_read_leaves_nothing)
{
        PmuxCall *call = NULL;

        ck_assert_int_eq(pmux_read_start(pmux, "7", NULL, on_read, &fake, &call, NULL), 0);
        ck_assert_ptr_null(pmux_call_forget(call));
        ck_assert_int_eq(pmux_read_start(pmux, "7", NULL, on_read, &fake, &call, NULL), 0);
}
END_TEST

START_TEST(descriptors_leave_with_their_request_each_time)
{
        char control[CMSG_SPACE(3 * sizeof(int))], bytes[4096];
        struct iovec piece = { bytes, sizeof(bytes) };
        struct msghdr message;
        int fds[2], got;

        ck_assert_int_eq(pipe(fds), 0);
        ck_assert_int_eq(pmux_send_fds(pmux, &fds[1], 1, NULL), 0);
        ck_assert_int_eq(pmux_call_start(pmux, "run", NULL, NULL, NULL, NULL, NULL), 0);
        ck_assert_int_eq(pmux_call_start(pmux, "list", NULL, NULL, NULL, NULL, NULL), 0);
        for (int i = 0; i < 2; i++) {
                message = (struct msghdr){ .msg_iov = &piece,
                                           .msg_iovlen = 1,
                                           .msg_control = control,
                                           .msg_controllen = sizeof(control) };
                got = (int)recvmsg(fake.fd, &message, MSG_CMSG_CLOEXEC);
                ck_assert_ptr_nonnull(CMSG_FIRSTHDR(&message));
                ck_assert_msg(got > 0 && !memmem(bytes, (size_t)got, "list", 4), "with another frame");
                memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(got));
                ck_assert_int_eq(write(got, "x", 1), 1);
                ck_assert_int_eq(close(got), 0);
                ck_assert_int_eq(read(fds[0], bytes, 1), 1);
                if (i > 0)
                        break;
                fake_break(&fake);
                fake_turn_until_dialled(&fake, pmux, 2);
                fake_greet(&fake);
        }
        ck_assert_int_eq(pmux_send_fds(pmux, &fds[1], 1, NULL), 0);
        ck_assert_int_eq(pmux_send_fds(pmux, NULL, 4, NULL), -EINVAL);
        ck_assert_int_eq(close(fds[0]), 0);
        ck_assert_int_eq(close(fds[1]), 0);
}
END_TEST

static Suite *read_suite(void) {
        Suite *suite = suite_create("read");
        TCase *tcase = tcase_create("portions");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, a_request_says_what_is_wanted);
        tcase_add_test(tcase, the_streams_are_those_that_are_named);
        tcase_add_test(tcase, an_answer_has_types);
        tcase_add_test(tcase, an_end_before_its_time_carries_what_there_was);
        tcase_add_test(tcase, an_end_that_was_waited_for_is_none);
        tcase_add_test(tcase, an_end_before_it_was_quiet_is_no_success);
        tcase_add_test(tcase, a_question_whose_answer_never_came_is_no_success);
        tcase_add_test(tcase, a_deadline_carries_what_there_is);
        tcase_add_test(tcase, a_repeated_request_has_its_key);
        tcase_add_test(tcase, a_group_that_a_lookahead_saw_behind_the_data_is_none);
        tcase_add_test(tcase, groups_that_lie_outside_of_the_data_are_refused);
        tcase_add_test(tcase, a_forgotten_read_leaves_nothing);
        tcase_add_test(tcase, descriptors_leave_with_their_request_each_time);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(read_suite);
