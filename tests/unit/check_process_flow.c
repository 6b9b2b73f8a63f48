/* SPDX-License-Identifier: MIT */

/* When the pipes of a process are emptied and how much they hold, with a clock of our own and processes that
 * are nothing but pipes. */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/process.h"

#include "tests/support/check-main.h"

#define N_PROCESSES (LIMIT_WIDE_PIPES + 2)

static uint64_t now_usec;
static unsigned n_readable;
static bool is_refusing; /* the kernel, to widen a pipe */
static ProcessHost host;
static Process processes[N_PROCESSES];
static int write_fds[N_PROCESSES];
static int keeper_fd;

uint64_t clock_monotonic_usec(void) {
        return now_usec;
}

uint64_t clock_realtime_usec(void) {
        return now_usec;
}

int fcntl(int fd, int command, ...);
int fcntl(int fd, int command, ...) {
        va_list ap;
        long argument;

        va_start(ap, command);
        argument = va_arg(ap, long);
        va_end(ap);
        if (is_refusing && command == F_SETPIPE_SZ) {
                errno = EPERM;
                return -1;
        }
        return (int)syscall(SYS_fcntl, fd, command, argument);
}

static void on_readable(evutil_socket_t fd, short what, void *userdata) {
        (void)fd;
        (void)what;
        (void)userdata;
        n_readable++;
}

static const KeeperLinkOps no_ops;

/* A link to a keeper that takes all and says nothing. */
static void open_link(void) {
        const KeeperMessage ready = { .type = KEEPER_READY };
        Handover handover = {};
        int fds[2];

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
        keeper_fd = fds[1];
        ck_assert_int_eq(keeper_message_send(keeper_fd, &ready, NULL, 0), 0);
        ck_assert_int_eq(keeper_link_new(&host.link, fds[0], host.base, &no_ops, NULL, &handover, NULL), 0);
        handover_deinit(&handover);
}

static void setup(void) {
        int fds[2];

        now_usec = 1000000000;
        n_readable = 0;
        is_refusing = false;
        host = (ProcessHost){ .base = event_base_new() };
        open_link();
        for (unsigned i = 0; i < N_PROCESSES; i++) {
                ck_assert_int_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
                processes[i] = (Process){ .host = &host };
                for (unsigned j = 0; j < 2; j++)
                        process_stage_init(&processes[i].outputs[j].stage);
                list_init(&processes[i].readers);
                list_init(&processes[i].watches);
                processes[i].outputs[0].fd = fds[0];
                processes[i].outputs[1].fd = -1;
                processes[i].outputs[0].turn_usec = (uint32_t)now_usec;
                write_fds[i] = fds[1];
                (void)event_assign(&processes[i].outputs[0].event, host.base, fds[0], EV_READ | EV_PERSIST,
                                   on_readable, &processes[i]);
                (void)event_add(&processes[i].outputs[0].event, NULL);
        }
}

static void teardown(void) {
        for (unsigned i = 0; i < N_PROCESSES; i++) {
                (void)event_del(&processes[i].outputs[0].event);
                process_flow_end(&processes[i], 0);
                process_stage_close(&processes[i], 0);
                (void)fd_close(processes[i].outputs[0].fd);
                (void)fd_close(write_fds[i]);
        }
        ck_assert_ptr_null(host.flows); /* and its timer */
        host.link = keeper_link_free(host.link);
        keeper_fd = fd_close(keeper_fd);
        event_base_free(host.base);
}

/* A turn that comes so long after the one before, and moves so much. */
static void turn(unsigned i, uint64_t passed_usec, size_t total) {
        now_usec += passed_usec;
        process_flow_turn(&processes[i], 0, total);
}

static bool is_watched(unsigned i) {
        return event_pending(&processes[i].outputs[0].event, EV_READ, NULL);
}

static int pipe_size(unsigned i) {
        return fcntl(processes[i].outputs[0].fd, F_GETPIPE_SZ, 0L);
}

START_TEST(what_comes_slowly_is_watched)
{
        for (unsigned n = 0; n < 100; n++) {
                turn(0, 40, 32);
                ck_assert(is_watched(0));
                turn(0, 5000, 30000);
                ck_assert(is_watched(0));
        }
        ck_assert_ptr_null(processes[0].outputs[0].flow);
}
END_TEST

START_TEST(what_flows_is_left_to_fill_until_it_flows_no_more)
{
        turn(0, 100, 4000);
        ck_assert(!is_watched(0));
        turn(0, 100, 4000);
        ck_assert(!is_watched(0));
        turn(0, 100, 0);
        ck_assert(is_watched(0));
}
END_TEST

START_TEST(a_pipe_that_fills_at_once_is_not_left_alone)
{
        for (unsigned n = 0; n < 10; n++)
                turn(0, 100, LIMIT_WIDE_PIPE_BYTES);
        ck_assert(is_watched(0));
}
END_TEST

