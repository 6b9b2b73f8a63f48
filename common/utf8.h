/* SPDX-License-Identifier: MIT */
#pragma once

/* UTF-8 as RFC 3629 has it: no surrogates, no overlong forms, nothing above U+10FFFF. */

#include <stdbool.h>
#include <stddef.h>

/** utf8_valid() - whether 'size' bytes are valid UTF-8 (NUL bytes are allowed). */
bool utf8_valid(const void *data, size_t size);

/** utf8_sequence() - length of the valid sequence at 'p' with 'size' bytes left, 1 to 4; 0 if it is not
 * valid. */
size_t utf8_sequence(const unsigned char *p, size_t size);

/** utf8_sanitize() - replace, in place, each invalid byte and control character of a string by '?'. */
void utf8_sanitize(char *text);
