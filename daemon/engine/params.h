/* SPDX-License-Identifier: MIT */
#pragma once

/* The params of a request, member by member: each of the right kind, and none that nobody asked for. Pure. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/error.h"

typedef struct Params {
        const json_t *object; /* borrowed; NULL: no params */
} Params;

/** params_init() - 'object' is borrowed; it must be a JSON object or NULL. */
int params_init(Params *params, const json_t *object, Error *reterr_error);
/** params_allow() - refuse members that are not among 'names', words with a space between, naming the first.
 */
int params_allow(const Params *params, const char *names, Error *reterr_error);
/** params_is_among() - whether it is one of 'names', words with a space between. */
bool params_is_among(const char *names, const char *name);
/** params_get() - a member, NULL if it is missing or JSON null. */
const json_t *params_get(Params *params, const char *name);

/* The getters leave *ret_value as it is when the member is missing. Return: 1 found, 0 missing, -EINVAL
 * (INVALID) with the member's name. */
int params_bool(Params *params, const char *name, bool *ret_value, Error *reterr_error);
int params_u64(Params *params, const char *name, uint64_t min, uint64_t max, uint64_t *ret_value,
               Error *reterr_error);
int params_string(Params *params, const char *name, size_t max, const char **ret_value,
                  Error *reterr_error); /* borrowed */
/** params_sources() - `sources`: bits 1 << Source; where it is missing, stdout and stderr; may be none.
 * Return: 0 or -EINVAL. */
int params_sources(Params *params, unsigned *ret_sources, Error *reterr_error);
/** params_choice() - one of a NULL-terminated list of words; *ret_value is its index. */
int params_choice(Params *params, const char *name, const char *const *words, int *ret_value,
                  Error *reterr_error);
