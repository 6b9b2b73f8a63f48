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

#define STAT_MAX 1024 /* bytes; its 52 numbers and a name of 64 bytes at most */
#define ENTRY_MAX 128 /* bytes of an entry of the environment that are compared */
#define CHUNK_SIZE 16384
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
        long n_threads;
        char state;

        /* Fields 3 to 22: state ppid pgrp session … num_threads itrealvalue starttime. */
        if (!rest || sscanf(text, "%d", &stat.pid) != 1 ||
            sscanf(rest + 1,
                   " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %" SCNu64,
                   &state, &stat.parent, &stat.group, &stat.session, &n_threads, &stat.start) != 6)
                return -EIO;
        /* Where its first thread has ended, a process with others looks like a zombie, but lives. */
        stat.alive = (state != 'Z' && state != 'X') || n_threads > 1;
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

ProcMark proc_mark_read(pid_t pid, const char *mark) {
        size_t name_size = (size_t)(strchrnul(mark, '=') - mark) + 1, size = 0;
        ProcMark found = PROC_MARK_NONE, result = PROC_MARK_NONE;
        CLEANUP(fd_close) int fd = -1;
        char chunk[CHUNK_SIZE], entry[ENTRY_MAX];
        ssize_t n;

        assert(strlen(mark) < ENTRY_MAX);
        fd = proc_open(pid, "environ");
        if (fd < 0)
                return PROC_MARK_NONE;
        while ((n = fd_read_full(fd, chunk, sizeof(chunk))) > 0)
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
        return result;
}
