/* SPDX-License-Identifier: MIT */
#pragma once

/* The two files of one segment of a log: OFFSET.log holds bytes, OFFSET.idx the index; OFFSET has 20 digits.
 * The last segment has no OFFSET.log until its first byte. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SEGMENT_BYTES_MIN (64 * 1024)
#define SEGMENT_BYTES_MAX (1024 * 1024 * 1024)

/* What is kept in memory of each segment; a log has a few, so it is small. */
typedef struct Segment {
        uint64_t begin;     /* offset of its first byte; also its name */
        uint64_t time_usec; /* when it was begun; 0: not yet read from the index */
        uint32_t size;      /* of its data, once its files were looked at */
        uint32_t n_records; /* in its index; SEGMENT_UNKNOWN: its files were not looked at yet */
} Segment;

#define SEGMENT_UNKNOWN UINT32_MAX

typedef enum SegmentFile {
        SEGMENT_DATA,
        SEGMENT_INDEX,
} SegmentFile;

/** segment_open() - open one file of the segment that begins at 'begin'. Return: the descriptor, O_CLOEXEC,
 * owned by the caller; -errno. */
int segment_open(const char *path, uint64_t begin, SegmentFile file, int flags);

/** segment_unlink() - delete both files, the data first; one that is not there is fine. Return: 0 or -errno.
 */
int segment_unlink(const char *path, uint64_t begin);

/**
 * segment_scan() - find the segments in a directory
 * @path:          the directory of the log
 * @ret_segments:  owned by the caller, ascending; NULL if there are none
 *
 * An index without a data file, unless it is the last, is what a kill leaves between the two steps of
 * segment_unlink(): it is deleted. Other files are ignored. The last segment is looked at, as by
 * segment_look(); of the others only the names are known.
 *
 * Return: 0; -EUCLEAN (SYSTEM) as segment_look(); -errno.
 */
int segment_scan(const char *path, Segment **ret_segments, uint32_t *ret_n, Error *reterr_error);

/**
 * segment_look() - learn how large the files of a segment are; no index is read
 * @next:  the segment behind it, of which only the begin is used; NULL: it is the last one
 *
 * One that is not the last and has no data file any more was deleted since it was found: it is empty.
 *
 * Return: 0; -EUCLEAN (SYSTEM) when it reaches into the next one, or has bytes or is not the last and its
 * index is missing, or what has the name is no file or larger than any segment; -errno. On failure nothing
 * has changed.
 */
int segment_look(const char *path, Segment *segment, const Segment *next, Error *reterr_error);

/** segment_is_known() - whether size and n_records are those of the files. */
static inline bool segment_is_known(const Segment *segment) {
        return segment->n_records != SEGMENT_UNKNOWN;
}

/** segment_remove_all() - delete every file of a log in a directory. Return: 0 or -errno. */
int segment_remove_all(const char *path);
