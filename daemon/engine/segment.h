/* SPDX-License-Identifier: MIT */
#pragma once

/* The two files of one segment of a log: OFFSET.log holds bytes, OFFSET.idx the index; OFFSET has 20 digits.
 * The last segment has no OFFSET.log until its first byte. */

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SEGMENT_BYTES_MIN (64 * 1024)
#define SEGMENT_BYTES_MAX (1024 * 1024 * 1024)

/* What is kept in memory of each segment; a log has a few, so it is small. */
typedef struct Segment {
        uint64_t begin;     /* offset of its first byte; also its name */
        uint64_t time_usec; /* when it was begun; 0: not yet read from the index */
        uint32_t size;      /* of its data */
        uint32_t n_records; /* in its index */
} Segment;

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
 * segment_unlink(): it is deleted. Other files are ignored. Sizes are those of the files; no index is read.
 *
 * Return: 0; -EUCLEAN (SYSTEM) when segments overlap, or one that is not the last has no index, or a file is
 * larger than any segment; -errno.
 */
int segment_scan(const char *path, Segment **ret_segments, uint32_t *ret_n, Error *reterr_error);

/** segment_remove_all() - delete every file of a log in a directory. Return: 0 or -errno. */
int segment_remove_all(const char *path);
