/* SPDX-License-Identifier: MIT */

/* Trees of real processes. Each test runs twice: with cgroups (_i 0) and without (_i 1); on a machine that
 * has none it runs without them twice. */

#include "daemon/engine/tree.h"

#include <errno.h>

#include "common/fd.h"
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

START_TEST(a_run_that_ended_is_empty)
{
        TreeRun run;

        start_root(_i);
        tree_run_start(&run, root, 1, "read -r x </dev/null; echo 1; exec sleep 1000", NULL);
        ck_assert_int_eq(tree_run_line(&run), 1);
        ck_assert_int_eq(tree_empty(root, &run.tree), 0);
        ck_assert(tree_run_has(&run, run.tree.main_pid));
        ck_assert_int_eq(kill(run.tree.main_pid, SIGKILL), 0);
        TREE_RUN_WAIT(tree_empty(root, &run.tree) == 1);
        ck_assert_uint_eq(tree_run_count(&run), 0);
        tree_run_end(&run);
        end_root();
}
END_TEST

START_TEST(a_zombie_does_not_count)
{
        siginfo_t info;
        TreeRun run;

        start_root(_i);
        tree_run_start(&run, root, 1, "exit 3", NULL);
        ck_assert_int_eq(waitid(P_PID, (id_t)run.tree.main_pid, &info, WEXITED | WNOWAIT), 0);
        ck_assert_int_eq(tree_empty(root, &run.tree), 1);
        ck_assert_uint_eq(tree_run_count(&run), 0);
        tree_run_end(&run);
        end_root();
}
END_TEST

/* In the middle of an exec a process has no environment to be known by: the name is there first. */
static bool has_executed(pid_t pid, const char *name) {
        static const char *const files[] = { "comm", "environ" };
        char path[64], text[2][64] = {};
        FILE *file;

        for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
                (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, files[i]);
                file = fopen(path, "re");
                if (!file)
                        return false;
                if (fread(text[i], 1, sizeof(text[i]) - 1, file) == 0)
                        text[i][0] = '\0';
                (void)fclose(file);
        }
        return strncmp(text[0], name, strlen(name)) == 0 && text[1][0];
}

/* A daemon that left parents and session behind. With a clean environment as well, /proc has no trace left.
 */
#define DAEMON(clean) "setsid " clean "sh -c 'sh -c \"echo \\$\\$; exec sleep 1000\" & exit' & wait; exit 0"

START_TEST(a_daemon_that_forked_twice_is_found)
{
        TreeRun run;
        long pid;
        size_t n;

        start_root(_i);
        tree_run_start(&run, root, 1, DAEMON(""), NULL);
        pid = tree_run_line(&run);
        TREE_RUN_WAIT(tree_run_gone(run.tree.main_pid));
        ck_assert_int_ne(tree_empty(root, &run.tree), 1); /* though it may be executing sleep right now */
        TREE_RUN_WAIT(has_executed((pid_t)pid, "sleep"));
        ck_assert_int_eq(tree_empty(root, &run.tree), 0);
        ck_assert(tree_run_has(&run, (pid_t)pid));
        ck_assert_int_eq(tree_signal(root, &run.tree, SIGKILL, &n, NULL), 0);
        ck_assert_uint_eq(n, 1);
        TREE_RUN_WAIT(tree_run_gone((pid_t)pid));
        ck_assert_int_eq(tree_empty(root, &run.tree), 1);
        tree_run_end(&run);
        end_root();
}
END_TEST

START_TEST(a_daemon_with_a_clean_environment_needs_a_cgroup)
{
        TreeRun run;
        long pid;

        start_root(_i);
        tree_run_start(&run, root, 1, DAEMON("env -i "), NULL);
        pid = tree_run_line(&run);
        TREE_RUN_WAIT(tree_run_gone(run.tree.main_pid));
        TREE_RUN_WAIT(tree_run_has(&run, (pid_t)pid) == tree_root_has_cgroups(root));
        if (!tree_root_has_cgroups(root)) {                      /* what tree-proc.h says cannot be found */
                TREE_RUN_WAIT(tree_empty(root, &run.tree) == 1); /* when it has executed sleep */
                ck_assert_int_eq(kill((pid_t)pid, SIGKILL), 0);
        }
        tree_run_end(&run);
        TREE_RUN_WAIT(tree_run_gone((pid_t)pid));
        end_root();
}
END_TEST

