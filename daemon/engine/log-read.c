/* SPDX-License-Identifier: MIT */

/* The reading side of the log. A cursor names a segment and a record in its index; it stays on the last DATA
 * record until another one comes, since that may still grow. Wherever the next thing stands above the
 * cursor's offset, the bytes between are lost to this reader, whatever the reason, and it gets a gap. */

#include <stdlib.h>
#include <string.h>

#include "daemon/engine/log-private.h"
#include "daemon/engine/log.h"

uint32_t log_find_segment(const Log *log, uint64_t begin) {
        uint32_t low = 0, high = log->n_segments, middle;

        while (high - low > 1) {
                middle = low + (high - low) / 2;
                if (log->segments[middle].begin <= begin)
                        low = middle;
                else
                        high = middle;
        }
        return low;
}

int log_read_records(Log *log, const Segment *segment, uint32_t number, IndexRecord *ret_records) {
        bool is_current = segment == log_current(log);
        const LogFiles *files;
        int r;

        assert(segment_is_known(segment));
        if (number >= segment->n_records)
                return 0;
        if (is_current && number == segment->n_records - 1) {
                ret_records[0] =
                        log->last; /* the common case of a reader that keeps up costs no system call */
                return 1;
        }
        r = log_files_of(log, segment, &files);
        if (r < 0)
                return r;
        return index_read(files->index_fd, number, ret_records,
                          MIN(segment->n_records - number, (uint32_t)LOG_READ_RECORDS));
}

/* Whether the block that was read last has a record and the one behind it, which tells where its data end, if
 * there is one. */
static bool block_has(const LogBlock *block, const Segment *segment, uint32_t number) {
        uint32_t behind = block->number + block->n;

        if (block->segment != segment->begin || number - block->number >= block->n)
                return false;
        return number + 1 < behind || behind == segment->n_records;
}

/* As log_read_records(), from the block that was read last where it has them: a reader who goes through
 * records one by one reads the index once in LOG_READ_RECORDS. */
static int log_read_ahead(Log *log, const Segment *segment, uint32_t number, IndexRecord *ret_records) {
        LogBlock *block = log->block;
        int r;

        if (block && block_has(block, segment, number)) {
                r = (int)(block->n - (number - block->number));
                memcpy(ret_records, &block->records[number - block->number],
                       (size_t)r * sizeof(*ret_records));
                return r;
        }
        r = log_read_records(log, segment, number, ret_records);
        if (r <= 1)
                return r;
        if (!block)
                block = log->block = malloc(sizeof(*block)); /* without it, it works as well */
        if (block) {
                block->segment = segment->begin;
                block->number = number;
                block->n = (uint32_t)r;
                memcpy(block->records, ret_records, (size_t)r * sizeof(*ret_records));
        }
        return r;
}

/* Behind a block of nothing but damaged records. Return: the next number to look at; -errno. */
int64_t log_skip_damaged(Log *log, const Segment *segment, uint32_t number, const IndexRecord *records,
                         int n) {
        const LogFiles *files;
        int r;

        for (int i = 0; i < n; i++)
                if (records[i].kind != INDEX_DAMAGED)
                        return number + (uint32_t)n;
        r = log_files_of(log, segment, &files);
        if (r < 0)
                return r;
        return MIN(index_skip(files->index_fd, number + (uint32_t)n - 1), segment->n_records);
}

uint64_t log_data_end(const Segment *segment, const IndexRecord *next) {
        return next ? MIN(next->offset, segment_end(segment)) : segment_end(segment);
}

/* The first sound record behind 'number'. Return: 1; 0 if there is none; -errno. */
static int log_next_sound(Log *log, const Segment *segment, uint32_t number, IndexRecord *ret_record) {
        IndexRecord records[LOG_READ_RECORDS];
        int64_t next;
        int r;

        for (;; number = (uint32_t)next) {
                r = log_read_records(log, segment, number, records);
                if (r <= 0)
                        return r;
                for (int i = 0; i < r; i++)
                        if (records[i].kind != INDEX_DAMAGED) {
                                *ret_record = records[i];
                                return 1;
                        }
                next = log_skip_damaged(log, segment, number, records, r);
                if (next < 0)
                        return (int)next;
        }
}

