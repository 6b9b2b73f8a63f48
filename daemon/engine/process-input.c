/* SPDX-License-Identifier: MIT */

/* The input of a process: accepted into its stdin log, delivered from there into the pipe. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/process.h"

void process_unwatch_stdin(Process *process) {
        if (process->stdin_event)
                event_free(process->stdin_event);
        process->stdin_event = NULL;
}

void process_close_stdin(Process *process) {
        if (process->stdin_fd < 0)
                return;
        process_drop_stdin(process);
        (void)process_record(process, RECORD_CLOSED, SOURCE_STDIN, 0);
        process_changed(process, PROCESS_CHANGED_STDIN);
}

static void input_on_writable(evutil_socket_t fd, short what, void *userdata) {
        (void)fd;
        (void)what;
        process_deliver(userdata);
}

/* Before the first byte is delivered the keeper says that it holds the position: from then on that outlives
 * this engine, and without it the next one would deliver everything again. Return: 0; -EINPROGRESS: it has
 * not said so yet; -errno. */
static int input_position(Process *process, StdinLog *log, Error *reterr_error) {
        bool is_new;
        int fd, r;

        if (process->position_is_held)
                return 0;
        if (process->position_is_asked)
                return -EINPROGRESS;
        r = stdin_log_position_fd(log, &fd, &is_new, reterr_error);
        if (r < 0)
                return r;
        r = keeper_link_put_ask(process->host->link, KEEPER_LABEL_POSITION, process->id, 0, fd);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot hand the position to the keeper");
        process->n_position_asked++;
        process->position_is_asked = true;
        return -EINPROGRESS;
}

/* The answer comes along with that to the start. Where it cannot be asked for now, it is when input is
 * delivered. */
static void input_prepare(Process *process) {
        StdinLog *log;

        if (process_stdin_log(process, &log, NULL) >= 0 && stdin_log_accepted(log) > stdin_log_taken(log))
                (void)input_position(process, log, NULL);
}

/* Something is wrong that may pass (no descriptor, no memory): the input waits, as output would. */
static void input_wait(Process *process, const char *why) {
        if (!process->input_waits)
                (void)fprintf(stderr, "<3>process %" PRIu64 ": cannot deliver its input, trying again: %s\n",
                              process->id, why);
        process->input_waits = true;
        process->input_retry_usec = clock_monotonic_usec() + DISK_RETRY_USEC;
        process_arm_timer(process);
}

void process_position_on_held(Process *process, const KeeperMessage *message) {
        if (process->n_position_asked == 0 || --process->n_position_asked > 0 || !process->position_is_asked)
                return; /* that is of one that has gone since */
        process->position_is_asked = false;
        process->position_is_held = message->error == 0;
        if (process->position_is_held)
                process_deliver(process);
        else if (process->stdin_fd >= 0)
                input_wait(process, "the keeper has no descriptor left");
}

void process_deliver(Process *process) {
        uint64_t before;
        StdinLog *log;
        Error error = {};
        size_t n = 0;
        int r;

        if (process->stdin_fd < 0)
                return;
        process->input_retry_usec = 0;
        if (!(process->run.ended & RUN_SPAWNED)) {
                input_prepare(process);
                return;
        }
        if (process->transcript_from != UINT64_MAX && process_transcribe(process) < 0)
                return; /* what the child has read must not stand behind what it makes of it */
        r = process_stdin_log(process, &log, &error);
        if (r < 0) {
                if (r != -EUCLEAN)
                        input_wait(process, error.text);
                return;
        }
        before = stdin_log_taken(log);
        if (stdin_log_accepted(log) > before) {
                r = input_position(process, log, &error);
                if (r >= 0)
                        r = stdin_log_deliver(log, process->stdin_fd, &n, &error);
        } else
                r = 0;
        if (r == -EINPROGRESS)
                return;
        process->input_waits = process->input_waits && r < 0 && r != -EAGAIN;
        if (r == -EAGAIN) {
                if (!process->stdin_event)
                        process->stdin_event = event_new(process->host->base, process->stdin_fd, EV_WRITE,
                                                         input_on_writable, process);
                if (!process->stdin_event || event_add(process->stdin_event, NULL) < 0)
                        input_wait(process, "no memory to watch its stdin");
        } else if (r == -EPIPE || r == -EUCLEAN) { /* nobody reads it, or it is no longer there */
                if (r != -EPIPE)
                        (void)fprintf(stderr, "<3>process %" PRIu64 ": cannot deliver its input: %s\n",
                                      process->id, error.text);
                process_close_stdin(process);
                return;
        } else if (r < 0) {
                input_wait(process, error.text);
        } else if (stdin_log_eof(log)) {
                process_close_stdin(process);
                return;
        }
        if (stdin_log_taken(log) > before) {
                process_changed(process, PROCESS_CHANGED_STDIN);
                process_input_turn(process);
        }
}

uint64_t process_input_room(Process *process) {
        uint64_t pending;
        StdinLog *log;

        if (process_stdin_log(process, &log, NULL) < 0)
                return 0;
        pending = stdin_log_accepted(log) - stdin_log_taken(log);
        return pending < LIMIT_STDIN_BYTES ? LIMIT_STDIN_BYTES - pending : 0;
}

