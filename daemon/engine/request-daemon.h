/* SPDX-License-Identifier: MIT */
#pragma once

/* Ending the daemon, on a client's request or the keeper's. */

#include "daemon/engine/request.h"

/**
 * daemon_stop() - stop every process; then host->stopping is set
 * @request:     answered then; may be NULL
 * @grace_usec:  UINT64_MAX: each process's own
 */
int daemon_stop(RequestHost *host, Request *request, uint64_t grace_usec, Error *reterr_error);
