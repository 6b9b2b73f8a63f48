/* SPDX-License-Identifier: MIT */
#pragma once

/* Runs for the tests of trees: this process is keeper and engine in one, and starts scripts in a tree. */

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/macro.h"
#include "daemon/engine/proc-stat.h"
#include "daemon/engine/tree.h"

#define TREE_RUN_DEADLINE_USEC (20 * USEC_PER_SEC)
#define TREE_RUN_CPU_SEC 60 /* should even its guard be killed, no process of a run computes for longer */

#define TREE_RUN_KILLS 1000 /* looks for what escaped, at most */

typedef struct TreeRun {
        TreeRoot *root; /* borrowed */
        Tree tree;
        int out_fd;   /* owned; non-blocking read end of the run's stdout */
        int guard_fd; /* owned; tells the run's guard that the test lives */
        pid_t guard;
} TreeRun;

static char tree_run_instance[33]; /* hex text that names this test alone, and so do the marks of its runs */

static inline void tree_run_new_instance(void) {
        static unsigned n_tests;

        (void)snprintf(tree_run_instance, sizeof(tree_run_instance), "%08x%08x5eed0123456789ab",
                       (unsigned)getpid(), ++n_tests);
}

/* Waits, reaping what ends meanwhile, until the expression is true. */
#define TREE_RUN_WAIT(expression)                                                                            \
        for (uint64_t wait_deadline = clock_monotonic_usec() + TREE_RUN_DEADLINE_USEC; !(expression);) {     \
                ck_assert_msg(clock_monotonic_usec() < wait_deadline, "in vain: %s", #expression);           \
                tree_run_reap();                                                                             \
                (void)poll(NULL, 0, 1);                                                                      \
        }

static inline void tree_run_reap(void) {
        while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
}

static inline void tree_run_keeper(void) {
        ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
}

/* Kills what escaped from its group, where there is no cgroup. Return: whether there was none, nor one that
 * may be. */
static inline bool tree_run_kill_marked(const char *mark) {
        struct dirent *entry;
        bool none = true;
        ProcMark found;
        pid_t pid;
        DIR *dir;

        dir = opendir("/proc");
        if (!dir)
                return false;
        while ((entry = readdir(dir))) {
                pid = (pid_t)strtol(entry->d_name, NULL, 10);
                found = pid > 0 ? proc_mark_read(pid, mark) : PROC_MARK_NONE;
                none &= found != PROC_MARK_SAME && found != PROC_MARK_UNKNOWN;
                if (found == PROC_MARK_SAME)
                        (void)kill(pid, SIGKILL);
        }
        (void)closedir(dir);
        return none;
}

/* Whatever becomes of the test, be it SIGKILL, what it started must not outlive it, forking or computing on
 * for ever: when the test's end of the pipe is closed without a word, its guard ends the run. */
static inline __attribute__((noreturn)) void tree_run_guard(pid_t pid, const char *mark, int dir_fd,
                                                            int pipe_fd) {
        int main_fd = pidfd_open(pid, 0), fd;
        char c;

        if (setsid() < 0 || dup2(pipe_fd, STDIN_FILENO) < 0)
                _exit(123);
        if (dup2(main_fd, STDOUT_FILENO) < 0) /* the main process has ended already */
                (void)close(STDOUT_FILENO);
        if (dup2(dir_fd, STDERR_FILENO) < 0) /* there is no cgroup */
                (void)close(STDERR_FILENO);
        (void)close_range(STDERR_FILENO + 1, ~0U, 0);
        if (read(STDIN_FILENO, &c, 1) != 0)
                _exit(0);
        (void)pidfd_send_signal(STDOUT_FILENO, SIGKILL, NULL, 0);
        (void)kill(-pid, SIGKILL); /* what hops from pid to pid stays in the group, and the number with it */
        fd = openat(STDERR_FILENO, "cgroup.kill", O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
                (void)!write(fd, "1", 1);
        for (unsigned i = 0; i < TREE_RUN_KILLS && !tree_run_kill_marked(mark); i++)
                ;
        _exit(0);
}

static inline void tree_run_guard_start(TreeRun *run, pid_t main_pid, int dir_fd) {
        int fds[2];

        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        run->guard = fork();
        if (run->guard == 0)
                tree_run_guard(main_pid, run->tree.mark, dir_fd, fds[0]);
        ck_assert_int_ge(run->guard, 0);
        (void)close(fds[0]);
        run->guard_fd = fds[1];
}

static inline __attribute__((noreturn)) void tree_run_child(const Tree *tree, int dir_fd, int out_fd,
                                                            void (*fn)(void), const char *script) {
        char *argv[] = { (char *)"sh", (char *)"-c", (char *)script, NULL };
        char *env[] = { (char *)"PATH=/usr/bin:/bin", (char *)tree->mark, NULL };
        const struct rlimit cpu = { .rlim_cur = TREE_RUN_CPU_SEC, .rlim_max = TREE_RUN_CPU_SEC };
        int fd = dir_fd >= 0 ? openat(dir_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC) : -1;

        if (dir_fd >= 0 && (fd < 0 || write(fd, "0", 1) != 1))
                _exit(120);
        if (setsid() < 0 || dup2(out_fd, STDOUT_FILENO) < 0 || setrlimit(RLIMIT_CPU, &cpu) < 0 ||
            close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
                _exit(121);
        if (fn)
                fn();
        else
                (void)execve("/bin/sh", argv, env);
        _exit(122);
}

/* Starts a shell script, or a function of this program, as the main process of a run. */
static inline void tree_run_start(TreeRun *ret_run, TreeRoot *root, uint64_t process, const char *script,
                                  void (*fn)(void)) {
        int fds[2], dir_fd;
        pid_t pid;

        ret_run->root = root;
        tree_init(root, &ret_run->tree, process, 1, 0);
        ck_assert_int_eq(tree_prepare(root, &ret_run->tree, &dir_fd, NULL), 0);
        ck_assert_int_eq(dir_fd >= 0, tree_root_has_cgroups(root));
        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0)
                tree_run_child(&ret_run->tree, dir_fd, fds[1], fn, script);
        ck_assert_int_ge(pid, 0);
        (void)close(fds[1]);
        tree_run_guard_start(ret_run, pid, dir_fd);
        if (dir_fd >= 0)
                (void)close(dir_fd);
        ret_run->out_fd = fds[0];
        ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
        tree_init(root, &ret_run->tree, process, 1, pid);
}

/* Reads one line of what the run writes; returns the number in it (a script says "echo $$"). */
static inline long tree_run_line(TreeRun *run) {
        struct pollfd poll_fd = { .fd = run->out_fd, .events = POLLIN };
        char line[64];
        size_t n = 0;

        while (n < sizeof(line) - 1) {
                ck_assert_int_eq(poll(&poll_fd, 1, (int)(TREE_RUN_DEADLINE_USEC / USEC_PER_MSEC)), 1);
                ck_assert_int_eq(read(run->out_fd, line + n, 1), 1);
                if (line[n++] == '\n')
                        break;
        }
        line[n] = '\0';
        return strtol(line, NULL, 10);
}

enum {
        MODE_CGROUP,
        MODE_PROC,
        MODE_N_
};

static inline TreeRoot *tree_run_open(int mode) {
        TreeRoot *root;

        tree_run_keeper();
        tree_run_new_instance();
        if (mode == MODE_PROC)
                (void)setenv("PMUX_NO_CGROUP", "1", 1);
        else
                (void)unsetenv("PMUX_NO_CGROUP");
        ck_assert_int_eq(tree_root_open(&root, tree_run_instance, getpid(), NULL), 0);
        ck_assert_int_eq(tree_root_has_cgroups(root), tree_root_why(root)[0] == '\0');
        if (mode == MODE_PROC)
                ck_assert(!tree_root_has_cgroups(root));
        return root;
}

static inline size_t tree_run_count(const TreeRun *run) {
        size_t n;

        ck_assert_int_eq(tree_pids(run->root, &run->tree, NULL, 0, &n), 0);
        return n;
}

static inline bool tree_run_has(const TreeRun *run, pid_t pid) {
        pid_t pids[256];
        size_t n;

        ck_assert_int_eq(tree_pids(run->root, &run->tree, pids, ARRAY_SIZE(pids), &n), 0);
        for (size_t i = 0; i < n && i < ARRAY_SIZE(pids); i++)
                if (pids[i] == pid)
                        return true;
        return false;
}

static inline bool tree_run_gone(pid_t pid) {
        tree_run_reap();
        return kill(pid, 0) < 0 && errno == ESRCH;
}

/* Whether the kernel says of the run's cgroup what it is asked for. */
static inline bool tree_run_says(const TreeRun *run, const char *what) {
        char text[256];
        int dir_fd, fd;
        ssize_t n;

        ck_assert_int_eq(tree_prepare(run->root, &run->tree, &dir_fd, NULL), 0);
        fd = openat(dir_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        n = read(fd, text, sizeof(text) - 1);
        ck_assert_int_gt(n, 0);
        text[n] = '\0';
        (void)close(fd);
        (void)close(dir_fd);
        return strstr(text, what);
}

/* Lets go of a run that has ended, whoever ended it. */
static inline void tree_run_leave(TreeRun *run) {
        ck_assert_int_eq(write(run->guard_fd, "", 1), 1);
        (void)close(run->guard_fd);
        (void)waitpid(run->guard, NULL, 0); /* unless somebody who reaps all was quicker */
        (void)close(run->out_fd);
}

/* Kills what is left, waits for its end and tidies up. */
static inline void tree_run_end(TreeRun *run) {
        size_t n;

        ck_assert_int_eq(tree_signal(run->root, &run->tree, SIGKILL, &n, NULL), 0);
        TREE_RUN_WAIT(tree_empty(run->root, &run->tree) == 1);
        tree_release(run->root, &run->tree);
        tree_root_tidy(run->root);
        tree_run_leave(run);
}
