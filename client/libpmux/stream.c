/* SPDX-License-Identifier: MIT */

#include "client/libpmux/stream.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "client/libpmux/call.h"
#include "client/libpmux/connection.h"
#include "client/libpmux/stream-place.h"
#include "common/clock.h"

#define WINDOW_DEFAULT (1024 * 1024)
#define WINDOW_UNBOUNDED ((uint64_t)INT64_MAX) /* as the protocol writes "no limit" */

/* A record that waits for pmux_stream_next(); its bytes follow. */
typedef struct Waiting {
        List link;
        PmuxRecord record;
        uint8_t data[];
} Waiting;

typedef enum StreamState {
        STREAM_OPENING, /* the request that opens it is in flight */
        STREAM_OPEN,    /* records arrive */
        STREAM_LOST,    /* was open when the socket broke */
        STREAM_ENDED,   /* the end record has come */
        STREAM_FAILED,
} StreamState;

struct PmuxStream {
        List link;  /* in Pmux.streams */
        Pmux *pmux; /* borrowed */
        StreamState state;
        uint32_t number;
        PmuxStreamOptions options;
        json_t *subscribe; /* owned; params of the subscription as they were given */
        PmuxCall *call;    /* borrowed; in flight, or NULL */
        char *result;      /* owned; of the opening request, for pmux_stream_open() */

        json_int_t process; /* id, once it is known */
        json_int_t
                min_run; /* of the run that was started with the stream; 0: records of any run are wanted */
        StreamPlace place;
        uint64_t head_bytes; /* data bytes that may still come; only if head_limited */
        bool head_limited;
        bool had_any; /* a record was delivered */
        bool leased;  /* the run ends with this connection: a new one must take it over */

        uint64_t window;
        uint64_t unconsumed; /* bytes delivered and not consumed */
        uint64_t received;   /* bytes of payload since the subscription of now began */
        uint64_t limit;      /* of received, as the daemon was told */

        List waiting;   /* Waiting, for pmux_stream_next() */
        Waiting *given; /* owned; what it gave out last */
        Error error;    /* once FAILED */
};

uint64_t pmux_record_cost(const PmuxRecord *record) {
        return RECORD_HEADER_SIZE + (record->kind == PMUX_DATA ? record->size : 8);
}

static void stream_fail(PmuxStream *stream, const Error *error) {
        PmuxError exported;

        if (stream->state == STREAM_ENDED || stream->state == STREAM_FAILED)
                return;
        stream->state = STREAM_FAILED;
        stream->error = *error;
        if (!stream->options.on_failed)
                return;
        (void)error_export(&exported, error, -error->errno_value);
        stream->options.on_failed(stream, &exported, stream->options.userdata);
}

/* ---- credit ---- */

static uint64_t stream_credit(const PmuxStream *stream) {
        if (stream->window == WINDOW_UNBOUNDED)
                return WINDOW_UNBOUNDED;
        return stream->unconsumed < stream->window ? stream->window - stream->unconsumed : 0;
}

/* Opens the window again when a good part of it is free, so that there is not a CREDIT for every record. */
static void stream_grant(PmuxStream *stream) {
        uint64_t limit = stream->received + stream_credit(stream);
        uint8_t bytes[8];

        if (stream->state != STREAM_OPEN || stream->window == WINDOW_UNBOUNDED)
                return;
        if (limit <= stream->limit || limit - stream->limit < stream->window / 4)
                return;
        le64_put(bytes, limit);
        if (connection_send(stream->pmux, FRAME_CREDIT, stream->number, 0, bytes, sizeof(bytes), NULL, 0) ==
            0)
                stream->limit = limit;
        connection_kick(stream->pmux);
}

void pmux_stream_consumed(PmuxStream *stream, uint64_t size) {
        stream->unconsumed -= MIN(size, stream->unconsumed);
        stream_grant(stream);
}

/* ---- records ---- */

static int stream_keep(PmuxStream *stream, const PmuxRecord *record) {
        Waiting *waiting;

        waiting = malloc(sizeof(*waiting) + record->size);
        if (!waiting)
                return -ENOMEM;
        waiting->record = *record;
        if (record->size > 0)
                memcpy(waiting->data, record->data, record->size);
        waiting->record.data = record->size > 0 ? waiting->data : NULL;
        waiting->link = (List){};
        list_append(&stream->waiting, &waiting->link);
        return 0;
}

