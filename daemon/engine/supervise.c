/* SPDX-License-Identifier: MIT */

#include "daemon/engine/supervise.h"

#include <errno.h>
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json-text.h"
#include "daemon/engine/limits.h"

static int compare_id(const void *a, const void *b) {
        const Process *x = a, *y = b;

        return x->id < y->id ? -1 : x->id > y->id;
}

static int compare_name(const void *a, const void *b) {
        const Process *x = a, *y = b;

        return strcmp(x->config.name, y->config.name);
}

Process *supervisor_find_id(Supervisor *supervisor, uint64_t id) {
        Process key = { .id = id }, **found;

        found = tfind(&key, &supervisor->by_id, compare_id);
        return found ? *found : NULL;
}

Process *supervisor_find_name(Supervisor *supervisor, const char *name) {
        Process key = { .config.name = (char *)name }, **found;

        found = tfind(&key, &supervisor->by_name, compare_name);
        return found ? *found : NULL;
}

/* Ends a change that the registry refused: nothing that follows from it may be told to anyone. */
static void supervisor_check(Supervisor *supervisor, int r, const Error *error) {
        if (r >= 0)
                return;
        (void)fprintf(stderr, "<3>the registry cannot be written: %s\n", error->text);
        supervisor->ops->on_fatal(r, supervisor->userdata);
}

static void supervisor_consider_removal(Supervisor *supervisor, Process *process) {
        if (!process->config.remove_when_ended || process->run.run == 0 || !process_is_over(process) ||
            !list_empty(&process->readers))
                return;
        if (clock_monotonic_usec() >= supervisor->remove_not_before_usec && !list_linked(&process->doom_link))
                list_append(&supervisor->doomed, &process->doom_link);
}

/* What a turn does to a run is stored once, at the turn's end or before somebody asks the registry. */
static void supervisor_store_run(Supervisor *supervisor, Process *process) {
        Error error = {};

        if (!list_linked(&process->change_link))
                return;
        list_remove(&process->change_link);
        supervisor_check(supervisor, registry_put_run(supervisor->registry, &process->run, &error), &error);
}

void supervisor_store_runs(Supervisor *supervisor) {
        LIST_FOREACH(Process, process, &supervisor->changed, change_link)
                supervisor_store_run(supervisor, process);
}

static void supervisor_on_change(Process *process, unsigned changed, void *userdata) {
        Supervisor *supervisor = userdata;
        Error error = {};
        int r = 0;

        if (changed & PROCESS_CHANGED_RUN && !list_linked(&process->change_link))
                list_append(&supervisor->changed, &process->change_link);
        if (changed & PROCESS_CHANGES_RUN)
                supervisor_store_run(supervisor, process);
        if (changed & PROCESS_CHANGED_PAUSED &&
            process->stored_paused != (process->state == PROCESS_PAUSED)) {
                process->stored_paused = process->state == PROCESS_PAUSED;
                r = registry_set_paused(supervisor->registry, process->id, process->stored_paused, &error);
        }
        supervisor_check(supervisor, r, &error);
        if (changed & (PROCESS_CHANGED_RUN | PROCESS_CHANGED_READERS))
                supervisor_consider_removal(supervisor, process);
}

static void event_add_exit(JsonText *text, const ExitRecord *exit) {
        json_text_literal(text, ",\"code\":");
        if (exit->code >= 0)
                json_text_number(text, (uint64_t)exit->code);
        else
                json_text_literal(text, "null");
        json_text_literal(text, ",\"signal\":");
        if (exit->signal != 0)
                json_text_number(text, (uint64_t)exit->signal);
        else
                json_text_literal(text, "null");
        json_text_literal(text, ",\"cause\":");
        json_text_bytes(text, exit->cause);
}

/* A start with its end is five events: they are written as text, as values that are made, looked up and freed
 * would take longer than the registry does. */
static void supervisor_event_text(JsonText *text, const Process *process, const char *type) {
        json_text_literal(text, "{\"type\":");
        json_text_bytes(text, type);
        json_text_literal(text, ",\"id\":");
        json_text_number(text, process->id);
        json_text_literal(text, ",\"name\":");
        json_text_bytes(text, process->config.name);
        json_text_literal(text, ",\"run\":");
        json_text_number(text, process->run.run);
        if (strcmp(type, "exited") == 0 && process->run.exit.known)
                event_add_exit(text, &process->run.exit);
        else if (strcmp(type, "started") == 0) {
                json_text_literal(text, ",\"pid\":");
                json_text_number(text, (uint64_t)process->run.pid);
        } else if (strcmp(type, "failed") == 0) {
                json_text_literal(text, ",\"message\":");
                json_text_bytes(text, process->spawn_error ? process->spawn_error->text : "");
        }
        json_text_raw(text, "}", 2); /* with the NUL */
}

