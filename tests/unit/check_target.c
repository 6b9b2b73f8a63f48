/* SPDX-License-Identifier: MIT */

/* Targets of a command line, where no daemon is needed to tell what they are. */

#include "client/cli/target.h"

#include <stdio.h>

#include "tests/support/check-main.h"

static Cli cli;
static FILE *saved;

static void setup(void) {
        cli = (Cli){ .verb = verb_find("stop") };
        saved = stderr;
        stderr = fopen("/dev/null", "we");
}

static void teardown(void) {
        ck_assert_int_eq(fclose(stderr), 0);
        stderr = saved;
}

static void expect(char **words, int n, const char *json) {
        json_t *targets = NULL, *expected = json_loads(json, 0, NULL);

        ck_assert_int_eq(targets_resolve(&cli, words, n, false, TARGET_ALL_ANY, &targets), 0);
        ck_assert(json_equal(targets, expected));
        json_decref(targets);
        json_decref(expected);
}

START_TEST(digits_are_an_id_and_all_else_a_name)
{
        char *words[] = {
                (char *)"12",  (char *)"web", (char *)"1a", (char *)"-1", (char *)"99999999999999999999",
                (char *)"\xff"
        };

        expect(words, 6, "[12,\"web\",\"1a\",\"-1\",\"99999999999999999999\",{\"base64\":\"/w==\"}]");
}
END_TEST

START_TEST(each_target_counts_once)
{
        char *words[] = { (char *)"3", (char *)"a", (char *)"3", (char *)"a" };

        expect(words, 4, "[3,\"a\"]");
}
END_TEST

START_TEST(none_an_empty_one_and_all_with_some_are_wrong)
{
        char *words[] = { (char *)"" }, *some[] = { (char *)"a" };
        json_t *targets = NULL;

        ck_assert_int_eq(targets_resolve(&cli, NULL, 0, false, TARGET_ALL_ANY, &targets), 2);
        ck_assert_int_eq(targets_resolve(&cli, words, 1, false, TARGET_ALL_ANY, &targets), 2);
        ck_assert_int_eq(targets_resolve(&cli, some, 1, true, TARGET_ALL_ANY, &targets), 2);
        ck_assert_ptr_null(targets);
}
END_TEST

static const struct {
        const char *status, *glob;
        bool matches;
} globs[] = { { "{\"name\":\"web-1\"}", "web*", true },
              { "{\"name\":\"web-1\"}", "*", true },
              { "{\"name\":\"web-1\"}", "web", false },
              { "{\"name\":null}", "*", false },
              { "{}", "*", false },
              { "{\"name\":{\"base64\":\"/w==\"}}", "*", true },
              { "{\"name\":\".hidden\"}", "*hidden", true },
              { "{\"name\":\"ab\"}", "a[b-c]", true } };

START_TEST(globs_match_names)
{
        json_t *status = json_loads(globs[_i].status, 0, NULL);

        ck_assert_int_eq(target_matches(status, globs[_i].glob), globs[_i].matches);
        json_decref(status);
}
END_TEST

static Suite *target_suite(void) {
        Suite *suite = suite_create("target");
        TCase *words = tcase_create("words");

        tcase_add_checked_fixture(words, setup, teardown);
        tcase_add_test(words, digits_are_an_id_and_all_else_a_name);
        tcase_add_test(words, each_target_counts_once);
        tcase_add_test(words, none_an_empty_one_and_all_with_some_are_wrong);
        tcase_add_loop_test(words, globs_match_names, 0, ARRAY_SIZE(globs));
        suite_add_tcase(suite, words);
        return suite;
}

CHECK_MAIN(target_suite);
