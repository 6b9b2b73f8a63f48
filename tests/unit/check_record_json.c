/* SPDX-License-Identifier: MIT */

/* Records as lines of JSON: always valid, and no character cut in two. */

#include "client/cli/record-json.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/macro.h"
#include "tests/support/check-main.h"

static char *text; /* what was printed */
static size_t text_size;
static FILE *saved;
static RecordJson json;

static void setup(void) {
        saved = stdout;
        stdout = open_memstream(&text, &text_size);
        ck_assert_ptr_nonnull(stdout);
        json = (RecordJson){};
}

static void teardown(void) {
        ck_assert_int_eq(fclose(stdout), 0);
        stdout = saved;
        free(text);
        record_json_deinit(&json);
}

static void data(PmuxSource source, uint64_t offset, const char *bytes, size_t size) {
        const PmuxRecord record = {
                .kind = PMUX_DATA, .source = source, .offset = offset, .run = 1, .data = bytes, .size = size
        };

        record_json_print(&json, &record);
}

/* The n-th line that was printed, as an object; a new reference. */
static json_t *line(size_t n) {
        const char *p;

        ck_assert_int_eq(fflush(stdout), 0);
        p = text;
        while (n-- > 0) {
                p = strchr(p, '\n');
                ck_assert_ptr_nonnull(p);
                p++;
        }
        ck_assert_str_ne(p, "");
        return json_loadb(p, strcspn(p, "\n"), 0, NULL);
}

static void expect_data(size_t n, const char *type, json_int_t offset, const char *expected) {
        json_t *object = line(n);

        ck_assert(json_is_object(object));
        ck_assert_int_eq(json_integer_value(json_object_get(object, "schema")), 1);
        ck_assert_str_eq(json_string_value(json_object_get(object, "type")), type);
        ck_assert_int_eq(json_integer_value(json_object_get(object, "offset")), offset);
        ck_assert_str_eq(json_string_value(json_object_get(object, "data")), expected);
        json_decref(object);
}

START_TEST(a_cut_character_is_put_together)
{
        data(PMUX_STDOUT, 0, "a\xe2\x82", 3);
        data(PMUX_STDOUT, 3,
             "\xac"
             "b",
             2);
        expect_data(0, "stdout", 0, "a");
        expect_data(1, "stdout", 1,
                    "\xe2\x82\xac"
                    "b");
}
END_TEST

START_TEST(a_character_in_single_bytes_is_put_together)
{
        data(PMUX_STDOUT, 10, "\xf0", 1);
        data(PMUX_STDOUT, 11, "\x9f", 1);
        data(PMUX_STDOUT, 12, "\x98", 1);
        data(PMUX_STDOUT, 13, "\x80", 1);
        expect_data(0, "stdout", 10, "\xf0\x9f\x98\x80");
}
END_TEST

START_TEST(the_other_stream_does_not_come_between)
{
        data(PMUX_STDOUT, 0, "\xc3", 1);
        data(PMUX_STDERR, 1, "!", 1);
        data(PMUX_STDOUT, 2, "\xa9", 1);
        expect_data(0, "stderr", 1, "!");
        expect_data(1, "stdout", 0, "\xc3\xa9");
}
END_TEST

START_TEST(what_is_never_completed_goes_out_at_the_end)
{
        const PmuxRecord end = { .kind = PMUX_EXIT, .run = 1, .offset = 2 };
        json_t *object;

        data(PMUX_STDOUT, 0, "a\xc3", 2);
        record_json_print(&json, &end);
        expect_data(0, "stdout", 0, "a");
        object = line(1);
        ck_assert_str_eq(json_string_value(json_object_get(json_object_get(object, "data"), "base64")),
                         "ww==");
        json_decref(object);
        object = line(2);
        ck_assert_str_eq(json_string_value(json_object_get(object, "type")), "exit");
        json_decref(object);
}
END_TEST

START_TEST(other_bytes_are_base64_at_once)
{
        json_t *object;

        data(PMUX_STDOUT, 0, "\xff\xc3", 2);
        object = line(0);
        ck_assert_str_eq(json_string_value(json_object_get(json_object_get(object, "data"), "base64")),
                         "/8M=");
        json_decref(object);
}
END_TEST

START_TEST(an_exit_tells_code_or_signal)
{
        const PmuxRecord killed = { .kind = PMUX_EXIT, .value = 9 << 8 };
        const PmuxRecord unknown = { .kind = PMUX_EXIT, .value = 1 << 17 };
        json_t *object;

        record_json_print(&json, &killed);
        record_json_print(&json, &unknown);
        object = line(0);
        ck_assert(json_is_null(json_object_get(object, "code")));
        ck_assert_str_eq(json_string_value(json_object_get(object, "signal_name")), "SIGKILL");
        json_decref(object);
        object = line(1);
        ck_assert(json_is_false(json_object_get(object, "known")));
        ck_assert(json_is_null(json_object_get(object, "code")));
        json_decref(object);
}
END_TEST

static const struct {
        const char *bytes;
        size_t cut;
} cuts[] = { { "", 0 },         { "a", 0 },        { "\xc3", 1 }, { "a\xc3", 1 },
             { "\xc3\xa9", 0 }, { "\xe2\x82", 2 }, { "\xe2", 1 }, { "\xf0\x9f\x98", 3 },
             { "\x80", 0 },     { "\xc0", 0 },     { "\xf8", 0 }, { "\x80\x80\x80\x80", 0 } };

START_TEST(the_cut_is_where_a_character_begins)
{ ck_assert_uint_eq(record_cut((const uint8_t *)cuts[_i].bytes, strlen(cuts[_i].bytes)), cuts[_i].cut); }
END_TEST

static Suite *record_json_suite(void) {
        Suite *suite = suite_create("record-json");
        TCase *lines = tcase_create("lines"), *cutting = tcase_create("cutting");

        tcase_add_checked_fixture(lines, setup, teardown);
        tcase_add_test(lines, a_cut_character_is_put_together);
        tcase_add_test(lines, a_character_in_single_bytes_is_put_together);
        tcase_add_test(lines, the_other_stream_does_not_come_between);
        tcase_add_test(lines, what_is_never_completed_goes_out_at_the_end);
        tcase_add_test(lines, other_bytes_are_base64_at_once);
        tcase_add_test(lines, an_exit_tells_code_or_signal);
        suite_add_tcase(suite, lines);
        tcase_add_loop_test(cutting, the_cut_is_where_a_character_begins, 0, ARRAY_SIZE(cuts));
        suite_add_tcase(suite, cutting);
        return suite;
}

CHECK_MAIN(record_json_suite);
