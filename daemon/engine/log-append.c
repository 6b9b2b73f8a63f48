/* SPDX-License-Identifier: MIT */

/* The writing side of the log: the index record first, then the bytes, by splice(2) at the file's size. A
 * kill between the two leaves a record without bytes, which is written over by the next one; a kill within
 * splice(2) leaves each byte either in the pipe or in the file. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "daemon/engine/log-private.h"
#include "daemon/engine/log.h"

/* ---- what is kept ---- */

int log_drop_oldest(Log *log, Error *reterr_error) {
        Segment *oldest = &log->segments[0];
        int r;

        if (log->n_segments < 2)
                return 0;
        r = log_know(log, oldest, reterr_error);
        if (r < 0)
                return r;
        if (segment_end(oldest) >= log->floor)
                return 0;
        r = segment_unlink(log->path, oldest->begin);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot delete the oldest segment of the log '%s'",
                                       log->path);
        if (log->old.begin == oldest->begin)
                log_files_close(&log->old);
        log->kept_bytes -= oldest->size;
        log->kept_records -= log_kept_records(log, oldest);
        log->n_segments--;
        memmove(oldest, oldest + 1, log->n_segments * sizeof(*oldest));
        return 1;
}

/* The index may take LOG_INDEX_FACTOR times the room of the data: a process that writes single bytes to both
 * streams in turn must not fill the disk with records. */
static bool log_is_enough(const Log *log, uint64_t bytes, uint64_t records) {
        return bytes >= log->options.retention_bytes ||
               records * INDEX_RECORD_SIZE >=
                       LOG_INDEX_FACTOR * MAX(log->options.retention_bytes, SEGMENT_BYTES_MIN);
}

int log_retain(Log *log, Error *reterr_error) {
        int r;

        assert(log->n_unknown == 0);
        while (log->n_segments > 1 &&
               log_is_enough(log, log->kept_bytes - log->segments[0].size,
                             log->kept_records - log_kept_records(log, &log->segments[0]))) {
                r = log_drop_oldest(log, reterr_error);
                if (r <= 0)
                        return r;
        }
        return 0;
}

static bool log_index_is_full(const Log *log) {
        return log_current(log)->n_records >= log_records_max(log);
}

/* Make room in a full index. A segment without bytes cannot be followed by another one, which would have the
 * same name: there the oldest records go, but for the very first ones. */
static void log_make_room_for_record(Log *log) {
        Segment *current = log_current(log);
        uint32_t half = log_records_max(log) / 2;

        if (!log_index_is_full(log) ||
            log->is_discarding) /* then the gap is not complete yet: the segment stays */
                return;
        if (current->size > 0)
                (void)log_rotate(log, 0, NULL);
        else if (current->n_records - log->n_punched >= 2 * half) {
                index_punch(log->current.index_fd, current->n_records - half);
                log->n_punched = current->n_records - half;
        }
}

/* How many bytes may come now. While the floor holds more than retention would, the log may grow by one
 * segment and no further. Return: 0; -EDQUOT. */
static int log_limit(Log *log, size_t *max, Error *reterr_error) {
        uint64_t bound = log->options.retention_bytes + log->options.segment_bytes;
        Segment *current = log_current(log);

        *max = MIN(*max, log->options.segment_bytes - current->size);
        if (log->n_segments < 2 || segment_end(&log->segments[0]) < log->floor)
                return 0;
        if (log->kept_bytes >= bound ||
            log->kept_records * INDEX_RECORD_SIZE >= LOG_INDEX_FACTOR * MAX(bound, 2 * SEGMENT_BYTES_MIN))
                return error_set(reterr_error, ERROR_LIMIT,
                                 "the log '%s' is full and a reader still needs its oldest bytes", log->path);
        *max = MIN(*max, bound - log->kept_bytes);
        return 0;
}

/* ---- data ---- */

static bool log_record_fits(const IndexRecord *record, Source source, uint32_t run, uint64_t now) {
        return record->kind == RECORD_DATA && record->source == source && record->run == run &&
               now - record->time_usec < LOG_RECORD_USEC;
}

/* See to it that the last record in the index is right for bytes that come now. */
static int log_begin_data(Log *log, Source source, uint32_t run, uint64_t argument, Error *reterr_error) {
        uint64_t now = log_now(log);
        IndexRecord record = {
                .kind = RECORD_DATA,
                .source = source,
                .run = run,
                .offset = log->end,
                .time_usec = now,
                .argument = argument,
        };
        int r;

        if (source != SOURCE_STDIN &&
            log_record_fits(log->has_pending ? &log->pending : &log->last, source, run, now))
                return 0;
        r = log_reserve(log);
        if (r == 0)
                r = index_write(log->current.index_fd, log_current(log)->n_records, &record, 1);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot write the index of '%s'", log->path);
        log->pending = record;
        log->has_pending = true;
        log->time_usec = now;
        return 0;
}

static void log_end_data(Log *log, size_t n) {
        if (n == 0)
                return;
        if (log->has_pending)
                log_commit(log, &log->pending);
        log_current(log)->size += (uint32_t)n;
        log->kept_bytes += n;
        log->end += n;
        (void)log_retain(log, NULL); /* a failure is reported by the next one */
}

