/* SPDX-License-Identifier: MIT */
#pragma once

/* The feed of events: asked for again after a reconnection, from the last one that came. */

#include <jansson.h>

#include "client/libpmux/pmux.h"
#include "common/error.h"

void events_on_event(Pmux *pmux, json_t *params);
void events_lost(Pmux *pmux);
void events_resume(Pmux *pmux);
void events_fail(Pmux *pmux, const Error *error);
void events_free(Pmux *pmux); /* the connection is closed: free all, tell nobody */
