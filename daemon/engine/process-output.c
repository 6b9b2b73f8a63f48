/* SPDX-License-Identifier: MIT */

/* The output of a process: from its pipes into its log. What stops that: a full disk, a lossless reader that
 * is behind. */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/process.h"

#define PIPE_FULL LIMIT_PIPE_BYTES /* a splice of so many bytes may have left more behind */

static unsigned output_ended_bits(const Process *process, unsigned i) {
        if (i == 1)
                return RUN_STDERR_CLOSED;
        return RUN_STDOUT_CLOSED | (process->config.stderr_config.kind == STDIO_JOIN ? RUN_STDERR_CLOSED : 0);
}

static KeeperLabel output_label(unsigned i) {
        return i == 0 ? KEEPER_LABEL_STDOUT : KEEPER_LABEL_STDERR;
}

static void output_forget(Process *process, unsigned i) {
        ProcessOutput *output = &process->outputs[i];

        (void)event_del(&output->event);
        process_flow_end(process, i);
        process_stage_close(process, i);
        process_ending_forget(process, i);
        output->fd = fd_close(output->fd);
        process->exit_left[i] = 0;
        keeper_link_drop(process->host->link, output_label(i), process->id, process->run.run);
}

void process_output_end(Process *process, unsigned i) {
        output_forget(process, i);
        (void)process_record(process, RECORD_CLOSED, process->outputs[i].source, 0);
        process_set_ended(process, output_ended_bits(process, i));
        if ((process->run.ended & (RUN_STDOUT_CLOSED | RUN_STDERR_CLOSED)) ==
            (RUN_STDOUT_CLOSED | RUN_STDERR_CLOSED))
                process->host->ops->on_event(process, "closed", process->host->userdata);
}

void process_outputs_close(Process *process) {
        for (unsigned i = 0; i < 2; i++)
                if (process->outputs[i].fd >= 0)
                        output_forget(process, i);
}

size_t process_output_left(const Process *process, unsigned i) {
        const ProcessOutput *output = &process->outputs[i];
        int n = 0;

        if (output->fd < 0 || ioctl(output->fd, FIONREAD, &n) < 0)
                n = 0;
        return (size_t)n + output->stage.n_left;
}

/* Move what lies in the pipe now, and no more. Return: 0; -EBUSY: it waits for a reader or the disk. */
static int output_collect(Process *process, unsigned i, size_t *total) {
        size_t left = process_output_left(process, i), n;
        int r;

        while (left > 0) {
                r = process->waits_for_reader || process->waits_for_disk
                            ? -EBUSY
                            : process_output_read(process, i, left, &n);
                if (r == -EBUSY)
                        return r;
                if (r < 0 || n == 0)
                        break;
                *total += n;
                left -= MIN(n, left);
        }
        return 0;
}

int process_collect_outputs(Process *process, Error *reterr_error) {
        size_t total = 0;
        int r;

        for (unsigned i = 0; i < 2 && process_is_alive(process); i++) {
                r = output_collect(process, i, &total);
                if (r < 0)
                        return error_set(reterr_error, ERROR_WOULD_BLOCK,
                                         "process %" PRIu64 " waits for a reader or the disk", process->id);
        }
        if (total > 0)
                process_grown(process);
        return 0;
}

bool process_output_is_at_end(const Process *process, unsigned i) {
        const ProcessOutput *output = &process->outputs[i];
        struct pollfd pollfd = { .fd = output->fd, .events = POLLIN };

        return output->fd >= 0 && output->stage.n_left == 0 && poll(&pollfd, 1, 0) == 1 &&
               pollfd.revents == POLLHUP;
}

int process_drain_outputs(Process *process) {
        size_t total = 0;
        int r = process->exit_pending ? -EBUSY : 0;

        for (unsigned i = 0; i < 2 && r == 0; i++) {
                bool is_at_end = process_output_is_at_end(process, i);

                if (!is_at_end) {
                        r = output_collect(process, i, &total);
                        is_at_end = process_output_is_at_end(process, i);
                }
                if (is_at_end)
                        process_output_end(process, i);
        }
        if (total > 0)
                process_grown(process);
        return r;
}

void process_abandon_outputs(Process *process) {
        if ((process->run.ended & RUN_EMPTY) && !process_is_over(process)) {
                process_outputs_close(process);
                process_set_ended(process, RUN_STDOUT_CLOSED | RUN_STDERR_CLOSED);
        }
}

