/* SPDX-License-Identifier: MIT */

/* This process is the keeper; what is found is compared with what was started. check_tree.c has the programs.
 */

#include "daemon/engine/tree-proc.h"

#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "daemon/engine/proc-stat.h"
#include "tests/support/check-main.h"
#include "tests/support/tree-run.h"

#define LOOKS 500 /* at one that escaped */

static TreeRoot *root;
static int n_fds_before;
static bool thorough;

static void setup(void) {
        n_fds_before = open_fds_count();
        tree_run_keeper();
        tree_run_new_instance();
        ck_assert_int_eq(setenv("PMUX_NO_CGROUP", "1", 1), 0);
        ck_assert_int_eq(tree_root_open(&root, tree_run_instance, getpid(), NULL), 0);
}

static void teardown(void) {
        root = tree_root_free(root);
        tree_run_reap();
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

static TreeProcQuery query_of(const TreeRun *run) {
        return (TreeProcQuery){
                .keeper_pid = getpid(),
                .main_pid = run->tree.main_pid,
                .main_start = run->tree.main_start,
                .mark = run->tree.mark,
        };
}

static size_t count(const TreeProcQuery *query) {
        CLEANUP(proc_set_deinit) ProcSet set = {};

        ck_assert_int_eq(tree_proc_pids(query, thorough, &set), 0);
        for (size_t i = 1; i < set.n_ids; i++)
                ck_assert_int_lt(set.ids[i - 1].pid, set.ids[i].pid);
        return set.n_ids;
}

START_TEST(each_trace_alone_is_enough)
{
        TreeProcQuery query;
        TreeRun run;

        /* The main process, one below it in a session of its own, and one of the main session without
         * parents. */
        thorough = _i;
        tree_run_start(&run, root, 1, "setsid sleep 1000 & sh -c 'sleep 1000 & exit'; echo 1; wait", NULL);
        ck_assert_int_eq(tree_run_line(&run), 1);
        query = query_of(&run);
        TREE_RUN_WAIT(count(&query) == 3);
        query.mark = "OTHER_NAME=x"; /* by parenthood and session, the main process by pid and start */
        ck_assert_uint_eq(count(&query), 3);
        query = query_of(&run);
        query.main_pid = 0; /* by the mark, and from there */
        ck_assert_uint_eq(count(&query), 3);
        query.mark = "OTHER_NAME=x"; /* by nothing */
        ck_assert_uint_eq(count(&query), 0);
        tree_run_end(&run);
}
END_TEST

START_TEST(only_what_is_below_the_keeper_counts)
{
        TreeProcQuery query;
        TreeRun run;

        thorough = _i;
        tree_run_start(&run, root, 1, "echo 1; exec sleep 1000", NULL);
        ck_assert_int_eq(tree_run_line(&run), 1);
        query = query_of(&run);
        ck_assert_uint_eq(count(&query), 1);
        query.keeper_pid = run.tree.main_pid; /* it is not below itself */
        ck_assert_uint_eq(count(&query), 0);
        query.keeper_pid = 0x3fffffff;
        ck_assert_uint_eq(count(&query), 0);
        tree_run_end(&run);
}
END_TEST

START_TEST(the_main_process_is_told_by_its_start)
{
        TreeProcQuery query;
        TreeRun run;

        thorough = _i;
        tree_run_start(&run, root, 1, "echo 1; exec sleep 1000", NULL);
        ck_assert_int_eq(tree_run_line(&run), 1);
        query = query_of(&run);
        ck_assert(tree_proc_main_alive(&query));
        query.main_start++;
        ck_assert(!tree_proc_main_alive(&query));
        query.main_start = TREE_PROC_GONE;
        ck_assert(!tree_proc_main_alive(&query));
        query.main_start = 0; /* not known: only the long look tells */
        ck_assert(!tree_proc_main_alive(&query));
        ck_assert_uint_eq(count(&query), 1);
        query = query_of(&run);
        ck_assert_int_eq(kill(query.main_pid, SIGKILL), 0);
        TREE_RUN_WAIT(!tree_proc_main_alive(&query));
        tree_run_end(&run);
}
END_TEST

START_TEST(the_keepers_own_session_binds_nobody)
{
        TreeProcQuery query;
        pid_t pid, engine;
        TreeRun run;

        thorough = _i;
        engine = fork();
        if (engine == 0)
                for (;;)
                        (void)pause();
        /* Another one that shares our session, as the engine does, but carries the run's mark. */
        tree_run_start(&run, root, 1, "echo 1; exec sleep 1000", NULL);
        ck_assert_int_eq(tree_run_line(&run), 1);
        pid = fork();
        if (pid == 0) {
                char *argv[] = { (char *)"sleep", (char *)"1000", NULL };
                char *env[] = { run.tree.mark, NULL };

                (void)execve("/bin/sleep", argv, env);
                _exit(1);
        }
        query = query_of(&run);
        TREE_RUN_WAIT(count(&query) == 2);
        ck_assert_uint_eq(count(&query), 2);
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        ck_assert_int_eq(kill(engine, SIGKILL), 0);
        tree_run_end(&run);
}
END_TEST

static bool never(const ProcId *id, const void *userdata) {
        ck_assert_ptr_eq(userdata, &root);
        ck_assert_int_gt(id->pid, 0);
        return false;
}

/* A process with children of several threads: the kernel lists them apart. */
static void *fork_one(void *userdata) {
        if (fork() == 0)
                for (;;)
                        (void)pause();
        return userdata;
}

static void fork_from_threads(void) {
        pthread_t thread;

        for (int i = 0; i < 3; i++)
                if (pthread_create(&thread, NULL, fork_one, NULL) != 0)
                        _exit(1);
        for (;;)
                (void)pause();
}

START_TEST(children_of_all_threads_are_found)
{
        TreeProcQuery query;
        TreeRun run;

        thorough = _i;
        tree_run_start(&run, root, 1, NULL, fork_from_threads);
        query = query_of(&run);
        TREE_RUN_WAIT(count(&query) == 4);
        ck_assert_int_eq(tree_proc_empty(&query), 0);
        query.main_start = 0;
        ck_assert_int_eq(tree_proc_empty(&query), 0);
        tree_run_end(&run);
        ck_assert_int_eq(tree_proc_empty(&query), 1);
}
END_TEST

/* ---- those whom only their mark tells, which they do not always show ---- */

static char escaped_mark[TREE_MARK_MAX];

/* How one that escaped goes on. */
typedef struct Escape {
        const char *act;
        unsigned n_entries; /* of its environment, before the mark */
        size_t entry_size;  /* with the NUL */
        bool is_restless;
} Escape;

static const Escape escapes[] = {
        { "execute", 2, 8, true },
        { "execute", 1000, 40, true },       /* the mark lies behind what one read takes */
        { "execute", 20000, 2, true },       /* there are arguments long before there is an environment */
        { "execute-by-thread", 2, 8, true }, /* its first thread is ending meanwhile */
        { "lose-first-thread", 2, 8, false },
};
static const Escape *escape;

static void *act_execute(void *argv) {
        (void)execve("/proc/self/exe", argv, environ);
        _exit(9);
}

static void *act_rest(void *userdata) {
        for (;;)
                (void)pause();
        return userdata;
}

/* This program under one of those names does nothing else. */
static void __attribute__((constructor)) act(int argc, char **argv) {
        pthread_t thread;

        if (argc < 1)
                return;
        if (strcmp(argv[0], "execute") == 0)
                (void)act_execute(argv);
        if (strcmp(argv[0], "execute-by-thread") == 0) {
                (void)pthread_create(&thread, NULL, act_execute, argv);
                (void)act_rest(NULL);
        }
        if (strcmp(argv[0], "lose-first-thread") == 0) {
                (void)pthread_create(&thread, NULL, act_rest, NULL);
                (void)syscall(SYS_exit, 0); /* pthread_exit() would have more to unwind than there is here */
        }
}

static void escape_execute(void) {
        char *argv[] = { (char *)escape->act, NULL };
        char **env = calloc(escape->n_entries + 2, sizeof(*env));

        for (unsigned i = 0; env && i < escape->n_entries; i++) {
                env[i] = calloc(1, escape->entry_size);
                if (env[i])
                        memset(env[i], 'x', escape->entry_size - 1);
        }
        if (env)
                env[escape->n_entries] = escaped_mark;
        (void)dprintf(STDOUT_FILENO, "%d\n", getpid());
        (void)execve("/proc/self/exe", argv, env);
        _exit(1);
}

/* The main process: it leaves one behind in another session and without parents. */
static void escape_main(void) {
        pid_t pid = fork();

        if (pid > 0) {
                (void)waitpid(pid, NULL, 0);
                _exit(0);
        }
        (void)setsid();
        if (fork() == 0)
                escape_execute();
        _exit(0);
}

/* Starts a run that leaves one with its mark behind, and waits for the end of the main process. Returns who
 * is left. */
static pid_t escape_start(TreeRun *ret_run, void (*fn)(void)) {
        pid_t pid;

        tree_init(root, &ret_run->tree, 1, 1, 0);
        memcpy(escaped_mark, ret_run->tree.mark, sizeof(escaped_mark));
        tree_run_start(ret_run, root, 1, NULL, fn);
        pid = (pid_t)tree_run_line(ret_run);
        TREE_RUN_WAIT(tree_run_gone(ret_run->tree.main_pid));
        return pid;
}

START_TEST(one_that_escaped_is_not_overlooked)
{
        TreeProcQuery query;
        unsigned n_found = 0;
        TreeRun run;
        pid_t pid;
        int r;

        escape = &escapes[_i];
        pid = escape_start(&run, escape_main);
        query = query_of(&run);
        TREE_RUN_WAIT(tree_proc_empty(&query) == 0); /* it has executed, and so has the mark */
        for (unsigned i = 0; i < LOOKS; i++) {
                r = tree_proc_empty(&query);
                ck_assert_msg(r == 0 || r == -EAGAIN, "look %u: %d", i, r);
                n_found += r == 0;
        }
        ck_assert_uint_gt(n_found, 0);
        if (!escape->is_restless)
                TREE_RUN_WAIT(tree_proc_empty(&query) == 0 && tree_run_has(&run, pid));
        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        TREE_RUN_WAIT(tree_run_gone(pid));
        ck_assert_int_eq(tree_proc_empty(&query), 1);
        tree_run_end(&run);
}
END_TEST

/* One without arguments and environment, as far as /proc can tell: a stranger, for good. */
static void show_nothing(void) {
        struct prctl_mm_map map = {};
        char text[4096], *at;
        uint64_t values[52] = {};
        int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
        ssize_t n = read(fd, text, sizeof(text) - 1);

        text[n > 0 ? n : 0] = '\0';
        at = strrchr(text, ')');
        for (unsigned field = 3; at && field < ARRAY_SIZE(values) && (at = strchr(at + 1, ' ')); field++)
                values[field] = strtoull(at, NULL, 10);
        map.start_code = values[26];
        map.end_code = values[27];
        map.start_stack = values[28];
        map.start_data = values[45];
        map.end_data = values[46];
        map.start_brk = values[47];
        map.brk = (uint64_t)(uintptr_t)sbrk(0);
        map.arg_start = map.arg_end = map.env_start = map.env_end = values[48];
        map.exe_fd = (uint32_t)-1;
        if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0) < 0)
                (void)dprintf(STDOUT_FILENO, "%d\n", -errno);
        else
                (void)dprintf(STDOUT_FILENO, "%d\n", getpid());
        (void)act_rest(NULL);
}

