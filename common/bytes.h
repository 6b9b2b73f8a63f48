/* SPDX-License-Identifier: MIT */
#pragma once

/* Bytes in JSON: a string where they are UTF-8, else {"base64": "…"} (docs/protocol.md §3). */

#include <jansson.h>
#include <stddef.h>

#include "common/error.h"

/** A block of bytes that is owned; data is never NULL after success and has a NUL behind it that is not
 * counted. */
typedef struct Bytes {
        char *data; /* owned, malloc */
        size_t size;
} Bytes;

/** bytes_deinit() - free the block; the struct is zero afterwards. */
void bytes_deinit(Bytes *bytes);

static inline void bytes_deinit_cleanup(Bytes *bytes) {
        bytes_deinit(bytes);
}

/** bytes_to_json() - a new JSON value for 'size' bytes; NULL only when out of memory. */
json_t *bytes_to_json(const void *data, size_t size);

/** bytes_string_to_json() - the same for a NUL-terminated string; JSON null for NULL. */
json_t *bytes_string_to_json(const char *string);

/**
 * bytes_from_json() - the bytes of a JSON value
 * @what:  names the value in the sentence of an error ("argv[2]")
 *
 * Return: 0; -EINVAL (INVALID): neither a string nor {"base64": …} with valid base64; -ENOMEM.
 */
int bytes_from_json(const json_t *json, const char *what, Bytes *ret_bytes, Error *reterr_error);

/** bytes_string_from_json() - as bytes_from_json(), for a string: refuses NUL inside; *ret_string is owned
 * (free(3)). */
int bytes_string_from_json(const json_t *json, const char *what, char **ret_string, Error *reterr_error);

/** base64_encode() - RFC 4648 with padding; a new NUL-terminated string, NULL when out of memory. */
char *base64_encode(const void *data, size_t size);

/** base64_decode() - strict: length a multiple of 4, no other characters. Return: 0; -EINVAL; -ENOMEM. */
int base64_decode(const char *text, size_t text_size, Bytes *ret_bytes);
