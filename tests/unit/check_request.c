/* SPDX-License-Identifier: MIT */

/* What the engine asks of the keeper, and what the keeper makes of nonsense. */

#include "daemon/keeper/request.h"

#include <errno.h>
#include <sys/stat.h>

#include "tests/support/keeper-fixture.h"

static void setup(void) {
        fixture_setup();
        fixture_next_engine();
}

static int null_open(void) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        ck_assert_int_ge(fd, 0);
        return fd;
}

static void put(KeeperLabel label, uint64_t process, uint32_t run, int fd) {
        const KeeperMessage message = { .type = KEEPER_PUT, .label = label, .process = process, .run = run };

        fixture_send(&message, &fd, 1);
        (void)fd_close(fd);
}

START_TEST(a_child_is_spawned_and_its_end_told_with_what_it_used)
{
        KeeperMessage spawned, exited;

        int in, out;

        fixture_spawn_pipes(7, 3, "read line; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 5", &in,
                            &out);
        spawned = fixture_expect(KEEPER_SPAWNED);
        ck_assert_uint_eq(spawned.process, 7);
        ck_assert_uint_eq(spawned.run, 3);
        ck_assert_uint_eq(spawned.state, KEEPER_CHILD_RUNNING);
        ck_assert_int_gt(spawned.pid, 1);
        ck_assert_int_eq(write(in, "go on\n", 6), 6);
        exited = fixture_expect(KEEPER_EXITED);
        ck_assert_uint_eq(exited.process, 7);
        ck_assert_uint_eq(exited.run, 3);
        ck_assert_int_eq(exited.pid, spawned.pid);
        ck_assert_uint_eq(exited.state, KEEPER_CHILD_EXITED);
        ck_assert_int_eq(exited.wait_code, CLD_EXITED);
        ck_assert_int_eq(exited.wait_status, 5);
        ck_assert_uint_ge(exited.usec, spawned.usec);
        ck_assert_uint_gt(exited.usec, UINT64_C(1600000000000000));
        ck_assert_uint_gt(exited.usage.user_usec + exited.usage.system_usec, 0);
        ck_assert_uint_gt(exited.usage.max_rss_bytes, 100000);
        ck_assert_uint_gt(exited.usage.minor_faults, 0);
        (void)fd_close(in);
        (void)fd_close(out);
}
END_TEST

static const struct {
        const char *script;
        int code;
        int status;
} ends[] = {
        { "exit 0", CLD_EXITED, 0 },         { "exit 255", CLD_EXITED, 255 },
        { "kill -TERM $$", CLD_KILLED, 15 }, { "kill -KILL $$", CLD_KILLED, 9 },
        { "kill -40 $$", CLD_KILLED, 40 },   { "ulimit -c 0; kill -SEGV $$", CLD_KILLED, 11 },
};

START_TEST(an_end_is_told_as_it_was)
{
        KeeperMessage exited;

        fixture_spawn(1, 1, ends[_i].script);
        exited = fixture_expect(KEEPER_EXITED);
        ck_assert_int_eq(exited.wait_code, ends[_i].code);
        ck_assert_int_eq(exited.wait_status, ends[_i].status);
}
END_TEST

static const struct {
        const char *program;
        const char *cwd;
        int error;
        const char *step;
} failures[] = {
        { "no-such-program", "/", ENOENT, "exec" },
        { "/no/such", "/", ENOENT, "exec" },
        { "/etc/passwd", "/", EACCES, "exec" },
        { "/etc", "/", EACCES, "exec" },
        { "true", "/no/such/dir", ENOENT, "chdir" },
        { "true", "/etc/passwd", ENOTDIR, "chdir" },
        { "", "/", ENOENT, "exec" },
};

