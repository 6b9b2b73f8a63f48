/* SPDX-License-Identifier: MIT */

#include "daemon/engine/stdin-log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/engine/stdin-index.h"
#include "daemon/engine/stdin-writer.h"

#define SENDFILE_MAX (16 * 1024 * 1024)

struct StdinLog {
        StdinIndex index;
        StdinWriters *writers; /* owned, NULL while idle */
        uint64_t accepted;
        uint64_t taken;   /* the offset of the position descriptor, where there is one */
        uint64_t base;    /* see stdin-index.h */
        uint64_t punched; /* up to here the bytes are gone from the file, as far as this engine knows */
        int data_fd;      /* owned, -1 while idle */
        int position_fd;  /* owned; the keeper has a duplicate */
        uint32_t run;
        bool is_closed;
        bool is_fresh; /* the last record is a RUN record, behind which nothing has happened */
        char path[];
};

/* --- files --- */

static int stdin_log_open_file(const StdinLog *log, int flags, Error *reterr_error) {
        char path[4096];
        int fd, n;

        n = snprintf(path, sizeof(path), "%s/stdin.log", log->path);
        if (n < 0 || (size_t)n >= sizeof(path))
                return error_set_errno(reterr_error, ENAMETOOLONG, "cannot open '%s/stdin.log'", log->path);
        fd = open(path, flags | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
                return error_set_errno(reterr_error, errno, "cannot open '%s'", path);
        return fd;
}

static int stdin_log_data_fd(StdinLog *log, Error *reterr_error) {
        if (log->data_fd < 0)
                log->data_fd = stdin_log_open_file(log, O_WRONLY, reterr_error);
        return log->data_fd;
}

/* Moves the position, which only ever goes forward. */
static int stdin_log_move(StdinLog *log, uint64_t offset, Error *reterr_error) {
        if (log->position_fd >= 0 && lseek(log->position_fd, (off_t)offset, SEEK_SET) < 0)
                return error_set_errno(reterr_error, errno, "cannot move in '%s/stdin.log'", log->path);
        log->taken = offset;
        return 0;
}

/* The keeper's descriptor tells how far an earlier engine got. Where that recorded a cancellation or a new
 * run and did not live to move the position, it is moved now: nothing below the base is delivered. */
static int stdin_log_adopt(StdinLog *log, Error *reterr_error) {
        off_t offset;

        offset = lseek(log->position_fd, 0, SEEK_CUR);
        if (offset < 0)
                return error_set_errno(reterr_error, errno, "cannot ask for the position in '%s/stdin.log'",
                                       log->path);
        if ((uint64_t)offset > log->accepted)
                return error_set_errno(reterr_error, EUCLEAN,
                                       "'%s/stdin.idx' has %llu bytes, of which %llu are delivered already",
                                       log->path, (unsigned long long)log->accepted,
                                       (unsigned long long)offset);
        log->taken = (uint64_t)offset;
        return log->taken < log->base ? stdin_log_move(log, log->base, reterr_error) : 0;
}

int stdin_log_new(StdinLog **ret_log, const char *path, Error *reterr_error) {
        StdinLog *log;

        log = calloc(1, sizeof(*log) + strlen(path) + 1);
        if (!log)
                return error_set_errno(reterr_error, ENOMEM, "cannot open '%s/stdin.log'", path);
        memcpy(log->path, path, strlen(path) + 1);
        log->data_fd = -1;
        log->position_fd = -1;
        stdin_index_init(&log->index);
        *ret_log = log;
        return 0;
}

int stdin_log_open(StdinLog **ret_log, const char *path, int position_fd, Error *reterr_error) {
        CLEANUP(stdin_log_free) StdinLog *log = NULL;
        StdinRecord last;
        int r;

        r = stdin_log_new(&log, path, reterr_error);
        if (r < 0)
                return r;
        r = stdin_index_load(&log->index, path, &last, reterr_error);
        if (r < 0)
                return r;
        if (r > 0) {
                log->accepted = last.offset + last.length;
                log->base = log->taken = last.base;
                log->run = last.run;
                log->is_closed = last.flags & STDIN_FLAG_CLOSED;
                log->is_fresh = last.kind == STDIN_KIND_RUN;
        }
        if (position_fd >= 0) {
                log->position_fd = position_fd;
                r = stdin_log_adopt(log, reterr_error);
                if (r < 0) {
                        log->position_fd = -1; /* still the caller's */
                        return r;
                }
        }
        *ret_log = TAKE(log);
        return 0;
}

StdinLog *stdin_log_free(StdinLog *log) {
        if (!log)
                return NULL;
        stdin_log_idle(log);
        stdin_index_deinit(&log->index);
        (void)fd_close(log->position_fd);
        free(log);
        return NULL;
}

void stdin_log_idle(StdinLog *log) {
        log->data_fd = fd_close(log->data_fd);
        stdin_index_idle(&log->index);
        log->writers = stdin_writers_free(log->writers);
}

int stdin_log_remove(const char *path) {
        static const char *const names[] = { "stdin.log", "stdin.idx", "stdin.idx.new" };
        char file[4096];
        int r = 0;

        for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
                (void)snprintf(file, sizeof(file), "%s/%s", path, names[i]);
                if (unlink(file) < 0 && errno != ENOENT)
                        r = -errno;
        }
        return r;
}

