/* SPDX-License-Identifier: MIT */

#include "common/paths.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/check-main.h"

static char *path;
static Error error;

static void setup(void) {
        static const char *const names[] = { "PMUX_SOCKET", "PMUX_STATE_DIR", "XDG_RUNTIME_DIR",
                                             "XDG_STATE_HOME" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                ck_assert_int_eq(unsetenv(names[i]), 0);
        ck_assert_int_eq(setenv("HOME", "/home/somebody", 1), 0);
        ck_assert_int_eq(chdir("/"), 0);
        path = NULL;
        error = (Error){};
}

static void teardown(void) {
        free(path);
        if (getuid() == 0)
                ck_assert_int_eq(seteuid(0), 0);
}

static void env(const char *name, const char *value) {
        ck_assert_int_eq(setenv(name, value, 1), 0);
}

static void assert_socket(const char *given, const char *expected) {
        free(path);
        path = NULL;
        ck_assert_int_eq(paths_socket(given, &path, &error), 0);
        ck_assert_str_eq(path, expected);
}

static void assert_state(const char *given, int is_system_daemon, const char *expected) {
        free(path);
        path = NULL;
        ck_assert_int_eq(paths_state(given, is_system_daemon, &path, &error), 0);
        ck_assert_str_eq(path, expected);
}

START_TEST(the_first_socket_that_is_named_wins)
{
        env("XDG_RUNTIME_DIR", "/run/user/7");
        assert_socket(NULL, "/run/user/7/pmux/socket");
        env("PMUX_SOCKET", "/a/b");
        assert_socket(NULL, "/a/b");
        assert_socket("/c", "/c");
        env("PMUX_SOCKET", "");
        assert_socket(NULL, "/run/user/7/pmux/socket");
        env("XDG_RUNTIME_DIR", "relative");
        free(path);
        path = NULL;
        ck_assert_int_eq(paths_socket(NULL, &path, NULL), 0);
        ck_assert_ptr_null(strstr(path, "relative"));
}
END_TEST

START_TEST(without_a_name_it_depends_on_the_user)
{
        char expected[64];
        struct stat st;

        if (geteuid() == 0) {
                assert_socket(NULL, "/run/pmux/socket");
                ck_assert_int_eq(seteuid(54321), 0);
        }
        (void)snprintf(expected, sizeof(expected), "/run/user/%u", geteuid());
        if (stat(expected, &st) < 0)
                (void)snprintf(expected, sizeof(expected), "/tmp/pmux-%u/socket", geteuid());
        else
                (void)snprintf(expected, sizeof(expected), "/run/user/%u/pmux/socket", geteuid());
        assert_socket(NULL, expected);
}
END_TEST

START_TEST(relative_paths_become_absolute)
{
        assert_socket("s", "/s");
        ck_assert_int_eq(chdir("/usr"), 0);
        assert_socket("a/s", "/usr/a/s");
        env("PMUX_SOCKET", "s");
        assert_socket(NULL, "/usr/s");
        assert_state("x", 0, "/usr/x");
}
END_TEST

START_TEST(an_empty_path_is_refused)
{
        ck_assert_int_eq(paths_socket("", &path, &error), -EINVAL);
        ck_assert_int_eq(error.code, ERROR_INVALID);
        ck_assert_int_eq(paths_state("", 1, &path, NULL), -EINVAL);
        ck_assert_ptr_null(path);
}
END_TEST

START_TEST(a_socket_path_has_a_bound)
{
        char text[109];

        memset(text, 'x', sizeof(text));
        text[0] = '/';
        text[107] = '\0';
        assert_socket(text, text);
        text[107] = 'x';
        text[108] = '\0';
        free(path);
        path = NULL;
        ck_assert_int_eq(paths_socket(text, &path, &error), -EINVAL);
        ck_assert_ptr_null(path);
        ck_assert_int_eq(error.code, ERROR_INVALID);
        ck_assert_ptr_nonnull(strstr(error.text, "108 bytes, at most 107"));
        ck_assert_ptr_nonnull(strstr(error.text, text));
}
END_TEST

START_TEST(the_first_state_directory_that_is_named_wins)
{
        assert_state(NULL, 0, "/home/somebody/.local/state/pmux");
        env("XDG_STATE_HOME", "/state");
        assert_state(NULL, 0, "/state/pmux");
        assert_state(NULL, 1, "/var/lib/pmux");
        env("PMUX_STATE_DIR", "/s");
        assert_state(NULL, 1, "/s");
        assert_state(NULL, 0, "/s");
        assert_state("/t", 1, "/t");
        env("PMUX_STATE_DIR", "");
        env("XDG_STATE_HOME", "relative");
        assert_state(NULL, 0, "/home/somebody/.local/state/pmux");
}
END_TEST

START_TEST(without_home_the_user_database_tells)
{
        ck_assert_int_eq(unsetenv("HOME"), 0);
        ck_assert_int_eq(paths_state(NULL, 0, &path, &error), 0);
        ck_assert_int_eq(path[0], '/');
        ck_assert_ptr_nonnull(strstr(path, "/.local/state/pmux"));
        if (geteuid() == 0) {
                free(path);
                path = NULL;
                ck_assert_int_eq(seteuid(54321), 0);
                ck_assert_int_eq(paths_state(NULL, 0, &path, &error), -EINVAL); /* nobody has this number */
                ck_assert_ptr_nonnull(strstr(error.text, "54321"));
        }
}
END_TEST

static Suite *paths_suite(void) {
        Suite *suite = suite_create("paths");
        TCase *socket = tcase_create("socket"), *state = tcase_create("state");

        tcase_add_checked_fixture(socket, setup, teardown);
        tcase_add_test(socket, the_first_socket_that_is_named_wins);
        tcase_add_test(socket, relative_paths_become_absolute);
        tcase_add_test(socket, an_empty_path_is_refused);
        tcase_add_test(socket, a_socket_path_has_a_bound);
        tcase_add_test(socket, without_a_name_it_depends_on_the_user);
        tcase_add_checked_fixture(state, setup, teardown);
        tcase_add_test(state, the_first_state_directory_that_is_named_wins);
        tcase_add_test(state, without_home_the_user_database_tells);
        suite_add_tcase(suite, socket);
        suite_add_tcase(suite, state);
        return suite;
}

CHECK_MAIN(paths_suite);
