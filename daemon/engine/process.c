/* SPDX-License-Identifier: MIT */

#include "daemon/engine/process.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/stdin-index.h"

static int host_path(const ProcessHost *host, uint64_t id, char *buffer, size_t size, Error *reterr_error) {
        int n;

        n = snprintf(buffer, size, "%s/processes/%" PRIu64, host->state_dir, id);
        if (n < 0 || (size_t)n >= size)
                return error_set(reterr_error, ERROR_SYSTEM, "the state directory's path is too long");
        return 0;
}

static int process_path(const Process *process, char *buffer, size_t size, Error *reterr_error) {
        return host_path(process->host, process->id, buffer, size, reterr_error);
}

/* Makes the directory of a process that is not there yet, with nothing in it. */
static int make_empty_dir(const char *path, Error *reterr_error) {
        int r;

        if (mkdir(path, 0700) >= 0)
                return 0;
        if (errno != EEXIST)
                return error_set_errno(reterr_error, errno, "cannot make the directory '%s'", path);
        /* An engine that was killed before it had stored that there is such a process left it. */
        r = log_remove(path);
        if (r >= 0)
                r = stdin_log_remove(path);
        return r < 0 ? error_set_errno(reterr_error, r, "cannot empty the directory '%s'", path) : 0;
}

void process_host_init(ProcessHost *host) {
        list_init(&host->open_logs);
        list_init(&host->resting);
        list_init(&host->endings);
}

void process_host_deinit(ProcessHost *host) {
        char path[4096];

        process_ending_deinit(host);
        if (!host->spare_log)
                return;
        host->spare_log = log_free(host->spare_log);
        if (host_path(host, host->spare_id, path, sizeof(path), NULL) >= 0 && log_remove(path) >= 0 &&
            stdin_log_remove(path) >= 0)
                (void)rmdir(path);
}

bool process_host_prepare(ProcessHost *host, uint64_t id) {
        const LogOptions options = { .retention_bytes = RETENTION_DEFAULT_BYTES };
        char path[4096];

        if (!host->spare_log) {
                if (host_path(host, id, path, sizeof(path), NULL) < 0 || make_empty_dir(path, NULL) < 0)
                        return false;
                if (log_new(&host->spare_log, path, &options, NULL) < 0) {
                        (void)log_remove(path);
                        return false;
                }
                host->spare_id = id;
                return host->expects_input;
        }
        if (host_path(host, host->spare_id, path, sizeof(path), NULL) < 0)
                return false;
        if (host->expects_input && !host->has_spare_input) {
                stdin_index_make(path);
                host->has_spare_input = true;
        }
        return false;
}

static void process_untouch_log(Process *process) {
        list_remove(&process->rest_link);
        if (!list_linked(&process->log_link))
                return;
        list_remove(&process->log_link);
        process->host->n_open_logs--;
}

/* Closes what is opened again when it is needed. */
static void process_idle_logs(Process *process) {
        process_untouch_log(process);
        if (process->log)
                log_idle(process->log);
        if (process->stdin_log)
                stdin_log_idle(process->stdin_log);
}

/* A log is about to be used and may open descriptors: let the one that rested longest close its own. */
static void process_touch_log(Process *process) {
        ProcessHost *host = process->host;

        if (list_linked(&process->log_link)) {
                if (process->log_link.next != &host->open_logs) {
                        list_remove(&process->log_link);
                        list_append(&host->open_logs, &process->log_link);
                }
                return;
        }
        list_append(&host->open_logs, &process->log_link);
        if (++host->n_open_logs > fd_room_open_logs())
                process_idle_logs(CONTAINER_OF(host->open_logs.next, Process, log_link));
}

int process_host_check_room(ProcessHost *host, FdUse use, int fd, Error *reterr_error) {
        int r;

        r = fd_room_check(use, fd, reterr_error);
        if (r != 0)
                LIST_FOREACH(Process, process, &host->open_logs, log_link)
                        process_idle_logs(process);
        return MIN(r, 0);
}