/* One call of log_next(): the block of records it looks at. */
typedef struct Step {
        Log *log;          /* borrowed */
        LogCursor *cursor; /* borrowed */
        Segment *segment;  /* borrowed */
        size_t max;
        unsigned sources;
        IndexRecord records[LOG_READ_RECORDS];
        int n;
        LogChunk *chunk; /* borrowed */
} Step;

/* What a step found: go on looking, or 1: a chunk, or 0: the end. */
enum {
        STEP_END,
        STEP_CHUNK,
        STEP_AGAIN
};

/* The bytes up to 'offset' are lost to this reader. 'like' tells when and in which run, if it is known. */
static int step_gap(Step *step, uint64_t offset, const IndexRecord *like) {
        LogCursor *cursor = step->cursor;

        *step->chunk = (LogChunk){
                .header = { .offset = cursor->offset,
                            .time_usec = like ? like->time_usec : step->log->time_usec,
                            .run = like ? like->run : step->log->run,
                            .kind = RECORD_GAP,
                            .source = SOURCE_NONE },
                .argument = offset - cursor->offset,
                .fd = -1,
        };
        cursor->offset = offset;
        return STEP_CHUNK;
}

/* The reader comes to a segment from below its begin. */
static int step_gap_to_segment(Step *step) {
        int r;

        r = log_read_records(step->log, step->segment, 0, step->records);
        if (r < 0)
                return r;
        return step_gap(step, step->segment->begin,
                        r > 0 && step->records[0].kind != INDEX_DAMAGED ? &step->records[0] : NULL);
}

/* Where the bytes of record i of the block end. Return: 1; -errno. */
static int step_data_end(Step *step, int i, uint64_t *ret_end) {
        IndexRecord next;
        int r = 1;

        for (int j = i + 1; j < step->n; j++)
                if (step->records[j].kind != INDEX_DAMAGED) {
                        *ret_end = log_data_end(step->segment, &step->records[j]);
                        return 1;
                }
        r = log_next_sound(step->log, step->segment, step->cursor->record + (uint32_t)(step->n - i), &next);
        if (r < 0)
                return r;
        *ret_end = log_data_end(step->segment, r > 0 ? &next : NULL);
        return 1;
}

/* Whether the cursor stands on the record that may still grow. */
static bool step_is_live(const Step *step) {
        return step->segment == log_current(step->log) &&
               step->cursor->record + 1 >= step->segment->n_records;
}

/* Make a chunk of the bytes from cursor->offset on: those of record i of the block, up to 'end', and of the
 * records behind it that go on with the same source. */
static int step_chunk(Step *step, int i, uint64_t end) {
        const IndexRecord *record = &step->records[i], *next;
        LogCursor *cursor = step->cursor;
        const LogFiles *files;
        uint64_t size = end - cursor->offset;
        int r, last = i;

        while (size < step->max && last + 2 < step->n) {
                next = &step->records[last + 1];
                if (next->kind != RECORD_DATA || next->source != record->source || next->run != record->run ||
                    next->offset != cursor->offset + size || step->records[last + 2].kind == INDEX_DAMAGED)
                        break;
                last++;
                size = log_data_end(step->segment, &step->records[last + 1]) - cursor->offset;
        }
        size = MIN(size, (uint64_t)step->max);
        r = log_files_of(step->log, step->segment, &files);
        if (r < 0)
                return r;
        *step->chunk = (LogChunk){
                .header = { .offset = cursor->offset,
                            .time_usec = record->time_usec,
                            .run = record->run,
                            .kind = RECORD_DATA,
                            .source = record->source },
                .size = (size_t)size,
                .fd = files->data_fd,
                .file_offset = cursor->offset - step->segment->begin,
        };
        cursor->offset += size;
        cursor->record += (uint32_t)(last - i);
        return STEP_CHUNK;
}