static void outputs_block(Process *process) {
        for (unsigned i = 0; i < 2; i++)
                if (process->outputs[i].fd >= 0) {
                        (void)event_del(&process->outputs[i].event);
                        process_flow_pause(process, i);
                }
}

void process_output_watch(Process *process, unsigned i) {
        ProcessOutput *output = &process->outputs[i];

        if (output->fd < 0 || process->waits_for_disk || process->waits_for_reader)
                return;               /* until they let it go on */
        if (output->stage.n_left > 0) /* of that the pipe says nothing */
                event_active(&output->event, EV_READ, 0);
        if (event_add(&output->event, NULL) < 0) { /* out of memory: it waits as on a full disk */
                process->waits_for_disk = true;
                process->disk_retry_usec = clock_monotonic_usec() + DISK_RETRY_USEC;
                process_arm_timer(process);
        }
}

static void outputs_unblock(Process *process) {
        if (process->waits_for_disk || process->waits_for_reader)
                return;
        for (unsigned i = 0; i < 2; i++)
                process_output_watch(process, i);
        if (process->exit_pending)
                process_finish_exit(process);
        else if (process->run.ended & RUN_EMPTY)
                process_changed(process, 0); /* a restart waits until all of this run is in the log */
}

static bool has_lossless_reader(const Process *process) {
        LIST_FOREACH(ProcessReader, reader, &process->readers, link)
                if (reader->lossless)
                        return true;
        return false;
}

void process_tell_disk_works(Process *process) {
        if (!(process->run.ended & RUN_FULL_DISK))
                return;
        process->run.ended &= ~RUN_FULL_DISK;
        process->host->ops->on_event(process, "full-disk-over", process->host->userdata);
        process_changed(process, PROCESS_CHANGED_RUN);
}

/* Tried again and again, told once. */
static void output_tell_full_disk(Process *process) {
        process->disk_retry_usec = clock_monotonic_usec() + DISK_RETRY_USEC;
        process_arm_timer(process);
        if (process->run.ended & RUN_FULL_DISK)
                return;
        process->run.ended |= RUN_FULL_DISK;
        (void)fprintf(stderr, "<4>process %" PRIu64 ": the disk is full: %s\n", process->id,
                      process->waits_for_disk ? "the process waits" : "its output is discarded");
        process->host->ops->on_event(process, "full-disk", process->host->userdata);
        process_changed(process, PROCESS_CHANGED_RUN); /* the next engine tells the end of it */
}

/* Output went into the log. */
static void output_tell_works(Process *process) {
        process->output_error_told = false;
        process_tell_disk_works(process);
}

static void output_undo_discard(Process *process) {
        log_discard_cancel(process->log);
        process->discard_fd = fd_close(process->discard_fd);
}

/* The disk is full even without the oldest segments: discard what comes, or let the process wait. It waits in
 * any case until the keeper has said that it holds what counts the discarded bytes: else they would be
 * forgotten with this engine. */
static void output_on_full_disk(Process *process, Log *log) {
        Error error = {};

        process->waits_for_disk = true;
        outputs_block(process);
        if (!process->config.wait_on_full_disk && !has_lossless_reader(process) &&
            log_discard_begin(log, process->run.run, &process->discard_fd, &error) >= 0) {
                process->discard_is_asked = keeper_link_put_ask(process->host->link, KEEPER_LABEL_DISCARD,
                                                                process->id, 0, process->discard_fd) >= 0;
                if (process->discard_is_asked)
                        return;
                output_undo_discard(process);
        }
        output_tell_full_disk(process);
}

void process_discard_on_held(Process *process, const KeeperMessage *message) {
        if (!process->discard_is_asked)
                return;
        process->discard_is_asked = false;
        if (message->error == 0)
                process->waits_for_disk = false;
        else
                output_undo_discard(process);
        output_tell_full_disk(process);
        outputs_unblock(process);
}

/* Something is wrong that may pass (no descriptor, no memory, an error of the disk): the process waits. */
static void output_wait(Process *process, const Error *error) {
        if (!process->output_error_told)
                (void)fprintf(stderr, "<3>process %" PRIu64 ": cannot log its output, trying again: %s\n",
                              process->id, error->text);
        process->output_error_told = true;
        process->waits_for_disk = true;
        outputs_block(process);
        process->disk_retry_usec = clock_monotonic_usec() + DISK_RETRY_USEC;
        process_arm_timer(process);
}

