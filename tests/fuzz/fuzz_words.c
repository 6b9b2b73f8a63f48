/* SPDX-License-Identifier: MIT */

/* A line is split into words or refused at a byte of it; words that are quoted again are the same words. */

#include <stdbool.h>

#include "common/words.h"
#include "tests/fuzz/fuzz-target.h"

/* The words in single quotes, in one line; owned. */
static char *quote_all(const Words *words, size_t *ret_size) {
        size_t size = 1, at = 0;
        char *line;

        for (size_t i = 0; i < words->n; i++)
                size += 4 * strlen(words->words[i]) + 3;
        line = malloc(size);
        assert(line);
        for (size_t i = 0; i < words->n; i++) {
                line[at++] = '\'';
                for (const char *p = words->words[i]; *p; p++) {
                        if (*p == '\'') {
                                memcpy(line + at, "'\\'", 3);
                                at += 3;
                        }
                        line[at++] = *p;
                }
                line[at++] = '\'';
                line[at++] = ' ';
        }
        *ret_size = at;
        return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *line = malloc(size > 0 ? size : 1), *quoted;
        size_t at = SIZE_MAX, quoted_size;
        Words words, again;
        Error error = {};
        int r;

        assert(line);
        if (size > 0)
                memcpy(line, data, size); /* of its exact size: a byte too far is seen */
        r = words_split(&words, line, size, &at, &error);
        assert((r == 0) == (error.code == ERROR_NONE));
        if (r < 0) {
                assert(at < size);
        } else {
                quoted = quote_all(&words, &quoted_size);
                assert(words_split(&again, quoted, quoted_size, NULL, NULL) == 0);
                assert(again.n == words.n);
                for (size_t i = 0; i < words.n; i++)
                        assert(strcmp(again.words[i], words.words[i]) == 0);
                words_deinit(&again);
                words_deinit(&words);
                free(quoted);
        }
        free(line);
        return 0;
}