START_TEST(one_that_shows_nothing_for_good_is_a_stranger)
{
        TreeProcQuery query;
        TreeRun run, other;

        tree_run_start(&other, root, 2, NULL, show_nothing);
        ck_assert_int_gt(tree_run_line(&other), 0);
        tree_run_start(&run, root, 1, "exit 0", NULL);
        TREE_RUN_WAIT(tree_run_gone(run.tree.main_pid));
        query = query_of(&run);
        ck_assert_int_eq(tree_proc_empty(&query), 1);
        tree_run_end(&run);
        ck_assert_int_eq(tree_run_has(&other, other.tree.main_pid), true);
        tree_run_end(&other);
}
END_TEST

static void *wait_for_child(void *userdata) {
        (void)waitpid(-1, NULL, 0);
        _exit(userdata ? 1 : 0);
}

/* A process without a mark leaves the main session, starts one that has it, and loses its first thread: with
 * that it shows as little as one that is ending. */
static void lose_the_first_thread(void) {
        char *argv[] = { (char *)"sh", (char *)"-c", (char *)"echo $$; kill -STOP $$", NULL };
        char *env[] = { (char *)"PATH=/usr/bin:/bin", escaped_mark, NULL };
        pthread_t thread;

        if (fork() > 0)
                _exit(0);
        (void)setsid();
        if (fork() == 0) {
                (void)execve("/bin/sh", argv, env);
                _exit(1);
        }
        if (pthread_create(&thread, NULL, wait_for_child, NULL) == 0)
                pthread_exit(NULL);
        _exit(1);
}

