/* SPDX-License-Identifier: MIT */

#include "daemon/engine/client.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <stdlib.h>
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

static void mix(const void *bytes, size_t size) {
        for (size_t i = 0; i < size; i++)
                sum = sum * 31 + ((const uint8_t *)bytes)[i];
}

static int on_control(Client *c, const char *text, size_t size, void *userdata) {
        static uint8_t zeros[64 * 1024];

        (void)userdata;
        n_controls++;
        c->n_requests += keeps_requests;
        mix(text, size);
        return reply_size > 0 ? client_send_frame(c, FRAME_CONTROL, 0, zeros, reply_size) : 0;
}

static void on_close(Client *c, void *userdata) {
        (void)c;
        (void)userdata;
        n_closes++;
}

static const ClientOps ops = { .on_control = on_control, .on_close = on_close };

static int stream_on_frame(ClientStream *stream, const FrameHeader *header, const uint8_t *payload,
                           Error *reterr_error) {
        (void)stream;
        (void)reterr_error;
        n_frames++;
        mix(payload, header->size);
        return 0;
}

/* Sends a frame of 60 KB whenever it is asked. */
static bool stream_on_pump(ClientStream *stream) {
        static uint8_t head[RECORD_HEADER_SIZE], data[60 * 1024];

        n_pumped[stream->id - 1]++;
        return client_send_data(stream->client, stream->id, head, sizeof(head), data, sizeof(data)) >= 0;
}

static void stream_on_close(ClientStream *stream) {
        (void)stream;
        n_stream_closes++;
}

static const ClientStreamOps stream_ops = {
        .on_frame = stream_on_frame,
        .on_pump = stream_on_pump,
        .on_close = stream_on_close,
};

static ClientStream streams[2];

static void turn(void) {
        (void)event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        client_set_flush(&set);
        client_set_pump(&set);
        client_set_flush(&set);
        client_set_reap(&set);
}

static void take_output(void) {
        ssize_t n;

        while ((n = recv(peer, output + n_output, sizeof(output) - n_output, MSG_DONTWAIT)) > 0)
                n_output += (size_t)n;
}