/* Hands a record on. The stream may be freed by the callback: nothing is touched after it. */
static int stream_deliver(PmuxStream *stream, const PmuxRecord *record) {
        if (record->kind == PMUX_END)
                stream->state = STREAM_ENDED;
        stream->had_any = true;
        if (record->kind == PMUX_DATA && stream->head_limited)
                stream->head_bytes -= MIN(stream->head_bytes, record->size);
        if (!stream->options.on_record)
                return stream_keep(stream, record);
        if (!(stream->options.flags & PMUX_STREAM_MANUAL_CREDIT))
                pmux_stream_consumed(stream, pmux_record_cost(record));
        stream->options.on_record(stream, record, stream->options.userdata);
        return 0;
}

static PmuxStream *find_stream(Pmux *pmux, uint32_t number) {
        LIST_FOREACH(PmuxStream, stream, &pmux->streams, link)
                if (stream->number == number)
                        return stream;
        return NULL;
}

/* Checks one DATA payload against what the protocol allows and lays it out as a record. */
static int record_decode(PmuxRecord *ret_record, RecordHeader *ret_header, const uint8_t *payload,
                         size_t size, Error *reterr_error) {
        bool is_data;
        int r;

        if (size < RECORD_HEADER_SIZE)
                return error_set(reterr_error, ERROR_PROTOCOL, "a record of %zu bytes is too short", size);
        r = record_header_decode(ret_header, payload, reterr_error);
        if (r < 0)
                return r;
        payload += RECORD_HEADER_SIZE;
        size -= RECORD_HEADER_SIZE;
        is_data = ret_header->kind == RECORD_DATA;
        if (is_data ? size == 0 : size != 8)
                return error_set(reterr_error, ERROR_PROTOCOL, "a record of kind %u has %zu bytes",
                                 ret_header->kind, size);
        if (ret_header->offset > INT64_MAX || (!is_data && ret_header->kind == RECORD_GAP &&
                                               le64_get(payload) > INT64_MAX - ret_header->offset))
                return error_set(reterr_error, ERROR_PROTOCOL, "a record is at an impossible offset");
        *ret_record = (PmuxRecord){
                .offset = ret_header->offset,
                .time_usec = ret_header->time_usec,
                .run = ret_header->run,
                .kind = ret_header->kind,
                .source = ret_header->source,
                .data = is_data ? payload : NULL,
                .size = is_data ? size : 0,
                .value = is_data ? 0 : le64_get(payload),
        };
        return 0;
}

int streams_on_data(Pmux *pmux, uint32_t number, const uint8_t *payload, size_t size, Error *reterr_error) {
        PmuxStream *stream = find_stream(pmux, number);
        RecordHeader header;
        PmuxRecord record;
        int r;

        r = record_decode(&record, &header, payload, size, reterr_error);
        if (r < 0)
                return r;
        if (!stream || stream->state != STREAM_OPEN)
                return 0; /* freed meanwhile; its last frames were under way */
        if (record.kind == PMUX_END)
                return stream_deliver(stream, &record);
        stream->received += size;
        if (stream->received > stream->limit)
                return error_set(reterr_error, ERROR_PROTOCOL,
                                 "the daemon sent more than it was given credit for");
        stream->unconsumed += size;
        if ((json_int_t)record.run < stream->min_run ||
            !stream_place_advance(&stream->place, &header, record.value, record.size)) {
                pmux_stream_consumed(stream, size);
                return 0;
        }
        return stream_deliver(stream, &record);
}

/* ---- opening, and opening again ---- */

static void on_subscribed(Pmux *pmux, json_t *result, const Error *error, void *userdata);

/* The params of a subscription that goes on where this stream is. */
static json_t *stream_resume_params(const PmuxStream *stream) {
        json_t *params = json_copy(stream->subscribe);

        if (!params)
                return NULL;
        if (stream->had_any || stream->min_run > 0 || json_object_get(params, "last_lines") ||
            json_is_string(json_object_get(params, "from"))) {
                (void)json_object_del(params, "since_usec");
                (void)json_object_del(params, "last_lines");
                (void)json_object_set_new(params, "from", json_integer((json_int_t)stream->place.offset));
        }
        if (stream->head_limited)
                (void)json_object_set_new(params, "head_bytes", json_integer((json_int_t)stream->head_bytes));
        (void)json_object_set_new(params, "target", json_integer(stream->process));
        (void)json_object_set_new(params, "stream", json_integer(stream->number));
        (void)json_object_set_new(params, "credit", json_integer((json_int_t)stream_credit(stream)));
        return params;
}

/* Everything that was asked for has come but the end record: nothing is left to ask the daemon. */
static bool stream_had_its_head(const PmuxStream *stream) {
        return stream->head_limited && stream->head_bytes == 0 && stream->had_any;
}

