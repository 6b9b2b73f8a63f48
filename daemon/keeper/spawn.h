/* SPDX-License-Identifier: MIT */
#pragma once

/* Starting a program: the cheapest clone that is correct, its cost independent of our open descriptors. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

/* Keeps what a spawn needs: the stack its children run on, and what this kernel refused. */
typedef struct Spawner {
        char *stack;          /* owned, mmap */
        uint64_t ignored;     /* bit n - 1: signal n was ignored when this was made */
        bool without_unshare; /* no CLOSE_RANGE_UNSHARE: the descriptor table is copied instead */
        bool without_clone3;  /* no CLONE_INTO_CGROUP: the child moves itself into its cgroup */
} Spawner;

typedef struct SpawnRequest {
        char *const *candidates; /* paths to execute, NULL-terminated: the first that can be */
        char *const *argv;
        char *const *envp;
        const char *cwd;         /* NULL: stays */
        const int *fds;          /* become 0 to n_fds - 1; each is its own number already or at least n_fds */
        size_t n_fds;            /* at least 3 */
        int cgroup_fd;           /* directory of the cgroup to be born in; -1: the parent's */
        mode_t umask;            /* */
        int parent_death_signal; /* 0: none */
        const struct rlimit *nofile; /* RLIMIT_NOFILE; NULL: the parent's */
        const char *oom_score_adj;   /* text for /proc/self/oom_score_adj; NULL: the parent's */
} SpawnRequest;

/** spawner_init() - once the caller ignores the signals that it means to ignore, and handles none: exec
 * resets handlers, a spawn what is ignored. Return: 0 or -errno of mmap(2). */
int spawner_init(Spawner *spawner);
void spawner_deinit(Spawner *spawner);

/**
 * spawn() - start a program as the leader of a new session
 * @ret_pid:      the child, which executes the program already; SIGCHLD when it ends
 * @reterr_step:  the step that failed: "clone", "cgroup", "setsid", "stdin", "stdout", "stderr", "fd",
 * "chdir", "limit", "exec"; static text
 *
 * The child has the descriptors of fds and no other, default signal dispositions, an empty signal mask. The
 * caller is suspended until the program executes or a step failed, as after vfork(2); the descriptor table is
 * shared with the child until the child drops all that lies above the highest of fds (Linux 5.9,
 * CLOSE_RANGE_UNSHARE) and so costs nothing, however large, as long as fds are low numbers. Must not be
 * called from a process with threads. A program or directory on a file system that does not answer suspends
 * the caller for as long: that is the price of vfork semantics, which alone tell for sure how exec went.
 *
 * Return: 0; -errno of the step: for "exec" as execvp(3): -ENOENT where no candidate exists, -EACCES where
 * one exists and none can be executed.
 */
int spawn(Spawner *spawner, const SpawnRequest *request, pid_t *ret_pid, const char **reterr_step);
