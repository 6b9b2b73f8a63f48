/* SPDX-License-Identifier: MIT */

#include "daemon/keeper/child.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define CHILD_BUCKETS_MIN 64

static Child **child_key_bucket(const ChildTable *table, uint64_t process, uint32_t run) {
        uint64_t hash = process * UINT64_C(0x9e3779b97f4a7c15) + run * UINT64_C(0xc2b2ae3d27d4eb4f);

        return &table->by_key[(hash ^ hash >> 29) & (table->n_buckets - 1)];
}

static Child **child_pid_bucket(const ChildTable *table, pid_t pid) {
        return &table->by_pid[(size_t)pid & (table->n_buckets - 1)];
}

static void child_link_key(ChildTable *table, Child *child) {
        Child **bucket = child_key_bucket(table, child->process, child->run);

        child->next = *bucket;
        *bucket = child;
}

static void child_link_pid(ChildTable *table, Child *child) {
        Child **bucket = child_pid_bucket(table, child->pid);

        child->next_pid = *bucket;
        *bucket = child;
}

static void child_unlink_pid(ChildTable *table, Child *child) {
        Child **link = child_pid_bucket(table, child->pid);

        while (*link != child)
                link = &(*link)->next_pid;
        *link = child->next_pid;
}

void child_table_init(ChildTable *table) {
        *table = (ChildTable){};
        list_init(&table->all);
        list_init(&table->untold);
}

void child_table_deinit(ChildTable *table) {
        LIST_FOREACH(Child, child, &table->all, all)
                (void)child_remove(table, child);
        free(table->by_key);
        free(table->by_pid);
        child_table_init(table);
}

static int child_table_grow(ChildTable *table) {
        size_t n_buckets = MAX(table->n_buckets * 2, (size_t)CHILD_BUCKETS_MIN);
        Child **by_key, **by_pid;

        by_key = calloc(n_buckets, sizeof(*by_key));
        by_pid = calloc(n_buckets, sizeof(*by_pid));
        if (!by_key || !by_pid) {
                free(by_key);
                free(by_pid);
                return -ENOMEM;
        }
        free(table->by_key);
        free(table->by_pid);
        table->by_key = by_key;
        table->by_pid = by_pid;
        table->n_buckets = n_buckets;
        LIST_FOREACH(Child, child, &table->all, all) {
                child_link_key(table, child);
                if (child->state == KEEPER_CHILD_RUNNING)
                        child_link_pid(table, child);
        }
        return 0;
}

int child_table_add(ChildTable *table, uint64_t process, uint32_t run, Child **ret_child) {
        Child *child;

        assert(!child_table_find(table, process, run));
        if (table->n >= table->n_buckets && child_table_grow(table) < 0 && table->n_buckets == 0)
                return -ENOMEM;
        child = calloc(1, sizeof(*child));
        if (!child)
                return -ENOMEM;
        child->process = process;
        child->run = run;
        child_link_key(table, child);
        list_append(&table->all, &child->all);
        table->n++;
        *ret_child = child;
        return 0;
}

Child *child_table_find(const ChildTable *table, uint64_t process, uint32_t run) {
        Child *child;

        if (table->n_buckets == 0)
                return NULL;
        child = *child_key_bucket(table, process, run);
        while (child && (child->process != process || child->run != run))
                child = child->next;
        return child;
}

Child *child_table_find_pid(const ChildTable *table, pid_t pid) {
        Child *child;

        if (table->n_buckets == 0)
                return NULL;
        child = *child_pid_bucket(table, pid);
        while (child && child->pid != pid)
                child = child->next_pid;
        return child;
}

static void child_update_untold(ChildTable *table, Child *child) {
        if (child->told == child->state)
                list_remove(&child->untold);
        else if (!list_linked(&child->untold))
                list_append(&table->untold, &child->untold);
}

void child_set_running(ChildTable *table, Child *child, pid_t pid, uint64_t usec) {
        assert(child->state == KEEPER_CHILD_NONE && pid > 0);
        child->state = KEEPER_CHILD_RUNNING;
        child->pid = pid;
        child->usec = usec;
        child_link_pid(table, child);
        table->n_running++;
        child_update_untold(table, child);
}

void child_set_failed(ChildTable *table, Child *child, int error, const char *step) {
        assert(child->state == KEEPER_CHILD_NONE && error > 0);
        child->state = KEEPER_CHILD_FAILED;
        child->error = error;
        (void)snprintf(child->step, sizeof(child->step), "%s", step);
        child_update_untold(table, child);
}

void child_set_exited(ChildTable *table, Child *child, int wait_code, int wait_status,
                      const KeeperUsage *usage, uint64_t usec) {
        assert(child->state == KEEPER_CHILD_RUNNING);
        child_unlink_pid(table, child);
        table->n_running--;
        child->state = KEEPER_CHILD_EXITED;
        child->wait_code = wait_code;
        child->wait_status = wait_status;
        child->usec = usec;
        child->usage = *usage;
        child_update_untold(table, child);
}

void child_set_told(ChildTable *table, Child *child, KeeperChildState told) {
        child->told = told;
        child_update_untold(table, child);
}

KeeperChildState child_next_message(const Child *child, KeeperMessage *ret_message) {
        assert(child->told != child->state);
        child_message(child, child->state == KEEPER_CHILD_EXITED ? KEEPER_EXITED : KEEPER_SPAWNED,
                      ret_message);
        return child->state;
}

void child_message(const Child *child, KeeperMessageType type, KeeperMessage *ret_message) {
        *ret_message = (KeeperMessage){
                .type = type,
                .process = child->process,
                .run = child->run,
                .state = child->state,
                .pid = child->pid,
                .error = child->error,
                .wait_code = child->wait_code,
                .wait_status = child->wait_status,
                .usec = child->usec,
                .usage = child->usage,
        };
        (void)snprintf(ret_message->text, sizeof(ret_message->text), "%s", child->step);
}

Child *child_remove(ChildTable *table, Child *child) {
        Child **link = child_key_bucket(table, child->process, child->run);

        while (*link != child)
                link = &(*link)->next;
        *link = child->next;
        if (child->state == KEEPER_CHILD_RUNNING) {
                child_unlink_pid(table, child);
                table->n_running--;
        }
        list_remove(&child->all);
        list_remove(&child->untold);
        table->n--;
        free(child);
        return NULL;
}
