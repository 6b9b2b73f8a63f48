/* SPDX-License-Identifier: MIT */

#include "daemon/engine/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/engine/log-private.h"

#define SEGMENT_BYTES_DEFAULT_MAX (8 * 1024 * 1024)

uint64_t log_now(Log *log) {
        return MAX(clock_realtime_usec(), log->time_usec);
}

void log_files_close(LogFiles *files) {
        files->data_fd = fd_close(files->data_fd);
        files->index_fd = fd_close(files->index_fd);
}

/* ---- opening and what a kill left ---- */

/* Find the last record of the current segment that means something, and with it where the log ends: behind
 * the last byte, or, where bytes were being discarded, at the last record. */
static int log_recover_tail(Log *log, int index_fd) {
        Segment *segment = log_current(log);
        uint32_t n_slots = segment->n_records;
        IndexRecord record;
        int r;

        for (; segment->n_records > 0; segment->n_records--) {
                r = index_read(index_fd, segment->n_records - 1, &record, 1);
                if (r < 0)
                        return r;
                if (r == 0 || record.kind == INDEX_DAMAGED)
                        continue;
                log->end = MAX(log->end, record.offset);
                if (record.kind == RECORD_DATA && record.offset >= segment_end(segment))
                        continue; /* its bytes never came */
                log->last = record;
                break;
        }
        log->has_pending = n_slots > segment->n_records;
        log->pending.kind = INDEX_DAMAGED;
        log->has_excess = n_slots > segment->n_records + 1;
        return 0;
}

/* Learn from a segment's HEAD and last record what only they know. Return: 1 if there is a HEAD; 0; -errno.
 */
static int log_recover_segment(Log *log, uint32_t i) {
        Segment *segment = &log->segments[i];
        CLEANUP(fd_close) int fd = -1;
        IndexRecord head, last;
        int r;

        if (segment->n_records == 0)
                return 0;
        fd = segment_open(log->path, segment->begin, SEGMENT_INDEX, O_RDONLY);
        if (fd < 0)
                return fd;
        if (segment == log_current(log)) {
                r = log_recover_tail(log, fd);
                if (r < 0 || segment->n_records == 0)
                        return r;
                last = log->last;
                r = 1;
        } else
                r = index_read(fd, segment->n_records - 1, &last, 1);
        if (r < 0)
                return r;
        if (r == 1 && last.kind != INDEX_DAMAGED) {
                log->time_usec = MAX(log->time_usec, last.time_usec);
                log->run = MAX(log->run, last.run);
        }
        r = index_read(fd, 0, &head, 1);
        if (r < 0)
                return r;
        if (r == 0 || head.kind != INDEX_HEAD)
                return 0;
        segment->time_usec = head.time_usec;
        log->time_usec = MAX(log->time_usec, head.time_usec);
        log->run = MAX(log->run, head.run);
        log->lost_bytes += head.argument;
        return 1;
}

static int log_recover(Log *log, Error *reterr_error) {
        Segment *segments = log->segments;
        int r;

        log->n_unknown = log->n_segments - 1;
        log->end = segment_end(log_current(log));
        for (uint32_t i = log->n_segments; i-- > 0;) {
                r = log_know(log, &segments[i], reterr_error);
                if (r < 0)
                        return r;
                r = log_recover_segment(log, i);
                if (r < 0)
                        return error_set_errno(reterr_error, r, "cannot read the index of '%s'", log->path);
                if (r > 0)
                        break; /* usually the first one that is looked at */
                if (i > 0) {
                        r = log_know(log, &segments[i - 1], reterr_error);
                        if (r < 0)
                                return r;
                        log->lost_bytes += segments[i].begin - segment_end(&segments[i - 1]);
                }
        }
        log->kept_bytes += log_current(log)->size;
        log->kept_records += log_kept_records(log, log_current(log));
        return 0;
}

void log_set_options(Log *log, const LogOptions *options) {
        log->options = *options;
        if (options->segment_bytes == 0)
                log->options.segment_bytes =
                        MIN(MAX(options->retention_bytes / 8, SEGMENT_BYTES_MIN), SEGMENT_BYTES_DEFAULT_MAX);
        log->options.segment_bytes = MIN(log->options.segment_bytes, SEGMENT_BYTES_MAX);
}

