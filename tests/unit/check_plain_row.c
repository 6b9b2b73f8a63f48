/* SPDX-License-Identifier: MIT */

/* Rows that are read from a list's text: what is not plain is left alone, and what is plain is what the
 * values would have said. */

#include "client/cli/plain-row.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/text.h"
#include "common/macro.h"
#include "tests/support/check-main.h"

#define PROCESS(members) "{\"id\":12," members "\"run\":1,\"pid\":345,\"start_usec\":1796026197454443}"
#define COMMAND(argv) PROCESS("\"state\":\"running\",\"argv\":" argv ",")

static const struct {
        const char *text, *name;
} plain[] = {
        { COMMAND("[\"/bin/sleep\",\"1000\"]"), NULL },
        { COMMAND("[\"x\"],\"tree_empty\":false"), NULL },
        { COMMAND("[\"a=b\",\"-c\",\"%s!\"],\"name\":\"web.1\""), "web.1" },
};

START_TEST(a_plain_process_is_read_as_its_values_say)
{
        json_t *process = json_loads(plain[_i].text, 0, NULL);
        const char *p = plain[_i].text;
        char *command = text_of_argv(json_object_get(process, "argv"));
        PlainRow row;

        ck_assert(plain_row_read(&row, &p));
        ck_assert_str_eq(p, "");
        ck_assert_str_eq(row.command, command);
        ck_assert_uint_eq(row.start_usec, 1796026197454443);
        ck_assert_int_eq(strncmp(row.id.text, "12,", row.id.size + 1), 0);
        ck_assert_int_eq(strncmp(row.run.text, "1,", row.run.size + 1), 0);
        ck_assert_int_eq(strncmp(row.pid.text, "345,", row.pid.size + 1), 0);
        ck_assert_int_eq(row.name.text != NULL, plain[_i].name != NULL);
        if (plain[_i].name)
                ck_assert_int_eq(strncmp(row.name.text, plain[_i].name, row.name.size), 0);
        free(command);
        json_decref(process);
}
END_TEST

static const char *const others[] = {
        "",
        "]",
        "{}",
        PROCESS("\"state\":\"exited\",\"argv\":[\"x\"],"),
        PROCESS("\"state\":\"running\","),
        PROCESS("\"argv\":[\"x\"],"),
        COMMAND("[]"),
        COMMAND("[\"\"]"),
        COMMAND("[\"sh\",\"-c\",\"a b\"]"),
        COMMAND("[\"a\\tb\"]"),
        COMMAND("[\"caf\xc3\xa9\"]"),
        COMMAND("[\"\x7f\"]"),
        COMMAND("[{\"base64\":\"/w==\"}]"),
        COMMAND("[\"x\"],\"name\":{\"base64\":\"/w==\"}"),
        COMMAND("[\"x\"],\"name\":\"a\\u001bb\""),
        COMMAND("[\"x\"],\"end_usec\":5"),
        COMMAND("[\"x\"],\"id\":-1"),
        COMMAND("[\"x\"],\"id\":0"),
        COMMAND("[\"x\"],\"id\":1234567890123456789"),
        "{\"id\":12,\"state\":\"running\",\"run\":1,\"start_usec\":5,\"argv\":[\"x\"]}",
        "{\"id\":12,\"state\":\"running\",\"run\":1,\"pid\":3,\"start_usec\":5,\"argv\":[\"x\"]",
        "{\"id\":12,\"state\":\"running\",\"run\":1,\"pid\":3,\"start_usec\":5,\"argv\":[\"x",
};

START_TEST(what_is_not_plain_is_left_to_others)
{
        const char *p = others[_i];
        PlainRow row;

        ck_assert(!plain_row_read(&row, &p));
        ck_assert_ptr_eq(p, others[_i]);
}
END_TEST

START_TEST(a_command_that_is_too_long_is_left_to_others)
{
        static char text[2 * PLAIN_COMMAND_SIZE];
        size_t longest = 0;
        const char *p;
        PlainRow row;

        for (size_t n = 1; n < PLAIN_COMMAND_SIZE + 10; n++) {
                char word[PLAIN_COMMAND_SIZE + 16] = "";

                memset(word, 'w', n);
                (void)snprintf(text, sizeof(text), COMMAND("[\"%s\"]"), word);
                p = text;
                if (plain_row_read(&row, &p)) {
                        longest = n;
                        ck_assert_str_eq(row.command, word);
                }
        }
        ck_assert_uint_eq(longest, PLAIN_COMMAND_SIZE - 2);
}
END_TEST

static Suite *plain_row_suite(void) {
        Suite *suite = suite_create("plain-row");
        TCase *all = tcase_create("plain-row");

        tcase_add_loop_test(all, a_plain_process_is_read_as_its_values_say, 0, ARRAY_SIZE(plain));
        tcase_add_loop_test(all, what_is_not_plain_is_left_to_others, 0, ARRAY_SIZE(others));
        tcase_add_test(all, a_command_that_is_too_long_is_left_to_others);
        suite_add_tcase(suite, all);
        return suite;
}

CHECK_MAIN(plain_row_suite);