/* Takes the lease over for the new connection, before the daemon misses its holder. */
static void stream_renew(const PmuxStream *stream) {
        json_t *params = json_pack("{s:I}", "target", stream->process);

        if (params)
                (void)call_start(stream->pmux, "renew", params, NULL, NULL, NULL, NULL);
}

static void stream_resume(PmuxStream *stream) {
        const PmuxRecord end = { .kind = PMUX_END, .offset = stream->place.offset };
        Error error = {};
        int r;

        if (stream->leased)
                stream_renew(stream);
        if (stream_had_its_head(stream)) {
                (void)stream_deliver(stream, &end);
                return;
        }
        stream->state = STREAM_OPENING;
        stream->limit = stream_credit(stream);
        stream->received = 0;
        stream_place_resume(&stream->place);
        r = call_start(stream->pmux, "subscribe", stream_resume_params(stream), on_subscribed, stream,
                       &stream->call, &error);
        if (r < 0)
                stream_fail(stream, &error);
}

/* The answer to the request that opened the stream, or opened it again. */
static void on_subscribed(Pmux *pmux, json_t *result, const Error *error, void *userdata) {
        PmuxStream *stream = userdata;
        bool first = !stream->place.known;
        json_t *from, *run;
        char *text;

        (void)pmux;
        stream->call = NULL;
        if (error) {
                stream_fail(stream, error);
                return;
        }
        stream->state = STREAM_OPEN;
        stream_grant(stream);
        if (!first)
                return;
        from = json_object_get(result, "from");
        run = json_object_get(result, "run");
        if (!from) { /* of run, start and restart */
                from = json_object_get(result, "offset");
                stream->min_run = json_integer_value(run);
        }
        stream->process = json_integer_value(json_object_get(result, "id"));
        stream_place_start(&stream->place, (uint64_t)MAX(json_integer_value(from), (json_int_t)0));
        text = json_dumps(result, JSON_COMPACT);
        free(stream->result);
        stream->result = text;
        if (stream->options.on_open)
                stream->options.on_open(stream, text ? text : "{}", stream->options.userdata);
}

void streams_lost(Pmux *pmux) {
        LIST_FOREACH(PmuxStream, stream, &pmux->streams, link)
                if (stream->state == STREAM_OPEN)
                        stream->state = STREAM_LOST;
}

static PmuxStream *find_in_state(Pmux *pmux, bool (*wanted)(StreamState state)) {
        LIST_FOREACH(PmuxStream, stream, &pmux->streams, link)
                if (wanted(stream->state))
                        return stream;
        return NULL;
}

static bool is_lost(StreamState state) {
        return state == STREAM_LOST;
}

static bool is_alive(StreamState state) {
        return state == STREAM_OPENING || state == STREAM_OPEN || state == STREAM_LOST;
}

/* Both start over after each stream: a callback may free any of them. */
void streams_resume(Pmux *pmux) {
        PmuxStream *stream;

        while ((stream = find_in_state(pmux, is_lost)))
                stream_resume(stream);
}

void streams_fail(Pmux *pmux, const Error *error) {
        PmuxStream *stream;

        while ((stream = find_in_state(pmux, is_alive)))
                stream_fail(stream, error);
}

/* Puts "stream" and "credit" where the method wants them. */
static int stream_fill_params(PmuxStream *stream, const char *method, json_t *params) {
        const char *lease = json_string_value(json_object_get(params, "lease"));
        json_t *subscribe = params, *head;

        stream->leased = lease && strcmp(lease, "client") == 0;
        if (strcmp(method, "subscribe") != 0) {
                subscribe = json_object_get(params, "subscribe");
                if (!json_is_object(subscribe)) {
                        subscribe = json_object();
                        if (json_object_set_new(params, "subscribe", subscribe) < 0)
                                return -ENOMEM;
                }
        }
        stream->subscribe = json_deep_copy(subscribe);
        stream->limit = stream_credit(stream);
        head = json_object_get(subscribe, "head_bytes");
        stream->head_limited = json_is_integer(head);
        stream->head_bytes = stream->head_limited ? (uint64_t)json_integer_value(head) : 0;
        if (!stream->subscribe ||
            json_object_set_new(subscribe, "stream", json_integer(stream->number)) < 0 ||
            json_object_set_new(subscribe, "credit", json_integer((json_int_t)stream->limit)) < 0)
                return -ENOMEM;
        return 0;
}

static void stream_set_options(PmuxStream *stream, const PmuxStreamOptions *options) {
        if (options) /* of a program that was built before there was all of this */
                memcpy(&stream->options, options, MIN(options->size, sizeof(*options)));
        stream->window = stream->options.window_bytes > 0 ? stream->options.window_bytes : WINDOW_DEFAULT;
        stream->window = MIN(stream->window, WINDOW_UNBOUNDED);
}

