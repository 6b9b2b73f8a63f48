/* SPDX-License-Identifier: MIT */
#pragma once

/* Kills a process that moves output into a log, again and again, at random instants, and compares what the
 * log holds with what was written.
 *
 * A writer fills two pipes at full speed with words that count up. A mover, which is killed and replaced,
 * splices them into the log. The test holds the pipes and, as the keeper does, the memfd of what is
 * discarded. After each kill it reads on where it was: every byte of either stream must follow the one before
 * it, or the log must say that bytes are missing; in the end the missing ones must be as many as it said. */

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/protocol.h"
#include "daemon/engine/log.h"

#define KILL_N_SOURCES 2
#define KILL_BLOCK (64 * 1024)
#define KILL_RETENTION (16 << 20)

/* What the three processes share. */
typedef struct KillShared {
        volatile uint64_t written[KILL_N_SOURCES]; /* bytes that the writer has written */
        volatile uint64_t n_moved;                 /* bytes moved by the mover that lives now */
        volatile uint64_t n_records;               /* records without bytes that were begun */
        volatile uint64_t floor; /* what the test has read: nothing above it may be dropped */
        volatile int result;     /* of the mover's last step */
        volatile int stop_writing;
        volatile int stop_discarding;
} KillShared;

typedef struct KillTest {
        const char *path; /* borrowed; directory of the log */
        bool with_discard;
        KillShared *shared;           /* owned, mapped */
        int pipes[KILL_N_SOURCES][2]; /* owned */
        int keeper[2];                /* owned; the mover sends memfds to [0] through [1] */
        int discard_fd;               /* owned; -1: none */
        pid_t writer;
        uint64_t offset;                   /* where the test has read the log up to */
        uint64_t position[KILL_N_SOURCES]; /* of the next byte of each stream */
        bool is_adrift[KILL_N_SOURCES];    /* a gap came since: the position must be found again */
        uint64_t n_gap, n_jumped, n_records;
} KillTest;

/* The streams: word i of a stream is 2 * i + stream, in 8 bytes, little-endian. */
static inline uint8_t kill_byte(int stream, uint64_t position) {
        return (uint8_t)((2 * (position / 8) + (uint64_t)stream) >> position % 8 * 8);
}

static inline void kill_fill(uint8_t *data, size_t size, int stream, uint64_t position) {
        size_t i = 0;

        for (; i < size && (position + i) % 8 != 0; i++)
                data[i] = kill_byte(stream, position + i);
        for (; i + 8 <= size; i += 8)
                le64_put(data + i, 2 * ((position + i) / 8) + (uint64_t)stream);
        for (; i < size; i++)
                data[i] = kill_byte(stream, position + i);
}

/* Writes blocks of random sizes to both pipes, as fast as they are taken, until told to stop. */
static inline void kill_writer(KillTest *test) {
        static uint8_t data[KILL_BLOCK];
        uint64_t position[KILL_N_SOURCES] = {};
        unsigned seed = 1;
        size_t size;
        int stream;

        for (int i = 0; i < KILL_N_SOURCES; i++)
                close(test->pipes[i][0]);
        while (!test->shared->stop_writing) {
                stream = rand_r(&seed) % KILL_N_SOURCES;
                size = rand_r(&seed) % 8 == 0 ? 1 + (size_t)rand_r(&seed) % 100
                                              : 1 + (size_t)rand_r(&seed) % KILL_BLOCK;
                kill_fill(data, size, stream, position[stream]);
                if (fd_write_all(test->pipes[stream][1], data, size) < 0)
                        _exit(1);
                position[stream] += size;
                test->shared->written[stream] = position[stream];
        }
        _exit(0);
}