static void connect_client_by(int type) {
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

static void connect_client(void) {
        connect_client_by(SOCK_STREAM);
}

static void setup(void) {
        n_fds = open_fds_count();
        base = event_base_new();
        ck_assert_int_eq(client_set_init(&set, base, &ops, NULL), 0);
        reply_size = 0;
        keeps_requests = false;
        connect_client();
}

static void teardown(void) {
        close(peer);
        turn();
        turn();
        ck_assert_uint_eq(set.n_clients, 0);
        ck_assert_uint_eq(set.frame_bytes, 0);
        client_set_deinit(&set);
        event_base_free(base);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static size_t put_frame(uint8_t *p, FrameType type, uint32_t stream, const void *payload, size_t size) {
        FrameHeader header = { .size = (uint32_t)size, .type = (uint8_t)type, .stream = stream };

        frame_header_encode(p, &header);
        memcpy(p + FRAME_HEADER_SIZE, payload, size);
        return FRAME_HEADER_SIZE + size;
}

static size_t put_hello(uint8_t *p) {
        static const uint8_t hello[FRAME_HELLO_CLIENT_SIZE] = { 'P', 'M', 'U', 'X', 1, 0, 1, 0 };

        return put_frame(p, FRAME_HELLO, 0, hello, sizeof(hello));
}

static void greet(void) {
        uint8_t bytes[64];

        ck_assert_int_eq(write(peer, bytes, put_hello(bytes)), FRAME_HEADER_SIZE + FRAME_HELLO_CLIENT_SIZE);
        turn();
        take_output();
        ck_assert_uint_eq(n_output, FRAME_HEADER_SIZE + FRAME_HELLO_DAEMON_SIZE);
        ck_assert_uint_eq(output[4], FRAME_HELLO);
        n_output = 0;
}

START_TEST(frames_are_put_together_however_they_are_cut)
{
        uint8_t session[256];
        uint64_t whole = 0;
        size_t size;

        size = put_hello(session);
        size += put_frame(session + size, FRAME_CONTROL, 0, "{first}", 7);
        size += put_frame(session + size, FRAME_INPUT, 1, "01234567input", 13);
        size += put_frame(session + size, FRAME_CREDIT, 1, "87654321", 8);
        size += put_frame(session + size, FRAME_CONTROL, 0, "", 0);
        for (size_t at = 0; at < size; at++) {
                ck_assert_int_eq(client_stream_attach(&streams[0], client, 1, &stream_ops, NULL), 0);
                ck_assert_int_eq(send(peer, session, at, 0), (ssize_t)at);
                turn();
                ck_assert_int_eq(send(peer, session + at, size - at, 0), (ssize_t)(size - at));
                turn();
                ck_assert_uint_eq(n_controls, 2);
                ck_assert_uint_eq(n_frames, 2);
                ck_assert_uint_eq(n_closes, 0);
                if (at == 0)
                        whole = sum;
                ck_assert_uint_eq(sum, whole);
                close(peer);
                turn();
                ck_assert_uint_eq(n_stream_closes, 1);
                connect_client();
        }
}
END_TEST

static void ends_with_goodbye(const char *code) {
        turn();
        turn();
        take_output();
        ck_assert_uint_eq(output[4], FRAME_GOODBYE);
        ck_assert_uint_eq(le32_get(output) + FRAME_HEADER_SIZE, n_output);
        ck_assert_ptr_nonnull(memmem(output, n_output, code, strlen(code)));
        ck_assert_int_eq(recv(peer, output, 1, MSG_DONTWAIT), 0);
        ck_assert_uint_eq(n_closes, 1);
}

START_TEST(what_is_no_hello_is_told_so)
{
        uint8_t bytes[64];
        size_t size = put_frame(bytes, FRAME_CONTROL, 0, "{}", 2);

        ck_assert_int_eq(write(peer, bytes, size), (ssize_t)size);
        ends_with_goodbye("protocol-error");
        ck_assert_uint_eq(n_controls, 0);
}
END_TEST

START_TEST(another_version_is_told_so)
{
        static const uint8_t hello[FRAME_HELLO_CLIENT_SIZE] = { 'P', 'M', 'U', 'X', 2, 0, 9, 0 };
        uint8_t bytes[64];
        size_t size = put_frame(bytes, FRAME_HELLO, 0, hello, sizeof(hello));

        ck_assert_int_eq(write(peer, bytes, size), (ssize_t)size);
        ends_with_goodbye("version-mismatch");
}
END_TEST

START_TEST(a_malformed_header_ends_the_connection)
{
        static const uint8_t bad[][FRAME_HEADER_SIZE] = {
                { 0, 0, 0, 0, 99 },
                { 0, 0, 0, 0, FRAME_CONTROL, 1 },
                { 0, 0, 0, 0, FRAME_CONTROL, 0, 1 },
                { 0xff, 0xff, 0xff, 0xff, FRAME_CONTROL },
                { 0, 0, 0, 0, FRAME_HELLO },
                { 7, 0, 0, 0, FRAME_CREDIT, 0, 0, 0, 1 },
        };

        greet();
        ck_assert_int_eq(write(peer, bad[_i], FRAME_HEADER_SIZE), FRAME_HEADER_SIZE);
        if (bad[_i][0] == 7)
                ck_assert_int_eq(write(peer, "1234567", 7), 7);
        ends_with_goodbye("protocol-error");
}
END_TEST

START_TEST(half_received_large_frames_have_a_bound)
{
        FrameHeader header = { .size = 8 * 1024 * 1024, .type = FRAME_CONTROL };
        uint8_t bytes[FRAME_HEADER_SIZE];

        greet();
        frame_header_encode(bytes, &header);
        set.frame_bytes = LIMIT_FRAME_BYTES - header.size;
        ck_assert_int_eq(write(peer, bytes, sizeof(bytes)), sizeof(bytes));
        turn();
        ck_assert_uint_eq(n_closes, 0);
        ck_assert_uint_eq(set.frame_bytes, LIMIT_FRAME_BYTES);
        close(peer);
        turn();
        ck_assert_uint_eq(set.frame_bytes, LIMIT_FRAME_BYTES - header.size);
        set.frame_bytes++;
        connect_client();
        greet();
        ck_assert_int_eq(write(peer, bytes, sizeof(bytes)), sizeof(bytes));
        ends_with_goodbye("\"limit\"");
        set.frame_bytes = 0;
}
END_TEST

START_TEST(a_client_that_reads_no_replies_is_not_read_from)
{
        uint8_t bytes[64];
        size_t size = put_frame(bytes, FRAME_CONTROL, 0, "{}", 2);
        unsigned n_sent = 0, before;
        size_t expected;

        greet();
        reply_size = 60 * 1024;
        for (; n_sent < 200; n_sent++) {
                ck_assert_int_eq(write(peer, bytes, size), (ssize_t)size);
                turn();
        }
        before = n_controls;
        ck_assert_uint_lt(before, n_sent);
        ck_assert_uint_le(client_queued_bytes(client), LIMIT_REPLY_BYTES + reply_size + FRAME_HEADER_SIZE);
        for (unsigned i = 0; i < 2000 && n_controls < n_sent; i++) {
                n_output = 0;
                take_output();
                turn();
        }
        ck_assert_uint_eq(n_controls, n_sent);
        expected = n_closes;
        ck_assert_uint_eq(expected, 0);
}
END_TEST

START_TEST(who_ends_in_the_turn_of_a_request_is_answered)
{
        uint8_t bytes[64];
        size_t size = put_frame(bytes, FRAME_CONTROL, 0, "{}", 2);

        greet();
        reply_size = 100;
        ck_assert_int_eq(write(peer, bytes, size), (ssize_t)size);
        (void)event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        ck_assert_uint_eq(n_controls, 1);
        ck_assert_int_eq(shutdown(peer, SHUT_WR), 0); /* a turn is several rounds where priorities differ */
        (void)event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        turn();
        take_output();
        ck_assert_uint_eq(n_output, FRAME_HEADER_SIZE + 100);
        ck_assert_uint_eq(n_closes, 1);
}
END_TEST

START_TEST(two_streams_share_a_socket_that_was_full)
{
        greet();
        for (uint32_t i = 0; i < 2; i++) {
                ck_assert_int_eq(client_stream_attach(&streams[i], client, i + 1, &stream_ops, NULL), 0);
                client_stream_ready(&streams[i]);
        }
        for (unsigned i = 0; i < 50; i++)
                turn();
        ck_assert(!client_writable(client));
        n_pumped[0] = n_pumped[1] = 0;
        for (unsigned i = 0; i < 100; i++) {
                n_output = 0;
                take_output();
                turn();
        }
        ck_assert_uint_gt(n_pumped[0], 10);
        ck_assert_uint_gt(n_pumped[1], 10);
}
END_TEST

START_TEST(a_frame_that_was_cut_arrives_whole)
{
        static uint8_t head[RECORD_HEADER_SIZE], data[LIMIT_DATA_FRAME_BYTES];
        size_t at = 0, n_whole = 0;

        greet();
        memset(data, 'd', sizeof(data));
        while (client_writable(client))
                ck_assert_int_eq(client_send_data(client, 7, head, sizeof(head), data, 1 + n_whole++ * 977),
                                 0);
        take_output();
        turn();
        take_output();
        for (size_t i = 0; i < n_whole; i++) {
                ck_assert_uint_eq(le32_get(output + at), sizeof(head) + 1 + i * 977);
                ck_assert_uint_eq(output[at + 4], FRAME_DATA);
                at += FRAME_HEADER_SIZE + le32_get(output + at);
        }
        ck_assert_uint_eq(at, n_output);
}
END_TEST

#define MANY_FRAMES 500
#define SMALL_BYTES 10000

static uint32_t n_numbered;

/* Sends numbered frames, which go together, until the socket is full; then the client reads all there is. */
static bool numbered_on_pump(ClientStream *stream) {
        static uint8_t head[RECORD_HEADER_SIZE], data[SMALL_BYTES];

        do {
                le32_put(data, n_numbered++);
                ck_assert_int_eq(
                        client_send_data(stream->client, stream->id, head, sizeof(head), data, sizeof(data)),
                        0);
        } while (client_writable(stream->client) && n_numbered < MANY_FRAMES);
        take_output();
        return n_numbered < MANY_FRAMES;
}

static const ClientStreamOps numbered_ops = {
        .on_frame = stream_on_frame,
        .on_pump = numbered_on_pump,
        .on_close = stream_on_close,
};

START_TEST(frames_stay_in_order_where_the_client_reads_while_they_are_sent)
{
        const size_t size = FRAME_HEADER_SIZE + RECORD_HEADER_SIZE + SMALL_BYTES;
        uint32_t seen = 0;

        greet();
        n_numbered = 0;
        ck_assert_int_eq(client_stream_attach(&streams[0], client, 1, &numbered_ops, NULL), 0);
        for (unsigned i = 0; seen < MANY_FRAMES; i++) {
                ck_assert_uint_lt(i, 10 * MANY_FRAMES);
                if (n_numbered < MANY_FRAMES)
                        client_stream_ready(&streams[0]);
                turn();
                take_output();
                for (; n_output >= size; n_output -= size) {
                        ck_assert_uint_eq(le32_get(output + FRAME_HEADER_SIZE + RECORD_HEADER_SIZE), seen);
                        seen++;
                        memmove(output, output + size, n_output - size);
                }
        }
}
END_TEST

/* Says one small frame whenever it is asked: stream 1 an ACK, stream 2 data. */
static bool small_on_pump(ClientStream *stream) {
        static const uint8_t payload[RECORD_HEADER_SIZE + 8];

        n_pumped[stream->id - 1]++;
        if (stream->id == 1)
                (void)client_send_frame(stream->client, FRAME_ACK, 1, payload, sizeof(payload));
        else
                (void)client_send_data(stream->client, 2, payload, RECORD_HEADER_SIZE,
                                       payload + RECORD_HEADER_SIZE, 8);
        return false;
}

static const ClientStreamOps small_ops = {
        .on_frame = stream_on_frame,
        .on_pump = small_on_pump,
        .on_close = stream_on_close,
};

/* A client on a socket that keeps apart what was written apart. */
static void small_setup(void) {
        close(peer);
        turn();
        turn();
        connect_client_by(SOCK_SEQPACKET);
        greet();
        for (uint32_t i = 0; i < 2; i++)
                ck_assert_int_eq(client_stream_attach(&streams[i], client, i + 1, &small_ops, NULL), 0);
}

START_TEST(small_frames_of_a_turn_go_in_one_write)
{
        uint8_t bytes[4096];

        small_setup();
        client_stream_ready(&streams[0]);
        client_stream_ready(&streams[1]);
        turn();
        ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), 0),
                         2 * (FRAME_HEADER_SIZE + RECORD_HEADER_SIZE + 8));
        ck_assert_uint_eq(bytes[4], FRAME_ACK);
        ck_assert_uint_eq(bytes[FRAME_HEADER_SIZE + RECORD_HEADER_SIZE + 8 + 4], FRAME_DATA);
        ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), 0), -1);
}
END_TEST

