/* SPDX-License-Identifier: MIT */

#include "daemon/engine/cgroup-name.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/engine/proc-stat.h"

#define INSTANCE_MAX 64 /* hex digits */

static int pid_namespace(uint64_t *ret_inode) {
        struct stat st;

        if (stat("/proc/self/ns/pid", &st) < 0)
                return -errno;
        *ret_inode = st.st_ino;
        return 0;
}

int cgroup_name_make(char *ret_name, const char *instance, int keeper_pid) {
        size_t n = strspn(instance, "0123456789abcdefABCDEF");
        uint64_t inode = 0;
        ProcStat stat;
        int r;

        if (n == 0 || n > INSTANCE_MAX || instance[n] != '\0')
                return -EINVAL;
        r = proc_stat_read(keeper_pid, &stat);
        if (r >= 0)
                r = pid_namespace(&inode);
        if (r < 0)
                return r;
        (void)snprintf(ret_name, CGROUP_NAME_MAX, "pmux-%s.%d.%" PRIu64 ".%" PRIu64, instance, keeper_pid,
                       stat.start, inode);
        return 0;
}

bool cgroup_name_is_dead(const char *name) {
        uint64_t start, inode, here = 0;
        int keeper_pid, n = 0;
        ProcStat stat;
        int r;

        if (sscanf(name, "pmux-%*64[0-9a-fA-F].%d.%" SCNu64 ".%" SCNu64 "%n", &keeper_pid, &start, &inode,
                   &n) != 3 ||
            n == 0 || name[n] != '\0' || keeper_pid <= 0)
                return false;
        if (pid_namespace(&here) < 0 || here != inode)
                return false;
        if (kill(keeper_pid, 0) < 0 && errno == ESRCH)
                return true;
        /* The number is in use; by another process if that started at another time. Where /proc hides it from
         * us, it is not ours, so neither is the cgroup. */
        r = proc_stat_read(keeper_pid, &stat);
        return r == 0 && (stat.start != start || !stat.alive);
}
