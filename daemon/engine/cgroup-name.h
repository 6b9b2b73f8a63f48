/* SPDX-License-Identifier: MIT */
#pragma once

/* The name of a daemon's directory of cgroups: it tells whether the daemon that made it still lives. */

#include <stdbool.h>

#define CGROUP_NAME_MAX 160 /* with the NUL */

/**
 * cgroup_name_make() - "pmux-INSTANCE.KEEPER.START.NAMESPACE"
 * @ret_name:  CGROUP_NAME_MAX bytes
 *
 * KEEPER is the keeper's pid, START when it started (clock ticks since boot), NAMESPACE the inode of the pid
 * namespace in which that is its pid. Return: 0; -EINVAL: instance is not hex text; -ESRCH: no such keeper;
 * -errno.
 */
int cgroup_name_make(char *ret_name, const char *instance, int keeper_pid);

/** cgroup_name_is_dead() - whether the keeper that a name tells of is certainly gone: a name of another form,
 * or of another pid namespace, says nothing and so is not dead. */
bool cgroup_name_is_dead(const char *name);
