/* SPDX-License-Identifier: MIT */

#include "daemon/engine/event-feed.h"

#include <errno.h>
#include <stdlib.h>

#define EVENTS_AT_ONCE 64

typedef struct Follower {
        ClientStream stream;
        List link;
        EventFeed *feed; /* borrowed */
        uint64_t seq;    /* the last that was sent */
        bool follow;
} Follower;

static Follower *follower_of(ClientStream *stream) {
        return CONTAINER_OF(stream, Follower, stream);
}

static void follower_free(Follower *follower) {
        client_stream_detach(&follower->stream);
        list_remove(&follower->link);
        free(follower);
}

/* Takes over 'params'. */
static int follower_send(Follower *follower, json_t *params) {
        json_t *object;
        int r;

        if (params && json_object_set_new(params, "stream", json_integer(follower->stream.id)) < 0) {
                json_decref(params);
                params = NULL;
        }
        object = params ? json_pack("{s:s, s:s, s:o}", "jsonrpc", "2.0", "method", "event", "params", params)
                        : NULL;
        if (!object)
                return -ENOMEM;
        r = client_send_json(follower->stream.client, object);
        json_decref(object);
        return r;
}

static int follower_on_event(uint64_t seq, uint64_t time_usec, const char *json, void *userdata) {
        Follower *follower = userdata;
        json_t *params;
        int r;

        params = json_loads(json, JSON_ALLOW_NUL, NULL);
        if (!params)
                params = json_object();
        if (!params || json_object_set_new(params, "seq", json_integer((json_int_t)seq)) < 0 ||
            json_object_set_new(params, "time_usec", json_integer((json_int_t)time_usec)) < 0) {
                json_decref(params);
                return -ENOMEM;
        }
        r = follower_send(follower, params);
        if (r >= 0)
                follower->seq = seq;
        return r;
}

static int follower_catch_up(Follower *follower, uint64_t *ret_latest) {
        uint64_t oldest, latest;
        int r;

        r = registry_event_range(follower->feed->registry, &oldest, &latest, NULL);
        if (r < 0)
                return r;
        *ret_latest = latest;
        if (latest > 0 && follower->seq + 1 < oldest) {
                r = follower_send(follower,
                                  json_pack("{s:s, s:I, s:I}", "type", "lost", "from",
                                            (json_int_t)(follower->seq + 1), "to", (json_int_t)(oldest - 1)));
                if (r < 0)
                        return r;
                follower->seq = oldest - 1;
        }
        if (follower->seq >= latest)
                return 0;
        return registry_events(follower->feed->registry, follower->seq, EVENTS_AT_ONCE, follower_on_event,
                               follower, NULL);
}

static bool follower_on_pump(ClientStream *stream) {
        Follower *follower = follower_of(stream);
        uint64_t latest = 0;

        if (follower_catch_up(follower, &latest) < 0)
                return false;
        if (stream->client == NULL || stream->client->closed)
                return false;
        if (follower->seq < latest)
                return true;
        if (!follower->follow) {
                (void)follower_send(follower, json_pack("{s:s}", "type", "end"));
                follower_free(follower);
        }
        return false;
}

static int follower_on_frame(ClientStream *stream, const FrameHeader *header, const uint8_t *payload,
                             Error *reterr_error) {
        (void)header;
        (void)payload;
        return error_set(reterr_error, ERROR_PROTOCOL, "stream %u carries events: it takes no frames",
                         stream->id);
}

static void follower_on_close(ClientStream *stream) {
        follower_free(follower_of(stream));
}

static const ClientStreamOps follower_ops = {
        .on_frame = follower_on_frame,
        .on_pump = follower_on_pump,
        .on_close = follower_on_close,
};

void event_feed_init(EventFeed *feed, Registry *registry) {
        feed->registry = registry;
        list_init(&feed->followers);
}

void event_feed_grown(EventFeed *feed) {
        LIST_FOREACH(Follower, follower, &feed->followers, link)
                client_stream_ready(&follower->stream);
}

int event_feed_follow(EventFeed *feed, Client *client, uint32_t stream, uint64_t since, bool follow,
                      Error *reterr_error) {
        Follower *follower;
        int r;

        follower = calloc(1, sizeof(*follower));
        if (!follower)
                return error_set_errno(reterr_error, ENOMEM, "cannot follow events");
        r = client_stream_attach(&follower->stream, client, stream, &follower_ops, reterr_error);
        if (r < 0) {
                free(follower);
                return r;
        }
        follower->feed = feed;
        follower->seq = since;
        follower->follow = follow;
        list_append(&feed->followers, &follower->link);
        client_stream_ready(&follower->stream);
        return 0;
}

bool event_feed_cancel(ClientStream *stream) {
        Follower *follower;

        if (!stream || stream->ops != &follower_ops)
                return false;
        follower = follower_of(stream);
        follower_free(follower);
        return true;
}
