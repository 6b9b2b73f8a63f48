/* SPDX-License-Identifier: MIT */

#include "daemon/engine/match.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/check-main.h"

static Match *match; /* owned; freed by teardown */
static MatchResult result;
static Error error;

static void setup(void) {
        match = NULL;
        result = (MatchResult){};
        error = (Error){};
}

static void teardown(void) {
        match = match_free(match);
}

static void make(MatchKind kind, uint64_t n, const char *text, size_t size) {
        MatchSpec spec = { .kind = kind, .n = n, .text = text, .text_size = size };
        int r;

        match = match_free(match);
        r = match_new(&match, &spec, &error);
        ck_assert_msg(r == 0, "%s", error.text);
}

/* Feeds all that is there up to 'end', exactly as large as it is: a sanitizer sees what reads beyond. */
static int feed(const char *data, size_t end) {
        size_t wants = (size_t)match_wants(match);
        char *copy;
        int r;

        ck_assert_uint_le(wants, end);
        copy = malloc(end - wants + 1);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, data + wants, end - wants);
        copy = realloc(copy, MAX(end - wants, (size_t)1));
        r = match_feed(match, copy, end - wants, UINT64_MAX, &result, &error);
        free(copy);
        ck_assert_msg(r >= 0, "%s", error.text);
        return r;
}

/* Feeds two pieces. Return: the end of the match, SIZE_MAX if there is none. */
static size_t feed_split(const char *data, size_t size, size_t split) {
        match_restart(match);
        if (feed(data, split) == MATCH_DONE)
                return (size_t)result.end;
        return feed(data, size) == MATCH_DONE ? (size_t)result.end : SIZE_MAX;
}

/* Feeds byte by byte. */
static size_t feed_bytes(const char *data, size_t size) {
        match_restart(match);
        for (size_t i = 0; i <= size; i++)
                if (feed(data, i) == MATCH_DONE)
                        return (size_t)result.end;
        return SIZE_MAX;
}

START_TEST(bytes_are_satisfied_by_what_there_is)
{
        make(MATCH_BYTES, 5, NULL, 0);
        ck_assert(!match_looks(match));
        ck_assert_int_eq(match_feed(match, NULL, 0, 0, &result, &error), MATCH_MORE);
        ck_assert(!match_is_enough(match));
        ck_assert_int_eq(match_feed(match, NULL, 1, 0, &result, &error), MATCH_MORE);
        ck_assert(match_is_enough(match));
        ck_assert_int_eq(match_feed(match, NULL, 10, 0, &result, &error), MATCH_DONE);
        ck_assert_uint_eq(result.end, 5);
}
END_TEST

START_TEST(exactly_says_what_is_missing)
{
        make(MATCH_EXACTLY, 5, NULL, 0);
        ck_assert_uint_eq(match_missing(match), 5);
        ck_assert_int_eq(match_feed(match, NULL, 4, 0, &result, &error), MATCH_MORE);
        ck_assert_uint_eq(match_missing(match), 1);
        ck_assert(!match_is_enough(match));
        ck_assert_int_eq(match_feed(match, NULL, 4, 0, &result, &error), MATCH_DONE);
        ck_assert_uint_eq(result.end, 5);
        match_restart(match);
        ck_assert_uint_eq(match_missing(match), 5);
}
END_TEST

START_TEST(a_line_ends_behind_its_newline_wherever_it_is_cut)
{
        static const char data[] = "\xc3\xa4\0\r\nrest\n";

        make(MATCH_LINE, 0, NULL, 0);
        for (size_t i = 0; i < sizeof(data); i++)
                ck_assert_uint_eq(feed_split(data, sizeof(data) - 1, i), 5);
        ck_assert_uint_eq(feed_bytes(data, sizeof(data) - 1), 5);
        ck_assert_uint_eq(feed_bytes(data, 4), SIZE_MAX);
}
END_TEST

