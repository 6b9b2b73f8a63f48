/* SPDX-License-Identifier: MIT */

/* Who may use stdin: by token and by time, and what the others are told. */

#include "daemon/engine/stdin-lock.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/macro.h"
#include "tests/support/check-main.h"

static StdinLock held(uint64_t ttl_usec) {
        StdinLock lock = { .token = "mine", .holder = "alice", .pid = 4711 };

        stdin_lock_begin(&lock, ttl_usec);
        return lock;
}

START_TEST(without_a_lock_everybody_may)
{
        ck_assert_int_eq(stdin_lock_check(NULL, NULL, 1, NULL), 0);
        ck_assert_uint_eq(stdin_lock_left(NULL), 0);
}
END_TEST

START_TEST(the_token_opens_it_and_nothing_else_does)
{
        StdinLock lock = held(STDIN_LOCK_TTL_MAX_USEC);
        Error error = {};

        ck_assert_int_eq(stdin_lock_check(&lock, "mine", 1, &error), 0);
        ck_assert_int_eq(stdin_lock_check(&lock, NULL, 17, &error), -EBUSY);
        ck_assert_int_eq(error.code, ERROR_LOCKED);
        ck_assert_ptr_nonnull(strstr(error.text, "process 17"));
        ck_assert_ptr_nonnull(strstr(error.text, "'alice' (pid 4711)"));
        ck_assert_ptr_nonnull(strstr(error.text, "for 3599."));
        ck_assert_int_eq(stdin_lock_check(&lock, "mine ", 1, &error), -EBUSY);
        ck_assert_int_eq(stdin_lock_check(&lock, "", 1, &error), -EBUSY);
}
END_TEST

START_TEST(one_that_is_over_binds_nobody_but_who_relies_on_it)
{
        StdinLock lock = held(STDIN_LOCK_TTL_MIN_USEC);
        Error error = {};

        lock.deadline_usec = clock_monotonic_usec() - 1;
        ck_assert_uint_eq(stdin_lock_left(&lock), 0);
        ck_assert_int_eq(stdin_lock_check(&lock, NULL, 1, &error), 0);
        ck_assert_int_eq(stdin_lock_check(&lock, "mine", 1, &error), -EBUSY);
        ck_assert_ptr_nonnull(strstr(error.text, "nobody"));
        ck_assert_ptr_nonnull(strstr(error.text, "of 'alice' on the stdin of process 1 expired 0."));
        lock.expires_usec = clock_realtime_usec() - 7 * USEC_PER_SEC;
        ck_assert_int_eq(stdin_lock_check(&lock, "mine", 1, &error), -EBUSY);
        ck_assert_ptr_nonnull(strstr(error.text, "expired 7."));
        ck_assert_int_eq(stdin_lock_check(&lock, "another", 1, &error), -EBUSY);
        ck_assert_ptr_null(strstr(error.text, "alice"));
        ck_assert_int_eq(stdin_lock_check(NULL, "mine", 1, &error), -EBUSY);
}
END_TEST

START_TEST(one_that_was_stored_goes_on_for_what_is_left_of_it)
{
        static const struct {
                int64_t from_now_usec;
                uint64_t at_least_usec, at_most_usec;
        } rows[] = {
                { -1, 0, 0 },
                { -3600 * 1000000LL, 0, 0 },
                { 1000 * 1000000LL, 990 * USEC_PER_SEC, 1000 * USEC_PER_SEC },
                { 365 * 86400 * 1000000LL, STDIN_LOCK_TTL_MAX_USEC - 10 * USEC_PER_SEC,
                  STDIN_LOCK_TTL_MAX_USEC }, /* the clock was set back */
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                StdinLock lock = held(1);

                lock.expires_usec = clock_realtime_usec() + (uint64_t)rows[i].from_now_usec;
                stdin_lock_resume(&lock);
                ck_assert_uint_ge(stdin_lock_left(&lock), rows[i].at_least_usec);
                ck_assert_uint_le(stdin_lock_left(&lock), rows[i].at_most_usec);
        }
}
END_TEST

static Suite *stdin_lock_suite(void) {
        Suite *suite = suite_create("stdin-lock");
        TCase *tcase = tcase_create("lock");

        tcase_add_test(tcase, without_a_lock_everybody_may);
        tcase_add_test(tcase, the_token_opens_it_and_nothing_else_does);
        tcase_add_test(tcase, one_that_is_over_binds_nobody_but_who_relies_on_it);
        tcase_add_test(tcase, one_that_was_stored_goes_on_for_what_is_left_of_it);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(stdin_lock_suite);
