/* SPDX-License-Identifier: MIT */

/* Values as people read them: nothing that a process is called reaches the terminal as a control sequence. */

#include "client/cli/text.h"

#include <string.h>

#include "common/macro.h"
#include "tests/support/check-main.h"

static const struct {
        const char *bytes, *text;
} escapes[] = { { "web", "web" },
                { "caf\xc3\xa9", "caf\xc3\xa9" },
                { "\x1b[31mred", "\\x1b[31mred" },
                { "a\nb\tc", "a\\x0ab\\x09c" },
                { "\x7f", "\\x7f" },
                { "\xc2\x9b", "\\xc2\\x9b" },
                { "\xff\xfe", "\\xff\\xfe" },
                { "\xe2\x82", "\\xe2\\x82" },
                { "", "" } };

START_TEST(control_characters_are_escaped)
{
        char *text = text_escape(escapes[_i].bytes, strlen(escapes[_i].bytes));

        ck_assert_str_eq(text, escapes[_i].text);
        free(text);
}
END_TEST

static const struct {
        const char *json, *text;
} commands[] = { { "[\"ls\",\"-l\"]", "ls -l" },
                 { "[\"sh\",\"-c\",\"a b\"]", "sh -c 'a b'" },
                 { "[\"printf\",\"\"]", "printf ''" },
                 { "[{\"base64\":\"/w==\"}]", "\\xff" },
                 { "[]", "" },
                 { "null", "" } };

START_TEST(a_command_line_shows_its_words)
{
        json_t *argv = json_loads(commands[_i].json, JSON_DECODE_ANY, NULL);
        char *text = text_of_argv(argv);

        ck_assert_str_eq(text, commands[_i].text);
        free(text);
        json_decref(argv);
}
END_TEST

static const struct {
        const char *json, *text;
} statuses[] = {
        { "{\"state\":\"running\",\"start_usec\":1000000,\"exit\":null}", "running for 4s" },
        { "{\"state\":\"running\",\"start_usec\":9000000,\"exit\":null}",
          "running for 0s" }, /* the clock went back */
        { "{\"state\":\"exited\",\"end_usec\":1000000,\"exit\":{\"known\":true,\"code\":3,\"cause\":\"self\"}"
          "}",
          "exited with 3, 4s ago" },
        { "{\"state\":\"exited\",\"exit\":{\"known\":true,\"signal\":9,\"signal_name\":\"SIGKILL\",\"cause\":"
          "\"stop\"}}",
          "killed by SIGKILL (stop)" },
        { "{\"state\":\"exited\",\"exit\":{\"known\":true,\"signal\":9,\"signal_name\":\"SIGKILL\",\"oom\":"
          "true}}",
          "killed by SIGKILL (out of memory)" },
        { "{\"state\":\"exited\",\"exit\":{\"known\":false}}", "ended, its status is unknown" },
        { "{\"state\":\"exited\",\"tree_empty\":false,\"exit\":{\"known\":true,\"code\":0,\"cause\":\"self\"}"
          "}",
          "exited with 0, descendants left" },
        { "{}", "unknown" },
};

START_TEST(a_status_is_told_in_words)
{
        json_t *status = json_loads(statuses[_i].json, 0, NULL);
        char *text = text_of_status(status, 5000000);

        ck_assert_str_eq(text, statuses[_i].text);
        free(text);
        json_decref(status);
}
END_TEST

START_TEST(a_name_or_else_the_id)
{
        json_t *named = json_pack("{s:i, s:s}", "id", 4, "name", "web");
        json_t *unnamed = json_pack("{s:i, s:n}", "id", 4, "name");
        char *a = text_of_name(named), *b = text_of_name(unnamed);

        ck_assert_str_eq(a, "web");
        ck_assert_str_eq(b, "4");
        free(a);
        free(b);
        json_decref(named);
        json_decref(unnamed);
}
END_TEST

static Suite *text_suite(void) {
        Suite *suite = suite_create("text");
        TCase *all = tcase_create("text");

        tcase_add_loop_test(all, control_characters_are_escaped, 0, ARRAY_SIZE(escapes));
        tcase_add_loop_test(all, a_command_line_shows_its_words, 0, ARRAY_SIZE(commands));
        tcase_add_loop_test(all, a_status_is_told_in_words, 0, ARRAY_SIZE(statuses));
        tcase_add_test(all, a_name_or_else_the_id);
        suite_add_tcase(suite, all);
        return suite;
}

CHECK_MAIN(text_suite);
