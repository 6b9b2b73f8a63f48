/* SPDX-License-Identifier: MIT */
#pragma once

/* Where a reader is in a log, exactly: the offset after the last byte, and which of the records without bytes
 * that stand there it has had. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/protocol.h"

/* Records without bytes have no number of their own. The last one that was delivered is remembered whole;
 * when the log is read again from its offset, everything up to that one has been seen. Twins (the same kind,
 * time and argument) are told apart by counting them. */
typedef struct StreamPlace {
        uint64_t offset;   /* to go on from */
        bool known;        /* whether offset means anything yet */
        RecordHeader last; /* the last record without bytes at offset; kind 0: none */
        uint64_t last_value;
        uint64_t n_twins;   /* how many like it were delivered in a row */
        uint64_t n_to_skip; /* twins of 'last' that are still to be skipped; 0: not skipping */
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