void process_disk_retry(Process *process) {
        Error error = {};
        Log *log;
        int r;

        if (process->discard_is_asked)
                return; /* the keeper's answer comes first */
        if (process_log(process, &log, &error) < 0) {
                output_wait(process, &error);
                return;
        }
        if (process->discard_fd >= 0) {
                r = log_discard_end(log, process->discard_fd, &error);
                if (r < 0) {
                        process->disk_retry_usec = clock_monotonic_usec() + DISK_RETRY_USEC;
                        if (!process->waits_for_disk)
                                return; /* it goes on discarding, as it does after what made it wait */
                } else {
                        process->discard_fd = fd_close(process->discard_fd);
                        keeper_link_drop(process->host->link, KEEPER_LABEL_DISCARD, process->id, 0);
                        process->host->ops->on_event(process, "gap", process->host->userdata);
                        output_tell_works(process);
                }
        }
        process->waits_for_disk = false;
        outputs_unblock(process);
        if (process->transcript_from != UINT64_MAX)
                process_deliver(process);
        process_grown(process);
}

static int output_move(Process *process, unsigned i, int fd, size_t max, size_t *ret_n, Error *reterr_error) {
        Source source = process->outputs[i].source;
        Log *log;
        int r;

        if (process->discard_is_asked)
                return -EBUSY;
        r = process_log(process, &log, reterr_error);
        if (r < 0)
                return r;
        if (process->discard_fd >= 0)
                return log_discard(log, process->discard_fd, fd, max, ret_n, reterr_error);
        r = log_splice(log, source, process->run.run, fd, max, ret_n, reterr_error);
        if (r == -EDQUOT) {
                process->waits_for_reader = true;
                outputs_block(process);
                return -EBUSY;
        }
        if (r == -ENOSPC) {
                output_on_full_disk(process, log);
                return -EBUSY;
        }
        if (r == 0)
                output_tell_works(process);
        return r;
}

/* What flows goes by the stage, and what is in that comes first. */
static int output_move_staged(Process *process, unsigned i, size_t max, size_t *ret_n, Error *reterr_error) {
        ProcessOutput *output = &process->outputs[i];
        int r;

        *ret_n = 0;
        if (output->stage.n_left == 0) {
                r = process_flow_is_on(process, i) ? process_stage_take(process, i, max) : -ENOENT;
                if (r == -ENOENT)
                        return output_move(process, i, output->fd, max, ret_n, reterr_error);
                if (r <= 0)
                        return r;
        }
        r = output_move(process, i, output->stage.read_fd, MIN(max, (size_t)output->stage.n_left), ret_n,
                        reterr_error);
        if (r == 0)
                process_stage_moved(process, i, *ret_n);
        return r;
}

/* Returns 0 and *ret_n (0: end of file), -EAGAIN, -EBUSY: it goes on when the disk or a reader lets it. */
int process_output_read(Process *process, unsigned i, size_t max, size_t *ret_n) {
        Error error = {};
        int r;

        r = output_move_staged(process, i, max, ret_n, &error);
        if (r == -EAGAIN || r == -EBUSY || r >= 0)
                return r;
        output_wait(process, &error);
        return -EBUSY;
}

/* Of a pipe that flows more comes all the time: what it held is enough for a turn. */
static void output_turn(Process *process, unsigned i, size_t max) {
        size_t total = 0, n = 0;
        int r;

        do {
                r = process_output_read(process, i, max - total, &n);
                if (r < 0)
                        break;
                total += n;
        } while (total < max && (process->outputs[i].stage.n_left > 0 ||
                                 (n >= PIPE_FULL && !process_flow_is_on(process, i))));
        if (total > 0)
                process_grown(process);
        if (r == 0 && n == 0) {
                if (!process_ending_begin(process, i))
                        process_output_end(process, i);
        } else if (r != -EBUSY)
                process_flow_turn(process, i, total);
}

void process_output_turn(Process *process, unsigned i) {
        output_turn(process, i, LIMIT_SPLICE_BYTES);
}

/* The other output flows or did, so that its pipe is not always watched: what it holds by now may have come
 * before what is to be read here, and goes into the log before it. */
static void output_turn_behind(Process *process, unsigned i) {
        size_t total = 0, n = process_output_left(process, i);

        if (output_collect(process, !i, &total) < 0)
                return;
        if (total > 0)
                process_grown(process);
        output_turn(process, i, n > 0 ? MIN(n, (size_t)LIMIT_SPLICE_BYTES) : LIMIT_SPLICE_BYTES);
}

