/* SPDX-License-Identifier: MIT */
#pragma once

/* The writers that used a stdin log last, so that the index need not be searched at each of their frames.
 * Pure.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/macro.h"
#include "daemon/engine/stdin-log.h"

#define STDIN_WRITERS_MAX 16

typedef struct KnownWriter {
        StdinWriter writer;
        uint64_t accepted; /* in its own count */
        uint64_t end;      /* stdin offset behind its last byte */
        bool has_eof;      /* its last record was an end of file */
} KnownWriter;

typedef struct StdinWriters StdinWriters;

/** stdin_writers_free() - forget them all. Return: NULL. */
StdinWriters *stdin_writers_free(StdinWriters *writers);
DEFINE_CLEANUP(StdinWriters *, stdin_writers_free);

/** stdin_writers_get() - Return: whether the writer is known. @writers: may be NULL. */
bool stdin_writers_get(StdinWriters *writers, const StdinWriter *writer, KnownWriter *ret_known);

/**
 * stdin_writers_put() - know a writer, or know something new of it
 * @writers:  made if it is NULL
 *
 * Forgets the one that was not used for longest where there are too many. Without memory nothing happens.
 */
void stdin_writers_put(StdinWriters **writers, const KnownWriter *known);
