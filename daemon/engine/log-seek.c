/* SPDX-License-Identifier: MIT */

/* Placing a reader's cursor: by offset and by time with bisection, by run and by lines with a look at what
 * lies between. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "daemon/engine/log-private.h"
#include "daemon/engine/log.h"

#define LINE_BLOCK_BYTES (16 * 1024)

static LogCursor cursor_at(const Segment *segment, uint32_t record, uint64_t offset) {
        return (LogCursor){
                .offset = offset, .segment = segment->begin, .record = record, .flags = LOG_CURSOR_PLACED
        };
}

/* ---- by offset ---- */

/* If the sound record in front of 'number' is DATA whose bytes reach beyond 'offset', or may come to, start
 * with it. */
static int log_seek_back_to_data(Log *log, const Segment *segment, uint64_t offset, uint32_t *number) {
        IndexRecord records[LOG_READ_RECORDS];
        uint64_t end = segment_end(segment);
        uint32_t before;
        int r;

        for (before = *number; before-- > 0;) {
                r = log_read_records(log, segment, before, records);
                if (r < 0)
                        return r;
                if (r > 0 && records[0].kind != INDEX_DAMAGED)
                        break;
        }
        if (before == UINT32_MAX || records[0].kind != RECORD_DATA)
                return 0;
        if (*number < segment->n_records) {
                r = log_read_records(log, segment, *number, records);
                if (r < 0)
                        return r;
                if (r > 0 && records[0].kind != INDEX_DAMAGED)
                        end = log_data_end(segment, &records[0]);
        } else if (segment == log_current(log))
                end = UINT64_MAX; /* it may still grow, so a reader at its end stays on it */
        if (offset < end)
                *number = before;
        return 0;
}

int log_seek_offset(Log *log, LogCursor *ret_cursor, uint64_t offset) {
        const LogFiles *files;
        Segment *segment;
        uint32_t i, number;
        int r;

        if (offset > log->end)
                return -EINVAL;
        /* Records at the very end of a segment stand at the offset at which the next one begins. */
        i = log_find_segment(log, offset > 0 ? offset - 1 : 0);
        segment = &log->segments[i];
        if (offset < segment->begin) {
                *ret_cursor = cursor_at(segment, 0, offset);
                return 0;
        }
        r = log_know(log, segment, NULL);
        if (r < 0)
                return r;
        if (segment->n_records == 0) {
                *ret_cursor = cursor_at(segment, 0, offset);
                return 0;
        }
        r = log_files_of(log, segment, &files);
        if (r < 0)
                return r;
        r = index_find(files->index_fd, 0, segment->n_records, INDEX_BY_OFFSET, offset, &number);
        if (r < 0)
                return r;
        r = log_seek_back_to_data(log, segment, offset, &number);
        if (r < 0)
                return r;
        *ret_cursor = cursor_at(segment, number, offset);
        return 0;
}

void log_seek_end(Log *log, LogCursor *ret_cursor) {
        Segment *segment = log_current(log);
        uint32_t n = segment->n_records;

        if (n > 0 && log->last.kind == RECORD_DATA)
                n--; /* it may still grow */
        *ret_cursor = cursor_at(segment, n, log->end);
}

/* ---- by time ---- */

/* When a segment was begun; read from its HEAD once. */
static int log_segment_time(Log *log, Segment *segment, uint64_t *ret_time_usec) {
        IndexRecord records[LOG_READ_RECORDS];
        int r, n = 0;

        if (segment->time_usec == 0) {
                r = log_know(log, segment, NULL);
                if (r < 0)
                        return r;
                n = r = log_read_records(log, segment, 0, records);
                if (r < 0)
                        return r;
                for (int i = 0; i < n && segment->time_usec == 0; i++)
                        segment->time_usec = records[i].time_usec; /* of a damaged one: 0 */
        }
        *ret_time_usec = segment->time_usec;
        return 0;
}

/* The last segment that is known to have been begun before a time; 0 if none is. One whose index is lost says
 * nothing: the next one stands for it. */