START_TEST(a_clean_environment_alone_hides_nobody)
{
        TreeRun run;
        long in_session, with_parent;

        start_root(_i);
        /* One has lost its parents but not its session, one its session but not its parents. */
        tree_run_start(&run, root, 1,
                       "sh -c 'env -i sh -c \"echo \\$\\$; exec sleep 1000\" & exit'; "
                       "setsid env -i sh -c 'echo $$; exec sleep 1000' & wait",
                       NULL);
        in_session = tree_run_line(&run);
        with_parent = tree_run_line(&run);
        TREE_RUN_WAIT(tree_run_has(&run, (pid_t)in_session) && tree_run_has(&run, (pid_t)with_parent));
        ck_assert_uint_eq(tree_run_count(&run), 3);
        tree_run_end(&run);
        TREE_RUN_WAIT(tree_run_gone((pid_t)in_session) && tree_run_gone((pid_t)with_parent));
        end_root();
}
END_TEST

START_TEST(two_runs_are_kept_apart)
{
        TreeRun run, other;

        start_root(_i);
        tree_run_start(&run, root, 1, "sleep 1000 & echo 1; wait", NULL);
        tree_run_start(&other, root, 2, "sleep 1000 & echo 1; wait", NULL);
        ck_assert_int_eq(tree_run_line(&run), 1);
        ck_assert_int_eq(tree_run_line(&other), 1);
        ck_assert_uint_eq(tree_run_count(&run), 2);
        tree_run_end(&run);
        ck_assert_uint_eq(tree_run_count(&other), 2);
        tree_run_end(&other);
        end_root();
}
END_TEST

START_TEST(no_more_pids_are_stored_than_there_is_room_for)
{
        pid_t pids[3] = { 0, 0, -7 };
        TreeRun run;
        size_t n;

        start_root(_i);
        tree_run_start(&run, root, 1, "sleep 1000 & sleep 1000 & sleep 1000 & echo 1; wait", NULL);
        ck_assert_int_eq(tree_run_line(&run), 1);
        ck_assert_int_eq(tree_pids(root, &run.tree, pids, 2, &n), 0);
        ck_assert_uint_eq(n, 4);
        ck_assert(pids[0] > 0 && pids[0] < pids[1] && pids[2] == -7);
        tree_run_end(&run);
        end_root();
}
END_TEST

/* The engine after an engine: nothing but the numbers is known. */
START_TEST(a_new_engine_finds_the_tree_again)
{
        TreeRun run;

        start_root(_i);
        tree_run_start(&run, root, 1, "sleep 1000 & echo 1; wait", NULL);
        ck_assert_int_eq(tree_run_line(&run), 1);
        root = tree_root_free(root);
        ck_assert_int_eq(tree_root_open(&root, tree_run_instance, getpid(), NULL), 0);
        run.root = root;
        tree_init(root, &run.tree, 1, 1, run.tree.main_pid);
        ck_assert_uint_eq(tree_run_count(&run), 2);
        tree_run_end(&run);
        end_root();
}
END_TEST

START_TEST(a_number_that_is_used_again_is_not_the_run)
{
        TreeRun run;
        Tree old;
        size_t n;

        start_root(_i);
        tree_run_start(&run, root, 2, "echo 1; exec sleep 1000", NULL);
        ck_assert_int_eq(tree_run_line(&run), 1);
        TREE_RUN_WAIT(has_executed(run.tree.main_pid, "sleep"));
        /* A run whose main process had this pid before, though all that is known of it now is the other's. */
        tree_init(root, &old, 1, 1, run.tree.main_pid);
        ck_assert_uint_eq(old.main_start, run.tree.main_start);
        ck_assert_int_eq(tree_empty(root, &old), 1);
        ck_assert_int_eq(tree_signal(root, &old, SIGKILL, &n, NULL), 0);
        ck_assert_uint_eq(n, 0);
        old.main_start = 0;
        ck_assert_int_eq(tree_signal(root, &old, SIGKILL, &n, NULL), 0);
        ck_assert_uint_eq(n, 0);
        ck_assert_int_eq(tree_empty(root, &old), 1);
        old.main_start = run.tree.main_start - 1;
        ck_assert_int_eq(tree_empty(root, &old), 1);
        /* Not even a child of the keeper. */
        tree_init(root, &old, 1, 1, 1);
        ck_assert_int_eq(tree_empty(root, &old), 1);
        ck_assert_uint_eq(tree_run_count(&run), 1);
        tree_run_end(&run);
        end_root();
}
END_TEST

static unsigned n_told;

