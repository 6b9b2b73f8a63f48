/* SPDX-License-Identifier: MIT */
#pragma once

/* Streams of records: opened by a request, taken up after a reconnection at the record where they were. */

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "client/libpmux/pmux.h"
#include "common/error.h"

/** stream_start() - as pmux_stream_start(); 'params' is taken over, on failure too. */
int stream_start(Pmux *pmux, const char *method, json_t *params, const PmuxStreamOptions *options,
                 PmuxStream **ret_stream, Error *reterr_error);

/** streams_on_data() - one DATA frame. Return: 0; -EPROTO for a malformed record or one beyond the credit. */
int streams_on_data(Pmux *pmux, uint32_t number, const uint8_t *payload, size_t size, Error *reterr_error);

void streams_lost(Pmux *pmux);                     /* the socket is gone */
void streams_resume(Pmux *pmux);                   /* a new one is there: subscribe again */
void streams_fail(Pmux *pmux, const Error *error); /* given up */
void streams_free(Pmux *pmux);                     /* the connection is closed: free all, tell nobody */
