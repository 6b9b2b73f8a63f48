/* SPDX-License-Identifier: MIT */
#pragma once

/* What must be so before the daemon runs: a state directory and a socket that are its own alone. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "common/error.h"

#define SETUP_LISTENERS_MAX 16

typedef struct SetupListeners {
        int fds[SETUP_LISTENERS_MAX]; /* owned */
        size_t n;
        bool is_bound; /* we bound the socket: device and inode say which it is */
        dev_t device;
        ino_t inode;
} SetupListeners;

/**
 * setup_directory() - make a directory that is ours alone, with its parents, or check one that is there
 * @what:  names it in the sentence of an error ("state directory")
 *
 * Directories that are missing are made with mode 0700. The last must be a directory, no symbolic link,
 * belong to our effective user and be closed to all others.
 *
 * Return: 0; -EPERM (DENIED) with a sentence that says what is wrong and what to do; -errno.
 */
int setup_directory(const char *path, const char *what, Error *reterr_error);

/**
 * setup_lock() - make the state directory ours as long as the descriptor is open
 * @ret_fd:  the lock file 'state_dir/lock', owned
 *
 * Return: 0; -EADDRINUSE (ALREADY_RUNNING), naming the daemon that has it; -errno.
 */
int setup_lock(const char *state_dir, int *ret_fd, Error *reterr_error);

/** setup_lock_sign() - write our pid into the lock file, for setup_lock() of another daemon. */
void setup_lock_sign(int lock_fd);

/**
 * setup_activated() - take the listening sockets that systemd passed
 *
 * Return: 0, also when there is none; -EINVAL (INVALID) for a descriptor that is no listening Unix socket.
 */
int setup_activated(SetupListeners *listeners, Error *reterr_error);

/**
 * setup_listen() - bind the socket and listen
 * @checks_directory:  the path was not given by the user: its directory must be ours alone, see
 * setup_directory()
 *
 * A socket on which nobody listens any more is replaced. What listens or is no socket is left alone.
 *
 * Return: 0; -EADDRINUSE (ALREADY_RUNNING): a daemon listens there; -EINVAL (INVALID): the path is too long;
 * -EPERM (DENIED); -errno.
 */
int setup_listen(const char *path, bool checks_directory, SetupListeners *listeners, Error *reterr_error);

void setup_listeners_deinit(SetupListeners *listeners);
