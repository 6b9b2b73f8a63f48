/* SPDX-License-Identifier: MIT */

#include "daemon/engine/request-key.h"

#include <errno.h>
#include <string.h>

#include "tests/support/check-main.h"

static uint64_t digest(const char *method, const char *text, const char *except) {
        json_t *object = json_loads(text, JSON_ALLOW_NUL, NULL);
        Params params;
        uint64_t sum;

        ck_assert_ptr_nonnull(object);
        ck_assert_int_eq(params_init(&params, object, NULL), 0);
        sum = request_digest(method, &params, except);
        json_decref(object);
        return sum;
}

START_TEST(what_asks_for_the_same_has_the_same)
{
        static const char *const rows[][2] = {
                { "{}", "{}" },
                { "{\"a\":1,\"b\":[2,\"x\"]}", "{\"b\": [2, \"x\"], \"a\": 1}" },
                { "{\"a\":\"text\"}", "{\"a\":{\"base64\":\"dGV4dA==\"}}" },
                { "{\"a\":1,\"key\":\"k\"}", "{\"a\":1,\"key\":\"l\",\"timeout_usec\":5}" },
                { "{\"argv\":[\"a\",{\"base64\":\"/w==\"}]}",
                  "{\"argv\":[{\"base64\":\"YQ==\"},{\"base64\":\"/w==\"}]}" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                ck_assert_uint_eq(digest("m", rows[i][0], "key timeout_usec"),
                                  digest("m", rows[i][1], "key timeout_usec"));
}
END_TEST

START_TEST(what_asks_for_another_thing_has_another)
{
        static const char *const texts[] = {
                "{}",
                "{\"a\":1}",
                "{\"a\":2}",
                "{\"b\":1}",
                "{\"a\":1,\"b\":1}",
                "{\"a\":true}",
                "{\"a\":false}",
                "{\"a\":null}",
                "{\"a\":\"1\"}",
                "{\"a\":\"\"}",
                "{\"a\":\"\\u0000\"}",
                "{\"a\":\"\\u0000\\u0000\"}",
                "{\"a\":[]}",
                "{\"a\":{}}",
                "{\"a\":[\"x\",\"y\"]}",
                "{\"a\":[\"y\",\"x\"]}",
                "{\"a\":[\"xy\"]}",
                "{\"a\":[[\"x\"],\"y\"]}",
                "{\"a\":{\"key\":1}}",
                "{\"a\":{\"key\":2}}",
                "{\"a\":1.0}",
                "{\"a\":\"0123456789abcdef\"}",
                "{\"a\":\"0123456789abcdeg\"}",
                "{\"ke\":1}",
        };

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                ck_assert_uint_ne(digest("m", texts[i], "key"), digest("n", texts[i], "key"));
                ck_assert_uint_ne(digest("m", texts[i], "key"), 0);
                for (size_t j = i + 1; j < ARRAY_SIZE(texts); j++)
                        ck_assert_msg(digest("m", texts[i], "key") != digest("m", texts[j], "key"), "%s %s",
                                      texts[i], texts[j]);
        }
        ck_assert_uint_ne(request_digest_data(1, "a", 1), request_digest_data(1, "b", 1));
}
END_TEST

START_TEST(the_refusal_names_the_key)
{
        Error error = {};

        ck_assert_int_eq(request_key_taken("mine", &error), -EINVAL);
        ck_assert_ptr_nonnull(strstr(error.text, "'mine'"));
}
END_TEST

static Suite *request_key_suite(void) {
        Suite *suite = suite_create("request-key");
        TCase *tcase = tcase_create("digests");

        tcase_add_test(tcase, what_asks_for_the_same_has_the_same);
        tcase_add_test(tcase, what_asks_for_another_thing_has_another);
        tcase_add_test(tcase, the_refusal_names_the_key);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(request_key_suite);
