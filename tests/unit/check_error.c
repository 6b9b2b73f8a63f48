/* SPDX-License-Identifier: MIT */

#include "common/error.h"

#include <errno.h>
#include <string.h>

#include "common/utf8.h"
#include "tests/support/check-main.h"

START_TEST(every_row_of_the_table_agrees_with_itself)
{
        ErrorCode code = (ErrorCode)_i;
        Error error = {};

        ck_assert_int_gt(error_errno(code), 0);
        ck_assert_int_eq(error_from_wire_name(error_wire_name(code)), code);
        ck_assert_uint_gt(strlen(error_sentence(code)), 0);
        ck_assert_uint_eq(strspn(error_wire_name(code), "abcdefghijklmnopqrstuvwxyz-"),
                          strlen(error_wire_name(code)));
        ck_assert_int_eq(error_set(&error, code, "x"), -error_errno(code));
        ck_assert_int_eq(error.code, code);
        ck_assert_int_eq(error.errno_value, error_errno(code));
}
END_TEST

START_TEST(wire_names_are_for_ever)
{
        /* docs/protocol.md section 3 */
        static const char names[] =
                "system invalid-argument unknown-method not-found exists wrong-state not-running "
                "denied limit no-space no-memory spawn-failed stdin-closed would-block timeout "
                "version-mismatch protocol-error too-large shutting-down cancelled unreachable "
                "already-running unsupported locked";
        const char *p = names;

        for (ErrorCode code = ERROR_NONE + 1; code < ERROR_N_; code++) {
                size_t n = strcspn(p, " ");

                ck_assert_uint_eq(strlen(error_wire_name(code)), n);
                ck_assert_mem_eq(error_wire_name(code), p, n);
                p += n + (p[n] == ' ');
        }
        ck_assert_str_eq(p, "");
        ck_assert_int_eq(error_from_wire_name("no such name"), ERROR_SYSTEM);
        ck_assert_int_eq(error_from_wire_name(""), ERROR_SYSTEM);
}
END_TEST

START_TEST(a_sentence_is_formatted)
{
        Error error = { .step = "left over" };

        ck_assert_int_eq(error_set(&error, ERROR_WRONG_STATE, "process '%s' is %d", "x", 5), -EBUSY);
        ck_assert_str_eq(error.text, "process 'x' is 5");
        ck_assert_str_eq(error.step, "");
        ck_assert_int_eq(error_set(NULL, ERROR_NOT_FOUND, "%s", "x"), -ESRCH);
}
END_TEST

START_TEST(a_system_call_says_why)
{
        Error error = {};

        ck_assert_int_eq(error_set_errno(&error, ENOENT, "cannot open '%s'", "/x"), -ENOENT);
        ck_assert_int_eq(error.code, ERROR_SYSTEM);
        ck_assert_int_eq(error.errno_value, ENOENT);
        ck_assert_str_eq(error.text, "cannot open '/x': No such file or directory");
        ck_assert_int_eq(error_set_errno(&error, -EACCES, "x"), -EACCES);
        ck_assert_int_eq(error.errno_value, EACCES);
        ck_assert_int_eq(error_set_errno(&error, ENOMEM, "x"), -ENOMEM);
        ck_assert_int_eq(error.code, ERROR_NO_MEMORY);
        ck_assert_int_eq(error_set_errno(&error, -ENOSPC, "x"), -ENOSPC);
        ck_assert_int_eq(error.code, ERROR_NO_SPACE);
        ck_assert_int_eq(error_set_errno(&error, EDQUOT, "x"), -EDQUOT);
        ck_assert_int_eq(error.code, ERROR_NO_SPACE);
        ck_assert_int_eq(error_set_errno(NULL, EIO, "x"), -EIO);
}
END_TEST

START_TEST(a_step_is_named_and_cut)
{
        Error error = {};

        ck_assert_int_eq(error_set_step(&error, -7, "exec"), -7);
        ck_assert_str_eq(error.step, "exec");
        ck_assert_int_eq(error_set_step(&error, 0, "a step whose name is far longer than it may be"), 0);
        ck_assert_uint_eq(strlen(error.step), ERROR_STEP_MAX - 1);
        ck_assert_int_eq(error_set_step(NULL, -1, "x"), -1);
}
END_TEST

/* Whatever length the text has, it is cut without cutting a character, and stays one line of UTF-8. */
START_TEST(a_sentence_is_always_valid_text)
{
        char text[ERROR_TEXT_MAX * 2];
        Error error;

        for (size_t pad = ERROR_TEXT_MAX - 12; pad < ERROR_TEXT_MAX + 4; pad++) {
                memset(text, 'x', pad);
                strcpy(text + pad, "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac");
                error = (Error){};
                (void)error_set(&error, ERROR_INVALID, "%s", text);
                ck_assert(utf8_valid(error.text, strlen(error.text)));
                ck_assert_uint_le(strlen(error.text), ERROR_TEXT_MAX - 1);
                (void)error_set_errno(&error, ENOENT, "%s", text);
                ck_assert(utf8_valid(error.text, strlen(error.text)));
        }
        (void)error_set(&error, ERROR_INVALID, "'%s'", "a\nb\x01\xff");
        ck_assert_str_eq(error.text, "'a?b?"
                                     "?'");
}
END_TEST

static Suite *error_suite(void) {
        Suite *suite = suite_create("error");
        TCase *table = tcase_create("table"), *set = tcase_create("set");

        tcase_add_loop_test(table, every_row_of_the_table_agrees_with_itself, ERROR_NONE + 1, ERROR_N_);
        tcase_add_test(table, wire_names_are_for_ever);
        tcase_add_test(set, a_sentence_is_formatted);
        tcase_add_test(set, a_system_call_says_why);
        tcase_add_test(set, a_step_is_named_and_cut);
        tcase_add_test(set, a_sentence_is_always_valid_text);
        suite_add_tcase(suite, table);
        suite_add_tcase(suite, set);
        return suite;
}

CHECK_MAIN(error_suite);