START_TEST(a_child_of_one_that_is_ending_is_found)
{
        TreeProcQuery query;
        TreeRun run;
        pid_t pid;

        thorough = _i;
        pid = escape_start(&run, lose_the_first_thread);
        query = query_of(&run);
        TREE_RUN_WAIT(count(&query) == 2); /* and, as they share a session, its parent */
        ck_assert(tree_run_has(&run, pid));
        ck_assert_int_eq(tree_proc_empty(&query), 0);
        tree_run_end(&run);
        TREE_RUN_WAIT(tree_run_gone(pid));
}
END_TEST

START_TEST(only_the_process_that_is_meant_is_signalled)
{
        ProcStat stat;
        TreeRun run;
        ProcId id;

        tree_run_start(&run, root, 1, "trap 'echo 5' USR1; echo 1; while :; do read -r x </dev/null; done",
                       NULL);
        ck_assert_int_eq(tree_run_line(&run), 1);
        ck_assert_int_eq(proc_stat_read(run.tree.main_pid, &stat), 0);
        id = (ProcId){ .pid = stat.pid, .start = stat.start - 1 };
        ck_assert_int_eq(tree_proc_signal(&id, SIGKILL, tree_proc_is, NULL), -ESRCH);
        id.start = stat.start;
        ck_assert_int_eq(tree_proc_signal(&id, SIGKILL, never, &root), -ESRCH);
        ck_assert_int_eq(tree_proc_signal(&id, SIGUSR1, tree_proc_is, NULL), 0);
        ck_assert_int_eq(tree_run_line(&run), 5);
        tree_run_end(&run);
        TREE_RUN_WAIT(kill(id.pid, 0) < 0);
        ck_assert_int_eq(tree_proc_signal(&id, SIGUSR1, tree_proc_is, NULL), -ESRCH);
}
END_TEST

