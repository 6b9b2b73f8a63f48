/* SPDX-License-Identifier: MIT */
#pragma once

/* Descriptors: closing them once, writing all of a buffer, and passing them over a socket. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/macro.h"

#define FD_PASS_MAX 16 /* most descriptors in one message */

/** fd_close() - close a descriptor, keeping errno; a negative one is ignored. Return: -1, to store back. */
int fd_close(int fd);

/** fd_write_all() - write(2) until all is written, through EINTR; blocking descriptors only. Return: 0 or
 * -errno. */
int fd_write_all(int fd, const void *data, size_t size);

/** fd_read_full() - read(2) until 'size' bytes or end of file. Return: the number of bytes read, or -errno.
 */
ssize_t fd_read_full(int fd, void *data, size_t size);

/** fd_set_nonblock() - set or clear O_NONBLOCK on the open file description. Return: 0 or -errno. */
int fd_set_nonblock(int fd, int enable);

/**
 * fd_send() - send one message with descriptors (sendmsg(2), SCM_RIGHTS)
 * @socket_fd:  a connected Unix socket
 * @data:       at least one byte
 * @fds:        n_fds descriptors, at most FD_PASS_MAX, borrowed
 *
 * Never raises SIGPIPE. Return: the number of bytes sent, or -errno.
 */
ssize_t fd_send(int socket_fd, const void *data, size_t size, const int *fds, size_t n_fds);

/**
 * fd_receive() - receive one message with descriptors
 * @ret_fds:    room for FD_PASS_MAX descriptors; those received are O_CLOEXEC and owned by the caller
 * @ret_n_fds:  how many were received
 *
 * What a peer sent before it ended is received, whether or not it had read what was sent to it. Return: the
 * number of bytes, 0 at the end of the stream, -errno (-EMSGSIZE: cut off, descriptors are closed).
 */
ssize_t fd_receive(int socket_fd, void *data, size_t size, int *ret_fds, size_t *ret_n_fds);

static inline void fd_close_cleanup(int *fd) {
        if (*fd >= 0)
                (void)fd_close(*fd);
}
