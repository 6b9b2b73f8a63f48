/* SPDX-License-Identifier: MIT */

#include "common/words.h"

#include <errno.h>
#include <string.h>

#include "tests/support/check-main.h"

typedef struct Good {
        const char *line;
        const char *words[8];
} Good;

static const Good goods[] = {
        { "", { NULL } },
        { " \t ", { NULL } },
        { "# nothing", { NULL } },
        { "  # nothing 'here", { NULL } },
        { "true", { "true" } },
        { " echo  a\tb ", { "echo", "a", "b" } },
        { "echo a#b #c", { "echo", "a#b" } },
        { "echo \\#c '#d'", { "echo", "#c", "#d" } },
        { "echo 'a  b' \"c  d\"", { "echo", "a  b", "c  d" } },
        { "echo a'b'\"c\"d", { "echo", "abcd" } },
        { "echo '' \"\"", { "echo", "", "" } },
        { "echo a\\ b \\\\ \\'", { "echo", "a b", "\\", "'" } },
        { "echo 'a\\b' \"a\\b\\\"\\$\\`\\\\\"", { "echo", "a\\b", "a\\b\"$`\\" } },
        { "echo \"it's\" '\"'", { "echo", "it's", "\"" } },
        { "echo $HOME * `x` ~ a|b;c>d&", { "echo", "$HOME", "*", "`x`", "~", "a|b;c>d&" } },
        { "echo \xff\x80", { "echo", "\xff\x80" } },
        { "a b c d e", { "a", "b", "c", "d", "e" } },
        { "printf \\n\r", { "printf", "n" } },
};

START_TEST(words_are_those_that_a_shell_would_see)
{
        const Good *good = &goods[_i];
        Words words;

        ck_assert_int_eq(words_split(&words, good->line, strlen(good->line), NULL, NULL), 0);
        for (size_t i = 0; i < words.n; i++)
                ck_assert_str_eq(words.words[i], good->words[i]);
        ck_assert_ptr_null(good->words[words.n]);
        ck_assert_ptr_null(words.words[words.n]);
        words_deinit(&words);
}
END_TEST

typedef struct Bad {
        const char *line;
        size_t size;
        size_t at;
} Bad;

static const Bad bads[] = {
        { "echo 'a b", 9, 5 }, { "echo a\"b c", 10, 6 },      { "echo \\", 6, 5 },
        { "a\0b", 3, 1 },      { "echo 'a' \"b\\\"", 13, 9 }, { "'", 1, 0 },
};

START_TEST(what_cannot_be_split_is_refused_where_it_begins)
{
        const Bad *bad = &bads[_i];
        Error error = {};
        size_t at = 99;
        Words words;

        ck_assert_int_eq(words_split(&words, bad->line, bad->size, &at, &error), -EINVAL);
        ck_assert_uint_eq(at, bad->at);
        ck_assert_int_eq(error.code, ERROR_INVALID);
        ck_assert_str_ne(error.text, "");
}
END_TEST

START_TEST(the_end_of_the_line_is_where_it_is_said_to_be)
{
        Words words;

        ck_assert_int_eq(words_split(&words, "one two", 5, NULL, NULL), 0);
        ck_assert_uint_eq(words.n, 2);
        ck_assert_str_eq(words.words[1], "t");
        words_deinit(&words);
        ck_assert_ptr_null(words.words);
}
END_TEST

static Suite *words_suite(void) {
        Suite *suite = suite_create("words");
        TCase *tcase = tcase_create("split");

        tcase_add_loop_test(tcase, words_are_those_that_a_shell_would_see, 0, (int)ARRAY_SIZE(goods));
        tcase_add_loop_test(tcase, what_cannot_be_split_is_refused_where_it_begins, 0, (int)ARRAY_SIZE(bads));
        tcase_add_test(tcase, the_end_of_the_line_is_where_it_is_said_to_be);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(words_suite);