START_TEST(the_timer_reads_what_has_gathered)
{
        char byte = 'x';

        turn(0, 100, 4000);
        ck_assert_int_eq(write(write_fds[0], &byte, 1), 1);
        ck_assert(!is_watched(0));
        /* the process has no log: that the turn was called shows in its waiting for one */
        processes[0].config.retention_bytes = RETENTION_MIN_BYTES;
        host.state_dir = "/nonexistent";
        while (!processes[0].waits_for_disk)
                ck_assert_int_eq(event_base_loop(host.base, EVLOOP_ONCE), 0);
        ck_assert(!is_watched(0));
        ck_assert_uint_eq(n_readable, 0);
        event_free(processes[0].timer);
        processes[0].timer = NULL;
}
END_TEST

START_TEST(a_blocked_output_is_not_read_by_the_timer)
{
        char byte = 'x';

        turn(0, 100, 4000);
        turn(1, 100, 4000);
        ck_assert_int_eq(write(write_fds[0], &byte, 1), 1);
        process_flow_pause(&processes[0], 0);
        host.state_dir = "/nonexistent";
        while (!processes[1].waits_for_disk)
                ck_assert_int_eq(event_base_loop(host.base, EVLOOP_ONCE), 0);
        ck_assert(!processes[0].waits_for_disk);
        event_free(processes[1].timer);
        processes[1].timer = NULL;
}
END_TEST

START_TEST(a_full_pipe_is_widened_once)
{
        turn(0, 100, LIMIT_PIPE_BYTES - 1);
        ck_assert_int_eq(pipe_size(0), LIMIT_PIPE_BYTES);
        turn(0, 100, LIMIT_PIPE_BYTES);
        ck_assert_int_eq(pipe_size(0), LIMIT_WIDE_PIPE_BYTES);
        ck_assert_int_ge(processes[0].outputs[0].stage.read_fd, 0);
        turn(0, 100, LIMIT_WIDE_PIPE_BYTES);
        ck_assert_uint_eq(process_flow_n_wide(&host), 1);
        process_flow_end(&processes[0], 0);
        ck_assert_uint_eq(process_flow_n_wide(&host), 0);
}
END_TEST

START_TEST(only_so_many_are_wide_and_the_one_that_rests_gives_way)
{
        for (unsigned i = 0; i < N_PROCESSES; i++)
                for (unsigned n = 0; n < 3; n++)
                        turn(i, 100, LIMIT_PIPE_BYTES);
        ck_assert_uint_eq(process_flow_n_wide(&host), LIMIT_WIDE_PIPES);
        ck_assert_int_eq(pipe_size(N_PROCESSES - 1), LIMIT_PIPE_BYTES);
        now_usec += 2000000;
        turn(N_PROCESSES - 1, 100, LIMIT_PIPE_BYTES);
        turn(N_PROCESSES - 1, 100, LIMIT_PIPE_BYTES);
        ck_assert_uint_eq(process_flow_n_wide(&host), LIMIT_WIDE_PIPES);
        ck_assert_int_eq(pipe_size(N_PROCESSES - 1), LIMIT_WIDE_PIPE_BYTES);
        ck_assert_int_eq(pipe_size(0), LIMIT_PIPE_BYTES);
        ck_assert_int_lt(processes[0].outputs[0].stage.read_fd, 0);
}
END_TEST

START_TEST(a_kernel_that_refuses_is_not_asked_again)
{
        is_refusing = true;
        turn(0, 100, LIMIT_PIPE_BYTES);
        turn(0, 100, LIMIT_PIPE_BYTES);
        is_refusing = false;
        turn(0, 100, LIMIT_PIPE_BYTES);
        ck_assert_uint_eq(process_flow_n_wide(&host), 0);
        ck_assert_int_eq(pipe_size(0), LIMIT_PIPE_BYTES);
}
END_TEST

START_TEST(the_next_engine_counts_what_is_wide)
{
        ck_assert_int_eq(fcntl(processes[1].outputs[0].fd, F_SETPIPE_SZ, (long)LIMIT_WIDE_PIPE_BYTES),
                         LIMIT_WIDE_PIPE_BYTES);
        process_flow_adopt(&processes[0], 0);
        process_flow_adopt(&processes[1], 0);
        ck_assert_uint_eq(process_flow_n_wide(&host), 1);
}
END_TEST

static Suite *process_flow_suite(void) {
        Suite *suite = suite_create("process-flow");
        TCase *pace = tcase_create("pace"), *width = tcase_create("width");

        tcase_add_checked_fixture(pace, setup, teardown);
        tcase_add_test(pace, what_comes_slowly_is_watched);
        tcase_add_test(pace, what_flows_is_left_to_fill_until_it_flows_no_more);
        tcase_add_test(pace, a_pipe_that_fills_at_once_is_not_left_alone);
        tcase_add_test(pace, the_timer_reads_what_has_gathered);
        tcase_add_test(pace, a_blocked_output_is_not_read_by_the_timer);
        suite_add_tcase(suite, pace);
        tcase_add_checked_fixture(width, setup, teardown);
        tcase_add_test(width, a_full_pipe_is_widened_once);
        tcase_add_test(width, only_so_many_are_wide_and_the_one_that_rests_gives_way);
        tcase_add_test(width, a_kernel_that_refuses_is_not_asked_again);
        tcase_add_test(width, the_next_engine_counts_what_is_wide);
        suite_add_tcase(suite, width);
        return suite;
}

CHECK_MAIN(process_flow_suite);
