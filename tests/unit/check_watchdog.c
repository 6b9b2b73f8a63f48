/* SPDX-License-Identifier: MIT */

/* systemd's watchdog, played by a socket: it hears of us only while the engine answers. */

#include "daemon/keeper/watchdog.h"

#include "common/clock.h"
#include "tests/support/keeper-fixture.h"

#define WATCHDOG_USEC (2 * USEC_PER_SEC)

static char notify_path[64];
static int notify_fd;

/* The notification socket comes first: the keeper reads its address at its start. */
static void setup(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        char text[32];

        (void)snprintf(notify_path, sizeof(notify_path), "/tmp/check_watchdog.%d", getpid());
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", notify_path);
        notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(bind(notify_fd, (struct sockaddr *)&address, sizeof(address)), 0);
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)WATCHDOG_USEC);
        ck_assert_int_eq(setenv("NOTIFY_SOCKET", notify_path, 1), 0);
        ck_assert_int_eq(setenv("WATCHDOG_USEC", text, 1), 0);
        ck_assert_int_eq(unsetenv("WATCHDOG_PID"), 0);
        fixture_setup();
        fixture_next_engine();
}

static void teardown(void) {
        fixture_teardown();
        (void)fd_close(notify_fd);
        (void)unlink(notify_path);
}

static void ck_assert_notified(const char *what) {
        char text[512];
        ssize_t n;

        fixture_await(notify_fd, POLLIN);
        n = recv(notify_fd, text, sizeof(text) - 1, 0);
        ck_assert_int_gt(n, 0);
        text[n] = '\0';
        ck_assert_msg(strstr(text, what), "'%s' is not '%s'", text, what);
}

START_TEST(an_engine_that_answers_keeps_systemd_content)
{
        ck_assert_uint_eq(fixture.hello.usec, WATCHDOG_USEC);
        for (int i = 0; i < 3; i++) {
                struct pollfd pollfd = { .fd = notify_fd, .events = POLLIN };

                (void)fixture_expect(KEEPER_PING);
                ck_assert_int_eq(poll(&pollfd, 1, 0), 0);
                fixture_send_type(KEEPER_PONG, 0, 0);
                ck_assert_notified("WATCHDOG=1");
        }
}
END_TEST

START_TEST(an_engine_that_does_not_is_replaced_in_time)
{
        uint64_t start_usec = clock_monotonic_usec();
        int kept = fcntl(fixture.engine_fd, F_DUPFD_CLOEXEC, 3); /* it does not close its socket */
        pid_t pid = fixture.engine_pid;

        (void)fixture_expect(KEEPER_PING);
        if (_i) /* it does not even abort */
                ck_assert_int_eq(kill(pid, SIGSTOP), 0);
        fixture_next_engine();
        (void)fd_close(kept);
        ck_assert_int_ne(fixture.engine_pid, pid);
        ck_assert(fixture_has_reported(_i ? "signal 9 (Killed)" : "signal 6 (Aborted)"));
        (void)fixture_expect(KEEPER_PING);
        fixture_send_type(KEEPER_PONG, 0, 0);
        ck_assert_notified("WATCHDOG=1");
        ck_assert_uint_ge(clock_monotonic_usec() - start_usec,
                          WATCHDOG_USEC / 4); /* the first PING came before we looked */
}
END_TEST

START_TEST(readiness_and_stop_are_told)
{
        char text[64];

        fixture_send_type(KEEPER_SERVING, 0, 0);
        (void)snprintf(text, sizeof(text), "READY=1\nMAINPID=%d\n", fixture.keeper_pid);
        ck_assert_notified(text);
        ck_assert_int_eq(kill(fixture.keeper_pid, SIGTERM), 0);
        ck_assert_notified("STOPPING=1");
        fixture_send_type(KEEPER_STOPPED, 0, 0);
        ck_assert_int_eq(fixture_keeper_end(), 0);
}
END_TEST

static Suite *watchdog_suite(void) {
        Suite *suite = suite_create("watchdog");
        TCase *all = tcase_create("systemd");

        tcase_add_checked_fixture(all, setup, teardown);
        tcase_set_timeout(all, 60);
        tcase_add_test(all, an_engine_that_answers_keeps_systemd_content);
        tcase_add_loop_test(all, an_engine_that_does_not_is_replaced_in_time, 0, 2);
        tcase_add_test(all, readiness_and_stop_are_told);
        suite_add_tcase(suite, all);
        return suite;
}

CHECK_MAIN(watchdog_suite);
