/* SPDX-License-Identifier: MIT */

#include "daemon/engine/match-pattern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support/check-main.h"

static Pattern *pattern; /* owned; freed by teardown */
static MatchResult result;
static Error error;

static void setup(void) {
        pattern = NULL;
        result = (MatchResult){};
        error = (Error){};
}

static void teardown(void) {
        pattern = pattern_free(pattern);
}

static void make(const char *text) {
        int r;

        pattern = pattern_free(pattern);
        r = pattern_new(&pattern, text, strlen(text), &error);
        ck_assert_msg(r == 0, "%s", error.text);
}

/* Feeds all that is there up to 'end', in a block of exactly that size. */
static int feed(const char *data, size_t end) {
        size_t wants = (size_t)pattern_wants(pattern);
        uint8_t *copy;
        int r;

        ck_assert_uint_le(wants, end);
        copy = malloc(MAX(end - wants, (size_t)1));
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, data + wants, end - wants);
        r = pattern_feed(pattern, copy, end - wants, UINT64_MAX, &result, &error);
        free(copy);
        ck_assert_msg(r >= 0, "%s", error.text);
        return r;
}

/* Patterns that need no end and are not greedy at it: the same wherever the data is cut. */
static const struct {
        const char *pattern;
        const char *data;
        int from; /* -1: no match */
        int to;
} cases[] = {
        { "needle", "hay needle hay", 4, 10 },
        { "nn+eedle", "nnneedle", 0, 8 },
        { "a.c|bcd", "abcd", 0, 3 },
        { "^two$\\n", "one\ntwo\nthree", 4, 8 },
        { "(?<=key=)\\w+;", "key=value;", 4, 10 },
        { "(?<=0123456789)x", "0123456789x", 10, 11 },
        { "(?<!a)b", "abab-b", 5, 6 },
        { "(?<=(?<=(?<=0123)4567)89ab)c", "0123456789abc", 12, 13 },
        { "(?<=(*plb:(*positive_lookbehind:0123)4567)89ab)c", "0123456789abc", 12, 13 },
        { "\\bword\\b ", "swordword word x", 10, 15 },
        { "\\Bx", "x xx", 3, 4 },
        { "(a+)b\\1c", "aabaac aabac", 0, 6 },
        { "(?s)begin.*?end", "xbegin\n\nend", 1, 11 },
        { "(?=fo)f(o+)b", "foofoob", 3, 7 },
        { "(?!foobar)foo...", "foobarfoobaz", 6, 12 },
        { "\\Astart", "restart", -1, -1 },
        { "^start", "restart\nstart", 8, 13 },
        { "done\\n^>>> ", "x\ndone\n>>> ", 2, 11 },
        { "(?s).{4}", "a\nbcd", 0, 4 },
        { "(?s)(?:.{4}|z)b", "wxyabc", 0, 5 },
        { "(?xs) . {3} (?<=c)", "ababc", 2, 5 },
        { "\\C{3}b", "aaaaab", 2, 6 },
        { "\xc3\xa4\xff", "\xc3\xc3\xa4\xff", 1, 4 },
        { "(?i)PASSWORD: ", "Enter password: ", 6, 16 },
        { "x\\Ky", "axy", 2, 3 },
        { "(*CRLF)^b", "a\nb\r\nb", 5, 6 },
        { "(a|ab)(c|bcd)(d*)e", "abcdde", 0, 6 },
        { "(a|ab)(c|bcd)(d*)e", "abcde", 0, 5 },
        { "[[:digit:]]{3}-[[:digit:]]{4} ", "tel 12-345 555-1234 ", 11, 20 },
        { "(?<name>[a-z]+)=(?:(\\d+)|x);", "a=1;", 0, 4 },
};

START_TEST(a_match_is_the_same_wherever_the_data_is_cut)
{
        const char *data = cases[_i].data;
        size_t size = strlen(data);
        int r;

        make(cases[_i].pattern);
        for (size_t i = 0; i <= size; i++)
                for (size_t j = i; j <= size; j++) {
                        pattern_restart(pattern);
                        r = feed(data, i);
                        if (r == MATCH_MORE)
                                r = feed(data, j);
                        if (r == MATCH_MORE)
                                r = feed(data, size);
                        ck_assert_int_eq(r, cases[_i].from < 0 ? MATCH_MORE : MATCH_DONE);
                        if (r == MATCH_DONE) {
                                ck_assert_uint_eq(result.from, cases[_i].from);
                                ck_assert_uint_eq(result.to, cases[_i].to);
                                ck_assert_uint_eq(result.end, cases[_i].to);
                        }
                }
        pattern_restart(pattern);
        for (size_t i = 0; (r = feed(data, i)) == MATCH_MORE && i < size; i++)
                ;
        ck_assert_int_eq(r, cases[_i].from < 0 ? MATCH_MORE : MATCH_DONE);
}
END_TEST

