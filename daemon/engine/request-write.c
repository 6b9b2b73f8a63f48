/* SPDX-License-Identifier: MIT */

/* write: accepted at once or when there is room, answered then, or when the pipe has taken it, or when the
 * child has read it. */

#include "daemon/engine/request-write.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fd.h"
#include "common/protocol.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/request-key.h"

#define KEY_MAX 64

/* The kernel tells nobody that a pipe has been read from while it is not full: it is asked, more and more
 * rarely, while somebody waits for the answer. */
#define CONSUMED_FIRST_USEC 500
#define CONSUMED_LAST_USEC (50 * USEC_PER_MSEC)

/* A write that waits. */
typedef struct PendingWrite {
        InputPlace place;  /* while it waits for room */
        Wait *wait;        /* borrowed */
        WriteParams write; /* key and lock are owned here; without its data once that is accepted */
        pid_t pid;
        size_t size;
        uint64_t end; /* stdin offset behind the bytes, once they are accepted */
        bool cancelled;
        int peek_fd;          /* owned; reading end of a pipe whose other end was closed, -1 */
        struct event *timer;  /* owned; asks again; NULL until it is needed */
        uint64_t delay_usec;  /* of the timer */
        size_t waiting_bytes; /* what it has in host->waiting_write_bytes */
} PendingWrite;

int write_params_parse(WriteParams *ret_write, const char *method, Params *params, Error *reterr_error) {
        WriteParams write = { .timeout_usec = USEC_INFINITY };
        const json_t *data = params_get(params, "data");
        int r;

        if ((r = params_bool(params, "eof", &write.eof, reterr_error)) < 0 ||
            (r = params_bool(params, "drain", &write.drain, reterr_error)) < 0 ||
            (r = params_bool(params, "consumed", &write.consumed, reterr_error)) < 0 ||
            (r = params_u64(params, "timeout_usec", 0, INT64_MAX / 4, &write.timeout_usec, reterr_error)) <
                    0 ||
            (r = params_string(params, "key", KEY_MAX, &write.key, reterr_error)) < 0 ||
            (r = params_string(params, "lock", STDIN_LOCK_TOKEN_MAX, &write.lock, reterr_error)) < 0)
                return r;
        if (!data)
                return error_set(reterr_error, ERROR_INVALID, "data: the bytes to write are needed");
        r = bytes_from_json(data, "data", &write.data, reterr_error);
        if (r < 0)
                return r;
        if (write.data.size > INPUT_DATA_MAX) {
                r = error_set(reterr_error, ERROR_TOO_LARGE, "data: %zu bytes, at most %d are taken",
                              write.data.size, INPUT_DATA_MAX);
                bytes_deinit(&write.data);
                return r;
        }
        if (write.key)
                write.digest = request_digest_data(
                        request_digest(method, params, "target key lock timeout_usec drain consumed data"),
                        write.data.data, write.data.size);
        *ret_write = write;
        return 0;
}

void write_params_deinit(WriteParams *write) {
        bytes_deinit(&write->data);
}

static json_t *write_result(Process *process, uint64_t end, size_t size) {
        uint64_t accepted = 0, taken = 0;
        StdinLog *log;

        if (process_stdin_log(process, &log, NULL) >= 0) {
                accepted = stdin_log_accepted(log);
                taken = stdin_log_taken(log);
        }
        return json_pack("{s:I, s:I, s:I, s:I}", "accepted", (json_int_t)end, "taken",
                         (json_int_t)process_input_taken(process), "bytes", (json_int_t)size, "queued",
                         (json_int_t)(accepted - taken));
}

/* A write is accepted as a whole or not at all: a key of which another number of bytes was accepted, or
 * others, is another's. Return: 1: it had been accepted before; 0; <0. */
static int write_check_key(Process *process, const StdinWriter *writer, const WriteParams *write,
                           Error *reterr_error) {
        uint64_t accepted, taken, end;
        StdinLog *log;
        bool eof;
        int r;

        r = process_stdin_log(process, &log, reterr_error);
        if (r < 0)
                return r;
        r = stdin_log_writer(log, writer, &accepted, &taken, &end, &eof);
        if (r < 0)
                return r;
        if ((accepted != 0 && accepted != write->data.size) || !stdin_log_wrote_this(log, writer))
                return request_key_taken(write->key, reterr_error);
        return accepted != 0 || eof;
}

/* Whether others that wait for room go first. */
static bool write_must_wait(const Process *process, const InputPlace *own) {
        if (!process_is_alive(process) || process->stdin_fd < 0)
                return false; /* refused for that */
        return own ? !process_input_is_first(process, own) : process->n_input_writes > 0;
}

