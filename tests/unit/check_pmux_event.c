/* SPDX-License-Identifier: MIT */

/* A connection on a program's own libevent base. */

#include "client/libpmux-event/pmux-event.h"

#include <event2/event.h>

#include "client/libpmux/pmux-read.h"
#include "tests/support/check-main.h"
#include "tests/support/fake-daemon.h"

static FakeDaemon fake;
static Pmux *pmux;
static struct event_base *base;
static PmuxEvent *event;
static int n_answers, n_given_up;
static char answer[64];

static void on_given_up(Pmux *self, const PmuxError *error, void *userdata) {
        (void)self;
        (void)userdata;
        ck_assert_str_eq(error->code, "unreachable");
        n_given_up++;
        (void)event_base_loopbreak(base);
}

static void on_read(Pmux *self, const PmuxRead *read, const PmuxError *error, void *userdata) {
        (void)self;
        (void)userdata;
        ck_assert_ptr_null(error);
        (void)strcpy(answer, read->data);
        n_answers++;
        (void)event_base_loopbreak(base);
}

static void open_on_base(unsigned flags) {
        base = event_base_new();
        ck_assert_ptr_nonnull(base);
        pmux = fake_open(&fake, flags, 0);
        ck_assert_int_eq(pmux_event_new(&event, base, pmux, on_given_up, NULL), 0);
        n_answers = n_given_up = 0;
}

static void close_all(void) {
        ck_assert_ptr_null(pmux_event_free(event));
        fake_close(&fake, pmux);
        event_base_free(base);
}

START_TEST(an_answer_comes_from_the_loop)
{
        open_on_base(0);
        ck_assert_int_eq(pmux_ask_start(pmux, "1", "x", 1, NULL, on_read, NULL, NULL, NULL), 0);
        fake_reply(&fake, fake_read_request(&fake, "ask"),
                   "{\"reason\":\"satisfied\",\"data\":\"yes\",\"from\":0,\"next\":3,\"run\":1}");
        ck_assert_int_eq(event_base_dispatch(base), 0);
        ck_assert_int_eq(n_answers, 1);
        ck_assert_str_eq(answer, "yes");
        close_all();
}
END_TEST

static void on_tick(evutil_socket_t fd, short what, void *userdata) {
        (void)fd;
        (void)what;
        if (fake.n_dials == 2 && userdata == &fake) { /* mended by the loop: answer what was repeated */
                fake_greet(&fake);
                fake_reply(&fake, fake_read_request(&fake, "read"),
                           "{\"reason\":\"satisfied\",\"data\":\"again\",\"from\":0,\"next\":5,\"run\":1}");
                fake.n_dials = 3;
        }
}

START_TEST(a_broken_connection_is_mended_in_the_loop)
{
        const struct timeval interval = { .tv_usec = 2000 };
        struct event *tick;

        open_on_base(0);
        tick = event_new(base, -1, EV_PERSIST, on_tick, &fake);
        ck_assert_int_eq(event_add(tick, &interval), 0);
        ck_assert_int_eq(pmux_read_start(pmux, "1", NULL, on_read, NULL, NULL, NULL), 0);
        json_decref(fake_read_request(&fake, "read"));
        fake_break(&fake);
        ck_assert_int_eq(event_base_dispatch(base), 0);
        ck_assert_str_eq(answer, "again");
        event_free(tick);
        close_all();
}
END_TEST

START_TEST(a_connection_that_is_given_up_is_told_once)
{
        open_on_base(PMUX_NO_RECONNECT);
        fake_break(&fake);
        ck_assert_int_eq(event_base_dispatch(base), 0);
        ck_assert_int_eq(n_given_up, 1);
        ck_assert_int_eq(event_base_loop(base, EVLOOP_NONBLOCK), 1); /* nothing is left to wait for */
        ck_assert_int_eq(n_given_up, 1);
        close_all();
}
END_TEST

static Suite *pmux_event_suite(void) {
        Suite *suite = suite_create("pmux-event");
        TCase *tcase = tcase_create("loop");

        tcase_add_test(tcase, an_answer_comes_from_the_loop);
        tcase_add_test(tcase, a_broken_connection_is_mended_in_the_loop);
        tcase_add_test(tcase, a_connection_that_is_given_up_is_told_once);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(pmux_event_suite);
