/* SPDX-License-Identifier: MIT */
#pragma once

/* What tells a request that is repeated with its key from another that has the same key by mistake: a digest
 * of what it asks for. */

#include <stdint.h>

#include "daemon/engine/params.h"

/**
 * request_digest() - a digest of a request
 * @method:  what it asks for, too
 * @except:  members that may differ between a request and its repetition (how long it waits, where its answer
 *           goes), words with a space between
 *
 * The order of members and the way in which bytes are written in JSON make no difference. Never 0.
 */
uint64_t request_digest(const char *method, const Params *params, const char *except);

/** request_digest_data() - the digest of a request that has these bytes, too. */
uint64_t request_digest_data(uint64_t digest, const void *data, size_t size);

/** request_key_taken() - refuse a request whose key another had, naming the key. Return: -EINVAL (INVALID).
 */
int request_key_taken(const char *key, Error *reterr_error);
