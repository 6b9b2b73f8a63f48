/* SPDX-License-Identifier: MIT */

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/check-main.h"

static int n_fds_before;
static int pair[2];

static void setup(void) {
        n_fds_before = open_fds_count();
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static void teardown(void) {
        pair[0] = fd_close(pair[0]);
        pair[1] = fd_close(pair[1]);
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

START_TEST(closing_keeps_errno_and_ignores_what_is_closed)
{
        errno = EXDEV;
        ck_assert_int_eq(fd_close(-1), -1);
        ck_assert_int_eq(fd_close(12345), -1);
        ck_assert_int_eq(errno, EXDEV);
}
END_TEST

START_TEST(a_scope_closes_its_descriptor)
{
        int raw;

        {
                CLEANUP(fd_close) int fd = dup(pair[0]);
                CLEANUP(fd_close) int none = -1;
                CLEANUP(fd_close) int moved = dup(pair[0]);

                raw = TAKE_FD(moved);
                ck_assert_int_ge(fd, 0);
                ck_assert_int_eq(none, -1);
                ck_assert_int_eq(moved, -1);
        }
        ck_assert_int_ge(fcntl(raw, F_GETFD), 0);
        (void)fd_close(raw);
}
END_TEST

#define MUCH (1024 * 1024)

static void *write_much(void *userdata) {
        static char data[MUCH];

        memset(data, 'w', sizeof(data));
        return (void *)(intptr_t)fd_write_all(*(int *)userdata, data, sizeof(data));
}

START_TEST(all_is_written_and_read_through_a_small_pipe)
{
        static char data[MUCH + 1];
        pthread_t thread;
        void *result;
        int fds[2];

        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        ck_assert_int_eq(pthread_create(&thread, NULL, write_much, &fds[1]), 0);
        ck_assert_int_eq(fd_read_full(fds[0], data, MUCH / 2), MUCH / 2);
        ck_assert_int_eq(fd_read_full(fds[0], data, MUCH / 2), MUCH / 2);
        ck_assert_int_eq(pthread_join(thread, &result), 0);
        ck_assert_ptr_null(result);
        ck_assert_int_eq(fd_write_all(fds[1], "abc", 3), 0);
        (void)fd_close(fds[1]);
        ck_assert_int_eq(fd_read_full(fds[0], data, sizeof(data)), 3);
        ck_assert_mem_eq(data, "abc", 3);
        ck_assert_int_eq(fd_read_full(fds[0], data, sizeof(data)), 0);
        (void)fd_close(fds[0]);
}
END_TEST

START_TEST(errors_are_returned)
{
        char c;

        ck_assert_int_eq(fd_write_all(-1, "x", 1), -EBADF);
        ck_assert_int_eq(fd_write_all(-1, "x", 0), 0);
        ck_assert_int_eq(fd_read_full(-1, &c, 1), -EBADF);
        ck_assert_int_eq(fd_set_nonblock(-1, 1), -EBADF);
        ck_assert_int_eq(fd_send(-1, "x", 1, NULL, 0), -EBADF);
}
END_TEST

START_TEST(blocking_is_switched)
{
        char c;

        ck_assert_int_eq(fd_set_nonblock(pair[0], 1), 0);
        ck_assert_int_eq(fd_read_full(pair[0], &c, 1), -EAGAIN);
        ck_assert_int_eq(fd_set_nonblock(pair[0], 0), 0);
        ck_assert_int_eq(fcntl(pair[0], F_GETFL) & O_NONBLOCK, 0);
}
END_TEST

START_TEST(descriptors_travel_in_order_and_close_on_exec)
{
        int fds[FD_PASS_MAX], got[FD_PASS_MAX];
        char data[8] = "";
        size_t n = 77;

        for (size_t i = 0; i < FD_PASS_MAX; i++) {
                fds[i] = open("/dev/null", O_RDONLY);
                ck_assert_int_eq(fcntl(fds[i], F_SETFL, i % 2 ? O_NONBLOCK : 0), 0);
        }
        ck_assert_int_eq(fd_send(pair[0], "hello", 5, fds, FD_PASS_MAX), 5);
        ck_assert_int_eq(fd_receive(pair[1], data, sizeof(data), got, &n), 5);
        ck_assert_uint_eq(n, FD_PASS_MAX);
        ck_assert_str_eq(data, "hello");
        for (size_t i = 0; i < FD_PASS_MAX; i++) {
                ck_assert_int_eq(fcntl(got[i], F_GETFD), FD_CLOEXEC);
                ck_assert_int_eq(!!(fcntl(got[i], F_GETFL) & O_NONBLOCK), (int)(i % 2));
                (void)fd_close(fds[i]);
                (void)fd_close(got[i]);
        }
}
END_TEST

START_TEST(a_message_may_carry_none)
{
        int got[FD_PASS_MAX];
        char c = 0;
        size_t n = 77;

        ck_assert_int_eq(fd_send(pair[0], "x", 1, NULL, 0), 1);
        ck_assert_int_eq(fd_receive(pair[1], &c, 1, got, &n), 1);
        ck_assert_uint_eq(n, 0);
        ck_assert_int_eq(c, 'x');
        pair[0] = fd_close(pair[0]);
        ck_assert_int_eq(fd_receive(pair[1], &c, 1, got, &n), 0);
        ck_assert_uint_eq(n, 0);
}
END_TEST

/* The kernel then says ECONNRESET first. */
START_TEST(what_a_peer_said_that_ended_without_reading_is_heard)
{
        int got[FD_PASS_MAX];
        char c = 0;
        size_t n = 77;

        ck_assert_int_eq(fd_send(pair[1], "unread", 6, NULL, 0), 6);
        ck_assert_int_eq(fd_send(pair[0], "x", 1, pair, 1), 1);
        ck_assert_int_eq(fd_send(pair[0], "y", 1, NULL, 0), 1);
        pair[0] = fd_close(pair[0]);
        ck_assert_int_eq(fd_receive(pair[1], &c, 1, got, &n), 1);
        ck_assert_int_eq(c, 'x');
        ck_assert_uint_eq(n, 1);
        (void)fd_close(got[0]); /* the last one of that end, as it was on its way to the other */
        ck_assert_int_eq(fd_receive(pair[1], &c, 1, got, &n), 1);
        ck_assert_int_eq(c, 'y');
        ck_assert_int_eq(fd_receive(pair[1], &c, 1, got, &n), 0);
}
END_TEST

START_TEST(a_message_that_is_cut_off_leaves_no_descriptor)
{
        int got[FD_PASS_MAX], before = open_fds_count();
        char c;
        size_t n = 77;

        ck_assert_int_eq(fd_send(pair[0], "too long", 8, pair, 2), 8);
        ck_assert_int_eq(fd_receive(pair[1], &c, 1, got, &n), -EMSGSIZE);
        ck_assert_uint_eq(n, 0);
        ck_assert_int_eq(open_fds_count(), before);
}
END_TEST

START_TEST(more_descriptors_than_there_is_room_for_are_closed)
{
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * (FD_PASS_MAX + 4))] = { 0 };
        struct iovec iov = { .iov_base = (void *)(uintptr_t) "x", .iov_len = 1 };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        int got[FD_PASS_MAX], before = open_fds_count();
        char c;
        size_t n = 77;

        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int) * (FD_PASS_MAX + 4));
        for (size_t i = 0; i < FD_PASS_MAX + 4; i++)
                memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &pair[0], sizeof(int));
        ck_assert_int_eq(sendmsg(pair[0], &msg, 0), 1);
        ck_assert_int_eq(fd_receive(pair[1], &c, 1, got, &n), -EMSGSIZE);
        ck_assert_uint_eq(n, 0);
        ck_assert_int_eq(open_fds_count(), before);
}
END_TEST

