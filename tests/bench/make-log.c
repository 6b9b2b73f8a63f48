/* SPDX-License-Identifier: MIT */

/* Makes the log of a process that has much to tell, for what is read back from it: lines that come to stdout
 * and stderr in turn, one each microsecond, so that each has a record of its own. Written as the daemon lays
 * it out (daemon/engine/index.h), but many records at once.
 *
 *   make-log DIR BYTES RECORDS    what DIR has of a log is replaced; prints its first and last time, in
 * microseconds
 *
 * The daemon must not have the log open. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/protocol.h"
#include "daemon/engine/index.h"
#include "daemon/engine/log.h"
#include "daemon/engine/segment.h"

#define SEGMENT_BYTES (8 * 1024 * 1024) /* as the daemon has them in a log of this size */

typedef struct Maker {
        const char *dir; /* borrowed */
        uint64_t bytes, records;
        uint64_t time_usec; /* of the first record */
} Maker;

static char text[SEGMENT_BYTES + 64 * 1024];

/* The offset at which a line ends. */
static uint64_t line_end(const Maker *maker, uint64_t line) {
        return maker->bytes / maker->records * (line + 1) +
               maker->bytes % maker->records * (line + 1) / maker->records;
}

static int put_record(int fd, uint32_t *number, const IndexRecord *record, bool flush) {
        static IndexRecord block[INDEX_BLOCK_RECORDS];
        static size_t n;
        int r = 0;

        block[n++] = *record;
        if (n == ARRAY_SIZE(block) || flush) {
                r = index_write(fd, *number, block, n);
                *number += (uint32_t)n;
                n = 0;
        }
        return r;
}

/* One segment from a line on. Return: the line that follows, -errno. */
static int64_t make_segment(const Maker *maker, uint64_t line, uint64_t begin) {
        CLEANUP(fd_close) int index_fd = -1, data_fd = -1;
        IndexRecord record = {
                .offset = begin, .time_usec = maker->time_usec + line, .run = 1, .kind = INDEX_HEAD
        };
        uint64_t offset = begin, end;
        uint32_t number = 0;
        int r;

        data_fd = segment_open(maker->dir, begin, SEGMENT_DATA, O_WRONLY | O_CREAT);
        if (data_fd < 0)
                return data_fd;
        index_fd = segment_open(maker->dir, begin, SEGMENT_INDEX, O_WRONLY | O_CREAT);
        if (index_fd < 0)
                return index_fd;
        r = put_record(index_fd, &number, &record, false);
        record.kind = RECORD_START;
        if (r == 0 && begin == 0)
                r = put_record(index_fd, &number, &record, false);
        record.kind = RECORD_DATA;
        for (; r == 0 && line < maker->records && offset - begin < SEGMENT_BYTES; line++, offset = end) {
                end = line_end(maker, line);
                record.offset = offset;
                record.time_usec = maker->time_usec + line;
                record.source = line % 2 ? SOURCE_STDERR : SOURCE_STDOUT;
                text[end - begin - 1] = '\n';
                r = put_record(index_fd, &number, &record,
                               line + 1 == maker->records || end - begin >= SEGMENT_BYTES);
        }
        if (r == 0)
                r = fd_write_all(data_fd, text, offset - begin);
        for (uint64_t i = 0; i < offset - begin; i++)
                text[i] = 'Q';
        return r < 0 ? r : (int64_t)line;
}

int main(int argc, char **argv) {
        Maker maker = {
                .dir = argc == 4 ? argv[1] : "",
                .bytes = argc == 4 ? strtoull(argv[2], NULL, 10) : 0,
                .records = argc == 4 ? strtoull(argv[3], NULL, 10) : 0,
        };
        uint64_t begin = 0;
        int64_t line = 0;

        if (maker.records == 0 || maker.bytes / maker.records < 2 || maker.bytes / maker.records > 4096) {
                (void)fprintf(stderr, "make-log DIR BYTES RECORDS\n");
                return 2;
        }
        maker.time_usec = clock_realtime_usec() - maker.records;
        memset(text, 'Q', sizeof(text));
        if (log_remove(maker.dir) < 0)
                line = -EIO;
        while (line >= 0 && (uint64_t)line < maker.records) {
                line = make_segment(&maker, (uint64_t)line, begin);
                if (line > 0)
                        begin = line_end(&maker, (uint64_t)line - 1);
        }
        if (line < 0) {
                (void)fprintf(stderr, "make-log: %s\n", strerror((int)-line));
                return 1;
        }
        printf("%" PRIu64 " %" PRIu64 "\n", maker.time_usec, maker.time_usec + maker.records - 1);
        return 0;
}
