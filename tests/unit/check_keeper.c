/* SPDX-License-Identifier: MIT */

/* The keeper as a whole: readiness, the ways to stop, and rest when there is nothing to do. */

#include "daemon/keeper/keeper.h"

#include <errno.h>

#include "tests/support/keeper-fixture.h"

static void setup(void) {
        fixture_setup();
        fixture_next_engine();
}

START_TEST(readiness_is_told_once_the_engine_serves)
{
        struct pollfd pollfd = { .fd = fixture.ready_fd, .events = POLLIN };
        char text[4];

        ck_assert_int_eq(poll(&pollfd, 1, 0), 0);
        fixture_send_type(KEEPER_SERVING, 0, 0);
        fixture_send_type(KEEPER_SERVING, 0, 0);
        fixture_await(fixture.ready_fd, POLLIN);
        ck_assert_int_eq(fd_read_full(fixture.ready_fd, text, sizeof(text)), 1);
        ck_assert_int_eq(text[0], '\n');
}
END_TEST

START_TEST(a_daemon_that_is_stopped_asks_its_engine_and_ends_well)
{
        fixture_send_type(KEEPER_SERVING, 0, 0);
        fixture_ck_line(fixture.ready_fd, "\n");
        ck_assert_int_eq(kill(fixture.keeper_pid, _i ? SIGINT : SIGTERM), 0);
        (void)fixture_expect(KEEPER_TERMINATE);
        fixture_send_type(KEEPER_STOPPED, 0, 0);
        ck_assert_int_eq(fixture_keeper_end(), 0);
}
END_TEST

START_TEST(the_next_engine_is_asked_to_stop_too)
{
        fixture_send_type(KEEPER_SERVING, 0, 0);
        fixture_ck_line(fixture.ready_fd, "\n");
        ck_assert_int_eq(kill(fixture.keeper_pid, SIGTERM), 0);
        (void)fixture_expect(KEEPER_TERMINATE);
        fixture_kill_engine();
        (void)fixture_expect(KEEPER_TERMINATE);
        fixture_send_type(KEEPER_STOPPED, 0, 0);
        ck_assert_int_eq(fixture_keeper_end(), 0);
}
END_TEST

START_TEST(an_engine_may_stop_the_daemon_unasked)
{
        fixture_send_type(KEEPER_STOPPED, 0, 0);
        ck_assert_int_eq(fixture_keeper_end(), 0);
}
END_TEST

START_TEST(asked_twice_the_keeper_kills_what_is_left)
{
        int in, out, status;
        char text[64];
        pid_t child, grandchild;

        fixture_send_type(KEEPER_SERVING, 0, 0);
        fixture_ck_line(fixture.ready_fd, "\n");
        fixture_spawn_pipes(1, 1, "setsid sh -c 'echo $$; while :; do sleep 1; done' & sleep 1000", &in,
                            &out);
        child = fixture_expect(KEEPER_SPAWNED).pid;
        memset(text, 0, sizeof(text));
        fixture_await(out, POLLIN);
        ck_assert_int_gt(read(out, text, sizeof(text) - 1), 0);
        grandchild = atoi(text);
        ck_assert_int_gt(grandchild, 1);
        ck_assert_int_eq(kill(fixture.keeper_pid, SIGTERM), 0);
        (void)fixture_expect(KEEPER_TERMINATE);
        ck_assert_int_eq(kill(fixture.keeper_pid, SIGTERM), 0);
        status = fixture_keeper_end();
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        ck_assert(fixture_is_dead(child));
        ck_assert(fixture_is_dead(grandchild));
        (void)fd_close(in);
        (void)fd_close(out);
}
END_TEST

START_TEST(an_engine_that_does_not_stop_in_time_is_not_waited_for)
{
        int status;

        fixture_send_type(KEEPER_SERVING, 0, 0);
        fixture_ck_line(fixture.ready_fd, "\n");
        fixture_spawn(1, 1, "trap '' TERM; while :; do sleep 1; done");
        (void)fixture_expect(KEEPER_SPAWNED);
        ck_assert_int_eq(kill(fixture.keeper_pid, SIGTERM), 0);
        (void)fixture_expect(KEEPER_TERMINATE);
        status = fixture_keeper_end();
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}
END_TEST

