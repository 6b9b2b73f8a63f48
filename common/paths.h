/* SPDX-License-Identifier: MIT */
#pragma once

/* Where the socket, the log and the registry are, as client and daemon agree on it. */

#include "common/error.h"

/**
 * paths_socket() - the socket to talk to or to listen on
 * @given:     --socket, may be NULL
 * @ret_path:  owned; absolute
 *
 * The first of: given, $PMUX_SOCKET, $XDG_RUNTIME_DIR/pmux/socket, for root /run/pmux/socket,
 * /run/user/UID/pmux/socket if /run/user/UID exists, /tmp/pmux-UID/socket.
 *
 * Return: 0; -EINVAL (INVALID) for a path that does not fit sun_path (107 bytes), naming it and the bound;
 * -ENOMEM.
 */
int paths_socket(const char *given, char **ret_path, Error *reterr_error);

/**
 * paths_state() - the directory of logs and registry
 * The first of: given, $PMUX_STATE_DIR, with is_system_daemon /var/lib/pmux, $XDG_STATE_HOME/pmux,
 * ~/.local/state/pmux
 * ($HOME, else passwd(5)).
 */
int paths_state(const char *given, int is_system_daemon, char **ret_path, Error *reterr_error);