int log_move(Log *log, const char *path, Error *reterr_error) {
        char *copy;

        copy = strdup(path);
        if (!copy)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold the log '%s'", path);
        if (rename(log->path, path) < 0) {
                int r = -errno;

                free(copy);
                return error_set_errno(reterr_error, r, "cannot move the log '%s' to '%s'", log->path, path);
        }
        free(log->path);
        log->path = copy;
        return 0;
}

static int log_begin_or_open(Log **ret_log, const char *path, const LogOptions *options, bool is_new,
                             Error *reterr_error) {
        CLEANUP(log_free) Log *log = NULL;
        int r;

        log = calloc(1, sizeof(*log));
        if (!log)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold the log '%s'", path);
        log->current.data_fd = log->current.index_fd = -1;
        log->old.data_fd = log->old.index_fd = -1;
        log->floor = UINT64_MAX;
        log_set_options(log, options);
        log->path = strdup(path);
        if (!log->path)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold the log '%s'", path);
        if (!is_new) {
                r = segment_scan(path, &log->segments, &log->n_segments, reterr_error);
                if (r < 0)
                        return r;
        }
        log->n_segments_allocated = log->n_segments;
        r = log->n_segments > 0 ? log_recover(log, reterr_error) : log_rotate(log, 0, reterr_error);
        if (r < 0)
                return r;
        *ret_log = TAKE(log);
        return 0;
}

int log_open(Log **ret_log, const char *path, const LogOptions *options, Error *reterr_error) {
        return log_begin_or_open(ret_log, path, options, false, reterr_error);
}

int log_new(Log **ret_log, const char *path, const LogOptions *options, Error *reterr_error) {
        return log_begin_or_open(ret_log, path, options, true, reterr_error);
}

Log *log_free(Log *log) {
        if (!log)
                return NULL;
        log_idle(log);
        free(log->segments);
        free(log->path);
        free(log);
        return NULL;
}

int log_remove(const char *path) {
        return segment_remove_all(path);
}

/* ---- the current segment's files ---- */

static int log_open_current(Log *log) {
        Segment *segment = log_current(log);
        LogFiles files = { segment->begin, -1, -1 };
        struct stat st;

        if (log->current.index_fd >= 0)
                return 0;
        files.data_fd = segment_open(log->path, segment->begin, SEGMENT_DATA, O_RDWR);
        if (files.data_fd < 0 && (files.data_fd != -ENOENT || segment->size > 0))
                return files.data_fd;
        files.index_fd = segment_open(log->path, segment->begin, SEGMENT_INDEX, O_RDWR | O_CREAT);
        if (files.index_fd < 0) {
                (void)fd_close(files.data_fd);
                return files.index_fd;
        }
        /* Somebody else cut the file while it was closed: what is gone must become a gap, not zeros. */
        if (files.data_fd >= 0 && fstat(files.data_fd, &st) == 0 && (uint64_t)st.st_size < segment->size) {
                log->kept_bytes -= segment->size - (uint64_t)st.st_size;
                segment->size = (uint32_t)st.st_size;
        }
        log->current = files;
        return 0;
}

int log_make_data_file(Log *log) {
        int fd;

        if (log->current.data_fd >= 0)
                return 0;
        fd = segment_open(log->path, log_current(log)->begin, SEGMENT_DATA, O_RDWR | O_CREAT);
        if (fd < 0)
                return fd;
        log->current.data_fd = fd;
        return 0;
}

int log_files_of(Log *log, const Segment *segment, const LogFiles **ret_files) {
        LogFiles *old = &log->old;
        int r;

        if (segment == log_current(log)) {
                r = log_open_current(log);
                if (r == 0)
                        *ret_files = &log->current;
                return r;
        }
        if (old->data_fd < 0 || old->begin != segment->begin) {
                log_files_close(old);
                old->begin = segment->begin;
                r = old->data_fd = segment_open(log->path, segment->begin, SEGMENT_DATA, O_RDONLY);
                if (r >= 0)
                        r = old->index_fd = segment_open(log->path, segment->begin, SEGMENT_INDEX, O_RDONLY);
                if (r < 0) {
                        log_files_close(old);
                        return r;
                }
        }
        *ret_files = old;
        return 0;
}

