/* SPDX-License-Identifier: MIT */

#include "client/libpmux/events.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "client/libpmux/call.h"
#include "client/libpmux/connection.h"

typedef enum EventsState {
        EVENTS_OPENING,
        EVENTS_OPEN,
        EVENTS_LOST,
        EVENTS_OVER
} EventsState;

struct PmuxEvents {
        List link;  /* in Pmux.events */
        Pmux *pmux; /* borrowed */
        EventsState state;
        uint32_t number;
        uint64_t since; /* the last sequence number that was had; PMUX_INFINITY: not known yet */
        bool follow;
        void (*on_event)(PmuxEvents *events, const char *event, const PmuxError *error, void *userdata);
        void *userdata; /* borrowed */
        PmuxCall *call; /* borrowed, in flight or NULL */
};

static void events_end(PmuxEvents *events, const Error *error) {
        PmuxError exported;

        events->state = EVENTS_OVER;
        (void)error_export(&exported, error, -error->errno_value);
        events->on_event(events, NULL, &exported, events->userdata);
}

static void on_answer(Pmux *pmux, json_t *result, const Error *error, void *userdata) {
        PmuxEvents *events = userdata;

        (void)pmux;
        events->call = NULL;
        if (error) {
                events_end(events, error);
                return;
        }
        events->state = EVENTS_OPEN;
        if (events->since == PMUX_INFINITY)
                events->since = (uint64_t)json_integer_value(json_object_get(result, "seq"));
}

static int events_open(PmuxEvents *events, Error *reterr_error) {
        json_t *params;

        events->state = EVENTS_OPENING;
        params = json_pack("{s:I, s:b}", "stream", (json_int_t)events->number, "follow", events->follow);
        if (!params)
                return error_set_errno(reterr_error, ENOMEM, "cannot ask for events");
        if (events->since != PMUX_INFINITY)
                (void)json_object_set_new(params, "since", json_integer((json_int_t)events->since));
        return call_start(events->pmux, "events", params, on_answer, events, &events->call, reterr_error);
}

static PmuxEvents *find_events(Pmux *pmux, json_int_t number) {
        LIST_FOREACH(PmuxEvents, events, &pmux->events, link)
                if (events->number == number)
                        return events;
        return NULL;
}

void events_on_event(Pmux *pmux, json_t *params) {
        PmuxEvents *events = find_events(pmux, json_integer_value(json_object_get(params, "stream")));
        const char *type = json_string_value(json_object_get(params, "type"));
        json_t *seq = json_object_get(params, "seq");
        char *text;

        if (!events || events->state != EVENTS_OPEN || !type)
                return;
        if (strcmp(type, "end") == 0)
                events->state = EVENTS_OVER;
        if (strcmp(type, "lost") == 0)
                seq = json_object_get(params, "to");
        if (json_is_integer(seq))
                events->since = (uint64_t)json_integer_value(seq);
        (void)json_object_del(params, "stream"); /* its number means nothing outside of the library */
        text = json_dumps(params, JSON_COMPACT);
        if (text)
                events->on_event(events, text, NULL, events->userdata);
        free(text);
}

void events_lost(Pmux *pmux) {
        LIST_FOREACH(PmuxEvents, events, &pmux->events, link)
                if (events->state == EVENTS_OPEN)
                        events->state = EVENTS_LOST;
}

/* A callback may free any feed, so each search begins anew. */
static PmuxEvents *find_between(Pmux *pmux, EventsState least, EventsState most) {
        LIST_FOREACH(PmuxEvents, events, &pmux->events, link)
                if (events->state >= least && events->state <= most)
                        return events;
        return NULL;
}

void events_resume(Pmux *pmux) {
        Error error = {};
        PmuxEvents *events;

        while ((events = find_between(pmux, EVENTS_LOST, EVENTS_LOST)))
                if (events_open(events, &error) < 0)
                        events_end(events, &error);
}

void events_fail(Pmux *pmux, const Error *error) {
        PmuxEvents *events;

        while ((events = find_between(pmux, EVENTS_OPENING, EVENTS_LOST)))
                events_end(events, error);
}

int pmux_events_start(Pmux *pmux, uint64_t since, int follow,
                      void (*on_event)(PmuxEvents *events, const char *event, const PmuxError *error,
                                       void *userdata),
                      void *userdata, PmuxEvents **ret_events, PmuxError *reterr_error) {
        PmuxEvents *events;
        Error error = {};
        int r;

        events = calloc(1, sizeof(*events));
        if (!events)
                return error_export(reterr_error, &error, -ENOMEM);
        events->pmux = pmux;
        events->number = connection_stream_number(pmux);
        events->since = since;
        events->follow = follow;
        events->on_event = on_event;
        events->userdata = userdata;
        list_append(&pmux->events, &events->link);
        r = events_open(events, &error);
        if (r < 0) {
                (void)pmux_events_free(events);
                return error_export(reterr_error, &error, r);
        }
        *ret_events = events;
        return 0;
}

PmuxEvents *pmux_events_free(PmuxEvents *events) {
        json_t *params;

        if (!events)
                return NULL;
        if (events->state == EVENTS_OPENING || events->state == EVENTS_OPEN) {
                params = json_pack("{s:I}", "stream", (json_int_t)events->number);
                if (params)
                        (void)call_start(events->pmux, "unsubscribe", params, NULL, NULL, NULL, NULL);
        }
        (void)pmux_call_forget(events->call);
        list_remove(&events->link);
        free(events);
        return NULL;
}

void events_free(Pmux *pmux) {
        LIST_FOREACH(PmuxEvents, events, &pmux->events, link)
                (void)pmux_events_free(events);
}
