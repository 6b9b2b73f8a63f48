/* SPDX-License-Identifier: MIT */

/* subscribe, unsubscribe, open-stdin, close-stream, write, close-stdin, cancel-input, events. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "daemon/engine/subscription.h"
#include "daemon/engine/wait.h"
#include "daemon/engine/writer.h"

#define KEY_MAX 64

int request_subscribe(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        SubscriptionOptions options;
        uint64_t from, end;
        Process *process;
        int r;

        if ((r = request_target(request, params, &process, reterr_error)) < 0 ||
            (r = subscription_parse(&options, params, reterr_error)) < 0 ||
            (r = subscription_new(request->client, process, &options, &from, &end, reterr_error)) < 0)
                return r;
        *ret_result = json_pack("{s:I, s:I, s:I, s:I}", "stream", (json_int_t)options.stream, "id",
                                (json_int_t)process->id, "from", (json_int_t)from, "end", (json_int_t)end);
        return 0;
}

static int parse_stream(Request *request, Params *params, uint64_t *ret_id, ClientStream **ret_stream,
                        Error *reterr_error) {
        uint64_t id = 0;
        int r;

        r = params_u64(params, "stream", 1, UINT32_MAX, &id, reterr_error);
        if (r < 0)
                return r;
        if (r == 0)
                return error_set(reterr_error, ERROR_INVALID, "stream: an integer is needed, 1 to %u",
                                 UINT32_MAX);
        *ret_id = id;
        if (ret_stream)
                *ret_stream = client_stream_find(request->client, (uint32_t)id);
        return 0;
}

int request_unsubscribe(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        Subscription *subscription;
        ClientStream *stream;
        uint64_t id;
        int r;

        (void)ret_result;
        if ((r = parse_stream(request, params, &id, &stream, reterr_error)) < 0)
                return r;
        subscription = subscription_from_stream(stream);
        if (subscription)
                subscription_cancel(subscription);
        else if (!event_feed_cancel(stream))
                return error_set(reterr_error, ERROR_INVALID, "stream: %" PRIu64 " is not a subscription",
                                 id);
        return 0;
}

int request_open_stdin(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        const char *key = NULL;
        Process *process;
        uint64_t stream = 0;
        StdinWriter id;
        Writer *writer;
        char own[64];
        int r;

        if ((r = request_target(request, params, &process, reterr_error)) < 0 ||
            (r = parse_stream(request, params, &stream, NULL, reterr_error)) < 0 ||
            (r = params_string(params, "writer", KEY_MAX, &key, reterr_error)) < 0)
                return r;
        if (!key) { /* a writer that cannot come back: known by nothing but this stream */
                (void)snprintf(own, sizeof(own), "%p.%" PRIu64 ".%" PRIu64, (void *)request, stream,
                               clock_monotonic_usec());
                key = own;
        }
        id = stdin_writer_hash(key, strlen(key));
        r = writer_new(&writer, request->client, process, (uint32_t)stream, &id, reterr_error);
        if (r < 0)
                return r;
        *ret_result =
                json_pack("{s:I, s:I, s:I, s:I, s:I}", "stream", (json_int_t)stream, "accepted",
                          (json_int_t)writer_accepted(writer), "taken", (json_int_t)writer_taken(writer),
                          "limit", (json_int_t)writer_limit(writer), "run", (json_int_t)process->run.run);
        return 0;
}

int request_close_stream(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        ClientStream *stream;
        Writer *writer;
        uint64_t id;
        int r;

        if ((r = parse_stream(request, params, &id, &stream, reterr_error)) < 0)
                return r;
        writer = writer_from_stream(stream);
        if (!writer)
                return error_set(reterr_error, ERROR_INVALID, "stream: %" PRIu64 " is not a stream of input",
                                 id);
        *ret_result = json_pack("{s:I, s:I}", "accepted", (json_int_t)writer_accepted(writer), "taken",
                                (json_int_t)writer_taken(writer));
        writer_close(writer);
        return 0;
}

static json_t *write_result(Process *process, uint64_t end, size_t size) {
        return json_pack("{s:I, s:I, s:I}", "accepted", (json_int_t)end, "taken",
                         (json_int_t)process_input_taken(process), "bytes", (json_int_t)size);
}

/* write with drain: over when the pipe has taken it, or nothing will. */
static int drain_check(Wait *wait) {
        Process *process = wait->targets[0].process;
        Error error = {};

        if (!process)
                (void)error_set(&error, ERROR_NOT_FOUND, "the process was removed");
        else if (process_input_taken(process) < wait->offset) {
                if (!process_is_alive(process))
                        (void)error_set(&error, ERROR_NOT_RUNNING,
                                        "process %" PRIu64 " ended before it had taken its input",
                                        process->id);
                else if (process->stdin_fd < 0)
                        (void)error_set(&error, ERROR_STDIN_CLOSED,
                                        "process %" PRIu64 " closed its stdin before it had taken its input",
                                        process->id);
                else if (wait->timed_out)
                        (void)error_set(&error, ERROR_TIMEOUT,
                                        "process %" PRIu64
                                        " has not taken its input in time; it stays accepted",
                                        process->id);
                else
                        return 0;
        }
        if (error.code != ERROR_NONE)
                return wait_answer(wait, NULL, &error);
        return wait_answer(wait, write_result(process, wait->offset, (size_t)wait->condition), NULL);
}

