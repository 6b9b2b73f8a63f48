/* SPDX-License-Identifier: MIT */

#include "daemon/engine/client.h"

#include "tests/support/client-fixture.h"

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
        tcase_add_test(of_streams, stream_ids_are_one_of_a_kind);
        suite_add_tcase(suite, in);
        suite_add_tcase(suite, out);
        suite_add_tcase(suite, of_streams);
        return suite;
}

CHECK_MAIN(client_suite);
