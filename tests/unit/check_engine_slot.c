/* SPDX-License-Identifier: MIT */

/* The engine's life and death: handed everything, replaced at once, given up when it is of no use. */

#include "daemon/keeper/engine-slot.h"

#include <sys/resource.h>

#include "common/clock.h"
#include "tests/support/keeper-fixture.h"

static void put_null(KeeperLabel label, uint64_t process, uint32_t run) {
        const KeeperMessage message = { .type = KEEPER_PUT, .label = label, .process = process, .run = run };
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        fixture_send(&message, &fd, 1);
        (void)fd_close(fd);
}

START_TEST(an_engine_is_told_who_keeps_it)
{
        static const uint8_t zero[16];

        fixture_next_engine();
        ck_assert_int_eq(fixture.hello.pid, fixture.keeper_pid);
        ck_assert_uint_eq(fixture.hello.engine_restarts, 0);
        ck_assert_uint_eq(fixture.hello.usec, 0);
        ck_assert_int_ne(memcmp(fixture.hello.instance, zero, sizeof(zero)), 0);
        ck_assert_uint_eq(fixture.n_handed_fds + fixture.n_children, 0);
}
END_TEST

START_TEST(the_next_engine_gets_all_there_is)
{
        KeeperMessage hello;
        int in, out;

        fixture_next_engine();
        hello = fixture.hello;
        fixture_send_type(KEEPER_SERVING, 0, 0);
        fixture_spawn_pipes(1, 1, "read line; echo still $line", &in, &out);
        (void)fixture_expect(KEEPER_SPAWNED);
        fixture_spawn(2, 4, "exit 9");
        (void)fixture_expect(KEEPER_EXITED);
        put_null(KEEPER_LABEL_LISTENER, 0, 0);
        fixture_kill_engine();
        ck_assert(fixture_has_reported("was ended by signal 9 (Killed)"));
        ck_assert_mem_eq(fixture.hello.instance, hello.instance, sizeof(hello.instance));
        ck_assert_uint_eq(fixture.hello.engine_restarts, 1);
        ck_assert_int_ge(fixture_handed_fd(KEEPER_LABEL_STDIN, 1, 1), 0);
        ck_assert_int_ge(fixture_handed_fd(KEEPER_LABEL_STDOUT, 1, 1), 0);
        ck_assert_int_ge(fixture_handed_fd(KEEPER_LABEL_LISTENER, 0, 0), 0);
        ck_assert_uint_eq(fixture.n_handed_fds, 3);
        ck_assert_uint_eq(fixture.n_children, 2);
        ck_assert_uint_eq(fixture_child(1, 1)->state, KEEPER_CHILD_RUNNING);
        ck_assert_uint_eq(fixture_child(2, 4)->state, KEEPER_CHILD_EXITED);
        ck_assert_int_eq(fixture_child(2, 4)->wait_status, 9);
        ck_assert_uint_gt(fixture_child(2, 4)->usage.minor_faults, 0);
        (void)fd_close(in);
        (void)fd_close(out);
        ck_assert_int_eq(write(fixture_handed_fd(KEEPER_LABEL_STDIN, 1, 1), "here\n", 5), 5);
        fixture_ck_line(fixture_handed_fd(KEEPER_LABEL_STDOUT, 1, 1), "still here\n");
        ck_assert_uint_eq(fixture_expect(KEEPER_EXITED).process, 1);
        /* until it is forgotten, and no longer */
        fixture_kill_engine();
        ck_assert_uint_eq(fixture.n_children, 2);
        fixture_send_type(KEEPER_FORGET, 1, 1);
        fixture_send_type(KEEPER_FORGET, 2, 4);
        fixture_kill_engine();
        ck_assert_uint_eq(fixture.n_children, 0);
        ck_assert_uint_eq(fixture.n_handed_fds, 3);
}
END_TEST

