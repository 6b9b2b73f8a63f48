/* SPDX-License-Identifier: MIT */

#include "daemon/engine/index.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/protocol.h"

#define CHECK_AT 30 /* where the check stands in a record */

/* Four rounds of multiply and shift over the record's words, folded to 16 bits. A block of zeros, which is
 * what a power loss likes to leave, does not pass. */
static uint16_t index_check(const uint8_t *bytes) {
        uint64_t words[4] = { le64_get(bytes), le64_get(bytes + 8), le64_get(bytes + 16),
                              le64_get(bytes + 24) & UINT64_C(0x0000ffffffffffff) };
        uint64_t hash = UINT64_C(0x9e3779b97f4a7c15);

        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                hash = (hash ^ words[i]) * UINT64_C(0xd6e8feb86659fd93);
                hash ^= hash >> 32;
        }
        return (uint16_t)(hash ^ hash >> 16);
}

void index_record_encode(uint8_t *ret_bytes, const IndexRecord *record) {
        assert(record->kind != INDEX_DAMAGED);
        le64_put(ret_bytes, record->offset);
        le64_put(ret_bytes + 8, record->time_usec);
        le64_put(ret_bytes + 16, record->argument);
        le32_put(ret_bytes + 24, record->run);
        ret_bytes[28] = record->kind;
        ret_bytes[29] = record->source;
        le16_put(ret_bytes + CHECK_AT, index_check(ret_bytes));
}

void index_record_decode(IndexRecord *ret_record, const uint8_t *bytes) {
        if (le16_get(bytes + CHECK_AT) != index_check(bytes) || bytes[28] == INDEX_DAMAGED) {
                *ret_record = (IndexRecord){ .kind = INDEX_DAMAGED };
                return;
        }
        *ret_record = (IndexRecord){
                .offset = le64_get(bytes),
                .time_usec = le64_get(bytes + 8),
                .argument = le64_get(bytes + 16),
                .run = le32_get(bytes + 24),
                .kind = bytes[28],
                .source = bytes[29],
        };
}

int index_write(int fd, uint32_t number, const IndexRecord *records, size_t n) {
        uint8_t bytes[INDEX_BLOCK_RECORDS * INDEX_RECORD_SIZE];
        off_t at = (off_t)number * INDEX_RECORD_SIZE;
        size_t size = n * INDEX_RECORD_SIZE;
        size_t done = 0;
        ssize_t written;

        assert(n >= 1 && n <= INDEX_BLOCK_RECORDS);
        for (size_t i = 0; i < n; i++)
                index_record_encode(bytes + i * INDEX_RECORD_SIZE, &records[i]);
        while (done < size) {
                written = pwrite(fd, bytes + done, size - done, at + (off_t)done);
                if (written < 0 && errno == EINTR)
                        continue;
                if (written < 0)
                        return errno == EDQUOT ? -ENOSPC : -errno;
                done += (size_t)written;
        }
        return 0;
}

int index_read(int fd, uint32_t number, IndexRecord *ret_records, size_t n) {
        uint8_t bytes[INDEX_BLOCK_RECORDS * INDEX_RECORD_SIZE];
        ssize_t size;

        assert(n >= 1 && n <= INDEX_BLOCK_RECORDS);
        do
                size = pread(fd, bytes, n * INDEX_RECORD_SIZE, (off_t)number * INDEX_RECORD_SIZE);
        while (size < 0 && errno == EINTR);
        if (size < 0)
                return -errno;
        n = (size_t)size / INDEX_RECORD_SIZE;
        for (size_t i = 0; i < n; i++)
                index_record_decode(&ret_records[i], bytes + i * INDEX_RECORD_SIZE);
        return (int)n;
}

uint32_t index_skip(int fd, uint32_t number) {
        off_t at = ((off_t)number + 1) * INDEX_RECORD_SIZE, data;

        data = lseek(fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
                return UINT32_MAX;
        return data > at ? (uint32_t)(data / INDEX_RECORD_SIZE) : number + 1;
}

/* The first sound record at or after 'number' and before 'end'. Return: 1; 0 if there is none; -errno. */
static int index_read_sound(int fd, uint32_t number, uint32_t end, IndexRecord *ret_record,
                            uint32_t *ret_number) {
        int r;

        for (; number < end; number = index_skip(fd, number)) {
                r = index_read(fd, number, ret_record, 1);
                if (r <= 0)
                        return r;
                if (ret_record->kind != INDEX_DAMAGED) {
                        *ret_number = number;
                        return 1;
                }
        }
        return 0;
}

int index_find(int fd, uint32_t first, uint32_t end, IndexKey key, uint64_t value, uint32_t *ret_number) {
        IndexRecord record;
        uint32_t middle, sound;
        int r;

        while (first < end) {
                middle = first + (end - first) / 2;
                r = index_read_sound(fd, middle, end, &record, &sound);
                if (r < 0)
                        return r;
                if (r > 0 && (key == INDEX_BY_OFFSET ? record.offset : record.time_usec) < value)
                        first = sound + 1;
                else
                        end = middle;
        }
        *ret_number = first;
        return 0;
}

int index_reserve(int fd, uint32_t from, uint32_t n) {
        int r;

        do
                r = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from * INDEX_RECORD_SIZE,
                              (off_t)n * INDEX_RECORD_SIZE);
        while (r < 0 && errno == EINTR);
        if (r == 0 || errno == EOPNOTSUPP || errno == ENOSYS)
                return 0;
        return errno == EDQUOT ? -ENOSPC : -errno;
}

void index_punch(int fd, uint32_t n) {
        off_t end = (off_t)n * INDEX_RECORD_SIZE / INDEX_BLOCK_BYTES * INDEX_BLOCK_BYTES;

        if (end > INDEX_BLOCK_BYTES)
                (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, INDEX_BLOCK_BYTES,
                                end - INDEX_BLOCK_BYTES);
}
