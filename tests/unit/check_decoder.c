/* SPDX-License-Identifier: MIT */

/* Characters, however their bytes are cut into pieces. */

#include "client/libpmux/pmux-text.h"

#include <dlfcn.h>
#include <errno.h>
#include <iconv.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "client/libpmux/pmux.h"
#include "common/macro.h"
#include "tests/support/check-main.h"

#define BASE 1000 /* where the bytes stand */

static char text[512];
static size_t text_size;

static bool iconv_refused; /* as on a machine without the modules of iconv */

iconv_t iconv_open(const char *to, const char *from) {
        iconv_t (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "iconv_open");

        errno = EINVAL;
        return iconv_refused ? (iconv_t)-1 : real(to, from);
}

/* Decodes bytes cut at 'cut', or one by one with -1. Return: of the first call that failed, else 0. */
static int decode(const char *encoding, unsigned flags, const char *data, size_t size, int cut,
                  PmuxError *reterr_error) {
        PmuxDecoder *decoder = NULL;
        const char *piece;
        size_t at = 0, n, piece_size;
        int r = 0;

        text_size = 0;
        ck_assert_int_eq(pmux_decoder_new(&decoder, encoding, flags, NULL), 0);
        while (at < size && r == 0) {
                n = cut < 0 ? 1 : at < (size_t)cut ? (size_t)cut - at : size - at;
                r = pmux_decoder_feed(decoder, BASE + at, data + at, n, &piece, &piece_size, reterr_error);
                memcpy(text + text_size, piece, piece_size);
                text_size += piece_size;
                at += n;
        }
        if (r == 0) {
                r = pmux_decoder_end(decoder, &piece, &piece_size, reterr_error);
                memcpy(text + text_size, piece, piece_size);
                text_size += piece_size;
        }
        text[text_size] = '\0';
        ck_assert_ptr_null(pmux_decoder_free(decoder));
        return r;
}

#define BYTES(s) s, sizeof(s) - 1
#define BAD "\xef\xbf\xbd"

static const struct {
        const char *encoding;
        const char *data;
        size_t size;
        const char *text;  /* with replacements */
        int first_invalid; /* -1: none */
} rows[] = {
        { "UTF-8", BYTES("plain"), "plain", -1 },
        { "utf8", BYTES("h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80."),
          "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80.", -1 },
        { "UTF-8",
          BYTES("a\xff\xfe"
                "b"),
          "a" BAD BAD "b", 1 },
        { "UTF-8",
          BYTES("a\xe2\x82"
                "b"),
          "a" BAD "b", 1 },
        { "UTF-8", BYTES("a\xe2\x82"), "a" BAD, 1 },
        { "UTF-8", BYTES("\xf0\x9f\x98\xc3\xa9"), BAD "\xc3\xa9", 0 },
        { "UTF-8", BYTES("\xed\xa0\x80"), BAD BAD BAD, 0 },
        { "UTF-8", BYTES("\xe0\x80\x80"), BAD BAD BAD, 0 },
        { "UTF-8", BYTES("\xc0\xaf\xf5"), BAD BAD BAD, 0 },
        { "UTF-8", BYTES("x\xf0\x9f\xf0\x9f\x98\x80"), "x" BAD "\xf0\x9f\x98\x80", 1 },
        { "latin-1", BYTES("\xe9t\xe9"), "\xc3\xa9t\xc3\xa9", -1 },
        { "ISO-8859-15", BYTES("\xa4"), "\xe2\x82\xac", -1 },
        { "ASCII", BYTES("a\xe9z"), "a" BAD "z", 1 },
        { "UTF-16LE",
          BYTES("\x3d\xd8\x00\xde"
                "a\0"),
          "\xf0\x9f\x98\x80"
          "a",
          -1 },
        { "UTF-16LE", BYTES("a\0b"), "a" BAD, 2 },
        { "UTF-16BE", BYTES("\xdc\x00\0a"), BAD "a", 0 },
        { "UTF16LE", BYTES("a\0\0\xdc!\0"), "a" BAD "!", 2 },
        { "UTF-16", BYTES("\xff\xfe\0\xdc!\0"), BAD "!", 2 },
        { "UCS2", BYTES("a\0\0\xdc!\0"), "a" BAD "!", 2 },
        { "unicodebig", BYTES("\xdc\0\0a"), BAD "a", 0 },
        { "UTF32BE", BYTES("\xff\0\0\0\0\0\0a"), BAD "a", 0 },
        { "ISO-10646", BYTES("\xff\0\0\0\0\0\0a"), BAD "a", 0 },
        { "IBM037", BYTES("\xc8\x85"), "He", -1 },
        { "ISO-2022-JP", BYTES("\x1b$B$\"\x1b(Ba"),
          "\xe3\x81\x82"
          "a",
          -1 },
        { "ISO-2022-CN-EXT", BYTES("\x0e"), BAD, 0 }, /* a shift to what was never named */
        { "EUC-JP", BYTES("\xc6\xfc\xcb\xdc"), "\xe6\x97\xa5\xe6\x9c\xac", -1 },
        { "SHIFT_JIS", BYTES("\x93\xfa"), "\xe6\x97\xa5", -1 },
        { "GB18030", BYTES("\x81\x30\x81\x30!"), "\xc2\x80!", -1 },
};

