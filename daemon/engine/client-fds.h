/* SPDX-License-Identifier: MIT */
#pragma once

/* Descriptors that came with a connection's bytes. They belong to the frame that was sent with them, to no
 * other, and are closed when that has been handled. */

#include <stddef.h>
#include <sys/types.h>

#include "common/error.h"
#include "daemon/engine/client.h"

#define CLIENT_FDS_MAX 3     /* with one frame */
#define CLIENT_FD_SETS_MAX 4 /* of one connection at a time: more are closed at once */

/** client_fds_receive() - as read(2); keeps what descriptors came. Return: bytes; 0; -errno. */
ssize_t client_fds_receive(Client *client, void *bytes, size_t size);
/** client_fds_pass() - all before client->n_handled has been handled: close what belonged to that. */
void client_fds_pass(Client *client);
/** client_fds_drop() - close them all. */
void client_fds_drop(Client *client);
/**
 * client_fds_take() - the descriptor of a number that came with the frame that is being handled
 * @ret_fd:  a duplicate, owned by the caller
 *
 * Return: 0; -EINVAL (INVALID): none came; -EDQUOT (LIMIT): it came, but could not be taken up; -errno.
 */
int client_fds_take(Client *client, unsigned number, int *ret_fd, Error *reterr_error);