/* Look at record i of the block, on which the cursor stands. */
static int step_record(Step *step, int i) {
        const IndexRecord *record = &step->records[i];
        LogCursor *cursor = step->cursor;
        uint64_t end;
        int r;

        if (record->kind == INDEX_DAMAGED || record->kind == INDEX_HEAD || record->kind == RECORD_GAP) {
                cursor->record++; /* a gap is told by the offset of what comes behind it */
                return STEP_AGAIN;
        }
        if (record->kind != RECORD_DATA) {
                if (record->offset > cursor->offset)
                        return step_gap(step, record->offset, record);
                *step->chunk = (LogChunk){
                        .header = { .offset = record->offset,
                                    .time_usec = record->time_usec,
                                    .run = record->run,
                                    .kind = record->kind,
                                    .source = record->source },
                        .argument = record->argument,
                        .fd = -1,
                };
                cursor->record++;
                return STEP_CHUNK;
        }
        r = step_data_end(step, i, &end);
        if (r < 0)
                return r;
        if (MAX(cursor->offset, record->offset) >= end) {
                if (step_is_live(step))
                        return STEP_END;
                cursor->record++;
                return STEP_AGAIN;
        }
        if (record->offset > cursor->offset)
                return step_gap(step, record->offset, record);
        if (step->sources & 1u << record->source)
                return step_chunk(step, i, end);
        cursor->offset = end;
        return STEP_AGAIN; /* comes back with nothing left of the record */
}

/* Look at the records from the cursor on. */
static int step_records(Step *step) {
        uint32_t first = step->cursor->record;
        int64_t next;
        int r;

        step->n = log_read_ahead(step->log, step->segment, first, step->records);
        if (step->n <= 0)
                return step->n;
        next = log_skip_damaged(step->log, step->segment, first, step->records, step->n);
        if (next < 0)
                return (int)next;
        if (next > first + (uint32_t)step->n) {
                step->cursor->record = (uint32_t)next;
                return STEP_AGAIN;
        }
        do /* the last one is looked at with those behind it */
                r = step_record(step, (int)(step->cursor->record - first));
        while (r == STEP_AGAIN && step->cursor->record - first + 1 < (uint32_t)step->n);
        return r;
}

/* Find the cursor's segment; one that retention passed by goes to the begin of what is kept. */
static uint32_t step_place(Step *step) {
        LogCursor *cursor = step->cursor;
        Log *log = step->log;
        uint32_t i;

        if (!(cursor->flags & LOG_CURSOR_PLACED))
                *cursor = (LogCursor){ .offset = log_begin(log),
                                       .segment = log_begin(log),
                                       .flags = LOG_CURSOR_PLACED };
        i = log_find_segment(log, cursor->segment);
        if (log->segments[i].begin != cursor->segment) {
                cursor->segment = log->segments[i].begin;
                cursor->record = 0;
        }
        step->segment = &log->segments[i];
        return i;
}

int log_next(Log *log, LogCursor *cursor, size_t max, unsigned sources, LogChunk *ret_chunk) {
        Step step = { .log = log, .cursor = cursor, .max = max, .sources = sources, .chunk = ret_chunk };
        uint32_t i;
        int r;

        assert(max > 0);
        for (;;) {
                i = step_place(&step);
                r = log_know(log, step.segment, NULL);
                if (r < 0)
                        return r;
                if (cursor->offset < step.segment->begin)
                        return step_gap_to_segment(&step);
                r = step_records(&step);
                if (r == STEP_AGAIN)
                        continue;
                if (r != STEP_END)
                        return r;
                if (i + 1 < log->n_segments) {
                        cursor->segment = log->segments[i + 1].begin;
                        cursor->record = 0;
                        continue;
                }
                /* What is being discarded, or was cut off, is reported as far as it has come. */
                return cursor->offset < log->end ? step_gap(&step, log->end, NULL) : STEP_END;
        }
}