START_TEST(a_pattern_of_64_bytes_is_found_at_every_split)
{
        char text[65], data[200];
        size_t size = (size_t)_i;

        for (size_t i = 0; i < size; i++)
                text[i] = (char)('a' + (i * i) % 3);
        text[size] = '\0';
        for (size_t i = 0; i < 2 * size - 1; i++) /* all but the last, then the whole of it */
                data[i] = i + 1 < size ? text[i] : text[i + 1 - size];
        make(text);
        for (size_t i = 0; i <= 2 * size - 1; i++) {
                char *first = memmem(data, 2 * size - 1, text, size);

                pattern_restart(pattern);
                if (feed(data, i) == MATCH_MORE)
                        ck_assert_int_eq(feed(data, 2 * size - 1), MATCH_DONE);
                ck_assert_uint_eq(result.from, (size_t)(first - data));
                ck_assert_uint_eq(result.to, (size_t)(first - data) + size);
        }
}
END_TEST

START_TEST(the_present_end_is_an_end)
{
        make(">>> $");
        ck_assert_int_eq(feed("x\n>>", 4), MATCH_MORE);
        ck_assert_uint_le(pattern_wants(pattern), 2);
        ck_assert_int_eq(feed("x\n>>> ", 6), MATCH_DONE);
        ck_assert_uint_eq(result.end, 6);
}
END_TEST

START_TEST(what_cannot_begin_a_match_is_not_wanted_again)
{
        char data[5000];

        memset(data, 'x', sizeof(data));
        make("y+z");
        ck_assert_int_eq(feed(data, sizeof(data)), MATCH_MORE);
        ck_assert_uint_ge(pattern_wants(pattern), sizeof(data) - 4);
        data[4999] = 'y';
        pattern_restart(pattern);
        ck_assert_int_eq(feed(data, sizeof(data)), MATCH_MORE);
        ck_assert_uint_ge(pattern_wants(pattern), sizeof(data) - 4);
}
END_TEST

START_TEST(groups_have_positions_and_names)
{
        uint64_t from, to;
        const char *name;

        make("(?<key>\\w+)=(?:(\\d+)|(x));");
        ck_assert_uint_eq(pattern_n_groups(pattern), 0);
        ck_assert_int_eq(feed("  ab=", 5), MATCH_MORE);
        ck_assert_int_eq(feed("  ab=x;", 7), MATCH_DONE);
        ck_assert_uint_eq(pattern_n_groups(pattern), 4);
        ck_assert(pattern_group(pattern, 1, &from, &to, &name));
        ck_assert_uint_eq(from, 2);
        ck_assert_uint_eq(to, 4);
        ck_assert_str_eq(name, "key");
        ck_assert(!pattern_group(pattern, 2, &from, &to, &name));
        ck_assert_ptr_null(name);
        ck_assert(pattern_group(pattern, 3, &from, &to, &name));
        ck_assert_uint_eq(from, 5);
        ck_assert(!pattern_group(pattern, 4, &from, &to, &name));
}
END_TEST

START_TEST(a_begin_that_was_set_behind_the_end_is_the_end)
{
        uint64_t from, to;
        const char *name;

        make("(?(DEFINE)(ab\\K))-(?=(?1))");
        ck_assert_int_eq(feed("-ab", 3), MATCH_DONE);
        ck_assert_uint_eq(result.from, 1);
        ck_assert(pattern_group(pattern, 0, &from, &to, &name));
        ck_assert_uint_eq(from, 1);
        ck_assert_uint_eq(to, 1);
}
END_TEST

START_TEST(what_does_not_compile_says_where)
{
        static const char *const texts[] = { "(", "a{2,1}", "[z-a]", "(*UTF)a", "\\", "(?<n>a)(?<n>b)" };

        ck_assert_int_eq(pattern_new(&pattern, texts[_i], strlen(texts[_i]), &error), -EINVAL);
        ck_assert_int_eq(error.code, ERROR_INVALID);
        ck_assert_ptr_nonnull(strstr(error.text, "at byte "));
        ck_assert_ptr_null(pattern);
}
END_TEST

