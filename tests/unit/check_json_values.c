/* SPDX-License-Identifier: MIT */

/* JSON values, however their bytes are cut into pieces. */

#include "client/libpmux/pmux-text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/libpmux/pmux.h"
#include "common/macro.h"
#include "tests/support/check-main.h"

#define BASE 500

static char lines[1024];
static uint64_t offsets[32];
static size_t n_values;

static int on_value(const char *value, size_t size, uint64_t offset, void *userdata) {
        (void)userdata;
        ck_assert_uint_eq(strlen(value), size);
        offsets[n_values++] = offset;
        (void)strcat(strcat(lines, value), "\n");
        return 0;
}

/* Splits a text cut at 'cut', or byte by byte with -1. */
static int split(const char *data, int cut, size_t max_bytes, PmuxError *reterr_error) {
        size_t at = 0, n, size = strlen(data);
        PmuxJson *json = NULL;
        int r = 0;

        *lines = '\0';
        n_values = 0;
        ck_assert_int_eq(pmux_json_new(&json, max_bytes, on_value, NULL, NULL), 0);
        while (at < size && r == 0) {
                n = cut < 0 ? 1 : at < (size_t)cut ? (size_t)cut - at : size - at;
                r = pmux_json_feed(json, BASE + at, data + at, n, reterr_error);
                at += n;
        }
        if (r == 0)
                r = pmux_json_end(json, reterr_error);
        ck_assert_ptr_null(pmux_json_free(json));
        return r;
}

static const struct {
        const char *data;
        const char *lines;
        int offsets[4];
} good[] = {
        { "", "", {} },
        { " \n\t\r\n", "", {} },
        { "{\"a\": 1}\n{\"b\" : [1, 2,\n 3]}\n", "{\"a\":1}\n{\"b\":[1,2,3]}\n", { 0, 9 } },
        { "{}[]\"x\"{}", "{}\n[]\n\"x\"\n{}\n", { 0, 2, 4, 7 } },
        { "1 2\n3", "1\n2\n3\n", { 0, 2, 4 } },
        { "true[null]false", "true\n[null]\nfalse\n", { 0, 4, 10 } },
        { "1.10 12345678901234567890123 -0", "1.10\n12345678901234567890123\n-0\n", { 0, 5, 29 } },
        { "1e400 [-1E999, 2]", "1e400\n[-1E999,2]\n", { 0, 6 } },
        { "{\"\\u0000\": 1, \"a\": 1, \"a\": 2}", "{\"\\u0000\":1,\"a\":1,\"a\":2}\n", { 0 } },
        { " \"a \\\" } b\\\\\" {\"k \\\\\" : \"} {\"}",
          "\"a \\\" } b\\\\\"\n{\"k \\\\\":\"} {\"}\n",
          { 1, 14 } },
        { "[\"h\xc3\xa9 \xf0\x9f\x98\x80\"]", "[\"h\xc3\xa9 \xf0\x9f\x98\x80\"]\n", { 0 } },
        { "{\"a\":{\"b\":[{\"c\":[[]]}]}} 7", "{\"a\":{\"b\":[{\"c\":[[]]}]}}\n7\n", { 0, 25 } },
};

START_TEST(no_cut_changes_the_values)
{
        for (int cut = -1; cut <= (int)strlen(good[_i].data); cut++) {
                ck_assert_int_eq(split(good[_i].data, cut, 0, NULL), 0);
                ck_assert_msg(strcmp(lines, good[_i].lines) == 0, "cut at %d: %s", cut, lines);
                for (size_t i = 0; i < n_values; i++)
                        ck_assert_uint_eq(offsets[i], BASE + good[_i].offsets[i]);
        }
}
END_TEST