int stdin_log_position_fd(StdinLog *log, int *ret_fd, bool *ret_is_new, Error *reterr_error) {
        CLEANUP(fd_close) int fd = -1;

        *ret_is_new = log->position_fd < 0;
        if (log->position_fd < 0) {
                fd = stdin_log_open_file(log, O_RDONLY, reterr_error);
                if (fd < 0)
                        return fd;
                if (lseek(fd, (off_t)log->taken, SEEK_SET) < 0)
                        return error_set_errno(reterr_error, errno, "cannot move in '%s/stdin.log'",
                                               log->path);
                log->position_fd = TAKE_FD(fd);
        }
        *ret_fd = log->position_fd;
        return 0;
}

void stdin_log_close_position(StdinLog *log) {
        log->position_fd = fd_close(log->position_fd);
}

uint64_t stdin_log_accepted(const StdinLog *log) {
        return log->accepted;
}

uint64_t stdin_log_taken(const StdinLog *log) {
        return log->taken;
}

uint64_t stdin_log_base(const StdinLog *log) {
        return log->base;
}

bool stdin_log_eof(const StdinLog *log) {
        return log->is_closed;
}

/* --- records --- */

/* Adds a record that ends at what will be accepted; the caller has filled in what is special about it. */
static int stdin_log_put(StdinLog *log, StdinRecord *record, Error *reterr_error) {
        bool is_input = record->kind == STDIN_KIND_BYTES || record->kind == STDIN_KIND_EOF;
        int r;

        if (log->index.n_records > log->index.n_rotate)
                (void)stdin_index_rotate(&log->index, log->path, log->taken, NULL);
        record->time_usec = clock_realtime_usec();
        if (log->is_closed && record->kind != STDIN_KIND_RUN)
                record->flags |= STDIN_FLAG_CLOSED;
        if (record->kind == STDIN_KIND_RUN && log->is_fresh && log->taken == log->accepted)
                r = stdin_index_replace(&log->index, log->path, record, reterr_error);
        else
                r = stdin_index_append(&log->index, log->path, record, is_input, reterr_error);
        if (r < 0)
                return r;
        log->is_fresh = record->kind == STDIN_KIND_RUN;
        log->accepted = record->offset + record->length;
        log->base = record->base;
        return 0;
}

/* Drops what is not taken: first the record, then the position. */
static int stdin_log_drop(StdinLog *log, StdinKind kind, uint32_t run, uint64_t *ret_dropped,
                          Error *reterr_error) {
        StdinRecord record = {
                .offset = log->taken,
                .length = log->accepted - log->taken,
                .run = run,
                .kind = (uint8_t)kind,
                .base = log->accepted,
        };
        int r;

        r = stdin_log_put(log, &record, reterr_error);
        if (r < 0)
                return r;
        r = stdin_log_move(log, log->accepted, reterr_error);
        assert(r == 0); /* a valid offset in a regular file */
        if (ret_dropped)
                *ret_dropped = record.length;
        return 0;
}

