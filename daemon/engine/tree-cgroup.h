/* SPDX-License-Identifier: MIT */
#pragma once

/* The cgroups of one daemon: a directory below its own cgroup, and in it one for each run. No /proc walks, no
 * inotify.
 *
 *   OWN/pmux-INSTANCE.KEEPER.START.NAMESPACE/PROCESS.RUN         (the middle one: cgroup-name.h)
 *
 * A run may make cgroups of its own below: they belong to its tree. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "common/macro.h"
#include "daemon/engine/proc-set.h"

typedef struct Cgroups Cgroups;

/**
 * cgroups_open() - make the daemon's directory, or find it where an earlier engine made it
 * @instance:  hex text
 *
 * Return: 0; -errno where cgroups cannot be used: no mount, not writable, a threaded one, no cgroup.freeze.
 */
int cgroups_open(Cgroups **ret_cgroups, const char *instance, int keeper_pid, Error *reterr_error);
/** cgroups_free() - removes the daemon's directory if no run is left in it. */
Cgroups *cgroups_free(Cgroups *cgroups);
DEFINE_CLEANUP(Cgroups *, cgroups_free);

/** cgroups_own_fd() - the own cgroup's directory, in which the daemons' ones are; borrowed. */
int cgroups_own_fd(const Cgroups *cgroups);

/** cgroups_make() - make the cgroup of a run, harmless to repeat. *ret_fd: its directory (O_PATH), owned by
 * the caller. Return: 0 or -errno (-EAGAIN: cgroup.max.descendants is reached). */
int cgroups_make(Cgroups *cgroups, uint64_t process, uint32_t run, int *ret_fd);
/** cgroups_remove() - remove the cgroup of a run and those below it. Return: 0, also if there is none;
 * -EBUSY: not empty; -errno. */
int cgroups_remove(Cgroups *cgroups, uint64_t process, uint32_t run);
/** cgroups_sweep() - remove those of all runs that are not wanted; one in which something lives stays. */
void cgroups_sweep(Cgroups *cgroups, bool (*wanted)(uint64_t process, uint32_t run, void *userdata),
                   void *userdata);
/** cgroups_open_run() - the directory of a run (O_PATH), owned by the caller. Return: the fd; -ENOENT;
 * -errno. */
int cgroups_open_run(const Cgroups *cgroups, uint64_t process, uint32_t run);
/** cgroups_contains() - whether a process is in the cgroup of a run or below it, now. */
bool cgroups_contains(const Cgroups *cgroups, uint64_t process, uint32_t run, pid_t pid);
/** cgroups_populated(), cgroups_oom() - as cgroup_populated() and cgroup_oom() below, of a run; -ENOENT, -1:
 * it has none. */
int cgroups_populated(const Cgroups *cgroups, uint64_t process, uint32_t run);
int cgroups_oom(const Cgroups *cgroups, uint64_t process, uint32_t run);

/* These work on a directory descriptor, borrowed. */

/** cgroup_populated() - Return: 1: a process that is not a zombie is in it or below; 0: none; -errno. */
int cgroup_populated(int dir_fd);
/** cgroup_pids() - add every process in it or below to the set (start 0), zombies left out. Return: 0,
 * -errno. */
int cgroup_pids(int dir_fd, ProcSet *set);
/** cgroup_kill() - SIGKILL all, also those that are being forked now. Return: 0; -EOPNOTSUPP (Linux
 * before 5.14). */
int cgroup_kill(int dir_fd);
/** cgroup_freeze() - stop or continue all; returns before they have stopped. Return: 0 or -errno. */
int cgroup_freeze(int dir_fd, bool frozen);
/** cgroup_frozen() - whether cgroup.freeze asks for a stop. Return: 1, 0, -errno. */
int cgroup_frozen(int dir_fd);
/** cgroup_oom() - Return: 1: the out-of-memory killer hit; 0: it did not; -1: no memory controller. */
int cgroup_oom(int dir_fd);
/** cgroup_remove() - remove a directory below dir_fd with those below it. Return: 0; -ENOENT; -EBUSY; -errno.
 */
int cgroup_remove(int dir_fd, const char *name);
