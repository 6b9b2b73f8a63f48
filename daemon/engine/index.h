/* SPDX-License-Identifier: MIT */
#pragma once

/* The index of one segment of a log: a file of fixed records of 32 bytes, in the order in which things
 * happened. */

#include <stddef.h>
#include <stdint.h>

#include "common/macro.h"

#define INDEX_RECORD_SIZE 32
#define INDEX_BLOCK_BYTES 4096 /* of the file; room is taken and given back in whole ones */
#define INDEX_BLOCK_RECORDS 64 /* most records in one index_read() */

/* Kinds beyond those of the protocol. Every segment's record 0 is a HEAD: when the segment was begun
 * (time_usec), how many bytes of the log were lost before it (argument), the latest run (run). DAMAGED is
 * never written: it is what a record reads as whose check does not fit. */
#define INDEX_HEAD 0
#define INDEX_DAMAGED 255

/* On disk, little-endian: offset, time_usec, argument (8 bytes each), run (4), kind, source (1 each), and a
 * check of 2 bytes over the rest. */
typedef struct IndexRecord {
        uint64_t offset;
        uint64_t time_usec;
        uint64_t argument;
        uint32_t run;
        uint8_t kind;   /* RecordKind, INDEX_HEAD or INDEX_DAMAGED */
        uint8_t source; /* Source */
} IndexRecord;

typedef enum IndexKey {
        INDEX_BY_OFFSET,
        INDEX_BY_TIME,
} IndexKey;

/** index_record_encode() - lay a record out in INDEX_RECORD_SIZE bytes, with its check. */
void index_record_encode(uint8_t *ret_bytes, const IndexRecord *record);

/** index_record_decode() - read a record; one whose check does not fit becomes all zero and INDEX_DAMAGED. */
void index_record_decode(IndexRecord *ret_record, const uint8_t *bytes);

/**
 * index_write() - write records in one write(2)
 * @number:  of the first one, counted from 0
 * @n:       1 to INDEX_BLOCK_RECORDS
 *
 * Return: 0; -ENOSPC (also when a disk quota is the reason); -errno.
 */
int index_write(int fd, uint32_t number, const IndexRecord *records, size_t n);

/**
 * index_read() - read records, damaged ones included
 * @n:  at most so many, 1 to INDEX_BLOCK_RECORDS
 *
 * Return: how many were read, fewer than n only where the file ends; -errno.
 */
int index_read(int fd, uint32_t number, IndexRecord *ret_records, size_t n);

/**
 * index_find() - the first record whose key is at least 'value', by bisection
 * @first, @end:  the range of numbers to look in; within it keys never decrease
 * @ret_number:   'end' if there is none; may name a damaged record in front of the one that is meant
 *
 * Return: 0 or -errno.
 */
int index_find(int fd, uint32_t first, uint32_t end, IndexKey key, uint64_t value, uint32_t *ret_number);

/** index_skip() - the next number behind a damaged record that can be sound: holes in the file are passed
 * over at once. UINT32_MAX if there is none. */
uint32_t index_skip(int fd, uint32_t number);

/**
 * index_reserve() - have room on disk for n records from a number on, without making the file longer
 * Return: 0; -ENOSPC; -errno. Where the file system cannot reserve, nothing is promised and 0 is returned.
 */
int index_reserve(int fd, uint32_t from, uint32_t n);

/** index_punch() - give back the room of the records below n, but for the first block's; they read as
 * damaged. */
void index_punch(int fd, uint32_t n);
