/* SPDX-License-Identifier: MIT */
#pragma once

/* Finding the descendants of a run without cgroups, by what /proc tells; and signalling a process that may be
 * gone.
 *
 * The keeper is a child subreaper, so all that a run leaves behind is below the keeper, for ever. Of the
 * keeper's descendants, those belong to a run
 *   - that are its main process,
 *   - whose session is the one that the main process leads, or one in which there is another of the run,
 *   - that carry its mark in their environment,
 *   - whose parent belongs to it.
 * What cannot be found: a process that left its session (setsid(2)), whose parents up to the keeper have
 * ended, whose environment was cleaned, and that shares its session with no one of the run. A daemon that
 * forks twice and cleans its environment does just that. Nor is one found that /proc hides (hidepid), or
 * whose environment may not be read (of another user, set-user-ID, PR_SET_DUMPABLE 0), and that only its mark
 * would tell. With cgroups nothing of this is needed, and nothing escapes. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/engine/proc-set.h"

#define TREE_PROC_GONE UINT64_MAX /* as a start time: the main process is known to have ended */

typedef struct TreeProcQuery {
        pid_t keeper_pid;
        pid_t main_pid;      /* 0: not known */
        uint64_t main_start; /* 0: not known; TREE_PROC_GONE */
        const char *mark;    /* borrowed; "NAME=VALUE" */
} TreeProcQuery;

/**
 * tree_proc_pids() - add every live process of the run to the set
 * @thorough:  look at all processes of the machine, not only at the lists of children that the kernel keeps:
 * slow, but what these overlook while others are being reaped is found
 *
 * One that is in the middle of execve(2), where /proc shows no mark, is waited for a moment, and not added if
 * that was not enough.
 *
 * Return: 0 or -errno.
 */
int tree_proc_pids(const TreeProcQuery *query, bool thorough, ProcSet *set);

/** tree_proc_empty() - whether none lives: two short looks that saw the same, or a thorough one. Return: 1,
 * 0, -errno; -EAGAIN: one that is in the middle of execve(2) may be of the run: ask again soon. Does not
 * wait.
 */
int tree_proc_empty(const TreeProcQuery *query);

/** tree_proc_main_alive() - whether the main process lives: cheap, where tree_proc_pids() reads all of /proc.
 */
bool tree_proc_main_alive(const TreeProcQuery *query);

/** Whether the process that now has this pid is the one that is meant. */
typedef bool (*TreeProcCheckFn)(const ProcId *id, const void *userdata);

/** tree_proc_is() - a TreeProcCheckFn: it started when id says, and lives; userdata is not used. */
bool tree_proc_is(const ProcId *id, const void *userdata);

/**
 * tree_proc_signal() - send a signal to one process, or to none
 * @check:  called when a pidfd of the pid is held: then the answer stays true
 *
 * Return: 0; -ESRCH: it is gone or another one; -EPERM; -errno.
 */
int tree_proc_signal(const ProcId *id, int signal, TreeProcCheckFn check, const void *userdata);
