/* SPDX-License-Identifier: MIT */
#pragma once

/* Runs that wait for their turn: of those that name the same queue only so many are going at a time. What
 * goes on is counted by the processes themselves, each of which knows its queue, so that a new engine counts
 * as the one before it did; what waits is the clients', who ask again. */

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "common/list.h"
#include "daemon/engine/process.h"

typedef struct Queue Queue;
typedef struct QueuePlace QueuePlace;

typedef struct QueueSet {
        const List *processes; /* borrowed; all there are, by Process.link */
        List queues;
        List due; /* queues to be looked at at the end of the turn */
        size_t n_queues;
        size_t waiting_bytes;
} QueueSet;

/* One that waits, embedded. */
struct QueuePlace {
        List link;
        Queue *queue;              /* borrowed; NULL: it does not wait */
        const QueueConfig *config; /* borrowed */
        size_t size_bytes;         /* that it holds, about */
        /* Its turn has come: it waits no more, and may free itself. *ret_process: what has been begun, NULL:
         * nothing new. @is_cancelled: nothing may be begun, another has failed. Return: 0; <0: it could not
         * be begun. */
        int (*on_turn)(QueuePlace *place, bool is_cancelled, Process **ret_process);
};

void queue_set_init(QueueSet *set, const List *processes);
/** queue_set_deinit() - nothing may wait any more. */
void queue_set_deinit(QueueSet *set);
/** queue_set_finish_turn() - begin those whose turn it is. */
void queue_set_finish_turn(QueueSet *set);

/**
 * queue_join() - wait for a turn
 * @place:  filled in by the caller, all but link and queue
 *
 * Return: 0; -errno (LIMIT, NO_MEMORY).
 */
int queue_join(QueueSet *set, QueuePlace *place, Error *reterr_error);
/** queue_cancel() - nothing that waits in it, or will come to, begins any more; a queue that is not known has
 * nothing. */
void queue_cancel(QueueSet *set, const char *name);
/** queue_leave() - wait no more; harmless to repeat. */
void queue_leave(QueueSet *set, QueuePlace *place);
