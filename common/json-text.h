/* SPDX-License-Identifier: MIT */
#pragma once

/* JSON written straight into text, for answers that are long: no value is made in memory first. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/macro.h"

/* Zero-initialised it is empty. Once memory ran out nothing is added any more: ask json_text_failed() at the
 * end. */
typedef struct JsonText {
        char *data; /* owned; not NUL-terminated */
        size_t size;
        size_t allocated;
        bool failed;
} JsonText;

void json_text_deinit(JsonText *text);

static inline void json_text_deinit_cleanup(JsonText *text) {
        json_text_deinit(text);
}

static inline bool json_text_failed(const JsonText *text) {
        return text->failed;
}

/** json_text_raw() - add what is JSON already: punctuation, keys, numbers. */
void json_text_raw(JsonText *text, const char *raw, size_t size);
/** json_text_literal() - the same for a string literal. */
#define json_text_literal(text, literal) json_text_raw(text, literal, sizeof(literal) - 1)
void json_text_number(JsonText *text, uint64_t number);
void json_text_bool(JsonText *text, bool value);
/** json_text_bytes() - bytes as docs/protocol.md §3 has them; null for NULL. */
void json_text_bytes(JsonText *text, const char *string);
/** json_text_value() - a value that is there, taken over; NULL: memory ran out before. */
void json_text_value(JsonText *text, json_t *value);
