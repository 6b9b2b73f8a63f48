/* SPDX-License-Identifier: MIT */

/* Portions of output: requests and answers of the methods "read" and "ask" with types. */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "client/libpmux/call.h"
#include "client/libpmux/connection.h"
#include "client/libpmux/pmux-read.h"
#include "common/bytes.h"

void pmux_read_deinit(PmuxRead *read) {
        free(read->data);
        free(read->groups);
        *read = (PmuxRead){};
}

/* ---- the request ---- */

static const char *const fors[] = { "bytes", "exactly", "line", "separator", "pattern", "quiet", "eof" };

static void set_number(json_t *params, const char *key, uint64_t value) {
        (void)json_object_set_new(params, key, json_integer((json_int_t)MIN(value, (uint64_t)INT64_MAX / 8)));
}

static void set_place(json_t *params, const PmuxReadOptions *options) {
        unsigned sources = options->flags & (PMUX_READ_STDOUT | PMUX_READ_STDERR | PMUX_READ_STDIN);

        if (options->flags & PMUX_READ_NO_CURSOR)
                (void)json_object_set_new(params, "cursor", json_null());
        else if (options->cursor)
                (void)json_object_set_new(params, "cursor", bytes_string_to_json(options->cursor));
        if (options->flags & PMUX_READ_FROM)
                set_number(params, "from", options->from);
        if (options->run > 0)
                set_number(params, "run", options->run);
        if (options->flags & PMUX_READ_PEEK)
                (void)json_object_set_new(params, "peek", json_true());
        if (sources != 0 && sources != (PMUX_READ_STDOUT | PMUX_READ_STDERR))
                (void)json_object_set_new(params, "sources", sources_to_json(sources));
}

static int set_what(json_t *params, const PmuxReadOptions *options, Error *reterr_error) {
        const char *text = options->text ? options->text : "";
        size_t text_size = options->text_size > 0 ? options->text_size : strlen(text);

        if ((unsigned)options->what >= ARRAY_SIZE(fors))
                return error_set(reterr_error, ERROR_INVALID, "it is not known what is to be read for");
        (void)json_object_set_new(params, "for", json_string(fors[options->what]));
        if (options->what <= PMUX_FOR_EXACTLY && options->n > 0)
                set_number(params, "n", options->n);
        if (options->what == PMUX_FOR_SEPARATOR || options->what == PMUX_FOR_PATTERN)
                (void)json_object_set_new(params, fors[options->what], bytes_to_json(text, text_size));
        if (options->what == PMUX_FOR_QUIET)
                set_number(params, "quiet_usec", options->quiet_usec);
        if (options->max_bytes > 0)
                set_number(params, "max_bytes", options->max_bytes);
        else if (options->n > 1024 * 1024)
                set_number(params, "max_bytes", options->n);
        if (options->timeout_usec > 0 || options->flags & PMUX_READ_AT_ONCE)
                set_number(params, "timeout_usec",
                           options->flags & PMUX_READ_AT_ONCE ? 0 : options->timeout_usec);
        return 0;
}

/* ---- the answer ---- */

static uint64_t number_of(const json_t *object, const char *key) {
        return (uint64_t)json_integer_value(json_object_get(object, key));
}

static int read_groups(PmuxRead *read, const json_t *groups) {
        size_t n = json_array_size(groups), i;
        json_t *group;

        if (n == 0)
                return 0;
        read->groups = calloc(n, sizeof(*read->groups));
        if (!read->groups)
                return -ENOMEM;
        read->n_groups = n;
        json_array_foreach(groups, i, group) {
                read->groups[i].matched = json_is_object(group);
                read->groups[i].from = number_of(group, "from");
                read->groups[i].to = number_of(group, "to");
                if (read->groups[i].from > read->groups[i].to)
                        return -EPROTO;
                if (read->groups[i].to <= read->size)
                        continue;
                if (i == 0)
                        return -EPROTO;
                read->groups[i] = (PmuxGroup){}; /* its bytes are still to be read */
        }
        return 0;
}

