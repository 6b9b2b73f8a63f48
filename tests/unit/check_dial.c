/* SPDX-License-Identifier: MIT */

/* Reaching a daemon, and starting one: a shell script plays pmuxd. */

#include "client/libpmux/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "tests/support/check-main.h"

static char dir[32];
static char path[64], script[64];
static int n_fds;

static void setup(void) {
        n_fds = open_fds_count();
        (void)strcpy(dir, "/tmp/check-dial-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(dir));
        (void)snprintf(path, sizeof(path), "%s/socket", dir);
        (void)snprintf(script, sizeof(script), "%s/daemon", dir);
        ck_assert_int_eq(setenv("PMUX_DAEMON", script, 1), 0);
}

static void teardown(void) {
        (void)unlink(path);
        (void)unlink(script);
        ck_assert_int_eq(rmdir(dir), 0);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

/* The daemon to start is a script with this text. */
static void write_script(const char *text) {
        FILE *file = fopen(script, "we");

        ck_assert_ptr_nonnull(file);
        ck_assert_int_gt(fprintf(file, "#!/bin/sh\n%s\n", text), 0);
        ck_assert_int_eq(fclose(file), 0);
        ck_assert_int_eq(chmod(script, 0700), 0);
}

static int autostart(uint64_t patience_usec, Error *ret_error) {
        *ret_error = (Error){};
        return dial_autostart(path, clock_monotonic_usec() + patience_usec, ret_error);
}

START_TEST(nothing_there_and_nothing_listening_are_told)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        Error error = {};
        int fd;

        ck_assert_int_eq(dial_socket(path, &fd, &error), -ENOENT);
        ck_assert_int_eq(error.code, ERROR_UNREACHABLE);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        ck_assert_int_eq(close(fd), 0);
        ck_assert_int_eq(dial_socket(path, &fd, &error), -ECONNREFUSED);
        ck_assert_ptr_nonnull(strstr(error.text, path));
}
END_TEST

START_TEST(a_listener_is_reached)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = -1;

        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
        ck_assert_int_eq(listen(listener, 1), 0);
        ck_assert_int_eq(dial_socket(path, &fd, NULL), 0);
        ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
        ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
        (void)fd_close(fd);
        (void)fd_close(listener);
}
END_TEST

START_TEST(a_path_that_is_too_long_is_refused)
{
        char longer[200];
        int fd;

        memset(longer, 'x', sizeof(longer) - 1);
        longer[sizeof(longer) - 1] = '\0';
        ck_assert_int_eq(dial_socket(longer, &fd, NULL), -EINVAL);
}
END_TEST

START_TEST(a_daemon_that_gets_ready_is_enough)
{
        Error error;

        write_script("test \"$1 $2\" = '--daemonize --socket' && test -n \"$3\" && exit 0; exit 1");
        ck_assert_int_eq(autostart(USEC_PER_SEC * 10, &error), 0);
}
END_TEST

START_TEST(another_daemon_that_was_faster_is_enough)
{
        Error error;

        write_script("exit 3");
        ck_assert_int_eq(autostart(USEC_PER_SEC * 10, &error), 0);
}
END_TEST

START_TEST(a_daemon_that_fails_is_quoted)
{
        Error error;

        write_script("echo 'pmuxd: the disk is on fire' >&2; exit 1");
        ck_assert_int_eq(autostart(USEC_PER_SEC * 10, &error), -ECONNREFUSED);
        ck_assert_int_eq(error.code, ERROR_UNREACHABLE);
        ck_assert_ptr_nonnull(strstr(error.text, ": the disk is on fire"));
        ck_assert_ptr_null(strstr(error.text, "pmuxd: "));
}
END_TEST

START_TEST(a_daemon_that_keeps_its_stderr_does_not_hang_us)
{
        Error error;

        write_script("sleep 5 & echo bad >&2; exit 1");
        ck_assert_int_eq(autostart(USEC_PER_SEC * 10, &error), -ECONNREFUSED);
        ck_assert_ptr_nonnull(strstr(error.text, "bad"));
}
END_TEST

START_TEST(a_daemon_that_is_killed_is_told)
{
        Error error;

        write_script("kill -9 $$");
        ck_assert_int_eq(autostart(USEC_PER_SEC * 10, &error), -ECONNREFUSED);
        ck_assert_ptr_nonnull(strstr(error.text, "signal 9"));
}
END_TEST

START_TEST(a_daemon_that_hangs_is_given_up)
{
        Error error;

        write_script("exec sleep 3");
        ck_assert_int_eq(autostart(USEC_PER_MSEC * 50, &error), -ETIMEDOUT);
        ck_assert_int_eq(error.code, ERROR_UNREACHABLE);
}
END_TEST

START_TEST(no_daemon_to_start_is_told)
{
        Error error;

        ck_assert_int_eq(autostart(USEC_PER_SEC * 10, &error), -ENOENT);
        ck_assert_int_eq(error.code, ERROR_UNREACHABLE);
        ck_assert_ptr_nonnull(strstr(error.text, script));
        ck_assert_ptr_nonnull(strstr(error.text, path));
}
END_TEST

static Suite *dial_suite(void) {
        Suite *suite = suite_create("dial");
        TCase *reaching = tcase_create("reaching"), *starting = tcase_create("starting");

        tcase_add_checked_fixture(reaching, setup, teardown);
        tcase_add_test(reaching, nothing_there_and_nothing_listening_are_told);
        tcase_add_test(reaching, a_listener_is_reached);
        tcase_add_test(reaching, a_path_that_is_too_long_is_refused);
        suite_add_tcase(suite, reaching);
        tcase_add_checked_fixture(starting, setup, teardown);
        tcase_add_test(starting, a_daemon_that_gets_ready_is_enough);
        tcase_add_test(starting, another_daemon_that_was_faster_is_enough);
        tcase_add_test(starting, a_daemon_that_fails_is_quoted);
        tcase_add_test(starting, a_daemon_that_keeps_its_stderr_does_not_hang_us);
        tcase_add_test(starting, a_daemon_that_is_killed_is_told);
        tcase_add_test(starting, a_daemon_that_hangs_is_given_up);
        tcase_add_test(starting, no_daemon_to_start_is_told);
        suite_add_tcase(suite, starting);
        return suite;
}

CHECK_MAIN(dial_suite);