/* One SIGCHLD for all of them, as the keeper cannot take any. */
START_TEST(many_that_end_at_once_are_all_told)
{
        enum {
                N = 300
        };
        static char *const argv[] = { (char *)"sleep", (char *)"1000", NULL };
        pid_t pids[N];

        for (uint64_t i = 0; i < N; i++) {
                fixture_spawn_argv(i, 1, argv, "/");
                pids[i] = fixture_expect(KEEPER_SPAWNED).pid;
        }
        fixture_stop_keeper();
        for (uint64_t i = 0; i < N; i++)
                ck_assert_int_eq(kill(pids[i], SIGKILL), 0);
        for (uint64_t i = 0; i < N; i++)
                while (!fixture_is_dead(pids[i]))
                        (void)poll(NULL, 0, 1);
        ck_assert_int_eq(kill(fixture.keeper_pid, SIGCONT), 0);
        for (int i = 0; i < N; i++)
                ck_assert_int_eq(fixture_expect(KEEPER_EXITED).wait_status, SIGKILL);
}
END_TEST

START_TEST(a_hangup_is_nothing_to_the_keeper)
{
        ck_assert_int_eq(kill(fixture.keeper_pid, SIGHUP), 0);
        ck_assert_int_eq(kill(fixture.keeper_pid, SIGPIPE), 0);
        fixture_spawn(1, 1, "exit 3");
        ck_assert_int_eq(fixture_expect(KEEPER_EXITED).wait_status, 3);
}
END_TEST

static unsigned long context_switches(pid_t pid) {
        char path[64], line[256];
        unsigned long n, sum = 0;
        FILE *file;

        (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
        file = fopen(path, "re");
        ck_assert_ptr_nonnull(file);
        while (fgets(line, sizeof(line), file))
                if (sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1)
                        sum += n;
        (void)fclose(file);
        return sum;
}

START_TEST(with_nothing_to_do_the_keeper_sleeps)
{
        unsigned long before;
        int in, out;

        fixture_spawn_pipes(1, 1, "read line", &in, &out);
        (void)fixture_expect(KEEPER_SPAWNED);
        fixture_send(&(KeeperMessage){ .type = KEEPER_SIGNAL, .process = 2, .run = 1 }, NULL, 0);
        (void)fixture_expect(KEEPER_SIGNALLED);
        (void)poll(NULL, 0, 50); /* for it to have gone to sleep */
        before = context_switches(fixture.keeper_pid);
        (void)poll(NULL, 0, 500);
        ck_assert_uint_eq(context_switches(fixture.keeper_pid), before);
        (void)fd_close(in);
        (void)fd_close(out);
}
END_TEST

static Suite *keeper_suite(void) {
        Suite *suite = suite_create("keeper");
        TCase *life = tcase_create("life");

        tcase_add_checked_fixture(life, setup, fixture_teardown);
        tcase_set_timeout(life, 60);
        tcase_add_test(life, readiness_is_told_once_the_engine_serves);
        tcase_add_loop_test(life, a_daemon_that_is_stopped_asks_its_engine_and_ends_well, 0, 2);
        tcase_add_test(life, the_next_engine_is_asked_to_stop_too);
        tcase_add_test(life, an_engine_may_stop_the_daemon_unasked);
        tcase_add_test(life, asked_twice_the_keeper_kills_what_is_left);
        tcase_add_test(life, an_engine_that_does_not_stop_in_time_is_not_waited_for);
        tcase_add_test(life, many_that_end_at_once_are_all_told);
        tcase_add_test(life, a_hangup_is_nothing_to_the_keeper);
        tcase_add_test(life, with_nothing_to_do_the_keeper_sleeps);
        suite_add_tcase(suite, life);
        return suite;
}

CHECK_MAIN(keeper_suite);