/* What an answer says, in types. Return: 0; -errno, when it cannot be read. */
static int read_answer(PmuxRead *read, json_t *result, Error *reterr_error) {
        static const char *const reasons[] = { "satisfied", "eof", "timeout", "gap" };
        const char *reason = json_string_value(json_object_get(result, "reason"));
        const json_t *lost = json_object_get(result, "lost");
        Bytes data = {};
        int r;

        r = bytes_from_json(json_object_get(result, "data"), "data", &data, reterr_error);
        if (r < 0)
                return r;
        read->data = data.data;
        read->size = data.size;
        for (size_t i = 0; reason && i < ARRAY_SIZE(reasons); i++)
                if (strcmp(reason, reasons[i]) == 0)
                        read->reason = (PmuxReason)i;
        read->from = number_of(result, "from");
        read->next = number_of(result, "next");
        read->run = (uint32_t)number_of(result, "run");
        read->missing = number_of(result, "missing");
        read->accepted = number_of(result, "accepted");
        read->lost_from = number_of(lost, "from");
        read->lost_to = number_of(lost, "to");
        return read_groups(read, json_object_get(json_object_get(result, "match"), "groups"));
}

/* Whether what there was is less than what was read for. Return: 0; -ENODATA; -ETIMEDOUT. */
static int read_outcome(const PmuxRead *read, bool to_the_end, PmuxError *reterr_error) {
        Error error = {};
        PmuxError own;
        int r = -ENODATA;

        if (read->reason == PMUX_SATISFIED || (read->reason == PMUX_ENDED && to_the_end))
                return 0;
        if (read->reason == PMUX_TIMED_OUT)
                return error_export(
                        reterr_error, &error,
                        error_set(&error, ERROR_TIMEOUT, "what was read for has not come in time"));
        (void)error_set(&error, ERROR_SYSTEM,
                        read->reason == PMUX_ENDED ? "the output ended after %zu bytes, %llu more were wanted"
                                                   : "bytes are lost behind %zu bytes, %llu more were wanted",
                        read->size, (unsigned long long)MAX(read->missing, UINT64_C(1)));
        error.errno_value = ENODATA;
        (void)error_export(&own, &error, r);
        memcpy(own.code, "incomplete", sizeof("incomplete"));
        if (reterr_error)
                *reterr_error = own;
        return r;
}

/* Who is told of it. */
typedef struct ReadCall {
        PmuxReadFn fn;
        void *userdata; /* borrowed */
        bool to_the_end;
} ReadCall;

static void on_answer(Pmux *pmux, json_t *result, const Error *error, void *userdata) {
        ReadCall call = *(ReadCall *)userdata;
        PmuxError exported;
        PmuxRead read = {};
        Error own = {};
        int r;

        if (error) {
                (void)error_export(&exported, error, -error->errno_value);
                call.fn(pmux, NULL, &exported, call.userdata);
                return;
        }
        r = read_answer(&read, result, &own);
        if (r < 0)
                (void)error_export(&exported, &own, r);
        else
                r = read_outcome(&read, call.to_the_end, &exported);
        call.fn(pmux, &read, r < 0 ? &exported : NULL, call.userdata);
        pmux_read_deinit(&read);
}

static int start(Pmux *pmux, const char *method, json_t *params, const char *target,
                 const PmuxReadOptions *given, PmuxReadFn fn, void *userdata, PmuxCall **ret_call,
                 PmuxError *reterr_error) {
        PmuxReadOptions options = {};
        ReadCall *call = calloc(1, sizeof(*call));
        Error error = {};
        int r = -ENOMEM;

        if (given)
                memcpy(&options, given, MIN(given->size, sizeof(options)));
        if (params && call && params_set_target(params, target) == 0) {
                *call = (ReadCall){ fn, userdata, options.what == PMUX_FOR_EOF };
                set_place(params, &options);
                r = given ? set_what(params, &options, &error) : 0;
                if (options.lock)
                        (void)json_object_set_new(params, "lock", json_string(options.lock));
        }
        if (r < 0)
                json_decref(params);
        else
                r = call_start_owning(pmux, method, params, on_answer, call, ret_call, &error);
        if (r == 0)
                return 0;
        free(call);
        return error_export(reterr_error, &error, r);
}

int pmux_read_start(Pmux *pmux, const char *target, const PmuxReadOptions *options, PmuxReadFn fn,
                    void *userdata, PmuxCall **ret_call, PmuxError *reterr_error) {
        return start(pmux, "read", json_object(), target, options, fn, userdata, ret_call, reterr_error);
}

int pmux_ask_start(Pmux *pmux, const char *target, const void *data, size_t size,
                   const PmuxReadOptions *options, PmuxReadFn fn, void *userdata, PmuxCall **ret_call,
                   PmuxError *reterr_error) {
        return start(pmux, "ask", json_pack("{s:o}", "data", bytes_to_json(data, size)), target, options, fn,
                     userdata, ret_call, reterr_error);
}

