/* SPDX-License-Identifier: MIT */
#pragma once

/* Records as lines of JSON. A character that is cut between two records is put together again. */

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "client/libpmux/pmux.h"

/* The beginning of a character whose end has not come. */
typedef struct RecordCarry {
        uint8_t bytes[4];
        size_t size;
        PmuxRecord record; /* the data record that they came with */
} RecordCarry;

typedef struct RecordJson {
        json_t *subject;      /* owned; members that every line gets ("id", "name"), may be NULL */
        RecordCarry carry[4]; /* by source */
} RecordJson;

/** record_json_print() - print a record as one line on stdout, together with what was held back before it. */
void record_json_print(RecordJson *json, const PmuxRecord *record);
void record_json_deinit(RecordJson *json);

/** record_cut() - how many bytes at the end of 'data' begin a character that is not complete: 0 to 3. */
size_t record_cut(const uint8_t *data, size_t size);
