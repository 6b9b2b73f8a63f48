/* SPDX-License-Identifier: MIT */
#pragma once

/* The index of a stdin log: one record of 64 bytes for each thing that was accepted. Knows no bytes of input.
 *
 *      at  size  field
 *       0     8  offset      stdin offset of the first byte
 *       8     8  length      bytes; offset + length is what is accepted with this record, and never falls
 *      16     8  time        real time, microseconds
 *      24     8  position    the writer's own count before these bytes
 *      32    12  writer      its id; zero: nobody in particular
 *      44     4  digest      of what it wrote, if that is all it writes
 *      48     4  run
 *      52     1  kind        StdinKind
 *      53     1  flags       STDIN_FLAG_*
 *      54     2  check       over the other 62 bytes
 *      56     8  base        nothing below is delivered any more: the end of the latest RUN or CANCEL record
 *
 * All little-endian. A record that is whole counts, and nothing else does: what a crash of the machine left
 * torn at the end is overwritten. The last record alone tells everything that a new engine must know. */

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "daemon/engine/stdin-log.h"

#define STDIN_RECORD_SIZE 64
#define STDIN_INDEX_KEEP 4096       /* so many of the latest records outlast a rotation */
#define STDIN_INDEX_MAX 8192        /* with more, the index is rotated */
#define STDIN_FLAG_EOF (1u << 0)    /* the end of file, after these bytes */
#define STDIN_FLAG_NOTED (1u << 2)  /* the bytes have been copied to where they are kept */
#define STDIN_FLAG_CLOSED (1u << 1) /* the run's end of file was accepted with this record or before */

typedef enum StdinKind {
        STDIN_KIND_NONE,
        STDIN_KIND_BYTES,
        STDIN_KIND_EOF,    /* without bytes */
        STDIN_KIND_CANCEL, /* from offset on, length bytes are dropped */
        STDIN_KIND_RUN,    /* the same, as a new run begins */
        STDIN_KIND_N_,
} StdinKind;

typedef struct StdinRecord {
        uint64_t offset;
        uint64_t length;
        uint64_t time_usec;
        uint64_t position;
        StdinWriter writer;
        uint32_t run;
        uint8_t kind;  /* StdinKind */
        uint8_t flags; /* STDIN_FLAG_* */
        uint64_t base;
} StdinRecord;

/* Embedded; zero is not initialised: stdin_index_load() and stdin_index_init() do that. */
typedef struct StdinIndex {
        int fd; /* owned, -1 while idle */
        uint32_t n_records;
        uint32_t n_rotate;   /* rotate when there are more */
        uint32_t n_allotted; /* records for which the file has blocks, as far as known */
} StdinIndex;

void stdin_record_encode(uint8_t *ret_bytes, const StdinRecord *record);
/** stdin_record_decode() - Return: whether the 64 bytes are a whole record. */
bool stdin_record_decode(StdinRecord *ret_record, const uint8_t *bytes);

/** stdin_index_init() - the index of a directory that has none. */
void stdin_index_init(StdinIndex *index);
/**
 * stdin_index_load() - find the last record; holds no descriptor afterwards
 * @dir:  directory of the process
 *
 * Return: 1; 0: there is none (no file, or nothing whole in it); -EUCLEAN when many records are there and
 * none is whole; -errno.
 */
int stdin_index_load(StdinIndex *index, const char *dir, StdinRecord *ret_last, Error *reterr_error);
/** stdin_index_make() - make an empty file, which is the same as none, so that the first record need not. */
void stdin_index_make(const char *dir);
void stdin_index_deinit(StdinIndex *index);
void stdin_index_idle(StdinIndex *index);

/**
 * stdin_index_append() - write a record behind the last one, making the file if need be
 * @spare:  leave room for one more, so that a full disk refuses input but not the record of a cancellation or
 *          of a new run
 *
 * Return: 0: it counts; -ENOSPC or -errno: it does not.
 */
int stdin_index_append(StdinIndex *index, const char *dir, const StdinRecord *record, bool spare,
                       Error *reterr_error);
/** stdin_index_replace() - overwrite the last record. */
int stdin_index_replace(StdinIndex *index, const char *dir, const StdinRecord *record, Error *reterr_error);

/**
 * stdin_index_read() - read records in bulk
 * @ret_records:  room for n; those that are not whole have kind STDIN_KIND_NONE
 */
int stdin_index_read(StdinIndex *index, const char *dir, uint32_t first, uint32_t n, StdinRecord *ret_records,
                     Error *reterr_error);

/** stdin_index_find() - the number of the first record that ends behind 'offset', n_records if there is none.
 */
int stdin_index_find(StdinIndex *index, const char *dir, uint64_t offset, uint32_t *ret_number,
                     Error *reterr_error);

/**
 * stdin_index_writer() - the latest record of a writer that begins below 'count' in the writer's own count
 * Return: 1; 0: none is kept; -errno. With count UINT64_MAX: its latest.
 */
int stdin_index_writer(StdinIndex *index, const char *dir, const StdinWriter *writer, uint64_t count,
                       StdinRecord *ret_record, Error *reterr_error);

/**
 * stdin_index_rotate() - write a new index without the oldest records
 * @behind:  records that end behind this offset stay in any case
 *
 * Neighbours that one writer could have sent as one become one. Safe against a kill: the new file replaces
 * the old one by rename(2). On failure the old one stays.
 */
int stdin_index_rotate(StdinIndex *index, const char *dir, uint64_t behind, Error *reterr_error);