/* ---- by waiting ---- */

typedef struct Outcome {
        bool done;
        int r;
        PmuxRead *read; /* borrowed */
        PmuxError error;
} Outcome;

/* What is borrowed is taken over: it is about to be freed. */
static void on_blocking(Pmux *pmux, const PmuxRead *read, const PmuxError *error, void *userdata) {
        Outcome *outcome = userdata;

        (void)pmux;
        outcome->done = true;
        if (read) {
                *outcome->read = *read;
                *(PmuxRead *)read = (PmuxRead){};
        }
        if (!error)
                return;
        outcome->error = *error;
        outcome->r = -error->errno_value;
}

static int finish(Pmux *pmux, Outcome *outcome, PmuxError *reterr_error) {
        while (!outcome->done)
                (void)pmux_turn(pmux, PMUX_INFINITY, NULL); /* giving up the connection answers, too */
        if (outcome->r < 0 && reterr_error)
                *reterr_error = outcome->error;
        return outcome->r;
}

int pmux_read(Pmux *pmux, const char *target, const PmuxReadOptions *options, PmuxRead *ret_read,
              PmuxError *reterr_error) {
        Outcome outcome = { .read = ret_read };
        int r;

        *ret_read = (PmuxRead){};
        r = pmux_read_start(pmux, target, options, on_blocking, &outcome, NULL, reterr_error);
        return r < 0 ? r : finish(pmux, &outcome, reterr_error);
}

int pmux_ask(Pmux *pmux, const char *target, const void *data, size_t size, const PmuxReadOptions *options,
             PmuxRead *ret_read, PmuxError *reterr_error) {
        Outcome outcome = { .read = ret_read };
        int r;

        *ret_read = (PmuxRead){};
        r = pmux_ask_start(pmux, target, data, size, options, on_blocking, &outcome, NULL, reterr_error);
        return r < 0 ? r : finish(pmux, &outcome, reterr_error);
}

static int read_for(Pmux *pmux, const char *target, PmuxReadOptions options, uint64_t timeout_usec,
                    PmuxRead *ret_read, PmuxError *reterr_error) {
        options.size = sizeof(options);
        options.timeout_usec = timeout_usec;
        return pmux_read(pmux, target, &options, ret_read, reterr_error);
}

int pmux_read_line(Pmux *pmux, const char *target, uint64_t timeout_usec, PmuxRead *ret_read,
                   PmuxError *reterr_error) {
        return read_for(pmux, target, (PmuxReadOptions){ .what = PMUX_FOR_LINE }, timeout_usec, ret_read,
                        reterr_error);
}

int pmux_read_exactly(Pmux *pmux, const char *target, uint64_t n, uint64_t timeout_usec, PmuxRead *ret_read,
                      PmuxError *reterr_error) {
        return read_for(pmux, target, (PmuxReadOptions){ .what = PMUX_FOR_EXACTLY, .n = n }, timeout_usec,
                        ret_read, reterr_error);
}

int pmux_read_until(Pmux *pmux, const char *target, const char *separator, uint64_t timeout_usec,
                    PmuxRead *ret_read, PmuxError *reterr_error) {
        return read_for(pmux, target, (PmuxReadOptions){ .what = PMUX_FOR_SEPARATOR, .text = separator },
                        timeout_usec, ret_read, reterr_error);
}

int pmux_read_pattern(Pmux *pmux, const char *target, const char *pattern, uint64_t timeout_usec,
                      PmuxRead *ret_read, PmuxError *reterr_error) {
        return read_for(pmux, target, (PmuxReadOptions){ .what = PMUX_FOR_PATTERN, .text = pattern },
                        timeout_usec, ret_read, reterr_error);
}

int pmux_read_quiet(Pmux *pmux, const char *target, uint64_t quiet_usec, uint64_t timeout_usec,
                    PmuxRead *ret_read, PmuxError *reterr_error) {
        return read_for(pmux, target, (PmuxReadOptions){ .what = PMUX_FOR_QUIET, .quiet_usec = quiet_usec },
                        timeout_usec, ret_read, reterr_error);
}

int pmux_read_eof(Pmux *pmux, const char *target, uint64_t timeout_usec, PmuxRead *ret_read,
                  PmuxError *reterr_error) {
        return read_for(pmux, target, (PmuxReadOptions){ .what = PMUX_FOR_EOF, .max_bytes = 8 * 1024 * 1024 },
                        timeout_usec, ret_read, reterr_error);
}
