/* SPDX-License-Identifier: MIT */
#pragma once

/* One condition of a wait, as it was asked for. */

#include "common/bytes.h"
#include "daemon/engine/log.h"
#include "daemon/engine/params.h"
#include "daemon/engine/request.h"

typedef enum WaitFor {
        WAIT_EXITED,
        WAIT_CLOSED,
        WAIT_EMPTY,
        WAIT_RUNNING,
        WAIT_READY,
        WAIT_STATE, /* from here on: of conditions only */
        WAIT_PATTERN,
        WAIT_QUIET,
        WAIT_BYTES,
} WaitFor;

/* The wire name of each; NULL at the end. */
extern const char *const wait_words[];

typedef struct Condition {
        Params params;
        int what; /* WaitFor */
        uint8_t state;
        Bytes pattern; /* owned */
        uint64_t n;
        uint64_t quiet_usec;
        unsigned sources;
        Process **processes; /* owned */
        size_t n_processes;
} Condition;

/** conditions_free() - an array of them, whatever has been parsed. */
void conditions_free(Condition *conditions, size_t n);

/**
 * condition_parse() - read one that is all zero
 * @outer:   the params of the request, for its targets
 * @object:  borrowed as long as the condition lives
 *
 * Return: 0; -EINVAL (INVALID): the sentence names the member; -ESRCH (NOT_FOUND); -errno.
 */
int condition_parse(Condition *condition, Request *request, Params *outer, const json_t *object,
                    Error *reterr_error);

/** condition_seek() - where in the log of a process its search begins. Return: 0; -EINVAL (INVALID); -errno.
 */
int condition_seek(const Condition *condition, const Process *process, Log *log, LogCursor *ret_cursor,
                   Error *reterr_error);

/** condition_name_error() - put before the sentence of an error which condition it is about. Return: r. */
int condition_name_error(size_t position, int r, Error *reterr_error);