/* 'own': its place among those who wait for room; NULL: none yet. */
static int write_try(Process *process, const WriteParams *write, const InputPlace *own, pid_t pid,
                     uint64_t *ret_end, Error *reterr_error) {
        InputFrom from = { .lock = write->lock, .pid = pid };
        StdinWriter writer;
        int r = 0;

        if (write->key) {
                writer = stdin_writer_hash(write->key, strlen(write->key));
                le32_put(writer.digest, MAX((uint32_t)write->digest, 1u));
                from.writer = &writer;
                r = write_check_key(process, &writer, write, reterr_error);
                if (r < 0)
                        return r;
        }
        if (r == 0 && write_must_wait(process, own)) {
                r = process_check_lock(process, write->lock, reterr_error);
                return r < 0 ? r
                             : error_set(reterr_error, ERROR_WOULD_BLOCK,
                                         "others wait for room in the input of process %" PRIu64,
                                         process->id);
        }
        return process_input(process, &from, 0, write->data.data, write->data.size, write->eof, NULL, ret_end,
                             reterr_error);
}

int write_accept(Process *process, const WriteParams *write, pid_t pid, uint64_t *ret_end,
                 Error *reterr_error) {
        return write_try(process, write, NULL, pid, ret_end, reterr_error);
}

/* --- waiting --- */