START_TEST(a_failure_names_step_and_error_and_is_kept_until_forgotten)
{
        KeeperMessage message;

        fixture_spawn_argv(1, 1, (char *const[]){ (char *)failures[_i].program, NULL }, failures[_i].cwd);
        message = fixture_expect(KEEPER_SPAWNED);
        ck_assert_uint_eq(message.state, KEEPER_CHILD_FAILED);
        ck_assert_int_eq(message.error, failures[_i].error);
        ck_assert_str_eq(message.text, failures[_i].step);
        fixture_kill_engine();
        ck_assert_uint_eq(fixture.n_children, 1);
        ck_assert_uint_eq(fixture.children[0].state, KEEPER_CHILD_FAILED);
        ck_assert_int_eq(fixture.children[0].error, failures[_i].error);
        ck_assert_str_eq(fixture.children[0].text, failures[_i].step);
        fixture_send_type(KEEPER_FORGET, 1, 1);
        fixture_kill_engine();
        ck_assert_uint_eq(fixture.n_children, 0);
}
END_TEST

START_TEST(the_engines_ends_are_in_the_bag_once_it_is_spawned)
{
        int in, out;

        fixture_spawn_pipes(7, 2, "read line; echo got $line", &in, &out);
        (void)fixture_expect(KEEPER_SPAWNED);
        (void)fd_close(in);
        (void)fd_close(out);
        fixture_kill_engine(); /* the keeper's copies alone keep the pipes open */
        ck_assert_uint_eq(fixture.n_handed_fds, 2);
        in = fixture_handed_fd(KEEPER_LABEL_STDIN, 7, 2);
        ck_assert_int_eq(write(in, "it\n", 3), 3);
        fixture_ck_line(fixture_handed_fd(KEEPER_LABEL_STDOUT, 7, 2), "got it\n");
}
END_TEST

START_TEST(after_a_failure_nothing_is_in_the_bag)
{
        const KeeperMessage message = {
                .type = KEEPER_SPAWN,
                .process = 7,
                .run = 2,
                .flags = KEEPER_SPAWN_ENGINE_STDIN | KEEPER_SPAWN_ENGINE_STDERR,
        };
        int fds[] = { fixture_spec((char *const[]){ (char *)"/no/such", NULL }, "/"), null_open(),
                      null_open() };

        fixture_send(&message, fds, ARRAY_SIZE(fds));
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                (void)fd_close(fds[i]);
        ck_assert_uint_eq(fixture_expect(KEEPER_SPAWNED).state, KEEPER_CHILD_FAILED);
        fixture_kill_engine();
        ck_assert_uint_eq(fixture.n_handed_fds, 0);
}
END_TEST

START_TEST(stderr_is_stdout_unless_given_and_stdin_is_null)
{
        const KeeperMessage message = {
                .type = KEEPER_SPAWN,
                .process = 7,
                .run = 2,
                .flags = KEEPER_SPAWN_CHILD_STDOUT,
        };
        char *const argv[] = { (char *)"sh", (char *)"-c", (char *)"readlink /proc/$$/fd/0; echo e >&2",
                               NULL };
        int out[2], fds[2];

        ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
        fds[0] = fixture_spec(argv, "/");
        fds[1] = out[1];
        fixture_send(&message, fds, 2);
        (void)fd_close(fds[0]);
        (void)fd_close(fds[1]);
        fixture_ck_line(out[0], "/dev/null\n");
        fixture_ck_line(out[0], "e\n");
        (void)fd_close(out[0]);
}
END_TEST

START_TEST(a_child_has_the_limit_that_the_daemon_was_started_with)
{
        int in, out;

        fixture_spawn_pipes(7, 2, "ulimit -Sn; ulimit -Hn; ls -m /proc/$$/fd; echo $MARK", &in, &out);
        fixture_ck_line(out, "200\n");
        fixture_ck_line(out, "300\n");
        fixture_ck_line(out, "0, 1, 2\n");
        fixture_ck_line(out, "1\n");
        (void)fd_close(in);
        (void)fd_close(out);
}
END_TEST

