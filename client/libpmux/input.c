/* SPDX-License-Identifier: MIT */

#include "client/libpmux/input.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "client/libpmux/call.h"
#include "client/libpmux/connection.h"
#include "common/clock.h"

#define KEEP_BYTES (1024 * 1024)   /* most that is kept because the daemon has not accepted it */
#define FRAME_BYTES (256 * 1024)   /* most in one INPUT frame */
#define PENDING_BYTES (512 * 1024) /* most that is queued on the socket, so that calls do not wait long */

typedef enum InputState {
        INPUT_OPENING, /* open-stdin is in flight */
        INPUT_OPEN,
        INPUT_LOST,   /* the socket broke */
        INPUT_CLOSED, /* for good: 'error' says why, unless eof_done */
} InputState;

struct PmuxInput {
        List link;  /* in Pmux.inputs */
        Pmux *pmux; /* borrowed */
        InputState state;
        uint32_t number;
        PmuxInputOptions options;
        char *target; /* owned */
        char *lock;   /* owned; NULL: none */
        char writer[PMUX_KEY_SIZE];
        PmuxCall *call; /* borrowed; open-stdin or close-stdin in flight, or NULL */
        bool opened;    /* the daemon has answered once */
        json_int_t run; /* that it belongs to */

        /* Bytes of this writer, counted from 0: taken <= accepted <= sent <= written. */
        uint64_t taken;
        uint64_t accepted;
        uint64_t sent;
        uint64_t written;
        uint64_t limit; /* send nothing at or beyond */
        uint64_t shift; /* how far the daemon's count of this writer is behind ours */
        uint8_t *ring;  /* owned; KEEP_BYTES, holds accepted to written at their position modulo KEEP_BYTES */
        bool eof_wanted;
        bool eof_done;
        Error error; /* once CLOSED */
};

size_t pmux_input_room(const PmuxInput *input) {
        if (input->state == INPUT_CLOSED || input->eof_wanted)
                return 0;
        return KEEP_BYTES - (size_t)(input->written - input->accepted);
}

uint64_t pmux_input_written(const PmuxInput *input) {
        return input->written;
}

uint64_t pmux_input_accepted(const PmuxInput *input) {
        return input->accepted;
}

uint64_t pmux_input_taken(const PmuxInput *input) {
        return input->taken;
}

int pmux_input_finished(const PmuxInput *input) {
        return input->accepted == input->written && (!input->eof_wanted || input->eof_done);
}

static void input_close(PmuxInput *input, const Error *error) {
        PmuxError exported;

        if (input->state == INPUT_CLOSED)
                return;
        input->state = INPUT_CLOSED;
        input->error = *error;
        if (!input->options.on_closed)
                return;
        (void)error_export(&exported, error, -error->errno_value);
        input->options.on_closed(input, &exported, input->options.userdata);
}

/* ---- sending ---- */

static void input_send(PmuxInput *input) {
        uint8_t position[INPUT_HEADER_SIZE];
        uint64_t end = MIN(input->written, input->limit);
        size_t at, n;

        while (input->state == INPUT_OPEN && input->sent < end &&
               link_pending(&input->pmux->link) < PENDING_BYTES) {
                at = (size_t)(input->sent % KEEP_BYTES);
                n = (size_t)MIN(end - input->sent, (uint64_t)FRAME_BYTES);
                n = MIN(n, KEEP_BYTES - at);
                le64_put(position, input->sent - input->shift);
                if (connection_send(input->pmux, FRAME_INPUT, input->number, 0, position, sizeof(position),
                                    input->ring + at, n) < 0)
                        return; /* out of memory: the next turn tries again */
                input->sent += n;
        }
}

static void on_eof_answer(Pmux *pmux, json_t *result, const Error *error, void *userdata) {
        PmuxInput *input = userdata;

        (void)pmux;
        (void)result;
        input->call = NULL;
        if (error && error->code != ERROR_STDIN_CLOSED) {
                input_close(input, error);
                return;
        }
        input->eof_done = true;
        if (input->options.on_progress)
                input->options.on_progress(input, input->options.userdata);
}