static void supervisor_on_event(Process *process, const char *type, void *userdata) {
        CLEANUP(json_text_deinit) JsonText text = {};
        uint64_t seq, now = clock_realtime_usec();
        Supervisor *supervisor = userdata;
        Error error = {};
        int r;

        supervisor_event_text(&text, process, type);
        if (json_text_failed(&text))
                return; /* out of memory: whoever follows sees the state in the next list */
        r = registry_add_event(supervisor->registry, now, text.data, &seq, &error);
        supervisor_check(supervisor, r, &error);
        supervisor->ops->on_event(supervisor->userdata);
}

static int supervisor_load_config(Process *process, char **ret_text, void *userdata) {
        Supervisor *supervisor = userdata;

        return registry_get_config(supervisor->registry, process->id, ret_text, NULL);
}

static const ProcessOps process_ops = {
        .on_change = supervisor_on_change,
        .on_event = supervisor_on_event,
        .load_config = supervisor_load_config,
};

int supervisor_init(Supervisor *supervisor, const char *registry_path, const SupervisorOps *ops,
                    void *userdata, Error *reterr_error) {
        supervisor->ops = ops;
        supervisor->userdata = userdata;
        supervisor->host.ops = &process_ops;
        supervisor->host.userdata = supervisor;
        list_init(&supervisor->processes);
        list_init(&supervisor->doomed);
        list_init(&supervisor->changed);
        process_host_init(&supervisor->host);
        return registry_open(&supervisor->registry, registry_path, reterr_error);
}

static int supervisor_insert(Supervisor *supervisor, Process *process) {
        if (!tsearch(process, &supervisor->by_id, compare_id))
                return -ENOMEM;
        if (process->config.name && !tsearch(process, &supervisor->by_name, compare_name)) {
                (void)tdelete(process, &supervisor->by_id, compare_id);
                return -ENOMEM;
        }
        list_append(&supervisor->processes, &process->link);
        supervisor->n_processes++;
        return 0;
}

static void supervisor_drop(Supervisor *supervisor, Process *process) {
        (void)tdelete(process, &supervisor->by_id, compare_id);
        if (process->config.name)
                (void)tdelete(process, &supervisor->by_name, compare_name);
        list_remove(&process->link);
        list_remove(&process->doom_link);
        list_remove(&process->change_link);
        supervisor->n_processes--;
        (void)process_free(process);
}

void supervisor_deinit(Supervisor *supervisor) {
        if (supervisor->processes.next)
                while (!list_empty(&supervisor->processes))
                        supervisor_drop(supervisor, CONTAINER_OF(supervisor->processes.next, Process, link));
        if (supervisor->remove_timer)
                event_free(supervisor->remove_timer);
        if (supervisor->changed.next)
                process_host_deinit(&supervisor->host);
        supervisor->registry = registry_free(supervisor->registry);
}

int supervisor_add(Supervisor *supervisor, ProcessConfig *config, Process **ret_process,
                   Error *reterr_error) {
        RegistryProcess row = { .name = config->name, .created_usec = clock_realtime_usec() };
        Process *process;
        json_t *object;
        char *text;
        int r;

        if (supervisor->n_processes >= LIMIT_PROCESSES)
                return error_set(reterr_error, ERROR_LIMIT, "there are %d processes already",
                                 LIMIT_PROCESSES);
        if (config->name && supervisor_find_name(supervisor, config->name))
                return error_set(reterr_error, ERROR_EXISTS, "the name '%s' is taken", config->name);
        object = process_config_to_json(config);
        text = object ? json_dumps(object, JSON_COMPACT) : NULL;
        json_decref(object);
        if (!text)
                return error_set_errno(reterr_error, ENOMEM, "cannot store the process");
        row.config = text;
        r = registry_add_process(supervisor->registry, &row, reterr_error);
        free(text);
        if (r < 0)
                return r;
        r = process_new(&process, &supervisor->host, row.id, config, reterr_error);
        if (r >= 0) {
                process->created_usec = row.created_usec;
                r = process_make_dir(process, reterr_error);
                if (r >= 0 && (r = supervisor_insert(supervisor, process)) < 0)
                        (void)error_set_errno(reterr_error, r, "cannot hold the process");
                if (r < 0)
                        (void)process_free(process);
        }
        if (r < 0) {
                (void)registry_remove_process(supervisor->registry, row.id, NULL);
                return r;
        }
        supervisor->next_id = process->id + 1;
        supervisor->has_tried_spare = false;
        *ret_process = process;
        return 0;
}

