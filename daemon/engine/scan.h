/* SPDX-License-Identifier: MIT */
#pragma once

/* A search that goes through a log as that grows: a few places in the log and a matcher, no bytes. What it
 * gathers are the bytes of the chosen sources of one run, from where it began. Knows no process and no clock
 * but its matcher's. */

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "daemon/engine/log.h"
#include "daemon/engine/match.h"

typedef enum ScanState {
        SCAN_WAITS,     /* it is at the end of the log: go on when that has grown */
        SCAN_BUSY,      /* there is more to look at: go on at once */
        SCAN_DONE,      /* satisfied: scan->result */
        SCAN_RUN_ENDED, /* a later run begins behind what was gathered */
        SCAN_GAP,       /* bytes are missing behind what was gathered */
        SCAN_FULL,      /* more than 'max' would have to be gathered */
        SCAN_HOLDS, /* it is at the end of the log, and has not looked at what came last: scan_release() */
} ScanState;

/* Embedded; the fields are for reading. */
typedef struct Scan {
        Match *match;    /* borrowed */
        LogCursor begin; /* at the first byte gathered */
        LogCursor at;    /* behind the last one */
        LogCursor wants; /* at the byte with the number wants_at, the next that the matcher asks for */
        uint64_t wants_at;
        uint64_t n;         /* bytes gathered */
        uint64_t max;       /* of them */
        uint64_t n_seen;    /* of them, that the matcher has seen */
        uint64_t n_held;    /* so many are waited for before it sees more */
        uint64_t n_shown;   /* to the matcher, each time that it saw one */
        uint64_t first;     /* offset of the first one */
        uint64_t lost_from; /* bytes lost before it; equal to lost_to: none */
        uint64_t lost_to;
        uint32_t run;    /* of what was gathered or passed over last; 0: nothing yet */
        uint8_t sources; /* bits 1 << Source */
        bool only_run;   /* end with this run, whether or not something was gathered */
        bool any_run;    /* the end of a run is nothing to stop at */
        bool forgets;    /* what was gathered is not asked for, only where it ended: it may go */
        bool is_begun;   /* the matcher has been asked once */
        bool is_done;    /* 'result' is set */
        bool again;      /* the matcher's time was up: it has to see the same again */
        MatchResult result;
} Scan;

/* A block that all scans share, since each needs it only while it looks; zero-initialised. */
typedef struct ScanBuffer {
        uint8_t *data; /* owned */
        size_t size;
} ScanBuffer;

#define SCAN_STEP_BYTES (128 * 1024) /* gathered in one step, at most */
#define SCAN_HOLD_BYTES 4096         /* of a match in part that is seen again whenever something comes */

/** scan_init() - begin at a place of a log. @match: as new, or restarted. */
void scan_init(Scan *scan, Match *match, const LogCursor *begin, uint64_t max, unsigned sources);

/**
 * scan_step() - look at what comes next, a bounded piece of it
 * @usec:  how long a pattern may take
 *
 * Where retention removed what had been gathered, it begins anew behind that, and counts it as lost; with
 * 'forgets' only where the matcher still wanted it.
 *
 * What a pattern matches in part it has to see again with what comes behind it. So that this is no more work
 * than a few times what has come, however small the pieces, a long one is seen again when it has grown by a
 * quarter, or after scan_release(), for which the caller has a clock.
 *
 * Where the log cannot be read, this is told by the step after the one that has seen all in front of it.
 *
 * Return: a ScanState; -EDQUOT (LIMIT): the pattern takes too many steps; -errno.
 */
int scan_step(Scan *scan, Log *log, ScanBuffer *buffer, uint64_t usec, Error *reterr_error);

/** scan_release() - hold nothing back in the next step. */
void scan_release(Scan *scan);

/**
 * scan_copy() - the first bytes of what was gathered
 * @n:         at most scan->n
 * @ret_data:  room for n bytes; NULL: only find the place
 * @ret_next:  the offset behind them
 *
 * Return: 0; -ENODATA: they are no longer kept; -errno.
 */
int scan_copy(const Scan *scan, Log *log, uint64_t n, void *ret_data, uint64_t *ret_next);

/**
 * scan_find_end() - the offset behind the match, of a scan that is done
 *
 * Unlike scan_copy() it looks at the end of what was gathered only, however much that was.
 *
 * Return: 0; -errno.
 */
int scan_find_end(const Scan *scan, Log *log, uint64_t *ret_next);

/** scan_buffer_trim() - give back what an unusually long match took. */
void scan_buffer_trim(ScanBuffer *buffer);
void scan_buffer_deinit(ScanBuffer *buffer);
