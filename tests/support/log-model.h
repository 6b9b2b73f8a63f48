/* SPDX-License-Identifier: MIT */
#pragma once

/* The log again, as simple as can be, in memory: a list of things that happened. Random operations are
 * applied to both, and whatever a reader gets from the log must be what the list says. */

#include "daemon/engine/log-private.h"
#include "tests/support/log-test.h"

#define MODEL_BYTES_MAX (4 << 20)
#define MODEL_ITEMS_MAX 100000

/* What one operation left in one segment. Items of segments that were dropped are skipped by 'segment'. */
typedef struct Item {
        RecordHeader header;
        uint64_t argument;
        uint64_t size;
        uint64_t segment;
} Item;

typedef struct Model {
        uint8_t *bytes; /* owned; by offset */
        Item *items;    /* owned */
        size_t n_items;
        uint64_t end;
        uint32_t run;
        bool is_discarding;
        int discard_fd; /* owned; -1 */
        int pipe[2];    /* owned */
        uint64_t retention_bytes;
        uint64_t segment_bytes;
        unsigned seed;
} Model;

typedef struct ModelCursor {
        LogCursor real;
        size_t item;
        uint64_t offset;
} ModelCursor;

static Model model;

static inline unsigned model_random(unsigned n) {
        return (unsigned)rand_r(&model.seed) % n;
}

static inline void model_init(unsigned seed) {
        model = (Model){ .seed = seed, .run = 1, .discard_fd = -1 };
        model.bytes = calloc(1, MODEL_BYTES_MAX);
        model.items = calloc(MODEL_ITEMS_MAX, sizeof(*model.items));
        ck_assert(model.bytes && model.items);
        ck_assert_int_eq(pipe2(model.pipe, O_CLOEXEC | O_NONBLOCK), 0);
        model.retention_bytes = 1 + model_random(model_random(4) == 0 ? 300 : 20000);
        model.segment_bytes = 50 + model_random(3000);
        log_test_open(model.retention_bytes, model.segment_bytes);
}

static inline void model_deinit(void) {
        free(model.bytes);
        free(model.items);
        close(model.pipe[0]);
        close(model.pipe[1]);
        if (model.discard_fd >= 0)
                close(model.discard_fd);
        test_log = log_free(test_log);
}

static inline bool item_is_kept(const Item *item) {
        return item->segment >= log_begin(test_log);
}

static inline Item *model_add(RecordKind kind, Source source, uint64_t offset) {
        Item *item = &model.items[model.n_items++];

        ck_assert_uint_lt(model.n_items, MODEL_ITEMS_MAX);
        *item = (Item){ .header = { .offset = offset,
                                    .time_usec = now_usec,
                                    .run = model.run,
                                    .kind = kind,
                                    .source = source },
                        .segment = log_current(test_log)->begin };
        return item;
}

/* Note bytes that the log has taken, one item for each segment they went to. */
static inline void model_add_data(Source source, uint64_t n) {
        uint64_t end = model.end + n, piece = 0;
        Item *item;

        while (model.end < end) {
                item = model_add(RECORD_DATA, source, model.end);
                item->segment = log_begin(test_log) - 1; /* if none is found below: it came and went */
                piece = log_begin(test_log) - model.end;
                for (uint32_t i = 0; i < test_log->n_segments; i++) {
                        Segment *segment = &test_log->segments[i];

                        if (segment->begin > model.end)
                                break;
                        item->segment = segment->begin;
                        piece = segment_end(segment) - model.end;
                }
                item->size = MIN(piece, end - model.end);
                model.end += item->size;
        }
}

static inline void model_write(void) {
        Source source = SOURCE_STDOUT + model_random(2);
        size_t size = 1 + model_random(model_random(4) == 0 ? 5000 : 30), n = 0;
        int r;

        ck_assert_uint_lt(model.end + size, MODEL_BYTES_MAX);
        for (size_t i = 0; i < size; i++)
                model.bytes[model.end + i] = model_random(12) == 0 ? '\n' : (uint8_t)('a' + model_random(26));
        if (model.is_discarding || model_random(2) == 0) {
                ck_assert_int_eq(write(model.pipe[1], model.bytes + model.end, size), (int)size);
                do {
                        if (model.is_discarding) {
                                r = log_discard(test_log, model.discard_fd, model.pipe[0], 1 << 20, &n, NULL);
                                ck_assert_int_eq(r, 0);
                                model.end += n;
                        } else {
                                r = log_splice(test_log, source, model.run, model.pipe[0],
                                               1 + model_random(6000), &n, NULL);
                                ck_assert_int_eq(r, 0);
                                model_add_data(source, n);
                        }
                        ck_assert_uint_gt(n, 0);
                        size -= n;
                } while (size > 0);
                if (model_random(2) == 0) {
                        r = model.is_discarding
                                    ? log_discard(test_log, model.discard_fd, model.pipe[0], 9, &n, NULL)
                                    : log_splice(test_log, SOURCE_STDOUT + model_random(2), model.run,
                                                 model.pipe[0], 9, &n, NULL);
                        ck_assert_int_eq(r, -EAGAIN);
                }
        } else {
                ck_assert_int_eq(log_append(test_log, source, model.run, model.bytes + model.end, size, NULL),
                                 0);
                model_add_data(source, size);
        }
}

