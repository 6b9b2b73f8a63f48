/* SPDX-License-Identifier: MIT */

#include "daemon/engine/subscription.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/engine/limits.h"

#define AHEAD_BYTES CLIENT_FILE_MIN

typedef enum EndReason {
        END_REACHED,
        END_REMOVED,
        END_CANCELLED,
        END_UNREADABLE,
} EndReason;

struct Subscription {
        ClientStream stream;
        ProcessReader reader;
        Process *process; /* borrowed; NULL when it was removed */
        LogCursor cursor;
        uint64_t credit; /* payload bytes that may be sent, in all */
        uint64_t sent;
        uint64_t end_offset; /* without follow: where to end */
        uint64_t head_left;  /* data bytes still wanted */
        uint32_t run;        /* 0: all */
        unsigned sources;
        int until;
        bool follow;
};

/* Small pieces of a log stand close together, above all where both streams are written to in turn: they are
 * read from the file together, and each is sent as what it is. Good for one call of subscription_on_pump().
 */
typedef struct Ahead {
        uint64_t segment; /* where in the log the file begins */
        uint64_t offset;  /* in the file */
        size_t n;
        uint8_t bytes[AHEAD_BYTES];
} Ahead;

int subscription_parse(SubscriptionOptions *ret_options, Params *params, Error *reterr_error) {
        static const char *const until_words[] = { "exit", "closed", "forever", NULL };
        SubscriptionOptions o = { .follow = true, .credit = 1 << 20, .last_lines = 0 };
        const json_t *from = params_get(params, "from");
        int lines, since, head, r;

        if ((r = params_u64(params, "stream", 1, UINT32_MAX, &o.stream, reterr_error)) < 0 ||
            (r = params_u64(params, "run", 1, UINT32_MAX, &o.run, reterr_error)) < 0 ||
            (since = r = params_u64(params, "since_usec", 0, INT64_MAX, &o.since_usec, reterr_error)) < 0 ||
            (lines = r = params_u64(params, "last_lines", 0, INT64_MAX, &o.last_lines, reterr_error)) < 0 ||
            (head = r = params_u64(params, "head_bytes", 0, INT64_MAX, &o.head_bytes, reterr_error)) < 0 ||
            (r = params_u64(params, "credit", 0, INT64_MAX, &o.credit, reterr_error)) < 0 ||
            (r = params_bool(params, "follow", &o.follow, reterr_error)) < 0 ||
            (r = params_bool(params, "lossless", &o.lossless, reterr_error)) < 0 ||
            (r = params_choice(params, "until", until_words, &o.until, reterr_error)) < 0)
                return r;
        if (o.stream == 0)
                return error_set(reterr_error, ERROR_INVALID, "stream: an integer is needed, 1 to %u",
                                 UINT32_MAX);
        o.has_since = since > 0;
        o.has_lines = lines > 0;
        o.has_head = head > 0;
        o.has_from = from != NULL;
        if (json_is_integer(from) && json_integer_value(from) >= 0)
                o.from = (uint64_t)json_integer_value(from);
        else if (json_is_string(from) && strcmp(json_string_value(from), "end") == 0)
                o.from_end = true;
        else if (from && !(json_is_string(from) && strcmp(json_string_value(from), "start") == 0))
                return error_set(reterr_error, ERROR_INVALID, "from: not an offset, \"start\" or \"end\"");
        if (o.has_from + o.has_since + o.has_lines > 1)
                return error_set(reterr_error, ERROR_INVALID,
                                 "only one of from, since_usec and last_lines can be given");
        r = params_sources(params, &o.sources, reterr_error);
        if (r < 0)
                return r;
        if (o.sources == 0 && o.has_lines)
                return error_set(reterr_error, ERROR_INVALID,
                                 "last_lines: there are no lines without sources");
        *ret_options = o;
        return 0;
}

static void subscription_free(Subscription *sub) {
        bool lossless = sub->reader.lossless;

        client_stream_detach(&sub->stream);
        list_remove(&sub->reader.link);
        if (sub->process) {
                if (lossless)
                        process_reader_moved(sub->process);
                process_changed(sub->process, PROCESS_CHANGED_READERS);
        }
        free(sub);
}

