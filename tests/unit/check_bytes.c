/* SPDX-License-Identifier: MIT */

#include "common/bytes.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "tests/support/check-main.h"

static const struct {
        const char *data;
        size_t size;
        const char *text;
} pairs[] = {
        { "", 0, "" },
        { "f", 1, "Zg==" },
        { "fo", 2, "Zm8=" },
        { "foo", 3, "Zm9v" },
        { "foob", 4, "Zm9vYg==" },
        { "fooba", 5, "Zm9vYmE=" },
        { "foobar", 6, "Zm9vYmFy" },
        { "\0", 1, "AA==" },
        { "\xff\xff\xff", 3, "////" },
        { "\xfb\xef\xbe", 3, "++++" },
        { "\xff\xfe", 2, "//4=" },
};

static const char *const not_base64[] = {
        "A",    "AB",   "ABC",  "ABCDE",    "=",        "==",     "===",    "====",
        "A===", "AA=A", "=AAA", "AA==AAAA", "AAA=AAAA", "AA==\n", "AAAA\n", " AAAA",
        "AA A", "AAA-", "AAA_", "AAA\x80",  "AAA!",     "Zh==",   "Zm9=",   "/+8@",
};

START_TEST(base64_goes_both_ways)
{
        char *text = base64_encode(pairs[_i].data, pairs[_i].size);
        Bytes bytes = {};

        ck_assert_str_eq(text, pairs[_i].text);
        ck_assert_int_eq(base64_decode(text, strlen(text), &bytes), 0);
        ck_assert_uint_eq(bytes.size, pairs[_i].size);
        ck_assert_mem_eq(bytes.data, pairs[_i].data, bytes.size);
        ck_assert_int_eq(bytes.data[bytes.size], '\0');
        bytes_deinit(&bytes);
        ck_assert_ptr_null(bytes.data);
        free(text);
}
END_TEST

START_TEST(base64_is_read_strictly)
{
        Bytes bytes = { .data = (char *)pairs, .size = 77 };

        ck_assert_int_eq(base64_decode(not_base64[_i], strlen(not_base64[_i]), &bytes), -EINVAL);
        ck_assert_ptr_eq(bytes.data, (char *)pairs);
        ck_assert_uint_eq(bytes.size, 77);
}
END_TEST

START_TEST(a_nul_is_no_base64)
{
        Bytes bytes;

        ck_assert_int_eq(base64_decode("AA\0A", 4, &bytes), -EINVAL);
        ck_assert_int_eq(base64_decode("AAA\0", 4, &bytes), -EINVAL);
}
END_TEST

START_TEST(what_cannot_be_encoded_for_its_size_is_refused)
{
        ck_assert_ptr_null(base64_encode("x", SIZE_MAX));
        ck_assert_ptr_null(base64_encode("x", SIZE_MAX / 2 + SIZE_MAX / 4));
}
END_TEST

static void assert_round_trip(const void *data, size_t size) {
        json_t *json = bytes_to_json(data, size), *again;
        Bytes bytes = {};
        char *text;

        ck_assert_ptr_nonnull(json);
        text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
        ck_assert_ptr_nonnull(text);
        again = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        ck_assert_ptr_nonnull(again);
        ck_assert_int_eq(bytes_from_json(again, "data", &bytes, NULL), 0);
        ck_assert_uint_eq(bytes.size, size);
        ck_assert_mem_eq(bytes.data, data, size);
        bytes_deinit(&bytes);
        free(text);
        json_decref(again);
        json_decref(json);
}

START_TEST(any_bytes_come_back_over_the_wire)
{
        unsigned char data[512] = { 0 };
        uint32_t seed = 1;

        for (size_t size = 0; size < 300; size++) {
                for (size_t i = 0; i < size; i++) {
                        seed = seed * 1103515245 + 12345;
                        data[i] = (unsigned char)(seed >> 16);
                }
                assert_round_trip(data, size);
        }
        for (unsigned c = 0; c < 256; c++) {
                data[0] = (unsigned char)c;
                assert_round_trip(data, 1);
        }
}
END_TEST

/* Every code point, and all that is next to one: what we call UTF-8 must be what the JSON writer takes. */
START_TEST(every_character_is_a_string)
{
        unsigned char data[4];

        for (uint32_t c = 0x80; c <= 0x10ffff; c += c < 0x900 ? 1 : 17) {
                size_t size = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
                json_t *json;
                char *text;

                for (size_t i = size - 1, rest = c; i > 0; i--, rest >>= 6)
                        data[i] = 0x80 | (rest & 0x3f);
                data[0] = (unsigned char)((0xf0 << (4 - size)) | (c >> (6 * (size - 1))));
                json = bytes_to_json(data, size);
                ck_assert_int_eq(json_is_string(json), c < 0xd800 || c > 0xdfff);
                text = json_dumps(json, JSON_ENCODE_ANY);
                ck_assert_ptr_nonnull(text);
                free(text);
                json_decref(json);
        }
}
END_TEST

