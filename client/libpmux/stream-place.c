/* SPDX-License-Identifier: MIT */

#include "client/libpmux/stream-place.h"

void stream_place_start(StreamPlace *place, uint64_t offset) {
        *place = (StreamPlace){ .offset = offset, .known = true };
}

void stream_place_resume(StreamPlace *place) {
        place->n_to_skip = place->n_had;
}

/* Whether a record without bytes was had before the connection broke. */
static bool skip(StreamPlace *place, const RecordHeader *header) {
        if (place->n_to_skip == 0)
                return false;
        if (header->offset != place->offset || header->time_usec > place->last_usec) {
                place->n_to_skip = 0; /* it is new, even if those that were had are no longer kept */
                return false;
        }
        if (header->time_usec == place->last_usec)
                place->n_to_skip--;
        return true;
}

bool stream_place_advance(StreamPlace *place, const RecordHeader *header, uint64_t value, size_t size) {
        if (header->kind == RECORD_END)
                return true;
        if (header->kind == RECORD_DATA || header->kind == RECORD_GAP) {
                place->offset = header->offset + (header->kind == RECORD_GAP ? value : size);
                place->n_had = place->n_to_skip = 0;
                return true;
        }
        if (skip(place, header))
                return false;
        if (header->offset != place->offset || header->time_usec != place->last_usec)
                place->n_had = 0;
        place->offset = header->offset;
        place->last_usec = header->time_usec;
        place->n_had++;
        return true;
}
