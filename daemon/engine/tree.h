/* SPDX-License-Identifier: MIT */
#pragma once

/* All descendants of one run: found by its cgroup where one can be made, else by session, parenthood and an
 * environment mark (tree-proc.h says what that finds and what not). No events of libevent; the engine watches
 * one inotify descriptor.
 *
 * Which of the two it is, is decided run by run: a run whose cgroup is there is found by it alone. The
 * environment variable PMUX_NO_CGROUP=1 makes the daemon do without cgroups. Zombies count as gone everywhere
 * here. Never signalled are the keeper, the engine and pid 1, whatever /proc or a cgroup says. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "common/macro.h"

#define TREE_MARK_MAX 64 /* with the NUL */

typedef struct TreeRoot TreeRoot; /* where the cgroups of this daemon are made, and how; one per engine */

typedef struct Tree {
        uint64_t process;
        uint32_t run;
        int main_pid; /* 0: not known (the cgroup alone tells then) */
        int keeper_pid;
        uint64_t main_start;      /* private: when main_pid started (clock ticks since boot), as far as can be
                                     told:      the number alone may be another process's by now */
        char mark[TREE_MARK_MAX]; /* "PMUX_MARK=…" in the environment of all descendants that kept it */
} Tree;

/**
 * tree_root_open() - find out what this machine offers
 * @instance:    hex text that names the daemon's instance: the cgroups are made below <own
 *               cgroup>/pmux-<instance>…/
 * @keeper_pid:  the process that is the subreaper of all runs
 *
 * Never fails for want of cgroups: without them (no cgroup2 mount, not writable, no delegation) the fallback
 * is used. Own cgroup: /proc/self/cgroup "0::" below the cgroup2 mount found in /proc/self/mountinfo. Inside
 * a systemd service with Delegate=yes that is the service's own.
 *
 * Return: 0; -EINVAL (INVALID): instance is not 1 to 64 hex digits; -ENOMEM, -EMFILE, -ENFILE: too little of
 * something now to tell.
 */
int tree_root_open(TreeRoot **ret_root, const char *instance, int keeper_pid, Error *reterr_error);
/** tree_root_free() - cgroups that are not empty stay, for the next engine. */
TreeRoot *tree_root_free(TreeRoot *root);
DEFINE_CLEANUP(TreeRoot *, tree_root_free);

bool tree_root_has_cgroups(const TreeRoot *root);
int tree_root_inotify_fd(const TreeRoot *root); /* borrowed; readable when some tree may have become empty; -1
                                                   without cgroups */
/** tree_root_why() - why there are no cgroups, one sentence to log; "" if there are. */
const char *tree_root_why(const TreeRoot *root);

/** tree_root_dispatch() - read the inotify descriptor; calls fn for each (process, run) whose cgroup.events
 * changed; fn may call everything here but tree_root_free(). Return: 0 or -errno. */
int tree_root_dispatch(TreeRoot *root, void (*fn)(uint64_t process, uint32_t run, void *userdata),
                       void *userdata);

/** tree_init() - fill in process, run, pids and the mark text. With the main process's pid as soon as it is
 * known: call it again then. */
void tree_init(TreeRoot *root, Tree *ret_tree, uint64_t process, uint32_t run, int main_pid);

/** tree_prepare() - make the cgroup of a run. *ret_fd: its directory (O_PATH), owned by the caller; -1
 * without cgroups, or where one more is refused by a limit: then this run is found by the fallback. Return:
 * 0. */
int tree_prepare(TreeRoot *root, const Tree *tree, int *ret_fd, Error *reterr_error);
/** tree_watch() - take the emptiness of a run under watch (inotify on cgroup.events); harmless to repeat. Ask
 * tree_empty() once afterwards, for what came before. Return: 1; 0: there is no watch (no cgroup, or the
 * limits of inotify are reached): then ask tree_empty() whenever the keeper has reaped something, which
 * nothing in the tree can end without; -errno. */
int tree_watch(TreeRoot *root, const Tree *tree);
/** tree_release() - the run is over and empty: remove watch and cgroup, at the next tree_root_tidy();
 * harmless to repeat.
 */
void tree_release(TreeRoot *root, const Tree *tree);
/** tree_prepare_ahead() - make the cgroup that a tree_prepare() of this run will be glad to find; a failure
 * matters only then. At most one is kept so. */
void tree_prepare_ahead(TreeRoot *root, uint64_t process, uint32_t run);
/** tree_root_tidy() - do what tree_release() left for later. */
void tree_root_tidy(TreeRoot *root);
/** tree_root_clear() - tidy, and remove what was made ahead. */
void tree_root_clear(TreeRoot *root);
/** tree_root_sweep() - remove what an engine that died had not tidied away: the places of runs that are not
 * wanted and in which nothing lives. */
void tree_root_sweep(TreeRoot *root, bool (*wanted)(uint64_t process, uint32_t run, void *userdata),
                     void *userdata);
bool tree_root_untidy(const TreeRoot *root); /* whether there is something to do */

/** tree_empty() - whether no process of the run is left (zombies do not count). Without a cgroup it reads
 * what /proc tells of the keeper's children, unless the main process lives. Return: 1 empty, 0 not, -errno;
 * -EAGAIN: it cannot be told now, as one that may be of the run is executing another program. */
int tree_empty(TreeRoot *root, const Tree *tree);
/** tree_pids() - live pids of the run, in order: at most max are stored; *ret_n is how many there are. */
int tree_pids(TreeRoot *root, const Tree *tree, pid_t *ret_pids, size_t max, size_t *ret_n);

/**
 * tree_signal() - send a signal to every process of the run, each exactly once as far as can be told; with
 * SIGKILL, until no new one turns up (cgroup.kill where the kernel has it, else stop-and-kill rounds over
 * pidfds). The main process is included. *ret_n: how many were signalled.
 *
 * Does not wait for them to end. In a frozen tree a signal ends at once who has no handler for it; handlers
 * run when the tree is continued.
 *
 * Return: 0, also if there was none; -EPERM or another -errno (SYSTEM) if none of those that are left could
 * be signalled.
 */
int tree_signal(TreeRoot *root, const Tree *tree, int signal, size_t *ret_n, Error *reterr_error);
/** tree_freeze() - stop (cgroup.freeze, else SIGSTOP) or continue every process of the run. */
int tree_freeze(TreeRoot *root, const Tree *tree, bool frozen, Error *reterr_error);
/** tree_oom() - 1: the kernel's out-of-memory killer hit this run; 0: it did not; -1: cannot be known (no
 * memory controller). */
int tree_oom(TreeRoot *root, const Tree *tree);
/** tree_kill_stale() - kill and remove cgroups below <own cgroup>/pmux-* whose daemon no longer runs: what a
 * killed daemon of this user left. A living daemon's are never touched: the directory's name tells its
 * keeper's pid, start and pid namespace. May take half a second. Returns how many processes. */
int tree_kill_stale(TreeRoot *root);