START_TEST(an_end_while_no_engine_runs_is_told_to_the_next)
{
        int in, out;

        fixture_next_engine();
        fixture_spawn_pipes(1, 1, "read line; exit 4", &in, &out);
        (void)fixture_expect(KEEPER_SPAWNED);
        ck_assert_int_eq(kill(fixture.engine_pid, SIGKILL), 0);
        (void)fd_close(in);
        (void)fd_close(out);
        fixture_accept();
        fixture_read_handover();
        (void)fd_close(fixture_handed_fd(KEEPER_LABEL_STDIN, 1, 1));
        for (size_t i = 0; i < fixture.n_handed_fds; i++)
                fixture.fds[i] = fixture.fd_messages[i].label == KEEPER_LABEL_STDIN ? -1 : fixture.fds[i];
        fixture_send(
                &(KeeperMessage){ .type = KEEPER_DROP, .label = KEEPER_LABEL_STDIN, .process = 1, .run = 1 },
                NULL, 0);
        ck_assert_int_eq(fixture_expect(KEEPER_EXITED).wait_status, 4);
}
END_TEST

START_TEST(an_end_that_was_handed_over_is_not_told_again)
{
        pid_t child;
        int in, out;

        fixture_next_engine();
        fixture_spawn_pipes(1, 1, "read line", &in, &out);
        child = fixture_expect(KEEPER_SPAWNED).pid;
        fixture_stop_keeper();
        ck_assert_int_eq(kill(fixture.engine_pid, SIGKILL), 0); /* first: so that it is reaped first */
        while (!fixture_is_dead(fixture.engine_pid))
                (void)poll(NULL, 0, 1);
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        while (!fixture_is_dead(child))
                (void)poll(NULL, 0, 1);
        ck_assert_int_eq(kill(fixture.keeper_pid, SIGCONT), 0);
        fixture_next_engine();
        ck_assert_uint_eq(fixture.children[0].state, KEEPER_CHILD_EXITED);
        fixture_send(&(KeeperMessage){ .type = KEEPER_SIGNAL, .process = 9, .run = 1 }, NULL, 0);
        (void)fixture_expect(KEEPER_SIGNALLED);
        (void)fd_close(in);
        (void)fd_close(out);
}
END_TEST

/* The handover is far larger than the socket's buffer, and the child ends in the middle of it. */
START_TEST(a_large_handover_waits_for_the_engine_to_read)
{
        enum {
                N = 3000
        };
        int in, out;

        fixture_next_engine();
        fixture_spawn_pipes(N + 1, 1, "read line; exit 4", &in, &out);
        (void)fixture_expect(KEEPER_SPAWNED);
        (void)fd_close(out);
        for (uint64_t i = 0; i < N; i++)
                put_null(KEEPER_LABEL_STDOUT, i, 1);
        fixture_send(
                &(KeeperMessage){
                        .type = KEEPER_DROP, .label = KEEPER_LABEL_STDIN, .process = N + 1, .run = 1 },
                NULL, 0);
        ck_assert_int_eq(kill(fixture.engine_pid, SIGKILL), 0);
        fixture_accept();
        (void)fd_close(in); /* the last one: the child ends */
        fixture_read_handover();
        ck_assert_uint_eq(fixture.n_handed_fds, N + 1);
        ck_assert_uint_eq(fixture.n_children, 1);
        if (fixture.children[0].state == KEEPER_CHILD_RUNNING)
                ck_assert_int_eq(fixture_expect(KEEPER_EXITED).wait_status, 4);
        else
                ck_assert_int_eq(fixture.children[0].wait_status, 4);
}
END_TEST

START_TEST(what_an_engine_asks_during_the_handover_comes_after_it)
{
        enum {
                N = 1000
        };

        fixture_next_engine();
        fixture_send_type(KEEPER_SERVING, 0, 0);
        for (uint64_t i = 0; i < N; i++)
                put_null(KEEPER_LABEL_STDOUT, i, 1);
        ck_assert_int_eq(kill(fixture.engine_pid, SIGKILL), 0);
        fixture_accept();
        for (uint64_t i = N - 20; i < N; i++)
                fixture_send(
                        &(KeeperMessage){
                                .type = KEEPER_DROP, .label = KEEPER_LABEL_STDOUT, .process = i, .run = 1 },
                        NULL, 0);
        fixture_read_handover();
        ck_assert_uint_eq(fixture.n_handed_fds, N);
        /* an answer comes after all that was asked before it */
        fixture_send(&(KeeperMessage){ .type = KEEPER_SIGNAL, .process = 1, .run = 1 }, NULL, 0);
        (void)fixture_expect(KEEPER_SIGNALLED);
        fixture_kill_engine();
        ck_assert_uint_eq(fixture.n_handed_fds, N - 20);
}
END_TEST

