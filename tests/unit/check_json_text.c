/* SPDX-License-Identifier: MIT */

#include "common/json-text.h"

#include <string.h>

#include "common/macro.h"
#include "tests/support/check-main.h"

static void expect(JsonText *text, const char *expected) {
        ck_assert(!json_text_failed(text));
        ck_assert_uint_eq(text->size, strlen(expected));
        ck_assert(memcmp(text->data, expected, text->size) == 0);
        json_text_deinit(text);
}

START_TEST(numbers_of_any_size_are_written)
{
        JsonText text = {};

        json_text_number(&text, 0);
        json_text_literal(&text, ",");
        json_text_number(&text, 10);
        json_text_literal(&text, ",");
        json_text_number(&text, UINT64_MAX);
        expect(&text, "0,10,18446744073709551615");
}
END_TEST

static const struct {
        const char *string, *expected;
} strings[] = {
        { NULL, "null" },
        { "", "\"\"" },
        { "a ~", "\"a ~\"" },
        { "a\"b\\c\n", "\"a\\\"b\\\\c\\n\"" },
        { "\x7f", "\"\x7f\"" },
        { "\xc3\xa4", "\"\xc3\xa4\"" },
        { "\xff", "{\"base64\":\"/w==\"}" },
};

START_TEST(bytes_are_a_string_where_they_are_text)
{
        JsonText text = {};

        json_text_bytes(&text, strings[_i].string);
        expect(&text, strings[_i].expected);
}
END_TEST

START_TEST(a_long_text_grows_and_stays_whole)
{
        JsonText text = {};

        for (unsigned i = 0; i < 100000; i++)
                json_text_bool(&text, i % 2 == 0);
        ck_assert(!json_text_failed(&text));
        ck_assert_uint_eq(text.size, 50000 * strlen("truefalse"));
        ck_assert(memcmp(text.data + text.size - 9, "truefalse", 9) == 0);
        json_text_deinit(&text);
}
END_TEST

START_TEST(a_value_that_could_not_be_made_fails_the_text_for_good)
{
        JsonText text = {};

        json_text_value(&text, json_pack("[i]", 1));
        json_text_value(&text, NULL);
        json_text_literal(&text, "more");
        ck_assert(json_text_failed(&text));
        ck_assert_uint_eq(text.size, 3);
        json_text_deinit(&text);
}
END_TEST

static Suite *json_text_suite(void) {
        Suite *suite = suite_create("json-text");
        TCase *tcase = tcase_create("writing");

        tcase_add_test(tcase, numbers_of_any_size_are_written);
        tcase_add_loop_test(tcase, bytes_are_a_string_where_they_are_text, 0, ARRAY_SIZE(strings));
        tcase_add_test(tcase, a_long_text_grows_and_stays_whole);
        tcase_add_test(tcase, a_value_that_could_not_be_made_fails_the_text_for_good);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(json_text_suite);
