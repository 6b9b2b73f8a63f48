/* SPDX-License-Identifier: MIT */

/* Signals, ends and stops of whole trees, with cgroups (_i 0) and without (_i 1), as in check_tree.c. */

#include <stdatomic.h>
#include <sys/mman.h>

#include "daemon/engine/tree.h"
#include "tests/support/check-main.h"
#include "tests/support/tree-run.h"

static TreeRoot *root;
static int n_fds_before;

static void start_root(int mode) {
        n_fds_before = open_fds_count();
        root = tree_run_open(mode);
}

static void end_root(void) {
        root = tree_root_free(root);
        tree_run_reap();
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

START_TEST(a_grandchild_that_ignores_sigterm_is_killed)
{
        TreeRun run;
        long pid;
        size_t n;

        start_root(_i);
        tree_run_start(&run, root, 7,
                       "sh -c 'trap \"\" TERM; sh -c \"echo \\$\\$; exec sleep 1000\" & wait' & wait", NULL);
        pid = tree_run_line(&run);
        ck_assert(tree_run_has(&run, (pid_t)pid));
        ck_assert_int_eq(tree_signal(root, &run.tree, SIGTERM, &n, NULL), 0);
        ck_assert_uint_eq(n, 3);
        TREE_RUN_WAIT(tree_run_gone(run.tree.main_pid));
        ck_assert_int_eq(tree_empty(root, &run.tree), 0);
        ck_assert(tree_run_has(&run, (pid_t)pid));
        ck_assert_int_eq(tree_signal(root, &run.tree, SIGKILL, &n, NULL), 0);
        ck_assert_uint_ge(n, 1);
        TREE_RUN_WAIT(tree_empty(root, &run.tree) == 1);
        ck_assert(tree_run_gone((pid_t)pid));
        tree_run_end(&run);
        end_root();
}
END_TEST

/* A bomb with a bound: every process forks and ends all the time, at most BOMB_MAX at once. */
#define BOMB_MAX 160

static atomic_int *n_bombs;
static uint64_t bomb_deadline_usec; /* should the test fail, its bombs must not go on for ever */

static void bomb_new(void) {
        n_bombs = mmap(NULL, sizeof(*n_bombs), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(n_bombs, MAP_FAILED);
        atomic_store(n_bombs, 1);
        bomb_deadline_usec = clock_monotonic_usec() + 2 * TREE_RUN_DEADLINE_USEC;
        (void)signal(SIGCHLD, SIG_IGN); /* the kernel reaps, as quickly as a keeper of its own would */
}

static void bomb(void) {
        pid_t pid;

        while (clock_monotonic_usec() < bomb_deadline_usec) {
                if (atomic_fetch_add(n_bombs, 1) >= BOMB_MAX) {
                        atomic_fetch_sub(n_bombs, 1);
                        if (atomic_fetch_sub(n_bombs, 1) > BOMB_MAX / 2)
                                _exit(0);
                        atomic_fetch_add(n_bombs, 1);
                        continue;
                }
                pid = fork();
                if (pid < 0)
                        atomic_fetch_sub(n_bombs, 1);
        }
}

START_TEST(a_fork_bomb_is_killed_as_a_tree)
{
        TreeRun run;
        size_t n;

        start_root(_i);
        bomb_new();
        tree_run_start(&run, root, 1, NULL, bomb);
        TREE_RUN_WAIT(atomic_load(n_bombs) > BOMB_MAX / 2);
        ck_assert_int_eq(tree_signal(root, &run.tree, SIGKILL, &n, NULL), 0);
        ck_assert_uint_ge(n, BOMB_MAX / 4);
        TREE_RUN_WAIT(tree_empty(root, &run.tree) == 1);
        tree_run_end(&run);
        ck_assert_int_eq(munmap(n_bombs, sizeof(*n_bombs)), 0);
        end_root();
}
END_TEST

/* Always one process only, and each lives for an instant: no pid that is read is still right. */
static void hop(void) {
        while (clock_monotonic_usec() < bomb_deadline_usec) {
                if (fork() > 0)
                        _exit(0);
                atomic_fetch_add(n_bombs, 1);
        }
}

START_TEST(what_hops_from_pid_to_pid_is_caught)
{
        TreeRun run;
        size_t n;

        start_root(_i);
        bomb_new();
        tree_run_start(&run, root, 1, NULL, hop);
        TREE_RUN_WAIT(atomic_load(n_bombs) > 10);
        ck_assert_int_eq(tree_signal(root, &run.tree, SIGKILL, &n, NULL), 0);
        TREE_RUN_WAIT(tree_empty(root, &run.tree) == 1);
        tree_run_end(&run);
        ck_assert_int_eq(munmap(n_bombs, sizeof(*n_bombs)), 0);
        end_root();
}
END_TEST

/* The part of a test that is killed: it says who leads its run, and waits for its end. */
static void start_and_die(int mode, atomic_int *ret_main_pid) {
        TreeRun run;

        root = tree_run_open(mode);
        tree_run_start(&run, root, 1, NULL, hop);
        atomic_store(ret_main_pid, run.tree.main_pid);
        for (;;)
                (void)pause();
}

START_TEST(a_test_that_is_killed_leaves_no_bomb)
{
        atomic_int *main_pid;
        pid_t pid;

        start_root(_i);
        bomb_new();
        main_pid = mmap(NULL, sizeof(*main_pid), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(main_pid, MAP_FAILED);
        pid = fork();
        if (pid == 0)
                start_and_die(_i, main_pid);
        TREE_RUN_WAIT(atomic_load(main_pid) > 0 && atomic_load(n_bombs) > 10);
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        TREE_RUN_WAIT(kill(-atomic_load(main_pid), 0) < 0 && errno == ESRCH);
        (void)tree_kill_stale(root); /* its cgroup is left */
        ck_assert_int_eq(munmap(main_pid, sizeof(*main_pid)), 0);
        ck_assert_int_eq(munmap(n_bombs, sizeof(*n_bombs)), 0);
        end_root();
}
END_TEST

/* The state letter of a process in /proc. */
static char state(pid_t pid) {
        char path[64], text[256], *p;
        ssize_t n;
        int fd;

        (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return '\0';
        n = read(fd, text, sizeof(text) - 1);
        (void)close(fd);
        text[n > 0 ? n : 0] = '\0';
        p = strrchr(text, ')');
        return p ? p[2] : '\0';
}

static bool is_frozen(const TreeRun *run) {
        pid_t pids[8];
        size_t n;

        if (tree_root_has_cgroups(run->root))
                return tree_run_says(run, "frozen 1");
        ck_assert_int_eq(tree_pids(run->root, &run->tree, pids, ARRAY_SIZE(pids), &n), 0);
        for (size_t i = 0; i < n && i < ARRAY_SIZE(pids); i++)
                if (state(pids[i]) != 'T')
                        return false;
        return true;
}

/* Takes all that a pipe holds, by one read: two that write without end may be faster than one that reads
 * until there is no more. */
static bool has_written(const TreeRun *run) {
        static char buffer[65536];

        return read(run->out_fd, buffer, sizeof(buffer)) > 0;
}

START_TEST(a_frozen_tree_stands_still_until_it_is_continued)
{
        TreeRun run;

        start_root(_i);
        tree_run_start(&run, root, 1, "sh -c 'while :; do echo 1; done' & while :; do echo 2; done", NULL);
        TREE_RUN_WAIT(tree_run_count(&run) == 2 && has_written(&run));
        ck_assert_int_eq(tree_freeze(root, &run.tree, true, NULL), 0);
        TREE_RUN_WAIT(is_frozen(&run));
        (void)has_written(&run);
        for (int i = 0; i < 100; i++)
                ck_assert(!has_written(&run));
        ck_assert_int_eq(tree_empty(root, &run.tree), 0);
        ck_assert_int_eq(tree_freeze(root, &run.tree, false, NULL), 0);
        TREE_RUN_WAIT(has_written(&run));
        tree_run_end(&run);
        end_root();
}
END_TEST

START_TEST(a_frozen_tree_can_be_killed)
{
        TreeRun run;

        start_root(_i);
        tree_run_start(&run, root, 1, "sleep 1000 & sleep 1000 & echo 1; wait", NULL);
        ck_assert_int_eq(tree_run_line(&run), 1);
        ck_assert_int_eq(tree_freeze(root, &run.tree, true, NULL), 0);
        TREE_RUN_WAIT(is_frozen(&run));
        tree_run_end(&run);
        end_root();
}
END_TEST

START_TEST(every_process_gets_the_signal_once)
{
        TreeRun run;
        size_t n;

        start_root(_i);
        tree_run_start(&run, root, 1,
                       "trap 'echo 5' USR1; sh -c 'trap \"echo 5\" USR1; echo 1; while :; do read -r x "
                       "</dev/null; done' & "
                       "echo 1; while :; do read -r x </dev/null; done",
                       NULL);
        ck_assert_int_eq(tree_run_line(&run), 1);
        ck_assert_int_eq(tree_run_line(&run), 1);
        ck_assert_int_eq(tree_signal(root, &run.tree, SIGUSR1, &n, NULL), 0);
        ck_assert_uint_eq(n, 2);
        ck_assert_int_eq(tree_run_line(&run), 5);
        ck_assert_int_eq(tree_run_line(&run), 5);
        tree_run_end(&run);
        ck_assert_int_eq(tree_signal(root, &run.tree, SIGUSR1, &n, NULL), 0);
        ck_assert_uint_eq(n, 0);
        end_root();
}
END_TEST

START_TEST(keeper_and_engine_are_never_signalled)
{
        TreeRun run;
        size_t n;
        int dir_fd, fd;

        start_root(_i);
        tree_run_start(&run, root, 1, "echo 1; exec sleep 1000", NULL);
        ck_assert_int_eq(tree_run_line(&run), 1);
        ck_assert_int_eq(tree_prepare(root, &run.tree, &dir_fd, NULL), 0);
        if (dir_fd >= 0) { /* somebody moved us into the run's cgroup */
                fd = openat(dir_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
                ck_assert_int_eq(write(fd, "0", 1), 1);
                (void)close(fd);
                ck_assert(tree_run_has(&run, getpid()));
                ck_assert_int_eq(tree_signal(root, &run.tree, SIGKILL, &n, NULL), 0);
                ck_assert_uint_eq(n, 1);
                fd = openat(dir_fd, "../../cgroup.procs", O_WRONLY | O_CLOEXEC);
                ck_assert_int_eq(write(fd, "0", 1), 1);
                (void)close(fd);
                (void)close(dir_fd);
        } else { /* the numbers are wrong: they name the keeper itself */
                Tree wrong = run.tree;

                wrong.main_pid = getpid();
                wrong.main_start = 0;
                wrong.mark[12]++;
                ck_assert_int_eq(tree_signal(root, &wrong, SIGKILL, &n, NULL), 0);
                ck_assert_uint_eq(n, 0);
        }
        tree_run_end(&run);
        end_root();
}
END_TEST

static Suite *tree_end_suite(void) {
        Suite *suite = suite_create("tree-end");
        TCase *end = tcase_create("end"), *freeze = tcase_create("freeze");

        tcase_set_timeout(end, 60);
        tcase_set_timeout(freeze, 60);
        tcase_add_loop_test(end, a_grandchild_that_ignores_sigterm_is_killed, 0, MODE_N_);
        tcase_add_loop_test(end, a_fork_bomb_is_killed_as_a_tree, 0, MODE_N_);
        tcase_add_loop_test(end, what_hops_from_pid_to_pid_is_caught, 0, MODE_N_);
        tcase_add_loop_test(end, a_test_that_is_killed_leaves_no_bomb, 0, MODE_N_);
        tcase_add_loop_test(end, every_process_gets_the_signal_once, 0, MODE_N_);
        tcase_add_loop_test(end, keeper_and_engine_are_never_signalled, 0, MODE_N_);
        tcase_add_loop_test(freeze, a_frozen_tree_stands_still_until_it_is_continued, 0, MODE_N_);
        tcase_add_loop_test(freeze, a_frozen_tree_can_be_killed, 0, MODE_N_);
        suite_add_tcase(suite, end);
        suite_add_tcase(suite, freeze);
        return suite;
}

CHECK_MAIN(tree_end_suite);