static int log_find_segment_by_time(Log *log, uint64_t time_usec, uint32_t *ret_i) {
        uint32_t low = 0, high = log->n_segments, middle, i;
        uint64_t begun_usec;
        int r;

        while (high - low > 1) {
                middle = low + (high - low) / 2;
                for (i = middle, begun_usec = 0; i < high && begun_usec == 0; i++) {
                        r = log_segment_time(log, &log->segments[i], &begun_usec);
                        if (r < 0)
                                return r;
                }
                if (begun_usec > 0 && begun_usec < time_usec)
                        low = i - 1;
                else
                        high = middle;
        }
        *ret_i = low;
        return 0;
}

/* Place a cursor on the first thing to be told at or behind a record of a segment. */
static int log_seek_record(Log *log, LogCursor *ret_cursor, uint32_t i, uint32_t number) {
        IndexRecord records[LOG_READ_RECORDS];
        Segment *segment = &log->segments[i];
        uint64_t offset = segment->begin;
        int r = 0;

        if (number == 0) {
                /* What was lost before the segment belongs to it. */
                if (i > 0) {
                        r = log_know(log, segment - 1, NULL);
                        if (r < 0)
                                return r;
                        offset = segment_end(segment - 1);
                }
                *ret_cursor = cursor_at(segment, 0, offset);
                return 0;
        }
        for (; number < segment->n_records; number++) {
                r = log_read_records(log, segment, number, records);
                if (r < 0)
                        return r;
                if (r == 0 || records[0].kind != INDEX_DAMAGED)
                        break;
        }
        if (number < segment->n_records && r > 0)
                offset = MAX(offset, records[0].offset);
        else
                offset = segment_end(segment);
        *ret_cursor = cursor_at(segment, number, offset);
        return 0;
}

int log_seek_time(Log *log, LogCursor *ret_cursor, uint64_t time_usec) {
        const LogFiles *files;
        Segment *segment;
        uint32_t i, number;
        int r;

        if (log->time_usec < time_usec) {
                log_seek_end(log, ret_cursor);
                return 0;
        }
        r = log_find_segment_by_time(log, time_usec, &i);
        if (r < 0)
                return r;
        segment = &log->segments[i];
        r = log_know(log, segment, NULL);
        if (r < 0)
                return r;
        if (segment->n_records == 0) { /* when its bytes came is lost */
                *ret_cursor = cursor_at(segment, 0, segment->begin);
                return 0;
        }
        r = log_files_of(log, segment, &files);
        if (r < 0)
                return r;
        r = index_find(files->index_fd, 0, segment->n_records, INDEX_BY_TIME, time_usec, &number);
        if (r < 0)
                return r;
        if (number < segment->n_records)
                return log_seek_record(log, ret_cursor, i, number);
        if (i + 1 < log->n_segments)
                return log_seek_record(log, ret_cursor, i + 1, 0);
        log_seek_end(log, ret_cursor);
        return 0;
}

/* ---- by run ---- */

/* What a search looks for: a kind (INDEX_DAMAGED: any that a reader is told of) of a run (0: any). */
typedef struct Wanted {
        uint8_t kind;
        uint32_t run;
} Wanted;

static bool wanted_matches(const Wanted *wanted, const IndexRecord *record) {
        if (record->kind == INDEX_DAMAGED || record->kind == INDEX_HEAD)
                return false;
        if (wanted->kind == INDEX_DAMAGED ? record->kind == RECORD_GAP : record->kind != wanted->kind)
                return false;
        return wanted->run == 0 || record->run == wanted->run;
}

/* Search a segment forward. Return: 1 and the number; 0; -errno. */
static int log_search_forward(Log *log, const Segment *segment, const Wanted *wanted, uint32_t *ret_number) {
        IndexRecord records[LOG_READ_RECORDS];
        uint32_t number = 0;
        int64_t next;
        int r;

        for (;; number = (uint32_t)next) {
                r = log_read_records(log, segment, number, records);
                if (r <= 0)
                        return r;
                for (int i = 0; i < r; i++)
                        if (wanted_matches(wanted, &records[i])) {
                                *ret_number = number + (uint32_t)i;
                                return 1;
                        }
                next = log_skip_damaged(log, segment, number, records, r);
                if (next < 0)
                        return (int)next;
        }
}

