/* SPDX-License-Identifier: MIT */

#include "daemon/engine/match.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/match-pattern.h"

struct Match {
        MatchKind kind;
        uint32_t state; /* of a separator: so many of its bytes stand at the end of what was seen */
        uint32_t text_size;
        uint64_t n;
        uint64_t seen;    /* the position behind what was seen */
        Pattern *pattern; /* owned */
        uint8_t *text;    /* owned; the separator */
        uint16_t *fail;   /* owned; [i]: the longest proper prefix of the first i + 1 bytes that ends them */
};

/* The automaton of Knuth, Morris and Pratt: one step, from 'state' bytes that stand at the end. */
static uint32_t separator_step(const Match *match, uint32_t state, uint8_t byte) {
        while (state > 0 && match->text[state] != byte)
                state = match->fail[state - 1];
        return match->text[state] == byte ? state + 1 : 0;
}

static void separator_prepare(Match *match) {
        uint32_t state = 0;

        match->fail[0] = 0;
        for (uint32_t i = 1; i < match->text_size; i++) {
                state = separator_step(match, state, match->text[i]);
                match->fail[i] = (uint16_t)state;
        }
}

int match_new(Match **ret_match, const MatchSpec *spec, Error *reterr_error) {
        CLEANUP(match_free) Match *match = NULL;
        int r;

        match = calloc(1, sizeof(*match));
        if (!match)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold what to read for");
        match->kind = spec->kind;
        match->n = spec->n;
        if (spec->kind == MATCH_SEPARATOR) {
                assert(spec->text_size > 0 && spec->text_size <= MATCH_SEPARATOR_MAX);
                match->text_size = (uint32_t)spec->text_size;
                match->text = malloc(spec->text_size);
                match->fail = malloc(spec->text_size * sizeof(*match->fail));
                if (!match->text || !match->fail)
                        return error_set_errno(reterr_error, ENOMEM, "cannot hold the separator");
                memcpy(match->text, spec->text, spec->text_size);
                separator_prepare(match);
        }
        if (spec->kind == MATCH_PATTERN) {
                r = pattern_new(&match->pattern, spec->text, spec->text_size, reterr_error);
                if (r < 0)
                        return r;
        }
        *ret_match = TAKE(match);
        return 0;
}

Match *match_free(Match *match) {
        if (!match)
                return NULL;
        (void)pattern_free(match->pattern);
        free(match->text);
        free(match->fail);
        free(match);
        return NULL;
}

void match_restart(Match *match) {
        match->seen = 0;
        match->state = 0;
        if (match->pattern)
                pattern_restart(match->pattern);
}

MatchKind match_kind(const Match *match) {
        return match->kind;
}

size_t match_memory(const Match *match) {
        return sizeof(*match) + match->text_size * (sizeof(*match->text) + sizeof(*match->fail)) +
               (match->pattern ? pattern_memory(match->pattern) : 0);
}

bool match_looks(const Match *match) {
        return match->kind == MATCH_LINE || match->kind == MATCH_SEPARATOR || match->kind == MATCH_PATTERN;
}

uint64_t match_wants(const Match *match) {
        return match->pattern ? pattern_wants(match->pattern) : match->seen;
}

/* Looks at every byte while some of the separator stands before it, leaps to the next whole one otherwise.
 * Return: how many bytes up to the end of the separator; 0: it is not there. */
static size_t separator_find(Match *match, const uint8_t *data, size_t size) {
        const uint8_t *found;
        size_t i = 0;

        for (; i < size && match->state > 0; i++) {
                match->state = separator_step(match, match->state, data[i]);
                if (match->state == match->text_size)
                        return i + 1;
        }
        if (i == size)
                return 0;
        found = memmem(data + i, size - i, match->text, match->text_size);
        if (found)
                return (size_t)(found - data) + match->text_size;
        for (i = size - MIN(size - i, (size_t)match->text_size - 1); i < size; i++)
                match->state = separator_step(match, match->state, data[i]);
        return 0;
}

static int match_end(MatchResult *ret_result, uint64_t end) {
        *ret_result = (MatchResult){ .end = end };
        return MATCH_DONE;
}

int match_feed(Match *match, const void *data, size_t size, uint64_t usec, MatchResult *ret_result,
               Error *reterr_error) {
        uint64_t begin = match->seen;
        const uint8_t *found;
        size_t n;

        if (match->pattern)
                return pattern_feed(match->pattern, data, size, usec, ret_result, reterr_error);
        match->seen += size;
        switch (match->kind) {
        case MATCH_BYTES:
        case MATCH_EXACTLY:
                if (match->seen >= match->n)
                        return match_end(ret_result, match->n);
                break;
        case MATCH_LINE:
                found = size > 0 ? memchr(data, '\n', size) : NULL;
                if (found)
                        return match_end(ret_result, begin + (size_t)(found - (const uint8_t *)data) + 1);
                break;
        case MATCH_SEPARATOR:
                n = separator_find(match, data, size);
                if (n > 0)
                        return match_end(ret_result, begin + n);
                break;
        default:
                break;
        }
        return MATCH_MORE;
}

bool match_is_enough(const Match *match) {
        return match->kind == MATCH_BYTES && match->seen > 0;
}

uint64_t match_missing(const Match *match) {
        return match->kind == MATCH_EXACTLY && match->seen < match->n ? match->n - match->seen : 0;
}

unsigned match_n_groups(const Match *match) {
        return match->pattern ? pattern_n_groups(match->pattern) : 0;
}

bool match_group(const Match *match, unsigned i, uint64_t *ret_from, uint64_t *ret_to,
                 const char **ret_name) {
        return match->pattern && pattern_group(match->pattern, i, ret_from, ret_to, ret_name);
}
