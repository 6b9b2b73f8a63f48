/* SPDX-License-Identifier: MIT */

#include "client/libpmux/json-fault.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/macro.h"
#include "tests/support/check-main.h"

static const char *const good[] = {
        "{}",
        "[]",
        "-0",
        "0.5E-7",
        " [1 , -0.5e+10 , true, false, null, \"\\u0000\\\\\\\"\\/\\b\" , {\"a\" : {\"b\" : []}} ] ",
        "\"\\ud83d\\ude00\xc3\xa9\xf0\x9f\x98\x80\x7f\"",
        "{\"a\":1,\"b\":[[],[[]],{}]}",
};

static bool is_json(const char *text, size_t size) {
        json_t *value =
                json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);

        json_decref(value);
        return value;
}

START_TEST(what_is_json_has_none_nor_has_any_beginning_of_it)
{
        size_t size = strlen(good[_i]);

        ck_assert(is_json(good[_i], size));
        ck_assert_uint_eq(json_fault(good[_i], size), size);
        for (size_t n = 0; n < size; n++)
                if (((unsigned char)good[_i][n] & 0xc0) != 0x80) /* a character that is cut is not valid */
                        ck_assert_uint_eq(json_fault(good[_i], n), n);
}
END_TEST

static const struct {
        const char *text;
        size_t fault;
} bad[] = {
        { "hello", 0 },
        { "'a'", 0 },
        { "nul ", 3 },
        { "nullx", 4 },
        { "01", 1 },
        { "1.x", 2 },
        { "1e,", 2 },
        { "-a", 1 },
        { "+1", 0 },
        { ".5", 0 },
        { "{a}", 1 },
        { "{\"a\" 1}", 5 },
        { "{\"a\":}", 5 },
        { "{\"a\":1,}", 7 },
        { "{\"a\":1]", 6 },
        { "[1}", 2 },
        { "[,1]", 1 },
        { "[1 2]", 3 },
        { "[1,]", 3 },
        { "{} {}", 3 },
        { "\"a\nb\"", 2 },
        { "\"\\x41\"", 2 },
        { "\"\\u12g4\"", 5 },
        { "\"a\xff\"", 2 },
        { "\"\\ud800x\"", 1 },
        { "\"\\udc00\"", 1 },
        { "\"\\ud800\\n\"", 1 },
        { "\"\xc3\xa9\" x", 5 },
        { "\"\\ud800\\u0041\"", 1 },
};

START_TEST(the_first_byte_that_cannot_go_on_is_to_blame)
{
        size_t size = strlen(bad[_i].text);

        ck_assert(!is_json(bad[_i].text, size));
        ck_assert_uint_eq(json_fault(bad[_i].text, size), bad[_i].fault);
}
END_TEST

/* Whatever is done to a text, this and jansson agree on whether it is JSON. */
START_TEST(it_finds_a_fault_where_jansson_does)
{
        static const char bytes[] = "{}[]:,\"\\ 0-.eutx\n\xc3";
        char text[128];

        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                for (size_t at = 0; good[i][at]; at++)
                        for (const char *p = bytes; *p; p++) {
                                size_t size = strlen(strcpy(text, good[i]));

                                text[at] = *p;
                                if (is_json(text, size))
                                        ck_assert_uint_eq(json_fault(text, size), size);
                                else /* half of a pair is to blame, not what should have been the other */
                                        ck_assert(json_fault(text, size) >= at || strstr(good[i], "\\ud83d"));
                        }
}
END_TEST

START_TEST(too_deep_is_a_fault)
{
        char text[4000];

        memset(text, '[', sizeof(text));
        ck_assert_uint_eq(json_fault(text, sizeof(text)), 2048);
}
END_TEST

static Suite *json_fault_suite(void) {
        Suite *suite = suite_create("json-fault");
        TCase *tcase = tcase_create("faults");

        tcase_add_loop_test(tcase, what_is_json_has_none_nor_has_any_beginning_of_it, 0, ARRAY_SIZE(good));
        tcase_add_loop_test(tcase, the_first_byte_that_cannot_go_on_is_to_blame, 0, ARRAY_SIZE(bad));
        tcase_add_test(tcase, it_finds_a_fault_where_jansson_does);
        tcase_add_test(tcase, too_deep_is_a_fault);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(json_fault_suite);