int stdin_log_begin_run(StdinLog *log, uint32_t run, Error *reterr_error) {
        int r;

        if (log->index.n_records > 0) {
                if (log->run == run)
                        return 0;
                r = stdin_log_drop(log, STDIN_KIND_RUN, run, NULL, reterr_error);
                if (r < 0)
                        return r;
        }
        log->run = run;
        log->is_closed = false;
        return 0;
}

int stdin_log_cancel(StdinLog *log, uint64_t *ret_dropped, Error *reterr_error) {
        if (log->taken == log->accepted) {
                if (ret_dropped)
                        *ret_dropped = 0;
                return 0;
        }
        return stdin_log_drop(log, STDIN_KIND_CANCEL, log->run, ret_dropped, reterr_error);
}

int stdin_log_end_run(StdinLog *log, uint64_t *ret_dropped, Error *reterr_error) {
        int r;

        if (ret_dropped)
                *ret_dropped = 0;
        if (log->base < log->accepted) {
                r = stdin_log_drop(log, STDIN_KIND_CANCEL, log->run, ret_dropped, reterr_error);
                if (r < 0)
                        return r;
        }
        log->position_fd = fd_close(log->position_fd);
        return 0;
}

/* --- writers --- */

/* Looks among those known, then in the index. */
static int stdin_log_lookup(StdinLog *log, const StdinWriter *writer, KnownWriter *ret_known,
                            Error *reterr_error) {
        StdinRecord record;
        int r;

        if (stdin_writers_get(log->writers, writer, ret_known)) {
                if (ret_known->accepted == 0 && !ret_known->has_eof)
                        ret_known->writer = *writer; /* nothing it asked for before was accepted */
                return 0;
        }
        r = stdin_index_writer(&log->index, log->path, writer, UINT64_MAX, &record, reterr_error);
        if (r < 0)
                return r;
        *ret_known = (KnownWriter){ .writer = *writer };
        if (r > 0) {
                ret_known->writer = record.writer;
                ret_known->accepted = record.position + record.length;
                ret_known->end = record.offset + record.length;
                ret_known->has_eof = record.flags & STDIN_FLAG_EOF;
        }
        stdin_writers_put(&log->writers, ret_known);
        return 0;
}

/* The writer's count of what is taken. The first of its records that is not taken entirely tells: records lie
 * in the order of their ends. */
static int stdin_log_count_taken(StdinLog *log, const KnownWriter *known, uint64_t *ret_taken) {
        StdinRecord records[16];
        uint32_t number, n;
        int r;

        *ret_taken = known->accepted;
        if (known->end <= log->taken)
                return 0;
        r = stdin_index_find(&log->index, log->path, log->taken, &number, NULL);
        for (; r == 0 && number < log->index.n_records; number += n) {
                n = MIN(log->index.n_records - number, (uint32_t)ARRAY_SIZE(records));
                r = stdin_index_read(&log->index, log->path, number, n, records, NULL);
                for (uint32_t i = 0; r == 0 && i < n; i++) {
                        if (records[i].kind != STDIN_KIND_BYTES ||
                            !stdin_writer_is(&records[i].writer, &known->writer))
                                continue;
                        *ret_taken = records[i].position;
                        if (records[i].offset < log->taken)
                                *ret_taken += log->taken - records[i].offset;
                        return 0;
                }
        }
        return r;
}

int stdin_log_writer(StdinLog *log, const StdinWriter *writer, uint64_t *ret_accepted, uint64_t *ret_taken,
                     uint64_t *ret_end, bool *ret_eof) {
        KnownWriter known;
        int r;

        r = stdin_log_lookup(log, writer, &known, NULL);
        if (r < 0)
                return r;
        if (ret_taken) {
                r = stdin_log_count_taken(log, &known, ret_taken);
                if (r < 0)
                        return r;
        }
        if (ret_accepted)
                *ret_accepted = known.accepted;
        if (ret_end)
                *ret_end = known.end;
        if (ret_eof)
                *ret_eof = known.has_eof;
        return 0;
}

/* --- accepting --- */