START_TEST(replies_go_in_one_write_with_what_streams_say)
{
        uint8_t bytes[4096];
        int size;

        small_setup();
        ck_assert_int_eq(client_send_frame(client, FRAME_CONTROL, 0, "{}", 2), 0);
        client_stream_ready(&streams[1]);
        client_set_pump(&set);
        client_set_flush(&set);
        size = FRAME_HEADER_SIZE + 2;
        ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), 0),
                         size + FRAME_HEADER_SIZE + RECORD_HEADER_SIZE + 8);
        ck_assert_uint_eq(bytes[4], FRAME_CONTROL); /* first */
        ck_assert_uint_eq(bytes[size + 4], FRAME_DATA);
        ck_assert_int_eq(client_send_frame(client, FRAME_CONTROL, 0, "{}", 2), 0);
        client_set_pump(&set); /* alone */
        ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), 0), size);
        ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), 0), -1);
}
END_TEST

START_TEST(what_may_wait_goes_with_what_may_not)
{
        uint8_t bytes[4096];

        small_setup();
        client_stream_lazily(&streams[0]);
        ck_assert_uint_eq(client->n_lazy, 1);
        client_stream_ready(&streams[1]);
        turn();
        ck_assert_uint_eq(n_pumped[0], 1);
        ck_assert_uint_eq(client->n_lazy, 0);
        ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), 0),
                         2 * (FRAME_HEADER_SIZE + RECORD_HEADER_SIZE + 8));
}
END_TEST

