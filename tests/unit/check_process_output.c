/* SPDX-License-Identifier: MIT */

/* What outputs hold when a run is over, in the whole engine of engine-fixture.h: it is in the log before
 * anything else is begun or ended. */

#include "daemon/engine/process.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include "daemon/engine/limits.h"

#include "tests/support/engine-requests.h"

static FixtureClient client;
static Process *process;
static FakeChild *child;
static size_t n_written;
static int stranger_fd; /* owned; also writes to stdout */
static unsigned n_refills, n_refills_max;
static int n_fds_before;

/* Whenever something is taken out of a pipe the stranger writes again. */
ssize_t splice(int from_fd, off64_t *from, int to_fd, off64_t *to, size_t size, unsigned flags);
ssize_t splice(int from_fd, off64_t *from, int to_fd, off64_t *to, size_t size, unsigned flags) {
        ssize_t n = syscall(SYS_splice, from_fd, from, to_fd, to, size, flags);

        if (n > 0 && n_refills < n_refills_max) {
                n_refills++;
                ck_assert_int_eq(write(stranger_fd, "more", 4), 4);
        }
        return n;
}

/* A program has ended, of which a descendant lives on. */
static void setup(void) {
        n_fds_before = open_fds_count();
        n_written = n_refills = n_refills_max = 0;
        fixture_open();
        fixture_connect(&client);
        fixture_hello(&client);
        (void)ask_by(&client, "run", "{\"argv\":[\"cat\"],\"retention_bytes\":65536}");
        fixture_settle(&client);
        process = CONTAINER_OF(engine.supervisor.processes.next, Process, link);
        child = fake_child(process->id, process->run.run);
        ck_assert_ptr_nonnull(child);
        ck_assert_int_eq(fcntl(child->fds[1], F_SETPIPE_SZ, LIMIT_WIDE_PIPE_BYTES), LIMIT_WIDE_PIPE_BYTES);
        stranger_fd = fcntl(child->fds[1], F_DUPFD_CLOEXEC, 3);
        ck_assert_int_ge(stranger_fd, 0);
        memcpy(child->name, "hold", 5);
}

