/* SPDX-License-Identifier: MIT */
#pragma once

/* Where a reader is in a log, exactly: the offset after the last byte, and which of the records without bytes
 * that stand there it has had. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/protocol.h"

/* Records without bytes have no number of their own, but the log has one order and its time never goes
 * backwards. So it is enough to know the time of the last one that was had at the offset, and how many were
 * had of that time: when the log is read again from the offset, those that are older, and so many of that
 * time, have been seen. */
typedef struct StreamPlace {
        uint64_t offset;    /* to go on from */
        bool known;         /* whether offset means anything yet */
        uint64_t last_usec; /* time of the last record without bytes at offset; only if n_had > 0 */
        uint64_t n_had;     /* how many of that time were delivered */
        uint64_t n_to_skip; /* how many of that time are still to be skipped; 0: not skipping */
} StreamPlace;

/** stream_place_start() - the place is known: the stream begins at this offset. */
void stream_place_start(StreamPlace *place, uint64_t offset);

/** stream_place_resume() - the log is read again from place->offset: what was had is to be skipped. */
void stream_place_resume(StreamPlace *place);

/**
 * stream_place_advance() - take note of a record that has arrived
 * @value:  of a record without bytes, or the size of a gap
 * @size:   of data
 *
 * Return: whether the record is new and to be delivered.
 */
bool stream_place_advance(StreamPlace *place, const RecordHeader *header, uint64_t value, size_t size);