/* A reading end of our own on the pipe, so that what it holds can be seen when the writing end is closed. */
static int pipe_peek(int pipe_fd) {
        char path[32];

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", pipe_fd);
        return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

static void pending_on_close_stdin(ProcessWatch *watch, Process *process) {
        PendingWrite *pending = CONTAINER_OF(watch, WaitTarget, watch)->wait->data;

        if (pending->write.consumed && pending->peek_fd < 0)
                pending->peek_fd = pipe_peek(process->stdin_fd);
}

static void pending_release(RequestHost *host, PendingWrite *pending) {
        host->waiting_write_bytes -= pending->waiting_bytes;
        pending->waiting_bytes = 0;
        bytes_deinit(&pending->write.data);
}

static void pending_free(PendingWrite *pending) {
        if (pending->timer)
                event_free(pending->timer);
        (void)fd_close(pending->peek_fd);
        bytes_deinit(&pending->write.data);
        free((char *)pending->write.key);
        free((char *)pending->write.lock);
        free(pending);
}

static bool pending_on_turn(InputPlace *place, Process *process) {
        (void)process;
        wait_due(CONTAINER_OF(place, PendingWrite, place)->wait); /* it looks by itself, then leaves */
        return false;
}

static void pending_leave(PendingWrite *pending, Process *process) {
        if (!list_linked(&pending->place.link))
                return;
        process_input_leave(process, &pending->place);
        process_input_turn(process); /* the next one may have room now */
}

static void pending_on_removed(Wait *wait, size_t i) {
        PendingWrite *pending = wait->data;

        process_input_leave(wait->targets[i].process, &pending->place);
}

static void pending_on_free(Wait *wait) {
        PendingWrite *pending = wait->data;

        if (!pending)
                return;
        pending_leave(pending, wait->targets[0].process);
        pending_release(wait->host, pending);
        pending_free(pending);
        wait->data = NULL;
}

static void pending_on_timer(evutil_socket_t fd, short what, void *userdata) {
        (void)fd;
        (void)what;
        wait_due(userdata);
}

static int pending_ask_again(Wait *wait, PendingWrite *pending, Error *reterr_error) {
        struct timeval tv;

        if (!pending->timer)
                pending->timer = evtimer_new(wait->host->supervisor->host.base, pending_on_timer, wait);
        if (!pending->timer)
                return error_set_errno(reterr_error, ENOMEM, "cannot wait until the input is read");
        if (evtimer_pending(pending->timer, NULL))
                return 0;
        pending->delay_usec = pending->delay_usec == 0 ? CONSUMED_FIRST_USEC
                                                       : MIN(2 * pending->delay_usec, CONSUMED_LAST_USEC);
        tv = (struct timeval){ .tv_usec = (suseconds_t)pending->delay_usec };
        return evtimer_add(pending->timer, &tv) < 0
                       ? error_set_errno(reterr_error, ENOMEM, "cannot wait until the input is read")
                       : 0;
}

/* What keeps a write from being taken or read for ever. Return: 0 or <0 with the error. */
static int pending_check_end(const WaitTarget *target, const PendingWrite *pending, const char *what,
                             Error *reterr_error) {
        const Process *process = target->process;

        if (!process)
                return error_set(reterr_error, ERROR_NOT_FOUND, "the process was removed");
        if (pending->cancelled)
                return error_set(reterr_error, ERROR_CANCELLED,
                                 "the input was cancelled before process %" PRIu64 " had %s it", process->id,
                                 what);
        if (process->run.run != target->run || !process_is_alive(process))
                return error_set(reterr_error, ERROR_NOT_RUNNING,
                                 "process %" PRIu64 " ended before it had %s its input", process->id, what);
        return 0;
}

/* The deadline has passed while it waits to have been 'done'. Return: <0 with the error, which names 'step'.
 */
static int pending_time_out(const Process *process, const char *done, const char *step, Error *reterr_error) {
        return error_set_step(reterr_error,
                              error_set(reterr_error, ERROR_TIMEOUT,
                                        "process %" PRIu64 " has not %s its input in time; it stays accepted",
                                        process->id, done),
                              step);
}

/* The pipe has taken it. Return: 1: the child has read it; 0: not yet; <0: that cannot come any more. */
static int consumed_check(Wait *wait, PendingWrite *pending, Error *reterr_error) {
        const WaitTarget *target = &wait->targets[0];
        Process *process = target->process;
        uint64_t consumed = 0;
        bool alive = process && process_is_alive(process) && process->run.run == target->run;
        int fd = alive && process->stdin_fd >= 0 ? process->stdin_fd : pending->peek_fd, r = 0;

        if (process && process->run.run == target->run && fd >= 0)
                r = process_input_consumed(process, fd, &consumed, reterr_error);
        if (consumed >= pending->end)
                return 1;
        if (r < 0)
                return r;
        r = pending_check_end(target, pending, "read", reterr_error);
        if (r < 0)
                return r;
        if (fd < 0)
                return error_set(reterr_error, ERROR_UNSUPPORTED,
                                 "the stdin of process %" PRIu64
                                 " is closed: whether it was read cannot be told",
                                 process->id);
        if (wait->timed_out)
                return pending_time_out(process, "read", "consumed", reterr_error);
        return pending_ask_again(wait, pending, reterr_error);
}

/* Return: 1: the pipe has taken it; 0: not yet; <0: it never will. */
static int taken_check(Wait *wait, PendingWrite *pending, Error *reterr_error) {
        const WaitTarget *target = &wait->targets[0];
        Process *process = target->process;
        int r;

        if (process && !pending->cancelled && process->run.run == target->run &&
            process_input_taken(process) >= pending->end)
                return 1;
        r = pending_check_end(target, pending, "taken", reterr_error);
        if (r < 0)
                return r;
        if (process->stdin_fd < 0 && process->state != PROCESS_STARTING)
                return error_set(reterr_error, ERROR_STDIN_CLOSED,
                                 "process %" PRIu64 " closed its stdin before it had taken its input",
                                 process->id);
        if (wait->timed_out)
                return pending_time_out(process, "taken", "drain", reterr_error);
        return 0;
}

/* It is accepted: over when the pipe has taken it or the child has read it, or neither will happen. */
static int accepted_check(Wait *wait) {
        PendingWrite *pending = wait->data;
        Error error = {};
        int r = 1;

        if (pending->write.drain || pending->write.consumed)
                r = taken_check(wait, pending, &error);
        if (r > 0 && pending->write.consumed)
                r = consumed_check(wait, pending, &error);
        if (r == 0)
                return 0;
        if (r < 0)
                return wait_answer(wait, NULL, &error);
        return wait_answer(wait, write_result(wait->targets[0].process, pending->end, pending->size), NULL);
}

static int room_check(Wait *wait) {
        WaitTarget *target = &wait->targets[0];
        PendingWrite *pending = wait->data;
        Error error = {};
        int r;

        r = pending_check_end(target, pending, "room for", &error);
        if (r >= 0)
                r = write_try(target->process, &pending->write, &pending->place, pending->pid, &pending->end,
                              &error);
        if (r < 0 && error.code == ERROR_WOULD_BLOCK) {
                if (!wait->timed_out)
                        return 0;
                (void)error_set(&error, ERROR_TIMEOUT,
                                "process %" PRIu64
                                " had no room for more input in time; nothing was accepted",
                                target->id);
                (void)error_set_step(&error, r, "room");
        } else if (r < 0 && error.code == ERROR_NONE)
                (void)error_set_errno(&error, r, "cannot accept input");
        if (r < 0)
                return wait_answer(wait, NULL, &error);
        pending_release(wait->host, pending);
        wait->check = accepted_check;
        pending_leave(pending, target->process);
        return accepted_check(wait);
}

void write_cancelled(Process *process, uint64_t offset) {
        LIST_FOREACH(ProcessWatch, watch, &process->watches, link) {
                Wait *wait;

                if (watch->on_close_stdin != pending_on_close_stdin)
                        continue;
                wait = CONTAINER_OF(watch, WaitTarget, watch)->wait;
                if (wait->check == accepted_check && ((PendingWrite *)wait->data)->end > offset) {
                        ((PendingWrite *)wait->data)->cancelled = true;
                        wait_due(wait);
                }
        }
}

/* Takes over 'data', where it has still to be accepted, and copies key and lock. */
static int pending_new(Request *request, WriteParams *write, bool accepted, PendingWrite **ret_pending,
                       Error *reterr_error) {
        RequestHost *host = request->host;
        PendingWrite *pending;

        if (!accepted && host->waiting_write_bytes + write->data.size > LIMIT_WAITING_WRITE_BYTES)
                return error_set(reterr_error, ERROR_WOULD_BLOCK, "writes of %zu bytes wait for room already",
                                 host->waiting_write_bytes);
        pending = calloc(1, sizeof(*pending));
        if (!pending)
                return error_set_errno(reterr_error, ENOMEM, "cannot wait");
        pending->peek_fd = -1;
        pending->pid = request->client->pid;
        pending->size = write->data.size;
        pending->write = *write;
        pending->write.data = (Bytes){};
        pending->write.key = !accepted && write->key ? strdup(write->key) : NULL;
        pending->write.lock = !accepted && write->lock ? strdup(write->lock) : NULL;
        if (!accepted && ((write->key && !pending->write.key) || (write->lock && !pending->write.lock))) {
                pending_free(pending);
                return error_set_errno(reterr_error, ENOMEM, "cannot wait");
        }
        if (!accepted) {
                pending->waiting_bytes = write->data.size;
                host->waiting_write_bytes += write->data.size;
                pending->write.data = write->data;
                write->data = (Bytes){};
        }
        *ret_pending = pending;
        return 0;
}

static int write_wait(Request *request, Process *process, PendingWrite *pending, bool accepted,
                      Error *reterr_error) {
        Wait *wait;
        int r;

        r = wait_new(&wait, request->host, request, &process, 1, accepted ? accepted_check : room_check,
                     pending->write.timeout_usec, reterr_error);
        if (r < 0) {
                pending_release(request->host, pending);
                pending_free(pending);
                return r;
        }
        wait->data = pending;
        wait->on_free = pending_on_free;
        wait->on_removed = pending_on_removed;
        pending->wait = wait;
        if (!accepted) {
                pending->place = (InputPlace){ .is_write = true, .on_turn = pending_on_turn };
                process_input_wait(process, &pending->place);
                process_input_turn(process); /* streams that came before it have theirs first */
        }
        wait->targets[0].watch.on_close_stdin = pending_on_close_stdin;
        return r;
}

/* Whether the end of the pipe can tell, asked before anything is accepted. For an end of file, which may
 * close the pipe at once, *ret_peek_fd is a way to see it afterwards. */
static int consumed_prepare(Process *process, bool eof, int *ret_peek_fd, Error *reterr_error) {
        uint64_t offset;
        int r;

        if (process->stdin_fd < 0)
                return 0; /* refused for that */
        r = process_input_consumed(process, process->stdin_fd, &offset, reterr_error);
        if (r < 0)
                return r;
        if (eof)
                *ret_peek_fd = pipe_peek(process->stdin_fd);
        return 0;
}

int request_write(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        CLEANUP(write_params_deinit) WriteParams write = {};
        CLEANUP(fd_close) int peek_fd = -1;
        PendingWrite *pending = NULL;
        bool waits, accepted;
        Process *process;
        uint64_t end = 0;
        int r;

        if ((r = request_target(request, params, &process, reterr_error)) < 0 ||
            (r = write_params_parse(&write, "write", params, reterr_error)) < 0)
                return r;
        waits = write.timeout_usec != USEC_INFINITY && write.timeout_usec > 0;
        if (((waits || write.drain || write.consumed) && (r = request_may_wait(request, reterr_error)) < 0) ||
            (write.consumed && (r = consumed_prepare(process, write.eof, &peek_fd, reterr_error)) < 0))
                return r;
        r = write_accept(process, &write, request->client->pid, &end, reterr_error);
        accepted = r >= 0;
        if (!accepted && !(r == -EAGAIN && waits))
                return r;
        if (accepted && !write.drain && !write.consumed) {
                *ret_result = write_result(process, end, write.data.size);
                return 0;
        }
        r = pending_new(request, &write, accepted, &pending, reterr_error);
        if (r < 0)
                return r;
        pending->end = end;
        if (peek_fd >= 0 && accepted && process->stdin_fd < 0)
                pending->peek_fd = TAKE_FD(peek_fd);
        return write_wait(request, process, pending, accepted, reterr_error);
}
