/* SPDX-License-Identifier: MIT */

#include "daemon/engine/stdin-index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/protocol.h"

#define BULK 64 /* records read or written at once */
#define BLOCK_SIZE 4096

/* --- one record --- */

/* FNV-1a of what is not the check itself, folded. Never wrong about a record of zeros: its kind is. */
static uint16_t record_check(const uint8_t *bytes) {
        uint64_t hash = UINT64_C(0xcbf29ce484222325);

        for (unsigned i = 0; i < STDIN_RECORD_SIZE; i++) {
                if (i == 54 || i == 55)
                        continue;
                hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
        }
        return (uint16_t)(hash ^ hash >> 16 ^ hash >> 32 ^ hash >> 48);
}

void stdin_record_encode(uint8_t *ret_bytes, const StdinRecord *record) {
        le64_put(ret_bytes, record->offset);
        le64_put(ret_bytes + 8, record->length);
        le64_put(ret_bytes + 16, record->time_usec);
        le64_put(ret_bytes + 24, record->position);
        memcpy(ret_bytes + 32, &record->writer, STDIN_WRITER_SIZE);
        le32_put(ret_bytes + 48, record->run);
        ret_bytes[52] = record->kind;
        ret_bytes[53] = record->flags;
        le64_put(ret_bytes + 56, record->base);
        le16_put(ret_bytes + 54, record_check(ret_bytes));
}

bool stdin_record_decode(StdinRecord *ret_record, const uint8_t *bytes) {
        if (bytes[52] == STDIN_KIND_NONE || bytes[52] >= STDIN_KIND_N_ ||
            le16_get(bytes + 54) != record_check(bytes))
                return false;
        *ret_record = (StdinRecord){
                .offset = le64_get(bytes),
                .length = le64_get(bytes + 8),
                .time_usec = le64_get(bytes + 16),
                .position = le64_get(bytes + 24),
                .run = le32_get(bytes + 48),
                .kind = bytes[52],
                .flags = bytes[53],
                .base = le64_get(bytes + 56),
        };
        memcpy(&ret_record->writer, bytes + 32, STDIN_WRITER_SIZE);
        return true;
}

/* --- the file --- */

