/* SPDX-License-Identifier: MIT */

/* Conditions with types, against a daemon that answers by hand. */

#include "client/libpmux/pmux-read.h"

#include <errno.h>

#include "tests/support/check-main.h"
#include "tests/support/fake-daemon.h"

static FakeDaemon fake;
static Pmux *pmux;
static int n_fds;
static int n_told;
static PmuxMetRow told; /* the last row; its groups are looked at in the callback */
static PmuxSpan told_group;
static size_t n_rows;
static PmuxError told_error;

static void setup(void) {
        n_fds = open_fds_count();
        n_told = 0;
        n_rows = 0;
        memset(&told_error, 0, sizeof(told_error));
        pmux = fake_open(&fake, 0, 0);
}

static void teardown(void) {
        fake_close(&fake, pmux);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static void on_met(Pmux *self, const PmuxMet *met, const PmuxError *error, void *userdata) {
        ck_assert_ptr_eq(self, pmux);
        ck_assert_ptr_eq(userdata, &fake);
        n_told++;
        n_rows = met ? met->n_rows : 0;
        if (n_rows > 0)
                told = met->rows[n_rows - 1];
        if (n_rows > 0 && told.n_groups > 0)
                told_group = told.groups[told.n_groups - 1];
        if (error)
                told_error = *error;
}

static void answer(json_t *request, const char *text) {
        uint64_t deadline = clock_monotonic_usec() + FAKE_PATIENCE_USEC;

        fake_reply(&fake, request, text);
        while (n_told == 0) {
                ck_assert_uint_lt(clock_monotonic_usec(), deadline);
                (void)pmux_turn(pmux, 100 * USEC_PER_MSEC, NULL);
        }
}

static const char *const seven[] = { "7", "name", NULL };

static const struct {
        PmuxCondition condition;
        unsigned flags;
        uint64_t timeout_usec;
        const char *params;
} rows[] = {
        { { .what = PMUX_UNTIL_EXITED }, 0, 0, "{'targets':[7,'name'],'conditions':[{'for':'exited'}]}" },
        { { .what = PMUX_UNTIL_STATE, .text = "running" },
          PMUX_WAIT_ANY,
          5,
          "{'targets':[7,'name'],'any':true,'timeout_usec':5,'conditions':[{'for':'state',"
          "'state':'running'}]}" },
        { { .what = PMUX_UNTIL_PATTERN,
            .text = "a\0b",
            .text_size = 3,
            .flags = PMUX_READ_FROM | PMUX_READ_STDERR,
            .from = 9 },
          PMUX_WAIT_AT_ONCE,
          0,
          "{'targets':[7,'name'],'timeout_usec':0,'conditions':[{'for':'pattern','pattern':'a\\u0000b',"
          "'from':9,'sources':['stderr']}]}" },
        { { .what = PMUX_UNTIL_QUIET,
            .quiet_usec = 8,
            .flags = PMUX_READ_FROM | PMUX_READ_STDOUT | PMUX_READ_STDERR,
            .from = PMUX_CURSOR_END },
          0,
          0,
          "{'targets':[7,'name'],'conditions':[{'for':'quiet','quiet_usec':8,'from':'end'}]}" },
        { { .what = PMUX_UNTIL_BYTES, .n = 3, .targets = seven },
          0,
          0,
          "{'targets':[7,'name'],'conditions':[{'for':'bytes','n':3,'targets':[7,'name']}]}" },
};

START_TEST(a_request_says_what_is_waited_for)
{
        PmuxCondition condition = rows[_i].condition;
        char text[512];
        json_t *expected, *request;

        for (size_t i = 0; i <= strlen(rows[_i].params); i++)
                text[i] = (char)(rows[_i].params[i] == '\'' ? '"' : rows[_i].params[i]);
        expected = json_loads(text, JSON_ALLOW_NUL, NULL);
        ck_assert_ptr_nonnull(expected);
        condition.size = sizeof(condition);
        ck_assert_int_eq(pmux_wait_for_start(pmux, seven, &condition, 1, rows[_i].flags,
                                             rows[_i].timeout_usec, on_met, &fake, NULL, NULL),
                         0);
        request = fake_read_request(&fake, "wait");
        (void)json_object_del(json_object_get(request, "params"), "key");
        ck_assert_msg(json_equal(json_object_get(request, "params"), expected), "%s",
                      json_dumps(request, JSON_COMPACT));
        json_decref(expected);
        answer(request, "{\"reason\":\"satisfied\",\"satisfied\":[]}");
        ck_assert_str_eq(told_error.code, "");
}
END_TEST

static void wait_for_two(const char *text) {
        const PmuxCondition conditions[] = {
                { .size = sizeof(PmuxCondition), .what = PMUX_UNTIL_EXITED },
                { .size = sizeof(PmuxCondition), .what = PMUX_UNTIL_PATTERN, .text = "(a)|(b)" },
        };

        ck_assert_int_eq(pmux_wait_for_start(pmux, seven, conditions, 2, 0, 1000, on_met, &fake, NULL, NULL),
                         0);
        answer(fake_read_request(&fake, "wait"), text);
        ck_assert_int_eq(n_told, 1);
}

START_TEST(an_answer_has_types)
{
        wait_for_two("{\"reason\":\"satisfied\",\"processes\":[],\"satisfied\":[{\"id\":7,\"condition\":0},"
                     "{\"id\":8,\"condition\":1,\"offset\":6,\"match\":{\"from\":5,\"to\":6,\"groups\":["
                     "{\"n\":0,\"name\":null,\"from\":5,\"to\":6},null,"
                     "{\"n\":2,\"name\":null,\"from\":5,\"to\":6}]}}]}");
        ck_assert_str_eq(told_error.code, "");
        ck_assert_uint_eq(n_rows, 2);
        ck_assert_uint_eq(told.id, 8);
        ck_assert_uint_eq(told.condition, 1);
        ck_assert_uint_eq(told.offset, 6);
        ck_assert_uint_eq(told.n_groups, 3);
        ck_assert_uint_eq(told_group.from, 5);
        ck_assert_uint_eq(told_group.to, 6);
        ck_assert_int_eq(told_group.matched, 1);
}
END_TEST

START_TEST(a_deadline_carries_what_has_come_about)
{
        wait_for_two("{\"reason\":\"timeout\",\"satisfied\":[{\"id\":7,\"condition\":0}]}");
        ck_assert_str_eq(told_error.code, "timeout");
        ck_assert_int_eq(told_error.errno_value, ETIMEDOUT);
        ck_assert_uint_eq(n_rows, 1);
        ck_assert_uint_eq(told.id, 7);
}
END_TEST

/* --- time, over a lost connection --- */

#define LIMIT_USEC (300 * USEC_PER_MSEC)

static uint64_t timeout_of(json_t *request) {
        return (uint64_t)json_integer_value(
                json_object_get(json_object_get(request, "params"), "timeout_usec"));
}

static void turn_until_usec(uint64_t usec) {
        while (clock_monotonic_usec() < usec)
                (void)pmux_turn(pmux, MIN(usec - clock_monotonic_usec(), 5 * USEC_PER_MSEC), NULL);
}

START_TEST(a_repeated_request_has_what_is_left_of_its_time)
{
        const PmuxCondition condition = { .size = sizeof(condition), .what = PMUX_UNTIL_EXITED };
        uint64_t begin = clock_monotonic_usec(), passed, now;
        json_t *request;

        ck_assert_int_eq(pmux_wait_for_start(pmux, seven, &condition, 1, 0, FAKE_PATIENCE_USEC, on_met, &fake,
                                             NULL, NULL),
                         0);
        request = fake_read_request(&fake, "wait");
        ck_assert_uint_eq(timeout_of(request), FAKE_PATIENCE_USEC);
        json_decref(request);
        fake.refuse = true;
        fake_break(&fake);
        turn_until_usec(begin + 50 * USEC_PER_MSEC);
        passed = clock_monotonic_usec() - begin;
        fake.refuse = false;
        fake_turn_until_dialled(&fake, pmux, 2);
        now = clock_monotonic_usec();
        fake_greet(&fake);
        request = fake_read_request(&fake, "wait");
        ck_assert_uint_le(timeout_of(request), FAKE_PATIENCE_USEC - passed);
        ck_assert_uint_ge(timeout_of(request), FAKE_PATIENCE_USEC - (now - begin));
        answer(request, "{\"reason\":\"satisfied\",\"processes\":[],\"satisfied\":[]}");
        ck_assert_str_eq(told_error.code, "");
}
END_TEST

START_TEST(a_wait_ends_in_time_where_no_daemon_comes_back)
{
        const PmuxCondition condition = { .size = sizeof(condition), .what = PMUX_UNTIL_EXITED };
        uint64_t begin = clock_monotonic_usec();

        ck_assert_int_eq(
                pmux_wait_for_start(pmux, seven, &condition, 1, 0, LIMIT_USEC, on_met, &fake, NULL, NULL), 0);
        json_decref(fake_read_request(&fake, "wait"));
        fake.refuse = true;
        fake_break(&fake);
        while (n_told == 0) {
                ck_assert_uint_lt(clock_monotonic_usec() - begin, FAKE_PATIENCE_USEC);
                (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        }
        ck_assert_str_eq(told_error.code, "timeout");
        ck_assert_uint_ge(clock_monotonic_usec() - begin, LIMIT_USEC);
}
END_TEST

static void on_read(Pmux *self, const PmuxRead *read, const PmuxError *error, void *userdata) {
        (void)self;
        (void)read;
        (void)error;
        (void)userdata;
        n_told++;
}

START_TEST(what_may_have_been_carried_out_is_asked_again_however_late)
{
        const PmuxReadOptions options = { .size = sizeof(options), .timeout_usec = LIMIT_USEC / 10 };
        uint64_t begin = clock_monotonic_usec();
        json_t *request;

        ck_assert_int_eq(pmux_read_start(pmux, "7", &options, on_read, &fake, NULL, NULL), 0);
        json_decref(fake_read_request(&fake, "read"));
        fake.refuse = true;
        fake_break(&fake);
        turn_until_usec(begin + LIMIT_USEC / 5);
        ck_assert_int_eq(n_told, 0);
        fake.refuse = false;
        fake_turn_until_dialled(&fake, pmux, 2);
        fake_greet(&fake);
        request = fake_read_request(&fake, "read");
        ck_assert_uint_eq(timeout_of(request), 1);
        answer(request, "{\"reason\":\"timeout\",\"data\":\"\",\"from\":0,\"next\":0,\"run\":1}");
}
END_TEST

START_TEST(conditions_without_a_size_are_refused)
{
        PmuxCondition conditions[2] = { { .size = sizeof(PmuxCondition) } };
        PmuxError error;

        ck_assert_int_eq(pmux_wait_for(pmux, seven, conditions, 2, 0, 0, NULL, &error), -EINVAL);
        ck_assert_str_eq(error.code, "invalid-argument");
        conditions[1].size = sizeof(PmuxCondition);
        conditions[1].what = (PmuxUntil)99;
        ck_assert_int_eq(pmux_wait_for(pmux, seven, conditions, 2, 0, 0, NULL, &error), -EINVAL);
}
END_TEST

START_TEST(a_forgotten_wait_leaves_nothing)
{
        const PmuxCondition condition = { .size = sizeof(condition) };
        PmuxCall *call = NULL;

        ck_assert_int_eq(pmux_wait_for_start(pmux, seven, &condition, 1, 0, 0, on_met, &fake, &call, NULL),
                         0);
        ck_assert_ptr_null(pmux_call_forget(call));
        ck_assert_int_eq(pmux_wait_for_start(pmux, seven, &condition, 1, 0, 0, on_met, &fake, &call, NULL),
                         0);
}
END_TEST

static Suite *wait_for_suite(void) {
        Suite *suite = suite_create("wait-for");
        TCase *tcase = tcase_create("types");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_loop_test(tcase, a_request_says_what_is_waited_for, 0, ARRAY_SIZE(rows));
        tcase_add_test(tcase, an_answer_has_types);
        tcase_add_test(tcase, a_deadline_carries_what_has_come_about);
        tcase_add_test(tcase, a_repeated_request_has_what_is_left_of_its_time);
        tcase_add_test(tcase, a_wait_ends_in_time_where_no_daemon_comes_back);
        tcase_add_test(tcase, what_may_have_been_carried_out_is_asked_again_however_late);
        tcase_add_test(tcase, conditions_without_a_size_are_refused);
        tcase_add_test(tcase, a_forgotten_wait_leaves_nothing);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(wait_for_suite);
