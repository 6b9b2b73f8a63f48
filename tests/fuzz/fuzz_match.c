/* SPDX-License-Identifier: MIT */

/* What a read waits for: fed in pieces, it finds what it finds when all that has come is fed at once. The
 * input: the kind, the length of a separator or pattern, it, then data in which a byte says how long the next
 * piece is. */

#include "daemon/engine/match.h"
#include "tests/fuzz/fuzz-target.h"

#define DATA_MAX 512

/* Feeds what there is from match_wants() on, in a block of exactly that size. */
static int feed(Match *match, const uint8_t *data, size_t size, MatchResult *ret_result) {
        size_t wants = (size_t)match_wants(match);
        uint8_t *copy = malloc(size - wants > 0 ? size - wants : 1);
        Error error = {};
        int r;

        assert(copy && wants <= size);
        memcpy(copy, data + wants, size - wants);
        do
                r = match_feed(match, copy, size - wants, UINT64_MAX, ret_result, &error);
        while (r == MATCH_AGAIN && match_wants(match) == wants);
        free(copy);
        assert(r == MATCH_MORE || r == MATCH_DONE || error.code == ERROR_LIMIT);
        return r;
}

/* A verb of backtracking, \G and \K ask for more than what has come: they are not compared. */
static bool is_comparable(const uint8_t *text, size_t size) {
        for (size_t i = 0; i + 1 < size; i++)
                if ((text[i] == '(' && text[i + 1] == '*') || (text[i] == '\\' && strchr("GKC", text[i + 1])))
                        return false;
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const MatchKind kinds[] = { MATCH_LINE, MATCH_SEPARATOR, MATCH_PATTERN, MATCH_EXACTLY };
        MatchSpec spec = { .n = 1 };
        Match *whole = NULL, *pieces = NULL;
        MatchResult expected = {}, found = {};
        size_t n_text, end = 0;
        int r = MATCH_MORE, r_whole;
        uint8_t bytes[DATA_MAX];

        if (size < 2)
                return 0;
        spec.kind = kinds[data[0] % 4];
        spec.n = 1 + data[0] / 4u;
        n_text = data[1] % 33;
        data += 2;
        size -= 2;
        if (n_text > size || (spec.kind == MATCH_SEPARATOR && n_text == 0))
                return 0;
        spec.text = data;
        spec.text_size = n_text;
        if (match_new(&whole, &spec, NULL) < 0)
                return 0;
        assert(match_new(&pieces, &spec, NULL) == 0);
        data += n_text;
        size -= n_text;
        while (r == MATCH_MORE && size > 1 && end < DATA_MAX) {
                size_t n = data[0] % 9u;

                n = MIN(MIN(n, size - 1), DATA_MAX - end);
                memcpy(bytes + end, data + 1, n);
                end += n;
                data += n + 1;
                size -= n + 1;
                r = feed(pieces, bytes, end, &found);
                match_restart(whole);
                r_whole = feed(whole, bytes, end, &expected);
                if (r < 0 || r_whole < 0 || !is_comparable(spec.text, n_text))
                        break;
                assert(r == r_whole);
                assert(r != MATCH_DONE || (found.end == expected.end && found.from == expected.from));
        }
        (void)match_free(whole);
        (void)match_free(pieces);
        return 0;
}