static void teardown(void) {
        stranger_fd = fd_close(stranger_fd);
        fixture_disconnect(&client);
        fixture_clean();
        fixture_close();
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

static void write_bytes(size_t size) {
        static const uint8_t bytes[LIMIT_WIDE_PIPE_BYTES];

        ck_assert_int_eq(write(stranger_fd, bytes, size), (ssize_t)size);
        n_written += size;
}

static size_t log_size(void) {
        Log *log;

        ck_assert_int_eq(process_log(process, &log, NULL), 0);
        return log_end(log);
}

/* The main process has ended; the tree has written since, which lies in a pipe that is not watched as yet. */
static void end_but_for_the_tree(size_t size) {
        fake_child_exit(child, CLD_EXITED, 0);
        fixture_settle(&client);
        ck_assert(!process_is_alive(process) && !process->exit_pending);
        (void)event_del(&process->outputs[0].event);
        write_bytes(size);
}

/* A lossless reader needs all there is, and the log can take no more. */
static void fill_log(void) {
        Log *log;

        ck_assert_int_eq(process_log(process, &log, NULL), 0);
        log_set_floor(log, 0);
        write_bytes(300000);
        fixture_settle(&client);
        ck_assert(process->waits_for_reader);
        ck_assert_uint_lt(log_size(), n_written);
}

START_TEST(what_a_tree_wrote_last_is_logged_before_it_runs_anew)
{
        end_but_for_the_tree(100000);
        if (_i == 0) /* there is none but the descendant, which keeps an end of its own */
                stranger_fd = fd_close(stranger_fd);
        (void)ask_by(&client, "restart", "{\"target\":1,\"grace_usec\":0}");
        fixture_settle(&client);
        ck_assert_uint_eq(process->run.run, 2);
        ck_assert(process_is_alive(process));
        ck_assert_uint_eq(log_size(), n_written);
}
END_TEST

START_TEST(it_runs_anew_when_a_reader_has_let_all_of_it_into_the_log)
{
        fake_child_exit(child, CLD_EXITED, 0);
        fixture_settle(&client);
        fill_log();
        (void)ask_by(&client, "restart", "{\"target\":1,\"grace_usec\":0}");
        fixture_settle(&client);
        ck_assert_uint_eq(process->run.run, 1);
        process_reader_moved(process);
        fixture_settle(&client);
        ck_assert_uint_eq(process->run.run, 2);
        ck_assert_uint_eq(log_size(), n_written);
}
END_TEST

START_TEST(a_stranger_that_writes_on_and_on_holds_nobody_up)
{
        end_but_for_the_tree(1000);
        n_refills_max = 1000;
        if (_i == 0) {
                (void)ask_by(&client, "restart", "{\"target\":1,\"grace_usec\":0}");
                fixture_settle(&client);
                ck_assert_uint_eq(process->run.run, 2);
        } else {
                fake_child_empty(child);
                fixture_settle(&client);
                (void)event_del(&process->outputs[0].event);
                n_refills = 0;
                ck_assert_int_eq(write(stranger_fd, "more", 4), 4);
                ck_assert_int_eq(process_start(process, NULL), -EBUSY);
        }
        ck_assert_uint_le(n_refills, 4);
        n_refills_max = 0;
        process_output_watch(process, 0);
}
END_TEST

/* As an engine finds it that came after the run: its lossless reader is awaited for a while. */
START_TEST(a_claim_goes_over_to_a_new_run_while_its_reader_is_awaited)
{
        child->name[0] = 'c';
        fake_child_exit(child, CLD_EXITED, 0);
        stranger_fd = fd_close(stranger_fd);
        fixture_settle(&client);
        ck_assert(process_is_over(process));
        process->run.ended |= 1 << RUN_CLAIMS_SHIFT;
        process->claim_usec = clock_monotonic_usec();
        if (_i == 1)
                process->claim_usec += 60 * USEC_PER_SEC;
        ck_assert_int_eq(process_start(process, NULL), 0);
        ck_assert_uint_eq(process->run.ended >> RUN_CLAIMS_SHIFT & RUN_CLAIMS_MAX, (unsigned)_i);
        ck_assert_int_eq(process->claim_usec != 0, _i);
        fixture_settle(&client);
}
END_TEST

/* What is not in the log when the keeper is told is lost. */
START_TEST(a_daemon_stops_when_all_that_was_written_is_logged)
{
        if (_i == 0)
                end_but_for_the_tree(100000);
        else if (_i == 1) {
                end_but_for_the_tree(0);
                process_output_watch(process, 0);
                fill_log();
        } else {
                child->name[0] = 'c'; /* nothing lives on: there is nothing to stop */
                fill_log();
                fake_child_exit(child, CLD_EXITED, 0);
                fixture_settle(&client);
                ck_assert(process->exit_pending && (process->run.ended & RUN_EMPTY));
        }
        (void)ask_by(&client, "daemon-stop", "{\"grace_usec\":0}");
        for (unsigned i = 0; i < 100 && !engine.told_keeper; i++)
                (void)fixture_turn();
        ck_assert(engine.told_keeper);
        ck_assert_uint_eq(log_size(), n_written);
        ck_assert(process->run.ended & RUN_LOGGED_EXIT);
        process_output_watch(process, 0);
}
END_TEST

static Suite *process_output_suite(void) {
        Suite *suite = suite_create("process-output");
        TCase *tcase = tcase_create("over");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_loop_test(tcase, what_a_tree_wrote_last_is_logged_before_it_runs_anew, 0, 2);
        tcase_add_test(tcase, it_runs_anew_when_a_reader_has_let_all_of_it_into_the_log);
        tcase_add_loop_test(tcase, a_stranger_that_writes_on_and_on_holds_nobody_up, 0, 2);
        tcase_add_loop_test(tcase, a_claim_goes_over_to_a_new_run_while_its_reader_is_awaited, 0, 2);
        tcase_add_loop_test(tcase, a_daemon_stops_when_all_that_was_written_is_logged, 0, 3);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(process_output_suite);