START_TEST(a_spawn_that_is_repeated_spawns_nothing_and_is_told_again)
{
        KeeperMessage first, again;
        char script[128];
        struct stat st;

        (void)snprintf(script, sizeof(script), "echo x >>%s/ran", fixture.dir);
        fixture_spawn(7, 1, script);
        first = fixture_expect(KEEPER_EXITED);
        fixture_spawn(7, 1, script);
        again = fixture_expect(KEEPER_EXITED);
        ck_assert_int_eq(again.pid, first.pid);
        (void)snprintf(script, sizeof(script), "%s/ran", fixture.dir);
        ck_assert_int_eq(stat(script, &st), 0);
        ck_assert_int_eq(st.st_size, 2);
        ck_assert_int_eq(unlink(script), 0);
}
END_TEST

START_TEST(what_is_dropped_is_closed_and_what_is_put_twice_replaced)
{
        int pipe_a[2], pipe_b[2];
        char byte;

        ck_assert_int_eq(pipe2(pipe_a, O_CLOEXEC), 0);
        ck_assert_int_eq(pipe2(pipe_b, O_CLOEXEC), 0);
        put(KEEPER_LABEL_STDOUT, 7, 1, pipe_a[1]);
        put(KEEPER_LABEL_STDOUT, 7, 1, pipe_b[1]);
        fixture_await(pipe_a[0], POLLIN);
        ck_assert_int_eq(read(pipe_a[0], &byte, 1), 0); /* nobody holds the other end any more */
        fixture_send(
                &(KeeperMessage){ .type = KEEPER_DROP, .label = KEEPER_LABEL_STDOUT, .process = 7, .run = 1 },
                NULL, 0);
        fixture_send(
                &(KeeperMessage){ .type = KEEPER_DROP, .label = KEEPER_LABEL_STDIN, .process = 7, .run = 1 },
                NULL, 0);
        fixture_await(pipe_b[0], POLLIN);
        ck_assert_int_eq(read(pipe_b[0], &byte, 1), 0);
        (void)fd_close(pipe_a[0]);
        (void)fd_close(pipe_b[0]);
}
END_TEST

START_TEST(a_put_that_asks_is_answered)
{
        KeeperMessage message = {
                .type = KEEPER_PUT,
                .label = KEEPER_LABEL_STDOUT_STAGE,
                .process = 7,
                .run = 2,
                .flags = KEEPER_PUT_TELL,
        };
        int fds[2];

        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        fixture_send(&message, &fds[0], 1);
        message = fixture_expect(KEEPER_HELD);
        ck_assert_uint_eq(message.process, 7);
        ck_assert_uint_eq(message.run, 2);
        ck_assert_uint_eq(message.label, KEEPER_LABEL_STDOUT_STAGE);
        ck_assert_int_eq(message.error, 0);
        (void)fd_close(fds[0]);
        ck_assert_int_eq(write(fds[1], "x", 1), 1); /* the keeper has it */
        (void)fd_close(fds[1]);
}
END_TEST

START_TEST(one_message_can_close_several_and_forget_the_run)
{
        static const uint32_t labels[] = { KEEPER_LABEL_STDIN, KEEPER_LABEL_STDOUT, KEEPER_LABEL_STDERR };
        int pipes[3][2];
        char byte;

        for (unsigned i = 0; i < 3; i++) {
                ck_assert_int_eq(pipe2(pipes[i], O_CLOEXEC), 0);
                put(labels[i], 7, 1, pipes[i][1]);
        }
        fixture_send(&(KeeperMessage){ .type = KEEPER_DROP,
                                       .label = KEEPER_LABEL_STDIN,
                                       .process = 7,
                                       .run = 1,
                                       .flags = KEEPER_LABEL_BIT(KEEPER_LABEL_STDOUT) },
                     NULL, 0);
        fixture_send(&(KeeperMessage){ .type = KEEPER_FORGET,
                                       .process = 7,
                                       .run = 1,
                                       .flags = KEEPER_LABEL_BIT(KEEPER_LABEL_STDERR) },
                     NULL, 0);
        for (unsigned i = 0; i < 3; i++) {
                fixture_await(pipes[i][0], POLLIN);
                ck_assert_int_eq(read(pipes[i][0], &byte, 1), 0);
                (void)fd_close(pipes[i][0]);
        }
}
END_TEST

