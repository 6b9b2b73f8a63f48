/* SPDX-License-Identifier: MIT */
#pragma once

/* Output with something before each line: a time, the name of the process, or both. Whole lines are written,
 * so that those of several processes do not run into each other. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/cli/output.h"

typedef struct Lines {
        char *name; /* owned; written before each line, NULL: none */
        bool with_time;
        uint8_t *rest; /* owned; a line whose end has not come */
        size_t rest_size;
        size_t rest_capacity;
        uint64_t rest_usec; /* when it began to arrive */
} Lines;

/** lines_add() - bytes that arrived at a time; the lines that they complete are written to 'output'. Return:
 * 0 or -errno. */
int lines_add(Lines *lines, Output *output, uint64_t time_usec, const void *data, size_t size);

/** lines_end() - nothing more comes: an unfinished last line is written, with a newline. */
int lines_end(Lines *lines, Output *output);
void lines_deinit(Lines *lines);
