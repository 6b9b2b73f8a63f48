/* SPDX-License-Identifier: MIT */

#include "daemon/engine/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/error-json.h"
#include "daemon/engine/limits.h"

#define TURN_BYTES (LIMIT_STDIN_WINDOW / 4) /* of room that a turn among writes waits for */

struct Writer {
        ClientStream stream;
        ProcessWatch watch;
        InputPlace place;
        Process *process; /* borrowed; NULL when it was removed */
        StdinWriter id;
        char *lock; /* owned; NULL: none */
        uint32_t run;
        uint64_t accepted;  /* of this writer */
        uint64_t stdin_end; /* stdin offset behind its last byte */
        uint64_t told;      /* of those accepted, in the last ACK */
        uint64_t limit;     /* the last that was told */
        uint64_t taken;     /* the last that was told */
};

static Writer *writer_of(ClientStream *stream) {
        return CONTAINER_OF(stream, Writer, stream);
}

/* It waits for room no more: the next one may have some. */
static void writer_leave(Writer *writer) {
        if (!list_linked(&writer->place.link))
                return;
        process_input_leave(writer->process, &writer->place);
        process_input_turn(writer->process);
}

static void writer_free(Writer *writer) {
        client_stream_detach(&writer->stream);
        list_remove(&writer->watch.link);
        writer_leave(writer);
        free(writer->lock);
        free(writer);
}

/* Tells the client that this stream is over, and why. */
static void writer_fail(Writer *writer, const Error *error) {
        json_t *object;

        object = json_pack("{s:s, s:s, s:{s:I, s:I, s:I, s:o}}", "jsonrpc", "2.0", "method", "stdin-closed",
                           "params", "stream", (json_int_t)writer->stream.id, "accepted",
                           (json_int_t)writer->accepted, "taken", (json_int_t)writer_taken(writer), "error",
                           error_to_json(error));
        if (object && writer->stream.client)
                (void)client_send_json(writer->stream.client, object);
        json_decref(object);
        writer_free(writer);
}

uint64_t writer_accepted(const Writer *writer) {
        return writer->accepted;
}

uint64_t writer_taken(Writer *writer) {
        uint64_t accepted, taken, end;
        bool eof;
        StdinLog *log;

        if (!writer->process || process_stdin_log(writer->process, &log, NULL) < 0)
                return writer->taken;
        if (writer->process->input_end <
            writer->stdin_end) { /* the run is over, and some of it was dropped */
                uint64_t dropped = writer->stdin_end - writer->process->input_end;

                return MAX(writer->taken, writer->accepted > dropped ? writer->accepted - dropped : 0);
        }
        if (stdin_log_taken(log) >= writer->stdin_end)
                return writer->accepted;
        if (stdin_log_writer(log, &writer->id, &accepted, &taken, &end, &eof) < 0)
                return writer->taken;
        return taken;
}

/* How far it may send if it is given what room there is. What has been promised is never taken back. */
static uint64_t writer_limit_with(Writer *writer, uint64_t room) {
        return MAX(writer->limit, MIN(writer_taken(writer) + LIMIT_STDIN_WINDOW, writer->accepted + room));
}

/* While writes wait for room it is given none but in its turn. */
uint64_t writer_limit(Writer *writer) {
        Process *process = writer->process;

        return writer_limit_with(writer,
                                 process && process->n_input_writes == 0 ? process_input_room(process) : 0);
}

/* It waits for room when it may not send much more, and less than its window has place for. */
static void writer_wait(Writer *writer) {
        bool waits = writer->limit < writer->accepted + LIMIT_STDIN_WINDOW / 2 &&
                     writer->limit < writer->taken + LIMIT_STDIN_WINDOW;

        if (!waits)
                writer_leave(writer);
        else if (!list_linked(&writer->place.link))
                process_input_wait(writer->process, &writer->place);
}

/* An ACK of its own costs two processes a wakeup: it waits a moment for company, unless the client has reason
 * to wait for it. */
static void writer_acknowledge(Writer *writer, bool at_once) {
        const Process *process = writer->process;

        if (at_once || !process || !process_is_alive(process) || process->run.run != writer->run ||
            process->stdin_fd < 0 || writer->accepted >= writer->limit ||
            writer->accepted - writer->told >= LIMIT_STDIN_WINDOW / 4)
                client_stream_ready(&writer->stream);
        else
                client_stream_lazily(&writer->stream);
}

/* It is given what room there is, among writes enough to be of use. That counts whether or not the client
 * listens now. */
static bool writer_on_turn(InputPlace *place, Process *process) {
        Writer *writer = CONTAINER_OF(place, Writer, place);
        uint64_t room = process_input_room(process);

        if (room == 0 || (room < TURN_BYTES && process->n_input_writes > 0))
                return false;
        process_input_leave(process, place);
        writer->limit = writer_limit_with(writer, room);
        writer_acknowledge(writer, process->n_input_writes > 0);
        return true;
}