START_TEST(a_running_child_is_not_forgotten)
{
        int in, out;

        fixture_spawn_pipes(7, 1, "read line", &in, &out);
        (void)fixture_expect(KEEPER_SPAWNED);
        fixture_send_type(KEEPER_FORGET, 7, 1);
        fixture_send_type(KEEPER_FORGET, 8, 1);
        (void)fd_close(in);
        (void)fd_close(out);
        fixture_kill_engine();
        ck_assert_uint_eq(fixture.n_children, 1);
        ck_assert_uint_eq(fixture.children[0].state, KEEPER_CHILD_RUNNING);
}
END_TEST

START_TEST(a_signal_reaches_the_child_or_its_group)
{
        char byte;
        KeeperMessage message = { .type = KEEPER_SIGNAL, .process = 7, .run = 1, .signal = SIGUSR1 };
        int in, out;

        fixture_spawn_pipes(
                7, 1,
                "trap 'echo outer' USR1;"
                "sh -c 'trap \"echo inner; exit\" USR1; echo ready; while :; do sleep 0.01; done' &"
                "while wait; [ $? -gt 128 ]; do :; done; sleep 100",
                &in, &out);
        (void)fixture_expect(KEEPER_SPAWNED);
        fixture_ck_line(out, "ready\n");
        fixture_send(&message, NULL, 0);
        ck_assert_int_eq(fixture_expect(KEEPER_SIGNALLED).error, 0);
        fixture_ck_line(out, "outer\n");
        message.flags = 1;
        message.signal = SIGKILL;
        fixture_send(&message, NULL, 0);
        ck_assert_int_eq(fixture_expect(KEEPER_SIGNALLED).error, 0);
        ck_assert_int_eq(fixture_expect(KEEPER_EXITED).wait_status, SIGKILL);
        fixture_await(out, POLLIN | POLLHUP);
        ck_assert_int_eq(read(out, &byte, 1), 0); /* the inner one is gone as well */
        fixture_send(&message, NULL, 0);
        message = fixture_expect(KEEPER_SIGNALLED);
        ck_assert_int_eq(message.error, ESRCH);
        ck_assert_uint_eq(message.process, 7);
        ck_assert_uint_eq(message.run, 1);
        (void)fd_close(in);
        (void)fd_close(out);
}
END_TEST

START_TEST(an_orphan_that_ends_is_hinted_at)
{
        KeeperMessage message;
        int fd;

        fixture_spawn(7, 1, "sh -c 'sleep 0.1' & exit 0");
        for (;;) {
                ck_assert_int_eq(fixture_receive(&message, &fd), 1);
                if (message.type == KEEPER_REAPED)
                        break;
                ck_assert(message.type == KEEPER_SPAWNED || message.type == KEEPER_EXITED);
        }
        ck_assert_int_gt(message.pid, 1);
}
END_TEST

START_TEST(nothing_is_lost_while_the_engine_does_not_read)
{
        enum {
                N = 1500
        };
        static uint8_t told[N];
        KeeperMessage message;
        size_t n_left = 2 * N; /* an end and an answer for each */
        int fd;

        for (uint64_t i = 0; i < N; i++) {
                fixture_spawn_argv(i, 1, (char *const[]){ (char *)"/bin/true", NULL }, "/");
                fixture_send(
                        &(KeeperMessage){ .type = KEEPER_SIGNAL, .process = N + i, .run = 1, .signal = 0 },
                        NULL, 0);
        }
        while (n_left > 0) {
                ck_assert_int_eq(fixture_receive(&message, &fd), 1);
                if (message.type == KEEPER_SIGNALLED)
                        ck_assert_int_eq(message.error, ESRCH);
                else {
                        ck_assert_uint_lt(message.process, N);
                        ck_assert_uint_lt(told[message.process], message.type);
                        told[message.process] = (uint8_t)message.type;
                }
                n_left -= message.type != KEEPER_SPAWNED;
        }
}
END_TEST

