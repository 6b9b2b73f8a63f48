/* SPDX-License-Identifier: MIT */
#pragma once

/* What a read waits for, as a matcher that is fed the bytes as they come and keeps none of them: a count, the
 * state of an automaton, or where a match may begin. Positions count the bytes that were fed, from 0. Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/macro.h"

typedef struct Match Match;

typedef enum MatchKind {
        MATCH_BYTES,     /* what there is, at least one byte, up to n */
        MATCH_EXACTLY,   /* n bytes */
        MATCH_LINE,      /* up to and with a newline */
        MATCH_SEPARATOR, /* up to and with these bytes */
        MATCH_PATTERN,   /* up to the end of what a regular expression matches */
        MATCH_QUIET,     /* at least one byte; when it has been quiet is for whoever has a clock */
        MATCH_EOF,       /* never by bytes */
        MATCH_KIND_N_,
} MatchKind;

#define MATCH_SEPARATOR_MAX 4096 /* bytes */
#define MATCH_PATTERN_MAX 4096

typedef struct MatchSpec {
        MatchKind kind;
        uint64_t n;       /* of BYTES and EXACTLY; at least 1 */
        const void *text; /* borrowed; the separator or the pattern */
        size_t text_size;
} MatchSpec;

/* Where a match is. */
typedef struct MatchResult {
        uint64_t end;  /* everything up to here is consumed */
        uint64_t from; /* of a pattern: what matched */
        uint64_t to;
} MatchResult;

/* What a feed comes to. */
typedef enum MatchState {
        MATCH_MORE,  /* not satisfied; all that was fed has been seen */
        MATCH_AGAIN, /* time is up before all was seen: feed on later, from match_wants() */
        MATCH_DONE,
} MatchState;

/**
 * match_new() - a matcher at position 0
 * @spec:  copied
 *
 * Return: 0; -EINVAL (INVALID): the sentence says what is wrong with the pattern, and where; -ENOMEM.
 */
int match_new(Match **ret_match, const MatchSpec *spec, Error *reterr_error);
Match *match_free(Match *match);
DEFINE_CLEANUP(Match *, match_free);

/** match_restart() - back to position 0, with nothing seen. */
void match_restart(Match *match);

/** match_kind() - of its MatchSpec. */
MatchKind match_kind(const Match *match);
/** match_memory() - bytes of memory that it holds. */
size_t match_memory(const Match *match);
/** match_looks() - whether it looks at the bytes; one that does not may be fed NULL. */
bool match_looks(const Match *match);
/** match_wants() - the position at which what is fed next must begin: of a pattern that matches in part,
 * where that begins; bytes below are not asked for again. */
uint64_t match_wants(const Match *match);

/**
 * match_feed() - look at what has come
 * @data:   the bytes from position match_wants() on; NULL if match_looks() says so
 * @size:   all that there are by now; of a pattern, with those that were fed before and are still wanted
 * @usec:   about how long it may take; a pattern stops then with MATCH_AGAIN. UINT64_MAX: no bound
 *
 * A pattern is looked for in what has come by now: the result depends on where the pieces end only where the
 * pattern itself asks for the end or is greedy. It is the one that a search from position 0 would find.
 *
 * Return: a MatchState, with *ret_result for MATCH_DONE; -EDQUOT (LIMIT): a pattern takes too many steps;
 * -ENOMEM.
 */
int match_feed(Match *match, const void *data, size_t size, uint64_t usec, MatchResult *ret_result,
               Error *reterr_error);

/** match_is_enough() - whether what has been seen will do if nothing more comes for now (MATCH_BYTES). */
bool match_is_enough(const Match *match);
/** match_missing() - of MATCH_EXACTLY: how many bytes are missing. */
uint64_t match_missing(const Match *match);

/** match_n_groups() - of a pattern that matched: how many groups it has, the whole match (0) included. */
unsigned match_n_groups(const Match *match);
/** match_group() - where a group matched. @ret_name: NULL for one without a name; borrowed. Return: false if
 * it took no part. */
bool match_group(const Match *match, unsigned i, uint64_t *ret_from, uint64_t *ret_to, const char **ret_name);
