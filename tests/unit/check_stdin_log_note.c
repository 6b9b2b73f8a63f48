/* SPDX-License-Identifier: MIT */

/* What has been done with accepted input is remembered with it. */

#include <errno.h>

#include "tests/support/stdin-fixture.h"

static void assert_unnoted(uint64_t begin, uint64_t end) {
        uint64_t from = 0, to = 0;

        ck_assert_int_eq(stdin_log_unnoted(stdin_log, &from, &to, NULL), 1);
        ck_assert_uint_eq(from, begin);
        ck_assert_uint_eq(to, end);
}

static void assert_all_noted(void) {
        uint64_t from, to;

        ck_assert_int_eq(stdin_log_unnoted(stdin_log, &from, &to, NULL), 0);
}

START_TEST(what_is_noted_stays_so_over_a_kill)
{
        assert_all_noted();
        ck_assert_int_eq(stdin_log_note(stdin_log, NULL), 0);
        ck_assert_int_eq(say(&alice, 0, "one", false), 0);
        assert_unnoted(0, 3);
        reopen(true);
        assert_unnoted(0, 3);
        ck_assert_int_eq(stdin_log_note(stdin_log, NULL), 0);
        ck_assert_int_eq(stdin_log_note(stdin_log, NULL), 0);
        assert_all_noted();
        reopen(true);
        assert_all_noted();
        ck_assert_int_eq(say(&bob, 0, "two", false), 0);
        ck_assert_int_eq(say(&alice, 3, "three", true), 0);
        assert_unnoted(3, 11);
        ck_assert_int_eq(stdin_log_note(stdin_log, NULL), 0);
        reopen(true);
        assert_all_noted();
        ck_assert(stdin_log_eof(stdin_log));
        ck_assert_int_eq(deliver(), 0);
        assert_reads("onetwothree");
}
END_TEST

START_TEST(a_note_changes_nothing_about_retries)
{
        ck_assert_int_eq(say(&alice, 0, "once", false), 0);
        ck_assert_int_eq(stdin_log_note(stdin_log, NULL), 0);
        reopen(true);
        ck_assert_int_eq(say(&alice, 0, "once", false), 0);
        ck_assert_int_eq(say(NULL, 0, "", true), 0);
        assert_all_noted(); /* an end of file alone has no bytes */
        ck_assert_uint_eq(stdin_log_accepted(stdin_log), 4);
}
END_TEST

START_TEST(what_was_dropped_is_not_asked_for)
{
        uint64_t dropped;

        ck_assert_int_eq(say(&alice, 0, "gone", false), 0);
        ck_assert_int_eq(stdin_log_cancel(stdin_log, &dropped, NULL), 0);
        assert_all_noted();
        ck_assert_int_eq(say(&alice, 4, "new", false), 0);
        assert_unnoted(4, 7);
        ck_assert_int_eq(stdin_log_begin_run(stdin_log, 2, NULL), 0);
        assert_all_noted();
}
END_TEST

START_TEST(accepted_bytes_can_be_read_back)
{
        char bytes[8] = "";
        Error error = {};

        ck_assert_int_eq(say(&alice, 0, "0123456789", false), 0);
        ck_assert_int_eq(stdin_log_read(stdin_log, 3, bytes, 4, NULL), 0);
        ck_assert_str_eq(bytes, "3456");
        ck_assert_int_eq(stdin_log_read(stdin_log, 8, bytes, 4, &error), -EUCLEAN);
        ck_assert_int_eq(deliver(), 0);
        assert_reads("0123456789");
}
END_TEST

static Suite *stdin_log_note_suite(void) {
        Suite *suite = suite_create("stdin-log-note");
        TCase *tcase = tcase_create("note");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, what_is_noted_stays_so_over_a_kill);
        tcase_add_test(tcase, a_note_changes_nothing_about_retries);
        tcase_add_test(tcase, what_was_dropped_is_not_asked_for);
        tcase_add_test(tcase, accepted_bytes_can_be_read_back);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(stdin_log_note_suite);