void process_input_wait(Process *process, InputPlace *place) {
        list_append(&process->input_places, &place->link);
        process->n_input_writes += place->is_write;
}

void process_input_leave(Process *process, InputPlace *place) {
        if (!list_linked(&place->link))
                return;
        list_remove(&place->link);
        process->n_input_writes -= place->is_write;
}

bool process_input_is_first(const Process *process, const InputPlace *place) {
        return process->input_places.next == &place->link;
}

void process_input_turn(Process *process) {
        const List *last = process->input_places.prev; /* who comes back meanwhile has had its turn */
        bool was_last = false;

        while (!was_last && !list_empty(&process->input_places)) {
                InputPlace *first = CONTAINER_OF(process->input_places.next, InputPlace, link);

                was_last = &first->link == last;
                if (!first->on_turn(first, process))
                        return;
        }
}

/* Whether all of this had been accepted before: a retry, which succeeds whatever has become of the process
 * since. */
static bool input_is_retry(StdinLog *log, const StdinWriter *writer, uint64_t end, bool eof,
                           uint64_t *ret_accepted, uint64_t *ret_end) {
        uint64_t accepted, taken, stdin_end;
        bool had_eof;

        if (!writer || stdin_log_writer(log, writer, &accepted, &taken, &stdin_end, &had_eof) < 0)
                return false;
        if (accepted < end || (eof && !had_eof) || (accepted == 0 && !had_eof))
                return false;
        if (ret_accepted)
                *ret_accepted = accepted;
        if (ret_end)
                *ret_end = stdin_end;
        return true;
}

/* What cannot be delivered for want of a descriptor is better not accepted. */
static int input_check_room(Process *process, StdinLog *log, Error *reterr_error) {
        bool is_new;
        int fd, r;

        if (process->position_is_held || process->position_is_asked)
                return 0;
        r = stdin_log_position_fd(log, &fd, &is_new, reterr_error);
        if (r < 0 || !is_new)
                return r;
        r = process_host_check_room(process->host, FD_USE_INPUT, fd, reterr_error);
        if (r < 0)
                stdin_log_close_position(log);
        return r;
}

int process_input(Process *process, const InputFrom *from, uint64_t position, const void *data, size_t size,
                  bool eof, uint64_t *ret_accepted, uint64_t *ret_end, Error *reterr_error) {
        const StdinWriter *writer = from->writer;
        uint64_t before;
        StdinLog *log;
        int r;

        r = process_stdin_log(process, &log, reterr_error);
        if (r < 0)
                return r;
        if (input_is_retry(log, writer, position + size, eof, ret_accepted, ret_end))
                return 0;
        r = process_check_lock(process, from->lock, reterr_error);
        if (r < 0)
                return r;
        if (!process_is_alive(process))
                return error_set(reterr_error, ERROR_NOT_RUNNING, "process %" PRIu64 " is not running",
                                 process->id);
        if (process->stdin_fd < 0)
                return error_set(reterr_error, ERROR_STDIN_CLOSED,
                                 "the stdin of process %" PRIu64 " is closed", process->id);
        if (!from->was_promised && size > process_input_room(process))
                return error_set(reterr_error, ERROR_WOULD_BLOCK,
                                 "process %" PRIu64 " has %d bytes of input waiting already", process->id,
                                 LIMIT_STDIN_BYTES);
        if (size > 0) {
                r = input_check_room(process, log, reterr_error);
                if (r < 0)
                        return r;
        }
        if (process->config.transcript && size > 0) {
                r = process_transcript_begin(process, from->pid, reterr_error);
                if (r < 0)
                        return r;
        }
        if (process->state == PROCESS_STARTING)
                process->host->expects_input = true;
        before = stdin_log_accepted(log);
        r = stdin_log_accept(log, writer, position, size > 0 ? data : "", size, eof, ret_accepted, ret_end,
                             reterr_error);
        if (r < 0)
                return r;
        if (process->config.transcript && stdin_log_accepted(log) > before) {
                process->transcript_from = MIN(process->transcript_from, before);
                (void)process_transcribe(process);
        }
        if (stdin_log_accepted(log) > before)
                (void)process_record(process, RECORD_INPUT, SOURCE_STDIN, stdin_log_accepted(log));
        process_deliver(process);
        return 0;
}

int process_cancel_input(Process *process, uint64_t *ret_dropped, Error *reterr_error) {
        StdinLog *log;
        int r;

        if (!process_is_alive(process))
                return error_set(reterr_error, ERROR_NOT_RUNNING, "process %" PRIu64 " is not running",
                                 process->id);
        r = process_stdin_log(process, &log, reterr_error);
        if (r >= 0)
                r = stdin_log_cancel(log, ret_dropped, reterr_error);
        if (r >= 0)
                process->transcript_from = UINT64_MAX;
        if (r >= 0)
                process_deliver(process); /* a pending end of file */
        if (r >= 0) {
                process_changed(process, PROCESS_CHANGED_STDIN);
                process_input_turn(process);
        }
        return r;
}