/* One step of the mover while it discards. Return: as log_splice(). */
static inline int kill_discard(KillTest *test, Log *log, bool *is_discarding, int stream, size_t max,
                               size_t *ret_n) {
        int r;

        if (test->shared->stop_discarding || random() % 20 == 0) {
                r = log_discard_end(log, test->discard_fd, NULL);
                if (r < 0)
                        return r;
                if (fd_send(test->keeper[1], "-", 1, NULL, 0) < 0)
                        return -errno;
                test->discard_fd = fd_close(test->discard_fd);
                *is_discarding = false;
                return -EAGAIN;
        }
        return log_discard(log, test->discard_fd, test->pipes[stream][0], max, ret_n, NULL);
}

static inline int kill_discard_begin(KillTest *test, Log *log) {
        int r;

        r = log_discard_begin(log, 1, &test->discard_fd, NULL);
        if (r < 0)
                return r;
        return fd_send(test->keeper[1], "+", 1, &test->discard_fd, 1) < 0 ? -errno : 0;
}

/* Moves until both pipes have ended, or it is killed. */
static inline int kill_mover(KillTest *test) {
        LogOptions options = { .retention_bytes = KILL_RETENTION, .segment_bytes = 300000 };
        CLEANUP(log_free) Log *log = NULL;
        bool is_open[KILL_N_SOURCES] = { true, true };
        bool is_discarding = test->discard_fd >= 0;
        size_t n, max;
        int stream, r;

        srandom((unsigned)getpid());
        r = log_open(&log, test->path, &options, NULL);
        if (r == 0 && is_discarding)
                r = log_discard_resume(log, 1, test->discard_fd, NULL);
        if (r < 0)
                return r;
        while (is_open[0] || is_open[1]) {
                log_set_floor(log, test->shared->floor);
                stream = (int)(random() % KILL_N_SOURCES);
                max = random() % 4 == 0 ? 1 + (size_t)random() % 5000 : 1 << 20;
                if (test->with_discard && !is_discarding && !test->shared->stop_discarding &&
                    random() % 50 == 0) {
                        r = kill_discard_begin(test, log);
                        if (r < 0)
                                return r;
                        is_discarding = true;
                }
                if (random() % 30 == 0) {
                        r = log_record(log, RECORD_SIGNAL, SOURCE_NONE, 1, test->shared->n_records++, NULL);
                        if (r < 0)
                                return r;
                }
                n = 0;
                r = is_discarding ? kill_discard(test, log, &is_discarding, stream, max, &n)
                                  : log_splice(log, SOURCE_STDOUT + (Source)stream, 1, test->pipes[stream][0],
                                               max, &n, NULL);
                if (r == 0 && n == 0)
                        is_open[stream] = false;
                if (r < 0 && r != -EAGAIN && r != -EDQUOT)
                        return r;
                test->shared->n_moved += n;
                test->shared->result = r;
        }
        return 0;
}

static inline pid_t kill_start_mover(KillTest *test) {
        pid_t pid;

        test->shared->n_moved = 0;
        pid = fork();
        if (pid == 0)
                _exit(-kill_mover(test) & 0xff);
        ck_assert_int_ge(pid, 0);
        return pid;
}

/* Take what the mover told the keeper before it died. */
static inline void kill_collect(KillTest *test) {
        int fds[FD_PASS_MAX];
        size_t n_fds;
        char c;

        while (poll(&(struct pollfd){ .fd = test->keeper[0], .events = POLLIN }, 1, 0) > 0) {
                ck_assert_int_eq(fd_receive(test->keeper[0], &c, 1, fds, &n_fds), 1);
                test->discard_fd = fd_close(test->discard_fd);
                if (c == '+') {
                        ck_assert_uint_eq(n_fds, 1);
                        test->discard_fd = fds[0];
                }
        }
}

/* After a gap: where in its stream do these bytes stand? Each alignment of a word is tried. */
static inline bool kill_find_position(const uint8_t *data, size_t size, int stream, uint64_t *ret_position) {
        uint64_t word;

        for (size_t skip = 0; skip < 8; skip++) {
                if (size < skip + 16)
                        return false;
                word = le64_get(data + skip);
                if (word % 2 != (uint64_t)stream || le64_get(data + skip + 8) != word + 2 ||
                    word / 2 * 8 < skip)
                        continue;
                *ret_position = word / 2 * 8 - skip;
                return true;
        }
        return false;
}