static void subscription_end(Subscription *sub, EndReason reason) {
        RecordHeader header = {
                .offset = sub->cursor.offset,
                .kind = RECORD_END,
                .run = sub->process ? sub->process->run.run : 0,
        };
        uint8_t payload[RECORD_HEADER_SIZE + 8];

        record_header_encode(payload, &header);
        le64_put(payload + RECORD_HEADER_SIZE, reason);
        if (sub->stream.client)
                (void)client_send_frame(sub->stream.client, FRAME_DATA, sub->stream.id, payload,
                                        sizeof(payload));
        subscription_free(sub);
}

/* Whether nothing more is to come for this subscription, now that its cursor is at the end of the log. */
static bool subscription_is_done(const Subscription *sub) {
        const Process *process = sub->process;

        if (!sub->follow)
                return true;
        if (sub->run != 0 && process->run.run > sub->run)
                return true;
        if (sub->until == SUBSCRIPTION_UNTIL_FOREVER || process_is_alive(process) || process->exit_pending)
                return false;
        if (sub->until == SUBSCRIPTION_UNTIL_EXIT)
                return true;
        return process->run.run == 0 ||
               ((process->run.ended & RUN_STDOUT_CLOSED) && (process->run.ended & RUN_STDERR_CLOSED));
}

/* Whether a chunk lies beyond what was asked for. */
static bool subscription_is_beyond(const Subscription *sub, const LogChunk *chunk) {
        if (sub->run != 0 && chunk->header.run > sub->run)
                return true;
        return !sub->follow && chunk->header.offset >= sub->end_offset && chunk->header.kind == RECORD_DATA;
}

/* Gets the bytes of a small chunk; those behind it, too, if it was not far to it from the one before. Return:
 * 0; -EIO. */
static int ahead_read(Ahead *ahead, const LogChunk *chunk, const uint8_t **ret_bytes) {
        uint64_t segment = chunk->header.offset - chunk->file_offset;
        uint64_t distance = chunk->file_offset - ahead->offset;
        bool is_near = ahead->n > 0 && segment == ahead->segment && distance < 2 * AHEAD_BYTES;
        ssize_t n;

        if (is_near && distance + chunk->size <= ahead->n) {
                *ret_bytes = ahead->bytes + distance;
                return 0;
        }
        n = pread(chunk->fd, ahead->bytes, is_near ? AHEAD_BYTES : chunk->size, (off_t)chunk->file_offset);
        ahead->segment = segment;
        ahead->offset = chunk->file_offset;
        ahead->n = n > 0 ? (size_t)n : 0;
        *ret_bytes = ahead->bytes;
        return ahead->n >= chunk->size ? 0 : -EIO;
}

static int subscription_send_bytes(Subscription *sub, const uint8_t *head, const LogChunk *chunk,
                                   Ahead *ahead) {
        const uint8_t *bytes;
        int r;

        if (chunk->size >= CLIENT_FILE_MIN)
                return client_send_file(sub->stream.client, sub->stream.id, head, RECORD_HEADER_SIZE,
                                        chunk->fd, chunk->file_offset, chunk->size);
        r = ahead_read(ahead, chunk, &bytes);
        return r < 0 ? r
                     : client_send_data(sub->stream.client, sub->stream.id, head, RECORD_HEADER_SIZE, bytes,
                                        chunk->size);
}

/* Sends one chunk. Return: 0; <0: the connection is closed or the log cannot be read (-EIO). */
static int subscription_send(Subscription *sub, const LogChunk *chunk, Ahead *ahead) {
        Client *client = sub->stream.client;
        uint8_t head[RECORD_HEADER_SIZE + 8];
        int r;

        record_header_encode(head, &chunk->header);
        if (chunk->header.kind == RECORD_DATA) {
                r = subscription_send_bytes(sub, head, chunk, ahead);
                if (r < 0)
                        return r == -EIO && client->closed ? -ECONNRESET : r;
                sub->sent += RECORD_HEADER_SIZE + chunk->size;
                sub->head_left -= chunk->size;
                return 0;
        }
        le64_put(head + RECORD_HEADER_SIZE, chunk->argument);
        sub->sent += sizeof(head);
        return client_send_data(client, sub->stream.id, head, sizeof(head), NULL, 0);
}

