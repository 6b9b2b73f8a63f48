/* SPDX-License-Identifier: MIT */

/* Lines with something before them, however they arrive. */

#include "client/cli/lines.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/support/check-main.h"

static int fds[2];
static int n_fds;
static Output output;
static Lines lines;

static void setup(void) {
        n_fds = open_fds_count();
        (void)signal(SIGPIPE, SIG_IGN);
        ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        output_init(&output, fds[1]);
        lines = (Lines){ .name = strdup("web") };
}

static void teardown(void) {
        lines_deinit(&lines);
        output_deinit(&output);
        fds[0] = fd_close(fds[0]);
        fds[1] = fd_close(fds[1]);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static void add(const char *text) {
        ck_assert_int_eq(lines_add(&lines, &output, 0, text, strlen(text)), 0);
        ck_assert_int_eq(output_settle(&output), 0);
}

static void expect(const char *text) {
        char got[256];
        ssize_t n = read(fds[0], got, sizeof(got) - 1);

        got[n < 0 ? 0 : n] = '\0';
        ck_assert_str_eq(got, text);
}

START_TEST(each_line_gets_the_name)
{
        add("one\ntwo\n\n");
        expect("web | one\nweb | two\nweb | \n");
}
END_TEST

START_TEST(a_line_in_parts_is_written_whole)
{
        add("on");
        expect("");
        add("e");
        add("\ntw");
        expect("web | one\n");
        add("o\n");
        expect("web | two\n");
}
END_TEST

START_TEST(an_unfinished_last_line_is_finished)
{
        add("end");
        ck_assert_int_eq(lines_end(&lines, &output), 0);
        ck_assert_int_eq(output_settle(&output), 0);
        expect("web | end\n");
        ck_assert_int_eq(lines_end(&lines, &output), 0);
        ck_assert_int_eq(output_settle(&output), 0);
        expect("");
}
END_TEST

START_TEST(the_time_is_that_of_the_line_s_beginning)
{
        const uint64_t first = UINT64_C(1700000000123456), second = first + 5000000;
        char got[256];
        ssize_t n;

        lines.with_time = true;
        setenv("TZ", "UTC", 1);
        ck_assert_int_eq(lines_add(&lines, &output, first, "a", 1), 0);
        ck_assert_int_eq(lines_add(&lines, &output, second, "b\n", 2), 0);
        ck_assert_int_eq(output_settle(&output), 0);
        n = read(fds[0], got, sizeof(got) - 1);
        ck_assert_int_gt(n, 0);
        got[n] = '\0';
        ck_assert_str_eq(got, "web | 2023-11-14T22:13:20.123456+00:00 ab\n");
}
END_TEST

START_TEST(an_endless_line_does_not_fill_the_memory)
{
        char part[64 * 1024];

        memset(part, 'x', sizeof(part));
        ck_assert_int_eq(close(fds[0]), 0);
        fds[0] = -1;
        for (int i = 0; i < 100; i++)
                (void)lines_add(&lines, &output, 0, part, sizeof(part));
        ck_assert_uint_le(lines.rest_capacity, 4 * 1024 * 1024);
}
END_TEST

static Suite *lines_suite(void) {
        Suite *suite = suite_create("lines");
        TCase *all = tcase_create("lines");

        tcase_add_checked_fixture(all, setup, teardown);
        tcase_add_test(all, each_line_gets_the_name);
        tcase_add_test(all, a_line_in_parts_is_written_whole);
        tcase_add_test(all, an_unfinished_last_line_is_finished);
        tcase_add_test(all, the_time_is_that_of_the_line_s_beginning);
        tcase_add_test(all, an_endless_line_does_not_fill_the_memory);
        suite_add_tcase(suite, all);
        return suite;
}

CHECK_MAIN(lines_suite);