START_TEST(what_may_wait_does_not_wait_for_ever)
{
        small_setup();
        client_stream_lazily(&streams[0]);
        client_set_pump(&set);
        ck_assert_uint_eq(n_pumped[0], 0);
        ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0); /* until the timer */
        turn();
        ck_assert_uint_eq(n_pumped[0], 1);
        ck_assert_uint_eq(client->n_lazy, 0);
        client_stream_lazily(&streams[0]); /* and one that goes away meanwhile is not asked */
        client_stream_detach(&streams[0]);
        ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
        turn();
        ck_assert_uint_eq(n_pumped[0], 1);
}
END_TEST

/* A client on a socket that keeps apart what was written apart says HELLO together with a request that waits.
 */
static void greet_with_request(void) {
        uint8_t bytes[256];
        size_t size;

        close(peer);
        turn();
        turn();
        connect_client_by(SOCK_SEQPACKET);
        keeps_requests = true;
        size = put_hello(bytes);
        size += put_frame(bytes + size, FRAME_CONTROL, 0, "{}", 2);
        ck_assert_int_eq(send(peer, bytes, size, 0), (ssize_t)size);
        turn();
        ck_assert_uint_eq(n_controls, 1);
        ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), 0), -1);
}

START_TEST(a_greeting_goes_with_the_first_reply)
{
        const int greeting_size = FRAME_HEADER_SIZE + FRAME_HELLO_DAEMON_SIZE;
        uint8_t bytes[4096];

        greet_with_request();
        ck_assert_int_eq(client_send_frame(client, FRAME_CONTROL, 0, "{}", 2), 0);
        turn();
        ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), 0), greeting_size + FRAME_HEADER_SIZE + 2);
        ck_assert_uint_eq(bytes[4], FRAME_HELLO);
        ck_assert_uint_eq(bytes[greeting_size + 4], FRAME_CONTROL);
        ck_assert(!evtimer_pending(set.late_timer, NULL));
        greet_with_request(); /* and before what a stream says */
        ck_assert_int_eq(client_stream_attach(&streams[1], client, 2, &small_ops, NULL), 0);
        client_stream_ready(&streams[1]);
        turn();
        ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), 0),
                         greeting_size + FRAME_HEADER_SIZE + RECORD_HEADER_SIZE + 8);
        ck_assert_uint_eq(bytes[4], FRAME_HELLO);
        ck_assert(!evtimer_pending(set.late_timer, NULL));
}
END_TEST

