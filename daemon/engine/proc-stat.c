/* SPDX-License-Identifier: MIT */

#include "daemon/engine/proc-stat.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/macro.h"

#define STAT_MAX 1280 /* bytes; its 52 numbers and a name of 64 bytes at most */
#define ENTRY_MAX 128 /* bytes of an entry of the environment that are compared */
#define CHUNK_SIZE 16384
#define FLAG_EXITING 0x4U /* PF_EXITING of the kernel's linux/sched.h */
#define PATH_SIZE (sizeof("/proc//environ") + 3 * sizeof(pid_t))

static int proc_open(pid_t pid, const char *name) {
        char path[PATH_SIZE];
        int fd;

        (void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        return fd;
}

int proc_stat_parse(const char *text, ProcStat *ret_stat) {
        const char *rest = strrchr(text, ')');
        ProcStat stat;
        unsigned flags;
        long n_threads;
        char state;

        /* Fields 3 to 22: state ppid pgrp session … flags … num_threads itrealvalue starttime. */
        if (!rest || sscanf(text, "%d", &stat.pid) != 1 ||
            sscanf(rest + 1,
                   " %c %d %d %d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %" SCNu64, &state,
                   &stat.parent, &stat.group, &stat.session, &flags, &n_threads, &stat.start) != 7)
                return -EIO;
        /* Where its first thread has ended, a process with others looks like a zombie, but lives. */
        stat.alive = (state != 'Z' && state != 'X') || n_threads > 1;
        stat.ending = flags & FLAG_EXITING;
        *ret_stat = stat;
        return 0;
}

int proc_stat_read(pid_t pid, ProcStat *ret_stat) {
        CLEANUP(fd_close) int fd = -1;
        char text[STAT_MAX];
        ssize_t n;

        fd = proc_open(pid, "stat");
        if (fd < 0)
                return fd;
        n = fd_read_full(fd, text, sizeof(text) - 1);
        if (n < 0)
                return (int)n;
        text[n] = '\0';
        return proc_stat_parse(text, ret_stat);
}

/* Compares one entry, as far as it was kept, with the mark. */
static ProcMark mark_compare(const char *entry, size_t size, const char *mark, size_t name_size) {
        if (size < name_size || memcmp(entry, mark, name_size) != 0)
                return PROC_MARK_NONE;
        return size == strlen(mark) && memcmp(entry, mark, size) == 0 ? PROC_MARK_SAME : PROC_MARK_OTHER;
}

/* Looks through the environment; *ret_seen: whether there was a byte. One that is opened before its process
 * executes another program ends then. */
static ProcMark mark_look(pid_t pid, const char *mark, bool *ret_seen) {
        size_t name_size = (size_t)(strchrnul(mark, '=') - mark) + 1, size = 0;
        ProcMark found = PROC_MARK_NONE, result = PROC_MARK_NONE;
        CLEANUP(fd_close) int fd = -1;
        char chunk[CHUNK_SIZE], entry[ENTRY_MAX];
        ssize_t n;

        *ret_seen = false;
        fd = proc_open(pid, "environ");
        if (fd < 0) {
                *ret_seen = fd == -EACCES || fd == -EPERM;
                return *ret_seen ? PROC_MARK_NONE : PROC_MARK_UNKNOWN;
        }
        while ((n = fd_read_full(fd, chunk, sizeof(chunk))) > 0) {
                *ret_seen = true;
                for (ssize_t i = 0; i < n; i++) {
                        if (chunk[i] != '\0') {
                                if (size < sizeof(entry))
                                        entry[size++] = chunk[i];
                                continue;
                        }
                        found = mark_compare(entry, size, mark, name_size);
                        if (found == PROC_MARK_SAME)
                                return found;
                        if (found == PROC_MARK_OTHER)
                                result = found;
                        size = 0;
                }
        }
        return result;
}

/* Tells a process that has no environment from one that shows none: between two programs, and at its end, it
 * shows no arguments either. */
static bool has_arguments(pid_t pid) {
        CLEANUP(fd_close) int fd = -1;
        char c;

        fd = proc_open(pid, "cmdline");
        return fd >= 0 && fd_read_full(fd, &c, 1) == 1;
}

static bool is_ending(pid_t pid) {
        ProcStat stat;
        int r;

        r = proc_stat_read(pid, &stat);
        return r == -ESRCH || (r == 0 && stat.ending);
}

ProcMark proc_mark_read(pid_t pid, const char *mark) {
        ProcMark result;
        bool seen;

        assert(strlen(mark) < ENTRY_MAX);
        result = mark_look(pid, mark, &seen);
        if (seen)
                return result;
        if (!has_arguments(pid))
                return is_ending(pid) ? PROC_MARK_GONE : PROC_MARK_UNKNOWN;
        return mark_look(pid, mark, &seen); /* the new program's, which may have come since */
}