START_TEST(an_engine_that_never_reads_is_replaced)
{
        const KeeperMessage message = { .type = KEEPER_SIGNAL, .process = 1, .run = 1 };
        pid_t pid = fixture.engine_pid;
        int r = 0;

        for (int i = 0; r == 0 && i < 2 * KEEPER_ANSWERS_MAX; i++)
                r = keeper_message_send(fixture.engine_fd, &message, NULL, 0);
        ck_assert_int_lt(r, 0);
        fixture_next_engine();
        ck_assert_int_ne(fixture.engine_pid, pid);
}
END_TEST

START_TEST(arguments_of_a_mebibyte_and_of_any_bytes)
{
        enum {
                N = 16,
                SIZE = 64 * 1024
        };
        static char big[SIZE];
        char *argv[4 + N + 1] = { (char *)"sh", (char *)"-c",
                                  (char *)"for a; do [ ${#a} = 65535 ] || exit 1; done", (char *)"sh" };

        memset(big, 0xfe, SIZE - 1);
        for (int i = 0; i < N; i++)
                argv[4 + i] = big;
        fixture_spawn_argv(1, 1, argv, "/");
        ck_assert_int_eq(fixture_expect(KEEPER_EXITED).wait_status, 0);
        fixture_send_type(KEEPER_FORGET, 1, 1);
}
END_TEST

START_TEST(a_spec_that_is_no_spec_is_a_failure_of_this_child)
{
        const KeeperMessage message = { .type = KEEPER_SPAWN, .process = 7, .run = 1 };
        KeeperMessage answer;
        int fd = null_open();

        fixture_send(&message, &fd, 1);
        (void)fd_close(fd);
        answer = fixture_expect(KEEPER_SPAWNED);
        ck_assert_uint_eq(answer.state, KEEPER_CHILD_FAILED);
        ck_assert_int_eq(answer.error, EPROTO);
        ck_assert_str_eq(answer.text, "spec");
}
END_TEST

/* Sends one malformed thing. */
static void send_nonsense(int which) {
        KeeperMessage message = { .type = KEEPER_SPAWN, .process = 9, .run = 1 };
        int fds[FD_PASS_MAX] = { null_open(), null_open() };
        size_t n_fds = 0, size = sizeof(message);

        switch (which) {
        case 0:
                message.type = 4242;
                break;
        case 1:
                message.type = KEEPER_EXITED;
                break;
        case 2:
                size = 1;
                break;
        case 3:
                size = sizeof(message) - 8;
                break;
        case 4:
                n_fds = 2; /* one spec, and another that no flag announces */
                break;
        case 5:
                message.flags = 1u << 7;
                n_fds = 2;
                break;
        case 6:
                message.type = KEEPER_PUT;
                message.label = KEEPER_LABEL_STDIN;
                break;
        case 7:
                message.type = KEEPER_PUT;
                message.label = KEEPER_LABEL_N_;
                n_fds = 1;
                break;
        default:
                message.type = 0;
                break;
        }
        ck_assert_int_gt(fd_send(fixture.engine_fd, &message, size, fds, n_fds), 0);
        (void)fd_close(fds[0]);
        (void)fd_close(fds[1]);
}

START_TEST(nonsense_ends_the_engine_and_nobody_else)
{
        pid_t pid = fixture.engine_pid;
        int in, out;

        fixture_spawn_pipes(7, 1, "read line; echo $line", &in, &out);
        (void)fixture_expect(KEEPER_SPAWNED);
        send_nonsense(_i);
        fixture_next_engine();
        ck_assert_int_eq(kill(pid, 0), -1);
        ck_assert_uint_eq(fixture.n_children, 1);
        ck_assert_uint_eq(fixture.n_handed_fds, 2);
        ck_assert_int_eq(write(in, "well\n", 5), 5);
        fixture_ck_line(out, "well\n");
        (void)fd_close(in);
        (void)fd_close(out);
}
END_TEST

