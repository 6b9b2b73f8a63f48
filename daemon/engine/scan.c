/* SPDX-License-Identifier: MIT */

#include "daemon/engine/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP_CHUNKS 1024 /* passed over or gathered in one step, at most */
#define BUFFER_KEPT (256 * 1024)

void scan_init(Scan *scan, Match *match, const LogCursor *begin, uint64_t max, unsigned sources) {
        *scan = (Scan){
                .match = match,
                .begin = *begin,
                .at = *begin,
                .wants = *begin,
                .max = max,
                .sources = (uint8_t)sources,
        };
}

void scan_buffer_deinit(ScanBuffer *buffer) {
        free(buffer->data);
        *buffer = (ScanBuffer){};
}

void scan_buffer_trim(ScanBuffer *buffer) {
        if (buffer->size > BUFFER_KEPT)
                scan_buffer_deinit(buffer);
}

static int buffer_reserve(ScanBuffer *buffer, uint64_t size, Error *reterr_error) {
        uint8_t *data;

        if (size <= buffer->size)
                return 0;
        size = MAX(size, (uint64_t)BUFFER_KEPT);
        data = realloc(buffer->data, size);
        if (!data)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold what is to be looked at");
        *buffer = (ScanBuffer){ .data = data, .size = (size_t)size };
        return 0;
}

/* Moves a cursor over n bytes of the chosen sources, which are copied unless data is NULL. */
static int scan_move(const Scan *scan, Log *log, LogCursor *cursor, uint64_t n, uint8_t *data) {
        LogChunk chunk;
        ssize_t got;
        int r;

        while (n > 0) {
                r = log_next(log, cursor, (size_t)MIN(n, (uint64_t)SIZE_MAX / 2), scan->sources, &chunk);
                if (r < 0)
                        return r;
                if (r == 0 || (chunk.header.kind == RECORD_GAP && (data || !scan->forgets)))
                        return -ENODATA;
                if (chunk.header.kind != RECORD_DATA)
                        continue;
                for (size_t i = 0; data && i < chunk.size; i += (size_t)got) {
                        got = pread(chunk.fd, data + i, chunk.size - i, (off_t)(chunk.file_offset + i));
                        if (got <= 0)
                                return got < 0 ? -errno : -EIO;
                }
                if (data)
                        data += chunk.size;
                n -= chunk.size;
        }
        return 0;
}

int scan_copy(const Scan *scan, Log *log, uint64_t n, void *ret_data, uint64_t *ret_next) {
        LogCursor cursor = scan->begin;
        int r;

        assert(n <= scan->n);
        if (log_begin(log) > scan->first && n > 0)
                return -ENODATA;
        r = scan_move(scan, log, &cursor, n, ret_data);
        if (r >= 0)
                *ret_next = cursor.offset;
        return r;
}

int scan_find_end(const Scan *scan, Log *log, uint64_t *ret_next) {
        LogCursor cursor = scan->wants;
        int r;

        assert(scan->is_done && scan->result.end >= scan->wants_at);
        r = scan_move(scan, log, &cursor, MIN(scan->result.end, scan->n) - scan->wants_at, NULL);
        if (r >= 0)
                *ret_next = cursor.offset;
        return r;
}

/* Whether retention has removed some of what is still needed. */
static bool scan_is_overtaken(const Scan *scan, const Log *log) {
        if (scan->forgets)
                return match_looks(scan->match) && scan->wants_at < scan->n &&
                       log_begin(log) > scan->wants.offset;
        return scan->n > 0 && log_begin(log) > scan->first;
}

/* Begin behind what retention has removed. */
static int scan_restart(Scan *scan, Log *log) {
        if (scan->lost_from == scan->lost_to)
                scan->lost_from = scan->first;
        scan->lost_to = log_begin(log);
        scan->n = scan->wants_at = scan->n_seen = scan->n_held = 0;
        scan->again = scan->is_begun = false;
        match_restart(scan->match);
        return log_seek_offset(log, &scan->at, log_begin(log));
}

/* Whether to go on behind it: bytes that are counted are counted on. */
static bool scan_on_gap(Scan *scan, const LogChunk *chunk) {
        if (scan->n > 0)
                return scan->forgets && !match_looks(scan->match);
        if (scan->lost_from == scan->lost_to)
                scan->lost_from = chunk->header.offset;
        scan->lost_to = chunk->header.offset + chunk->argument;
        return true;
}

