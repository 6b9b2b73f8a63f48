/* SPDX-License-Identifier: MIT */
#pragma once

/* A file of commands: read whole, checked whole, and given out one command at a time. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/macro.h"

#define BATCH_FILE_MAX ((size_t)1 << 30) /* bytes */

typedef struct BatchCommand {
        size_t offset; /* in the text */
        size_t size;
        uint32_t line; /* from 1 */
} BatchCommand;

typedef struct BatchFile {
        char *text; /* owned */
        size_t size;
        BatchCommand *commands; /* owned */
        size_t n;
        bool shell; /* each line is for sh -c */
} BatchFile;

/**
 * batch_file_read() - read commands from a descriptor and check every one
 * @name:  of the file, for errors
 *
 * Return: 0; -EINVAL (INVALID): the sentence begins with NAME:LINE:COLUMN; -EFBIG; -ENOMEM; -errno of
 * read(2).
 */
int batch_file_read(BatchFile *ret_file, int fd, const char *name, bool shell, Error *reterr_error);

/** batch_file_argv() - what to execute for a command: a new array of bytes, NULL only when out of memory. */
json_t *batch_file_argv(const BatchFile *file, size_t i);

/** batch_file_deinit() - free it; the struct is zero afterwards. */
void batch_file_deinit(BatchFile *file);

static inline void batch_file_deinit_cleanup(BatchFile *file) {
        batch_file_deinit(file);
}