int process_new(Process **ret_process, ProcessHost *host, uint64_t id, ProcessConfig *config,
                Error *reterr_error) {
        CLEANUP(process_free) Process *process = NULL;

        process = calloc(1, sizeof(*process));
        if (!process)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold process %" PRIu64, id);
        process->host = host;
        process->id = id;
        process->stdin_fd = process->position_fd = process->discard_fd = -1;
        process->input_end = process->transcript_from = UINT64_MAX;
        process->outputs[0].fd = process->outputs[1].fd = -1;
        process->outputs[0].source = SOURCE_STDOUT;
        process->outputs[1].source = SOURCE_STDERR;
        for (unsigned i = 0; i < 2; i++) {
                /* so that event_del() is always allowed */
                (void)event_assign(&process->outputs[i].event, host->base, -1, 0, NULL, NULL);
                process_stage_init(&process->outputs[i].stage);
        }
        list_init(&process->readers);
        list_init(&process->watches);
        list_init(&process->input_places);
        process->config = *config;
        *config = (ProcessConfig){};
        *ret_process = TAKE(process);
        return 0;
}

/* Takes what lies ready, if it can. Where the registry did not count on by one, its name is another. */
static bool process_take_spare(Process *process, const char *path) {
        const LogOptions options = { .retention_bytes = process->config.retention_bytes };
        ProcessHost *host = process->host;

        if (!host->spare_log || (host->spare_id != process->id && log_move(host->spare_log, path, NULL) < 0))
                return false;
        process->log = TAKE(host->spare_log);
        process->has_new_dir = !host->has_spare_input;
        host->has_spare_input = false;
        log_set_options(process->log, &options);
        return true;
}

int process_make_dir(Process *process, Error *reterr_error) {
        char path[4096];
        int r;

        r = process_path(process, path, sizeof(path), reterr_error);
        if (r < 0)
                return r;
        process->host->expects_input = false; /* until it gets some */
        if (process_take_spare(process, path))
                return 0;
        r = make_empty_dir(path, reterr_error);
        process->has_new_dir = r >= 0;
        return r;
}

Process *process_free(Process *process) {
        if (!process)
                return NULL;
        LIST_FOREACH(ProcessReader, reader, &process->readers, link)
                reader->on_removed(reader);
        LIST_FOREACH(ProcessWatch, watch, &process->watches, link)
                watch->on_removed(watch, process);
        process_outputs_close(process);
        process_set_lease_holder(process, NULL);
        if (process->stdin_event)
                event_free(process->stdin_event);
        (void)fd_close(process->stdin_fd);
        (void)fd_close(process->position_fd);
        (void)fd_close(process->discard_fd);
        if (process->timer)
                event_free(process->timer);
        process_untouch_log(process);
        (void)log_free(process->log);
        (void)stdin_log_free(process->stdin_log);
        free(process->stdin_lock);
        process_config_deinit(&process->config);
        free(process->spawn_error);
        free(process);
        return NULL;
}

void process_host_rest(ProcessHost *host) {
        LIST_FOREACH(Process, process, &host->resting, rest_link) {
                list_remove(&process->rest_link);
                if (!process_is_over(process))
                        continue; /* it runs again */
                process_idle_logs(process);
        }
}

void process_remove_files(Process *process) {
        char path[4096];

        process_untouch_log(process);
        process->log = log_free(process->log);
        process->stdin_log = stdin_log_free(process->stdin_log);
        if (process_path(process, path, sizeof(path), NULL) < 0)
                return;
        (void)log_remove(path);
        (void)stdin_log_remove(path);
        (void)rmdir(path);
}

bool process_is_alive(const Process *process) {
        return process_state_is_alive(process->state);
}

bool process_has_tree(const Process *process) {
        return process->run.run != 0 && !(process->run.ended & RUN_EMPTY);
}

bool process_is_over(const Process *process) {
        return !process_is_alive(process) && registry_run_is_over(&process->run);
}

int process_log(Process *process, Log **ret_log, Error *reterr_error) {
        LogOptions options = { .retention_bytes = process->config.retention_bytes };
        char path[4096];
        int r;

        if (!process->log) {
                r = process_path(process, path, sizeof(path), reterr_error);
                if (r < 0)
                        return r;
                r = process->has_new_dir ? log_new(&process->log, path, &options, reterr_error)
                                         : log_open(&process->log, path, &options, reterr_error);
                if (r >= 0 && process->discard_fd >= 0) /* else what was discarded would not be told of */
                        r = log_discard_resume(process->log, process->run.run, process->discard_fd,
                                               reterr_error);
                if (r < 0) {
                        process->log = log_free(process->log);
                        return r;
                }
        }
        process_touch_log(process);
        *ret_log = process->log;
        return 0;
}

