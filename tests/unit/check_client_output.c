/* SPDX-License-Identifier: MIT */

/* What goes out on a connection, in which order and in how many writes. */

#include "tests/support/client-fixture.h"

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

/* Is told, while it is asked, that there is more: as when what it read makes room for what waits. */
static bool grown_on_pump(ClientStream *stream) {
        n_pumped[stream->id - 1]++;
        client_stream_ready(stream);
        return n_pumped[stream->id - 1] < 3;
}

static const ClientStreamOps grown_ops = {
        .on_frame = stream_on_frame,
        .on_pump = grown_on_pump,
        .on_close = stream_on_close,
};

START_TEST(a_stream_that_gets_more_while_it_is_asked_is_asked_again)
{
        greet();
        for (uint32_t i = 0; i < 2; i++) {
                ck_assert_int_eq(client_stream_attach(&streams[i], client, i + 1, &grown_ops, NULL), 0);
                client_stream_ready(&streams[i]);
        }
        turn();
        ck_assert_uint_eq(n_pumped[0], 1); /* with more to do, in the next turn */
        ck_assert_uint_eq(n_pumped[1], 1);
        ck_assert_ptr_eq(set.ready.next, &streams[0].ready_link);
        ck_assert_ptr_eq(set.ready.next->next, &streams[1].ready_link);
        ck_assert_ptr_eq(set.ready.next->next->next, &set.ready);
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

START_TEST(a_greeting_goes_before_the_end_of_a_connection)
{
        const int greeting_size = FRAME_HEADER_SIZE + FRAME_HELLO_DAEMON_SIZE;
        uint8_t bytes[4096] = {};

        greet_with_request();
        if (_i == 0) /* a frame of no type */
                ck_assert_int_eq(send(peer, bytes, FRAME_HEADER_SIZE, 0), FRAME_HEADER_SIZE);
        else
                ck_assert_int_eq(shutdown(peer, SHUT_WR), 0);
        turn();
        ck_assert_int_ge(recv(peer, bytes, sizeof(bytes), 0), greeting_size);
        ck_assert_uint_eq(bytes[4], FRAME_HELLO);
        if (_i == 0)
                ck_assert_uint_eq(bytes[greeting_size + 4], FRAME_GOODBYE);
        ck_assert_uint_eq(n_closes, 1);
        ck_assert(!evtimer_pending(set.late_timer, NULL));
}
END_TEST

static Suite *client_output_suite(void) {
        Suite *suite = suite_create("client-output");
        TCase *tcase = tcase_create("out");

        tcase_set_timeout(tcase, 60);
        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, two_streams_share_a_socket_that_was_full);
        tcase_add_test(tcase, a_frame_that_was_cut_arrives_whole);
        tcase_add_test(tcase, frames_stay_in_order_where_the_client_reads_while_they_are_sent);
        tcase_add_test(tcase, small_frames_of_a_turn_go_in_one_write);
        tcase_add_test(tcase, replies_go_in_one_write_with_what_streams_say);
        tcase_add_test(tcase, what_may_wait_goes_with_what_may_not);
        tcase_add_test(tcase, what_may_wait_does_not_wait_for_ever);
        tcase_add_test(tcase, a_stream_that_gets_more_while_it_is_asked_is_asked_again);
        tcase_add_test(tcase, a_greeting_goes_with_the_first_reply);
        tcase_add_test(tcase, a_greeting_does_not_wait_for_ever);
        tcase_add_loop_test(tcase, a_greeting_goes_before_the_end_of_a_connection, 0, 2);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(client_output_suite);
