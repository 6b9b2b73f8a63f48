/* SPDX-License-Identifier: MIT */

/* The statuses that scripts rely on. */

#include "client/cli/exit-status.h"

#include <errno.h>
#include <stdio.h>

#include "common/macro.h"
#include "tests/support/check-main.h"

typedef struct ErrorCase {
        const char *verb;
        const char *code;
        const char *step;
        int errno_value;
        int status;
} ErrorCase;

static const ErrorCase error_cases[] = {
        { "stop", "not-found", "", ESRCH, 4 },           { "stop", "denied", "", EPERM, 5 },
        { "write", "not-running", "", ECHILD, 7 },       { "write", "stdin-closed", "", EPIPE, 7 },
        { "write", "timeout", "", ETIMEDOUT, 124 },      { "ps", "unreachable", "", ECONNREFUSED, 125 },
        { "ps", "version-mismatch", "", EPROTO, 125 },   { "stop", "invalid-argument", "", EINVAL, 2 },
        { "rm", "wrong-state", "", EBUSY, 1 },           { "start", "spawn-failed", "exec", ENOENT, 1 },
        { "rm", "a-code-of-the-future", "", 1, 1 },      { "run", "spawn-failed", "exec", ENOENT, 127 },
        { "run", "spawn-failed", "exec", EACCES, 126 },  { "run", "spawn-failed", "exec", ENOEXEC, 126 },
        { "run", "spawn-failed", "chdir", ENOENT, 125 }, { "run", "exists", "", EEXIST, 125 },
        { "run", "invalid-argument", "", EINVAL, 125 },  { "run", "unreachable", "", ECONNREFUSED, 125 },
        { "write", "would-block", "", EAGAIN, 124 },     { "ask", "would-block", "", EAGAIN, 125 },
        { "wait", "not-found", "", ESRCH, 125 },         { "wait", "timeout", "", ETIMEDOUT, 124 },
};

START_TEST(each_error_has_its_status)
{
        const ErrorCase *c = &error_cases[_i];
        PmuxError error = { .errno_value = c->errno_value };

        (void)snprintf(error.code, sizeof(error.code), "%s", c->code);
        (void)snprintf(error.step, sizeof(error.step), "%s", c->step);
        ck_assert_msg(exit_status_of_error(c->verb, &error) == c->status, "%s: %s", c->verb, c->code);
}
END_TEST

START_TEST(wrong_usage_is_not_mistaken_for_a_process)
{
        ck_assert_int_eq(exit_status_of_usage("stop"), 2);
        ck_assert_int_eq(exit_status_of_usage("run"), 125);
        ck_assert_int_eq(exit_status_of_usage("wait"), 125);
}
END_TEST

START_TEST(an_exit_word_becomes_a_status)
{
        ck_assert_int_eq(exit_status_of_word(0), 0);
        ck_assert_int_eq(exit_status_of_word(255), 255);
        ck_assert_int_eq(exit_status_of_word(UINT64_C(9) << 8), 137);
        ck_assert_int_eq(exit_status_of_word(UINT64_C(11) << 8 | UINT64_C(1) << 16), 139);
        ck_assert_int_eq(exit_status_of_word(UINT64_C(1) << 17), 125);
}
END_TEST

typedef struct ExitCase {
        const char *json;
        int status;
} ExitCase;

static const ExitCase exit_cases[] = {
        { "{\"known\":true,\"code\":0,\"signal\":null,\"cause\":\"self\"}", 0 },
        { "{\"known\":true,\"code\":7,\"signal\":null,\"cause\":\"self\"}", 7 },
        { "{\"known\":true,\"code\":null,\"signal\":15,\"cause\":\"stop\"}", 143 },
        { "{\"known\":true,\"code\":null,\"signal\":15,\"cause\":\"timeout\"}", 124 },
        { "{\"known\":true,\"code\":0,\"signal\":null,\"cause\":\"timeout\"}", 124 },
        { "{\"known\":false,\"code\":null,\"signal\":null,\"cause\":\"unknown\"}", 125 },
        { "{\"known\":true}", 125 },
        { "{}", 125 },
        { "null", 125 },
};

START_TEST(an_exit_object_becomes_a_status)
{
        json_t *exit = json_loads(exit_cases[_i].json, JSON_DECODE_ANY, NULL);

        ck_assert_ptr_nonnull(exit);
        ck_assert_int_eq(exit_status_of_exit(exit), exit_cases[_i].status);
        json_decref(exit);
}
END_TEST

static Suite *exit_status_suite(void) {
        Suite *suite = suite_create("exit-status");
        TCase *errors = tcase_create("errors"), *ends = tcase_create("ends");

        tcase_add_loop_test(errors, each_error_has_its_status, 0, ARRAY_SIZE(error_cases));
        tcase_add_test(errors, wrong_usage_is_not_mistaken_for_a_process);
        suite_add_tcase(suite, errors);
        tcase_add_test(ends, an_exit_word_becomes_a_status);
        tcase_add_loop_test(ends, an_exit_object_becomes_a_status, 0, ARRAY_SIZE(exit_cases));
        suite_add_tcase(suite, ends);
        return suite;
}

CHECK_MAIN(exit_status_suite);