/* The segment to begin at in search of the START of a run: a HEAD names the latest run there was when its
 * segment was begun, so it is the last segment whose HEAD names an earlier one. */
static int log_find_segment_by_run(Log *log, uint32_t run, uint32_t *ret_i) {
        uint32_t low = 0, high = log->n_segments, middle;
        IndexRecord records[LOG_READ_RECORDS];
        int r;

        while (high - low > 1) {
                middle = low + (high - low) / 2;
                r = log_know(log, &log->segments[middle], NULL);
                if (r >= 0)
                        r = log_read_records(log, &log->segments[middle], 0, records);
                if (r < 0)
                        return r;
                if (r > 0 && records[0].run < run)
                        low = middle;
                else
                        high = middle;
        }
        *ret_i = low;
        return 0;
}

int log_seek_run(Log *log, LogCursor *ret_cursor, uint32_t run) {
        Wanted wanted[] = { { RECORD_START, run }, { INDEX_DAMAGED, run } };
        uint32_t first, number;
        int r;

        r = log_find_segment_by_run(log, run, &first);
        if (r < 0)
                return r;
        for (size_t pass = 0; pass < ARRAY_SIZE(wanted); pass++, first = 0)
                for (uint32_t i = first; i < log->n_segments; i++) {
                        r = log_know(log, &log->segments[i], NULL);
                        if (r >= 0)
                                r = log_search_forward(log, &log->segments[i], &wanted[pass], &number);
                        if (r < 0)
                                return r;
                        if (r > 0)
                                return log_seek_record(log, ret_cursor, i, number);
                }
        return -ENOENT;
}

/* ---- backwards ---- */

/* Calls fn for every record from the last to the first, with the end of its bytes, until it returns other
 * than 0. */
typedef int (*LogBackFn)(Log *log, const Segment *segment, const IndexRecord *record, uint64_t end,
                         void *userdata);

/* Before a block of nothing but damaged records that begins at 'first': if all the room from the second block
 * of the file up to here was given back, go on before it. */
static int log_skip_back(Log *log, const Segment *segment, const IndexRecord *records, int n,
                         uint32_t *first) {
        const uint32_t kept = INDEX_BLOCK_BYTES / INDEX_RECORD_SIZE;
        const LogFiles *files;
        int r;

        for (int i = 0; i < n; i++)
                if (records[i].kind != INDEX_DAMAGED)
                        return 0;
        if (*first <= kept)
                return 0;
        r = log_files_of(log, segment, &files);
        if (r < 0)
                return r;
        if (index_skip(files->index_fd, kept) > *first)
                *first = kept;
        return 0;
}

static int log_walk_back(Log *log, LogBackFn fn, void *userdata) {
        IndexRecord records[LOG_READ_RECORDS];
        uint32_t number, first;
        Segment *segment;
        uint64_t end;
        int r, n;

        for (uint32_t i = log->n_segments; i-- > 0;) {
                segment = &log->segments[i];
                r = log_know(log, segment, NULL);
                if (r < 0)
                        return r;
                end = segment_end(segment);
                for (number = segment->n_records; number > 0; number = first) {
                        first = number == segment->n_records ? number - 1
                                : number > LOG_READ_RECORDS  ? number - LOG_READ_RECORDS
                                                             : 0;
                        n = log_read_records(log, segment, first, records);
                        if (n < 0)
                                return n;
                        n = MIN(n, (int)(number - first));
                        r = log_skip_back(log, segment, records, n, &first);
                        if (r < 0)
                                return r;
                        while (n-- > 0) {
                                if (records[n].kind == INDEX_DAMAGED)
                                        continue;
                                r = fn(log, segment, &records[n], end, userdata);
                                if (r != 0)
                                        return r;
                                end = MIN(end, MAX(records[n].offset, segment->begin));
                        }
                }
        }
        return 0;
}