bool stdin_log_wrote_this(StdinLog *log, const StdinWriter *writer) {
        static const uint8_t none[sizeof(writer->digest)];
        KnownWriter known;

        if (stdin_log_lookup(log, writer, &known, NULL) < 0 || (known.accepted == 0 && !known.has_eof))
                return true;
        return memcmp(known.writer.digest, none, sizeof(none)) == 0 ||
               memcmp(known.writer.digest, writer->digest, sizeof(none)) == 0;
}

/* The stdin offset behind a writer's first 'count' bytes. Where that is no longer kept: behind its last one.
 */
static uint64_t stdin_log_end_of(StdinLog *log, const KnownWriter *known, uint64_t count) {
        StdinRecord record;

        if (known->accepted == 0 && !known->has_eof)
                return log->accepted; /* it wrote nothing: behind all that others did */
        if (count < known->accepted && count > 0 &&
            stdin_index_writer(&log->index, log->path, &known->writer, count, &record, NULL) > 0)
                return record.offset + MIN(record.length, count - record.position);
        return known->end;
}

/* Writes bytes behind what is accepted. They mean nothing until their record is there. */
static int stdin_log_write(StdinLog *log, const void *data, size_t size, Error *reterr_error) {
        const char *p = data;
        ssize_t n;
        int r;

        r = stdin_log_data_fd(log, reterr_error);
        if (r < 0)
                return r;
        for (size_t done = 0; done < size; done += (size_t)n) {
                n = pwrite(log->data_fd, p + done, size - done, (off_t)(log->accepted + done));
                if (n < 0 && errno == EINTR)
                        n = 0;
                if (n < 0) {
                        r = error_set_errno(reterr_error, errno, "cannot write '%s/stdin.log'", log->path);
                        (void)ftruncate(log->data_fd,
                                        (off_t)log->accepted); /* gives a full disk back its blocks */
                        return r;
                }
        }
        return 0;
}

static int stdin_log_accept_new(StdinLog *log, KnownWriter *known, const void *data, size_t size, bool eof,
                                Error *reterr_error) {
        StdinRecord record = {
                .offset = log->accepted,
                .length = size,
                .position = known->accepted,
                .writer = known->writer,
                .run = log->run,
                .kind = size > 0 ? STDIN_KIND_BYTES : STDIN_KIND_EOF,
                .flags = eof ? STDIN_FLAG_EOF | STDIN_FLAG_CLOSED : 0,
                .base = log->base,
        };
        int r;

        if (size > 0) {
                r = stdin_log_write(log, data, size, reterr_error);
                if (r < 0)
                        return r;
        }
        r = stdin_log_put(log, &record, reterr_error);
        if (r < 0)
                return r;
        log->is_closed = log->is_closed || eof;
        known->accepted += size;
        known->end = log->accepted;
        known->has_eof = eof;
        return 0;
}

int stdin_log_accept(StdinLog *log, const StdinWriter *writer, uint64_t position, const void *data,
                     size_t size, bool eof, uint64_t *ret_accepted, uint64_t *ret_end, Error *reterr_error) {
        KnownWriter known = { .accepted = writer ? 0 : position, .end = log->accepted };
        uint64_t n_skipped, end = position + size;
        int r;

        if (writer) {
                r = stdin_log_lookup(log, writer, &known, reterr_error);
                if (r < 0)
                        return r;
        }
        if (position > known.accepted)
                return error_set(reterr_error, ERROR_INVALID,
                                 "input at position %llu, but only %llu bytes have come from its writer",
                                 (unsigned long long)position, (unsigned long long)known.accepted);
        n_skipped = MIN(known.accepted - position, size);
        eof = eof && !(known.has_eof && end <= known.accepted) && !(log->is_closed && n_skipped == size);
        if (size > n_skipped || eof) {
                if (log->is_closed)
                        return error_set(reterr_error, ERROR_STDIN_CLOSED,
                                         "stdin was closed after %llu bytes",
                                         (unsigned long long)log->accepted);
                r = stdin_log_accept_new(log, &known, (const char *)data + n_skipped, size - n_skipped, eof,
                                         reterr_error);
                if (r < 0)
                        return r;
                if (writer)
                        stdin_writers_put(&log->writers, &known);
        }
        if (ret_accepted)
                *ret_accepted = known.accepted;
        if (ret_end)
                *ret_end = stdin_log_end_of(log, &known, end);
        return 0;
}

