/* SPDX-License-Identifier: MIT */
#pragma once

/* From a socket path to a connected socket, and from nothing to a daemon that listens there. */

#include <stdint.h>

#include "common/error.h"

/**
 * dial_socket() - connect to a Unix socket, without waiting
 * @ret_fd:  owned by the caller; non-blocking, close-on-exec
 *
 * Refuses a socket that is served by a user who is neither the caller nor root (unless the caller is root):
 * such a daemon would be given the caller's environment. Return: 0; -ECONNREFUSED or -ENOENT (UNREACHABLE):
 * nothing listens; -EAGAIN (UNREACHABLE): its queue is full; -EPERM (DENIED); -errno.
 */
int dial_socket(const char *path, int *ret_fd, Error *reterr_error);

/**
 * dial_autostart() - start a daemon for a socket and wait until it listens
 * @deadline_usec:  monotonic
 *
 * Return: 0: a daemon listens, this one or another that was just started; -ENOENT (UNREACHABLE): there is no
 * pmuxd; -ECONNREFUSED (UNREACHABLE) with what the daemon said; -errno.
 */
int dial_autostart(const char *path, uint64_t deadline_usec, Error *reterr_error);

/** dial_daemon_path() - the pmuxd to start: $PMUX_DAEMON, else the one beside the caller's executable, else
 * "pmuxd", which is searched in PATH. Written to 'buffer', which is returned. */
const char *dial_daemon_path(char *buffer, size_t size);
