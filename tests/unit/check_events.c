/* SPDX-License-Identifier: MIT */

/* The feed of events over a connection that breaks. */

#include "client/libpmux/events.h"

#include "tests/support/check-main.h"
#include "tests/support/fake-daemon.h"

static FakeDaemon fake;
static Pmux *pmux;
static PmuxEvents *events;
static int n_fds;
static int n_events;
static char last[256];
static char failure[64];

static void on_event(PmuxEvents *from, const char *event, const PmuxError *error, void *userdata) {
        (void)from;
        (void)userdata;
        if (error) {
                (void)snprintf(failure, sizeof(failure), "%s", error->code);
                return;
        }
        n_events++;
        (void)snprintf(last, sizeof(last), "%s", event);
}

static void setup(void) {
        n_fds = open_fds_count();
        n_events = 0;
        *last = *failure = '\0';
        pmux = fake_open(&fake, 0, 0);
}

static void teardown(void) {
        fake_close(&fake, pmux);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static json_int_t start(uint64_t since, const char *answer) {
        json_t *request;
        json_int_t stream;

        ck_assert_int_eq(pmux_events_start(pmux, since, 1, on_event, NULL, &events, NULL), 0);
        request = fake_read_request(&fake, "events");
        ck_assert_int_eq(fake_param(request, "since"), since == PMUX_INFINITY ? -1 : (json_int_t)since);
        stream = fake_param(request, "stream");
        fake_reply(&fake, request, answer);
        return stream;
}

static void send_event(json_int_t stream, json_int_t seq, const char *type) {
        fake_send_json(&fake, json_pack("{s:s, s:{s:I, s:I, s:s}}", "method", "event", "params", "stream",
                                        stream, "seq", seq, "type", type));
}

static void wait_for(int n) {
        uint64_t deadline = clock_monotonic_usec() + FAKE_PATIENCE_USEC;

        while (n_events < n && clock_monotonic_usec() < deadline)
                (void)pmux_turn(pmux, 100 * USEC_PER_MSEC, NULL);
        ck_assert_int_eq(n_events, n);
}

static json_t *reconnect(void) {
        fake_break(&fake);
        fake_turn_until_dialled(&fake, pmux, fake.n_dials + 1);
        fake_greet(&fake);
        return fake_read_request(&fake, "events");
}

START_TEST(events_go_on_after_the_last_one)
{
        json_int_t stream = start(5, "{\"seq\":9,\"oldest\":1}");
        json_t *request;

        send_event(stream, 6, "created");
        send_event(stream, 7, "started");
        wait_for(2);
        ck_assert_str_eq(last, "{\"seq\":7,\"type\":\"started\"}");
        request = reconnect();
        ck_assert_int_eq(fake_param(request, "since"), 7);
        fake_reply(&fake, request, "{\"seq\":9}");
        send_event(stream, 8, "exited");
        wait_for(3);
}
END_TEST

/* What happened between the answer and the first event must not be lost with the connection. */
START_TEST(from_now_on_means_the_now_of_the_first_answer)
{
        json_t *request;

        (void)start(PMUX_INFINITY, "{\"seq\":41}");
        (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        (void)pmux_dispatch(pmux, NULL);
        request = reconnect();
        ck_assert_int_eq(fake_param(request, "since"), 41);
        json_decref(request);
}
END_TEST

START_TEST(lost_events_are_not_asked_for_again)
{
        json_int_t stream = start(0, "{\"seq\":90}");
        json_t *request;

        fake_send_json(&fake, json_pack("{s:s, s:{s:I, s:s, s:i, s:i}}", "method", "event", "params",
                                        "stream", stream, "type", "lost", "from", 1, "to", 50));
        wait_for(1);
        request = reconnect();
        ck_assert_int_eq(fake_param(request, "since"), 50);
        json_decref(request);
}
END_TEST

START_TEST(a_failure_is_told)
{
        ck_assert_int_eq(pmux_events_start(pmux, 0, 1, on_event, NULL, &events, NULL), 0);
        fake_refuse(&fake, fake_read_request(&fake, "events"), "limit");
        while (!*failure)
                (void)pmux_turn(pmux, FAKE_PATIENCE_USEC, NULL);
        ck_assert_str_eq(failure, "limit");
        ck_assert_int_eq(n_events, 0);
}
END_TEST

static Suite *events_suite(void) {
        Suite *suite = suite_create("events");
        TCase *feed = tcase_create("feed");

        tcase_add_checked_fixture(feed, setup, teardown);
        tcase_add_test(feed, events_go_on_after_the_last_one);
        tcase_add_test(feed, from_now_on_means_the_now_of_the_first_answer);
        tcase_add_test(feed, lost_events_are_not_asked_for_again);
        tcase_add_test(feed, a_failure_is_told);
        suite_add_tcase(suite, feed);
        return suite;
}

CHECK_MAIN(events_suite);
