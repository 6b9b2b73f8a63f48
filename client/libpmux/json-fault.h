/* SPDX-License-Identifier: MIT */
#pragma once

/* Where a text that should be one JSON value ceases to be one. Pure. */

#include <stddef.h>

/**
 * json_fault() - the first byte with which the text is no longer the beginning of a JSON value (RFC 8259), or
 * stands behind one
 *
 * Return: its position; size: there is none, though the value may be incomplete.
 */
size_t json_fault(const char *text, size_t size);