static int set_lock(const PmuxInput *input, json_t *params) {
        if (!input->lock)
                return 0;
        return json_object_set_new(params, "lock", json_string(input->lock)) < 0 ? -ENOMEM : 0;
}

/* The end of file is a request of its own, made once all bytes are accepted: its answer is what makes it
 * sure. */
static void input_send_eof(PmuxInput *input) {
        json_t *params;

        if (!input->eof_wanted || input->eof_done || input->call || input->state != INPUT_OPEN ||
            input->accepted < input->written)
                return;
        params = json_object();
        if (!params || params_set_target(params, input->target) < 0 || set_lock(input, params) < 0) {
                json_decref(params);
                return; /* out of memory: the next turn tries again */
        }
        (void)call_start(input->pmux, "close-stdin", params, on_eof_answer, input, &input->call, NULL);
}

void inputs_pump(Pmux *pmux) {
        LIST_FOREACH(PmuxInput, input, &pmux->inputs, link) {
                input_send(input);
                input_send_eof(input);
        }
}

/* ---- what the daemon says ---- */

/* Takes the daemon's counts over. Whoever frees the input in on_progress finds nothing touched after it. */
static int input_progress(PmuxInput *input, uint64_t accepted, uint64_t taken, uint64_t limit,
                          Error *reterr_error) {
        if (accepted > input->sent || taken > input->sent)
                return error_set(reterr_error, ERROR_PROTOCOL,
                                 "the daemon accepted input that it was not sent");
        input->accepted = MAX(input->accepted, accepted);
        input->taken = MAX(input->taken, taken);
        input->limit = MAX(input->limit, limit);
        input_send(input);
        input_send_eof(input);
        if (input->options.on_progress)
                input->options.on_progress(input, input->options.userdata);
        return 0;
}

static PmuxInput *find_input(Pmux *pmux, uint32_t number) {
        LIST_FOREACH(PmuxInput, input, &pmux->inputs, link)
                if (input->number == number)
                        return input;
        return NULL;
}

int inputs_on_ack(Pmux *pmux, uint32_t number, const uint8_t *payload, size_t size, Error *reterr_error) {
        PmuxInput *input = find_input(pmux, number);
        uint64_t accepted, taken, limit;

        if (size != 24)
                return error_set(reterr_error, ERROR_PROTOCOL, "an ACK of %zu bytes", size);
        accepted = le64_get(payload);
        taken = le64_get(payload + 8);
        limit = le64_get(payload + 16);
        if (accepted > INT64_MAX || taken > INT64_MAX || limit > INT64_MAX)
                return error_set(reterr_error, ERROR_PROTOCOL, "an ACK with an impossible position");
        if (!input || input->state != INPUT_OPEN)
                return 0;
        return input_progress(input, accepted + input->shift, taken + input->shift, limit + input->shift,
                              reterr_error);
}

void inputs_on_closed(Pmux *pmux, const json_t *params) {
        json_int_t number = json_integer_value(json_object_get(params, "stream"));
        PmuxInput *input = number > 0 && number <= UINT32_MAX ? find_input(pmux, (uint32_t)number) : NULL;
        uint64_t accepted = (uint64_t)json_integer_value(json_object_get(params, "accepted"));
        uint64_t taken = (uint64_t)json_integer_value(json_object_get(params, "taken"));
        Error error = {};

        if (!input)
                return;
        if (taken <= accepted && accepted + input->shift <= input->sent) { /* the last that is heard of it */
                input->accepted = MAX(input->accepted, accepted + input->shift);
                input->taken = MAX(input->taken, taken + input->shift);
        }
        (void)call_error_from_json(json_object_get(params, "error"), &error);
        input_close(input, &error);
}

/* What the daemon has of this writer, after a reconnection, against what is known to be accepted. */
static int input_reconcile(PmuxInput *input, uint64_t accepted, Error *reterr_error) {
        if (accepted > INT64_MAX || accepted + input->shift > input->sent)
                return error_set(reterr_error, ERROR_PROTOCOL,
                                 "the daemon accepted input that it was not sent");
        if (accepted + input->shift < input->accepted) {
                /* It has forgotten a writer that was silent for long. What was acknowledged is safe; with
                 * something unacknowledged under way nobody can tell what of it has arrived. */
                if (input->sent > input->accepted)
                        return error_set(reterr_error, ERROR_SYSTEM,
                                         "the daemon cannot tell how much of the input has arrived");
                input->shift = input->accepted - accepted;
        }
        input->sent = MAX(input->accepted, accepted + input->shift);
        return 0;
}

