/* SPDX-License-Identifier: MIT */

#include "daemon/engine/queue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/limits.h"

#define IDLE_QUEUES_MAX 64 /* so many are remembered; one more lets go of those in which nothing is */

struct Queue {
        List link;     /* in QueueSet.queues */
        List due_link; /* in QueueSet.due */
        QueueSet *set; /* borrowed */
        List waiting;  /* QueuePlace */
        List members;  /* Member */
        size_t n_members;
        bool has_failed;   /* something in it did not end with code 0, or did not begin */
        bool is_cancelled; /* nothing more is to begin */
        char name[QUEUE_NAME_MAX + 1];
};

/* A process that is going. */
typedef struct Member {
        ProcessWatch watch;
        List link;
        Queue *queue; /* borrowed */
} Member;

static void queue_due(Queue *queue) {
        if (!list_linked(&queue->due_link))
                list_append(&queue->set->due, &queue->due_link);
}

static void member_leave(Member *member) {
        Queue *queue = member->queue;

        list_remove(&member->watch.link);
        list_remove(&member->link);
        queue->n_members--;
        queue_due(queue);
        free(member);
}

/* How a process of a queue stands. */
typedef enum Standing {
        STANDING_GOES,
        STANDING_GOOD,
        STANDING_FAILED,
} Standing;

/* A process belongs to its queue by its first run, until its exit is in its log. */
static Standing standing_of(const Process *process) {
        const ExitRecord *exit = &process->run.exit;

        if (process->run.run != 1)
                return STANDING_GOOD;
        if (!(process->run.ended & RUN_LOGGED_EXIT))
                return STANDING_GOES;
        return !(process->run.ended & RUN_FAILED) && exit->known && exit->signal == 0 && exit->code == 0 &&
                               strcmp(exit->cause, "timeout") != 0
                       ? STANDING_GOOD
                       : STANDING_FAILED;
}

static void member_on_change(ProcessWatch *watch, Process *process) {
        Member *member = CONTAINER_OF(watch, Member, watch);
        Standing standing = standing_of(process);

        if (standing == STANDING_GOES)
                return;
        member->queue->has_failed |= standing == STANDING_FAILED;
        member_leave(member);
}

static void member_on_removed(ProcessWatch *watch, Process *process) {
        (void)process;
        member_leave(CONTAINER_OF(watch, Member, watch));
}

static Member *member_new(void) {
        Member *member = calloc(1, sizeof(*member));

        if (!member)
                return NULL;
        member->watch.on_change = member_on_change;
        member->watch.on_removed = member_on_removed;
        return member;
}

static void member_enter(Member *member, Queue *queue, Process *process) {
        member->queue = queue;
        list_append(&queue->members, &member->link);
        list_append(&process->watches, &member->watch.link);
        queue->n_members++;
        member_on_change(&member->watch, process); /* it may be over already */
}

static Queue *queue_free(Queue *queue) {
        if (!queue)
                return NULL;
        LIST_FOREACH(Member, member, &queue->members, link)
                member_leave(member);
        if (list_linked(&queue->link)) {
                list_remove(&queue->link);
                queue->set->n_queues--;
        }
        list_remove(&queue->due_link);
        free(queue);
        return NULL;
}
DEFINE_CLEANUP(Queue *, queue_free);

static bool queue_is_idle(const Queue *queue) {
        return queue->n_members == 0 && list_empty(&queue->waiting);
}

/* Makes a queue, with the processes that are in it from before. */
static int queue_new(Queue **ret_queue, QueueSet *set, const char *name) {
        CLEANUP(queue_free) Queue *queue = NULL;
        Member *member;

        if (set->n_queues >= IDLE_QUEUES_MAX)
                LIST_FOREACH(Queue, other, &set->queues, link)
                        if (queue_is_idle(other))
                                (void)queue_free(other);
        queue = calloc(1, sizeof(*queue));
        if (!queue)
                return -ENOMEM;
        queue->set = set;
        list_init(&queue->waiting);
        list_init(&queue->members);
        (void)snprintf(queue->name, sizeof(queue->name), "%s", name);
        LIST_FOREACH(Process, process, set->processes, link) {
                if (!process->config.queue || strcmp(process->config.queue->name, name) != 0)
                        continue;
                queue->has_failed |= standing_of(process) == STANDING_FAILED;
                if (standing_of(process) != STANDING_GOES)
                        continue;
                member = member_new();
                if (!member)
                        return -ENOMEM;
                member_enter(member, queue, process);
        }
        list_append(&set->queues, &queue->link);
        set->n_queues++;
        *ret_queue = TAKE(queue);
        return 0;
}

static Queue *queue_find(QueueSet *set, const char *name) {
        LIST_FOREACH(Queue, queue, &set->queues, link)
                if (strcmp(queue->name, name) == 0)
                        return queue;
        return NULL;
}

void queue_set_init(QueueSet *set, const List *processes) {
        *set = (QueueSet){ .processes = processes };
        list_init(&set->queues);
        list_init(&set->due);
}

void queue_set_deinit(QueueSet *set) {
        LIST_FOREACH(Queue, queue, &set->queues, link)
                (void)queue_free(queue);
}

int queue_join(QueueSet *set, QueuePlace *place, Error *reterr_error) {
        Queue *queue;
        int r;

        if (set->waiting_bytes + place->size_bytes > LIMIT_QUEUED_RUN_BYTES)
                return error_set(reterr_error, ERROR_LIMIT,
                                 "runs that wait for their turn hold %zu bytes already", set->waiting_bytes);
        queue = queue_find(set, place->config->name);
        if (!queue) {
                r = queue_new(&queue, set, place->config->name);
                if (r < 0)
                        return error_set_errno(reterr_error, r, "cannot hold a queue");
        }
        place->queue = queue;
        list_append(&queue->waiting, &place->link);
        set->waiting_bytes += place->size_bytes;
        queue_due(queue);
        return 0;
}

void queue_leave(QueueSet *set, QueuePlace *place) {
        if (!place->queue)
                return;
        list_remove(&place->link);
        set->waiting_bytes -= place->size_bytes;
        queue_due(place->queue); /* the one behind it may ask for more at a time */
        place->queue = NULL;
}

void queue_cancel(QueueSet *set, const char *name) {
        Queue *queue = queue_find(set, name);

        if (!queue)
                return;
        queue->is_cancelled = true;
        queue_due(queue);
}

/* Looks at the first that waits. Return: whether it has had its turn. */
static bool queue_step(Queue *queue) {
        QueuePlace *place = CONTAINER_OF(queue->waiting.next, QueuePlace, link);
        bool is_cancelled = queue->is_cancelled || (queue->has_failed && place->config->stop_on_failure);
        Process *process = NULL;
        Member *member;

        if (!is_cancelled && queue->n_members >= place->config->jobs)
                return false;
        member = is_cancelled ? NULL : member_new();
        if (!member && !is_cancelled)
                return false; /* no memory now: when something has ended, there may be some */
        queue_leave(queue->set, place);
        if (place->on_turn(place, is_cancelled, &process) < 0)
                queue->has_failed = true;
        if (process)
                member_enter(member, queue, process);
        else
                free(member);
        return true;
}

void queue_set_finish_turn(QueueSet *set) {
        while (!list_empty(&set->due)) {
                Queue *queue = CONTAINER_OF(set->due.next, Queue, due_link);

                while (!list_empty(&queue->waiting) && queue_step(queue))
                        ;
                list_remove(&queue->due_link);
        }
}
