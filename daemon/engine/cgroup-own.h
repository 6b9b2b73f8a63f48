/* SPDX-License-Identifier: MIT */
#pragma once

/* Where this process's own cgroup is: /proc/self/cgroup read against the cgroup2 mounts of
 * /proc/self/mountinfo. */

#include <stddef.h>

#include "common/error.h"

/**
 * cgroup_own_path() - the directory that the two texts name
 * @cgroup:     text of /proc/PID/cgroup; its line "0::PATH" counts, from the root of our cgroup namespace
 * @mountinfo:  text of /proc/self/mountinfo; a mount shows the tree from its root field on, so that a bind
 *              mount of a part of the tree can only be used if the own cgroup is in that part
 * @nth:        which of them, from 0, where several mounts show it (one may be hidden below another)
 * @ret_path:   owned
 *
 * Pure. Return: 0; -ENOENT: no (further) cgroup2 mount shows our cgroup; -ENOMEM.
 */
int cgroup_own_path(const char *cgroup, const char *mountinfo, size_t nth, char **ret_path);

/**
 * cgroup_own_open() - open the own cgroup's directory, after checking that it really holds this process
 * @ret_fd:    O_PATH descriptor, owned by the caller
 * @ret_path:  the path of /proc/self/cgroup ("/system.slice/pmux.service"), owned by the caller
 *
 * Return: 0; -ENOENT as above; -errno.
 */
int cgroup_own_open(int *ret_fd, char **ret_path, Error *reterr_error);

/**
 * cgroup_path_of() - the cgroup v2 path of a process, as this process sees it
 * @ret_path:  owned
 *
 * Return: 0; -ESRCH: it is gone; -ENOENT: it has none; -errno.
 */
int cgroup_path_of(int pid, char **ret_path);
