/* SPDX-License-Identifier: MIT */
#pragma once

/* One client of a set whose other side is a socket of the test's, and streams that send what is large. */

#include "daemon/engine/client.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/engine/limits.h"
#include "tests/support/check-main.h"

static struct event_base *base;
static ClientSet set;
static Client *client;
static int peer, n_fds;
static unsigned n_controls, n_closes, n_frames, n_stream_closes, n_pumped[2];
static uint64_t sum;      /* of all bytes of CONTROL and INPUT frames, in order */
static size_t reply_size; /* on_control answers so much */
static uint8_t output[1 << 20];
static size_t n_output;

static bool keeps_requests; /* their replies come later */

static inline void mix(const void *bytes, size_t size) {
        for (size_t i = 0; i < size; i++)
                sum = sum * 31 + ((const uint8_t *)bytes)[i];
}

static inline int on_control(Client *c, const char *text, size_t size, void *userdata) {
        static uint8_t zeros[64 * 1024];

        (void)userdata;
        n_controls++;
        c->n_requests += keeps_requests;
        mix(text, size);
        return reply_size > 0 ? client_send_frame(c, FRAME_CONTROL, 0, zeros, reply_size) : 0;
}

static inline void on_close(Client *c, void *userdata) {
        (void)c;
        (void)userdata;
        n_closes++;
}

static const ClientOps ops = { .on_control = on_control, .on_close = on_close };

static inline int stream_on_frame(ClientStream *stream, const FrameHeader *header, const uint8_t *payload,
                                  Error *reterr_error) {
        (void)stream;
        (void)reterr_error;
        n_frames++;
        mix(payload, header->size);
        return 0;
}

/* Sends a frame of 60 KB whenever it is asked. */
static inline bool stream_on_pump(ClientStream *stream) {
        static uint8_t head[RECORD_HEADER_SIZE], data[60 * 1024];

        n_pumped[stream->id - 1]++;
        return client_send_data(stream->client, stream->id, head, sizeof(head), data, sizeof(data)) >= 0;
}

static inline void stream_on_close(ClientStream *stream) {
        (void)stream;
        n_stream_closes++;
}

static const ClientStreamOps stream_ops = {
        .on_frame = stream_on_frame,
        .on_pump = stream_on_pump,
        .on_close = stream_on_close,
};

static ClientStream streams[2];

static inline void turn(void) {
        (void)event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        client_set_flush(&set);
        client_set_pump(&set);
        client_set_flush(&set);
        client_set_reap(&set);
}

static inline void take_output(void) {
        ssize_t n;

        while ((n = recv(peer, output + n_output, sizeof(output) - n_output, MSG_DONTWAIT)) > 0)
                n_output += (size_t)n;
}

static inline void connect_client_by(int type) {
        Error error = {};
        int fds[2];

        ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        ck_assert_int_eq(client_new(&client, &set, fds[1], &error), 0);
        peer = fds[0];
        n_controls = n_closes = n_frames = n_stream_closes = n_pumped[0] = n_pumped[1] = 0;
        n_output = 0;
        sum = 0;
        memset(streams, 0, sizeof(streams));
}

static inline void connect_client(void) {
        connect_client_by(SOCK_STREAM);
}

static inline void setup(void) {
        n_fds = open_fds_count();
        base = event_base_new();
        ck_assert_int_eq(client_set_init(&set, base, &ops, NULL), 0);
        reply_size = 0;
        keeps_requests = false;
        connect_client();
}

static inline void teardown(void) {
        close(peer);
        turn();
        turn();
        ck_assert_uint_eq(set.n_clients, 0);
        ck_assert_uint_eq(set.frame_bytes, 0);
        client_set_deinit(&set);
        event_base_free(base);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static inline size_t put_frame(uint8_t *p, FrameType type, uint32_t stream, const void *payload,
                               size_t size) {
        FrameHeader header = { .size = (uint32_t)size, .type = (uint8_t)type, .stream = stream };

        frame_header_encode(p, &header);
        memcpy(p + FRAME_HEADER_SIZE, payload, size);
        return FRAME_HEADER_SIZE + size;
}

static inline size_t put_hello(uint8_t *p) {
        static const uint8_t hello[FRAME_HELLO_CLIENT_SIZE] = { 'P', 'M', 'U', 'X', 1, 0, 1, 0 };

        return put_frame(p, FRAME_HELLO, 0, hello, sizeof(hello));
}

static inline void greet(void) {
        uint8_t bytes[64];

        ck_assert_int_eq(write(peer, bytes, put_hello(bytes)), FRAME_HEADER_SIZE + FRAME_HELLO_CLIENT_SIZE);
        turn();
        take_output();
        ck_assert_uint_eq(n_output, FRAME_HEADER_SIZE + FRAME_HELLO_DAEMON_SIZE);
        ck_assert_uint_eq(output[4], FRAME_HELLO);
        n_output = 0;
}