static int index_path(const char *dir, const char *suffix, char *ret_path, size_t size) {
        int n;

        n = snprintf(ret_path, size, "%s/stdin.idx%s", dir, suffix);
        return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static int index_open(StdinIndex *index, const char *dir, int flags, Error *reterr_error) {
        char path[4096];
        int r;

        if (index->fd >= 0)
                return 0;
        r = index_path(dir, "", path, sizeof(path));
        if (r == 0) {
                index->fd = open(path, O_RDWR | O_CLOEXEC | flags, 0600);
                r = index->fd < 0 ? -errno : 0;
        }
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot open '%s/stdin.idx'", dir);
        return 0;
}

static int index_pread(const StdinIndex *index, const char *dir, uint8_t *bytes, uint32_t first, uint32_t n,
                       Error *reterr_error) {
        size_t size = (size_t)n * STDIN_RECORD_SIZE, done = 0;
        off_t at = (off_t)first * STDIN_RECORD_SIZE;
        ssize_t got;

        while (done < size) {
                got = pread(index->fd, bytes + done, size - done, at + (off_t)done);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return error_set_errno(reterr_error, got < 0 ? errno : EUCLEAN,
                                               "cannot read '%s/stdin.idx'", dir);
                done += (size_t)got;
        }
        return 0;
}

static int index_pwrite(int fd, const char *dir, const uint8_t *bytes, size_t size, off_t at,
                        Error *reterr_error) {
        ssize_t n;

        do
                n = pwrite(fd, bytes, size, at);
        while (n < 0 && errno == EINTR);
        if (n != (ssize_t)size)
                return error_set_errno(reterr_error, n < 0 ? errno : ENOSPC, "cannot write '%s/stdin.idx'",
                                       dir);
        return 0;
}

/* Looks back from the end for a record that is whole. */
static int index_find_last(StdinIndex *index, const char *dir, uint32_t n_stored, StdinRecord *ret_last,
                           Error *reterr_error) {
        uint8_t bytes[BULK * STDIN_RECORD_SIZE];
        uint32_t first, n;
        int r;

        for (uint32_t end = n_stored; end > 0; end = first) {
                n = MIN(end, BULK);
                first = end - n;
                r = index_pread(index, dir, bytes, first, n, reterr_error);
                if (r < 0)
                        return r;
                while (n-- > 0)
                        if (stdin_record_decode(ret_last, bytes + n * STDIN_RECORD_SIZE)) {
                                index->n_records = first + n + 1;
                                return 1;
                        }
        }
        if (n_stored > 1)
                return error_set_errno(reterr_error, EUCLEAN, "'%s/stdin.idx' has no whole record", dir);
        return 0;
}

void stdin_index_init(StdinIndex *index) {
        *index = (StdinIndex){ .fd = -1, .n_rotate = STDIN_INDEX_MAX };
}

int stdin_index_load(StdinIndex *index, const char *dir, StdinRecord *ret_last, Error *reterr_error) {
        struct stat st;
        int r;

        stdin_index_init(index);
        r = index_open(index, dir, 0, reterr_error);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        if (fstat(index->fd, &st) < 0)
                r = error_set_errno(reterr_error, errno, "cannot stat '%s/stdin.idx'", dir);
        else
                r = index_find_last(index, dir, (uint32_t)(st.st_size / STDIN_RECORD_SIZE), ret_last,
                                    reterr_error);
        stdin_index_idle(index);
        return r;
}

void stdin_index_make(const char *dir) {
        StdinIndex index = { .fd = -1 };

        (void)index_open(&index, dir, O_CREAT, NULL);
        stdin_index_idle(&index);
}

void stdin_index_deinit(StdinIndex *index) {
        stdin_index_idle(index);
}

void stdin_index_idle(StdinIndex *index) {
        index->fd = fd_close(index->fd);
        index->n_allotted = 0;
}

/* Gets the blocks for so many records. Where that is not supported, a full disk refuses all records alike. */
static int index_allot(StdinIndex *index, uint32_t n) {
        off_t begin = (off_t)index->n_records * STDIN_RECORD_SIZE;
        off_t end = ((off_t)n * STDIN_RECORD_SIZE + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE;

        if (n <= index->n_allotted)
                return 0;
        if (fallocate(index->fd, FALLOC_FL_KEEP_SIZE, begin, end - begin) < 0 && errno != EOPNOTSUPP)
                return -errno;
        index->n_allotted = (uint32_t)(end / STDIN_RECORD_SIZE);
        return 0;
}

int stdin_index_append(StdinIndex *index, const char *dir, const StdinRecord *record, bool spare,
                       Error *reterr_error) {
        uint8_t bytes[STDIN_RECORD_SIZE];
        int r;

        r = index_open(index, dir, O_CREAT, reterr_error);
        if (r < 0)
                return r;
        r = index_allot(index, index->n_records + 1 + spare);
        if (r < 0 && spare)
                return error_set_errno(reterr_error, r, "cannot extend '%s/stdin.idx'", dir);
        stdin_record_encode(bytes, record);
        r = index_pwrite(index->fd, dir, bytes, sizeof(bytes), (off_t)index->n_records * STDIN_RECORD_SIZE,
                         reterr_error);
        if (r < 0)
                return r;
        index->n_records++;
        return 0;
}

int stdin_index_replace(StdinIndex *index, const char *dir, const StdinRecord *record, Error *reterr_error) {
        uint8_t bytes[STDIN_RECORD_SIZE];
        int r;

        assert(index->n_records > 0);
        r = index_open(index, dir, 0, reterr_error);
        if (r < 0)
                return r;
        stdin_record_encode(bytes, record);
        return index_pwrite(index->fd, dir, bytes, sizeof(bytes),
                            (off_t)(index->n_records - 1) * STDIN_RECORD_SIZE, reterr_error);
}

int stdin_index_read(StdinIndex *index, const char *dir, uint32_t first, uint32_t n, StdinRecord *ret_records,
                     Error *reterr_error) {
        uint8_t bytes[BULK * STDIN_RECORD_SIZE];
        uint32_t n_bulk;
        int r;

        assert(first + n <= index->n_records);
        r = index_open(index, dir, 0, reterr_error);
        if (r < 0)
                return r;
        for (; n > 0; first += n_bulk, n -= n_bulk) {
                n_bulk = MIN(n, BULK);
                r = index_pread(index, dir, bytes, first, n_bulk, reterr_error);
                if (r < 0)
                        return r;
                for (uint32_t i = 0; i < n_bulk; i++, ret_records++)
                        if (!stdin_record_decode(ret_records, bytes + i * STDIN_RECORD_SIZE))
                                *ret_records = (StdinRecord){};
        }
        return 0;
}

/* --- looking up --- */

int stdin_index_find(StdinIndex *index, const char *dir, uint64_t offset, uint32_t *ret_number,
                     Error *reterr_error) {
        uint32_t low = 0, high = index->n_records, middle;
        StdinRecord record;
        int r;

        while (low < high) {
                middle = low + (high - low) / 2;
                r = stdin_index_read(index, dir, middle, 1, &record, reterr_error);
                if (r < 0)
                        return r;
                if (record.offset + record.length > offset)
                        high = middle;
                else
                        low = middle + 1;
        }
        *ret_number = low;
        return 0;
}

int stdin_index_writer(StdinIndex *index, const char *dir, const StdinWriter *writer, uint64_t count,
                       StdinRecord *ret_record, Error *reterr_error) {
        uint8_t bytes[4 * BULK * STDIN_RECORD_SIZE];
        const uint8_t *at;
        uint32_t first, n;
        int r;

        if (index->n_records == 0)
                return 0;
        r = index_open(index, dir, 0, reterr_error);
        if (r < 0)
                return r;
        for (uint32_t end = index->n_records; end > 0; end = first) {
                n = MIN(end, 4 * BULK);
                first = end - n;
                r = index_pread(index, dir, bytes, first, n, reterr_error);
                if (r < 0)
                        return r;
                while (n-- > 0) {
                        at = bytes + n * STDIN_RECORD_SIZE;
                        if (memcmp(at + 32, writer->id, STDIN_WRITER_ID_SIZE) == 0 &&
                            le64_get(at + 24) < count && stdin_record_decode(ret_record, at))
                                return 1;
                }
        }
        return 0;
}

/* --- rotation --- */

static bool record_joins(const StdinRecord *record, const StdinRecord *next) {
        return record->kind == STDIN_KIND_BYTES && next->kind == STDIN_KIND_BYTES &&
               record->flags == next->flags && record->run == next->run && record->base == next->base &&
               memcmp(&record->writer, &next->writer, sizeof(record->writer)) == 0 &&
               record->offset + record->length == next->offset &&
               record->position + record->length == next->position;
}

/* What is to be copied: collects records and writes them in bulk. */
typedef struct Rotation {
        int fd; /* borrowed */
        const char *dir;
        uint32_t n_written;
        StdinRecord pending; /* may still grow */
        uint32_t n_bytes;
        uint8_t bytes[BULK * STDIN_RECORD_SIZE];
} Rotation;

static int rotation_flush(Rotation *rotation, Error *reterr_error) {
        int r;

        r = index_pwrite(rotation->fd, rotation->dir, rotation->bytes, rotation->n_bytes,
                         (off_t)rotation->n_written * STDIN_RECORD_SIZE, reterr_error);
        if (r < 0)
                return r;
        rotation->n_written += rotation->n_bytes / STDIN_RECORD_SIZE;
        rotation->n_bytes = 0;
        return 0;
}

static int rotation_put(Rotation *rotation, const StdinRecord *record, Error *reterr_error) {
        if (record && record_joins(&rotation->pending, record)) {
                rotation->pending.length += record->length;
                return 0;
        }
        if (rotation->pending.kind != STDIN_KIND_NONE) {
                stdin_record_encode(rotation->bytes + rotation->n_bytes, &rotation->pending);
                rotation->n_bytes += STDIN_RECORD_SIZE;
        }
        if (record)
                rotation->pending = *record;
        return !record || rotation->n_bytes == sizeof(rotation->bytes)
                       ? rotation_flush(rotation, reterr_error)
                       : 0;
}

static int index_copy(StdinIndex *index, Rotation *rotation, uint32_t first, Error *reterr_error) {
        StdinRecord records[BULK];
        uint32_t n;
        int r;

        for (; first < index->n_records; first += n) {
                n = MIN(index->n_records - first, BULK);
                r = stdin_index_read(index, rotation->dir, first, n, records, reterr_error);
                if (r < 0)
                        return r;
                for (uint32_t i = 0; i < n; i++) {
                        r = rotation_put(rotation, &records[i], reterr_error);
                        if (r < 0)
                                return r;
                }
        }
        return rotation_put(rotation, NULL, reterr_error);
}

int stdin_index_rotate(StdinIndex *index, const char *dir, uint64_t behind, Error *reterr_error) {
        char path[4096], new_path[4096];
        CLEANUP(fd_close) int fd = -1;
        Rotation rotation = { .dir = dir };
        uint32_t first;
        int r;

        r = stdin_index_find(index, dir, behind, &first, reterr_error);
        if (r < 0)
                return r;
        if (index->n_records > STDIN_INDEX_KEEP)
                first = MIN(first, index->n_records - STDIN_INDEX_KEEP);
        else
                first = 0;
        if (index_path(dir, "", path, sizeof(path)) < 0 ||
            index_path(dir, ".new", new_path, sizeof(new_path)) < 0)
                return error_set_errno(reterr_error, ENAMETOOLONG, "cannot rotate '%s/stdin.idx'", dir);
        fd = open(new_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
                return error_set_errno(reterr_error, errno, "cannot make '%s'", new_path);
        rotation.fd = fd;
        r = index_copy(index, &rotation, first, reterr_error);
        if (r == 0 && rename(new_path, path) < 0)
                r = error_set_errno(reterr_error, errno, "cannot rename '%s'", new_path);
        /* until there are twice as many, whether it went well or not: the effort stays in proportion */
        index->n_rotate = MAX(STDIN_INDEX_MAX, 2 * (r < 0 ? index->n_records : rotation.n_written));
        if (r < 0) {
                (void)unlink(new_path);
                return r;
        }
        stdin_index_idle(index);
        index->fd = TAKE_FD(fd);
        index->n_records = rotation.n_written;
        return 0;
}
