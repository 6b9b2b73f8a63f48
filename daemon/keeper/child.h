/* SPDX-License-Identifier: MIT */
#pragma once

/* The children: what became of each run that was spawned, until the engine has recorded it. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/list.h"
#include "daemon/keeper-message.h"

#define CHILD_STEP_MAX 16 /* bytes, with the NUL */

/* What the engine knows of a child follows what is so: 'told' runs after 'state'. Nothing is queued, so
 * nothing can overflow while the engine does not read. One that has ended before it was told to run is told
 * once. */
typedef struct Child {
        List all;           /* in the table, in order of their start */
        List untold;        /* in the table's list of those with told != state */
        struct Child *next; /* borrowed; same bucket of by_key */
        struct Child *next_pid;
        uint64_t process;
        uint32_t run;
        pid_t pid; /* 0: never executed */
        KeeperChildState state;
        KeeperChildState told;
        int error;                 /* FAILED: positive errno */
        char step[CHILD_STEP_MAX]; /* FAILED: what failed */
        int wait_code;
        int wait_status;
        uint64_t usec; /* real time of the start, then of the reap */
        KeeperUsage usage;
} Child;

typedef struct ChildTable {
        List all;
        List untold;
        Child **by_key; /* owned, n_buckets chains */
        Child **by_pid; /* owned, n_buckets chains */
        size_t n_buckets;
        size_t n;
        size_t n_running;
} ChildTable;

void child_table_init(ChildTable *table);
void child_table_deinit(ChildTable *table);

/** child_table_add() - a new child in state NONE, told NONE; the key must be free. Return: 0; -ENOMEM. */
int child_table_add(ChildTable *table, uint64_t process, uint32_t run, Child **ret_child);

/** child_table_find(), child_table_find_pid() - the child, borrowed, or NULL; only a RUNNING one has a pid.
 */
Child *child_table_find(const ChildTable *table, uint64_t process, uint32_t run);
Child *child_table_find_pid(const ChildTable *table, pid_t pid);

/** child_set_running() - the child executes under this pid. */
void child_set_running(ChildTable *table, Child *child, pid_t pid, uint64_t usec);

/** child_set_failed() - the child never executed; 'step' is what failed ("exec"). */
void child_set_failed(ChildTable *table, Child *child, int error, const char *step);

/** child_set_exited() - the child was reaped. */
void child_set_exited(ChildTable *table, Child *child, int wait_code, int wait_status,
                      const KeeperUsage *usage, uint64_t usec);

/** child_set_told() - the engine has been told this much; KEEPER_CHILD_NONE: tell it all again. */
void child_set_told(ChildTable *table, Child *child, KeeperChildState told);

/**
 * child_next_message() - what the engine is to be told next of a child with told != state
 * Return: the 'told' to set when the message has been sent.
 */
KeeperChildState child_next_message(const Child *child, KeeperMessage *ret_message);

/** child_message() - the whole state of a child in one message of 'type'. */
void child_message(const Child *child, KeeperMessageType type, KeeperMessage *ret_message);

/** child_remove() - forget a child. Return: NULL. */
Child *child_remove(ChildTable *table, Child *child);
