/* SPDX-License-Identifier: MIT */
#pragma once

/* Descriptors are what a daemon with many processes runs out of first. Who wants one for something new is
 * refused while some are left for what must go on: processes leave enough for their input, their input for
 * clients, and clients for the logs. */

#include <stddef.h>

#include "common/error.h"

typedef enum FdUse {
        FD_USE_PROCESS, /* the pipes of a run */
        FD_USE_INPUT,   /* the position in its input */
        FD_USE_CLIENT,  /* a connection */
} FdUse;

/**
 * fd_room_check() - whether a descriptor that was just opened may be kept
 * @fd:  as the lowest free number is given to each, at least so many are open
 *
 * Asks for RLIMIT_NOFILE each time (getrlimit(2)). Return: 0; 1: likewise, but few are left, so what can be
 * closed should be; ERROR_LIMIT with a text that says for what there is none, and where the bound comes from.
 */
int fd_room_check(FdUse use, int fd, Error *reterr_error);

/** fd_room_open_logs() - of how many processes logs may hold descriptors at a time: LIMIT_OPEN_LOGS, or
 * fewer. */
size_t fd_room_open_logs(void);
