/* SPDX-License-Identifier: MIT */

/* Writing without waiting: to pipes that are full, files, sockets, and to nobody. */

#include "client/cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/support/check-main.h"

#define LOT (3 * 1024 * 1024)

static int fds[2];
static int n_fds;
static Output output;
static uint8_t *lot; /* LOT bytes that are not all the same */

static void setup(void) {
        n_fds = open_fds_count();
        (void)signal(SIGPIPE, SIG_IGN);
        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        output_init(&output, fds[1]);
        lot = malloc(LOT);
        for (size_t i = 0; i < LOT; i++)
                lot[i] = (uint8_t)(i ^ i >> 8 ^ i >> 16);
}

static void teardown(void) {
        output_deinit(&output);
        fds[0] = fd_close(fds[0]);
        fds[1] = fd_close(fds[1]);
        free(lot);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

/* Reads all while the rest is being written, and compares. */
static void read_all(size_t size) {
        uint8_t *got = malloc(size);
        size_t done = 0;
        ssize_t n;

        ck_assert_int_eq(fd_set_nonblock(fds[0], 1), 0);
        while (done < size) {
                n = read(fds[0], got + done, size - done);
                if (n > 0)
                        done += (size_t)n;
                else
                        ck_assert_int_eq(output_settle(&output), 0);
        }
        ck_assert_mem_eq(got, lot, size);
        ck_assert_int_eq(output_settle(&output), 0);
        ck_assert_uint_eq(output.pending, 0);
        ck_assert_int_lt(read(fds[0], got, 1), 0);
        free(got);
}

START_TEST(a_full_pipe_is_not_waited_for)
{
        ck_assert_int_eq(output.kind, OUTPUT_NONBLOCK);
        ck_assert_int_eq(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0); /* what others share is left alone */
        ck_assert_int_eq(output_add(&output, lot, LOT), 0);
        ck_assert_int_eq(output_settle(&output), 0);
        ck_assert_uint_gt(output.pending, 0);
        ck_assert_uint_lt(output.pending, LOT);
        read_all(LOT);
}
END_TEST

START_TEST(many_small_pieces_stay_in_order)
{
        for (size_t i = 0; i < LOT / 2; i += 7)
                ck_assert_int_eq(output_add(&output, lot + i, MIN((size_t)7, LOT / 2 - i)), 0);
        ck_assert_int_eq(output_settle(&output), 0);
        read_all(LOT / 2);
}
END_TEST

START_TEST(what_was_added_may_go_away_after_settling)
{
        uint8_t *copy = malloc(LOT);

        memcpy(copy, lot, LOT);
        ck_assert_int_eq(output_add(&output, copy, LOT), 0);
        ck_assert_int_eq(output_settle(&output), 0);
        memset(copy, 0, LOT);
        free(copy);
        read_all(LOT);
}
END_TEST

START_TEST(a_pipe_that_cannot_be_opened_again_is_polled)
{
        close(output.write_fd);
        output.write_fd = fds[1];
        output.kind = OUTPUT_POLLED;
        ck_assert_int_eq(output_add(&output, lot, LOT), 0);
        ck_assert_int_eq(output_settle(&output), 0);
        ck_assert_uint_gt(output.pending, 0);
        read_all(LOT);
}
END_TEST

START_TEST(nobody_reading_is_an_error_that_stays)
{
        fds[0] = fd_close(fds[0]);
        ck_assert_int_eq(output_add(&output, lot, 10), 0);
        ck_assert_int_eq(output_settle(&output), -EPIPE);
        ck_assert_uint_eq(output.pending, 0);
        ck_assert_int_eq(output_add(&output, lot, 10), -EPIPE);
        ck_assert_int_eq(output_settle(&output), -EPIPE);
}
END_TEST

START_TEST(a_socket_is_written_without_waiting)
{
        Output to_socket;
        int pair[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        output_init(&to_socket, pair[1]);
        ck_assert_int_eq(to_socket.kind, OUTPUT_SOCKET);
        ck_assert_int_eq(output_add(&to_socket, lot, LOT), 0);
        ck_assert_int_eq(output_settle(&to_socket), 0);
        ck_assert_uint_gt(to_socket.pending, 0);
        output_deinit(&to_socket);
        close(pair[0]);
        close(pair[1]);
}
END_TEST

START_TEST(the_same_place_is_recognized)
{
        int twin = dup(fds[1]), other = open("/dev/null", O_WRONLY);

        ck_assert(output_same(fds[1], twin));
        ck_assert(!output_same(fds[1], other));
        ck_assert(!output_same(fds[1], -1));
        close(twin);
        close(other);
}
END_TEST

static Suite *output_suite(void) {
        Suite *suite = suite_create("output");
        TCase *writing = tcase_create("writing");

        tcase_add_checked_fixture(writing, setup, teardown);
        tcase_add_test(writing, a_full_pipe_is_not_waited_for);
        tcase_add_test(writing, many_small_pieces_stay_in_order);
        tcase_add_test(writing, what_was_added_may_go_away_after_settling);
        tcase_add_test(writing, a_pipe_that_cannot_be_opened_again_is_polled);
        tcase_add_test(writing, nobody_reading_is_an_error_that_stays);
        tcase_add_test(writing, a_socket_is_written_without_waiting);
        tcase_add_test(writing, the_same_place_is_recognized);
        suite_add_tcase(suite, writing);
        return suite;
}

CHECK_MAIN(output_suite);