static const struct {
        const char *data;
        const char *lines; /* what comes before the error */
        int offset;        /* of the byte to blame */
} bad[] = {
        { "{\"a\":1}\nhello world\n{\"b\":2}", "{\"a\":1}\n", 8 },
        { "[1,]", "", 3 },
        { "[1 2]", "", 3 },
        { "}", "", 0 },
        { "1,2", "1\n", 1 },
        { " {\"a\":1", "", 1 }, /* it ends too early */
        { "\"open", "", 0 },
        { "{} truefalse", "{}\n", 7 },
        { "[\"\xff\"]", "", 2 },
        { "{]", "", 1 },
        { "[1e999 x]", "", 7 },
        { "1e999x", "", 5 },
        { "{\"\\u0000\":1 2}", "", 12 },
        { "{\"a\": tru}", "", 9 },
        { "[\"h\xc3\xa9\", \"\xf0\x9f\x98\x80\" x]", "", 15 },
        { "7\n{\"h\xc3\xa9\":\n[nul]}", "7\n", 14 },
};

/* The offset that an error names. */
static int offset_in(const PmuxError *error) {
        const char *at = strstr(error->message, "offset ");

        ck_assert_ptr_nonnull(at);
        return atoi(at + 7) - BASE;
}

START_TEST(what_is_no_json_is_named_by_its_offset)
{
        PmuxError error;

        for (int cut = -1; cut <= (int)strlen(bad[_i].data); cut++) {
                memset(&error, 0, sizeof(error));
                ck_assert_int_eq(split(bad[_i].data, cut, 0, &error), -EILSEQ);
                ck_assert_str_eq(error.code, "invalid-argument");
                ck_assert_str_eq(lines, bad[_i].lines);
                ck_assert_msg(offset_in(&error) == bad[_i].offset, "cut at %d: %s", cut, error.message);
        }
}
END_TEST

typedef struct Decoded {
        const char *encoding;
        const char *data;
        size_t size;
        const char *lines;
        int value;  /* where the first value stands */
        int offset; /* of the byte to blame; -1: none */
} Decoded;

static const Decoded decoded[] = {
        { "latin-1", "\"\xe9\xe9\xe9\" [\"\xe9\xe9\", x]", 16, "\"\xc3\xa9\xc3\xa9\xc3\xa9\"\n", 0, 13 },
        { "latin-1", " \"\xe9\" \"\xe9\"", 8, "\"\xc3\xa9\"\n\"\xc3\xa9\"\n", 1, -1 },
        { "UTF-8", "\"\xff\xe2\x82\" [\"\xc3\xa9\xff\", x]", 16, "\"\xef\xbf\xbd\xef\xbf\xbd\"\n", 0, 14 },
        { "UTF-8", "[\"\xc3\xa9\"] [\"\xe2\x82", 11, "[\"\xc3\xa9\"]\n", 0, 7 },
        { "UTF-16LE", "1\0 \0[\0\"\0\xe9\0\x34\x12\"\0x\0]\0", 18, "1\n", 0, 14 },
        { "UTF-16", "\xff\xfe[\0\"\0=\xd8\0\xde\"\0 \0x\0]\0", 18, "", 0, 14 },
        { "UTF-16", "\xff\xfe[\0]\0\n\0", 8, "[]\n", 2, -1 },
        { "TCVN", "7 true", 6, "7\ntrue\n", 0, -1 },
        { "UTF-32BE", "\0\0\0[\0\0\0\"\0\1\xf6\0\0\0\0\"\0\0\0;", 20, "", 0, 16 },
};

/* Through a decoder, cut at 'cut', or byte by byte with one more than its size. */
static int split_decoded(const Decoded *row, size_t cut, PmuxError *reterr_error) {
        size_t size = row->size, at = 0, n, text_size;
        PmuxDecoder *decoder = NULL;
        PmuxJson *json = NULL;
        const char *text;
        int r = 0;

        *lines = '\0';
        n_values = 0;
        ck_assert_int_eq(pmux_decoder_new(&decoder, row->encoding, PMUX_DECODE_OFFSETS, NULL), 0);
        ck_assert_int_eq(pmux_json_new(&json, 0, on_value, NULL, NULL), 0);
        for (; at < size && r == 0; at += n) {
                n = cut == size + 1 ? 1 : at < cut ? cut - at : size - at;
                ck_assert_int_eq(
                        pmux_decoder_feed(decoder, BASE + at, row->data + at, n, &text, &text_size, NULL), 0);
                r = pmux_json_feed_decoded(json, decoder, reterr_error);
        }
        if (r == 0) {
                ck_assert_int_eq(pmux_decoder_end(decoder, &text, &text_size, NULL), 0);
                r = pmux_json_feed_decoded(json, decoder, reterr_error);
        }
        if (r == 0)
                r = pmux_json_end(json, reterr_error);
        (void)pmux_json_free(json);
        (void)pmux_decoder_free(decoder);
        return r;
}