/* --- reading back --- */

int stdin_log_unnoted(StdinLog *log, uint64_t *ret_begin, uint64_t *ret_end, Error *reterr_error) {
        StdinRecord record;
        bool found = false;
        int r;

        for (uint32_t number = log->index.n_records; number-- > 0;) {
                r = stdin_index_read(&log->index, log->path, number, 1, &record, reterr_error);
                if (r < 0)
                        return r;
                if (record.flags & STDIN_FLAG_NOTED ||
                    (record.kind != STDIN_KIND_BYTES && record.kind != STDIN_KIND_EOF))
                        break;
                found = found || record.kind == STDIN_KIND_BYTES;
                *ret_begin = record.offset;
        }
        *ret_end = log->accepted;
        return found;
}

int stdin_log_note(StdinLog *log, Error *reterr_error) {
        StdinRecord last;
        int r;

        if (log->index.n_records == 0)
                return 0;
        r = stdin_index_read(&log->index, log->path, log->index.n_records - 1, 1, &last, reterr_error);
        if (r < 0 || last.flags & STDIN_FLAG_NOTED)
                return r;
        last.flags |= STDIN_FLAG_NOTED;
        return stdin_index_replace(&log->index, log->path, &last, reterr_error);
}

int stdin_log_read(StdinLog *log, uint64_t offset, void *ret_data, size_t size, Error *reterr_error) {
        CLEANUP(fd_close) int fd = -1;
        char *p = ret_data;
        ssize_t n;

        fd = stdin_log_open_file(log, O_RDONLY, reterr_error);
        if (fd < 0)
                return fd;
        for (; size > 0; p += n, offset += (uint64_t)n, size -= (size_t)n) {
                n = pread(fd, p, size, (off_t)offset);
                if (n < 0 && errno == EINTR)
                        n = 0;
                else if (n <= 0)
                        return error_set_errno(reterr_error, n < 0 ? errno : EUCLEAN,
                                               "cannot read '%s/stdin.log'", log->path);
        }
        return 0;
}

/* --- delivering --- */

/* Frees the disk of what has been taken. The pipe, and whatever the reader has spliced on from it, still
 * refers to pages of the page cache: those must be dropped as a whole, never be changed. The kernel zeroes a
 * folio in place if only a part of it is punched out, and the bytes in the pipe with it (seen on ext4 of
 * Linux 6.18). Folios are aligned to their size, at most that of a huge page, so that a range aligned to it
 * never has a part of one. */
static void stdin_log_punch(StdinLog *log) {
        uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE), folio_max = page_size / 8 * page_size;
        uint64_t end = log->taken / folio_max * folio_max;

        if (end <= log->punched || stdin_log_data_fd(log, NULL) < 0)
                return;
        (void)fallocate(log->data_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)log->punched,
                        (off_t)(end - log->punched));
        log->punched = end;
}

int stdin_log_deliver(StdinLog *log, int pipe_fd, size_t *ret_n, Error *reterr_error) {
        uint64_t begin = log->taken;
        ssize_t n;
        int r = 0;

        assert(log->position_fd >= 0 || log->taken == log->accepted);
        while (r == 0 && log->taken < log->accepted) {
                n = sendfile(pipe_fd, log->position_fd, NULL, MIN(log->accepted - log->taken, SENDFILE_MAX));
                if (n > 0)
                        log->taken += (uint64_t)n;
                else if (n == 0)
                        r = error_set_errno(
                                reterr_error, EUCLEAN, "'%s/stdin.log' ends at %llu of %llu bytes", log->path,
                                (unsigned long long)log->taken, (unsigned long long)log->accepted);
                else if (errno == EAGAIN)
                        r = -EAGAIN;
                else if (errno == EPIPE)
                        r = error_set(reterr_error, ERROR_STDIN_CLOSED, "nobody reads stdin any more");
                else if (errno != EINTR)
                        r = error_set_errno(reterr_error, errno, "cannot deliver '%s/stdin.log'", log->path);
        }
        stdin_log_punch(log);
        if (ret_n)
                *ret_n = (size_t)(log->taken - begin);
        return r;
}