static inline void kill_check_data(KillTest *test, const LogChunk *chunk) {
        static uint8_t data[1 << 20], expected[1 << 20];
        int stream = chunk->header.source - SOURCE_STDOUT;
        uint64_t position;

        ck_assert_int_ge(stream, 0);
        ck_assert_int_lt(stream, KILL_N_SOURCES);
        ck_assert_int_eq(pread(chunk->fd, data, chunk->size, (off_t)chunk->file_offset), (int)chunk->size);
        if (test->is_adrift[stream]) {
                /* A piece too short to tell is accounted for by the next one, which must fit behind it. */
                if (kill_find_position(data, chunk->size, stream, &position)) {
                        ck_assert_uint_ge(position, test->position[stream]);
                        test->n_jumped += position - test->position[stream];
                        test->position[stream] = position;
                        test->is_adrift[stream] = false;
                } else {
                        test->position[stream] += chunk->size;
                        return;
                }
        }
        kill_fill(expected, chunk->size, stream, test->position[stream]);
        for (size_t i = 0; i < chunk->size; i++)
                if (data[i] != expected[i])
                        ck_abort_msg("stream %d at %lu: %02x is not %02x (offset %lu)", stream,
                                     test->position[stream] + i, data[i], expected[i],
                                     chunk->header.offset + i);
        test->position[stream] += chunk->size;
}

/* Read on, and check what there is. */
static inline void kill_check(KillTest *test) {
        LogOptions options = { .retention_bytes = KILL_RETENTION, .segment_bytes = 300000 };
        CLEANUP(log_free) Log *log = NULL;
        LogCursor cursor;
        LogChunk chunk;
        Error error = {};
        int r;

        r = log_open(&log, test->path, &options, &error);
        ck_assert_msg(r == 0, "%s", error.text);
        ck_assert_int_eq(log_seek_offset(log, &cursor, test->offset), 0);
        while ((r = log_next(log, &cursor, 1 << 20, ~0u, &chunk)) > 0) {
                ck_assert_uint_eq(chunk.header.offset, test->offset);
                if (chunk.header.kind == RECORD_DATA)
                        kill_check_data(test, &chunk);
                if (chunk.header.kind == RECORD_GAP) {
                        ck_assert_msg(test->with_discard, "a gap of %lu bytes at %lu in %lu to %lu",
                                      chunk.argument, chunk.header.offset, log_begin(log), log_end(log));
                        test->n_gap += chunk.argument;
                        test->is_adrift[0] = test->is_adrift[1] = true;
                }
                if (chunk.header.kind == RECORD_SIGNAL && chunk.argument >= test->n_records)
                        test->n_records = chunk.argument + 1; /* those at the offset come again */
                test->offset = cursor.offset;
        }
        ck_assert_int_eq(r, 0);
        ck_assert_uint_eq(test->offset, log_end(log));
        test->shared->floor = test->offset;
}

static inline void kill_sleep(uint64_t usec) {
        struct timespec ts = { .tv_sec = 0, .tv_nsec = (long)usec * 1000 };

        (void)nanosleep(&ts, NULL);
}

/* Wait until the mover has moved something, so that kills hit it at work. */
static inline void kill_wait_moved(KillTest *test, pid_t mover, uint64_t n) {
        uint64_t deadline = clock_monotonic_usec() + 20 * USEC_PER_SEC;
        int status;

        while (test->shared->n_moved < n) {
                kill_collect(test); /* or the mover waits for the keeper, and not for bytes */
                ck_assert_msg(waitpid(mover, &status, WNOHANG) == 0, "the mover ended: status %x", status);
                ck_assert_msg(clock_monotonic_usec() < deadline,
                              "nothing is moved, the last step said %d; read up to %lu", test->shared->result,
                              test->offset);
                kill_sleep(50);
        }
}

