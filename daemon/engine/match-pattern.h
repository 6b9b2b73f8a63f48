/* SPDX-License-Identifier: MIT */
#pragma once

/* A regular expression (PCRE2, bytes, multiline) that is looked for in data which comes in pieces. */

#include "daemon/engine/match.h"

typedef struct Pattern Pattern;

/** pattern_new() - compile. Return: 0; -EINVAL (INVALID) with PCRE2's sentence and the position; -ENOMEM. */
int pattern_new(Pattern **ret_pattern, const void *text, size_t size, Error *reterr_error);
Pattern *pattern_free(Pattern *pattern);
DEFINE_CLEANUP(Pattern *, pattern_free);

/** pattern_restart() - back to position 0. */
void pattern_restart(Pattern *pattern);
/** pattern_memory() - bytes of memory that it holds. */
size_t pattern_memory(const Pattern *pattern);
/** pattern_wants() - the position from which the next pattern_feed() needs the bytes. */
uint64_t pattern_wants(const Pattern *pattern);
/** pattern_feed() - see match_feed(). */
int pattern_feed(Pattern *pattern, const uint8_t *data, size_t size, uint64_t usec, MatchResult *ret_result,
                 Error *reterr_error);
/** pattern_n_groups(), pattern_group() - see match_n_groups() and match_group(). */
unsigned pattern_n_groups(const Pattern *pattern);
bool pattern_group(const Pattern *pattern, unsigned i, uint64_t *ret_from, uint64_t *ret_to,
                   const char **ret_name);
