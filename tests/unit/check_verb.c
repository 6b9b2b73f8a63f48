/* SPDX-License-Identifier: MIT */

/* The table of verbs, and finding the one that was meant. */

#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/verb-help.h"
#include "tests/support/check-main.h"

static const Verb table[] = {
#define VERB(name, alias, function, usage, summary) { name, alias, function, usage, summary },
#include "client/cli/verb-table.h"
#undef VERB
};

START_TEST(each_verb_is_found_by_its_names_and_by_no_other)
{
        const Verb *verb = verb_find(table[_i].name);

        ck_assert_ptr_nonnull(verb);
        ck_assert_str_eq(verb->name, table[_i].name);
        if (table[_i].alias)
                ck_assert_ptr_eq(verb_find(table[_i].alias), verb);
        for (size_t i = 0; i < ARRAY_SIZE(table); i++)
                if ((int)i != _i)
                        ck_assert_str_ne(table[i].name, table[_i].name);
        ck_assert_str_ne(table[_i].summary, "");
}
END_TEST

START_TEST(each_help_belongs_to_a_verb)
{
        for (size_t i = 0; i < ARRAY_SIZE(verb_helps); i++)
                ck_assert_msg(verb_find(verb_helps[i].name) != NULL, "%s", verb_helps[i].name);
}
END_TEST

START_TEST(a_prefix_is_no_verb)
{
        ck_assert_ptr_null(verb_find("st"));
        ck_assert_ptr_null(verb_find(""));
        ck_assert_ptr_null(verb_find("runs"));
}
END_TEST

static const struct {
        const char *typed, *meant;
} typos[] = { { "stpo", "stop" },       { "sotp", "stop" },
              { "log", "logs" },        { "rnu", "run" },
              { "statsu", "status" },   { "killl", "signal" },
              { "restrat", "restart" }, { "close-stdn", "close-stdin" },
              { "frobnicate", NULL },   { "", NULL },
              { "zzzz", NULL } };

START_TEST(the_nearest_verb_is_proposed)
{
        const Verb *verb = verb_nearest(typos[_i].typed);

        if (typos[_i].meant) {
                ck_assert_ptr_nonnull(verb);
                ck_assert_str_eq(verb->name, typos[_i].meant);
        } else {
                ck_assert_ptr_null(verb);
        }
}
END_TEST

START_TEST(a_very_long_word_is_like_nothing)
{
        char word[1000];

        memset(word, 's', sizeof(word) - 1);
        word[sizeof(word) - 1] = '\0';
        ck_assert_ptr_null(verb_nearest(word));
}
END_TEST

static Suite *verb_suite(void) {
        Suite *suite = suite_create("verb");
        TCase *verbs = tcase_create("table");

        tcase_add_loop_test(verbs, each_verb_is_found_by_its_names_and_by_no_other, 0, ARRAY_SIZE(table));
        tcase_add_test(verbs, each_help_belongs_to_a_verb);
        tcase_add_test(verbs, a_prefix_is_no_verb);
        tcase_add_loop_test(verbs, the_nearest_verb_is_proposed, 0, ARRAY_SIZE(typos));
        tcase_add_test(verbs, a_very_long_word_is_like_nothing);
        suite_add_tcase(suite, verbs);
        return suite;
}

CHECK_MAIN(verb_suite);