static void output_on_readable(evutil_socket_t fd, short what, void *userdata) {
        Process *process = userdata;
        unsigned i = process->outputs[0].fd == fd ? 0 : 1;

        (void)what;
        if (process->outputs[!i].flow)
                output_turn_behind(process, i);
        else
                process_output_turn(process, i);
}

void process_outputs_start(Process *process) {
        for (unsigned i = 0; i < 2; i++) {
                ProcessOutput *output = &process->outputs[i];

                if (output->fd < 0)
                        continue;
                (void)event_assign(&output->event, process->host->base, output->fd, EV_READ | EV_PERSIST,
                                   output_on_readable, process);
                if (process->is_adopted)
                        process_flow_adopt(process, i);
                process_output_watch(process, i);
        }
}

static void claims_store(Process *process, unsigned n) {
        unsigned before = registry_run_claims(&process->run);

        n = MIN(n, RUN_CLAIMS_MAX);
        if (n == before)
                return;
        process->run.ended &= ~(RUN_CLAIMS_MAX << RUN_CLAIMS_SHIFT);
        process->run.ended |= n << RUN_CLAIMS_SHIFT;
        /* That the readers of a run that is over leave is worth no transaction: the next engine would wait a
         * while for them to come back, and nothing would wait with it. */
        if (n > before || !process_is_over(process))
                process_changed(process, PROCESS_CHANGED_RUN);
}

void process_reader_moved(Process *process) {
        uint64_t floor = UINT64_MAX;
        unsigned n = 0;
        Log *log;

        if (process_log(process, &log, NULL) < 0)
                return;
        LIST_FOREACH(ProcessReader, reader, &process->readers, link)
                if (reader->lossless) {
                        floor = MIN(floor, reader->offset);
                        n++;
                }
        if (n >= registry_run_claims(&process->run))
                process->claim_usec = 0; /* all are back */
        if (process->claim_usec != 0)
                floor = log_begin(log);
        else
                claims_store(process, n);
        log_set_floor(log, floor);
        if (process->waits_for_reader) {
                process->waits_for_reader = false;
                outputs_unblock(process);
        }
        if (process->transcript_from != UINT64_MAX)
                process_deliver(process);
}

void process_claim(Process *process) {
        process->claim_usec = clock_monotonic_usec() + CLAIM_REATTACH_USEC;
        claims_store(process, MAX(registry_run_claims(&process->run), 1u));
        process_reader_moved(process);
        process_arm_timer(process);
}

void process_carry_claims(Process *process) {
        if (process->claim_usec <= clock_monotonic_usec())
                process->claim_usec = 0;
        process_reader_moved(process);
        process_arm_timer(process);
}

uint64_t process_exit_word(const Process *process) {
        const ExitRecord *exit = &process->run.exit;

        if (!exit->known)
                return EXIT_WORD_UNKNOWN;
        if (exit->signal != 0)
                return (uint64_t)exit->signal << 8 | (exit->core ? EXIT_WORD_CORE : 0);
        return (uint64_t)(exit->code & 0xff);
}

void process_finish_exit(Process *process) {
        size_t n;
        int r;

        for (unsigned i = 0; i < 2; i++)
                while (process->outputs[i].fd >= 0 && process->exit_left[i] > 0) {
                        r = process_output_read(process, i, MAX(process->exit_left[i], PIPE_FULL), &n);
                        if (r == -EBUSY)
                                return;
                        if (r < 0 || n == 0) {
                                process->exit_left[i] = 0;
                                if (r == 0)
                                        process_output_end(process, i);
                                break;
                        }
                        process->exit_left[i] -= MIN(process->exit_left[i], n);
                }
        if (process_record(process, RECORD_EXIT, SOURCE_NONE, process_exit_word(process)) < 0) {
                process->waits_for_disk = true;
                outputs_block(process); /* what comes later must stand behind the record */
                process->disk_retry_usec = clock_monotonic_usec() + DISK_RETRY_USEC;
                process_arm_timer(process);
                return;
        }
        process->exit_pending = false;
        process_set_ended(process, RUN_LOGGED_EXIT);
}

void process_lift_claims(Process *process) {
        LIST_FOREACH(ProcessReader, reader, &process->readers, link)
                reader->lossless = false;
        process->claim_usec = 0;
        process_reader_moved(process);
}