/* Records without bytes are for everybody, but those that belong to one source. */
static bool subscription_wants(const Subscription *sub, const LogChunk *chunk) {
        bool chosen = sub->sources & 1u << chunk->header.source;

        if (chunk->header.kind == RECORD_WRITER)
                return chosen;
        return chosen || chunk->header.kind != RECORD_CLOSED || chunk->header.source == SOURCE_STDIN;
}

/* The end that is sent says that the log cannot be read, and no more. */
static void subscription_say_why(const Subscription *sub, Log *log, int r) {
        Error error = {};

        (void)log_explain(log, r, "cannot read the log", &error);
        (void)fprintf(stderr, "<4>process %" PRIu64 ": a reader stops at %" PRIu64 ": %s\n", sub->process->id,
                      sub->cursor.offset, error.text);
}

/* Does one step. Return: 1 something was sent or passed over; 0 nothing to do for now; <0 the subscription is
 * gone. */
static int subscription_step(Subscription *sub, Log *log, Ahead *ahead, size_t *budget) {
        LogCursor cursor = sub->cursor;
        uint64_t room;
        LogChunk chunk;
        size_t max;
        int r;

        room = sub->credit > sub->sent ? sub->credit - sub->sent : 0;
        if (sub->head_left == 0) {
                subscription_end(sub, END_REACHED);
                return -1;
        }
        if (room < RECORD_HEADER_SIZE + 8)
                room = 0;
        max = LIMIT_DATA_FRAME_SAFE_BYTES;
        if (log_end(log) > sub->cursor.offset + max)
                max = client_data_room(sub->stream.client);
        max = MIN(max, sub->head_left);
        if (room > 0)
                max = MIN(max, room - RECORD_HEADER_SIZE);
        if (!sub->follow && sub->cursor.offset < sub->end_offset)
                max = MIN(max, sub->end_offset - sub->cursor.offset);
        r = log_next(log, &cursor, max, sub->sources, &chunk);
        if (r < 0) {
                subscription_say_why(sub, log, r);
                subscription_end(sub, END_UNREADABLE);
                return -1;
        }
        if (r == 0) {
                sub->cursor = cursor;
                if (!subscription_is_done(sub))
                        return 0;
                subscription_end(sub, END_REACHED);
                return -1;
        }
        if (subscription_is_beyond(sub, &chunk)) {
                subscription_end(sub, END_REACHED);
                return -1;
        }
        if (room == 0)
                return 0; /* a CREDIT frame calls again */
        if (subscription_wants(sub, &chunk)) {
                r = subscription_send(sub, &chunk, ahead);
                if (r == -EIO) {
                        subscription_end(sub, END_UNREADABLE);
                        return -1;
                }
                if (r < 0)
                        return r; /* the connection is about to be closed, and with it this stream */
                *budget -= MIN(*budget, chunk.size + RECORD_HEADER_SIZE);
        }
        sub->cursor = cursor;
        if (chunk.header.kind == RECORD_EXIT && chunk.header.run == sub->process->run.run && sub->follow &&
            sub->until == SUBSCRIPTION_UNTIL_EXIT && !process_is_alive(sub->process)) {
                subscription_end(sub, END_REACHED);
                return -1;
        }
        return 1;
}

static Subscription *subscription_of(ClientStream *stream) {
        return CONTAINER_OF(stream, Subscription, stream);
}

static bool subscription_on_pump(ClientStream *stream) {
        Subscription *sub = subscription_of(stream);
        size_t budget = LIMIT_PUMP_BYTES;
        Error error = {};
        Ahead ahead;
        Log *log;
        int r;

        if (!sub->process) {
                subscription_end(sub, END_REMOVED);
                return false;
        }
        if (process_log(sub->process, &log, &error) < 0) {
                subscription_end(sub, END_UNREADABLE);
                return false;
        }
        ahead.n = 0;
        do {
                r = subscription_step(sub, log, &ahead, &budget);
                if (r < 0)
                        return false;
        } while (r > 0 && budget > 0 && client_writable(stream->client));
        if (!client_writable(stream->client))
                stream->blocked = true;
        if (sub->reader.offset != sub->cursor.offset) {
                sub->reader.offset = sub->cursor.offset;
                if (sub->reader.lossless)
                        process_reader_moved(sub->process);
        }
        return budget == 0 && !stream->blocked;
}