static int parse_write(Params *params, Bytes *ret_data, bool *ret_eof, bool *ret_drain, uint64_t *ret_timeout,
                       const char **ret_key, Error *reterr_error) {
        const json_t *data = params_get(params, "data");
        int r;

        if ((r = params_bool(params, "eof", ret_eof, reterr_error)) < 0 ||
            (r = params_bool(params, "drain", ret_drain, reterr_error)) < 0 ||
            (r = params_u64(params, "timeout_usec", 0, INT64_MAX / 4, ret_timeout, reterr_error)) < 0 ||
            (r = params_string(params, "key", KEY_MAX, ret_key, reterr_error)) < 0)
                return r;
        if (!data)
                return error_set(reterr_error, ERROR_INVALID, "data: the bytes to write are needed");
        r = bytes_from_json(data, "data", ret_data, reterr_error);
        if (r >= 0 && ret_data->size > INPUT_DATA_MAX)
                r = error_set(reterr_error, ERROR_TOO_LARGE, "data: %zu bytes, at most %d are taken",
                              ret_data->size, INPUT_DATA_MAX);
        return r;
}

/* A write is accepted as a whole or not at all: a key of which another number of bytes was accepted is
 * another's. */
static int write_check_key(Process *process, const StdinWriter *writer, size_t size, Error *reterr_error) {
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
        if (accepted != 0 && accepted != size)
                return error_set(reterr_error, ERROR_INVALID, "key: it was used by another write before");
        return 0;
}

int request_write(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        CLEANUP(bytes_deinit) Bytes data = {};
        uint64_t timeout = USEC_INFINITY, end = 0;
        bool eof = false, drain = false;
        const char *key = NULL;
        StdinWriter writer;
        Process *process;
        Wait *wait;
        int r;

        if ((r = request_target(request, params, &process, reterr_error)) < 0 ||
            (r = parse_write(params, &data, &eof, &drain, &timeout, &key, reterr_error)) < 0 ||
            (r = drain ? request_may_wait(request, reterr_error) : 0) < 0)
                return r;
        if (key) {
                writer = stdin_writer_hash(key, strlen(key));
                r = write_check_key(process, &writer, data.size, reterr_error);
                if (r < 0)
                        return r;
        }
        r = process_input(process, key ? &writer : NULL, 0, data.data, data.size, eof, NULL, &end,
                          reterr_error);
        if (r < 0)
                return r;
        if (!drain) {
                *ret_result = write_result(process, end, data.size);
                return 0;
        }
        r = wait_new(&wait, request->host, request, &process, 1, drain_check, timeout, reterr_error);
        if (r >= 0) {
                wait->offset = end;
                wait->condition = (int)data.size;
        }
        return r;
}

int request_close_stdin(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        Process *process;
        StdinLog *log;
        int r;

        if ((r = request_target(request, params, &process, reterr_error)) < 0 ||
            (r = process_stdin_log(process, &log, reterr_error)) < 0)
                return r;
        if (!process_is_alive(process))
                return error_set(reterr_error, ERROR_NOT_RUNNING, "process %" PRIu64 " is not running",
                                 process->id);
        if (process->stdin_fd >= 0 && !stdin_log_eof(log)) {
                r = process_input(process, NULL, 0, NULL, 0, true, NULL, NULL, reterr_error);
                if (r < 0)
                        return r;
        }
        *ret_result = json_pack("{s:I}", "accepted", (json_int_t)stdin_log_accepted(log));
        return 0;
}

int request_cancel_input(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        uint64_t dropped = 0;
        Process *process;
        int r;

        if ((r = request_target(request, params, &process, reterr_error)) < 0 ||
            (r = process_cancel_input(process, &dropped, reterr_error)) < 0)
                return r;
        *ret_result = json_pack("{s:I}", "dropped", (json_int_t)dropped);
        return 0;
}

int request_events(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        uint64_t stream = 0, oldest, latest, since = UINT64_MAX;
        bool follow = true;
        int r;

        if ((r = parse_stream(request, params, &stream, NULL, reterr_error)) < 0 ||
            (r = params_u64(params, "since", 0, INT64_MAX, &since, reterr_error)) < 0 ||
            (r = params_bool(params, "follow", &follow, reterr_error)) < 0 ||
            (r = registry_event_range(request->host->supervisor->registry, &oldest, &latest, reterr_error)) <
                    0)
                return r;
        if (since != UINT64_MAX && since > latest)
                return error_set(reterr_error, ERROR_INVALID,
                                 "since: %" PRIu64 " is beyond the latest, %" PRIu64, since, latest);
        r = event_feed_follow(request->host->events, request->client, (uint32_t)stream,
                              since == UINT64_MAX ? latest : since, follow, reterr_error);
        if (r < 0)
                return r;
        *ret_result = json_pack("{s:I, s:I, s:I}", "stream", (json_int_t)stream, "seq", (json_int_t)latest,
                                "oldest", (json_int_t)oldest);
        return 0;
}
