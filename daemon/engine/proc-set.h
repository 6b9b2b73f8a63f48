/* SPDX-License-Identifier: MIT */
#pragma once

/* A set of processes, each identified by its pid and the time it started, in order of pids. Knows no kernel.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct ProcId {
        pid_t pid;
        pid_t group;    /* process group; 0: not known */
        uint64_t start; /* clock ticks since boot; 0: not known, then the pid alone tells */
} ProcId;

typedef struct ProcSet {
        ProcId *ids; /* owned */
        size_t n_ids;
        size_t n_allocated;
} ProcSet;

/** proc_set_deinit() - free what the set holds; it is empty afterwards. */
void proc_set_deinit(ProcSet *set);

static inline void proc_set_deinit_cleanup(ProcSet *set) {
        proc_set_deinit(set);
}

/** proc_set_add() - take a process in; one with the same pid is replaced. Return: 0 or -ENOMEM. */
int proc_set_add(ProcSet *set, const ProcId *id);

/** proc_set_has() - whether this very process (pid and start) is in the set. */
bool proc_set_has(const ProcSet *set, const ProcId *id);