START_TEST(no_cut_changes_what_comes_out)
{
        for (int cut = -1; cut <= (int)rows[_i].size; cut++) {
                ck_assert_int_eq(decode(rows[_i].encoding, 0, rows[_i].data, rows[_i].size, cut, NULL), 0);
                ck_assert_msg(strcmp(text, rows[_i].text) == 0, "cut at %d: %s", cut, text);
        }
}
END_TEST

START_TEST(what_is_refused_is_named_by_its_offset)
{
        char where[64];
        PmuxError error;
        int r;

        for (int cut = -1; cut <= (int)rows[_i].size; cut++) {
                memset(&error, 0, sizeof(error));
                r = decode(rows[_i].encoding, PMUX_DECODE_REFUSE, rows[_i].data, rows[_i].size, cut, &error);
                if (rows[_i].first_invalid < 0) {
                        ck_assert_int_eq(r, 0);
                        ck_assert_str_eq(text, rows[_i].text);
                        continue;
                }
                ck_assert_int_eq(r, -EILSEQ);
                ck_assert_str_eq(error.code, "invalid-argument");
                (void)snprintf(where, sizeof(where), "at offset %d is", BASE + rows[_i].first_invalid);
                ck_assert_msg(strstr(error.message, where) != NULL, "cut at %d: %s", cut, error.message);
                ck_assert_msg(strncmp(text, rows[_i].text, text_size) == 0 && !strstr(text, BAD), "%s", text);
        }
}
END_TEST

START_TEST(what_was_refused_stays_refused)
{
        PmuxDecoder *decoder = NULL;
        const char *piece;
        PmuxError error;
        size_t size;

        ck_assert_int_eq(pmux_decoder_new(&decoder, "UTF-8", PMUX_DECODE_REFUSE, NULL), 0);
        ck_assert_int_eq(pmux_decoder_feed(decoder, 7, "ab\xff", 3, &piece, &size, &error), -EILSEQ);
        ck_assert_uint_eq(size, 2);
        ck_assert_mem_eq(piece, "ab", 2);
        ck_assert_int_eq(pmux_decoder_feed(decoder, 10, "c", 1, &piece, &size, &error), -EILSEQ);
        ck_assert_uint_eq(size, 0);
        ck_assert_ptr_nonnull(strstr(error.message, "offset 9"));
        ck_assert_int_eq(pmux_decoder_end(decoder, &piece, &size, NULL), -EILSEQ);
        (void)pmux_decoder_free(decoder);
}
END_TEST

static const char *const unknown[] = { "", "klingon", "UTF-8//IGNORE", "latin-77" };

START_TEST(an_unknown_encoding_is_refused)
{
        PmuxDecoder *decoder = NULL;
        PmuxError error;

        ck_assert_int_eq(pmux_decoder_new(&decoder, unknown[_i], 0, &error), -EINVAL);
        ck_assert_str_eq(error.code, "invalid-argument");
        ck_assert_ptr_null(decoder);
}
END_TEST