int process_stdin_log(Process *process, StdinLog **ret_log, Error *reterr_error) {
        char path[4096];
        int r;

        if (!process->stdin_log) {
                r = process_path(process, path, sizeof(path), reterr_error);
                if (r < 0)
                        return r;
                r = process->has_new_dir
                            ? stdin_log_new(&process->stdin_log, path, reterr_error)
                            : stdin_log_open(&process->stdin_log, path, process->position_fd, reterr_error);
                if (r < 0)
                        return r; /* the position stays ours: without it, input would be delivered twice */
                process->position_is_held = process->position_fd >= 0;
                process->position_fd = -1;
                process->has_new_dir = false;
        }
        process_touch_log(process);
        *ret_log = process->stdin_log;
        return 0;
}

uint64_t process_input_taken(Process *process) {
        StdinLog *log;

        if (process_stdin_log(process, &log, NULL) < 0)
                return 0;
        return MIN(stdin_log_taken(log), process->input_end);
}

void process_set_lease_holder(Process *process, void *client) {
        process->host->n_lease_holders += (client != NULL) - (size_t)(process->lease_holder != NULL);
        process->lease_holder = client;
}

int process_transit(Process *process, ProcessEvent event) {
        int next;

        next = process_state_next(process->state, event);
        if (next < 0)
                return -EBUSY;
        process->state = (ProcessState)next;
        return 0;
}

static void process_tell_readers(Process *process, bool lazily) {
        LIST_FOREACH(ProcessReader, reader, &process->readers, link)
                reader->on_grown(reader, lazily);
}

void process_grown(Process *process) {
        process_tell_readers(process, false);
}

void process_changed(Process *process, unsigned changed) {
        process_arm_timer(process);
        process->host->ops->on_change(process, changed, process->host->userdata);
        LIST_FOREACH(ProcessWatch, watch, &process->watches, link)
                watch->on_change(watch, process);
        if (changed & PROCESS_CHANGED_RUN)
                process_grown(process);
}

/* Nothing takes input any more: what is left of it is dropped, and the keeper's descriptor with it. */
static void process_end_stdin(Process *process) {
        Error error = {};
        uint64_t taken;
        StdinLog *log;

        if (process_stdin_log(process, &log, &error) < 0)
                return;
        taken = stdin_log_taken(log);
        if (stdin_log_end_run(log, NULL, &error) >= 0) {
                process->input_end = taken;
                process->transcript_from = UINT64_MAX;
                process->position_is_asked = process->position_is_held = false;
                if (stdin_log_accepted(log) > 0) /* else there never was a position */
                        keeper_link_drop(process->host->link, KEEPER_LABEL_POSITION, process->id, 0);
                stdin_log_idle(log);
        } else
                (void)fprintf(stderr, "<4>process %" PRIu64 ": %s\n", process->id, error.text);
}

void process_set_ended(Process *process, unsigned bits) {
        process->run.ended |= bits;
        if (process->run.ended & RUN_EMPTY) { /* a lease is on the whole tree */
                process->lease_deadline_usec = 0;
                process_set_lease_holder(process, NULL);
        }
        if (process_is_over(process)) {
                Tree tree = process_tree(process);

                process->run.stop_deadline_monotonic_usec = 0;
                process_outputs_close(process);
                tree_release(process->host->tree_root, &tree);
                if (process->log && !list_linked(&process->rest_link)) /* readers are about to want its end */
                        list_append(&process->host->resting, &process->rest_link);
                process_end_stdin(process);
        }
        process_changed(process, PROCESS_CHANGED_RUN);
}

/* After an engine was killed between a record and the registry's commit, what happens to the run is found to
 * happen again: the record is there already. Reads the index of the run, but no data. */
static bool process_has_record(Process *process, Log *log, RecordKind kind, Source source) {
        LogCursor cursor;
        LogChunk chunk;

        if (log_last_record(log, kind, process->run.run, &chunk) <= 0)
                return false;
        if (chunk.header.source == source)
                return true;
        if (log_seek_run(log, &cursor, process->run.run) < 0)
                return false;
        while (log_next(log, &cursor, SIZE_MAX, 0, &chunk) > 0)
                if (chunk.header.kind == kind && chunk.header.source == source &&
                    chunk.header.run == process->run.run)
                        return true;
        return false;
}

static bool record_comes_once(RecordKind kind) {
        return kind == RECORD_START || kind == RECORD_CLOSED || kind == RECORD_EXIT || kind == RECORD_EMPTY;
}