void supervisor_remove(Supervisor *supervisor, Process *process) {
        process->remove_now = true;
        if (!list_linked(&process->doom_link))
                list_append(&supervisor->doomed, &process->doom_link);
}

bool supervisor_has_chores(const Supervisor *supervisor) {
        return !list_empty(&supervisor->host.resting) || tree_root_untidy(supervisor->host.tree_root) ||
               supervisor->next_id != 0;
}

void supervisor_do_chore(Supervisor *supervisor) {
        ProcessHost *host = &supervisor->host;

        if (!list_empty(&host->resting))
                process_host_rest(host);
        else if (tree_root_untidy(host->tree_root))
                tree_root_tidy(host->tree_root);
        else if (supervisor->next_id != 0 && supervisor_find_id(supervisor, supervisor->next_id))
                supervisor->next_id = 0; /* cannot be; its files are never touched */
        else if (supervisor->next_id != 0 && !supervisor->has_tried_spare)
                supervisor->has_tried_spare =
                        !process_host_prepare(host, supervisor->next_id); /* whether or not that worked */
        else if (supervisor->next_id != 0) {
                tree_prepare_ahead(host->tree_root, supervisor->next_id, 1);
                supervisor->next_id = 0;
        }
}

void supervisor_finish_turn(Supervisor *supervisor) {
        supervisor_store_runs(supervisor);
        while (!list_empty(&supervisor->doomed)) {
                Process *process = CONTAINER_OF(supervisor->doomed.next, Process, doom_link);
                Error error = {};
                int r;

                if (!process->remove_now && !list_empty(&process->readers)) {
                        list_remove(&process->doom_link); /* someone came to read it in this very turn */
                        continue;
                }
                list_remove(&process->change_link);
                r = registry_remove_process(supervisor->registry, process->id, &error);
                supervisor_check(supervisor, r, &error);
                if (process->run.run != 0) /* else nobody was told that it exists */
                        supervisor_on_event(process, "removed", supervisor);
                keeper_link_drop(supervisor->host.link, KEEPER_LABEL_POSITION, process->id, 0);
                keeper_link_drop(supervisor->host.link, KEEPER_LABEL_DISCARD, process->id, 0);
                process_remove_files(process);
                supervisor_drop(supervisor, process);
        }
}

int supervisor_set_lock(Supervisor *supervisor, Process *process, const StdinLock *lock,
                        Error *reterr_error) {
        int r;

        r = lock ? registry_put_lock(supervisor->registry, process->id, lock, reterr_error)
                 : registry_remove_lock(supervisor->registry, process->id, reterr_error);
        if (r < 0)
                return r;
        return process_set_lock(process, lock) < 0
                       ? error_set_errno(reterr_error, ENOMEM, "cannot hold the lock")
                       : 0;
}

void supervisor_lease_lost(Supervisor *supervisor, const void *holder) {
        if (supervisor->host.n_lease_holders == 0)
                return; /* a client that goes costs nothing, however many processes there are */
        LIST_FOREACH(Process, process, &supervisor->processes, link)
                if (process->lease_holder == holder) {
                        process_set_lease_holder(process, NULL);
                        (void)process_stop(process, "lease", process->config.lease_grace_usec, 0, NULL);
                }
}

size_t supervisor_running(Supervisor *supervisor) {
        size_t n = 0;

        LIST_FOREACH(Process, process, &supervisor->processes, link)
                if (process_is_alive(process) || (process->run.run != 0 && !(process->run.ended & RUN_EMPTY)))
                        n++;
        return n;
}

