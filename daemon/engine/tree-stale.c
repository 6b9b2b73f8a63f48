/* SPDX-License-Identifier: MIT */

#include "daemon/engine/tree-stale.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/macro.h"
#include "daemon/engine/cgroup-name.h"
#include "daemon/engine/proc-set.h"
#include "daemon/engine/tree-cgroup.h"

#define WAIT_USEC (500 * USEC_PER_MSEC)

/* Waits until the cgroup is empty: cgroup.events is an exception (POLLPRI) for whoever polls it. */
static void stale_wait(int dir_fd, uint64_t deadline_usec) {
        CLEANUP(fd_close) int fd = -1;
        struct pollfd poll_fd;
        uint64_t now;
        char buffer[64];

        fd = openat(dir_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
        poll_fd = (struct pollfd){ .fd = fd, .events = POLLPRI };
        while (fd >= 0 && pread(fd, buffer, sizeof(buffer), 0) > 0 && cgroup_populated(dir_fd) == 1) {
                now = clock_monotonic_usec();
                if (now >= deadline_usec ||
                    poll(&poll_fd, 1, (int)((deadline_usec - now) / USEC_PER_MSEC) + 1) < 0)
                        return;
        }
}

/* Kernels without cgroup.kill: nobody forks in a frozen cgroup, and SIGKILL reaches into it. */
static void stale_kill_each(int dir_fd) {
        CLEANUP(proc_set_deinit) ProcSet set = {};

        (void)cgroup_freeze(dir_fd, true);
        (void)cgroup_pids(dir_fd, &set);
        for (size_t i = 0; i < set.n_ids; i++)
                if (set.ids[i].pid > 1 && set.ids[i].pid != getpid())
                        (void)kill(set.ids[i].pid, SIGKILL);
        (void)cgroup_freeze(dir_fd, false);
}

/* Returns how many processes were killed. */
static int stale_kill_one(int own_fd, const char *name, uint64_t deadline_usec) {
        CLEANUP(proc_set_deinit) ProcSet set = {};
        CLEANUP(fd_close) int fd = -1;
        struct stat st;

        fd = openat(own_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid())
                return 0;
        (void)cgroup_pids(fd, &set);
        if (set.n_ids > 0) {
                if (cgroup_kill(fd) < 0)
                        stale_kill_each(fd);
                stale_wait(fd, deadline_usec);
        }
        (void)cgroup_remove(own_fd, name);
        return (int)set.n_ids;
}

int tree_stale_kill(int own_fd) {
        uint64_t deadline_usec = clock_monotonic_usec() + WAIT_USEC;
        struct dirent *entry;
        int fd, n_killed = 0;
        DIR *dir;

        fd = openat(own_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return 0;
        dir = fdopendir(fd);
        if (!dir) {
                (void)fd_close(fd);
                return 0;
        }
        while ((entry = readdir(dir)))
                if (cgroup_name_is_dead(entry->d_name))
                        n_killed += stale_kill_one(own_fd, entry->d_name, deadline_usec);
        (void)closedir(dir);
        return n_killed;
}
