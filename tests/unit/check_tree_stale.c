/* SPDX-License-Identifier: MIT */

/* Keepers that are killed: what they left must go, what a living one has must stay. */

#include "daemon/engine/tree-stale.h"

#include "tests/support/check-main.h"
#include "tests/support/tree-run.h"

static pid_t fake_keeper(int *ret_fd) {
        int fds[2];
        pid_t pid;
        char c;

        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                (void)close(fds[1]);
                _exit(read(fds[0], &c, 1) == 0 ? 0 : 1);
        }
        (void)close(fds[0]);
        *ret_fd = fds[1];
        return pid;
}

static bool is_gone(pid_t pid) {
        tree_run_reap();
        return kill(pid, 0) < 0;
}

/* The run is a child of the test, not of the keeper that the directory's name tells of: a cgroup does not
 * care. */
static void start(TreeRun *run, TreeRoot *root) {
        tree_run_start(run, root, 1, "setsid sleep 1000 & trap '' TERM; echo 1; wait; wait", NULL);
        ck_assert_int_eq(tree_run_line(run), 1);
}

START_TEST(only_what_a_dead_daemon_left_is_killed)
{
        int before = open_fds_count(), keeper_fds[2];
        TreeRoot *living, *dying, *self;
        TreeRun kept, lost;
        pid_t keepers[2];
        size_t n;

        tree_run_keeper();
        (void)unsetenv("PMUX_NO_CGROUP");
        for (int i = 0; i < 2; i++)
                keepers[i] = fake_keeper(&keeper_fds[i]);
        ck_assert_int_eq(tree_root_open(&self, "aa", getpid(), NULL), 0);
        ck_assert_int_eq(tree_root_open(&living, "bb", keepers[0], NULL), 0);
        ck_assert_int_eq(tree_root_open(&dying, "cc", keepers[1], NULL), 0);
        if (tree_root_has_cgroups(self)) {
                start(&kept, living);
                start(&lost, dying);
                (void)tree_kill_stale(self); /* there may be what others left */
                ck_assert_int_eq(tree_pids(living, &kept.tree, NULL, 0, &n), 0);
                ck_assert_uint_eq(n, 2);
                ck_assert_int_eq(tree_pids(dying, &lost.tree, NULL, 0, &n), 0);
                ck_assert_uint_eq(n, 2);

                (void)close(keeper_fds[1]);
                ck_assert_int_eq(waitpid(keepers[1], NULL, 0), keepers[1]);
                (void)tree_kill_stale(self);
                TREE_RUN_WAIT(is_gone(lost.tree.main_pid));
                ck_assert_int_eq(tree_watch(dying, &lost.tree), 0); /* the cgroup is gone */
                ck_assert_int_eq(tree_pids(living, &kept.tree, NULL, 0, &n), 0);
                ck_assert_uint_eq(n, 2);
                tree_run_end(&kept);
                tree_run_leave(&lost);
        } else {
                ck_assert_int_eq(tree_kill_stale(self), 0);
                (void)close(keeper_fds[1]);
        }
        (void)close(keeper_fds[0]);
        living = tree_root_free(living);
        dying = tree_root_free(dying);
        self = tree_root_free(self);
        tree_run_reap();
        ck_assert_int_eq(open_fds_count(), before);
}
END_TEST

START_TEST(nowhere_there_is_nothing)
{ ck_assert_int_eq(tree_stale_kill(-1), 0); }
END_TEST

static Suite *tree_stale_suite(void) {
        Suite *suite = suite_create("tree-stale");
        TCase *stale = tcase_create("stale");

        tcase_set_timeout(stale, 60);
        tcase_add_test(stale, only_what_a_dead_daemon_left_is_killed);
        tcase_add_test(stale, nowhere_there_is_nothing);
        suite_add_tcase(suite, stale);
        return suite;
}

CHECK_MAIN(tree_stale_suite);
