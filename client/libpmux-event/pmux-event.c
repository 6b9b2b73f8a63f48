/* SPDX-License-Identifier: MIT */

#include "client/libpmux-event/pmux-event.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

#include "client/libpmux/pmux.h"

struct PmuxEvent {
        struct event *readable; /* owned */
        Pmux *pmux;             /* borrowed */
        PmuxEventFailedFn on_failed;
        void *userdata; /* borrowed */
};

static void on_readable(evutil_socket_t fd, short what, void *userdata) {
        PmuxEvent *event = userdata;
        PmuxError error;

        (void)fd;
        (void)what;
        if (pmux_dispatch(event->pmux, &error) == 0)
                return;
        (void)event_del(event->readable); /* given up: it would be readable for ever */
        if (event->on_failed)
                event->on_failed(event->pmux, &error, event->userdata);
}

int pmux_event_new(PmuxEvent **ret_event, struct event_base *base, Pmux *pmux, PmuxEventFailedFn on_failed,
                   void *userdata) {
        PmuxEvent *event;

        event = calloc(1, sizeof(*event));
        if (!event)
                return -ENOMEM;
        *event = (PmuxEvent){ .pmux = pmux, .on_failed = on_failed, .userdata = userdata };
        event->readable = event_new(base, pmux_fd(pmux), EV_READ | EV_PERSIST, on_readable, event);
        if (!event->readable || event_add(event->readable, NULL) < 0) {
                (void)pmux_event_free(event);
                return -ENOMEM;
        }
        *ret_event = event;
        return 0;
}

PmuxEvent *pmux_event_free(PmuxEvent *event) {
        if (!event)
                return NULL;
        if (event->readable)
                event_free(event->readable);
        free(event);
        return NULL;
}
