/* SPDX-License-Identifier: MIT */
#pragma once

/* What the tests of the log share: a directory that goes away, a clock that is set, and a log told as text.
 */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/macro.h"
#include "daemon/engine/log.h"
#include "tests/support/check-main.h"

#define BOTH (1u << SOURCE_STDOUT | 1u << SOURCE_STDERR)

static char log_dir[64];  /* the log's directory */
static Log *test_log;     /* owned; freed by teardown */
static uint64_t now_usec; /* what the clock shows; 0: the real one */
static int n_fds_before;
static bool log_dir_is_mounted;

uint64_t clock_realtime_usec(void) {
        struct timespec ts;

        if (now_usec > 0)
                return now_usec;
        (void)clock_gettime(CLOCK_REALTIME, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t clock_monotonic_usec(void) {
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

static inline void log_test_setup(void) {
        n_fds_before = open_fds_count();
        strcpy(log_dir, "/tmp/check-log-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(log_dir));
        now_usec = 1000000;
}

static inline void log_test_teardown(void) {
        char command[128];

        test_log = log_free(test_log);
        if (log_dir_is_mounted)
                ck_assert_int_eq(umount(log_dir), 0);
        log_dir_is_mounted = false;
        (void)snprintf(command, sizeof(command), "rm -rf %s", log_dir);
        ck_assert_int_eq(system(command), 0);
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

/* (Re)open the log under test. */
static inline void log_test_open(uint64_t retention_bytes, uint64_t segment_bytes) {
        LogOptions options = { .retention_bytes = retention_bytes, .segment_bytes = segment_bytes };
        Error error = {};
        int r;

        test_log = log_free(test_log);
        r = log_open(&test_log, log_dir, &options, &error);
        ck_assert_msg(r == 0, "%d: %s", r, error.text);
}

static inline uint64_t log_test_disk_bytes(void) {
        uint64_t bytes;

        ck_assert_int_eq(log_disk_bytes(test_log, &bytes, NULL), 0);
        return bytes;
}

static inline void put(Source source, uint32_t run, const char *text) {
        ck_assert_int_eq(log_append(test_log, source, run, text, strlen(text), NULL), 0);
}

static inline void put_record(RecordKind kind, uint32_t run, uint64_t argument) {
        ck_assert_int_eq(log_record(test_log, kind, SOURCE_NONE, run, argument, NULL), 0);
}

/* The path of a file of the log. */
static inline const char *log_test_file(uint64_t begin, const char *suffix) {
        static char path[128];

        (void)snprintf(path, sizeof(path), "%s/%020" PRIu64 "%s", log_dir, begin, suffix);
        return path;
}

static inline int64_t log_test_file_size(uint64_t begin, const char *suffix) {
        struct stat st;

        return stat(log_test_file(begin, suffix), &st) < 0 ? -errno : st.st_size;
}

/* Read on to the end and tell what comes, with the cursor moved: "start@0=42 1@0'text' gap@4+10 exit@14=0".
 * Data of one source that follows on is told as one, whatever the size of its pieces. */
static inline const char *read_on(LogCursor *cursor, size_t max, unsigned sources) {
        static char text[65536];
        char data[65536];
        uint64_t end = UINT64_MAX;
        size_t n = 0;
        int r, source = -1;
        LogChunk chunk;

        text[0] = '\0';
        while ((r = log_next(test_log, cursor, max, sources, &chunk)) > 0) {
                if (chunk.header.kind == RECORD_DATA && source == chunk.header.source &&
                    end == chunk.header.offset)
                        n--; /* the quote */
                else if (chunk.header.kind == RECORD_DATA)
                        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%d@%" PRIu64 "'",
                                              n > 0 ? " " : "", chunk.header.source, chunk.header.offset);
                else
                        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s@%" PRIu64 "%c%" PRIu64,
                                              n > 0 ? " " : "", record_kind_name(chunk.header.kind),
                                              chunk.header.offset,
                                              chunk.header.kind == RECORD_GAP ? '+' : '=', chunk.argument);
                source = chunk.header.kind == RECORD_DATA ? chunk.header.source : -1;
                end = chunk.header.offset + chunk.size;
                if (chunk.header.kind != RECORD_DATA) {
                        ck_assert_int_eq(chunk.fd, -1);
                        continue;
                }
                ck_assert_uint_ge(chunk.size, 1);
                ck_assert_uint_le(chunk.size, max);
                ck_assert_int_eq(pread(chunk.fd, data, chunk.size, (off_t)chunk.file_offset),
                                 (int)chunk.size);
                ck_assert_uint_lt(n + chunk.size + 2, sizeof(text));
                memcpy(text + n, data, chunk.size);
                n += chunk.size;
                text[n++] = '\'';
                text[n] = '\0';
        }
        ck_assert_int_eq(r, 0);
        return text;
}

static inline const char *read_from(uint64_t offset) {
        LogCursor cursor;

        ck_assert_int_eq(log_seek_offset(test_log, &cursor, offset), 0);
        return read_on(&cursor, 4096, BOTH);
}

/* Mount a small tmpfs over the log's directory, in a mount namespace of the test's own. Return: whether this
 * machine lets us; a test that cannot fill a disk has nothing to say. */
static inline bool log_test_mount(const char *options) {
        if (unshare(CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER)) < 0 ||
            mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("pmux-test", log_dir, "tmpfs", 0, options) < 0) {
                (void)fprintf(stderr, "skipped: no tmpfs can be mounted here\n");
                return false;
        }
        log_dir_is_mounted = true;
        return true;
}

/* Fill the disk under the log, but for about so many bytes. */
static inline void log_test_fill_disk(size_t leave) {
        char path[128], block[4096] = {};
        int64_t size = 0;
        int fd;

        (void)snprintf(path, sizeof(path), "%s/ballast", log_dir);
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        ck_assert_int_ge(fd, 0);
        while (write(fd, block, sizeof(block)) > 0)
                ;
        ck_assert_int_eq(errno, ENOSPC);
        size = lseek(fd, 0, SEEK_END);
        ck_assert_int_eq(ftruncate(fd, MAX(size - (int64_t)leave, 0)), 0);
        close(fd);
}

static inline void log_test_empty_disk(void) {
        char path[128];

        (void)snprintf(path, sizeof(path), "%s/ballast", log_dir);
        ck_assert_int_eq(unlink(path), 0);
}

/* Put bytes into a pipe, all or as many as fit. Return: how many. */
static inline size_t fill_pipe(int fd, size_t size) {
        static char data[1 << 20];
        ssize_t n;

        memset(data, 'x', MIN(size, sizeof(data)));
        n = write(fd, data, MIN(size, sizeof(data)));
        ck_assert_int_gt(n, 0);
        return (size_t)n;
}

static inline int pipe_holds(int fd) {
        int n = -1;

        ck_assert_int_eq(ioctl(fd, FIONREAD, &n), 0);
        return n;
}
