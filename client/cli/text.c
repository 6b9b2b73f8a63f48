/* SPDX-License-Identifier: MIT */

#include "client/cli/text.h"

#include <errno.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

#include "common/bytes.h"
#include "common/macro.h"
#include "common/parse.h"
#include "common/utf8.h"

#define ESCAPE_MAX 4 /* bytes that one byte may become */

/* Out of memory in these small conversions for people has no better answer. */
static void *must(void *p) {
        if (!p)
                abort();
        return p;
}

char *text_escape(const void *data, size_t size) {
        const unsigned char *p = data, *end = p + size;
        char *text = must(malloc(size * ESCAPE_MAX + 1)), *out = text;
        size_t n;

        while (p < end) {
                n = utf8_sequence(p, (size_t)(end - p));
                if (n == 0 || *p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0)) { /* C0, DEL, C1 */
                        for (size_t i = 0; i < MAX(n, (size_t)1); i++)
                                out += sprintf(out, "\\x%02x", *p++);
                } else {
                        memcpy(out, p, n);
                        out += n;
                        p += n;
                }
        }
        *out = '\0';
        return text;
}

char *text_of_bytes(const json_t *json) {
        CLEANUP(bytes_deinit) Bytes bytes = {};

        if (!json || json_is_null(json) || bytes_from_json(json, "text", &bytes, NULL) < 0)
                return must(strdup("-"));
        return text_escape(bytes.data, bytes.size);
}

char *text_of_name(const json_t *process) {
        const json_t *name = json_object_get(process, "name");
        char *text = NULL;

        if (name && !json_is_null(name))
                return text_of_bytes(name);
        if (asprintf(&text, "%lld", (long long)json_integer_value(json_object_get(process, "id"))) < 0)
                abort();
        return text;
}

bool text_needs_quotes(const char *word) {
        return !*word || strpbrk(word, " \t'\"$&|;<>()*?[]#~`");
}

char *text_of_argv(const json_t *argv) {
        char *line = must(strdup("")), *word;
        size_t used = 0, n, i;
        json_t *item;
        bool plain;

        json_array_foreach(argv, i, item) {
                word = text_of_bytes(item);
                n = strlen(word);
                plain = !text_needs_quotes(word);
                line = must(realloc(line, used + n + 4)); /* a blank, two quotes, the end */
                if (i > 0)
                        line[used++] = ' ';
                if (!plain)
                        line[used++] = '\'';
                memcpy(line + used, word, n);
                used += n;
                if (!plain)
                        line[used++] = '\'';
                line[used] = '\0';
                free(word);
        }
        return line;
}