/* Counts what comes next. Return: SCAN_WAITS, SCAN_BUSY, SCAN_RUN_ENDED, SCAN_GAP, SCAN_FULL; -errno. */
static int scan_gather(Scan *scan, Log *log) {
        size_t left = SCAN_STEP_BYTES;
        LogCursor cursor;
        LogChunk chunk;
        int r;

        for (unsigned i = 0; i < STEP_CHUNKS && left > 0; i++) {
                cursor = scan->at;
                r = log_next(log, &cursor, (size_t)MAX(MIN(left, scan->max - scan->n), UINT64_C(1)),
                             scan->sources, &chunk);
                if (r < 0)
                        return r;
                if (r == 0) {
                        scan->at = cursor;
                        return SCAN_WAITS;
                }
                if (chunk.header.kind == RECORD_GAP) {
                        if (!scan_on_gap(scan, &chunk))
                                return SCAN_GAP;
                        scan->at = cursor;
                        continue;
                }
                if (chunk.header.run > scan->run) {
                        if (scan->run != 0 && !scan->any_run && (scan->n > 0 || scan->only_run))
                                return SCAN_RUN_ENDED;
                        scan->run = chunk.header.run;
                }
                if (chunk.header.kind == RECORD_DATA) {
                        if (scan->n == scan->max)
                                return SCAN_FULL;
                        if (scan->n == 0) {
                                scan->begin = scan->wants = scan->at;
                                scan->first = chunk.header.offset;
                        }
                        scan->n += chunk.size;
                        left -= MIN(left, chunk.size);
                }
                scan->at = cursor;
        }
        return SCAN_BUSY;
}

/* Shows the matcher what has been gathered and it wants to see. Return: a MatchState; -errno. */
static int scan_show(Scan *scan, Log *log, ScanBuffer *buffer, uint64_t usec, Error *reterr_error) {
        uint64_t size = scan->n - scan->wants_at;
        LogCursor behind = scan->wants;
        int r, state;

        if (!match_looks(scan->match)) {
                state = match_feed(scan->match, NULL, (size_t)size, usec, &scan->result, reterr_error);
                if (state == MATCH_MORE) {
                        scan->wants = scan->at;
                        scan->wants_at = scan->n;
                }
                return state;
        }
        r = buffer_reserve(buffer, size, reterr_error);
        if (r >= 0) {
                r = scan_move(scan, log, &behind, size, buffer->data);
                if (r < 0)
                        (void)log_explain(log, r, "cannot read the log", reterr_error);
        }
        if (r < 0)
                return r;
        state = match_feed(scan->match, buffer->data, (size_t)size, usec, &scan->result, reterr_error);
        if (state != MATCH_MORE)
                return state;
        if (match_wants(scan->match) == scan->n)
                scan->wants = behind;
        else {
                r = scan_move(scan, log, &scan->wants, match_wants(scan->match) - scan->wants_at, NULL);
                if (r < 0)
                        return log_explain(log, r, "cannot find the place in the log", reterr_error);
        }
        scan->wants_at = match_wants(scan->match);
        return state;
}

void scan_release(Scan *scan) {
        scan->n_held = 0;
}

/* The matcher has seen all there is. */
static void scan_hold(Scan *scan) {
        uint64_t again = scan->n - scan->wants_at;

        scan->n_seen = scan->n;
        scan->n_held = again > SCAN_HOLD_BYTES ? scan->n + again / 4 : 0;
}

int scan_step(Scan *scan, Log *log, ScanBuffer *buffer, uint64_t usec, Error *reterr_error) {
        int state = SCAN_BUSY, r = 0;

        if (scan_is_overtaken(scan, log))
                r = scan_restart(scan, log);
        if (r >= 0 && !scan->again)
                state = r = scan_gather(scan, log);
        if (r < 0 && scan->n > scan->n_seen) { /* what came before it may be all that is asked for */
                scan_release(scan);
                state = r = SCAN_BUSY;
        }
        if (r < 0)
                return log_explain(log, r, "cannot read the log", reterr_error);
        if (scan->n == scan->n_seen && scan->is_begun && !scan->again)
                return state; /* nothing new */
        if (scan->n < scan->n_held && (state == SCAN_WAITS || state == SCAN_BUSY) && !scan->again)
                return state == SCAN_WAITS ? SCAN_HOLDS : state;
        scan->is_begun = true;
        scan->n_shown += scan->n - scan->wants_at;
        r = scan_show(scan, log, buffer, usec, reterr_error);
        scan->again = r == MATCH_AGAIN;
        if (r < 0)
                return r;
        if (r == MATCH_MORE)
                scan_hold(scan);
        if (r == MATCH_DONE) {
                scan->is_done = true;
                return SCAN_DONE;
        }
        return scan->again ? SCAN_BUSY : state;
}