static double seconds(void) {
        struct timespec ts;

        (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
        return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Each takes for ever if it is let. */
static const struct {
        const char *pattern;
        char fill;
} endless[] = {
        { "(a+)+$b", 'a' },           { "(a|a)*c", 'a' },
        { "(?:a?){60}a{60}c", 'a' },  { "(a*)*\\1b", 'a' },
        { "(?:.(?=[^z]*z))*y", 'x' }, { "(.*)(.*)(.*)(.*)(.*)(.*)(.*)b", 'a' },
        { "(?:(?:a*)*)*b", 'a' },     { "(?s)(.*?,){11}P", ',' },
        { "((?1)a|a)*b", 'a' },       { "(?:[^z]*+){0,500}y", 'x' },
};

START_TEST(a_catastrophic_pattern_ends_in_bounded_time)
{
        size_t size = 1 << 20;
        char *data = malloc(size);
        double begin, longest = 0;
        int r = MATCH_AGAIN;

        ck_assert_ptr_nonnull(data);
        memset(data, endless[_i].fill, size);
        make(endless[_i].pattern);
        for (unsigned i = 0; r == MATCH_AGAIN && i < 200; i++) {
                size_t wants = (size_t)pattern_wants(pattern);

                begin = seconds();
                r = pattern_feed(pattern, (uint8_t *)data + wants, size - wants, 2000, &result, &error);
                longest = MAX(longest, seconds() - begin);
        }
        free(data);
        ck_assert_msg(longest < 1.5, "%f s", longest);
        ck_assert(r == MATCH_AGAIN || r == MATCH_MORE || (r == -EDQUOT && error.code == ERROR_LIMIT));
}
END_TEST

START_TEST(a_slow_search_goes_on_where_it_was_and_finds)
{
        size_t size = 60000, n_again = 0; /* a fraction of what a search may cost */
        char *data = malloc(size);
        int r;

        ck_assert_ptr_nonnull(data);
        memset(data, 'a', size);
        data[size - 1] = 'b';
        make("a[ab]{0,300}?c|ab"); /* 300 steps from every place; the second part at the last */
        do {
                size_t wants = (size_t)pattern_wants(pattern);

                r = pattern_feed(pattern, (uint8_t *)data + wants, size - wants, 1000, &result, &error);
                n_again += r == MATCH_AGAIN;
        } while (r == MATCH_AGAIN);
        ck_assert_int_eq(r, MATCH_DONE);
        ck_assert_uint_eq(result.from, size - 2);
        ck_assert_uint_gt(n_again, 3);
        free(data);
}
END_TEST

static Suite *match_pattern_suite(void) {
        Suite *suite = suite_create("match-pattern");
        TCase *splits = tcase_create("pieces"), *rest = tcase_create("pattern"), *time = tcase_create("time");

        tcase_add_checked_fixture(splits, setup, teardown);
        tcase_add_loop_test(splits, a_match_is_the_same_wherever_the_data_is_cut, 0, (int)ARRAY_SIZE(cases));
        tcase_add_loop_test(splits, a_pattern_of_64_bytes_is_found_at_every_split, 1, 65);
        suite_add_tcase(suite, splits);
        tcase_add_checked_fixture(rest, setup, teardown);
        tcase_add_test(rest, the_present_end_is_an_end);
        tcase_add_test(rest, what_cannot_begin_a_match_is_not_wanted_again);
        tcase_add_test(rest, groups_have_positions_and_names);
        tcase_add_test(rest, a_begin_that_was_set_behind_the_end_is_the_end);
        tcase_add_loop_test(rest, what_does_not_compile_says_where, 0, 6);
        suite_add_tcase(suite, rest);
        tcase_add_checked_fixture(time, setup, teardown);
        tcase_set_timeout(time, 60);
        tcase_add_loop_test(time, a_catastrophic_pattern_ends_in_bounded_time, 0, (int)ARRAY_SIZE(endless));
        tcase_add_test(time, a_slow_search_goes_on_where_it_was_and_finds);
        suite_add_tcase(suite, time);
        return suite;
}

CHECK_MAIN(match_pattern_suite);
