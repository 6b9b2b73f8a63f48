/* SPDX-License-Identifier: MIT */
#pragma once

/* Streams to a process's stdin: what the daemon has not accepted is kept and sent again after a reconnection.
 */

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "client/libpmux/pmux.h"
#include "common/error.h"

/** inputs_on_ack() - one ACK frame. Return: 0; -EPROTO when it acknowledges what was never sent. */
int inputs_on_ack(Pmux *pmux, uint32_t number, const uint8_t *payload, size_t size, Error *reterr_error);

void inputs_on_closed(Pmux *pmux, const json_t *params); /* the notification stdin-closed */
void inputs_pump(Pmux *pmux);                            /* send what windows and the socket allow */
void inputs_lost(Pmux *pmux);                            /* the socket is gone */
void inputs_resume(Pmux *pmux);                          /* a new one is there: open again */
void inputs_fail(Pmux *pmux, const Error *error);        /* given up */
void inputs_free(Pmux *pmux);                            /* the connection is closed: free all, tell nobody */
