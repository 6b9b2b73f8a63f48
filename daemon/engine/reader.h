/* SPDX-License-Identifier: MIT */
#pragma once

/* Somebody who waits for something in the output of a process: a search in its log that goes on when that
 * grows, with a deadline. Holds no bytes and never polls; what one turn does is bounded. */

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/list.h"
#include "daemon/engine/match.h"
#include "daemon/engine/process.h"
#include "daemon/engine/scan.h"

typedef struct Reader Reader;
typedef struct ReaderSet ReaderSet;

typedef enum ReaderEnd {
        READER_SATISFIED,
        READER_EOF,     /* the run's chosen streams are closed, or a later run has begun */
        READER_TIMEOUT, /* the deadline has passed */
        READER_GAP,     /* bytes are missing behind what was gathered */
        READER_REMOVED, /* the process was removed */
        READER_FAILED,  /* with the error: too-large, limit, no-memory, system */
} ReaderEnd;

typedef struct ReaderOps {
        /* It is over, and was stopped: reader->scan tells what was gathered. Called at the end of a turn. */
        void (*on_end)(Reader *reader, ReaderEnd end, const Error *error);
        /* Whether there is room for the answer; asked again at the end of every turn. NULL: always. */
        bool (*has_room)(Reader *reader);
} ReaderOps;

struct ReaderSet {
        struct event_base *base; /* borrowed */
        List due;                /* to be looked at */
        List parked;             /* without room for their answers */
        ScanBuffer buffer;
        size_t n; /* readers */
};

typedef struct ReaderOptions {
        LogCursor begin;
        uint64_t max;          /* bytes to gather at most; more is READER_FAILED, too-large */
        unsigned sources;      /* bits 1 << Source */
        uint32_t run;          /* not 0: end with this run */
        uint64_t timeout_usec; /* USEC_INFINITY: none */
        uint64_t quiet_usec;   /* of MATCH_QUIET */
        bool quiet_from_start; /* of MATCH_QUIET: satisfied without a byte, too */
        bool any_run;          /* the end of a run is no end */
        bool forgets;          /* see Scan */
} ReaderOptions;

/* Embedded in what waits. */
struct Reader {
        ProcessReader reader;
        List due_link;    /* in set->due or set->parked */
        ReaderSet *set;   /* borrowed */
        Process *process; /* borrowed; NULL when it was removed */
        Match *match;     /* owned */
        const ReaderOps *ops;
        Scan scan;
        struct event timer;
        uint64_t begin_usec;    /* monotonic */
        uint64_t deadline_usec; /* monotonic; USEC_INFINITY: none */
        uint64_t quiet_usec;    /* USEC_INFINITY: not waited for */
        uint64_t last_usec;     /* monotonic: when the latest byte came */
        uint64_t hold_usec;     /* monotonic: when what is held back is looked at; 0: nothing is */
        uint64_t look_usec;     /* how long it looked the last time */
        bool quiet_from_start;
};

/** reader_set_init() - an empty set. */
void reader_set_init(ReaderSet *set, struct event_base *base);
void reader_set_deinit(ReaderSet *set);
/** readers_finish_turn() - look at those that are due, as long as a turn may take; the others stay in
 * set->due.
 */
void readers_finish_turn(ReaderSet *set);
/** readers_are_due() - whether there is something to look at, now that the turn's answers have been sent. */
bool readers_are_due(const ReaderSet *set);

/**
 * reader_start() - begin to wait; looked at for the first time at the end of this turn
 * @match:  moved in, whatever comes of it
 *
 * Return: 0; -errno.
 */
int reader_start(Reader *reader, ReaderSet *set, Process *process, Match *match, const ReaderOptions *options,
                 const ReaderOps *ops, pid_t client_pid, Error *reterr_error);
/** reader_stop() - wait no more; harmless to repeat, and for one that was never started (all zero). */
void reader_stop(Reader *reader);
/** reader_move() - begin anew at another place of the log. */
void reader_move(Reader *reader, const LogCursor *begin);
/** reader_from() - the reader that a ProcessReader belongs to, if its ops are these; else NULL. */
Reader *reader_from(ProcessReader *reader, const ReaderOps *ops);