char *text_of_time(char *buffer, size_t size, uint64_t usec, int with_usec) {
        time_t seconds = (time_t)(usec / USEC_PER_SEC);
        struct tm tm = {};
        char zone[8] = "";
        size_t n;

        (void)localtime_r(&seconds, &tm);
        n = strftime(buffer, size, with_usec ? "%Y-%m-%dT%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &tm);
        if (!with_usec)
                return buffer;
        (void)strftime(zone, sizeof(zone), "%z", &tm); /* +0100 */
        (void)snprintf(buffer + n, size - n, ".%06u%.3s:%s", (unsigned)(usec % USEC_PER_SEC), zone,
                       strlen(zone) >= 5 ? zone + 3 : "00");
        return buffer;
}

/* How a run ended: "exited with 3", "killed by SIGKILL (stop)", … */
static void describe_exit(FILE *out, const json_t *exit) {
        const char *name = json_string_value(json_object_get(exit, "signal_name"));
        const char *cause = json_string_value(json_object_get(exit, "cause"));
        json_t *signal = json_object_get(exit, "signal");

        if (!json_is_true(json_object_get(exit, "known")))
                (void)fprintf(out, "ended, its status is unknown");
        else if (json_is_integer(signal) && json_integer_value(signal) > 0)
                (void)fprintf(out, "killed by %s%s", name ? name : "a signal",
                              json_is_true(json_object_get(exit, "core")) ? ", core dumped" : "");
        else
                (void)fprintf(out, "exited with %d", (int)json_integer_value(json_object_get(exit, "code")));
        if (json_is_true(json_object_get(exit, "oom")))
                (void)fprintf(out, " (out of memory)");
        else if (cause && strcmp(cause, "self") != 0 && strcmp(cause, "unknown") != 0)
                (void)fprintf(out, " (%s)", cause);
}

char *text_of_age(char *buffer, size_t size, uint64_t since_usec, uint64_t now_usec) {
        uint64_t age = since_usec < now_usec ? now_usec - since_usec : 0;

        return format_duration(buffer, size, age / USEC_PER_SEC * USEC_PER_SEC);
}

char *text_of_status(const json_t *status, uint64_t now_usec) {
        const char *state = json_string_value(json_object_get(status, "state"));
        const json_t *exit = json_object_get(status, "exit"), *when;
        bool over = state && (strcmp(state, "exited") == 0 || strcmp(state, "failed") == 0);
        char *line = NULL, span[64];
        size_t size;
        uint64_t since;
        FILE *out;

        when = json_object_get(status, over ? "end_usec" : "start_usec");
        since = json_is_integer(when) ? (uint64_t)MAX(json_integer_value(when), 0) : 0;
        (void)text_of_age(span, sizeof(span), since, now_usec);
        if (!over && since > 0) { /* most of a long list: without the detour of a stream */
                if (asprintf(&line, "%s for %s", state ? state : "unknown", span) < 0)
                        abort();
                return line;
        }
        out = must(open_memstream(&line, &size));
        if (over && json_is_object(exit))
                describe_exit(out, exit);
        else
                (void)fprintf(out, "%s", state ? state : "unknown");
        if (over && since > 0)
                (void)fprintf(out, ", %s ago", span);
        if (over && json_is_false(json_object_get(status, "tree_empty")))
                (void)fprintf(out, ", descendants left");
        if (fclose(out) != 0)
                abort();
        return line;
}

/* ---- tables ---- */

#define TABLE_SIZE_FIRST (64 * 1024)

/* The cells stand one behind the other, each with its '\0'. */
struct TextTable {
        size_t n_columns;
        size_t n_cells;
        char *cells; /* owned */
        size_t used;
        size_t size;
        size_t widths[];
};

TextTable *text_table_new(size_t n_columns) {
        TextTable *table = calloc(1, sizeof(*table) + n_columns * sizeof(*table->widths));

        if (table)
                table->n_columns = n_columns;
        return table;
}

/* The locale is asked for once something depends on it: to load it takes as long as a short command does. */
static void know_locale(void) {
        static bool is_known;

        if (!is_known)
                (void)setlocale(LC_CTYPE, "");
        is_known = true;
}

/* Columns of a terminal that a string takes; as many as its bytes where the locale cannot tell. Up to 'most':
 * *ret_bytes is how many bytes fit. */
static size_t text_width(const char *text, size_t most, size_t *ret_bytes) {
        size_t width = 0, left = strlen(text), n;
        const char *p = text;
        mbstate_t state = {};
        wchar_t c;
        int w;

        while (left > 0) {
                if ((unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f) { /* nearly all there ever is */
                        if (width == most)
                                break;
                        width++;
                        p++;
                        left--;
                        continue;
                }
                know_locale();
                n = mbrtowc(&c, p, left, &state);
                if (n == 0 || n > left) {
                        state = (mbstate_t){};
                        n = 1;
                        w = 1;
                } else {
                        w = wcwidth(c);
                        w = MAX(w, 0);
                }
                if (width + (size_t)w > most)
                        break;
                width += (size_t)w;
                p += n;
                left -= n;
        }
        *ret_bytes = (size_t)(p - text);
        return width;
}

void text_table_add_bytes(TextTable *table, const char *cell, size_t size) {
        size_t bytes, width, *most = &table->widths[table->n_cells % table->n_columns];
        char *place;

        if (table->size - table->used <= size) {
                table->size = MAX(MAX(table->size * 2, (size_t)TABLE_SIZE_FIRST), table->used + size + 1);
                table->cells = must(realloc(table->cells, table->size));
        }
        place = table->cells + table->used;
        memcpy(place, cell, size);
        place[size] = '\0';
        table->used += size + 1;
        table->n_cells++;
        width = text_width(place, SIZE_MAX, &bytes);
        *most = MAX(*most, width);
}

void text_table_add(TextTable *table, char *cell) {
        text_table_add_bytes(table, cell, strlen(cell));
        free(cell);
}

/* Returns the cell behind the row. */
static const char *print_row(const TextTable *table, const char *cell, size_t limit) {
        size_t used = 0, bytes, width;

        for (size_t c = 0; c + 1 < table->n_columns; c++) {
                width = text_width(cell, SIZE_MAX, &bytes);
                (void)fwrite(cell, 1, bytes, stdout);
                for (; width < table->widths[c] + 2; width++)
                        (void)putc_unlocked(' ', stdout);
                used += width;
                cell += bytes + 1;
        }
        (void)text_width(cell, limit > 0 ? (limit > used ? limit - used : 0) : SIZE_MAX, &bytes);
        (void)fwrite(cell, 1, bytes, stdout);
        (void)putc_unlocked('\n', stdout);
        return cell + strlen(cell) + 1;
}

void text_table_print(const TextTable *table, size_t width) {
        const char *cell = table->cells;

        for (size_t row = 0; row < table->n_cells / table->n_columns; row++)
                cell = print_row(table, cell, width);
}

TextTable *text_table_free(TextTable *table) {
        if (!table)
                return NULL;
        free(table->cells);
        free(table);
        return NULL;
}