START_TEST(an_engine_that_closes_its_socket_is_replaced)
{
        pid_t pid;

        fixture_next_engine();
        pid = fixture.engine_pid;
        fixture_next_engine(); /* closes our end, the only one */
        ck_assert_int_ne(fixture.engine_pid, pid);
        ck_assert_int_eq(kill(pid, 0), -1);
}
END_TEST

START_TEST(quick_deaths_are_answered_more_slowly_but_always)
{
        uint64_t start_usec;

        fixture_next_engine();
        fixture_send_type(KEEPER_SERVING, 0, 0);
        start_usec = clock_monotonic_usec();
        for (unsigned i = 1; i <= 6; i++) {
                fixture_kill_engine();
                ck_assert_uint_eq(fixture.hello.engine_restarts, i);
        }
        /* 0, 10, 20, 40, 80, 160 ms */
        ck_assert_uint_ge(clock_monotonic_usec() - start_usec, 310 * USEC_PER_MSEC);
}
END_TEST

START_TEST(an_engine_that_never_serves_is_given_up)
{
        int status;

        for (int i = 0; i < 3; i++) {
                fixture_accept();
                ck_assert_int_eq(kill(fixture.engine_pid, SIGKILL), 0);
        }
        status = fixture_keeper_end();
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}
END_TEST

START_TEST(while_children_live_no_engine_is_given_up)
{
        int in, out;

        fixture_next_engine();
        fixture_spawn_pipes(1, 1, "read line", &in, &out);
        (void)fixture_expect(KEEPER_SPAWNED);
        for (int i = 0; i < 5; i++)
                fixture_kill_engine();
        ck_assert_uint_eq(fixture.n_children, 1);
        (void)fd_close(in);
        (void)fd_close(out);
}
END_TEST

START_TEST(an_engine_dies_with_its_keeper)
{
        char path[64];

        fixture_next_engine();
        ck_assert_int_eq(kill(fixture.keeper_pid, SIGKILL), 0);
        (void)fixture_keeper_end();
        (void)snprintf(path, sizeof(path), "/proc/%d/stat", fixture.engine_pid);
        for (int i = 0; i < 1000; i++) {
                char text[256] = "";
                int fd = open(path, O_RDONLY | O_CLOEXEC);

                if (fd < 0)
                        return;
                (void)!read(fd, text, sizeof(text) - 1);
                (void)fd_close(fd);
                if (strstr(text, ") Z "))
                        return; /* whoever adopts it has yet to reap it */
                (void)poll(NULL, 0, 10);
        }
        ck_abort_msg("the engine lives on");
}
END_TEST

static Suite *engine_slot_suite(void) {
        Suite *suite = suite_create("engine-slot");
        TCase *handover = tcase_create("handover"), *death = tcase_create("death");

        tcase_add_checked_fixture(handover, fixture_setup, fixture_teardown);
        tcase_set_timeout(handover, 60);
        tcase_add_test(handover, an_engine_is_told_who_keeps_it);
        tcase_add_test(handover, the_next_engine_gets_all_there_is);
        tcase_add_test(handover, an_end_while_no_engine_runs_is_told_to_the_next);
        tcase_add_test(handover, an_end_that_was_handed_over_is_not_told_again);
        tcase_add_test(handover, a_large_handover_waits_for_the_engine_to_read);
        tcase_add_test(handover, what_an_engine_asks_during_the_handover_comes_after_it);
        suite_add_tcase(suite, handover);
        tcase_add_checked_fixture(death, fixture_setup, fixture_teardown);
        tcase_set_timeout(death, 60);
        tcase_add_test(death, an_engine_that_closes_its_socket_is_replaced);
        tcase_add_test(death, quick_deaths_are_answered_more_slowly_but_always);
        tcase_add_test(death, an_engine_that_never_serves_is_given_up);
        tcase_add_test(death, while_children_live_no_engine_is_given_up);
        tcase_add_test(death, an_engine_dies_with_its_keeper);
        suite_add_tcase(suite, death);
        return suite;
}

CHECK_MAIN(engine_slot_suite);