static Suite *tree_proc_suite(void) {
        Suite *suite = suite_create("tree-proc");
        TCase *find = tcase_create("find"), *signal = tcase_create("signal");

        tcase_set_timeout(find, 60);
        tcase_set_timeout(signal, 60);
        tcase_add_checked_fixture(find, setup, teardown);
        tcase_add_loop_test(find, each_trace_alone_is_enough, 0, 2);
        tcase_add_loop_test(find, only_what_is_below_the_keeper_counts, 0, 2);
        tcase_add_loop_test(find, the_main_process_is_told_by_its_start, 0, 2);
        tcase_add_loop_test(find, the_keepers_own_session_binds_nobody, 0, 2);
        tcase_add_loop_test(find, children_of_all_threads_are_found, 0, 2);
        tcase_add_loop_test(find, one_that_escaped_is_not_overlooked, 0, ARRAY_SIZE(escapes));
        tcase_add_test(find, one_that_shows_nothing_for_good_is_a_stranger);
        tcase_add_loop_test(find, a_child_of_one_that_is_ending_is_found, 0, 2);
        tcase_add_checked_fixture(signal, setup, teardown);
        tcase_add_test(signal, only_the_process_that_is_meant_is_signalled);
        suite_add_tcase(suite, find);
        suite_add_tcase(suite, signal);
        return suite;
}

CHECK_MAIN(tree_proc_suite);
