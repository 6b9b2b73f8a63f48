/* SPDX-License-Identifier: MIT */

/* When the end of an output is told, in the whole engine of engine-fixture.h. */

#include "daemon/engine/process-ending.h"

#include "daemon/engine/process.h"

#include "tests/support/engine-requests.h"

#define BOTH_CLOSED (RUN_STDOUT_CLOSED | RUN_STDERR_CLOSED)

static FixtureClient client;
static Process *process;
static FakeChild *child;
static int n_fds_before;

/* A cat that lives. */
static void setup(void) {
        n_fds_before = open_fds_count();
        fixture_open();
        fixture_connect(&client);
        fixture_hello(&client);
        (void)ask_by(&client, "run", "{\"argv\":[\"cat\"]}");
        fixture_settle(&client);
        process = CONTAINER_OF(engine.supervisor.processes.next, Process, link);
        ck_assert(process_is_alive(process));
        child = fake_child(process->id, process->run.run);
        ck_assert_ptr_nonnull(child);
}

static void teardown(void) {
        fixture_disconnect(&client);
        fixture_clean();
        ck_assert(list_empty(&engine.supervisor.host.endings));
        fixture_close();
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

static void close_output(unsigned i) {
        child->fds[1 + i] = fd_close(child->fds[1 + i]);
}

static bool is_closed(unsigned bits) {
        return (process->run.ended & bits) == bits;
}

static void await_closed(unsigned bits) {
        uint64_t begin = clock_monotonic_usec();

        while (!is_closed(bits) && clock_monotonic_usec() - begin < 10 * USEC_PER_SEC)
                fixture_settle(&client);
        ck_assert(is_closed(bits));
}

START_TEST(an_output_that_ends_before_its_program_is_told_in_a_moment)
{
        close_output(1);
        (void)fixture_turn();
        ck_assert(!is_closed(RUN_STDERR_CLOSED));
        ck_assert(!event_pending(&process->outputs[1].event, EV_READ,
                                 NULL)); /* it would wake us all the time */
        await_closed(RUN_STDERR_CLOSED);
        ck_assert(!is_closed(RUN_STDOUT_CLOSED));
        ck_assert_int_lt(process->outputs[1].fd, 0);
        close_output(0);
        await_closed(BOTH_CLOSED);
        ck_assert(process_is_alive(process));
}
END_TEST

START_TEST(for_that_moment_the_other_output_does_not_wake_us)
{
        close_output(1);
        (void)fixture_turn();
        ck_assert(!event_pending(&process->outputs[0].event, EV_READ, NULL));
        ck_assert_int_eq(write(child->fds[1], "late", 4), 4);
        await_closed(RUN_STDERR_CLOSED);
        ck_assert(event_pending(&process->outputs[0].event, EV_READ, NULL));
        (void)fixture_turn();
        ck_assert_uint_eq(log_end(process->log), 4);
        ck_assert(!is_closed(RUN_STDOUT_CLOSED));
}
END_TEST

START_TEST(what_the_other_output_holds_comes_before_the_exit)
{
        close_output(1);
        (void)fixture_turn();
        ck_assert_int_eq(write(child->fds[1], "late", 4), 4);
        close_output(0);
        fake_child_exit(child, CLD_EXITED, 0);
        (void)fixture_turn();
        ck_assert(is_closed(BOTH_CLOSED | RUN_EXITED));
        ck_assert_uint_eq(log_end(process->log), 4);
}
END_TEST

START_TEST(with_the_end_of_its_program_it_is_told_at_once)
{
        close_output(1);
        (void)fixture_turn();
        close_output(0);
        (void)fixture_turn();
        ck_assert(!is_closed(RUN_STDERR_CLOSED));
        memcpy(child->name, "hold", 5); /* a descendant lives on */
        fake_child_exit(child, CLD_EXITED, 0);
        (void)fixture_turn();
        ck_assert(is_closed(BOTH_CLOSED | RUN_EXITED) && !is_closed(RUN_EMPTY));
        ck_assert(list_empty(&engine.supervisor.host.endings));
}
END_TEST

START_TEST(of_a_program_that_has_ended_it_is_told_at_once)
{
        int fd = TAKE_FD(child->fds[1]);

        memcpy(child->name, "hold", 5); /* a descendant keeps stdout */
        fake_child_exit(child, CLD_EXITED, 0);
        (void)fixture_turn();
        ck_assert(is_closed(RUN_EXITED) && !is_closed(RUN_STDOUT_CLOSED));
        (void)fd_close(fd);
        (void)fixture_turn();
        ck_assert(is_closed(RUN_STDOUT_CLOSED));
}
END_TEST

START_TEST(a_tree_that_could_not_be_watched_is_tried_again)
{
        memcpy(child->name, "hold", 5);
        fake_keeper.n_watches = 0;
        fake_keeper.watch_result = -EMFILE;
        fake_child_exit(child, CLD_EXITED, 0);
        (void)fixture_turn();
        ck_assert(is_closed(RUN_EXITED) && !is_closed(RUN_EMPTY));
        ck_assert_uint_gt(fake_keeper.n_watches, 0);
        fake_keeper.n_watches = 0;
        fake_keeper.watch_result = 1;
        for (unsigned i = 0; i < 3; i++)
                process_check_tree(process);
        ck_assert_uint_eq(fake_keeper.n_watches, 1);
        fake_keeper.watch_result = 0;
}
END_TEST

START_TEST(a_tree_of_which_nothing_can_be_told_is_looked_at_again_soon_and_ever_later)
{
        uint16_t wait_msec = 0;

        fake_keeper.n_untold = 6;
        fake_child_exit(child, CLD_EXITED, 0);
        while (fake_keeper.n_untold > 2) { /* the test's own timeout is the deadline */
                fixture_settle(&client);
                ck_assert_uint_ge(process->tree_wait_msec, wait_msec);
                wait_msec = process->tree_wait_msec;
        }
        ck_assert_uint_gt(wait_msec, TREE_RETRY_MIN_MSEC);
        ck_assert_uint_lt(wait_msec, TREE_RETRY_MSEC);
        ck_assert(!is_closed(RUN_EMPTY));
        await_closed(RUN_EMPTY);
        ck_assert_uint_eq(process->tree_wait_msec, 0);
}
END_TEST

START_TEST(a_process_that_goes_away_leaves_nothing_to_tell)
{
        close_output(0);
        (void)fixture_turn();
        ck_assert(!list_empty(&engine.supervisor.host.endings));
        process_outputs_close(process);
        ck_assert(list_empty(&engine.supervisor.host.endings));
        ck_assert(!process->outputs[0].is_ending);
        process_set_ended(process, BOTH_CLOSED);
}
END_TEST

START_TEST(nothing_is_left_to_tell_of_a_process_that_outlives_its_host)
{
        close_output(0);
        (void)fixture_turn();
        ck_assert(!list_empty(&engine.supervisor.host.endings));
        process_ending_deinit(&engine.supervisor.host); /* of a daemon that could not kill it */
        ck_assert(list_empty(&engine.supervisor.host.endings));
        process_outputs_close(process);
        process_set_ended(process, BOTH_CLOSED);
}
END_TEST

static Suite *process_ending_suite(void) {
        Suite *suite = suite_create("process-ending");
        TCase *tcase = tcase_create("ends");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, an_output_that_ends_before_its_program_is_told_in_a_moment);
        tcase_add_test(tcase, for_that_moment_the_other_output_does_not_wake_us);
        tcase_add_test(tcase, what_the_other_output_holds_comes_before_the_exit);
        tcase_add_test(tcase, with_the_end_of_its_program_it_is_told_at_once);
        tcase_add_test(tcase, of_a_program_that_has_ended_it_is_told_at_once);
        tcase_add_test(tcase, a_tree_that_could_not_be_watched_is_tried_again);
        tcase_add_test(tcase, a_tree_of_which_nothing_can_be_told_is_looked_at_again_soon_and_ever_later);
        tcase_add_test(tcase, a_process_that_goes_away_leaves_nothing_to_tell);
        tcase_add_test(tcase, nothing_is_left_to_tell_of_a_process_that_outlives_its_host);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(process_ending_suite);