int stream_start(Pmux *pmux, const char *method, json_t *params, const PmuxStreamOptions *options,
                 PmuxStream **ret_stream, Error *reterr_error) {
        PmuxStream *stream;
        int r;

        stream = calloc(1, sizeof(*stream));
        if (!stream) {
                json_decref(params);
                return error_set_errno(reterr_error, ENOMEM, "cannot open a stream");
        }
        stream->pmux = pmux;
        stream->number = connection_stream_number(pmux);
        list_init(&stream->waiting);
        list_append(&pmux->streams, &stream->link);
        stream_set_options(stream, options);
        r = stream_fill_params(stream, method, params);
        if (r < 0) {
                json_decref(params);
                (void)error_set_errno(reterr_error, r, "cannot open a stream");
        } else
                r = call_start(pmux, method, params, on_subscribed, stream, &stream->call, reterr_error);
        if (r < 0) {
                (void)pmux_stream_free(stream);
                return r;
        }
        *ret_stream = stream;
        return 0;
}

int pmux_stream_start(Pmux *pmux, const char *method, const char *params, const PmuxStreamOptions *options,
                      PmuxStream **ret_stream, PmuxError *reterr_error) {
        json_t *object = NULL;
        Error error = {};
        int r;

        r = params_parse(params, &object, &error);
        if (r == 0)
                r = stream_start(pmux, method, object, options, ret_stream, &error);
        return r < 0 ? error_export(reterr_error, &error, r) : 0;
}

int pmux_stream_open(Pmux *pmux, const char *method, const char *params, const PmuxStreamOptions *options,
                     PmuxStream **ret_stream, char **ret_result, PmuxError *reterr_error) {
        PmuxStream *stream;
        int r;

        r = pmux_stream_start(pmux, method, params, options, &stream, reterr_error);
        if (r < 0)
                return r;
        while (stream->state == STREAM_OPENING)
                (void)pmux_turn(pmux, PMUX_INFINITY, NULL);
        if (stream->state == STREAM_FAILED) {
                r = error_export(reterr_error, &stream->error, -stream->error.errno_value);
                (void)pmux_stream_free(stream);
                return r;
        }
        if (ret_result)
                *ret_result = TAKE(stream->result);
        *ret_stream = stream;
        return 0;
}

/* ---- reading by waiting ---- */

int pmux_stream_next(PmuxStream *stream, const PmuxRecord **ret_record, uint64_t timeout_usec,
                     PmuxError *reterr_error) {
        uint64_t begin = clock_monotonic_usec(), passed = 0;
        Error error = {};

        if (stream->given) {
                pmux_stream_consumed(stream, pmux_record_cost(&stream->given->record));
                free(TAKE(stream->given));
        }
        for (bool had_turn = false; list_empty(&stream->waiting); had_turn = true) {
                if (stream->state == STREAM_ENDED)
                        return 0;
                if (stream->state == STREAM_FAILED)
                        return error_export(reterr_error, &stream->error, -stream->error.errno_value);
                if (had_turn) /* without any time, too, it looks for what has come */
                        passed = clock_monotonic_usec() - begin;
                if (had_turn && passed >= timeout_usec) {
                        (void)error_set(&error, ERROR_TIMEOUT, "no record came in time");
                        return error_export(reterr_error, &error, -ETIMEDOUT);
                }
                (void)pmux_turn(stream->pmux,
                                timeout_usec == PMUX_INFINITY ? PMUX_INFINITY : timeout_usec - passed, NULL);
        }
        stream->given = CONTAINER_OF(stream->waiting.next, Waiting, link);
        list_remove(&stream->given->link);
        *ret_record = &stream->given->record;
        return 1;
}

PmuxStream *pmux_stream_free(PmuxStream *stream) {
        json_t *params;

        if (!stream)
                return NULL;
        if (stream->state == STREAM_OPEN || stream->state == STREAM_OPENING) {
                params = json_pack("{s:I}", "stream", (json_int_t)stream->number);
                if (params)
                        (void)call_start(stream->pmux, "unsubscribe", params, NULL, NULL, NULL, NULL);
        }
        (void)pmux_call_forget(stream->call);
        list_remove(&stream->link);
        LIST_FOREACH(Waiting, waiting, &stream->waiting, link)
                free(waiting);
        free(stream->given);
        free(stream->result);
        json_decref(stream->subscribe);
        free(stream);
        return NULL;
}

void streams_free(Pmux *pmux) {
        LIST_FOREACH(PmuxStream, stream, &pmux->streams, link)
                (void)pmux_stream_free(stream);
}
