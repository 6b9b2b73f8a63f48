/* SPDX-License-Identifier: MIT */
#pragma once

/* The exit statuses of the command line: what scripts rely on. Pure. */

#include <jansson.h>
#include <stdint.h>

#include "client/libpmux/pmux.h"

enum {
        STATUS_OK = 0,
        STATUS_FAILED = 1,
        STATUS_USAGE = 2,
        STATUS_STOPPED = 3, /* of the verb status: the process does not run */
        STATUS_NOT_FOUND = 4,
        STATUS_DENIED = 5,
        STATUS_NOT_RUNNING = 7,
        STATUS_DEADLINE = 124,
        STATUS_PMUX = 125, /* run and wait: pmux failed; all others: no daemon */
        STATUS_NOT_EXECUTABLE = 126,
        STATUS_NO_COMMAND = 127,
        STATUS_SIGNAL = 128, /* plus the signal's number */
};

/** exit_status_of_error() - what a verb exits with when a request failed. run and wait, whose status is the
 * process's own, say 125 where others say 1, 2, 4, 5 or 7. */
int exit_status_of_error(const char *verb, const PmuxError *error);

/** exit_status_of_usage() - the same for wrong usage: 2; run and wait: 125. */
int exit_status_of_usage(const char *verb);

/** exit_status_of_word() - that of a process, from its exit record; 125 when it is not known. */
int exit_status_of_word(uint64_t word);

/** exit_status_of_exit() - the same from an EXIT object (docs/protocol.md §5); 124 when its timeout ended it.
 */
int exit_status_of_exit(const json_t *exit);