typedef struct Search {
        Wanted wanted;
        LogChunk *ret_chunk; /* borrowed */
} Search;

static int search_back(Log *log, const Segment *segment, const IndexRecord *record, uint64_t end,
                       void *userdata) {
        Search *search = userdata;

        (void)log;
        (void)segment;
        (void)end;
        if (!wanted_matches(&search->wanted, record))
                return 0;
        *search->ret_chunk = (LogChunk){
                .header = { .offset = record->offset,
                            .time_usec = record->time_usec,
                            .run = record->run,
                            .kind = record->kind,
                            .source = record->source },
                .argument = record->argument,
                .fd = -1,
        };
        return 1;
}

typedef struct InputSearch {
        uint32_t run;
        uint64_t *ret_stdin_end;
} InputSearch;

static int search_input_back(Log *log, const Segment *segment, const IndexRecord *record, uint64_t end,
                             void *userdata) {
        InputSearch *search = userdata;

        (void)log;
        (void)segment;
        if (record->kind != RECORD_DATA || record->source != SOURCE_STDIN || record->run != search->run ||
            end <= record->offset)
                return 0;
        *search->ret_stdin_end = record->argument + (end - record->offset);
        return 1;
}

int log_last_input(Log *log, uint32_t run, uint64_t *ret_stdin_end) {
        InputSearch search = { run, ret_stdin_end };

        return log_walk_back(log, search_input_back, &search);
}

int log_last_record(Log *log, RecordKind kind, uint32_t run, LogChunk *ret_chunk) {
        Search search = { .wanted = { (uint8_t)kind, run }, .ret_chunk = ret_chunk };

        return log_walk_back(log, search_back, &search);
}

/* ---- by lines ---- */

typedef struct LineSearch {
        uint64_t n; /* newlines still to be passed over; the one that makes it 0 is in front of the first line
                     */
        unsigned sources;
        bool seen; /* whether any byte of the chosen sources has been seen: the last one ends no line before
                      it */
        uint64_t offset; /* the result */
} LineSearch;

/* Count newlines backwards in what was read from the log at 'offset'. Return: 1 when all are found. */
static int line_search_block(LineSearch *search, const char *data, size_t size, uint64_t offset) {
        const char *newline;

        if (size > 0 && !search->seen) {
                search->seen = true;
                if (data[size - 1] == '\n')
                        size--; /* ends the last line, which is among those wanted */
        }
        while ((newline = memrchr(data, '\n', size))) {
                size = (size_t)(newline - data);
                if (--search->n == 0) {
                        search->offset = offset + size + 1;
                        return 1;
                }
        }
        return 0;
}

static int line_search_back(Log *log, const Segment *segment, const IndexRecord *record, uint64_t end,
                            void *userdata) {
        char data[LINE_BLOCK_BYTES];
        LineSearch *search = userdata;
        const LogFiles *files;
        uint64_t from;
        ssize_t n;
        int r;

        if (record->kind != RECORD_DATA || !(search->sources & 1u << record->source))
                return 0;
        r = log_files_of(log, segment, &files);
        if (r < 0)
                return r;
        for (; end > record->offset; end = from) {
                from = end - record->offset > sizeof(data) ? end - sizeof(data) : record->offset;
                n = pread(files->data_fd, data, (size_t)(end - from), (off_t)(from - segment->begin));
                if (n < 0)
                        return -errno;
                r = line_search_block(search, data, (size_t)n, from);
                if (r != 0)
                        return r;
        }
        return 0;
}

int log_seek_lines(Log *log, LogCursor *ret_cursor, uint64_t n, unsigned sources) {
        LineSearch search = { .n = n, .sources = sources, .offset = log_begin(log) };
        int r;

        if (n == 0) {
                log_seek_end(log, ret_cursor);
                return 0;
        }
        r = log_walk_back(log, line_search_back, &search);
        if (r < 0)
                return r;
        return log_seek_offset(log, ret_cursor, search.offset);
}
