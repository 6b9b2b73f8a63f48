/* SPDX-License-Identifier: MIT */
#pragma once

/* What went wrong, in a form that can cross the wire: a stable code, the errno, the failed step, a sentence.
 */

#include <stdbool.h>
#include <stddef.h>

#include "common/macro.h"

#define ERROR_TEXT_MAX 512 /* bytes, with the NUL */
#define ERROR_STEP_MAX 32  /* bytes, with the NUL */

typedef enum ErrorCode {
        ERROR_NONE,
#define ERROR(name, errno_value, wire_name, sentence) ERROR_##name,
#include "common/error-table.h"
#undef ERROR
        ERROR_N_,
} ErrorCode;

typedef struct Error {
        ErrorCode code;            /* ERROR_NONE: nothing is set */
        int errno_value;           /* positive; of the system call where there was one, else the code's own */
        char step[ERROR_STEP_MAX]; /* the step that failed ("exec", "chdir"), may be empty */
        char text[ERROR_TEXT_MAX]; /* one sentence, valid UTF-8, no newline */
} Error;

/**
 * error_set() - say what went wrong
 * @reterr_error:  where to; may be NULL, then only the return value tells
 * @code:          not ERROR_NONE
 * @format:        printf(3) format of the sentence: what, where, why; bytes that are not UTF-8 become '?'
 *
 * Return: the negative errno paired with the code in error-table.h, for `return error_set(…)`.
 */
int error_set(Error *reterr_error, ErrorCode code, const char *format, ...) PRINTF_LIKE(3, 4);

/**
 * error_set_errno() - say which system call failed and why
 * @reterr_error:  where to; may be NULL
 * @errno_value:   positive or negative errno; ENOMEM and ENOSPC get their own code, all others ERROR_SYSTEM
 * @format:        printf(3) format; ": " and strerror(errno_value) are added
 *
 * Return: -|errno_value|.
 */
int error_set_errno(Error *reterr_error, int errno_value, const char *format, ...) PRINTF_LIKE(3, 4);

/** error_set_step() - name the step that failed (cut to fit); returns 'r' unchanged. */
int error_set_step(Error *reterr_error, int r, const char *step);

/** error_wire_name() - the name that goes over the wire ("not-found"); never NULL. */
const char *error_wire_name(ErrorCode code);

/** error_from_wire_name() - the code of a wire name; ERROR_SYSTEM for one that is not known. */
ErrorCode error_from_wire_name(const char *name);

/** error_sentence() - the table's sentence for a code; never NULL. */
const char *error_sentence(ErrorCode code);

/** error_errno() - the positive errno paired with a code. */
int error_errno(ErrorCode code);