static inline void kill_begin(KillTest *test, const char *path, bool with_discard) {
        *test = (KillTest){ .path = path, .with_discard = with_discard, .discard_fd = -1 };
        test->shared =
                mmap(NULL, sizeof(*test->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ck_assert_ptr_ne(test->shared, MAP_FAILED);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, test->keeper), 0);
        for (int i = 0; i < KILL_N_SOURCES; i++) {
                ck_assert_int_eq(pipe2(test->pipes[i], O_CLOEXEC), 0);
                if (i == 0)
                        (void)fcntl(test->pipes[i][0], F_SETPIPE_SZ, 1 << 20);
        }
        test->writer = fork();
        if (test->writer == 0)
                kill_writer(test);
        ck_assert_int_ge(test->writer, 0);
        for (int i = 0; i < KILL_N_SOURCES; i++)
                test->pipes[i][1] = fd_close(test->pipes[i][1]);
}

/* One mover's life: it is killed so many microseconds after it has moved n bytes. */
static inline void kill_once(KillTest *test, uint64_t n, uint64_t usec) {
        pid_t mover;

        mover = kill_start_mover(test);
        kill_wait_moved(test, mover, n);
        kill_sleep(usec);
        ck_assert_int_eq(kill(mover, SIGKILL), 0);
        ck_assert_int_eq(waitpid(mover, NULL, 0), mover);
        kill_collect(test);
        kill_check(test);
}

/* Let a last mover take the rest, and compare the sums. */
static inline void kill_finish(KillTest *test) {
        uint64_t deadline = clock_monotonic_usec() + 60 * USEC_PER_SEC;
        uint64_t total = 0;
        pid_t mover, pid;
        int status;

        test->shared->stop_discarding = 1;
        do {
                /* Both streams go on after the last gap, or that could not be told from the end of one. */
                kill_once(test, 1 << 20, 0);
                ck_assert(clock_monotonic_usec() < deadline);
        } while (test->discard_fd >= 0 || test->is_adrift[0] || test->is_adrift[1]);
        mover = kill_start_mover(test);
        test->shared->stop_writing = 1;
        while ((pid = waitpid(mover, &status, WNOHANG)) == 0) {
                ck_assert(clock_monotonic_usec() < deadline);
                kill_sleep(100);
        }
        ck_assert_int_eq(pid, mover);
        ck_assert_msg(status == 0, "the mover ended: status %x", status);
        ck_assert_int_eq(waitpid(test->writer, &status, 0), test->writer);
        ck_assert_int_eq(status, 0);
        kill_collect(test);
        kill_check(test);
        for (int i = 0; i < KILL_N_SOURCES; i++) {
                ck_assert_uint_eq(test->position[i], test->shared->written[i]);
                total += test->position[i];
        }
        ck_assert_uint_eq(test->n_gap, test->n_jumped);
        ck_assert_uint_eq(test->offset, total);
        ck_assert_uint_le(test->n_records, test->shared->n_records);
}

/** kill_run() - the whole test: as many kills as $PMUX_KILLS says, or n. */
static inline void kill_run(const char *path, bool with_discard, int n) {
        const char *given = getenv("PMUX_KILLS");
        unsigned seed = (unsigned)getpid();
        KillTest test;

        if (given)
                n = atoi(given);
        kill_begin(&test, path, with_discard);
        for (int i = 0; i < n; i++)
                kill_once(&test, i % 4 == 0 ? 0 : 1,
                          (uint64_t)rand_r(&seed) % 3000); /* now and then while it opens */
        kill_finish(&test);
        ck_assert_int_eq(test.n_gap > 0, with_discard);
        ck_assert_uint_gt(test.n_records, 0);
        for (int i = 0; i < KILL_N_SOURCES; i++) {
                close(test.pipes[i][0]);
                close(test.keeper[i]);
        }
        munmap(test.shared, sizeof(*test.shared));
}
