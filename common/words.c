/* SPDX-License-Identifier: MIT */

#include "common/words.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A line that is being split: read at 'at', words written one behind the other into 'text'. */
typedef struct Splitting {
        const char *line; /* borrowed */
        size_t size;
        size_t at;
        char *text; /* borrowed */
        size_t end; /* of text */
        Error *error;
} Splitting;

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f';
}

static int refuse(Splitting *splitting, size_t at, const char *why) {
        splitting->at = at;
        return error_set(splitting->error, ERROR_INVALID, "%s", why);
}

static void put(Splitting *splitting, char c) {
        splitting->text[splitting->end++] = c;
}

/* Behind the quote that opens. */
static int read_single(Splitting *splitting) {
        size_t begin = splitting->at - 1;

        while (splitting->at < splitting->size) {
                char c = splitting->line[splitting->at++];

                if (c == '\'')
                        return 0;
                put(splitting, c);
        }
        return refuse(splitting, begin, "the quote (') is not closed");
}

static int read_double(Splitting *splitting) {
        size_t begin = splitting->at - 1;

        while (splitting->at < splitting->size) {
                char c = splitting->line[splitting->at++];

                if (c == '"')
                        return 0;
                if (c == '\\' && splitting->at < splitting->size &&
                    strchr("\"\\$`", splitting->line[splitting->at]))
                        c = splitting->line[splitting->at++];
                put(splitting, c);
        }
        return refuse(splitting, begin, "the quote (\") is not closed");
}

/* One word, from its first character to the blank or the end behind it. */
static int read_word(Splitting *splitting) {
        int r = 0;

        while (r == 0 && splitting->at < splitting->size && !is_blank(splitting->line[splitting->at])) {
                char c = splitting->line[splitting->at++];

                if (c == '\'') {
                        r = read_single(splitting);
                } else if (c == '"') {
                        r = read_double(splitting);
                } else if (c != '\\') {
                        put(splitting, c);
                } else if (splitting->at < splitting->size) {
                        put(splitting, splitting->line[splitting->at++]);
                } else {
                        return refuse(splitting, splitting->at - 1, "nothing follows the backslash");
                }
        }
        put(splitting, '\0');
        return r;
}

static int split_all(Splitting *splitting, Words *words) {
        const char *nul = memchr(splitting->line, '\0', splitting->size);
        int r;

        if (nul)
                return refuse(splitting, (size_t)(nul - splitting->line), "a NUL character");
        for (;;) {
                while (splitting->at < splitting->size && is_blank(splitting->line[splitting->at]))
                        splitting->at++;
                if (splitting->at == splitting->size || splitting->line[splitting->at] == '#')
                        return 0;
                words->words[words->n++] = splitting->text + splitting->end;
                r = read_word(splitting);
                if (r < 0)
                        return r;
        }
}

int words_split(Words *ret_words, const char *line, size_t size, size_t *ret_at, Error *reterr_error) {
        CLEANUP(words_deinit) Words words = {};
        Splitting splitting = { .line = line, .size = size, .error = reterr_error };
        int r;

        /* n bytes are at most (n + 1) / 2 words, each with a NUL in the place of the blank behind it */
        words.text = malloc(size + 1);
        words.words = calloc(size / 2 + 2, sizeof(*words.words));
        if (!words.text || !words.words)
                return error_set_errno(reterr_error, ENOMEM, "cannot split a line into words");
        splitting.text = words.text;
        r = size > 0 ? split_all(&splitting, &words) : 0;
        if (r < 0) {
                if (ret_at)
                        *ret_at = splitting.at;
                return r;
        }
        words.words[words.n] = NULL;
        *ret_words = words;
        words = (Words){};
        return 0;
}

void words_deinit(Words *words) {
        free(words->words);
        free(words->text);
        *words = (Words){};
}