static void on_change(uint64_t process, uint32_t n_run, void *userdata) {
        ck_assert_uint_eq(process, 42);
        ck_assert_uint_eq(n_run, 1);
        ck_assert_ptr_eq(userdata, &n_told);
        n_told++;
}

START_TEST(the_end_of_the_last_process_is_told)
{
        struct pollfd poll_fd;
        TreeRun run;

        start_root(MODE_CGROUP);
        n_told = 0;
        tree_run_start(&run, root, 42, "(echo 1; exec sleep 1000) & exit", NULL);
        ck_assert_int_eq(tree_watch(root, &run.tree), tree_root_has_cgroups(root));
        ck_assert_int_eq(tree_watch(root, &run.tree), tree_root_has_cgroups(root));
        ck_assert_int_eq(tree_run_line(&run), 1);
        if (tree_root_has_cgroups(root)) {
                TREE_RUN_WAIT(tree_run_gone(run.tree.main_pid));
                ck_assert_int_eq(tree_root_dispatch(root, on_change, &n_told), 0);
                ck_assert_int_eq(tree_empty(root, &run.tree), 0);
                ck_assert_int_eq(tree_freeze(root, &run.tree, false, NULL), 0);
                n_told = 0;
                {
                        size_t n;

                        ck_assert_int_eq(tree_signal(root, &run.tree, SIGTERM, &n, NULL), 0);
                }
                poll_fd = (struct pollfd){ .fd = tree_root_inotify_fd(root), .events = POLLIN };
                while (tree_empty(root, &run.tree) == 0)
                        ck_assert_int_eq(poll(&poll_fd, 1, (int)(TREE_RUN_DEADLINE_USEC / USEC_PER_MSEC)), 1);
                ck_assert_int_eq(poll(&poll_fd, 1, (int)(TREE_RUN_DEADLINE_USEC / USEC_PER_MSEC)), 1);
                ck_assert_int_eq(tree_root_dispatch(root, on_change, &n_told), 0);
                ck_assert_uint_ge(n_told, 1);
                ck_assert_int_eq(poll(&poll_fd, 1, 0), 0);
        } else {
                ck_assert_int_eq(tree_root_inotify_fd(root), -1);
        }
        tree_run_end(&run);
        tree_release(root, &run.tree);
        end_root();
}
END_TEST

/* Whether the run has a cgroup, as far as a watch tells. */
static bool has_cgroup(uint64_t process) {
        Tree tree;

        tree_init(root, &tree, process, 1, 0);
        return tree_watch(root, &tree) == 1;
}

START_TEST(what_is_released_goes_when_there_is_time)
{
        Tree tree;
        int fd;

        start_root(_i);
        tree_init(root, &tree, 1, 1, 0);
        ck_assert_int_eq(tree_prepare(root, &tree, &fd, NULL), 0);
        (void)fd_close(fd);
        tree_release(root, &tree);
        tree_release(root, &tree);
        ck_assert(tree_root_untidy(root) == tree_root_has_cgroups(root));
        ck_assert(has_cgroup(1) == tree_root_has_cgroups(root));
        /* It is wanted again before there was time: then it stays. */
        ck_assert_int_eq(tree_prepare(root, &tree, &fd, NULL), 0);
        (void)fd_close(fd);
        ck_assert(!tree_root_untidy(root));
        tree_root_tidy(root);
        ck_assert(has_cgroup(1) == tree_root_has_cgroups(root));
        tree_release(root, &tree);
        tree_root_tidy(root);
        ck_assert(!tree_root_untidy(root));
        ck_assert(!has_cgroup(1));
        for (uint64_t id = 1; id <= 200; id++) { /* more than may wait */
                tree_init(root, &tree, id, 1, 0);
                ck_assert_int_eq(tree_prepare(root, &tree, &fd, NULL), 0);
                (void)fd_close(fd);
                tree_release(root, &tree);
        }
        ck_assert(!has_cgroup(1));
        tree_root_tidy(root);
        for (uint64_t id = 1; id <= 200; id++)
                ck_assert(!has_cgroup(id));
        end_root();
}
END_TEST

