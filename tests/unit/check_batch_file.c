/* SPDX-License-Identifier: MIT */

#include "client/cli/batch-file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/support/check-main.h"

static int n_fds;

static void setup(void) {
        n_fds = open_fds_count();
}

static void teardown(void) {
        ck_assert_int_eq(open_fds_count(), n_fds);
}

/* Reads a text as if it were a file; it must fit into a pipe. */
static int read_text(BatchFile *ret_file, const char *text, size_t size, bool shell, Error *reterr_error) {
        int fds[2], r;

        ck_assert_int_eq(pipe(fds), 0);
        ck_assert_int_eq(write(fds[1], text, size), (ssize_t)size);
        (void)close(fds[1]);
        r = batch_file_read(ret_file, fds[0], "f", shell, reterr_error);
        (void)close(fds[0]);
        return r;
}

static void see_argv(const BatchFile *file, size_t i, const char *expected) {
        json_auto_t *argv = batch_file_argv(file, i);
        char *text = json_dumps(argv, JSON_COMPACT);

        ck_assert_str_eq(text, expected);
        free(text);
}

START_TEST(commands_know_their_lines)
{
        static const char text[] = "a b\n\n# c\n \t# d\n'e  f' # g\n[\"h\", \"i j\"]\n[ -f k ]\nlast";
        CLEANUP(batch_file_deinit) BatchFile file = {};

        ck_assert_int_eq(read_text(&file, text, strlen(text), false, NULL), 0);
        ck_assert_uint_eq(file.n, 5);
        ck_assert_uint_eq(file.commands[0].line, 1);
        ck_assert_uint_eq(file.commands[1].line, 5);
        ck_assert_uint_eq(file.commands[4].line, 8);
        see_argv(&file, 0, "[\"a\",\"b\"]");
        see_argv(&file, 1, "[\"e  f\"]");
        see_argv(&file, 2, "[\"h\",\"i j\"]");
        see_argv(&file, 3, "[\"[\",\"-f\",\"k\",\"]\"]");
        see_argv(&file, 4, "[\"last\"]");
}
END_TEST

START_TEST(a_file_may_be_empty)
{
        CLEANUP(batch_file_deinit) BatchFile file = {};

        ck_assert_int_eq(read_text(&file, "", 0, false, NULL), 0);
        ck_assert_uint_eq(file.n, 0);
}
END_TEST

START_TEST(lines_for_the_shell_stay_whole)
{
        static const char text[] = "# no\n  echo 'x | y\n[\"z\"]\n";
        CLEANUP(batch_file_deinit) BatchFile file = {};

        ck_assert_int_eq(read_text(&file, text, strlen(text), true, NULL), 0);
        ck_assert_uint_eq(file.n, 2);
        see_argv(&file, 0, "[\"/bin/sh\",\"-c\",\"  echo 'x | y\",\"sh\"]");
        see_argv(&file, 1, "[\"/bin/sh\",\"-c\",\"[\\\"z\\\"]\",\"sh\"]");
}
END_TEST

typedef struct Bad {
        const char *text;
        size_t size;
        const char *where;
} Bad;

static const Bad bads[] = {
        { "ok\necho 'a", 10, "f:2:6: " }, { "\xc3\xa4 \"b", 5, "f:1:3: " }, /* a character is one column */
        { "ok\n\na\\", 6, "f:3:2: " },    { "[\"a\", 1]", 8, "f:1:1: 'word 2'" },
        { "[\"a\" \"b\"]", 9, "f:1:" },   { "[]", 2, "f:1:1: " },
        { "x\0y", 3, "f:1:2: " },
};

START_TEST(what_is_wrong_is_named_with_line_and_column)
{
        BatchFile file = {};
        Error error = {};

        ck_assert_int_eq(read_text(&file, bads[_i].text, bads[_i].size, false, &error), -EINVAL);
        ck_assert_int_eq(error.code, ERROR_INVALID);
        ck_assert_msg(strncmp(error.text, bads[_i].where, strlen(bads[_i].where)) == 0, "%s", error.text);
        ck_assert_ptr_null(file.text);
}
END_TEST

START_TEST(a_file_that_cannot_be_read_is_an_error)
{
        BatchFile file = {};
        Error error = {};

        ck_assert_int_eq(batch_file_read(&file, -1, "f", false, &error), -EBADF);
        ck_assert_int_eq(error.errno_value, EBADF);
}
END_TEST

static Suite *batch_file_suite(void) {
        Suite *suite = suite_create("batch-file");
        TCase *tcase = tcase_create("lines");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, commands_know_their_lines);
        tcase_add_test(tcase, a_file_may_be_empty);
        tcase_add_test(tcase, lines_for_the_shell_stay_whole);
        tcase_add_loop_test(tcase, what_is_wrong_is_named_with_line_and_column, 0, (int)ARRAY_SIZE(bads));
        tcase_add_test(tcase, a_file_that_cannot_be_read_is_an_error);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(batch_file_suite);
