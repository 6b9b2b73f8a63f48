/* SPDX-License-Identifier: MIT */

/* Two processes at once on a libevent base: whichever answers first is heard first. */

#include <event2/event.h>
#include <pmux-event.h>
#include <pmux-read.h>
#include <pmux.h>
#include <stdio.h>

static struct event_base *base;
static int n_waiting = 2;

static void on_line(Pmux *pmux, const PmuxRead *read, const PmuxError *error, void *userdata) {
        const char *name = userdata;

        (void)pmux;
        if (error)
                printf("%s: %s\n", name, error->message);
        else
                printf("%s: %s", name, read->data);
        if (--n_waiting == 0)
                event_base_loopbreak(base);
}

int main(void) {
        const char *const argv[] = { "cat", NULL }, *const env[] = { "PATH=/usr/bin:/bin", NULL };
        const PmuxReadOptions line = { .size = sizeof(line), .what = PMUX_FOR_LINE };
        PmuxEvent *event = NULL;
        PmuxError error;
        Pmux *pmux;

        base = event_base_new();
        if (pmux_open(&pmux, NULL, &error) < 0 ||
            pmux_run(pmux, argv, env, NULL, "one", NULL, NULL, NULL, &error) < 0 ||
            pmux_run(pmux, argv, env, NULL, "two", NULL, NULL, NULL, &error) < 0)
                return fprintf(stderr, "%s\n", error.message), 1;
        if (pmux_event_new(&event, base, pmux, NULL, NULL) < 0)
                return 1;

        /* The first waits for a line that has not been written yet; that does not keep the second waiting. */
        pmux_read_start(pmux, "one", &line, on_line, "one", NULL, NULL);
        pmux_ask_start(pmux, "two", "hello\n", 6, &line, on_line, "two", NULL, NULL);
        while (n_waiting == 2)
                event_base_loop(base, EVLOOP_ONCE);
        pmux_call_start(pmux, "write", "{\"target\":\"one\",\"data\":\"at last\\n\"}", NULL, NULL, NULL,
                        NULL);
        event_base_dispatch(base);

        pmux_event_free(event);
        pmux_close(pmux);
        event_base_free(base);
        return 0;
}