int log_reserve(Log *log) {
        uint32_t n = log_current(log)->n_records;
        uint32_t block = INDEX_BLOCK_BYTES / INDEX_RECORD_SIZE;
        uint32_t want;
        int r;

        if (log->n_reserved >= n + LOG_RESERVE_RECORDS + 1)
                return 0;
        want = (n + MIN(n / 8, LOG_RESERVE_STEP_MAX) + LOG_RESERVE_RECORDS) / block * block + block;
        r = index_reserve(log->current.index_fd, n, want - n);
        if (r == 0)
                log->n_reserved = want;
        return r;
}

/* Write what begins a segment: its HEAD and, where bytes were lost before it, a GAP. */
static int log_write_head(Log *log, int index_fd, uint64_t begin, uint64_t lost_from, uint64_t lost_bytes,
                          IndexRecord *ret_last, uint32_t *ret_n) {
        IndexRecord records[2] = {
                { .kind = INDEX_HEAD, .offset = lost_from, .argument = lost_bytes, .run = log->run },
                { .kind = RECORD_GAP, .offset = lost_from, .argument = begin - lost_from, .run = log->run },
        };
        uint32_t n = begin > lost_from ? 2 : 1;
        int r;

        records[0].time_usec = records[1].time_usec = log_now(log);
        r = index_write(index_fd, 0, records, n);
        if (r < 0)
                return r;
        *ret_last = records[n - 1];
        *ret_n = n;
        return 0;
}

int log_make_ready(Log *log, Error *reterr_error) {
        Segment *segment = log_current(log), *before = log->n_segments > 1 ? segment - 1 : NULL;
        int r;

        if (log->is_ready)
                return 0;
        r = log_know_all(log, reterr_error);
        if (r < 0)
                return r;
        r = log_open_current(log);
        if (r < 0)
                goto fail;
        if (log->has_excess) {
                if (ftruncate(log->current.index_fd, (off_t)segment->n_records * INDEX_RECORD_SIZE) < 0) {
                        r = -errno;
                        goto fail;
                }
                log->has_excess = log->has_pending = false;
        }
        if (segment->n_records == 0) {
                r = log_write_head(log, log->current.index_fd, segment->begin,
                                   before ? segment_end(before) : segment->begin, log->lost_bytes, &log->last,
                                   &segment->n_records);
                if (r < 0)
                        goto fail;
                segment->time_usec = log->time_usec = log->last.time_usec;
                log->kept_records += segment->n_records;
                log->has_pending = false;
        }
        (void)log_reserve(log);
        log->is_ready = true;
        return 0;
fail:
        return error_set_errno(reterr_error, r, "cannot go on with the log '%s'", log->path);
}

void log_commit(Log *log, const IndexRecord *record) {
        Segment *segment = log_current(log);

        if (segment->n_records < log_records_max(log))
                log->kept_records++;
        if (log->block && log->block->segment == segment->begin && log->block->n < LOG_READ_RECORDS &&
            log->block->number + log->block->n == segment->n_records)
                log->block->records[log->block->n++] = *record; /* a reader that keeps up need not read it */
        segment->n_records++;
        log->last = *record;
        log->has_pending = false;
        log->time_usec = record->time_usec;
        log->run = MAX(log->run, record->run);
        (void)log_reserve(log); /* if it fails, data is refused when the reserve is touched, and not before */
}

static int log_grow_segments(Log *log) {
        uint32_t n = log->n_segments_allocated;
        Segment *segments;

        if (log->n_segments < n)
                return 0;
        n += MAX(n / 2, 2u);
        segments = realloc(log->segments, n * sizeof(*segments));
        if (!segments)
                return -ENOMEM;
        log->segments = segments;
        log->n_segments_allocated = n;
        return 0;
}

