/* SPDX-License-Identifier: MIT */

/* subscribe, unsubscribe, open-stdin, close-stream, events. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "daemon/engine/request.h"
#include "daemon/engine/subscription.h"
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
        const char *key = NULL, *lock = NULL;
        Process *process;
        uint64_t stream = 0;
        StdinWriter id;
        Writer *writer;
        char own[64];
        int r;

        if ((r = request_target(request, params, &process, reterr_error)) < 0 ||
            (r = parse_stream(request, params, &stream, NULL, reterr_error)) < 0 ||
            (r = params_string(params, "writer", KEY_MAX, &key, reterr_error)) < 0 ||
            (r = params_string(params, "lock", STDIN_LOCK_TOKEN_MAX, &lock, reterr_error)) < 0)
                return r;
        if (!key) { /* a writer that cannot come back: known by nothing but this stream */
                (void)snprintf(own, sizeof(own), "%p.%" PRIu64 ".%" PRIu64, (void *)request, stream,
                               clock_monotonic_usec());
                key = own;
        }
        id = stdin_writer_hash(key, strlen(key));
        r = writer_new(&writer, request->client, process, (uint32_t)stream, &id, lock, reterr_error);
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