START_TEST(what_was_made_ahead_is_used_or_removed)
{
        Tree tree;
        int fd;

        start_root(_i);
        tree_prepare_ahead(root, 1, 1);
        tree_prepare_ahead(root, 1, 1);
        ck_assert(has_cgroup(1) == tree_root_has_cgroups(root));
        tree_init(root, &tree, 1, 1, 0);
        ck_assert_int_eq(tree_prepare(root, &tree, &fd, NULL), 0);
        ck_assert_int_eq(fd >= 0, tree_root_has_cgroups(root));
        (void)fd_close(fd);
        tree_prepare_ahead(root, 2, 1); /* for the next, which takes another id */
        tree_prepare_ahead(root, 3, 1);
        ck_assert(has_cgroup(1) == tree_root_has_cgroups(root));
        ck_assert(!has_cgroup(2));
        ck_assert(has_cgroup(3) == tree_root_has_cgroups(root));
        tree_root_clear(root);
        ck_assert(!has_cgroup(3));
        tree_release(root, &tree);
        end_root();
}
END_TEST

START_TEST(nothing_is_left_behind)
{
        TreeRun run;
        int dir_fd;

        start_root(_i);
        tree_run_start(&run, root, 1, "exit", NULL);
        tree_run_end(&run);
        ck_assert_int_eq(tree_watch(root, &run.tree), 0);
        tree_release(root, &run.tree);
        ck_assert_int_eq(tree_oom(root, &run.tree), -1);
        /* A second run of the same process begins with an empty cgroup. */
        run.tree.run = 2;
        ck_assert_int_eq(tree_prepare(root, &run.tree, &dir_fd, NULL), 0);
        ck_assert_int_eq(dir_fd >= 0, tree_root_has_cgroups(root));
        if (dir_fd >= 0) {
                ck_assert(tree_run_says(&run, "populated 0"));
                (void)close(dir_fd);
        }
        tree_release(root, &run.tree);
        end_root();
}
END_TEST

START_TEST(an_instance_that_is_not_hex_is_refused)
{
        static const char *const bad[] = {
                "", "xyz", "../../x", "12 34",
                "0123456789012345678901234567890123456789012345678901234567890123a"
        };
        Error error = {};

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                ck_assert_int_eq(tree_root_open(&root, bad[i], getpid(), &error), -EINVAL);
                ck_assert_int_eq(error.code, ERROR_INVALID);
        }
}
END_TEST

START_TEST(marks_tell_runs_apart_and_fit)
{
        char expected[TREE_MARK_MAX];
        Tree tree, other;

        start_root(_i);
        (void)snprintf(expected, sizeof(expected), "PMUX_MARK=%.16s.18446744073709551615.4294967295",
                       tree_run_instance);
        tree_init(root, &tree, UINT64_MAX, UINT32_MAX, 0);
        ck_assert_str_eq(tree.mark, expected);
        tree_init(root, &other, UINT64_MAX, UINT32_MAX - 1, 0);
        ck_assert_str_ne(tree.mark, other.mark);
        end_root();
}
END_TEST

static Suite *tree_suite(void) {
        Suite *suite = suite_create("tree");
        TCase *find = tcase_create("find"), *other = tcase_create("other");

        tcase_set_timeout(find, 60);
        tcase_set_timeout(other, 60);
        tcase_add_loop_test(find, a_run_that_ended_is_empty, 0, MODE_N_);
        tcase_add_loop_test(find, a_zombie_does_not_count, 0, MODE_N_);
        tcase_add_loop_test(find, a_daemon_that_forked_twice_is_found, 0, MODE_N_);
        tcase_add_loop_test(find, a_daemon_with_a_clean_environment_needs_a_cgroup, 0, MODE_N_);
        tcase_add_loop_test(find, a_clean_environment_alone_hides_nobody, 0, MODE_N_);
        tcase_add_loop_test(find, two_runs_are_kept_apart, 0, MODE_N_);
        tcase_add_loop_test(find, no_more_pids_are_stored_than_there_is_room_for, 0, MODE_N_);
        tcase_add_loop_test(find, a_new_engine_finds_the_tree_again, 0, MODE_N_);
        tcase_add_loop_test(find, a_number_that_is_used_again_is_not_the_run, 0, MODE_N_);
        tcase_add_test(other, the_end_of_the_last_process_is_told);
        tcase_add_loop_test(other, nothing_is_left_behind, 0, MODE_N_);
        tcase_add_loop_test(other, what_is_released_goes_when_there_is_time, 0, MODE_N_);
        tcase_add_loop_test(other, what_was_made_ahead_is_used_or_removed, 0, MODE_N_);
        tcase_add_test(other, an_instance_that_is_not_hex_is_refused);
        tcase_add_loop_test(other, marks_tell_runs_apart_and_fit, 0, MODE_N_);
        suite_add_tcase(suite, find);
        suite_add_tcase(suite, other);
        return suite;
}

CHECK_MAIN(tree_suite);