START_TEST(a_peer_that_is_gone_is_an_error_and_no_signal)
{
        pair[1] = fd_close(pair[1]);
        ck_assert_ptr_ne(signal(SIGPIPE, SIG_DFL), SIG_ERR);
        ck_assert_int_eq(fd_send(pair[0], "x", 1, NULL, 0), -EPIPE);
}
END_TEST

static Suite *fd_suite(void) {
        Suite *suite = suite_create("fd");
        TCase *plain = tcase_create("plain"), *pass = tcase_create("pass");

        tcase_add_checked_fixture(plain, setup, teardown);
        tcase_add_test(plain, closing_keeps_errno_and_ignores_what_is_closed);
        tcase_add_test(plain, a_scope_closes_its_descriptor);
        tcase_add_test(plain, all_is_written_and_read_through_a_small_pipe);
        tcase_add_test(plain, errors_are_returned);
        tcase_add_test(plain, blocking_is_switched);
        tcase_add_checked_fixture(pass, setup, teardown);
        tcase_add_test(pass, descriptors_travel_in_order_and_close_on_exec);
        tcase_add_test(pass, a_message_may_carry_none);
        tcase_add_test(pass, what_a_peer_said_that_ended_without_reading_is_heard);
        tcase_add_test(pass, a_message_that_is_cut_off_leaves_no_descriptor);
        tcase_add_test(pass, more_descriptors_than_there_is_room_for_are_closed);
        tcase_add_test(pass, a_peer_that_is_gone_is_an_error_and_no_signal);
        suite_add_tcase(suite, plain);
        suite_add_tcase(suite, pass);
        return suite;
}

CHECK_MAIN(fd_suite);