static inline void model_record(void) {
        static const RecordKind kinds[] = { RECORD_START, RECORD_INPUT, RECORD_SIGNAL, RECORD_EXIT,
                                            RECORD_EMPTY };
        RecordKind kind = kinds[model_random(ARRAY_SIZE(kinds))];
        uint64_t argument = model_random(1000);

        if (kind == RECORD_START)
                model.run++;
        ck_assert_int_eq(log_record(test_log, kind, SOURCE_NONE, model.run, argument, NULL), 0);
        model_add(kind, SOURCE_NONE, model.end)->argument = argument;
}

static inline void model_toggle_discard(void) {
        int fd;

        if (!model.is_discarding) {
                ck_assert_int_eq(log_discard_begin(test_log, model.run, &fd, NULL), 0);
                model.discard_fd = fd;
        } else {
                ck_assert_int_eq(log_discard_end(test_log, model.discard_fd, NULL), 0);
                model.discard_fd = (close(model.discard_fd), -1);
        }
        model.is_discarding = !model.is_discarding;
}

/* One random operation on both. */
static inline void model_step(void) {
        switch (model_random(40)) {
        case 0 ... 19:
                model_write();
                break;
        case 20 ... 29:
                model_record();
                break;
        case 30 ... 34:
                now_usec += 1000 * (1 + model_random(50)); /* never within LOG_RECORD_USEC: times are exact */
                break;
        case 35:
                log_idle(test_log);
                break;
        case 36:
                log_test_open(model.retention_bytes, model.segment_bytes);
                if (model.is_discarding)
                        ck_assert_int_eq(log_discard_resume(test_log, model.run, model.discard_fd, NULL), 0);
                break;
        case 37 ... 38:
                model_toggle_discard();
                break;
        case 39:
                now_usec -= 1000 * MIN(model_random(3), now_usec / 1000 - 1); /* the clock goes back */
                now_usec = MAX(now_usec, test_log->time_usec);
                break;
        }
        ck_assert_uint_eq(log_end(test_log), model.end);
}

/* ---- what a reader must see ---- */

/* Go over what is not kept any more and what the reader has had or did not choose. Return: the next item,
 * NULL at the end; the reader may have to hear of a gap before it. */
static inline const Item *model_cursor_item(ModelCursor *cursor, unsigned sources) {
        const Item *item;

        for (; cursor->item < model.n_items; cursor->item++) {
                item = &model.items[cursor->item];
                if (!item_is_kept(item))
                        continue;
                if (item->header.kind != RECORD_DATA || item->header.offset > cursor->offset)
                        return item;
                if (item->header.offset + item->size <= cursor->offset)
                        continue;
                if (sources & 1u << item->header.source)
                        return item;
                cursor->offset = item->header.offset + item->size;
        }
        return NULL;
}

static inline void model_check_data(ModelCursor *cursor, const LogChunk *chunk) {
        static uint8_t data[65536];
        const Item *item = &model.items[cursor->item];

        ck_assert_uint_eq(chunk->header.offset, cursor->offset);
        ck_assert_uint_eq(chunk->header.time_usec, item->header.time_usec);
        ck_assert_int_eq(pread(chunk->fd, data, chunk->size, (off_t)chunk->file_offset), (int)chunk->size);
        ck_assert_mem_eq(data, model.bytes + cursor->offset, chunk->size);
        /* It may cover several items, but of one source and run, in one file. */
        for (uint64_t at = cursor->offset; at < chunk->header.offset + chunk->size; item++) {
                ck_assert_uint_eq(item->header.kind, RECORD_DATA);
                ck_assert_uint_eq(item->header.source, chunk->header.source);
                ck_assert_uint_eq(item->header.run, chunk->header.run);
                ck_assert_uint_eq(item->segment, model.items[cursor->item].segment);
                ck_assert(item->header.offset <= at && at < item->header.offset + item->size);
                at = item->header.offset + item->size;
        }
        cursor->offset += chunk->size;
}

/* One step of a reader. Return: whether it got something. */
static inline bool model_next(ModelCursor *cursor, size_t max, unsigned sources) {
        const Item *item;
        LogChunk chunk;
        int r;

        r = log_next(test_log, &cursor->real, max, sources, &chunk);
        item = model_cursor_item(cursor, sources);
        if (r == 0) {
                ck_assert_ptr_null(item);
                ck_assert_uint_eq(cursor->real.offset, model.end);
                ck_assert_uint_eq(cursor->offset, model.end);
                return false;
        }
        ck_assert_int_eq(r, 1);
        if (chunk.header.kind == RECORD_GAP) {
                ck_assert_uint_eq(chunk.header.offset, cursor->offset);
                ck_assert_uint_gt(chunk.argument, 0);
                cursor->offset += chunk.argument;
                ck_assert_uint_le(cursor->offset, item ? item->header.offset : model.end);
        } else {
                ck_assert_ptr_nonnull(item);
                ck_assert_uint_eq(chunk.header.kind, item->header.kind);
                ck_assert_uint_eq(chunk.header.source, item->header.source);
                ck_assert_uint_eq(chunk.header.run, item->header.run);
                if (item->header.kind == RECORD_DATA)
                        model_check_data(cursor, &chunk);
                else {
                        ck_assert_uint_eq(chunk.header.offset, item->header.offset);
                        ck_assert_uint_eq(chunk.header.time_usec, item->header.time_usec);
                        ck_assert_uint_eq(chunk.argument, item->argument);
                        ck_assert_uint_eq(cursor->offset, item->header.offset);
                        cursor->item++;
                }
        }
        ck_assert_uint_eq(cursor->real.offset, cursor->offset);
        return true;
}
