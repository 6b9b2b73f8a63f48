/* SPDX-License-Identifier: MIT */
#pragma once

/* An Error as docs/protocol.md shows it to clients. */

#include <jansson.h>

#include "common/error.h"

/** error_to_json() - a new JSON-RPC error object; NULL when out of memory. */
json_t *error_to_json(const Error *error);
