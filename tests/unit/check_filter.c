/* SPDX-License-Identifier: MIT */

/* What is done to bytes before they are printed: what comes out, and who is told that it cannot. */

#include "client/cli/filter.h"

#include <errno.h>
#include <string.h>

#include "tests/support/check-main.h"

static char out[256];
static int fn_result;
static Filter filter;

static int take(void *userdata, const void *data, size_t size) {
        (void)userdata;
        (void)strncat(out, data, size);
        return fn_result;
}

static void start(FilterOptions options) {
        *out = '\0';
        fn_result = 0;
        ck_assert_int_eq(filter_init(&filter, &options, take, NULL, NULL), 0);
}

static int add(uint64_t offset, const char *text, PmuxError *ret_error) {
        return filter_add(&filter, offset, text, strlen(text), ret_error);
}

static const FilterOptions kinds[] = {
        {}, { .as_json = true }, { .encoding = "latin-1" }, { .encoding = "UTF-8", .as_json = true }
};

START_TEST(who_cannot_write_says_so_alone)
{
        PmuxError error;

        start(kinds[_i]);
        fn_result = -EIO;
        memset(&error, 'x', sizeof(error));
        ck_assert_int_eq(add(0, "[1]\n", &error), -EIO);
        ck_assert_str_eq(error.code, "");
        filter_deinit(&filter);
}
END_TEST

START_TEST(a_value_does_not_go_on_behind_a_gap)
{
        PmuxError error;

        start((FilterOptions){ .as_json = true });
        ck_assert_int_eq(add(0, "[0]\n", &error), 0);
        ck_assert_int_eq(filter_gap(&filter, &error), 0);
        ck_assert_int_eq(add(100, "[1, ", &error), 0);
        ck_assert_int_eq(filter_gap(&filter, &error), -EILSEQ);
        ck_assert_ptr_nonnull(strstr(error.message, "offset 100 "));
        ck_assert_int_eq(add(200, "2]", &error), -EILSEQ);
        ck_assert_str_eq(out, "[0]\n");
        filter_deinit(&filter);
}
END_TEST

START_TEST(a_character_does_not_go_on_behind_a_gap)
{
        PmuxError error;

        start((FilterOptions){ .encoding = "UTF-8" });
        ck_assert_int_eq(add(0, "a\xc3", &error), 0);
        ck_assert_int_eq(filter_gap(&filter, &error), 0);
        ck_assert_int_eq(add(100, "\xa9z", &error), 0);
        ck_assert_str_eq(out, "a\xef\xbf\xbd\xef\xbf\xbdz");
        filter_deinit(&filter);
}
END_TEST

START_TEST(the_order_of_bytes_is_kept_over_a_gap)
{
        PmuxError error;

        start((FilterOptions){ .encoding = "UTF-16" });
        ck_assert_int_eq(filter_add(&filter, 0, "\xfe\xff\0a", 4, &error), 0);
        ck_assert_int_eq(filter_gap(&filter, &error), 0);
        ck_assert_int_eq(filter_add(&filter, 100, "\0b", 2, &error), 0);
        ck_assert_str_eq(out, "ab");
        filter_deinit(&filter);
}
END_TEST

static Suite *filter_suite(void) {
        Suite *suite = suite_create("filter");
        TCase *tcase = tcase_create("what comes out");

        tcase_add_loop_test(tcase, who_cannot_write_says_so_alone, 0, ARRAY_SIZE(kinds));
        tcase_add_test(tcase, a_value_does_not_go_on_behind_a_gap);
        tcase_add_test(tcase, a_character_does_not_go_on_behind_a_gap);
        tcase_add_test(tcase, the_order_of_bytes_is_kept_over_a_gap);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(filter_suite);
