/* SPDX-License-Identifier: MIT */
#pragma once

/* A daemon made of a socketpair, for tests of the client: the test reads what the library sent and answers by
 * hand, and breaks the connection wherever it likes. */

#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "client/libpmux/pmux.h"
#include "common/clock.h"
#include "common/macro.h"
#include "common/protocol.h"

#define FAKE_PATIENCE_USEC (10 * USEC_PER_SEC)

typedef struct FakeDaemon {
        int fd;           /* owned; our end of the connection of now, -1: none */
        int n_dials;      /* how often the library has connected */
        bool refuse;      /* as if nobody listened */
        uint8_t *payload; /* owned; of the frame read last */
} FakeDaemon;

/** fake_break() - the engine is gone. */
static inline void fake_break(FakeDaemon *fake) {
        if (fake->fd >= 0)
                ck_assert_int_eq(close(fake->fd), 0);
        fake->fd = -1;
}

/** fake_dial() - PmuxOptions.connect, with the FakeDaemon as userdata. */
static inline int fake_dial(void *userdata) {
        const struct timeval patience = { .tv_sec = FAKE_PATIENCE_USEC / USEC_PER_SEC };
        FakeDaemon *fake = userdata;
        int fds[2];

        if (fake->refuse)
                return -ECONNREFUSED;
        fake_break(fake);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        ck_assert_int_eq(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
        fake->fd = fds[0];
        fake->n_dials++;
        return fds[1];
}

/** fake_turn() - let the library work until the daemon has been dialled n times. */
static inline void fake_turn_until_dialled(FakeDaemon *fake, Pmux *pmux, int n) {
        uint64_t deadline = clock_monotonic_usec() + FAKE_PATIENCE_USEC;

        while (fake->n_dials < n) {
                ck_assert_uint_lt(clock_monotonic_usec(), deadline);
                (void)pmux_turn(pmux, 100 * USEC_PER_MSEC, NULL);
        }
}

static inline void fake_read(FakeDaemon *fake, void *data, size_t size) {
        ssize_t n;

        for (size_t done = 0; done < size; done += (size_t)n) {
                n = recv(fake->fd, (uint8_t *)data + done, size - done, 0);
                ck_assert_msg(n > 0, "the library sent too little");
        }
}

/** fake_read_frame() - the next frame that the library sent; its payload is in fake->payload, with a NUL
 * behind it. */
static inline FrameHeader fake_read_frame(FakeDaemon *fake) {
        uint8_t bytes[FRAME_HEADER_SIZE];
        FrameHeader header;

        fake_read(fake, bytes, sizeof(bytes));
        ck_assert_int_eq(frame_header_decode(&header, bytes, false, NULL), 0);
        free(fake->payload);
        fake->payload = calloc(1, header.size + 1);
        ck_assert_ptr_nonnull(fake->payload);
        fake_read(fake, fake->payload, header.size);
        return header;
}

/** fake_silent() - whether the library has sent nothing that was not read. */
static inline bool fake_silent(FakeDaemon *fake) {
        char byte;

        return recv(fake->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
}

static inline void fake_send(FakeDaemon *fake, FrameType type, uint32_t stream, const void *payload,
                             size_t size) {
        const FrameHeader header = { .size = (uint32_t)size, .type = type, .stream = stream };
        uint8_t bytes[FRAME_HEADER_SIZE];

        frame_header_encode(bytes, &header);
        ck_assert_int_eq(send(fake->fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
        ck_assert_int_eq(send(fake->fd, payload, size, MSG_NOSIGNAL), (ssize_t)size);
}

/** fake_answer_hello() - answer the library's HELLO, which was read. */
static inline void fake_answer_hello(FakeDaemon *fake) {
        uint8_t hello[FRAME_HELLO_DAEMON_SIZE] = PROTOCOL_MAGIC;

        ck_assert_mem_eq(fake->payload, PROTOCOL_MAGIC, 4);
        le16_put(hello + 4, PROTOCOL_VERSION);
        le16_put(hello + 6, PROTOCOL_VERSION);
        le32_put(hello + 12, 4711);
        fake_send(fake, FRAME_HELLO, 0, hello, sizeof(hello));
}

/** fake_greet() - read the library's HELLO and answer it. */
static inline void fake_greet(FakeDaemon *fake) {
        FrameHeader header = fake_read_frame(fake);

        ck_assert_int_eq(header.type, FRAME_HELLO);
        fake_answer_hello(fake);
}

/** fake_read_request() - the next frame, which must be a request of that method. A new reference. */
static inline json_t *fake_read_request(FakeDaemon *fake, const char *method) {
        FrameHeader header = fake_read_frame(fake);
        json_t *request;

        ck_assert_int_eq(header.type, FRAME_CONTROL);
        request = json_loads((char *)fake->payload, JSON_ALLOW_NUL, NULL);
        ck_assert(json_is_object(request));
        ck_assert_str_eq(json_string_value(json_object_get(request, "method")), method);
        return request;
}

static inline void fake_send_json(FakeDaemon *fake, json_t *message) {
        char *text = json_dumps(message, JSON_COMPACT);

        ck_assert_ptr_nonnull(text);
        fake_send(fake, FRAME_CONTROL, 0, text, strlen(text));
        free(text);
        json_decref(message);
}

/** fake_reply() - answer a request, whose reference is taken over, with a result given as JSON text. */
static inline void fake_reply(FakeDaemon *fake, json_t *request, const char *result) {
        json_t *value = json_loads(result, JSON_ALLOW_NUL, NULL);

        ck_assert_ptr_nonnull(value);
        fake_send_json(fake, json_pack("{s:s, s:O, s:o}", "jsonrpc", "2.0", "id",
                                       json_object_get(request, "id"), "result", value));
        json_decref(request);
}

/** fake_refuse() - answer a request with an error of that name. */
static inline void fake_refuse(FakeDaemon *fake, json_t *request, const char *code) {
        fake_send_json(fake,
                       json_pack("{s:s, s:O, s:{s:i, s:s, s:{s:s, s:i, s:s, s:n}}}", "jsonrpc", "2.0", "id",
                                 json_object_get(request, "id"), "error", "code", -32000, "message",
                                 "refused", "data", "code", code, "errno", 1, "errno_name", "EPERM", "step"));
        json_decref(request);
}

/** fake_param() - an integer of a request's params; -1 if there is none. */
static inline json_int_t fake_param(const json_t *request, const char *name) {
        json_t *value = json_object_get(json_object_get(request, "params"), name);

        return json_is_integer(value) ? json_integer_value(value) : -1;
}

/** fake_bytes() - a record with bytes. */
static inline void fake_bytes(FakeDaemon *fake, uint32_t stream, uint64_t offset, const char *text) {
        const RecordHeader header = {
                .offset = offset, .time_usec = 1000, .run = 1, .kind = RECORD_DATA, .source = SOURCE_STDOUT
        };
        uint8_t payload[RECORD_HEADER_SIZE + 256];

        ck_assert_uint_le(strlen(text), 256);
        record_header_encode(payload, &header);
        memcpy(payload + RECORD_HEADER_SIZE, text, strlen(text));
        fake_send(fake, FRAME_DATA, stream, payload, RECORD_HEADER_SIZE + strlen(text));
}

/** fake_record() - a record without bytes. */
static inline void fake_record(FakeDaemon *fake, uint32_t stream, uint64_t offset, uint64_t time_usec,
                               RecordKind kind, uint64_t value) {
        const RecordHeader header = { .offset = offset, .time_usec = time_usec, .run = 1, .kind = kind };
        uint8_t payload[RECORD_HEADER_SIZE + 8];

        record_header_encode(payload, &header);
        le64_put(payload + RECORD_HEADER_SIZE, value);
        fake_send(fake, FRAME_DATA, stream, payload, sizeof(payload));
}

static inline void fake_ack(FakeDaemon *fake, uint32_t stream, uint64_t accepted, uint64_t taken,
                            uint64_t limit) {
        uint8_t payload[24];

        le64_put(payload, accepted);
        le64_put(payload + 8, taken);
        le64_put(payload + 16, limit);
        fake_send(fake, FRAME_ACK, stream, payload, sizeof(payload));
}

/** fake_open() - a connection to a new fake daemon, greeted. @retry_usec: how long it is mended; 0: the
 * default. */
static inline Pmux *fake_open(FakeDaemon *fake, unsigned flags, uint64_t retry_usec) {
        const PmuxOptions options = { .size = sizeof(options),
                                      .socket_path = "/nowhere/fake",
                                      .flags = flags,
                                      .retry_usec = retry_usec,
                                      .connect = fake_dial,
                                      .userdata = fake };
        Pmux *pmux = NULL;

        *fake = (FakeDaemon){ .fd = -1 };
        ck_assert_int_eq(pmux_open(&pmux, &options, NULL), 0);
        fake_greet(fake);
        return pmux;
}

/** fake_close() - end of a test. */
static inline void fake_close(FakeDaemon *fake, Pmux *pmux) {
        (void)pmux_close(pmux);
        fake_break(fake);
        free(fake->payload);
        fake->payload = NULL;
}