/* Everything that comes before bytes: a segment with room, retention, the record. */
static int log_prepare(Log *log, Source source, uint32_t run, uint64_t argument, size_t *max,
                       Error *reterr_error) {
        Segment *current = log_current(log);
        int r;

        assert(source != SOURCE_NONE);
        if (log->is_discarding)
                return error_set(reterr_error, ERROR_NO_SPACE, "the log '%s' is being discarded", log->path);
        r = log_make_ready(log, reterr_error);
        if (r < 0)
                return r;
        if (log->end > segment_end(current) ||
            (current->size > 0 && (current->size >= log->options.segment_bytes || log_index_is_full(log)))) {
                r = log_rotate(log, 0, reterr_error);
                if (r < 0)
                        return r;
        }
        r = log_retain(log, reterr_error);
        if (r < 0)
                return r;
        r = log_limit(log, max, reterr_error);
        if (r < 0)
                return r;
        r = log_make_data_file(log);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot begin a segment of the log '%s'", log->path);
        return log_begin_data(log, source, run, argument, reterr_error);
}

static ssize_t log_splice_once(Log *log, int pipe_fd, size_t max) {
        loff_t at = log_current(log)->size;
        ssize_t n;

        do
                n = splice(pipe_fd, NULL, log->current.data_fd, &at, max, SPLICE_F_NONBLOCK);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EDQUOT ? -ENOSPC : -errno;
        return n;
}

/* An empty pipe is told from a full one before anything is made or given up for bytes that are not there, and
 * where nothing can be written. Return: 1: there are bytes; 0: end of file; -EAGAIN:
 * neither. */
static int pipe_look(int pipe_fd) {
        struct pollfd pollfd = { .fd = pipe_fd, .events = POLLIN };

        if (poll(&pollfd, 1, 0) < 0 || pollfd.revents & (POLLIN | POLLERR | POLLNVAL))
                return 1;
        return pollfd.revents & POLLHUP ? 0 : -EAGAIN;
}

int log_splice(Log *log, Source source, uint32_t run, int pipe_fd, size_t max, size_t *ret_n,
               Error *reterr_error) {
        Error error = {};
        size_t room;
        ssize_t n;
        int r;

        *ret_n = 0;
        if (log_current(log)->size == 0) { /* no data file for what ends without a byte */
                r = pipe_look(pipe_fd);
                if (r <= 0)
                        return r;
        }
        for (;;) {
                room = max;
                n = log_prepare(log, source, run, 0, &room, &error);
                if (n == 0) {
                        n = log_splice_once(log, pipe_fd, room);
                        if (n >= 0)
                                break;
                        if (n == -EAGAIN)
                                return -EAGAIN;
                        (void)error_set_errno(&error, (int)n, "cannot write the log '%s'", log->path);
                }
                if (n != -ENOSPC && n != -EDQUOT)
                        goto fail;
                r = pipe_look(pipe_fd);
                if (r <= 0)
                        return r;
                if (n == -EDQUOT || log->is_discarding)
                        goto fail;
                r = log_drop_oldest(log, reterr_error);
                if (r < 0)
                        return r;
                if (r == 0)
                        goto fail;
        }
        log_end_data(log, (size_t)n);
        *ret_n = (size_t)n;
        return 0;
fail:
        if (reterr_error)
                *reterr_error = error;
        return (int)n;
}

static ssize_t log_write_once(Log *log, const void *data, size_t size) {
        ssize_t n;

        do
                n = pwrite(log->current.data_fd, data, size, log_current(log)->size);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EDQUOT ? -ENOSPC : -errno;
        return n;
}

/* @argument: of input, where the first byte stands in stdin; else 0. */
static int log_append_from(Log *log, Source source, uint32_t run, uint64_t argument, const void *data,
                           size_t size, Error *reterr_error) {
        const char *p = data;
        size_t room;
        ssize_t n;
        int r;

        while (size > 0) {
                room = size;
                r = log_prepare(log, source, run, argument, &room, reterr_error);
                if (r == 0) {
                        n = log_write_once(log, p, room);
                        if (n >= 0) {
                                log_end_data(log, (size_t)n);
                                p += n;
                                size -= (size_t)n;
                                argument += source == SOURCE_STDIN ? (uint64_t)n : 0;
                                continue;
                        }
                        r = error_set_errno(reterr_error, (int)n, "cannot write the log '%s'", log->path);
                }
                if (r != -ENOSPC || log->is_discarding)
                        return r;
                r = log_drop_oldest(log, reterr_error);
                if (r < 0)
                        return r;
                if (r == 0)
                        return error_set_errno(reterr_error, ENOSPC, "cannot write the log '%s'", log->path);
        }
        return 0;
}

int log_append(Log *log, Source source, uint32_t run, const void *data, size_t size, Error *reterr_error) {
        return log_append_from(log, source, run, 0, data, size, reterr_error);
}

int log_append_input(Log *log, uint32_t run, uint64_t stdin_offset, const void *data, size_t size,
                     Error *reterr_error) {
        return log_append_from(log, SOURCE_STDIN, run, stdin_offset, data, size, reterr_error);
}

/* ---- records without bytes ---- */

int log_record(Log *log, RecordKind kind, Source source, uint32_t run, uint64_t argument,
               Error *reterr_error) {
        IndexRecord record = {
                .kind = kind, .source = source, .run = run, .argument = argument, .offset = log->end
        };
        int r;

        assert(kind != RECORD_DATA && kind != RECORD_GAP && kind != RECORD_END);
        for (;;) {
                r = log_make_ready(log, reterr_error);
                if (r == 0) {
                        log_make_room_for_record(log);
                        (void)log_retain(log, NULL);
                        record.time_usec = log_now(log);
                        r = index_write(log->current.index_fd, log_current(log)->n_records, &record, 1);
                        if (r == 0)
                                break;
                        (void)error_set_errno(reterr_error, r, "cannot write the index of '%s'", log->path);
                }
                if (r != -ENOSPC)
                        return r;
                r = log_drop_oldest(log, reterr_error);
                if (r < 0)
                        return r;
                if (r == 0)
                        return error_set_errno(reterr_error, ENOSPC, "cannot write the index of '%s'",
                                               log->path);
        }
        log_commit(log, &record);
        return 0;
}