/* Make what a segment that begins at log_end() needs, with room on disk: its data file comes with its first
 * byte. On failure nothing stays behind. */
static int log_create_files(Log *log, uint32_t data_reserve, LogFiles *ret_files, IndexRecord *ret_last,
                            uint32_t *ret_n) {
        LogFiles files = { log->end, -1, -1 };
        uint64_t lost_from = log->n_segments > 0 ? segment_end(log_current(log)) : log->end;
        int r;

        files.index_fd = segment_open(log->path, log->end, SEGMENT_INDEX, O_RDWR | O_CREAT | O_TRUNC);
        if (files.index_fd < 0)
                return files.index_fd;
        r = index_reserve(files.index_fd, 0, INDEX_BLOCK_BYTES / INDEX_RECORD_SIZE);
        if (r >= 0 && data_reserve > 0) {
                r = files.data_fd =
                        segment_open(log->path, log->end, SEGMENT_DATA, O_RDWR | O_CREAT | O_EXCL);
                if (r >= 0 && fallocate(files.data_fd, FALLOC_FL_KEEP_SIZE, 0, data_reserve) < 0 &&
                    (errno == ENOSPC || errno == EDQUOT))
                        r = -ENOSPC;
        }
        if (r >= 0)
                r = log_write_head(log, files.index_fd, log->end, lost_from,
                                   log->lost_bytes + (log->end - lost_from), ret_last, ret_n);
        if (r < 0) {
                log_files_close(&files);
                (void)segment_unlink(log->path, log->end);
                return r;
        }
        *ret_files = files;
        return 0;
}

int log_rotate(Log *log, uint32_t data_reserve, Error *reterr_error) {
        LogFiles files;
        Segment *segment;
        IndexRecord last;
        uint32_t n_records;
        int r;

        r = log_grow_segments(log);
        if (r == 0 && log->n_segments > 0) /* from now on it is not the last any more */
                r = log_open_current(log);
        if (r == 0 && log->n_segments > 0)
                r = log_make_data_file(log);
        if (r == 0)
                r = log_create_files(log, data_reserve, &files, &last, &n_records);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot begin a segment of the log '%s'", log->path);
        if (log->n_segments > 0) {
                segment = log_current(log);
                log->lost_bytes += log->end - segment_end(segment);
                /* Gives back what was reserved; a record whose bytes did not come goes, too. */
                if (log->current.index_fd >= 0)
                        (void)!ftruncate(log->current.index_fd,
                                         (off_t)segment->n_records * INDEX_RECORD_SIZE);
        }
        log_files_close(&log->current);
        log->current = files;
        log->segments[log->n_segments++] =
                (Segment){ .begin = log->end, .time_usec = last.time_usec, .n_records = n_records };
        log->kept_records += n_records;
        log->last = last;
        log->time_usec = last.time_usec;
        log->has_pending = log->has_excess = false;
        log->n_reserved = INDEX_BLOCK_BYTES / INDEX_RECORD_SIZE;
        log->n_punched = 0;
        log->is_ready = true;
        return 0;
}

void log_idle(Log *log) {
        log_files_close(&log->current);
        log_files_close(&log->old);
        free(log->block);
        log->block = NULL;
        log->is_ready = false;
        log->n_reserved = 0;
}

int log_sync(Log *log) {
        if (log->current.data_fd >= 0 && fdatasync(log->current.data_fd) < 0)
                return -errno;
        if (log->current.index_fd >= 0 && fdatasync(log->current.index_fd) < 0)
                return -errno;
        return 0;
}

/* ---- numbers ---- */

uint64_t log_begin(const Log *log) {
        return log->segments[0].begin;
}

uint64_t log_end(const Log *log) {
        return log->end;
}

uint64_t log_lost(const Log *log) {
        return log->lost_bytes + (log->end - segment_end(log_current(log)));
}

uint64_t log_time(const Log *log) {
        return log->time_usec;
}

void log_set_floor(Log *log, uint64_t offset) {
        log->floor = offset;
}
