/* SPDX-License-Identifier: MIT */
#pragma once

/* Who may talk to this daemon: its own user and root, as the kernel vouches for them. */

#include <sys/socket.h>

#include "common/error.h"

/**
 * access_check() - the peer's credentials, and whether they suffice
 * @ret_cred:  pid, uid, gid at connect(2); the pid is for people only, nothing acts on it
 *
 * Return: 0; -EPERM (DENIED); -errno of getsockopt(2). Source: unix(7), SO_PEERCRED.
 */
int access_check(int socket_fd, struct ucred *ret_cred, Error *reterr_error);
