/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of the log share: the object, its open files, its segments. For log*.c alone. */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine/index.h"
#include "daemon/engine/log.h"
#include "daemon/engine/segment.h"

#define LOG_READ_RECORDS 32 /* index records read at once on the way forward */

/* Room for this many index records is kept ahead of the last one. Data may not use it, records without bytes
 * may: a full disk must not refuse the record of an exit. */
#define LOG_RESERVE_RECORDS 64
#define LOG_RESERVE_STEP_MAX 2048 /* a long index reserves more at once, but not more than this */

/* The files of one segment. */
typedef struct LogFiles {
        uint64_t begin; /* of the segment */
        int data_fd;    /* owned; -1: closed, or there is none yet */
        int index_fd;   /* owned; -1: closed */
} LogFiles;

/* Records that were read ahead. */
typedef struct LogBlock {
        uint64_t segment; /* begin of the segment they are of */
        uint32_t number;  /* of the first one */
        uint32_t n;
        IndexRecord records[LOG_READ_RECORDS];
} LogBlock;

/* A log has a few hundred bytes and 24 for each segment, since there are many of them. The last segment is
 * the one that is written to ("the current one"). The sizes of the others are learned when somebody comes to
 * them (log_know()), or when the log is written to, since retention goes by all of them. Where log_end() is
 * above the current segment's last byte, the bytes between are lost, and the next data goes into a new
 * segment, behind a GAP record. */
struct Log {
        char *path;        /* owned */
        Segment *segments; /* owned; ascending, at least one */
        uint32_t n_segments;
        uint32_t n_segments_allocated;
        LogOptions options; /* segment_bytes is never 0 here */
        uint64_t floor;
        uint64_t end;        /* offset that the next byte will have */
        uint64_t lost_bytes; /* in holes between segments */
        uint64_t kept_bytes; /* of the segments that are known */
        uint64_t kept_records;
        uint64_t unreadable; /* begin of the segment that could not be looked at last */
        uint32_t n_unknown;  /* segments whose files were not looked at yet */
        uint64_t time_usec;  /* of the latest record: time never goes back */
        IndexRecord last;    /* the current segment's last record; a HEAD when that is all it has */
        IndexRecord pending; /* a DATA record written behind it, whose bytes have not come yet */
        bool has_pending; /* slot n_records of the index is in use, by 'pending' or (kind DAMAGED) something
                             else */
        bool has_excess;  /* the index is longer than that, after a power loss */
        bool is_ready;    /* the current files are fit to be written to */
        bool is_discarding;
        uint32_t run;             /* the latest one seen */
        uint32_t n_reserved;      /* records for which the current index has room on disk */
        uint64_t discarded_bytes; /* size of the memfd while discarding */
        uint32_t n_punched;       /* records of the current index whose room was given back */
        LogBlock *block;          /* owned; NULL while nobody reads */
        LogFiles current;
        LogFiles old; /* the older segment that was read last */
};

static inline Segment *log_current(const Log *log) {
        return &log->segments[log->n_segments - 1];
}

/* The offset behind a segment's last byte. */
static inline uint64_t segment_end(const Segment *segment) {
        assert(segment_is_known(segment));
        return segment->begin + segment->size;
}

/* How many records an index holds before a new segment is begun. */
static inline uint32_t log_records_max(const Log *log) {
        return (uint32_t)(LOG_INDEX_FACTOR * MAX(log->options.segment_bytes, SEGMENT_BYTES_MIN) /
                          INDEX_RECORD_SIZE);
}

/* How many records of a segment take room on disk, as far as retention is concerned. */
static inline uint32_t log_kept_records(const Log *log, const Segment *segment) {
        return MIN(segment->n_records, log_records_max(log));
}

/** log_look() - learn the sizes of a segment that is not known. Return: as log_know(). */
int log_look(Log *log, Segment *segment, Error *reterr_error);

/** log_know() - have the sizes of a segment: whoever comes to one asks this first. Return: 0; -EUCLEAN as
 * segment_look(); -errno. */
static inline int log_know(Log *log, Segment *segment, Error *reterr_error) {
        return segment_is_known(segment) ? 0 : log_look(log, segment, reterr_error);
}

/** log_now() - the time for the next record: the clock's, unless that went back. */
uint64_t log_now(Log *log);

/**
 * log_files_of() - the open files of a segment, for reading
 * @ret_files:  borrowed; good until the log is next used
 */
int log_files_of(Log *log, const Segment *segment, const LogFiles **ret_files);

/** log_make_data_file() - have a data file for the first byte of the current segment, which is open. Return:
 * 0; -ENOSPC; -errno. */
int log_make_data_file(Log *log);

/** log_files_close() - close both files, if they are open. */
void log_files_close(LogFiles *files);

/** log_make_ready() - have the current segment open and its index in a state to be continued. */
int log_make_ready(Log *log, Error *reterr_error);

/** log_commit() - account for records that were written to the current segment's index. */
void log_commit(Log *log, const IndexRecord *record);

/** log_reserve() - keep room on disk ahead of the last record. Return: 0 or -errno; the log is usable in
 * either case. */
int log_reserve(Log *log);

/**
 * log_rotate() - begin a new segment at log_end(), with a GAP record if bytes were lost before it
 * @data_reserve:  so many bytes of the disk must be free for data, too
 *
 * Return: 0; -ENOSPC; -errno. On failure the log is as it was.
 */
int log_rotate(Log *log, uint32_t data_reserve, Error *reterr_error);

/** log_drop_oldest() - give up the oldest segment, unless the floor protects it or it is the current one.
 * Return: 1 if it did; 0; -errno. */
int log_drop_oldest(Log *log, Error *reterr_error);

/** log_retain() - give up what retention does not keep. */
int log_retain(Log *log, Error *reterr_error);

/** log_begin_segments() - make the first segment of a new log. */
int log_begin_segments(Log *log, Error *reterr_error);

#define LOG_CURSOR_PLACED 1u /* in LogCursor.flags; without it the cursor is at the begin of the log */

/** log_find_segment() - the number of the segment that holds a begin, or the last one that begins below it; 0
 * if none does. */
uint32_t log_find_segment(const Log *log, uint64_t begin);

/**
 * log_read_records() - read records of a segment's index
 * @ret_records:  room for LOG_READ_RECORDS
 *
 * Return: how many, 0 behind the last one (or where the file was cut by somebody else); -errno.
 */
int log_read_records(Log *log, const Segment *segment, uint32_t number, IndexRecord *ret_records);

/**
 * log_skip_damaged() - where to go on behind a block of n records that begins at 'number'
 * If all of it is damaged, as where room was given back, what follows may be far away.
 *
 * Return: the next number to look at; -errno.
 */
int64_t log_skip_damaged(Log *log, const Segment *segment, uint32_t number, const IndexRecord *records,
                         int n);

/** log_data_end() - where the bytes of a DATA record end, given the record behind it (NULL: it is the last).
 */
uint64_t log_data_end(const Segment *segment, const IndexRecord *next);
