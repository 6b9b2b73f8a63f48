/* SPDX-License-Identifier: MIT */
#pragma once

/* A socket to accept connections from. */

#include "common/error.h"
#include "common/macro.h"
#include "daemon/engine/client.h"

typedef struct Listener Listener;

/** listener_new() - accept from now on. @fd: listening, non-blocking; owned from now on, also on failure. */
int listener_new(Listener **ret_listener, ClientSet *clients, int fd, Error *reterr_error);
Listener *listener_free(Listener *listener);
DEFINE_CLEANUP(Listener *, listener_free);
