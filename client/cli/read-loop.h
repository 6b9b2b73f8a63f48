/* SPDX-License-Identifier: MIT */
#pragma once

/* What is read by as many requests as it takes: what is too large for one answer, and a character that
 * an answer ends within. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/cli/read-params.h"

typedef struct ReadLoop {
        ReadParams read;
        const char *kind; /* static; what is read for, said or not */
        bool peek;
        bool moved;     /* a piece has been consumed */
        json_t *cursor; /* owned; where the cursor was before that: an offset, or null */
        bool amid;      /* what was read for ended within a character: the rest of it is read */
        uint64_t begin; /* where that character stands */
        bool had_any;   /* there were whole ones before it */
} ReadLoop;

/** read_loop_run() - all options are read: read on until there is what was read for. @answer: that of `ask`,
 * which is read on from; NULL: nothing has been asked yet. Return: the exit status. */
int read_loop_run(ReadLoop *loop, json_t *answer);
void read_loop_deinit(ReadLoop *loop);

static inline void read_loop_deinit_cleanup(ReadLoop *loop) {
        read_loop_deinit(loop);
}