START_TEST(text_is_a_string_and_other_bytes_are_base64)
{
        json_t *json;

        json = bytes_to_json("a\0b", 3);
        ck_assert_uint_eq(json_string_length(json), 3);
        json_decref(json);
        json = bytes_to_json(NULL, 0);
        ck_assert_str_eq(json_string_value(json), "");
        json_decref(json);
        json = bytes_to_json("\xff\xfe", 2);
        ck_assert_uint_eq(json_object_size(json), 1);
        ck_assert_str_eq(json_string_value(json_object_get(json, "base64")), "//4=");
        json_decref(json);
        json = bytes_string_to_json(NULL);
        ck_assert(json_is_null(json));
        json_decref(json);
        json = bytes_string_to_json("x");
        ck_assert_str_eq(json_string_value(json), "x");
        json_decref(json);
}
END_TEST

static const char *const not_bytes[] = {
        "1",
        "null",
        "true",
        "[]",
        "[\"x\"]",
        "{}",
        "{\"base64\":1}",
        "{\"base64\":null}",
        "{\"base64\":\"A\"}",
        "{\"base64\":\"AA==\",\"x\":1}",
        "{\"Base64\":\"AA==\"}",
        "{\"base64\":\"AA\\u0000A\"}",
};

START_TEST(other_json_is_refused_by_name)
{
        json_t *json = json_loads(not_bytes[_i], JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        Bytes bytes = { .size = 77 };
        Error error = {};

        ck_assert_ptr_nonnull(json);
        ck_assert_int_eq(bytes_from_json(json, "argv[2]", &bytes, &error), -EINVAL);
        ck_assert_int_eq(error.code, ERROR_INVALID);
        ck_assert_ptr_nonnull(strstr(error.text, "'argv[2]'"));
        ck_assert_uint_eq(bytes.size, 77);
        ck_assert_int_eq(bytes_from_json(json, "argv[2]", &bytes, NULL), -EINVAL);
        json_decref(json);
}
END_TEST

START_TEST(nothing_at_all_is_refused)
{
        Bytes bytes;

        ck_assert_int_eq(bytes_from_json(NULL, "data", &bytes, NULL), -EINVAL);
}
END_TEST

START_TEST(a_string_has_no_nul_inside)
{
        static const char *const bad[] = { "\"a\\u0000b\"", "\"\\u0000\"", "{\"base64\":\"AA==\"}" };
        char *string = NULL;
        json_t *json;
        Error error;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                json = json_loads(bad[i], JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
                error = (Error){};
                ck_assert_int_eq(bytes_string_from_json(json, "cwd", &string, &error), -EINVAL);
                ck_assert_str_eq(error.text, "'cwd' contains a NUL character");
                ck_assert_ptr_null(string);
                json_decref(json);
        }
        json = json_loads("{\"base64\":\"/w==\"}", 0, NULL);
        ck_assert_int_eq(bytes_string_from_json(json, "cwd", &string, NULL), 0);
        ck_assert_str_eq(string, "\xff");
        free(string);
        json_decref(json);
        json = json_string("");
        ck_assert_int_eq(bytes_string_from_json(json, "cwd", &string, NULL), 0);
        ck_assert_str_eq(string, "");
        free(string);
        json_decref(json);
}
END_TEST

static Suite *bytes_suite(void) {
        Suite *suite = suite_create("bytes");
        TCase *base64 = tcase_create("base64"), *json = tcase_create("json");

        tcase_add_loop_test(base64, base64_goes_both_ways, 0, ARRAY_SIZE(pairs));
        tcase_add_loop_test(base64, base64_is_read_strictly, 0, ARRAY_SIZE(not_base64));
        tcase_add_test(base64, a_nul_is_no_base64);
        tcase_add_test(base64, what_cannot_be_encoded_for_its_size_is_refused);
        tcase_set_timeout(json, 30);
        tcase_add_test(json, any_bytes_come_back_over_the_wire);
        tcase_add_test(json, every_character_is_a_string);
        tcase_add_test(json, text_is_a_string_and_other_bytes_are_base64);
        tcase_add_loop_test(json, other_json_is_refused_by_name, 0, ARRAY_SIZE(not_bytes));
        tcase_add_test(json, nothing_at_all_is_refused);
        tcase_add_test(json, a_string_has_no_nul_inside);
        suite_add_tcase(suite, base64);
        suite_add_tcase(suite, json);
        return suite;
}

CHECK_MAIN(bytes_suite);
