/* SPDX-License-Identifier: MIT */
#pragma once

/* What happens, told to those who follow: each a sequence number, the events themselves are in the registry.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/list.h"
#include "daemon/engine/client.h"
#include "daemon/engine/registry.h"

typedef struct EventFeed {
        Registry *registry; /* borrowed */
        List followers;
} EventFeed;

void event_feed_init(EventFeed *feed, Registry *registry);
/** event_feed_grown() - there are new events: the followers get them at the end of the turn. */
void event_feed_grown(EventFeed *feed);
/**
 * event_feed_follow() - send events on a stream of a connection
 * @since:   the last that the client has
 * @follow:  false: end with what there is now
 */
int event_feed_follow(EventFeed *feed, Client *client, uint32_t stream, uint64_t since, bool follow,
                      Error *reterr_error);
/** event_feed_cancel() - end such a stream. Return: whether it was one. */
bool event_feed_cancel(ClientStream *stream);
