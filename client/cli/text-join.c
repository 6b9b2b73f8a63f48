/* SPDX-License-Identifier: MIT */

#include "client/cli/text-join.h"

#include <stdio.h>

char *text_join(char **words, int n_words, bool newline, size_t *ret_size) {
        char *text = NULL;
        FILE *out;

        out = open_memstream(&text, ret_size);
        if (!out)
                return NULL;
        for (int i = 0; i < n_words; i++)
                (void)fprintf(out, "%s%s", i > 0 ? " " : "", words[i]);
        if (newline)
                (void)fputc('\n', out);
        return fclose(out) == 0 ? text : NULL;
}