START_TEST(a_greeting_does_not_wait_for_ever)
{
        uint8_t bytes[64];

        greet_with_request();
        ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0); /* until the timer */
        turn();
        ck_assert_int_eq(recv(peer, bytes, sizeof(bytes), 0), FRAME_HEADER_SIZE + FRAME_HELLO_DAEMON_SIZE);
        ck_assert_uint_eq(bytes[4], FRAME_HELLO);
        greet_with_request(); /* the client goes away meanwhile */
        close(peer);
        turn();
        turn();
        ck_assert_uint_eq(set.n_clients, 0);
        ck_assert(!evtimer_pending(set.late_timer, NULL));
        connect_client();
}
END_TEST

START_TEST(stream_ids_are_one_of_a_kind)
{
        static ClientStream many[LIMIT_STREAMS_PER_CLIENT + 1];
        Error error = {};

        ck_assert_int_eq(client_stream_attach(&many[0], client, 0, &stream_ops, &error), -EINVAL);
        for (uint32_t i = 0; i < LIMIT_STREAMS_PER_CLIENT; i++)
                ck_assert_int_eq(client_stream_attach(&many[i], client, i + 1, &stream_ops, &error), 0);
        ck_assert_int_eq(
                client_stream_attach(&many[LIMIT_STREAMS_PER_CLIENT], client, 5, &stream_ops, &error),
                -EINVAL);
        ck_assert_int_lt(
                client_stream_attach(&many[LIMIT_STREAMS_PER_CLIENT], client, 999, &stream_ops, &error), 0);
        ck_assert_int_eq(error.code, ERROR_LIMIT);
        client_stream_detach(&many[4]);
        client_stream_detach(&many[4]);
        ck_assert_ptr_null(client_stream_find(client, 5));
        ck_assert_ptr_eq(client_stream_find(client, 6), &many[5]);
        ck_assert_int_eq(client_stream_attach(&many[4], client, 5, &stream_ops, &error), 0);
}
END_TEST