static const char *const latin1_names[] = { "latin-1", "LATIN1", "iso-8859-1", "8859_1" };

START_TEST(latin1_is_what_iconv_says_of_every_byte)
{
        char all[256], expected[512], *in = all, *out = expected;
        size_t in_left = sizeof(all), out_left = sizeof(expected), size;
        iconv_t conversion = iconv_open("UTF-8", "ISO-8859-1");
        PmuxDecoder *decoder = NULL;
        const char *piece;

        ck_assert_ptr_ne(conversion, (iconv_t)-1);
        for (size_t i = 0; i < sizeof(all); i++)
                all[i] = (char)i;
        ck_assert_uint_eq(iconv(conversion, &in, &in_left, &out, &out_left), 0);
        ck_assert_int_eq(iconv_close(conversion), 0);
        ck_assert_int_eq(pmux_decoder_new(&decoder, latin1_names[_i], PMUX_DECODE_REFUSE, NULL), 0);
        ck_assert_int_eq(pmux_decoder_feed(decoder, 0, all, sizeof(all), &piece, &size, NULL), 0);
        ck_assert_uint_eq(size, sizeof(expected) - out_left);
        ck_assert_mem_eq(piece, expected, size);
        ck_assert_int_eq(pmux_decoder_end(decoder, &piece, &size, NULL), 0);
        ck_assert_uint_eq(size, 0);
        (void)pmux_decoder_free(decoder);
}
END_TEST

START_TEST(latin1_needs_no_modules_of_iconv)
{
        PmuxDecoder *decoder = NULL;
        const char *piece;
        size_t size;

        iconv_refused = true;
        ck_assert_int_eq(pmux_decoder_new(&decoder, "ISO-8859-15", 0, NULL), -EINVAL);
        ck_assert_int_eq(pmux_decoder_new(&decoder, latin1_names[_i], 0, NULL), 0);
        iconv_refused = false;
        ck_assert_int_eq(pmux_decoder_feed(decoder, 0, "\xe9", 1, &piece, &size, NULL), 0);
        ck_assert_uint_eq(size, 2);
        ck_assert_mem_eq(piece, "\xc3\xa9", 2);
        (void)pmux_decoder_free(decoder);
}
END_TEST

START_TEST(much_is_decoded_at_once)
{
        static char data[100000];
        PmuxDecoder *decoder = NULL;
        const char *piece;
        size_t size;

        memset(data, 0xe9, sizeof(data));
        ck_assert_int_eq(pmux_decoder_new(&decoder, "latin1", 0, NULL), 0);
        ck_assert_int_eq(pmux_decoder_feed(decoder, 0, data, sizeof(data), &piece, &size, NULL), 0);
        ck_assert_uint_eq(size, 2 * sizeof(data));
        ck_assert_mem_eq(piece + size - 4, "\xc3\xa9\xc3\xa9", 4);
        (void)pmux_decoder_free(decoder);
}
END_TEST

static Suite *decoder_suite(void) {
        Suite *suite = suite_create("decoder");
        TCase *tcase = tcase_create("pieces");

        tcase_add_loop_test(tcase, no_cut_changes_what_comes_out, 0, ARRAY_SIZE(rows));
        tcase_add_loop_test(tcase, what_is_refused_is_named_by_its_offset, 0, ARRAY_SIZE(rows));
        tcase_add_test(tcase, what_was_refused_stays_refused);
        tcase_add_loop_test(tcase, an_unknown_encoding_is_refused, 0, ARRAY_SIZE(unknown));
        tcase_add_loop_test(tcase, latin1_is_what_iconv_says_of_every_byte, 0, ARRAY_SIZE(latin1_names));
        tcase_add_loop_test(tcase, latin1_needs_no_modules_of_iconv, 0, ARRAY_SIZE(latin1_names));
        tcase_add_test(tcase, much_is_decoded_at_once);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(decoder_suite);
