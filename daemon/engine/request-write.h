/* SPDX-License-Identifier: MIT */
#pragma once

/* What a request that writes to stdin carries, and doing it. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/bytes.h"
#include "common/error.h"
#include "daemon/engine/params.h"
#include "daemon/engine/process.h"
#include "daemon/engine/wait.h"

typedef struct WriteParams {
        Bytes data;            /* owned */
        const char *key;       /* borrowed from the params; may be NULL */
        const char *lock;      /* borrowed from the params; may be NULL */
        uint64_t digest;       /* of the request, if it has a key */
        uint64_t timeout_usec; /* USEC_INFINITY: not given */
        bool eof;
        bool drain;
        bool consumed;
} WriteParams;

/** write_params_parse() - read data, eof, drain, consumed, timeout_usec, key, lock. @method: whose params. */
int write_params_parse(WriteParams *ret_write, const char *method, Params *params, Error *reterr_error);
void write_params_deinit(WriteParams *write);
static inline void write_params_deinit_cleanup(WriteParams *write) {
        write_params_deinit(write);
}

/**
 * write_accept() - accept the bytes as a whole, or find that their key had been used for them before
 * @pid:      of the client
 * @ret_end:  the stdin offset behind them
 *
 * Return: 0; as process_input(); -EINVAL (INVALID): the key was another write's. -EAGAIN (WOULD_BLOCK) also
 * while an earlier write waits for room.
 */
int write_accept(Process *process, const WriteParams *write, pid_t pid, uint64_t *ret_end,
                 Error *reterr_error);

/** write_cancelled() - the input behind 'offset' was dropped: those who wait for it to be taken are told. */
void write_cancelled(Process *process, uint64_t offset);