static Suite *client_suite(void) {
        Suite *suite = suite_create("client");
        TCase *in = tcase_create("in"), *out = tcase_create("out"), *of_streams = tcase_create("streams");

        tcase_set_timeout(in, 60);
        tcase_set_timeout(out, 60);
        tcase_add_checked_fixture(in, setup, teardown);
        tcase_add_checked_fixture(out, setup, teardown);
        tcase_add_checked_fixture(of_streams, setup, teardown);
        tcase_add_test(in, frames_are_put_together_however_they_are_cut);
        tcase_add_test(in, what_is_no_hello_is_told_so);
        tcase_add_test(in, another_version_is_told_so);
        tcase_add_loop_test(in, a_malformed_header_ends_the_connection, 0, 6);
        tcase_add_test(in, half_received_large_frames_have_a_bound);
        tcase_add_test(out, a_client_that_reads_no_replies_is_not_read_from);
        tcase_add_test(out, who_ends_in_the_turn_of_a_request_is_answered);
        tcase_add_test(out, two_streams_share_a_socket_that_was_full);
        tcase_add_test(out, a_frame_that_was_cut_arrives_whole);
        tcase_add_test(out, frames_stay_in_order_where_the_client_reads_while_they_are_sent);
        tcase_add_test(out, small_frames_of_a_turn_go_in_one_write);
        tcase_add_test(out, replies_go_in_one_write_with_what_streams_say);
        tcase_add_test(out, what_may_wait_goes_with_what_may_not);
        tcase_add_test(out, what_may_wait_does_not_wait_for_ever);
        tcase_add_test(out, a_greeting_goes_with_the_first_reply);
        tcase_add_test(out, a_greeting_does_not_wait_for_ever);
        tcase_add_test(of_streams, stream_ids_are_one_of_a_kind);
        suite_add_tcase(suite, in);
        suite_add_tcase(suite, out);
        suite_add_tcase(suite, of_streams);
        return suite;
}

CHECK_MAIN(client_suite);