START_TEST(offsets_are_those_of_the_bytes_that_were_decoded)
{
        const Decoded *row = &decoded[_i];
        PmuxError error;
        int r;

        for (size_t cut = 0; cut <= row->size + 1; cut++) {
                memset(&error, 0, sizeof(error));
                r = split_decoded(row, cut, &error);
                ck_assert_str_eq(lines, row->lines);
                ck_assert_int_eq(r, row->offset < 0 ? 0 : -EILSEQ);
                if (r < 0)
                        ck_assert_msg(offset_in(&error) == row->offset, "cut at %zu: %s", cut, error.message);
                if (n_values > 0)
                        ck_assert_uint_eq(offsets[0], BASE + (unsigned)row->value);
        }
}
END_TEST

START_TEST(a_value_may_be_as_large_as_was_said)
{
        PmuxError error;

        for (int cut = -1; cut < 12; cut++) {
                ck_assert_int_eq(split("[1,2,3,4,5]", cut, 11, NULL), 0);
                ck_assert_int_eq(split("[1,2,3,4,56]", cut, 11, &error), -EMSGSIZE);
                ck_assert_str_eq(error.code, "too-large");
                ck_assert_ptr_nonnull(strstr(error.message, "offset 500 "));
        }
}
END_TEST

START_TEST(offsets_follow_pieces_that_lie_apart)
{
        PmuxJson *json = NULL;
        PmuxError error;

        n_values = 0;
        *lines = '\0';
        ck_assert_int_eq(pmux_json_new(&json, 0, on_value, NULL, NULL), 0);
        ck_assert_int_eq(pmux_json_feed(json, 10, "[1,", 3, NULL), 0);
        ck_assert_int_eq(pmux_json_feed(json, 90, "2]  [", 5, NULL), 0);
        ck_assert_uint_eq(n_values, 1);
        ck_assert_uint_eq(offsets[0], 10);
        ck_assert_int_eq(pmux_json_feed(json, 200, "  x]", 4, &error), -EILSEQ);
        ck_assert_ptr_nonnull(strstr(error.message, "offset 202 "));
        ck_assert_int_eq(pmux_json_feed(json, 300, "[]", 2, &error), -EILSEQ);
        ck_assert_uint_eq(n_values, 1);
        (void)pmux_json_free(json);
}
END_TEST

static int on_value_stop(const char *value, size_t size, uint64_t offset, void *userdata) {
        (void)value;
        (void)size;
        (void)offset;
        ++*(int *)userdata;
        return -EPIPE;
}

START_TEST(a_callback_may_end_it)
{
        PmuxJson *json = NULL;
        int n = 0;

        ck_assert_int_eq(pmux_json_new(&json, 0, on_value_stop, &n, NULL), 0);
        ck_assert_int_eq(pmux_json_feed(json, 0, "[][]", 4, NULL), -EPIPE);
        ck_assert_int_eq(pmux_json_feed(json, 4, "[]", 2, NULL), -EPIPE);
        ck_assert_int_eq(n, 1);
        (void)pmux_json_free(json);
}
END_TEST

static Suite *json_values_suite(void) {
        Suite *suite = suite_create("json-values");
        TCase *tcase = tcase_create("pieces");

        tcase_add_loop_test(tcase, no_cut_changes_the_values, 0, ARRAY_SIZE(good));
        tcase_add_loop_test(tcase, what_is_no_json_is_named_by_its_offset, 0, ARRAY_SIZE(bad));
        tcase_add_loop_test(tcase, offsets_are_those_of_the_bytes_that_were_decoded, 0, ARRAY_SIZE(decoded));
        tcase_add_test(tcase, a_value_may_be_as_large_as_was_said);
        tcase_add_test(tcase, offsets_follow_pieces_that_lie_apart);
        tcase_add_test(tcase, a_callback_may_end_it);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(json_values_suite);
