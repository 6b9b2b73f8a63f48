/* SPDX-License-Identifier: MIT */
#pragma once

/* What is shown of a process as most of a long list are: it runs, and nothing in its name and its command
 * asks for quotes or escapes. Read from the text of the list, as making values of that takes longer than the
 * rest. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLAIN_COMMAND_SIZE 1024

/* A piece of the list's text, borrowed. */
typedef struct PlainText {
        const char *text; /* NULL: there was none */
        size_t size;
} PlainText;

typedef struct PlainRow {
        PlainText id, name, run, pid;
        bool is_running; /* always, of one that was read */
        uint64_t start_usec;
        char command[PLAIN_COMMAND_SIZE]; /* as text_of_argv() has it */
} PlainRow;

/**
 * plain_row_read() - the process that begins at *p, in JSON without blanks
 * @p:  ends with '\0'; moved behind the process
 *
 * Return: whether it was such a one; if not, *p has not moved, and a JSON reader shall say what is there.
 */
bool plain_row_read(PlainRow *ret_row, const char **p);