/* Also if it had not read what it was told: the kernel then tells that first, and the rest behind it. */
START_TEST(what_a_dead_engine_had_said_is_still_done)
{
        enum {
                N = 100
        }; /* more than are read in one turn, fewer than would fill the socket */
        int in, out;

        if (_i) {
                fixture_send_type(KEEPER_SIGNAL, N, 1);
                fixture_await(fixture.engine_fd, POLLIN);
        }
        fixture_stop_keeper();
        for (uint64_t i = 0; i < N; i++)
                put(KEEPER_LABEL_POSITION, i, 0, null_open());
        fixture_spawn_pipes(N, 1, "read line; exit 3", &in, &out);
        (void)fd_close(out);
        fixture.engine_fd = fd_close(fixture.engine_fd);
        ck_assert_int_eq(kill(fixture.engine_pid, SIGKILL), 0);
        while (!fixture_is_dead(fixture.engine_pid))
                (void)poll(NULL, 0, 1);
        ck_assert_int_eq(kill(fixture.keeper_pid, SIGCONT), 0);
        fixture_next_engine();
        ck_assert_uint_eq(fixture.n_handed_fds, N + 2);
        ck_assert_ptr_nonnull(fixture_child(N, 1));
        (void)fd_close(in);
}
END_TEST

static Suite *request_suite(void) {
        Suite *suite = suite_create("request");
        TCase *spawning = tcase_create("spawn"), *others = tcase_create("others"),
              *wrong = tcase_create("nonsense");

        tcase_add_checked_fixture(spawning, setup, fixture_teardown);
        tcase_set_timeout(spawning, 60);
        tcase_add_test(spawning, a_child_is_spawned_and_its_end_told_with_what_it_used);
        tcase_add_loop_test(spawning, an_end_is_told_as_it_was, 0, (int)ARRAY_SIZE(ends));
        tcase_add_loop_test(spawning, a_failure_names_step_and_error_and_is_kept_until_forgotten, 0,
                            (int)ARRAY_SIZE(failures));
        tcase_add_test(spawning, the_engines_ends_are_in_the_bag_once_it_is_spawned);
        tcase_add_test(spawning, after_a_failure_nothing_is_in_the_bag);
        tcase_add_test(spawning, stderr_is_stdout_unless_given_and_stdin_is_null);
        tcase_add_test(spawning, a_child_has_the_limit_that_the_daemon_was_started_with);
        tcase_add_test(spawning, a_spawn_that_is_repeated_spawns_nothing_and_is_told_again);
        tcase_add_test(spawning, arguments_of_a_mebibyte_and_of_any_bytes);
        suite_add_tcase(suite, spawning);
        tcase_add_checked_fixture(others, setup, fixture_teardown);
        tcase_set_timeout(others, 60);
        tcase_add_test(others, what_is_dropped_is_closed_and_what_is_put_twice_replaced);
        tcase_add_test(others, a_put_that_asks_is_answered);
        tcase_add_test(others, one_message_can_close_several_and_forget_the_run);
        tcase_add_test(others, a_running_child_is_not_forgotten);
        tcase_add_test(others, a_signal_reaches_the_child_or_its_group);
        tcase_add_test(others, an_orphan_that_ends_is_hinted_at);
        tcase_add_test(others, an_engine_that_never_reads_is_replaced);
        tcase_add_test(others, nothing_is_lost_while_the_engine_does_not_read);
        suite_add_tcase(suite, others);
        tcase_add_checked_fixture(wrong, setup, fixture_teardown);
        tcase_set_timeout(wrong, 60);
        tcase_add_test(wrong, a_spec_that_is_no_spec_is_a_failure_of_this_child);
        tcase_add_loop_test(wrong, nonsense_ends_the_engine_and_nobody_else, 0, 9);
        tcase_add_loop_test(wrong, what_a_dead_engine_had_said_is_still_done, 0, 2);
        suite_add_tcase(suite, wrong);
        return suite;
}

CHECK_MAIN(request_suite);
