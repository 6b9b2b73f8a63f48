/* SPDX-License-Identifier: MIT */

/* On a machine where no cgroup can be made there is nothing to check: the tests say nothing then. */

#include "daemon/engine/tree-cgroup.h"

#include <errno.h>
#include <sys/stat.h>

#include "common/fd.h"
#include "tests/support/check-main.h"
#include "tests/support/tree-run.h"

static Cgroups *cgroups;
static int n_fds_before;

static void setup(void) {
        Error error = {};

        n_fds_before = open_fds_count();
        tree_run_new_instance();
        if (cgroups_open(&cgroups, tree_run_instance, getpid(), &error) < 0) {
                ck_assert_ptr_null(cgroups);
                ck_assert_int_ne(error.code, ERROR_NONE);
                ck_assert_int_eq(open_fds_count(), n_fds_before);
        }
}

static void teardown(void) {
        cgroups = cgroups_free(cgroups);
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

static void on_term(int signal) {
        _exit(signal);
}

/* A child in the cgroup dir_fd that sleeps until it is killed, or handles SIGTERM. */
static pid_t sleeper(int dir_fd) {
        int fd, fds[2];
        pid_t pid;
        char c;

        ck_assert_int_eq(pipe(fds), 0);
        pid = fork();
        if (pid == 0) {
                (void)signal(SIGTERM, on_term);
                fd = openat(dir_fd, "cgroup.procs", O_WRONLY);
                if (write(fd, "0", 1) == 1 && write(fds[1], "x", 1) == 1)
                        for (;;)
                                (void)pause();
                _exit(1);
        }
        (void)close(fds[1]);
        ck_assert_int_eq(read(fds[0], &c, 1), 1);
        (void)close(fds[0]);
        return pid;
}

static size_t count(int dir_fd) {
        CLEANUP(proc_set_deinit) ProcSet set = {};

        ck_assert_int_eq(cgroup_pids(dir_fd, &set), 0);
        return set.n_ids;
}

START_TEST(a_cgroup_is_made_found_and_removed)
{
        int fd, again;

        if (!cgroups)
                return;
        ck_assert_int_eq(cgroups_open_run(cgroups, 1, 1), -ENOENT);
        ck_assert_int_eq(cgroups_make(cgroups, 1, 1, &fd), 0);
        ck_assert_int_eq(cgroups_make(cgroups, 1, 1, &again), 0);
        (void)close(again);
        ck_assert_int_eq(cgroup_populated(fd), 0);
        ck_assert_uint_eq(count(fd), 0);
        ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
        again = cgroups_open_run(cgroups, 1, 1);
        ck_assert_int_ge(again, 0);
        (void)close(again);
        ck_assert_int_eq(cgroups_open_run(cgroups, 1, 2), -ENOENT);
        ck_assert_int_eq(cgroups_remove(cgroups, 1, 1), 0);
        ck_assert_int_eq(cgroups_remove(cgroups, 1, 1), 0);
        ck_assert_int_eq(cgroups_open_run(cgroups, 1, 1), -ENOENT);
        ck_assert_int_lt(cgroup_populated(fd), 0);
        ck_assert_uint_eq(count(fd), 0);
        (void)close(fd);
}
END_TEST

START_TEST(a_process_in_it_is_seen_and_keeps_it)
{
        siginfo_t info;
        pid_t pid;
        int fd;

        if (!cgroups)
                return;
        ck_assert_int_eq(cgroups_make(cgroups, 1, 1, &fd), 0);
        pid = sleeper(fd);
        ck_assert_int_eq(cgroup_populated(fd), 1);
        ck_assert_uint_eq(count(fd), 1);
        ck_assert(cgroups_contains(cgroups, 1, 1, pid));
        ck_assert(!cgroups_contains(cgroups, 1, 2, pid));
        ck_assert(!cgroups_contains(cgroups, 1, 11, pid));
        ck_assert(!cgroups_contains(cgroups, 1, 1, getpid()));
        ck_assert_int_eq(cgroups_remove(cgroups, 1, 1), -EBUSY);
        ck_assert_int_eq(cgroup_kill(fd), 0);
        ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
        TREE_RUN_WAIT(cgroup_populated(fd) == 0); /* a zombie does not count */
        ck_assert_uint_eq(count(fd), 0);
        ck_assert_int_eq(cgroups_remove(cgroups, 1, 1), 0);
        (void)close(fd);
}
END_TEST

START_TEST(what_a_run_makes_below_belongs_to_it)
{
        CLEANUP(proc_set_deinit) ProcSet set = {};
        int fd, below, deep;
        pid_t pids[3];

        if (!cgroups)
                return;
        ck_assert_int_eq(cgroups_make(cgroups, 1, 1, &fd), 0);
        ck_assert_int_eq(mkdirat(fd, "a", 0755), 0);
        ck_assert_int_eq(mkdirat(fd, "b", 0755), 0);
        ck_assert_int_eq(mkdirat(fd, "a/deep", 0755), 0);
        below = openat(fd, "b", O_PATH | O_CLOEXEC);
        deep = openat(fd, "a/deep", O_PATH | O_CLOEXEC);
        pids[0] = sleeper(fd);
        pids[1] = sleeper(below);
        pids[2] = sleeper(deep);
        ck_assert_int_eq(cgroup_pids(fd, &set), 0);
        ck_assert_uint_eq(set.n_ids, 3);
        for (size_t i = 0; i < 3; i++) {
                ck_assert(proc_set_has(&set, &(ProcId){ .pid = pids[i] }));
                ck_assert(cgroups_contains(cgroups, 1, 1, pids[i]));
        }
        ck_assert_int_eq(cgroups_remove(cgroups, 1, 1), -EBUSY);
        ck_assert_int_eq(kill(pids[0], SIGKILL), 0);
        ck_assert_int_eq(kill(pids[1], SIGKILL), 0);
        TREE_RUN_WAIT(count(fd) == 1);
        ck_assert_int_eq(cgroup_populated(fd), 1);
        ck_assert_int_eq(cgroup_kill(fd), 0);
        TREE_RUN_WAIT(cgroup_populated(fd) == 0);
        ck_assert_int_eq(cgroups_remove(cgroups, 1, 1), 0);
        (void)close(fd);
        (void)close(below);
        (void)close(deep);
}
END_TEST

/* Whether the kernel has stopped all that is in it. */
static bool has_frozen(int dir_fd) {
        int fd = openat(dir_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
        char text[256];
        ssize_t n;

        n = read(fd, text, sizeof(text) - 1);
        (void)close(fd);
        ck_assert_int_gt(n, 0);
        text[n] = '\0';
        return strstr(text, "frozen 1");
}

START_TEST(freezing_is_asked_for_and_taken_back)
{
        pid_t pid;
        int fd;

        if (!cgroups)
                return;
        ck_assert_int_eq(cgroups_make(cgroups, 1, 1, &fd), 0);
        pid = sleeper(fd);
        ck_assert_int_eq(cgroup_frozen(fd), 0);
        ck_assert_int_eq(cgroup_freeze(fd, true), 0);
        ck_assert_int_eq(cgroup_frozen(fd), 1);
        TREE_RUN_WAIT(has_frozen(fd));
        ck_assert_int_eq(kill(pid, SIGTERM), 0);
        ck_assert_uint_eq(count(fd), 1);
        ck_assert_int_eq(cgroup_freeze(fd, false), 0);
        ck_assert_int_eq(cgroup_frozen(fd), 0);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        ck_assert_int_eq(cgroups_remove(cgroups, 1, 1), 0);
        (void)close(fd);
}
END_TEST

START_TEST(a_directory_that_was_tidied_away_is_made_again)
{
        char path[64], target[256];
        ssize_t n;
        int fd;

        if (!cgroups)
                return;
        /* Somebody else removes the daemon's empty directory. */
        ck_assert_int_eq(cgroups_make(cgroups, 1, 1, &fd), 0);
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = readlink(path, target, sizeof(target) - 1);
        ck_assert_int_gt(n, 0);
        target[n] = '\0';
        ck_assert_int_eq(rmdir(target), 0);
        *strrchr(target, '/') = '\0';
        ck_assert_int_eq(rmdir(target), 0);
        (void)close(fd);
        ck_assert_int_eq(cgroups_make(cgroups, 1, 2, &fd), 0);
        ck_assert_int_eq(cgroup_populated(fd), 0);
        (void)close(fd);
        ck_assert_int_eq(cgroups_remove(cgroups, 1, 2), 0);
}
END_TEST

START_TEST(the_next_engine_uses_the_same_directory)
{
        Cgroups *next = NULL;
        int fd;

        if (!cgroups)
                return;
        ck_assert_int_eq(cgroups_make(cgroups, 1, 1, &fd), 0);
        (void)close(fd);
        ck_assert_int_eq(cgroups_open(&next, tree_run_instance, getpid(), NULL), 0);
        fd = cgroups_open_run(next, 1, 1);
        ck_assert_int_ge(fd, 0);
        (void)close(fd);
        ck_assert_ptr_null(cgroups_free(next)); /* must not take away what is in use */
        ck_assert_int_eq(cgroups_make(cgroups, 1, 2, &fd), 0);
        (void)close(fd);
        ck_assert_int_eq(cgroups_remove(cgroups, 1, 1), 0);
        ck_assert_int_eq(cgroups_remove(cgroups, 1, 2), 0);
}
END_TEST

START_TEST(without_a_memory_controller_oom_is_not_known)
{
        int fd;

        if (!cgroups)
                return;
        ck_assert_int_eq(cgroups_make(cgroups, 1, 1, &fd), 0);
        if (faccessat(fd, "memory.events", F_OK, 0) < 0)
                ck_assert_int_eq(cgroup_oom(fd), -1);
        else
                ck_assert_int_eq(cgroup_oom(fd), 0);
        ck_assert_int_eq(cgroups_remove(cgroups, 1, 1), 0);
        ck_assert_int_eq(cgroup_oom(fd), -1);
        (void)close(fd);
}
END_TEST

/* The same reading of "KEY VALUE" files, from a directory of ours. */
START_TEST(events_are_read_by_their_key)
{
        char dir[] = "/tmp/check-tree-cgroup-XXXXXX", path[64];
        int fd, events;

        ck_assert_ptr_nonnull(mkdtemp(dir));
        fd = open(dir, O_PATH | O_CLOEXEC);
        (void)snprintf(path, sizeof(path), "%s/memory.events", dir);
        events = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        ck_assert_int_eq(cgroup_oom(fd), -1);
        ck_assert_int_eq(fd_write_all(events, "low 0\noom 5\noom_kill 0\noom_group_kill 7\n", 39), 0);
        ck_assert_int_eq(cgroup_oom(fd), 0);
        ck_assert_int_eq(pwrite(events, "2", 1, 21), 1);
        ck_assert_int_eq(cgroup_oom(fd), 1);
        (void)close(events);
        ck_assert_int_eq(unlink(path), 0);
        (void)snprintf(path, sizeof(path), "%s/cgroup.events", dir);
        events = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        ck_assert_int_eq(cgroup_populated(fd), -EIO);
        ck_assert_int_eq(fd_write_all(events, "frozen 0\npopulated 1\n", 21), 0);
        ck_assert_int_eq(cgroup_populated(fd), 1);
        ck_assert_int_eq(cgroup_kill(fd), -EOPNOTSUPP);
        (void)close(events);
        ck_assert_int_eq(unlink(path), 0);
        (void)snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
        events = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        ck_assert_int_eq(fd_write_all(events, "30\n0\n10\n20\n", 11), 0);
        ck_assert_uint_eq(count(fd), 3); /* 0 is one of another pid namespace */
        (void)close(events);
        ck_assert_int_eq(unlink(path), 0);
        (void)close(fd);
        ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

static Suite *tree_cgroup_suite(void) {
        Suite *suite = suite_create("tree-cgroup");
        TCase *run = tcase_create("run"), *files = tcase_create("files");

        tcase_set_timeout(run, 30);
        tcase_add_checked_fixture(run, setup, teardown);
        tcase_add_test(run, a_cgroup_is_made_found_and_removed);
        tcase_add_test(run, a_process_in_it_is_seen_and_keeps_it);
        tcase_add_test(run, what_a_run_makes_below_belongs_to_it);
        tcase_add_test(run, freezing_is_asked_for_and_taken_back);
        tcase_add_test(run, a_directory_that_was_tidied_away_is_made_again);
        tcase_add_test(run, the_next_engine_uses_the_same_directory);
        tcase_add_test(run, without_a_memory_controller_oom_is_not_known);
        tcase_add_test(files, events_are_read_by_their_key);
        suite_add_tcase(suite, run);
        suite_add_tcase(suite, files);
        return suite;
}

CHECK_MAIN(tree_cgroup_suite);