static void on_opened(Pmux *pmux, json_t *result, const Error *error, void *userdata) {
        PmuxInput *input = userdata;
        json_int_t run = json_integer_value(json_object_get(result, "run"));
        uint64_t accepted = (uint64_t)json_integer_value(json_object_get(result, "accepted"));
        uint64_t taken = (uint64_t)json_integer_value(json_object_get(result, "taken"));
        uint64_t limit = (uint64_t)json_integer_value(json_object_get(result, "limit"));
        Error own = {};

        (void)pmux;
        input->call = NULL;
        if (error && error->code == ERROR_STDIN_CLOSED && input->eof_wanted &&
            input->accepted == input->written) {
                input->eof_done = true; /* our end of file had arrived; only its answer was lost */
                input_close(input, error);
                return;
        }
        if (!error && input->opened && run != input->run)
                (void)error_set(&own, ERROR_NOT_RUNNING, "the run that the input was for is over");
        else if (!error && input_reconcile(input, accepted, &own) == 0 && limit > INT64_MAX)
                (void)error_set(&own, ERROR_PROTOCOL, "the daemon gave an impossible window");
        if (error || own.code != ERROR_NONE) {
                input_close(input, error ? error : &own);
                return;
        }
        input->opened = true;
        input->run = run;
        input->state = INPUT_OPEN;
        (void)input_progress(input, input->sent, MIN(taken + input->shift, input->sent), limit + input->shift,
                             &own);
}

/* ---- opening ---- */

static int input_open(PmuxInput *input, Error *reterr_error) {
        json_t *params;

        input->state = INPUT_OPENING;
        params = json_pack("{s:I, s:s}", "stream", (json_int_t)input->number, "writer", input->writer);
        if (!params || params_set_target(params, input->target) < 0 || set_lock(input, params) < 0) {
                json_decref(params);
                return error_set_errno(reterr_error, ENOMEM, "cannot open a stream of input");
        }
        return call_start(input->pmux, "open-stdin", params, on_opened, input, &input->call, reterr_error);
}

void inputs_lost(Pmux *pmux) {
        LIST_FOREACH(PmuxInput, input, &pmux->inputs, link)
                if (input->state == INPUT_OPEN)
                        input->state = INPUT_LOST;
}

/* The next of those that are in a state; callbacks may free any of them, so each search begins anew. */
static PmuxInput *find_below(Pmux *pmux, InputState least, InputState most) {
        LIST_FOREACH(PmuxInput, input, &pmux->inputs, link)
                if (input->state >= least && input->state <= most)
                        return input;
        return NULL;
}

void inputs_resume(Pmux *pmux) {
        Error error = {};
        PmuxInput *input;

        while ((input = find_below(pmux, INPUT_LOST, INPUT_LOST))) {
                if (input->call) {
                        input->state = INPUT_OPEN; /* all bytes are accepted, close-stdin is sent again */
                        continue;
                }
                if (input_open(input, &error) < 0)
                        input_close(input, &error);
        }
}

void inputs_fail(Pmux *pmux, const Error *error) {
        PmuxInput *input;

        while ((input = find_below(pmux, INPUT_OPENING, INPUT_LOST)))
                input_close(input, error);
}

int pmux_input_start(Pmux *pmux, const char *target, const PmuxInputOptions *options, PmuxInput **ret_input,
                     PmuxError *reterr_error) {
        PmuxInput *input;
        Error error = {};
        bool has_lock;
        int r;

        input = calloc(1, sizeof(*input));
        if (!input)
                return error_export(reterr_error, &error, -ENOMEM);
        input->pmux = pmux;
        input->number = connection_stream_number(pmux);
        if (options) /* of a program that was built before there was all of this */
                memcpy(&input->options, options, MIN(options->size, sizeof(*options)));
        list_append(&pmux->inputs, &input->link);
        input->target = strdup(target);
        input->ring = malloc(KEEP_BYTES);
        has_lock = input->options.lock;
        if (has_lock)
                input->lock = strdup(input->options.lock);
        input->options.lock = NULL; /* the caller's may go away */
        r = input->target && input->ring && (!has_lock || input->lock) ? pmux_key(input->writer) : -ENOMEM;
        if (r == 0)
                r = input_open(input, &error);
        if (r < 0) {
                (void)pmux_input_free(input);
                return error_export(reterr_error, &error, r);
        }
        *ret_input = input;
        return 0;
}

