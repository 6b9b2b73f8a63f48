/* SPDX-License-Identifier: MIT */

/* The state directory and the socket: made, checked, locked, and never taken from another daemon. */

#include "daemon/keeper/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/support/check-main.h"

static char dir[64], path[128];
static SetupListeners listeners;
static Error error;
static int n_fds;

static void setup(void) {
        n_fds = open_fds_count();
        (void)umask(022);
        strcpy(dir, "/tmp/check_setup.XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(dir));
        listeners = (SetupListeners){};
        error = (Error){};
}

static int remove_entry(const char *entry, const struct stat *st, int flag, struct FTW *ftw) {
        (void)st;
        (void)flag;
        (void)ftw;
        return remove(entry);
}

static void teardown(void) {
        setup_listeners_deinit(&listeners);
        ck_assert_int_eq(nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static const char *in_dir(const char *name) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        return path;
}

static mode_t mode_of(const char *name) {
        struct stat st;

        ck_assert_int_eq(lstat(name, &st), 0);
        return st.st_mode & 07777;
}

static void ck_assert_refused(int r, ErrorCode code, const char *word) {
        ck_assert_int_lt(r, 0);
        ck_assert_int_eq(error.code, code);
        ck_assert_msg(strstr(error.text, word), "'%s' does not say '%s'", error.text, word);
        ck_assert_ptr_nonnull(strstr(error.text, path));
}

START_TEST(a_directory_is_made_with_its_parents_for_us_alone)
{
        ck_assert_int_eq(setup_directory(in_dir("a/b/c/"), "state directory", &error), 0);
        ck_assert_uint_eq(mode_of(in_dir("a")), 0700);
        ck_assert_uint_eq(mode_of(in_dir("a/b")), 0700);
        ck_assert_uint_eq(mode_of(in_dir("a/b/c")), 0700);
        ck_assert_int_eq(setup_directory(in_dir("a/b/c"), "state directory", &error), 0);
}
END_TEST

START_TEST(a_directory_that_others_can_enter_is_refused)
{
        ck_assert_int_eq(mkdir(in_dir("open"), 0755), 0);
        ck_assert_refused(setup_directory(path, "state directory", &error), ERROR_DENIED, "chmod 700");
        ck_assert_int_eq(chmod(path, 0701), 0);
        ck_assert_refused(setup_directory(path, "state directory", &error), ERROR_DENIED, "chmod 700");
}
END_TEST

START_TEST(a_link_or_a_file_in_its_place_is_refused)
{
        ck_assert_int_eq(symlink(dir, in_dir("link")), 0);
        ck_assert_refused(setup_directory(path, "state directory", &error), ERROR_DENIED, "symbolic link");
        ck_assert_int_eq(mknod(in_dir("file"), S_IFREG | 0600, 0), 0);
        ck_assert_refused(setup_directory(path, "state directory", &error), ERROR_DENIED, "not a directory");
}
END_TEST

START_TEST(a_directory_of_somebody_else_is_refused)
{
        if (geteuid() != 0)
                return; /* cannot make one */
        ck_assert_int_eq(mkdir(in_dir("theirs"), 0700), 0);
        ck_assert_int_eq(chown(path, 65534, 65534), 0);
        ck_assert_refused(setup_directory(path, "state directory", &error), ERROR_DENIED, "65534");
}
END_TEST

START_TEST(a_state_directory_has_one_daemon)
{
        int fd = -1, other = -1;

        ck_assert_int_eq(setup_lock(dir, &fd, &error), 0);
        ck_assert_uint_eq(mode_of(in_dir("lock")), 0600);
        (void)snprintf(path, sizeof(path), "%s", dir);
        ck_assert_refused(setup_lock(dir, &other, &error), ERROR_ALREADY_RUNNING, "another daemon uses");
        setup_lock_sign(fd);
        ck_assert_refused(setup_lock(dir, &other, &error), ERROR_ALREADY_RUNNING, "(pid ");
        ck_assert_int_eq(other, -1);
        (void)fd_close(fd);
        ck_assert_int_eq(setup_lock(dir, &fd, &error), 0);
        (void)fd_close(fd);
}
END_TEST

START_TEST(a_socket_is_bound_and_ours_alone)
{
        struct stat st;
        int fd;

        ck_assert_int_eq(setup_listen(in_dir("run/pmux/socket"), true, &listeners, &error), 0);
        ck_assert_uint_eq(listeners.n, 1);
        fd = listeners.fds[0];
        ck_assert_uint_eq(mode_of(path), 0600);
        ck_assert_uint_eq(mode_of(in_dir("run/pmux")), 0700);
        ck_assert_int_eq(stat(in_dir("run/pmux/socket"), &st), 0);
        ck_assert(listeners.is_bound && listeners.inode == st.st_ino && listeners.device == st.st_dev);
        ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
        ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
        ck_assert_int_eq(accept(fd, NULL, NULL), -1);
        ck_assert_int_eq(errno, EAGAIN);
}
END_TEST

START_TEST(a_live_socket_is_left_alone)
{
        SetupListeners others = {};
        struct stat before, after;

        ck_assert_int_eq(setup_listen(in_dir("socket"), false, &listeners, &error), 0);
        ck_assert_int_eq(lstat(path, &before), 0);
        ck_assert_refused(setup_listen(path, false, &others, &error), ERROR_ALREADY_RUNNING, "listens");
        ck_assert_int_eq(lstat(path, &after), 0);
        ck_assert_uint_eq(before.st_ino, after.st_ino);
        ck_assert_uint_eq(others.n, 0);
}
END_TEST

START_TEST(a_stale_socket_is_replaced)
{
        ck_assert_int_eq(setup_listen(in_dir("socket"), false, &listeners, &error), 0);
        setup_listeners_deinit(&listeners);
        ck_assert_int_eq(access(path, F_OK), 0);
        ck_assert_int_eq(setup_listen(path, false, &listeners, &error), 0);
        ck_assert_uint_eq(listeners.n, 1);
}
END_TEST

START_TEST(what_is_no_socket_is_left_alone)
{
        ck_assert_int_eq(mknod(in_dir("socket"), S_IFREG | 0600, 0), 0);
        ck_assert_refused(setup_listen(path, false, &listeners, &error), ERROR_DENIED, "not a socket");
        ck_assert_int_eq(access(path, F_OK), 0);
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(symlink("/no/where", path), 0);
        ck_assert_refused(setup_listen(path, false, &listeners, &error), ERROR_DENIED, "not a socket");
}
END_TEST

START_TEST(a_path_that_is_too_long_names_the_bound)
{
        memset(path, 'x', 108);
        path[108] = '\0';
        ck_assert_refused(setup_listen(path, false, &listeners, &error), ERROR_INVALID, "107");
}
END_TEST

START_TEST(the_default_directory_must_be_ours_and_a_given_one_need_not)
{
        ck_assert_int_eq(mkdir(in_dir("open"), 0755), 0);
        ck_assert_int_lt(setup_listen(in_dir("open/socket"), true, &listeners, &error), 0);
        ck_assert_int_eq(error.code, ERROR_DENIED);
        ck_assert_int_eq(setup_listen(path, false, &listeners, &error), 0);
}
END_TEST

/* Passes one descriptor as systemd does, in a process of its own: the numbers are fixed. */
static int run_activated(int type, bool listens) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int status;
        pid_t pid;

        memcpy(address.sun_path, in_dir("activated"), strlen(dir) + sizeof("/activated"));
        pid = fork();
        if (pid == 0) {
                char text[16];
                int fd, r;

                fd = socket(AF_UNIX, type, 0);
                (void)unlink(path);
                if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
                    (listens && listen(fd, 5) < 0))
                        _exit(90);
                (void)dup2(fd, 3);
                (void)snprintf(text, sizeof(text), "%d", getpid());
                (void)setenv("LISTEN_PID", text, 1);
                (void)setenv("LISTEN_FDS", "1", 1);
                r = setup_activated(&listeners, &error);
                if (r < 0)
                        _exit(error.code == ERROR_INVALID ? 1 : 91);
                if (listeners.n != 1 || listeners.fds[0] != 3 || listeners.is_bound || getenv("LISTEN_FDS") ||
                    fcntl(3, F_GETFD) != FD_CLOEXEC || !(fcntl(3, F_GETFL) & O_NONBLOCK))
                        _exit(92);
                _exit(0);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        return status >> 8;
}

START_TEST(systemds_sockets_are_taken)
{
        ck_assert_int_eq(setup_activated(&listeners, &error), 0);
        ck_assert_uint_eq(listeners.n, 0);
        ck_assert_int_eq(run_activated(SOCK_STREAM, true), 0);
        ck_assert_int_eq(run_activated(SOCK_STREAM, false), 1);
        ck_assert_int_eq(run_activated(SOCK_DGRAM, false), 1);
}
END_TEST

static Suite *setup_suite(void) {
        Suite *suite = suite_create("setup");
        TCase *state = tcase_create("directory"), *sockets = tcase_create("socket");

        tcase_add_checked_fixture(state, setup, teardown);
        tcase_add_test(state, a_directory_is_made_with_its_parents_for_us_alone);
        tcase_add_test(state, a_directory_that_others_can_enter_is_refused);
        tcase_add_test(state, a_link_or_a_file_in_its_place_is_refused);
        tcase_add_test(state, a_directory_of_somebody_else_is_refused);
        tcase_add_test(state, a_state_directory_has_one_daemon);
        suite_add_tcase(suite, state);
        tcase_add_checked_fixture(sockets, setup, teardown);
        tcase_add_test(sockets, a_socket_is_bound_and_ours_alone);
        tcase_add_test(sockets, a_live_socket_is_left_alone);
        tcase_add_test(sockets, a_stale_socket_is_replaced);
        tcase_add_test(sockets, what_is_no_socket_is_left_alone);
        tcase_add_test(sockets, a_path_that_is_too_long_names_the_bound);
        tcase_add_test(sockets, the_default_directory_must_be_ours_and_a_given_one_need_not);
        tcase_add_test(sockets, systemds_sockets_are_taken);
        suite_add_tcase(suite, sockets);
        return suite;
}

CHECK_MAIN(setup_suite);
