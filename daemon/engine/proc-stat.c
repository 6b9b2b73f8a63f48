/* SPDX-License-Identifier: MIT */

#include "daemon/engine/proc-stat.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/macro.h"

#define STAT_MAX 1280 /* bytes; its 52 numbers and a name of 64 bytes at most */
#define ENTRY_MAX 128 /* bytes of an entry of the environment that are compared */
#define CHUNK_SIZE 16384
#define FLAG_EXITING 0x4U /* PF_EXITING of the kernel's linux/sched.h */
#define LOOKS 5           /* at what should be there in an instant */
#define PATH_SIZE (sizeof("/proc//task//environ") + 2 * 3 * sizeof(pid_t))

/* A file of a process, or of one of its threads. */
static int proc_open(pid_t pid, pid_t thread, const char *name) {
        char path[PATH_SIZE];
        int fd;

        if (thread == 0)
                (void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        else
                (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, thread, name);
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
        /* Either nothing is left of it, or another thread is about to be its first. */
        if (n_threads == 0)
                return -EAGAIN;
        /* Where its first thread has ended, a process with others looks like a zombie, but lives. */
        stat.alive = (state != 'Z' && state != 'X') || n_threads > 1;
        stat.ending = flags & FLAG_EXITING;
        *ret_stat = stat;
        return 0;
}

ProcMemory proc_memory_parse(const char *text) {
        const char *rest = strrchr(text, ')');
        uint64_t end_code = 0, env_start = 0, env_end = 0;
        unsigned flags = 0;

        if (!rest)
                return PROC_MEMORY_UNKNOWN;
        rest = strchr(rest, ' ');
        for (unsigned field = 3; rest && field <= 51; field++, rest = strchr(rest + 1, ' ')) {
                if (field == 9)
                        flags = (unsigned)strtoul(rest, NULL, 10);
                else if (field == 27) /* set when all the rest of a new program is there */
                        end_code = strtoull(rest, NULL, 10);
                else if (field == 50)
                        env_start = strtoull(rest, NULL, 10);
                else if (field == 51)
                        env_end = strtoull(rest, NULL, 10);
        }
        if (!rest)
                return PROC_MEMORY_UNKNOWN;
        if (flags & FLAG_EXITING)
                return PROC_MEMORY_NONE;
        if (end_code == 0)
                return PROC_MEMORY_MADE;
        return env_start == env_end ? PROC_MEMORY_BARE : PROC_MEMORY_WHOLE;
}

static int stat_text(pid_t pid, pid_t thread, char text[STAT_MAX]) {
        CLEANUP(fd_close) int fd = -1;
        ssize_t n;

        fd = proc_open(pid, thread, "stat");
        if (fd < 0)
                return fd;
        n = fd_read_full(fd, text, STAT_MAX - 1);
        if (n <= 0)
                return n < 0 ? (int)n : -ESRCH;
        text[n] = '\0';
        return 0;
}

int proc_stat_read(pid_t pid, ProcStat *ret_stat) {
        char text[STAT_MAX];
        int r = -EAGAIN;

        for (unsigned i = 0; r == -EAGAIN && i < LOOKS; i++) {
                r = stat_text(pid, 0, text);
                if (r == 0)
                        r = proc_stat_parse(text, ret_stat);
        }
        return r;
}

/* Compares one entry, as far as it was kept, with the mark. */
static ProcMark mark_compare(const char *entry, size_t size, const char *mark, size_t name_size) {
        if (size < name_size || memcmp(entry, mark, name_size) != 0)
                return PROC_MARK_NONE;
        return size == strlen(mark) && memcmp(entry, mark, size) == 0 ? PROC_MARK_SAME : PROC_MARK_OTHER;
}

/* Looks through the environment as it is now. Return: PROC_MARK_UNKNOWN if not all of it could be seen. */
static ProcMark mark_look(pid_t pid, pid_t thread, const char *mark) {
        size_t name_size = (size_t)(strchrnul(mark, '=') - mark) + 1, size = 0;
        ProcMark found = PROC_MARK_NONE, result = PROC_MARK_NONE;
        CLEANUP(fd_close) int fd = -1;
        char chunk[CHUNK_SIZE], entry[ENTRY_MAX];
        ssize_t n;

        fd = proc_open(pid, thread, "environ");
        if (fd < 0)
                return fd == -EACCES || fd == -EPERM ? PROC_MARK_NONE : PROC_MARK_UNKNOWN;
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
        /* What was opened is the memory of the program that ran then: it ends when that is replaced, too. */
        return n == 0 && pread(fd, chunk, 1, 0) == 1 ? result : PROC_MARK_UNKNOWN;
}

/* The mark that a thread shows: all of a process show the same, but for those that are ending. */
static ProcMark thread_mark(pid_t pid, pid_t thread, const char *mark) {
        char text[STAT_MAX];
        ProcMark result;
        int r;

        for (unsigned i = 0; i < LOOKS; i++) {
                result = mark_look(pid, thread, mark);
                if (result != PROC_MARK_UNKNOWN)
                        return result;
                r = stat_text(pid, thread, text);
                if (r < 0)
                        return r == -ESRCH ? PROC_MARK_GONE : PROC_MARK_UNKNOWN;
                switch (proc_memory_parse(text)) {
                case PROC_MEMORY_NONE:
                        return PROC_MARK_GONE;
                case PROC_MEMORY_BARE:
                        return PROC_MARK_NONE;
                case PROC_MEMORY_WHOLE: /* since a moment */
                        break;
                case PROC_MEMORY_MADE:
                case PROC_MEMORY_UNKNOWN:
                        return PROC_MARK_UNKNOWN;
                }
        }
        return PROC_MARK_NONE; /* it has put away the pages that it lies in */
}

ProcMark proc_mark_read(pid_t pid, const char *mark) {
        char path[PATH_SIZE];
        ProcMark result;
        struct dirent *entry;
        pid_t thread;
        DIR *dir;

        assert(strlen(mark) < ENTRY_MAX);
        result = thread_mark(pid, 0, mark);
        if (result != PROC_MARK_GONE)
                return result;
        /* Its first thread may have ended before the others, or while another one executes a program. */
        (void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
        dir = opendir(path);
        if (!dir)
                return errno == ENOENT || errno == ESRCH ? PROC_MARK_GONE : PROC_MARK_UNKNOWN;
        while (result == PROC_MARK_GONE && (entry = readdir(dir))) {
                thread = (pid_t)strtol(entry->d_name, NULL, 10);
                if (thread > 0 && thread != pid)
                        result = thread_mark(pid, thread, mark);
        }
        (void)closedir(dir);
        return result == PROC_MARK_GONE ? thread_mark(pid, 0, mark)
                                        : result; /* who executes becomes the first */
}
