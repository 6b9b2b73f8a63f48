/* SPDX-License-Identifier: MIT */

/* The second pipe of what flows, in the whole engine of engine-fixture.h: every byte comes into the log once
 * and in order, wherever it was when something happened. */

#include "daemon/engine/process-stage.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "daemon/engine/limits.h"
#include "daemon/engine/process.h"

#include "tests/support/engine-requests.h"

static FixtureClient client;
static Process *process;
static OutputStage *stage; /* of its stdout */
static FakeChild *child;
static size_t n_written;
static int n_fds_before;

static void take_up(void) {
        process = CONTAINER_OF(engine.supervisor.processes.next, Process, link);
        stage = &process->outputs[0].stage;
}

/* A program that lives, with a wide pipe as if much had flowed. */
static void setup(void) {
        n_fds_before = open_fds_count();
        fake_keeper.put_error = 0;
        fixture_open();
        fixture_connect(&client);
        fixture_hello(&client);
        (void)ask_by(&client, "run", "{\"argv\":[\"cat\"]}");
        fixture_settle(&client);
        take_up();
        child = fake_child(process->id, process->run.run);
        ck_assert_ptr_nonnull(child);
        ck_assert_int_eq(fcntl(process->outputs[0].fd, F_SETPIPE_SZ, LIMIT_WIDE_PIPE_BYTES),
                         LIMIT_WIDE_PIPE_BYTES);
        process_flow_adopt(process, 0);
        n_written = 0;
}

