/* SPDX-License-Identifier: MIT */

#include "daemon/engine/params.h"

#include <errno.h>
#include <string.h>

#include "tests/support/check-main.h"

static json_t *object;
static Params params;
static Error error;

static void read_params(const char *text) {
        json_decref(object);
        object = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        ck_assert_ptr_nonnull(object);
        error = (Error){};
        ck_assert_int_eq(params_init(&params, object, &error), 0);
}

static void teardown(void) {
        json_decref(object);
        object = NULL;
}

/* Refused, with a sentence that names the member. */
static void is_refused(int r, const char *name) {
        ck_assert_int_eq(r, -EINVAL);
        ck_assert_int_eq(error.code, ERROR_INVALID);
        ck_assert_ptr_nonnull(strstr(error.text, name));
}

START_TEST(params_are_an_object_or_nothing)
{
        json_t *array = json_array();

        ck_assert_int_eq(params_init(&params, array, &error), -EINVAL);
        json_decref(array);
        ck_assert_int_eq(params_init(&params, NULL, &error), 0);
        ck_assert_int_eq(params_allow(&params, "", &error), 0);
        ck_assert_ptr_null(params_get(&params, "x"));
}
END_TEST

START_TEST(members_nobody_asked_for_are_refused)
{
        static const char *const refused[] = { "{\"tar\":1}",    "{\"get\":1}",        "{\"targets\":1}",
                                               "{\"\":1}",       "{\"target key\":1}", "{\"target \":1}",
                                               "{\"Target\":1}", "{\"eof\":null}" };

        read_params("{\"target\":1,\"key\":2,\"keys\":null}");
        ck_assert_int_eq(params_allow(&params, "target key keys", &error), 0);
        ck_assert_int_eq(params_allow(&params, "keys key target", &error), 0);
        is_refused(params_allow(&params, "target key", &error), "keys");
        for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
                read_params(refused[i]);
                is_refused(params_allow(&params, "target key", &error), "");
                is_refused(params_allow(&params, "", &error), "");
        }
}
END_TEST

START_TEST(a_missing_member_leaves_the_value)
{
        static const char *const words[] = { "a", "b", NULL };
        const char *string = "before";
        uint64_t number = 7;
        bool flag = true;
        int choice = 5;

        read_params("{\"n\":null}");
        for (unsigned i = 0; i < 2; i++) {
                const char *name = i == 0 ? "n" : "missing";

                ck_assert_int_eq(params_bool(&params, name, &flag, &error), 0);
                ck_assert_int_eq(params_u64(&params, name, 1, 2, &number, &error), 0);
                ck_assert_int_eq(params_string(&params, name, 3, &string, &error), 0);
                ck_assert_int_eq(params_choice(&params, name, words, &choice, &error), 0);
        }
        ck_assert(flag && number == 7 && choice == 5);
        ck_assert_str_eq(string, "before");
}
END_TEST

START_TEST(numbers_have_bounds)
{
        uint64_t value = 7;

        read_params("{\"low\":9,\"min\":10,\"max\":20,\"high\":21,\"minus\":-1,\"real\":10.0,\"text\":\"10\","
                    "\"huge\":9223372036854775807}");
        ck_assert_int_eq(params_u64(&params, "min", 10, 20, &value, &error), 1);
        ck_assert_uint_eq(value, 10);
        ck_assert_int_eq(params_u64(&params, "max", 10, 20, &value, &error), 1);
        ck_assert_uint_eq(value, 20);
        ck_assert_int_eq(params_u64(&params, "huge", 0, UINT64_MAX, &value, &error), 1);
        ck_assert_uint_eq(value, INT64_MAX);
        is_refused(params_u64(&params, "low", 10, 20, &value, &error), "low");
        is_refused(params_u64(&params, "high", 10, 20, &value, &error), "high");
        is_refused(params_u64(&params, "minus", 0, UINT64_MAX, &value, &error), "minus");
        is_refused(params_u64(&params, "real", 10, 20, &value, &error), "real");
        is_refused(params_u64(&params, "text", 10, 20, &value, &error), "text");
        ck_assert_uint_eq(value, INT64_MAX);
}
END_TEST

START_TEST(booleans_are_true_or_false)
{
        bool value = true;

        read_params("{\"no\":false,\"yes\":true,\"one\":1,\"text\":\"true\"}");
        ck_assert_int_eq(params_bool(&params, "no", &value, &error), 1);
        ck_assert(!value);
        ck_assert_int_eq(params_bool(&params, "yes", &value, &error), 1);
        ck_assert(value);
        is_refused(params_bool(&params, "one", &value, &error), "one");
        is_refused(params_bool(&params, "text", &value, &error), "text");
}
END_TEST

START_TEST(strings_have_bounds_and_no_nul)
{
        const char *value = NULL;

        read_params(
                "{\"three\":\"abc\",\"four\":\"abcd\",\"empty\":\"\",\"nul\":\"a\\u0000b\",\"number\":1}");
        ck_assert_int_eq(params_string(&params, "three", 3, &value, &error), 1);
        ck_assert_str_eq(value, "abc");
        is_refused(params_string(&params, "four", 3, &value, &error), "four");
        is_refused(params_string(&params, "empty", 3, &value, &error), "empty");
        is_refused(params_string(&params, "nul", 3, &value, &error), "nul");
        is_refused(params_string(&params, "number", 3, &value, &error), "number");
}
END_TEST

START_TEST(choices_are_whole_words)
{
        static const char *const words[] = { "main", "group", NULL };
        int value = -1;

        read_params("{\"ok\":\"group\",\"part\":\"gro\",\"more\":\"groups\",\"number\":1}");
        ck_assert_int_eq(params_choice(&params, "ok", words, &value, &error), 1);
        ck_assert_int_eq(value, 1);
        is_refused(params_choice(&params, "part", words, &value, &error), "part");
        is_refused(params_choice(&params, "more", words, &value, &error), "more");
        is_refused(params_choice(&params, "number", words, &value, &error), "number");
}
END_TEST

static Suite *params_suite(void) {
        Suite *suite = suite_create("params");
        TCase *members = tcase_create("members"), *kinds = tcase_create("kinds");

        tcase_add_checked_fixture(members, NULL, teardown);
        tcase_add_checked_fixture(kinds, NULL, teardown);
        tcase_add_test(members, params_are_an_object_or_nothing);
        tcase_add_test(members, members_nobody_asked_for_are_refused);
        tcase_add_test(members, a_missing_member_leaves_the_value);
        tcase_add_test(kinds, numbers_have_bounds);
        tcase_add_test(kinds, booleans_are_true_or_false);
        tcase_add_test(kinds, strings_have_bounds_and_no_nul);
        tcase_add_test(kinds, choices_are_whole_words);
        suite_add_tcase(suite, members);
        suite_add_tcase(suite, kinds);
        return suite;
}

CHECK_MAIN(params_suite);
