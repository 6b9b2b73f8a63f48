/* SPDX-License-Identifier: MIT */

#include "client/libpmux/stream-place.h"

void stream_place_start(StreamPlace *place, uint64_t offset) {
        *place = (StreamPlace){ .offset = offset, .known = true };
}

void stream_place_resume(StreamPlace *place) {
        place->n_to_skip = place->last.kind ? place->n_twins : 0;
}

static bool same_record(const StreamPlace *place, const RecordHeader *header, uint64_t value) {
        return place->last.kind == header->kind && place->last.source == header->source &&
               place->last.run == header->run && place->last.time_usec == header->time_usec &&
               place->last_value == value;
}

/* Whether a record was had before the connection broke. Within a log time never goes backwards, so one that
 * is later than the last is new, even if that one is no longer kept. */
static bool skip(StreamPlace *place, const RecordHeader *header, uint64_t value) {
        if (place->n_to_skip == 0)
                return false;
        if (header->offset != place->offset || header->time_usec > place->last.time_usec) {
                place->n_to_skip = 0;
                return false;
        }
        if (same_record(place, header, value))
                place->n_to_skip--;
        return true;
}

bool stream_place_advance(StreamPlace *place, const RecordHeader *header, uint64_t value, size_t size) {
        bool has_bytes = header->kind == RECORD_DATA || header->kind == RECORD_GAP;

        if (has_bytes) {
                place->n_to_skip = 0;
                place->offset = header->offset + (header->kind == RECORD_GAP ? value : size);
                place->last.kind = 0;
                return true;
        }
        if (header->kind == RECORD_END)
                return true;
        if (skip(place, header, value))
                return false;
        if (header->offset == place->offset && place->last.kind && same_record(place, header, value)) {
                place->n_twins++;
                return true;
        }
        place->offset = header->offset;
        place->last = *header;
        place->last_value = value;
        place->n_twins = 1;
        return true;
}
