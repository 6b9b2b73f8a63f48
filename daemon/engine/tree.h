/* SPDX-License-Identifier: MIT */
#pragma once

/* All descendants of one run: found by its cgroup where one can be made, else by session, parenthood and an
 * environment mark. No events of libevent; the engine watches one inotify descriptor. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

typedef struct TreeRoot TreeRoot; /* where the cgroups of this daemon are made, and how; one per engine */

typedef struct Tree {
        uint64_t process;
        uint32_t run;
        int main_pid; /* 0: not known (the cgroup alone tells then) */
        int keeper_pid;
        char mark[64]; /* "PMUX_MARK=…" in the environment of all descendants that kept it */
} Tree;

/**
 * tree_root_open() - find out what this machine offers
 * @instance:  hex text that names the daemon's instance: the cgroups are made below <own
 * cgroup>/pmux-<instance>/
 *
 * Never fails for want of cgroups: without them (no cgroup2 mount, not writable, no delegation) the fallback
 * is used. Own cgroup: /proc/self/cgroup "0::" below the cgroup2 mount found in /proc/self/mountinfo. Inside
 * a systemd service with Delegate=yes that is the service's own.
 */
int tree_root_open(TreeRoot **ret_root, const char *instance, int keeper_pid, Error *reterr_error);
TreeRoot *tree_root_free(TreeRoot *root);
DEFINE_CLEANUP(TreeRoot *, tree_root_free);

bool tree_root_has_cgroups(const TreeRoot *root);
int tree_root_inotify_fd(const TreeRoot *root); /* borrowed; readable when some tree may have become empty; -1
                                                   without cgroups */

/** tree_root_dispatch() - read the inotify descriptor; calls fn for each (process, run) whose cgroup.events
 * changed. */
int tree_root_dispatch(TreeRoot *root, void (*fn)(uint64_t process, uint32_t run, void *userdata),
                       void *userdata);

/** tree_init() - fill in process, run, pids and the mark text. */
void tree_init(TreeRoot *root, Tree *ret_tree, uint64_t process, uint32_t run, int main_pid);

/** tree_prepare() - make the cgroup of a run. *ret_fd: its directory, owned by the caller, -1 without
 * cgroups. Return: 0 or -errno. */
int tree_prepare(TreeRoot *root, const Tree *tree, int *ret_fd, Error *reterr_error);
/** tree_watch() - take the emptiness of a run under watch (inotify on cgroup.events); harmless to repeat. */
int tree_watch(TreeRoot *root, const Tree *tree);
/** tree_release() - the run is over and empty: remove watch and cgroup; harmless to repeat. */
void tree_release(TreeRoot *root, const Tree *tree);

/** tree_empty() - whether no process of the run is left (zombies of others do not count). Return: 1 empty, 0
 * not, -errno. */
int tree_empty(TreeRoot *root, const Tree *tree);
/** tree_pids() - live pids of the run: at most max are stored; *ret_n is how many there are. */
int tree_pids(TreeRoot *root, const Tree *tree, pid_t *ret_pids, size_t max, size_t *ret_n);

/**
 * tree_signal() - send a signal to every process of the run, each exactly once as far as can be told; with
 * SIGKILL, until no new one turns up (cgroup.kill where the kernel has it, else stop-and-kill rounds over
 * pidfds). The main process is included. *ret_n: how many were signalled.
 */
int tree_signal(TreeRoot *root, const Tree *tree, int signal, size_t *ret_n, Error *reterr_error);
/** tree_freeze() - stop (cgroup.freeze, else SIGSTOP) or continue every process of the run. */
int tree_freeze(TreeRoot *root, const Tree *tree, bool frozen, Error *reterr_error);
/** tree_oom() - 1: the kernel's out-of-memory killer hit this run; 0: it did not; -1: cannot be known (no
 * memory controller). */
int tree_oom(TreeRoot *root, const Tree *tree);
/** tree_kill_stale() - kill and remove cgroups below <own cgroup>/pmux-* whose daemon no longer runs: what a
 * killed daemon left. Returns how many processes. */
int tree_kill_stale(TreeRoot *root);
