/* SPDX-License-Identifier: MIT */
#pragma once

/* One client's stream of input for one process: positions, acknowledgements, a window. */

#include <stdint.h>

#include "common/error.h"
#include "daemon/engine/client.h"
#include "daemon/engine/process.h"

typedef struct Writer Writer;

/**
 * writer_new() - open a stream of input on a connection; it frees itself when that or the process ends
 * @id:    who writes; a writer that was known before goes on where it was
 * @lock:  the lock that it claims to hold (copied); NULL: none
 */
int writer_new(Writer **ret_writer, Client *client, Process *process, uint32_t stream, const StdinWriter *id,
               const char *lock, Error *reterr_error);
Writer *writer_from_stream(ClientStream *stream);
/** writer_close() - forget it; the process's stdin stays as it is. */
void writer_close(Writer *writer);
uint64_t writer_accepted(const Writer *writer);
uint64_t writer_taken(Writer *writer);
uint64_t writer_limit(Writer *writer);