static int subscription_on_frame(ClientStream *stream, const FrameHeader *header, const uint8_t *payload,
                                 Error *reterr_error) {
        Subscription *sub = subscription_of(stream);
        uint64_t credit;

        if (header->type != FRAME_CREDIT)
                return error_set(reterr_error, ERROR_PROTOCOL, "stream %u is a subscription, not input",
                                 stream->id);
        credit = le64_get(payload);
        if (credit > sub->credit)
                sub->credit = credit;
        client_stream_ready(stream);
        return 0;
}

static void subscription_on_close(ClientStream *stream) {
        subscription_free(subscription_of(stream));
}

static const ClientStreamOps subscription_ops = {
        .on_frame = subscription_on_frame,
        .on_pump = subscription_on_pump,
        .on_close = subscription_on_close,
};

static void subscription_on_grown(ProcessReader *reader, bool lazily) {
        Subscription *sub = CONTAINER_OF(reader, Subscription, reader);

        if (lazily)
                client_stream_lazily(&sub->stream);
        else
                client_stream_ready(&sub->stream);
}

static void subscription_on_removed(ProcessReader *reader) {
        Subscription *sub = CONTAINER_OF(reader, Subscription, reader);

        list_remove(&reader->link);
        sub->process = NULL;
        client_stream_ready(&sub->stream);
}

static int subscription_seek(Subscription *sub, Log *log, const SubscriptionOptions *options,
                             Error *reterr_error) {
        int r = 0;

        if (options->begin_run != 0)
                return log_seek_run(log, &sub->cursor, (uint32_t)options->begin_run);
        if (options->run != 0) {
                r = log_seek_run(log, &sub->cursor, (uint32_t)options->run);
                if (r == -ENOENT)
                        return error_set(reterr_error, ERROR_NOT_FOUND, "nothing of run %" PRIu64 " is kept",
                                         options->run);
        }
        if (r >= 0 && options->has_since)
                r = log_seek_time(log, &sub->cursor, options->since_usec);
        else if (r >= 0 && options->has_lines)
                r = log_seek_lines(log, &sub->cursor, options->last_lines, options->sources);
        else if (options->from_end)
                log_seek_end(log, &sub->cursor);
        else if (r >= 0 && options->has_from && options->from > log_end(log))
                return error_set(reterr_error, ERROR_INVALID, "from: %" PRIu64 " is beyond the end, %" PRIu64,
                                 options->from, log_end(log));
        else if (r >= 0 && (options->has_from || options->run == 0))
                r = log_seek_offset(log, &sub->cursor, options->has_from ? options->from : log_begin(log));
        return r < 0 ? log_explain(log, r, "cannot find the place in the log", reterr_error) : 0;
}

int subscription_new(Client *client, Process *process, const SubscriptionOptions *options, uint64_t *ret_from,
                     uint64_t *ret_end, Error *reterr_error) {
        Subscription *sub;
        Log *log;
        int r;

        r = process_log(process, &log, reterr_error);
        if (r < 0)
                return r;
        sub = calloc(1, sizeof(*sub));
        if (!sub)
                return error_set_errno(reterr_error, ENOMEM, "cannot subscribe");
        r = subscription_seek(sub, log, options, reterr_error);
        if (r >= 0)
                r = client_stream_attach(&sub->stream, client, (uint32_t)options->stream, &subscription_ops,
                                         reterr_error);
        if (r < 0) {
                free(sub);
                return r;
        }
        sub->process = process;
        sub->credit = options->credit;
        sub->end_offset = log_end(log);
        sub->head_left = options->has_head ? options->head_bytes : UINT64_MAX;
        sub->run = (uint32_t)options->run;
        sub->sources = options->sources;
        sub->until = options->until;
        sub->follow = options->follow;
        sub->reader = (ProcessReader){
                .offset = sub->cursor.offset,
                .client_pid = client->pid,
                .lossless = options->lossless,
                .on_grown = subscription_on_grown,
                .on_removed = subscription_on_removed,
        };
        list_append(&process->readers, &sub->reader.link);
        if (options->lossless)
                process_reader_moved(process);
        client_stream_ready(&sub->stream);
        *ret_from = sub->cursor.offset;
        *ret_end = sub->end_offset;
        return 0;
}

Subscription *subscription_from_stream(ClientStream *stream) {
        return stream && stream->ops == &subscription_ops ? subscription_of(stream) : NULL;
}

void subscription_cancel(Subscription *subscription) {
        subscription_end(subscription, END_CANCELLED);
}
