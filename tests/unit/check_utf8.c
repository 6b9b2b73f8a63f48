/* SPDX-License-Identifier: MIT */

#include "common/utf8.h"

#include <string.h>

#include "common/macro.h"
#include "tests/support/check-main.h"

typedef struct Row {
        const char *text;
        size_t size;
} Row;

static const Row good[] = {
        { "", 0 },
        { "a\0b", 3 },
        { "\x7f", 1 },
        { "\xc2\x80", 2 },
        { "\xdf\xbf", 2 },
        { "\xe0\xa0\x80", 3 },
        { "\xed\x9f\xbf", 3 },
        { "\xee\x80\x80", 3 },
        { "\xef\xbf\xbf", 3 },
        { "\xf0\x90\x80\x80", 4 },
        { "\xf4\x8f\xbf\xbf", 4 },
        { "eight ASCII bytes, then \xe2\x82\xac and more", 37 },
};

static const Row bad[] = {
        { "\x80", 1 }, /* begins with a continuation */
        { "\xbf", 1 },
        { "\xc0\x80", 2 }, /* overlong NUL */
        { "\xc1\xbf", 2 },
        { "\xc2", 1 }, /* cut */
        { "\xc2\x41", 2 },
        { "\xe0\x9f\xbf", 3 }, /* overlong */
        { "\xe2\x82", 2 },
        { "\xe2\x82\x41", 3 },
        { "\xe2\x41\x82", 3 },
        { "\xed\xa0\x80", 3 }, /* surrogates */
        { "\xed\xbf\xbf", 3 },
        { "\xf0\x8f\xbf\xbf", 4 }, /* overlong */
        { "\xf0\x90\x80", 3 },
        { "\xf4\x90\x80\x80", 4 }, /* above U+10FFFF */
        { "\xf5\x80\x80\x80", 4 },
        { "\xff", 1 },
        { "12345678\xff", 9 },
        { "1234567\xff", 8 },
        { "\xff"
          "12345678",
          9 },
        { "eight ASCII bytes \xe2\x82", 20 },
};

START_TEST(valid_text_is_valid)
{ ck_assert(utf8_valid(good[_i].text, good[_i].size)); }
END_TEST

START_TEST(invalid_text_is_invalid)
{ ck_assert(!utf8_valid(bad[_i].text, bad[_i].size)); }
END_TEST

/* A decoder that does the arithmetic instead of comparing bytes. */
static size_t reference(const unsigned char *p, size_t size) {
        static const unsigned least[] = { 0, 0, 0x80, 0x800, 0x10000 };
        size_t n = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
        unsigned c;

        if (n == 0 || n > size)
                return 0;
        c = n == 1 ? p[0] : p[0] & (0x7fU >> n);
        for (size_t i = 1; i < n; i++) {
                if (p[i] >> 6 != 2)
                        return 0;
                c = c << 6 | (p[i] & 0x3f);
        }
        return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : n;
}

START_TEST(every_sequence_agrees_with_the_arithmetic)
{
        static const unsigned char edges[] = { 0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90,
                                               0x9f, 0xa0, 0xbf, 0xc0, 0xff };
        unsigned char p[4];

        for (unsigned a = 0; a < 256; a++)
                for (unsigned b = 0; b < 256; b++)
                        for (size_t c = 0; c < sizeof(edges); c++)
                                for (size_t d = 0; d < sizeof(edges); d++)
                                        for (size_t size = 1; size <= 4; size++) {
                                                p[0] = (unsigned char)a;
                                                p[1] = (unsigned char)b;
                                                p[2] = edges[c];
                                                p[3] = edges[d];
                                                if (utf8_sequence(p, size) != reference(p, size))
                                                        ck_abort_msg("%02x %02x %02x %02x, %zu bytes", a, b,
                                                                     p[2], p[3], size);
                                        }
        ck_assert_uint_eq(utf8_sequence(p, 0), 0);
}
END_TEST

START_TEST(what_cannot_be_shown_becomes_a_question_mark)
{
        char text[] = "ok \xe2\x82\xac \xff\xfe\n\t\x1b[0m\x7f\xc2 \xe2\x82";

        utf8_sanitize(text);
        ck_assert_str_eq(text, "ok \xe2\x82\xac ?????[0m?? ??");
        ck_assert(utf8_valid(text, strlen(text)));
        text[0] = '\0';
        utf8_sanitize(text);
        ck_assert_str_eq(text, "");
}
END_TEST

static Suite *utf8_suite(void) {
        Suite *suite = suite_create("utf8");
        TCase *valid = tcase_create("valid");

        tcase_set_timeout(valid, 60);
        tcase_add_loop_test(valid, valid_text_is_valid, 0, ARRAY_SIZE(good));
        tcase_add_loop_test(valid, invalid_text_is_invalid, 0, ARRAY_SIZE(bad));
        tcase_add_test(valid, every_sequence_agrees_with_the_arithmetic);
        tcase_add_test(valid, what_cannot_be_shown_becomes_a_question_mark);
        suite_add_tcase(suite, valid);
        return suite;
}

CHECK_MAIN(utf8_suite);
