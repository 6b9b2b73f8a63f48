/* SPDX-License-Identifier: MIT */

#include "client/cli/lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/text.h"

#define LINE_MAX_KEPT (1024 * 1024) /* a longer line is written in parts */

static int write_prefix(const Lines *lines, Output *output, uint64_t time_usec) {
        char stamp[64] = "", *prefix = NULL;
        int n, r;

        if (lines->with_time)
                (void)text_of_time(stamp, sizeof(stamp), time_usec, 1);
        n = asprintf(&prefix, "%s%s%s%s", lines->name ? lines->name : "", lines->name ? " | " : "", stamp,
                     *stamp ? " " : "");
        if (n < 0)
                return -ENOMEM;
        r = output_add(output, prefix, (size_t)n);
        if (r == 0)
                r = output_settle(output); /* the prefix goes away */
        free(prefix);
        return r;
}

static int keep_rest(Lines *lines, uint64_t time_usec, const uint8_t *data, size_t size) {
        size_t need = lines->rest_size + size;
        uint8_t *rest;

        if (size == 0)
                return 0;
        if (need > lines->rest_capacity) {
                rest = realloc(lines->rest, MAX(need, lines->rest_capacity * 2));
                if (!rest)
                        return -ENOMEM;
                lines->rest = rest;
                lines->rest_capacity = MAX(need, lines->rest_capacity * 2);
        }
        if (lines->rest_size == 0)
                lines->rest_usec = time_usec;
        memcpy(lines->rest + lines->rest_size, data, size);
        lines->rest_size = need;
        return 0;
}

/* Writes the kept beginning and 'size' more bytes as one line. */
static int write_line(Lines *lines, Output *output, uint64_t time_usec, const uint8_t *data, size_t size,
                      bool add_newline) {
        int r;

        r = write_prefix(lines, output, lines->rest_size > 0 ? lines->rest_usec : time_usec);
        if (r == 0 && lines->rest_size > 0)
                r = output_add(output, lines->rest, lines->rest_size);
        if (r == 0 && size > 0)
                r = output_add(output, data, size);
        if (r == 0 && add_newline)
                r = output_add(output, "\n", 1);
        if (r == 0 && lines->rest_size > 0)
                r = output_settle(output); /* the rest is going to be overwritten */
        lines->rest_size = 0;
        return r;
}

int lines_add(Lines *lines, Output *output, uint64_t time_usec, const void *data, size_t size) {
        const uint8_t *p = data, *end = p + size, *newline;
        int r;

        while (p < end) {
                newline = memchr(p, '\n', (size_t)(end - p));
                if (!newline)
                        break;
                r = write_line(lines, output, time_usec, p, (size_t)(newline + 1 - p), false);
                if (r < 0)
                        return r;
                p = newline + 1;
        }
        r = keep_rest(lines, time_usec, p, (size_t)(end - p));
        if (r == 0 && lines->rest_size > LINE_MAX_KEPT)
                r = write_line(lines, output, time_usec, NULL, 0, true);
        return r;
}

int lines_end(Lines *lines, Output *output) {
        return lines->rest_size > 0 ? write_line(lines, output, 0, NULL, 0, true) : 0;
}

void lines_deinit(Lines *lines) {
        free(lines->name);
        free(lines->rest);
        *lines = (Lines){};
}