static int supervisor_on_row(const RegistryProcess *row, const RegistryRun *run, void *userdata) {
        Supervisor *supervisor = userdata;
        ProcessConfig config;
        Process *process;
        Error error = {};
        int r;

        r = process_config_from_text(&config, row->config, &error);
        if (r < 0) {
                (void)fprintf(stderr, "<3>process %" PRIu64 " is left out: %s\n", row->id, error.text);
                supervisor->has_left_out = true;
                return 0;
        }
        process_config_drop_env(&config);
        r = process_new(&process, &supervisor->host, row->id, &config, &error);
        if (r < 0) {
                (void)fprintf(stderr, "<3>process %" PRIu64 " is left out: %s\n", row->id, error.text);
                supervisor->has_left_out = true;
                process_config_deinit(&config);
                return 0;
        }
        process->created_usec = row->created_usec;
        if (run)
                process->run = *run;
        process->stored_paused = row->paused;
        process->state = row->paused ? PROCESS_PAUSED : PROCESS_EXITED;
        if (run && run->ended & RUN_FAILED)
                process->state = PROCESS_FAILED;
        r = supervisor_insert(supervisor, process);
        if (r < 0)
                (void)process_free(process);
        return r;
}

static int supervisor_on_lock(uint64_t id, const StdinLock *stored, void *userdata) {
        Process *process = supervisor_find_id(userdata, id);
        StdinLock lock = *stored;

        stdin_lock_resume(&lock);
        return process ? process_set_lock(process, &lock) : 0;
}

static void supervisor_on_remove_timer(evutil_socket_t fd, short what, void *userdata) {
        Supervisor *supervisor = userdata;

        (void)fd;
        (void)what;
        LIST_FOREACH(Process, process, &supervisor->processes, link)
                supervisor_consider_removal(supervisor, process);
}

/* An engine that ends between a commit and telling the keeper leaves it with what nobody asks for any more:
 * runs whose end is recorded, and their descriptors. */
static void supervisor_forget_rest(Supervisor *supervisor, const Handover *handover) {
        KeeperLink *link = supervisor->host.link;

        for (size_t i = 0; i < handover->n_children; i++) {
                const KeeperMessage *child = &handover->children[i];
                const Process *process = supervisor_find_id(supervisor, child->process);
                KeeperMessage message = { .type = KEEPER_FORGET,
                                          .process = child->process,
                                          .run = child->run };

                if (child->state != KEEPER_CHILD_RUNNING &&
                    (!process || process->run.run != child->run || registry_run_is_over(&process->run)))
                        keeper_link_tell(link, &message);
        }
        for (size_t i = 0; i < handover->n_fds; i++) {
                const HandoverFd *fd = &handover->fds[i];

                if (fd->fd >= 0 && fd->label != KEEPER_LABEL_LISTENER)
                        keeper_link_drop(link, (KeeperLabel)fd->label, fd->process, fd->run);
        }
}

static bool supervisor_wants_tree(uint64_t process_id, uint32_t run, void *userdata) {
        const Process *process = supervisor_find_id(userdata, process_id);

        return process && process->run.run == run && !registry_run_is_over(&process->run);
}

int supervisor_recover(Supervisor *supervisor, Handover *handover, bool same_keeper, Error *reterr_error) {
        struct timeval tv = { .tv_sec = REMOVE_REATTACH_USEC / USEC_PER_SEC + 1 };
        uint64_t claim_usec = clock_monotonic_usec() + CLAIM_REATTACH_USEC;
        bool removes = false;
        int r;

        supervisor->remove_not_before_usec = clock_monotonic_usec() + REMOVE_REATTACH_USEC;
        r = registry_load(supervisor->registry, supervisor_on_row, supervisor, reterr_error);
        if (r >= 0)
                r = registry_load_locks(supervisor->registry, supervisor_on_lock, supervisor, reterr_error);
        if (r < 0)
                return r;
        LIST_FOREACH(Process, process, &supervisor->processes, link) {
                if (process->config.remove_when_ended)
                        removes = true;
                if (registry_run_is_over(&process->run)) {
                        if (process->state == PROCESS_PAUSED)
                                process->state = PROCESS_EXITED;
                        if (same_keeper && registry_run_claims(&process->run) > 0)
                                process->claim_usec = claim_usec; /* it may run anew before they are back */
                        process_tell_disk_works(process);         /* it has no output any more */
                        continue;
                }
                if (same_keeper)
                        process_adopt(process, handover);
                else
                        process_lose(process);
        }
        if (!supervisor->has_left_out) {
                supervisor_forget_rest(supervisor, handover);
                tree_root_sweep(supervisor->host.tree_root, supervisor_wants_tree, supervisor);
        }
        if (!removes) {
                supervisor->remove_not_before_usec = 0;
                return 0;
        }
        supervisor->remove_timer = evtimer_new(supervisor->host.base, supervisor_on_remove_timer, supervisor);
        if (supervisor->remove_timer)
                (void)evtimer_add(supervisor->remove_timer, &tv);
        return 0;
}