static bool writer_on_pump(ClientStream *stream) {
        Writer *writer = writer_of(stream);
        Error error = {};
        uint8_t payload[24];

        if (!writer->process) {
                (void)error_set(&error, ERROR_NOT_FOUND, "the process was removed");
                writer_fail(writer, &error);
                return false;
        }
        writer->taken = writer_taken(writer);
        writer->limit = writer_limit(writer);
        writer->told = writer->accepted;
        writer_wait(writer);
        le64_put(payload, writer->accepted);
        le64_put(payload + 8, writer->taken);
        le64_put(payload + 16, writer->limit);
        (void)client_send_frame(stream->client, FRAME_ACK, stream->id, payload, sizeof(payload));
        if (!process_is_alive(writer->process) || writer->process->run.run != writer->run)
                (void)error_set(&error, ERROR_NOT_RUNNING, "process %" PRIu64 " is not running",
                                writer->process->id);
        else if (writer->process->stdin_fd < 0 && writer->process->state != PROCESS_STARTING)
                (void)error_set(&error, ERROR_STDIN_CLOSED, "the stdin of process %" PRIu64 " is closed",
                                writer->process->id);
        if (error.code != ERROR_NONE)
                writer_fail(writer, &error);
        return false;
}

static int writer_on_frame(ClientStream *stream, const FrameHeader *header, const uint8_t *payload,
                           Error *reterr_error) {
        Writer *writer = writer_of(stream);
        InputFrom from = {
                .writer = &writer->id,
                .lock = writer->lock,
                .pid = stream->client->pid,
                .was_promised = true, /* by the limit, which stands even if others have filled the room */
        };
        Error error = {};
        uint64_t position = le64_get(payload);
        size_t size = header->size - INPUT_HEADER_SIZE;
        int r;

        if (header->type != FRAME_INPUT)
                return error_set(reterr_error, ERROR_PROTOCOL, "stream %u is input, not a subscription",
                                 stream->id);
        if (position > INT64_MAX || position + size > writer->limit)
                return error_set(reterr_error, ERROR_PROTOCOL,
                                 "input on stream %u goes beyond its limit, %" PRIu64, stream->id,
                                 writer->limit);
        if (!writer->process) {
                client_stream_ready(stream);
                return 0;
        }
        r = process_input(writer->process, &from, position, payload + INPUT_HEADER_SIZE, size,
                          header->flags & FRAME_FLAG_EOF, &writer->accepted, &writer->stdin_end, &error);
        if (r < 0 && error.code == ERROR_NONE)
                (void)error_set_errno(&error, r, "cannot accept input");
        if (r < 0)
                writer_fail(writer, &error);
        else
                writer_acknowledge(writer, header->flags & FRAME_FLAG_EOF);
        return 0;
}

static void writer_on_close(ClientStream *stream) {
        writer_free(writer_of(stream));
}

static const ClientStreamOps writer_ops = {
        .on_frame = writer_on_frame,
        .on_pump = writer_on_pump,
        .on_close = writer_on_close,
};

static void writer_on_change(ProcessWatch *watch, Process *process) {
        (void)process;
        writer_acknowledge(CONTAINER_OF(watch, Writer, watch), false);
}

static void writer_on_removed(ProcessWatch *watch, Process *process) {
        Writer *writer = CONTAINER_OF(watch, Writer, watch);

        list_remove(&watch->link);
        process_input_leave(process, &writer->place);
        writer->process = NULL;
        client_stream_ready(&writer->stream);
}

int writer_new(Writer **ret_writer, Client *client, Process *process, uint32_t stream, const StdinWriter *id,
               const char *lock, Error *reterr_error) {
        Writer *writer;
        StdinLog *log;
        uint64_t taken;
        bool eof;
        int r;

        if ((r = process_check_lock(process, lock, reterr_error)) < 0 ||
            (r = process_stdin_log(process, &log, reterr_error)) < 0)
                return r;
        writer = calloc(1, sizeof(*writer));
        if (!writer)
                return error_set_errno(reterr_error, ENOMEM, "cannot open a stream of input");
        writer->process = process;
        writer->id = *id;
        writer->run = process->run.run;
        writer->watch.on_change = writer_on_change;
        writer->watch.on_removed = writer_on_removed;
        writer->place.on_turn = writer_on_turn;
        r = stdin_log_writer(log, id, &writer->accepted, &taken, &writer->stdin_end, &eof);
        if (r < 0)
                (void)error_set_errno(reterr_error, r, "cannot look up the writer");
        else if (!process_is_alive(process) && !eof)
                r = error_set(reterr_error, ERROR_NOT_RUNNING, "process %" PRIu64 " is not running",
                              process->id);
        else if (process->stdin_fd < 0 && process->state != PROCESS_STARTING && !eof)
                r = error_set(reterr_error, ERROR_STDIN_CLOSED, "the stdin of process %" PRIu64 " is closed",
                              process->id);
        else
                r = client_stream_attach(&writer->stream, client, stream, &writer_ops, reterr_error);
        if (r >= 0 && lock && !(writer->lock = strdup(lock))) {
                client_stream_detach(&writer->stream);
                r = error_set_errno(reterr_error, ENOMEM, "cannot open a stream of input");
        }
        if (r < 0) {
                free(writer);
                return r;
        }
        writer->limit = writer_limit(writer);
        writer->taken = taken;
        writer->told = writer->accepted;
        writer_wait(writer);
        list_append(&process->watches, &writer->watch.link);
        *ret_writer = writer;
        return 0;
}

Writer *writer_from_stream(ClientStream *stream) {
        return stream && stream->ops == &writer_ops ? writer_of(stream) : NULL;
}

void writer_close(Writer *writer) {
        writer_free(writer);
}