int process_record(Process *process, RecordKind kind, Source source, uint64_t argument) {
        Error error = {};
        Log *log;
        int r;

        r = process_log(process, &log, &error);
        if (r >= 0 && process->is_adopted && record_comes_once(kind) &&
            process_has_record(process, log, kind, source))
                return 0;
        if (r >= 0)
                r = log_record(log, kind, source, process->run.run, argument, &error);
        if (r < 0)
                (void)fprintf(stderr, "<4>process %" PRIu64 ": no '%s' record in its log: %s\n", process->id,
                              record_kind_name(kind), error.text);
        /* what a client wrote comes to those who read along with the answer, or a moment later */
        process_tell_readers(process, kind == RECORD_INPUT);
        return r;
}

static void process_on_timer(evutil_socket_t fd, short what, void *userdata) {
        Process *process = userdata;
        uint64_t now = clock_monotonic_usec();

        (void)fd;
        (void)what;
        if (process->disk_retry_usec != 0 && process->disk_retry_usec <= now) {
                process->disk_retry_usec = 0;
                process_disk_retry(process);
        }
        if (process->tree_retry_usec != 0 && process->tree_retry_usec <= now) {
                process->tree_retry_usec = 0;
                process_check_tree(process);
        }
        if (process->input_retry_usec != 0 && process->input_retry_usec <= now) {
                process->input_retry_usec = 0;
                process_deliver(process);
        }
        if (process->claim_usec != 0 && process->claim_usec <= now) {
                process->claim_usec = 0;
                process_reader_moved(process);
        }
        if (process->lease_deadline_usec != 0 && process->lease_deadline_usec <= now) {
                process->lease_deadline_usec = 0;
                (void)process_stop(process, "lease", process->config.lease_grace_usec, 0, NULL);
        }
        if (process_is_alive(process) && process->config.timeout_usec != 0 &&
            process->run.stop_deadline_monotonic_usec == 0 && process->state != PROCESS_STARTING &&
            process->run.start_monotonic_usec + process->config.timeout_usec <= now)
                (void)process_stop(process, "timeout", process->config.kill_after_usec, 0, NULL);
        if (process->run.stop_deadline_monotonic_usec != 0 &&
            process->run.stop_deadline_monotonic_usec <= now)
                (void)process_stop(process, process->run.stop_cause, 0, 0, NULL);
        process_arm_timer(process);
}

void process_arm_timer(Process *process) {
        uint64_t next = UINT64_MAX, now;
        struct timeval tv;

        if (process->disk_retry_usec != 0)
                next = MIN(next, process->disk_retry_usec);
        if (process->tree_retry_usec != 0)
                next = MIN(next, process->tree_retry_usec);
        if (process->input_retry_usec != 0)
                next = MIN(next, process->input_retry_usec);
        if (process->claim_usec != 0)
                next = MIN(next, process->claim_usec);
        if (process->lease_deadline_usec != 0)
                next = MIN(next, process->lease_deadline_usec);
        if (process->state == PROCESS_STARTING)
                ; /* there is nothing yet that could be ended: the keeper's answer comes first */
        else if (process->run.stop_deadline_monotonic_usec != 0)
                next = MIN(next, process->run.stop_deadline_monotonic_usec);
        else if (process_is_alive(process) && process->config.timeout_usec != 0)
                next = MIN(next, process->run.start_monotonic_usec + process->config.timeout_usec);
        if (next == UINT64_MAX) {
                if (process->timer)
                        (void)evtimer_del(process->timer);
                return;
        }
        if (!process->timer)
                process->timer = evtimer_new(process->host->base, process_on_timer, process);
        if (!process->timer)
                return; /* out of memory: tried again at the next change */
        now = clock_monotonic_usec();
        next = next > now ? next - now : 0;
        tv.tv_sec = (time_t)(next / USEC_PER_SEC);
        tv.tv_usec = (suseconds_t)(next % USEC_PER_SEC);
        (void)evtimer_add(process->timer, &tv);
}

void process_renew_lease(Process *process) {
        if (process->config.lease == LEASE_TIME && process_has_tree(process))
                process->lease_deadline_usec = clock_monotonic_usec() + process->config.lease_usec;
        else
                process->lease_deadline_usec = 0;
        process_arm_timer(process);
}

Tree process_tree(const Process *process) {
        Tree tree;

        tree_init(process->host->tree_root, &tree, process->id, process->run.run, process->run.pid);
        return tree;
}
