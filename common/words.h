/* SPDX-License-Identifier: MIT */
#pragma once

/* A command line as a shell would split it into words, with nothing expanded. Pure. */

#include <stddef.h>

#include "common/error.h"
#include "common/macro.h"

typedef struct Words {
        char **words; /* owned, each into 'text'; NULL-terminated */
        size_t n;
        char *text; /* owned */
} Words;

/**
 * words_split() - split a line into words
 * @line:    any bytes, not NUL-terminated
 * @ret_at:  on -EINVAL: the byte at which the trouble begins; may be NULL
 *
 * Blanks part words. '…' is taken as it stands; in "…" a backslash takes the meaning from ", \, $ and `;
 * outside a backslash takes it from the next byte. # at the beginning of a word begins a comment. Everything
 * else ($, *, |, ;, &…) is a character like any other. A line of blanks and comments has no words.
 *
 * Return: 0; -EINVAL (INVALID): a quote that does not end, a backslash at the end, a NUL; -ENOMEM.
 */
int words_split(Words *ret_words, const char *line, size_t size, size_t *ret_at, Error *reterr_error);

/** words_deinit() - free them; the struct is zero afterwards. */
void words_deinit(Words *words);

static inline void words_deinit_cleanup(Words *words) {
        words_deinit(words);
}