static void teardown(void) {
        fixture_disconnect(&client);
        fixture_clean();
        fixture_close();
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

/* A stage that the keeper has. */
static void open_stage(void) {
        process_stage_open(process, 0, LIMIT_WIDE_PIPE_BYTES);
        ck_assert(!stage->is_held);
        (void)fixture_turn();
        (void)fixture_turn();
        ck_assert(stage->is_held);
}

/* Output that flows, whatever the clock says. */
static void turn(void) {
        process->outputs[0].is_flowing = true;
        process_output_turn(process, 0);
}

static uint8_t byte_at(size_t at) {
        return (uint8_t)(at * 7 + (at >> 8) * 13 + (at >> 16));
}

static void child_writes(size_t size) {
        static uint8_t bytes[LIMIT_WIDE_PIPE_BYTES];

        for (size_t i = 0; i < size; i++)
                bytes[i] = byte_at(n_written + i);
        ck_assert_int_eq(write(child->fds[1], bytes, size), (ssize_t)size);
        n_written += size;
}

/* As much of what was written as the stage takes, and not yet in the log. */
static void take(size_t max) {
        ck_assert_int_eq(process_stage_take(process, 0, max), 1);
        ck_assert_uint_eq(stage->n_left, MIN(max, n_written));
}

static size_t log_size(void) {
        Log *log;

        ck_assert_int_eq(process_log(process, &log, NULL), 0);
        return log_end(log);
}

static void ck_log(void) {
        static uint8_t bytes[8 * LIMIT_WIDE_PIPE_BYTES];
        char path[256];
        int fd;

        (void)snprintf(path, sizeof(path), "%s/processes/%llu/%020d.log", fixture_dir,
                       (unsigned long long)process->id, 0);
        ck_assert_uint_eq(log_size(), n_written);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(read(fd, bytes, sizeof(bytes)), (ssize_t)n_written);
        (void)fd_close(fd);
        for (size_t i = 0; i < n_written; i++)
                if (bytes[i] != byte_at(i))
                        ck_abort_msg("byte %zu of %zu differs", i, n_written);
}

static size_t n_late;

/* Something comes when it has just been asked how much there is. */
int ioctl(int fd, unsigned long request, ...) {
        size_t size = n_late;
        void *argument;
        va_list ap;
        int r;

        va_start(ap, request);
        argument = va_arg(ap, void *);
        va_end(ap);
        r = (int)syscall(SYS_ioctl, fd, request, argument);
        if (request == FIONREAD && size > 0 && fd == process->outputs[0].fd) {
                n_late = 0;
                child_writes(size);
        }
        return r;
}

static bool has_put(KeeperLabel label) {
        for (size_t i = 0; i < fake_keeper.n_bag; i++)
                if (fake_keeper.bag[i].label == label)
                        return true;
        return false;
}

START_TEST(what_flows_goes_by_it_in_order)
{
        open_stage();
        for (size_t i = 0; i < 40; i++) {
                child_writes(3000 + 2777 * i);
                if (i % 3 == 0)
                        take(1000 * i + 1);
                while (process_output_left(process, 0) > 0)
                        turn();
        }
        ck_log();
}
END_TEST

START_TEST(nothing_goes_by_it_before_the_keeper_has_it)
{
        process_stage_open(process, 0, LIMIT_WIDE_PIPE_BYTES);
        child_writes(100000);
        ck_assert_int_eq(process_stage_take(process, 0, 100000), -ENOENT);
        turn();
        ck_log();
}
END_TEST

START_TEST(what_is_in_it_counts)
{
        open_stage();
        child_writes(1000);
        take(600);
        ck_assert_uint_eq(process_output_left(process, 0), 1000);
        ck_assert_uint_eq(log_size(), 0);
        ck_assert_int_eq(process_collect_outputs(process, NULL), 0);
        ck_assert_uint_eq(process_output_left(process, 0), 0);
        ck_log();
}
END_TEST

START_TEST(what_a_killed_engine_left_in_it_comes_first)
{
        open_stage();
        child_writes(300000);
        take(200000);
        fixture_disconnect(&client);
        fixture_restart();
        take_up();
        child_writes(_i == 0 ? 5 : 100000);
        if (_i == 2)
                fake_child_exit(child, CLD_EXITED, 0);
        fixture_connect(&client);
        fixture_hello(&client);
        fixture_settle(&client);
        ck_log();
        ck_assert_int_lt(stage->read_fd, 0);
        ck_assert(!has_put(KEEPER_LABEL_STDOUT_STAGE));
        if (_i < 2) /* and one of its own is as good */
                open_stage();
}
END_TEST

START_TEST(a_program_that_ends_leaves_nothing_in_it)
{
        open_stage();
        child_writes(300000);
        take(200000);
        if (_i == 0)
                child->fds[1] = fd_close(child->fds[1]);
        fake_child_exit(child, CLD_EXITED, 0);
        fixture_settle(&client);
        ck_assert(process_is_over(process));
        ck_log();
        ck_assert(!has_put(KEEPER_LABEL_STDOUT_STAGE));
}
END_TEST

START_TEST(an_end_of_file_stands_behind_what_is_in_it)
{
        open_stage();
        child_writes(300000);
        take(200000);
        child->fds[1] = fd_close(child->fds[1]);
        for (unsigned i = 0; i < 3; i++) {
                ck_assert(!process->outputs[0].is_ending);
                turn();
        }
        ck_assert(process->outputs[0].is_ending);
        ck_log();
}
END_TEST

START_TEST(an_output_that_waited_goes_on_with_what_is_in_it)
{
        open_stage();
        child_writes(200000);
        take(200000);
        process->waits_for_disk = true; /* as if it had been full since the take */
        (void)event_del(&process->outputs[0].event);
        fixture_settle(&client);
        ck_assert_uint_eq(log_size(), 0);
        process_disk_retry(process);
        fixture_settle(&client); /* the program's own pipe has nothing to tell */
        ck_log();
}
END_TEST

/* A descendant writes while it is looked how much the program has left behind, and then no more. A segment of
 * the log ends somewhere in between. */
START_TEST(nothing_stays_in_it_behind_an_exit)
{
        const LogOptions options = { .retention_bytes = 64 * 1024 };

        open_stage();
        ck_assert_uint_eq(log_size(), 0);
        log_set_options(process->log, &options);
        child_writes(20000);
        turn();
        ck_assert_uint_eq(log_size(), n_written);
        process->outputs[0].is_flowing = true;
        process_flow_pause(process, 0);
        (void)event_del(&process->outputs[0].event);
        child_writes(1000);
        n_late = 60000;
        memcpy(child->name, "hold", 5);
        fake_child_exit(child, CLD_EXITED, 0);
        (void)fixture_turn();
        ck_assert(process->run.ended & RUN_LOGGED_EXIT);
        ck_assert_uint_eq(n_late, 0);
        (void)event_add(&process->outputs[0].event, NULL); /* it is watched, as it was before */
        fixture_settle(&client);
        ck_assert_uint_eq(process_output_left(process, 0), 0);
        ck_assert_uint_eq(log_size(), n_written);
}
END_TEST

START_TEST(where_the_keeper_cannot_hold_it_output_goes_without)
{
        fake_keeper.put_error = EMFILE;
        process_stage_open(process, 0, LIMIT_WIDE_PIPE_BYTES);
        (void)fixture_turn();
        (void)fixture_turn();
        ck_assert(!stage->is_held && stage->is_refused && stage->read_fd < 0);
        process_stage_open(process, 0, LIMIT_WIDE_PIPE_BYTES);
        ck_assert_int_lt(stage->read_fd, 0); /* it is not asked again and again */
        child_writes(100000);
        turn();
        ck_log();
}
END_TEST

START_TEST(an_answer_of_one_before_is_not_of_this_one)
{
        const KeeperMessage held = { .type = KEEPER_HELD,
                                     .label = KEEPER_LABEL_STDOUT_STAGE,
                                     .process = process->id,
                                     .run = process->run.run };
        KeeperMessage refused = held;

        refused.error = EMFILE;
        process_stage_open(process, 0, LIMIT_WIDE_PIPE_BYTES);
        process_stage_close(process, 0);
        process_stage_open(process, 0, LIMIT_WIDE_PIPE_BYTES);
        process_stage_on_held(process, &held);
        ck_assert(!stage->is_held && stage->read_fd >= 0);
        process_stage_on_held(process, &refused);
        ck_assert(!stage->is_held && stage->read_fd < 0);
        process_stage_on_held(process, &held); /* nobody asked */
        ck_assert(!stage->is_held);
        process_stage_close(process, 0);
}
END_TEST

static Suite *process_stage_suite(void) {
        Suite *suite = suite_create("process-stage");
        TCase *tcase = tcase_create("stage");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, what_flows_goes_by_it_in_order);
        tcase_add_test(tcase, nothing_goes_by_it_before_the_keeper_has_it);
        tcase_add_test(tcase, what_is_in_it_counts);
        tcase_add_loop_test(tcase, what_a_killed_engine_left_in_it_comes_first, 0, 3);
        tcase_add_loop_test(tcase, a_program_that_ends_leaves_nothing_in_it, 0, 2);
        tcase_add_test(tcase, an_end_of_file_stands_behind_what_is_in_it);
        tcase_add_test(tcase, an_output_that_waited_goes_on_with_what_is_in_it);
        tcase_add_test(tcase, nothing_stays_in_it_behind_an_exit);
        tcase_add_test(tcase, where_the_keeper_cannot_hold_it_output_goes_without);
        tcase_add_test(tcase, an_answer_of_one_before_is_not_of_this_one);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(process_stage_suite);