START_TEST(quiet_and_the_end_are_nothing_that_bytes_can_satisfy)
{
        make(_i == 0 ? MATCH_QUIET : MATCH_EOF, 0, NULL, 0);
        ck_assert(!match_looks(match));
        ck_assert_int_eq(match_feed(match, NULL, 1000, 0, &result, &error), MATCH_MORE);
        ck_assert(!match_is_enough(match));
        ck_assert_uint_eq(match_wants(match), 1000);
}
END_TEST

/* A separator of 'size' bytes over a small alphabet, such that prefixes come again within it. */
static void separator_of(char *text, size_t size, unsigned seed) {
        for (size_t i = 0; i < size; i++) {
                seed = seed * 1103515245 + 12345;
                text[i] = (seed >> 16) % 8 == 0 ? 'b' : 'a';
        }
}

START_TEST(a_separator_is_found_wherever_it_is_cut)
{
        size_t size = (size_t)_i, n = 0;
        char text[64], data[400];

        for (unsigned seed = 0; seed < 8; seed++) {
                separator_of(text, size, seed);
                /* every proper prefix comes before it, so that each state of the automaton has to fall back
                 */
                n = 0;
                for (size_t i = size > 8 ? size - 8 : 1; i < size && n + i < 300; i++, n += i - 1)
                        memcpy(data + n, text, i);
                memcpy(data + n, text, size);
                n += size;
                make(MATCH_SEPARATOR, 0, text, size);
                for (size_t i = 0; i <= n; i++) {
                        size_t end = (size_t)((char *)memmem(data, n, text, size) - data) + size;

                        ck_assert_uint_eq(feed_split(data, n, i), end);
                }
                ck_assert_uint_eq(feed_bytes(data, n),
                                  (size_t)((char *)memmem(data, n, text, size) - data) + size);
        }
}
END_TEST

START_TEST(a_separator_holds_any_bytes)
{
        static const char text[] = { '\0', '\n', (char)0xff, '\0' };
        static const char data[] = { 'a', '\0', '\n', '\0', '\n', (char)0xff, '\0', 'z' };

        make(MATCH_SEPARATOR, 0, text, sizeof(text));
        for (size_t i = 0; i <= sizeof(data); i++)
                ck_assert_uint_eq(feed_split(data, sizeof(data), i), 7);
}
END_TEST

START_TEST(a_separator_takes_memory_of_its_own_size_only)
{
        static char text[MATCH_SEPARATOR_MAX], data[65536];

        memset(text, 'a', sizeof(text));
        make(MATCH_SEPARATOR, 0, text, sizeof(text));
        ck_assert_uint_lt(match_memory(match), 3 * MATCH_SEPARATOR_MAX + 256);
        memset(data, 'a', sizeof(data));
        data[4094] = 'b';
        ck_assert_uint_eq(feed_split(data, sizeof(data), 4095 + 4095), 4095 + 4096);
}
END_TEST

static Suite *match_suite(void) {
        Suite *suite = suite_create("match");
        TCase *counts = tcase_create("counts"), *text = tcase_create("lines and separators");

        tcase_add_checked_fixture(counts, setup, teardown);
        tcase_add_test(counts, bytes_are_satisfied_by_what_there_is);
        tcase_add_test(counts, exactly_says_what_is_missing);
        tcase_add_loop_test(counts, quiet_and_the_end_are_nothing_that_bytes_can_satisfy, 0, 2);
        suite_add_tcase(suite, counts);
        tcase_add_checked_fixture(text, setup, teardown);
        tcase_add_test(text, a_line_ends_behind_its_newline_wherever_it_is_cut);
        tcase_add_loop_test(text, a_separator_is_found_wherever_it_is_cut, 1, 65);
        tcase_add_test(text, a_separator_holds_any_bytes);
        tcase_add_test(text, a_separator_takes_memory_of_its_own_size_only);
        suite_add_tcase(suite, text);
        return suite;
}

CHECK_MAIN(match_suite);