int pmux_input_open(Pmux *pmux, const char *target, const PmuxInputOptions *options, PmuxInput **ret_input,
                    PmuxError *reterr_error) {
        PmuxInput *input;
        int r;

        r = pmux_input_start(pmux, target, options, &input, reterr_error);
        if (r < 0)
                return r;
        while (input->state == INPUT_OPENING)
                (void)pmux_turn(pmux, PMUX_INFINITY, NULL);
        if (input->state == INPUT_CLOSED) {
                r = error_export(reterr_error, &input->error, -input->error.errno_value);
                (void)pmux_input_free(input);
                return r;
        }
        *ret_input = input;
        return 0;
}

/* ---- writing ---- */

ssize_t pmux_input_write(PmuxInput *input, const void *data, size_t size, PmuxError *reterr_error) {
        size_t n, at, first;
        Error error = {};

        if (input->state == INPUT_CLOSED)
                return error_export(reterr_error, &input->error, -input->error.errno_value);
        if (input->eof_wanted)
                return error_export(
                        reterr_error, &error,
                        error_set(&error, ERROR_STDIN_CLOSED, "an end of file was written before"));
        n = MIN(size, pmux_input_room(input));
        at = (size_t)(input->written % KEEP_BYTES);
        first = MIN(n, KEEP_BYTES - at);
        if (first > 0)
                memcpy(input->ring + at, data, first);
        if (n > first)
                memcpy(input->ring, (const uint8_t *)data + first, n - first);
        input->written += n;
        input_send(input);
        connection_kick(input->pmux);
        return (ssize_t)n;
}

int pmux_input_eof(PmuxInput *input, PmuxError *reterr_error) {
        if (input->state == INPUT_CLOSED && !input->eof_done)
                return error_export(reterr_error, &input->error, -input->error.errno_value);
        input->eof_wanted = true;
        input_send_eof(input);
        return 0;
}

int pmux_input_flush(PmuxInput *input, int drain, uint64_t timeout_usec, PmuxError *reterr_error) {
        uint64_t begin = clock_monotonic_usec(), passed = 0;
        Error error = {};

        for (bool had_turn = false;; had_turn = true) {
                if (pmux_input_finished(input) && (!drain || input->taken == input->written))
                        return 0;
                if (input->state == INPUT_CLOSED)
                        return error_export(reterr_error, &input->error, -input->error.errno_value);
                if (had_turn) /* without any time, too, it looks for what has come */
                        passed = clock_monotonic_usec() - begin;
                if (had_turn && passed >= timeout_usec)
                        return error_export(
                                reterr_error, &error,
                                error_set(&error, ERROR_TIMEOUT, "the input was not taken in time"));
                (void)pmux_turn(input->pmux,
                                timeout_usec == PMUX_INFINITY ? PMUX_INFINITY : timeout_usec - passed, NULL);
        }
}

PmuxInput *pmux_input_free(PmuxInput *input) {
        json_t *params;

        if (!input)
                return NULL;
        if (input->state == INPUT_OPEN || input->state == INPUT_OPENING) {
                params = json_pack("{s:I}", "stream", (json_int_t)input->number);
                if (params)
                        (void)call_start(input->pmux, "close-stream", params, NULL, NULL, NULL, NULL);
        }
        (void)pmux_call_forget(input->call);
        list_remove(&input->link);
        free(input->target);
        free(input->lock);
        free(input->ring);
        free(input);
        return NULL;
}

void inputs_free(Pmux *pmux) {
        LIST_FOREACH(PmuxInput, input, &pmux->inputs, link)
                (void)pmux_input_free(input);
}
