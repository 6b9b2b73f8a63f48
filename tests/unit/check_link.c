/* SPDX-License-Identifier: MIT */

/* Frames over a socket: in pieces, in crowds, and as large as they may be. */

#include "client/libpmux/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "tests/support/check-main.h"

static Link the_link;
static int peer;
static int n_fds;

static void setup(void) {
        int fds[2];

        n_fds = open_fds_count();
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        link_init(&the_link);
        ck_assert_int_eq(link_attach(&the_link, fds[0]), 0);
        peer = fds[1];
}

static void teardown(void) {
        link_deinit(&the_link);
        peer = fd_close(peer);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static void peer_send(const void *data, size_t size) {
        ck_assert_int_eq(send(peer, data, size, 0), (ssize_t)size);
}

START_TEST(a_frame_may_arrive_byte_by_byte)
{
        uint8_t bytes[FRAME_HEADER_SIZE + 3] = { [FRAME_HEADER_SIZE] = 'a', 'b', 'c' };
        uint8_t *payload;
        FrameHeader header;

        frame_header_encode(bytes, &(FrameHeader){ .size = 3, .type = FRAME_CONTROL });
        for (size_t i = 0; i < sizeof(bytes); i++) {
                ck_assert_int_eq(link_next(&the_link, &header, &payload, NULL), 0);
                ck_assert_int_eq(link_receive(&the_link), -EAGAIN);
                peer_send(bytes + i, 1);
                ck_assert_int_eq(link_receive(&the_link), 1);
        }
        ck_assert_int_eq(link_next(&the_link, &header, &payload, NULL), 1);
        ck_assert_uint_eq(header.size, 3);
        ck_assert_mem_eq(payload, "abc", 3);
        ck_assert_int_eq(link_next(&the_link, &header, &payload, NULL), 0);
}
END_TEST

START_TEST(many_frames_may_arrive_at_once)
{
        uint8_t bytes[100 * (FRAME_HEADER_SIZE + 1)];
        uint8_t *payload;
        FrameHeader header;

        for (size_t i = 0; i < 100; i++) {
                frame_header_encode(bytes + i * (FRAME_HEADER_SIZE + 1),
                                    &(FrameHeader){ .size = 1, .type = FRAME_CONTROL });
                bytes[i * (FRAME_HEADER_SIZE + 1) + FRAME_HEADER_SIZE] = (uint8_t)i;
        }
        peer_send(bytes, sizeof(bytes) - 1);
        ck_assert_int_eq(link_receive(&the_link), 1);
        for (size_t i = 0; i < 99; i++) {
                ck_assert_int_eq(link_next(&the_link, &header, &payload, NULL), 1);
                ck_assert_uint_eq(*payload, i);
        }
        ck_assert_int_eq(link_next(&the_link, &header, &payload, NULL), 0);
        peer_send(bytes + sizeof(bytes) - 1, 1);
        ck_assert_int_eq(link_receive(&the_link), 1);
        ck_assert_int_eq(link_next(&the_link, &header, &payload, NULL), 1);
        ck_assert_uint_eq(*payload, 99);
}
END_TEST

START_TEST(a_large_frame_makes_the_buffer_grow_and_shrink)
{
        size_t size = 5 * 1024 * 1024, done = 0;
        uint8_t head[FRAME_HEADER_SIZE], chunk[64 * 1024];
        uint8_t *payload;
        FrameHeader header;

        memset(chunk, 'x', sizeof(chunk));
        frame_header_encode(head, &(FrameHeader){ .size = (uint32_t)size, .type = FRAME_CONTROL });
        peer_send(head, sizeof(head));
        while (done < size) {
                peer_send(chunk, sizeof(chunk));
                done += sizeof(chunk);
                ck_assert_int_eq(link_receive(&the_link), 1);
                ck_assert_int_eq(link_next(&the_link, &header, &payload, NULL), done == size);
        }
        ck_assert_uint_eq(payload[size - 1], 'x');
        ck_assert_int_eq(link_receive(&the_link), -EAGAIN);
        ck_assert_uint_lt(the_link.in_size, 1024 * 1024);
}
END_TEST

/* The size is checked before room is made for it: a hostile one takes no memory. */
START_TEST(a_frame_that_is_too_large_is_refused_by_its_header)
{
        uint8_t head[FRAME_HEADER_SIZE];
        uint8_t *payload;
        FrameHeader header;
        Error error = {};

        frame_header_encode(head, &(FrameHeader){ .size = UINT32_MAX, .type = FRAME_DATA });
        peer_send(head, sizeof(head));
        ck_assert_int_eq(link_receive(&the_link), 1);
        ck_assert_int_eq(link_next(&the_link, &header, &payload, &error), -EPROTO);
        ck_assert_int_eq(error.code, ERROR_PROTOCOL);
        ck_assert_uint_lt(the_link.in_size, 1024 * 1024);
}
END_TEST

START_TEST(what_does_not_go_out_waits)
{
        static uint8_t lot[1024 * 1024], got[64 * 1024];
        const FrameHeader header = { .size = sizeof(lot), .type = FRAME_INPUT };
        size_t total = 3 * (FRAME_HEADER_SIZE + sizeof(lot)), sum = 0;
        ssize_t n;

        for (int i = 0; i < 3; i++)
                ck_assert_int_eq(link_queue(&the_link, &header, lot, 8, lot + 8, sizeof(lot) - 8), 0);
        ck_assert_uint_eq(link_pending(&the_link), total);
        ck_assert_int_eq(link_flush(&the_link), -EAGAIN);
        while (sum < total) {
                n = recv(peer, got, sizeof(got), MSG_DONTWAIT);
                if (n > 0)
                        sum += (size_t)n;
                else
                        (void)link_flush(&the_link);
        }
        ck_assert_int_eq(link_flush(&the_link), 0);
        ck_assert_uint_eq(link_pending(&the_link), 0);
}
END_TEST

START_TEST(the_other_end_s_close_is_seen)
{
        peer = fd_close(peer);
        ck_assert_int_eq(link_receive(&the_link), 0);
}
END_TEST

static Suite *link_suite(void) {
        Suite *suite = suite_create("link");
        TCase *frames = tcase_create("frames");

        tcase_add_checked_fixture(frames, setup, teardown);
        tcase_add_test(frames, a_frame_may_arrive_byte_by_byte);
        tcase_add_test(frames, many_frames_may_arrive_at_once);
        tcase_add_test(frames, a_large_frame_makes_the_buffer_grow_and_shrink);
        tcase_add_test(frames, a_frame_that_is_too_large_is_refused_by_its_header);
        tcase_add_test(frames, what_does_not_go_out_waits);
        tcase_add_test(frames, the_other_end_s_close_is_seen);
        suite_add_tcase(suite, frames);
        return suite;
}

CHECK_MAIN(link_suite);
