/* SPDX-License-Identifier: MIT */
#pragma once

/* Words of a command line as one text. */

#include <stdbool.h>
#include <stddef.h>

/** text_join() - the words with a blank between each two, and a newline if wanted; a new string, NULL when
 * out of memory. */
char *text_join(char **words, int n_words, bool newline, size_t *ret_size);
