/* SPDX-License-Identifier: MIT */

/* The command line of run against the params that go to the daemon. */

#include "client/cli/run-params.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/check-main.h"

extern char **environ;

static char *own_env[] = { (char *)"PATH=/bin", (char *)"HOME=/root", (char *)"A=here", (char *)"no-equals",
                           NULL };
static Cli cli;
static RunParams run;
static FILE *saved;

static void setup(void) {
        environ = own_env;
        cli = (Cli){ .verb = verb_find("run") };
        saved = stderr;
        stderr = fopen("/dev/null", "we"); /* complaints are not what is tested */
        ck_assert_int_eq(chdir("/tmp"), 0);
}

static void teardown(void) {
        run_params_deinit(&run);
        ck_assert_int_eq(fclose(stderr), 0);
        stderr = saved;
}

/* Reads a command line given as words with single blanks between them. */
static int read_line(const char *line) {
        static char text[512];
        char *argv[32], *word, *rest = text;
        int argc = 0;

        run_params_deinit(&run);
        (void)snprintf(text, sizeof(text), "%s", line);
        while ((word = strsep(&rest, " ")))
                argv[argc++] = word;
        argv[argc] = NULL;
        return run_params_read(&run, &cli, argc, argv);
}

static void expect(const char *key, const char *json) {
        json_t *value = json_object_get(run.params, key), *expected = json_loads(json, JSON_DECODE_ANY, NULL);
        char *text = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;

        ck_assert_msg(json_equal(value, expected), "%s is %s, not %s", key, text ? text : "missing", json);
        free(text);
        json_decref(expected);
}

START_TEST(a_command_keeps_its_own_options)
{
        ck_assert_int_eq(read_line("run ls -l --rm"), 0);
        expect("argv", "[\"ls\",\"-l\",\"--rm\"]");
        ck_assert_ptr_null(json_object_get(run.params, "rm"));
        expect("cwd", "\"/tmp\"");
        ck_assert(run.lossless);
        ck_assert(run.forward_stdin);
        ck_assert(!run.detach);
}
END_TEST

START_TEST(two_dashes_end_the_options)
{
        ck_assert_int_eq(read_line("run -d -- -strange"), 0);
        expect("argv", "[\"-strange\"]");
        ck_assert(run.detach);
}
END_TEST

START_TEST(the_environment_is_passed_whole_or_not_at_all)
{
        ck_assert_int_eq(read_line("run -e A=1 -e B=x=y -e A=2 -- true"), 0);
        expect("env", "[\"PATH=/bin\",\"HOME=/root\",\"B=x=y\",\"A=2\"]");
        ck_assert_int_eq(read_line("run --clean-env -- true"), 0);
        expect("env", "[\"PATH=/bin\"]");
        ck_assert_int_eq(read_line("run --clean-env -e A -e NONE -e PATH=/x -- true"), 0);
        expect("env", "[\"A=here\",\"PATH=/x\"]");
}
END_TEST

START_TEST(paths_are_meant_from_here)
{
        ck_assert_int_eq(read_line("run -w sub --stdin in --stdout /abs --stderr ./log -- true"), 0);
        expect("cwd", "\"/tmp/sub\"");
        expect("stdin", "{\"file\":\"/tmp/in\"}");
        expect("stdout", "{\"file\":\"/abs\"}");
        expect("stderr", "{\"file\":\"/tmp/./log\"}");
        ck_assert(!run.forward_stdin);
}
END_TEST

START_TEST(words_for_streams_are_words)
{
        ck_assert_int_eq(read_line("run --stdin null --stdout log --stderr stdout -- true"), 0);
        expect("stdin", "\"null\"");
        expect("stdout", "\"log\"");
        expect("stderr", "\"stdout\"");
        ck_assert_int_eq(read_line("run --stdin open -- true"), 0);
        ck_assert(run.forward_stdin);
}
END_TEST

START_TEST(times_and_sizes_are_converted)
{
        ck_assert_int_eq(read_line("run --timeout 1m --kill-after 500ms --retention 1M --rm -- true"), 0);
        expect("timeout_usec", "60000000");
        expect("kill_after_usec", "500000");
        expect("retention_bytes", "1048576");
        expect("rm", "true");
        ck_assert(run.has_timeout);
}
END_TEST

START_TEST(leases_are_words_or_times)
{
        ck_assert_int_eq(read_line("run --lease client -- true"), 0);
        expect("lease", "\"client\"");
        ck_assert_uint_eq(run.lease_usec, 0);
        ck_assert_int_eq(read_line("run --lease 3s -- true"), 0);
        expect("lease", "3000000");
        ck_assert_uint_eq(run.lease_usec, 3000000);
}
END_TEST

START_TEST(a_shell_is_asked_for)
{
        ck_assert_int_eq(read_line("run --shell echo;$1 x"), 0);
        expect("argv", "[\"/bin/sh\",\"-c\",\"echo;$1\",\"sh\",\"x\"]");
}
END_TEST

static const char *const wrong[] = { "run",
                                     "run --",
                                     "run --nonsense -- true",
                                     "run --timeout soon -- true",
                                     "run --retention much -- true",
                                     "run --lease sometimes -- true",
                                     "run --lease 0 -- true",
                                     "run -e =x -- true",
                                     "run -n" };

START_TEST(wrong_usage_is_125)
{ ck_assert_msg(read_line(wrong[_i]) == 125 + 1, "%s", wrong[_i]); }
END_TEST

START_TEST(global_options_may_follow_the_verb)
{
        ck_assert_int_eq(read_line("run --json -q --socket /s --no-autostart -- true"), 0);
        ck_assert(cli.json);
        ck_assert(cli.quiet);
        ck_assert(cli.no_autostart);
        ck_assert_str_eq(cli.socket_path, "/s");
}
END_TEST

static Suite *run_params_suite(void) {
        Suite *suite = suite_create("run-params");
        TCase *reading = tcase_create("reading");

        tcase_add_checked_fixture(reading, setup, teardown);
        tcase_add_test(reading, a_command_keeps_its_own_options);
        tcase_add_test(reading, two_dashes_end_the_options);
        tcase_add_test(reading, the_environment_is_passed_whole_or_not_at_all);
        tcase_add_test(reading, paths_are_meant_from_here);
        tcase_add_test(reading, words_for_streams_are_words);
        tcase_add_test(reading, times_and_sizes_are_converted);
        tcase_add_test(reading, leases_are_words_or_times);
        tcase_add_test(reading, a_shell_is_asked_for);
        tcase_add_loop_test(reading, wrong_usage_is_125, 0, ARRAY_SIZE(wrong));
        tcase_add_test(reading, global_options_may_follow_the_verb);
        suite_add_tcase(suite, reading);
        return suite;
}

CHECK_MAIN(run_params_suite);
