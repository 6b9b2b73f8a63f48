/* SPDX-License-Identifier: MIT */

#include "client/cli/read-params.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/exit-status.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/parse.h"

/* What stands for each option behind READ_OPTION. */
enum {
        CURSOR = READ_OPTION,
        NO_CURSOR,
        LINE,
        BYTES,
        EXACTLY,
        UNTIL,
        EXPECT,
        QUIET,
        MAX_BYTES,
        TIMEOUT,
        ONLY_STDOUT,
        ONLY_STDERR,
        ONLY_STDIN
};

int read_params_init(ReadParams *read, Cli *cli) {
        *read = (ReadParams){ .cli = cli, .params = json_object(), .timeout_usec = USEC_INFINITY };
        return read->params ? 0 : cli_out_of_memory();
}

int read_params_set(ReadParams *read, const char *key, json_t *value) {
        return json_object_set_new(read->params, key, value) < 0 ? cli_out_of_memory() : 0;
}

/* What is waited for: one thing only. */
static int set_what(ReadParams *read, const char *what) {
        if (read->what)
                return cli_usage(read->cli, "only one can be read for: %s or %s", read->what, what);
        read->what = what;
        return read_params_set(read, "for", json_string(what));
}

static int parse_bytes(ReadParams *read, const char *text, uint64_t max, uint64_t *ret_n) {
        Error error = {};

        if (parse_size(text, ret_n, &error) < 0)
                return cli_usage(read->cli, "%s", error.text);
        if (*ret_n == 0 || *ret_n > max)
                return cli_usage(read->cli, "%s is not 1 to %llu bytes", text, (unsigned long long)max);
        return 0;
}

static int set_n(ReadParams *read, const char *what, const char *text) {
        int r;

        r = set_what(read, what);
        if (r == 0)
                r = parse_bytes(read, text, (uint64_t)INT64_MAX, &read->n);
        return r;
}

static int set_usec(ReadParams *read, const char *key, const char *text, uint64_t *ret_usec) {
        Error error = {};

        if (parse_duration(text, ret_usec, &error) < 0)
                return cli_usage(read->cli, "%s", error.text);
        if (!key)
                return 0;
        return read_params_set(read, key, json_integer((json_int_t)MIN(*ret_usec, (uint64_t)INT64_MAX / 8)));
}

static int hex_digit(char c) {
        const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c | 0x20) : NULL;

        return at ? (int)(at - digits) : -1;
}

/* A separator as it is written: \n, \t, \r, \0, \\ and \xNN stand for bytes. */
static json_t *unescape(const char *text) {
        static const char letters[] = "ntr0\\", bytes[] = "\n\t\r\0\\";
        char *data = malloc(strlen(text) + 1);
        const char *known;
        json_t *json;
        size_t n = 0;

        for (; data && *text; text++) {
                known = *text == '\\' && text[1] ? strchr(letters, text[1]) : NULL;
                if (known) {
                        data[n++] = bytes[known - letters];
                        text++;
                } else if (*text == '\\' && text[1] == 'x' && hex_digit(text[2]) >= 0 &&
                           hex_digit(text[3]) >= 0) {
                        data[n++] = (char)(hex_digit(text[2]) << 4 | hex_digit(text[3]));
                        text += 3;
                } else {
                        data[n++] = *text;
                }
        }
        json = data ? bytes_to_json(data, n) : NULL;
        free(data);
        return json;
}

static int add_source(ReadParams *read, const char *name) {
        json_t *sources = json_object_get(read->params, "sources");

        if (sources)
                return json_array_append_new(sources, json_string(name)) < 0 ? cli_out_of_memory() : 0;
        return read_params_set(read, "sources", json_pack("[s]", name));
}

static int on_text(ReadParams *read, const char *what, const char *key, json_t *value) {
        int r;

        r = set_what(read, what);
        if (r == 0)
                return read_params_set(read, key, value);
        json_decref(value);
        return r;
}

int read_params_option(ReadParams *read, int c, const char *value) {
        uint64_t n;
        int r;

        switch (c) {
        case CURSOR:
                return read_params_set(read, "cursor", bytes_string_to_json(value));
        case NO_CURSOR:
                return read_params_set(read, "cursor", json_null());
        case LINE:
                return set_what(read, "line");
        case BYTES:
                return set_n(read, "bytes", value);
        case EXACTLY:
                return set_n(read, "exactly", value);
        case UNTIL:
                if (!*value)
                        return cli_usage(read->cli, "the separator is empty");
                return on_text(read, "separator", "separator", unescape(value));
        case EXPECT:
                return on_text(read, "pattern", "pattern", bytes_string_to_json(value));
        case QUIET:
                r = set_what(read, "quiet");
                return r != 0 ? r : set_usec(read, "quiet_usec", value, &n);
        case MAX_BYTES:
                read->has_max = true;
                r = parse_bytes(read, value, READ_PIECE_BYTES, &n);
                return r != 0 ? r : read_params_set(read, "max_bytes", json_integer((json_int_t)n));
        case TIMEOUT:
                return set_usec(read, NULL, value, &read->timeout_usec);
        case ONLY_STDOUT:
                return add_source(read, "stdout");
        case ONLY_STDERR:
                return add_source(read, "stderr");
        case ONLY_STDIN:
                return add_source(read, "stdin");
        default:
                return filter_option(&read->filter_options, read->cli, c, value);
        }
}

static int write_out(void *userdata, const void *data, size_t size) {
        (void)userdata;
        return fwrite(data, 1, size, stdout) == size ? 0 : -EIO; /* cli_finish() says why */
}

bool read_params_to_the_end(const ReadParams *read) {
        return read->what && (strcmp(read->what, "eof") == 0 || strcmp(read->what, "quiet") == 0);
}

static uint64_t number_of(const json_t *result, const char *key) {
        return (uint64_t)json_integer_value(json_object_get(result, key));
}

/* The offset in the log of a byte that was read. Where others wrote between, the daemon knows: a read of all
 * up to that byte ends behind it. */
static uint64_t locate_byte(uint64_t position, void *userdata) {
        ReadParams *read = userdata;
        const ReadPiece *piece = NULL;
        json_auto_t *result = NULL;
        uint64_t n, next;
        PmuxError error;

        for (size_t i = 0; i < read->n_pieces && read->pieces[i].begin <= position; i++)
                piece = &read->pieces[i];
        if (!piece)
                return position;
        n = position - piece->begin + 1;
        if (!piece->apart || n > piece->size ||
            cli_call_quietly(read->cli, "read",
                             json_pack("{s:O, s:n, s:O*, s:I, s:s, s:I, s:I, s:i}", "target",
                                       json_object_get(read->params, "target"), "cursor", "sources",
                                       json_object_get(read->params, "sources"), "from",
                                       (json_int_t)piece->from, "for", "exactly", "n", (json_int_t)n,
                                       "max_bytes", (json_int_t)n, "timeout_usec", 0),
                             &result, &error) < 0)
                return piece->from + n - 1;
        next = number_of(result, "next");
        return number_of(result, "bytes") == n ? next - 1 : piece->from + n - 1;
}

/* Notes where the bytes of an answer stood. Return: 0, or the exit status after a complaint. */
static int add_piece(ReadParams *read, const json_t *result) {
        ReadPiece piece = { .size = number_of(result, "bytes"), .from = number_of(result, "from") };
        ReadPiece *pieces;

        if (read->n_pieces > 0)
                piece.begin = read->pieces[read->n_pieces - 1].begin + read->pieces[read->n_pieces - 1].size;
        piece.apart = number_of(result, "next") != piece.from + piece.size;
        pieces = realloc(read->pieces, (read->n_pieces + 1) * sizeof(*pieces));
        if (!pieces)
                return cli_out_of_memory();
        read->pieces = pieces;
        read->pieces[read->n_pieces++] = piece;
        return 0;
}

int read_params_ready(ReadParams *read) {
        bool in_pieces = read_params_to_the_end(read);
        PmuxError error;
        int r = 0;

        if (read->n > 0) { /* more is read in pieces */
                r = read_params_set(read, "n", json_integer((json_int_t)MIN(read->n, READ_PIECE_BYTES)));
                in_pieces = true;
        }
        if (r == 0 && in_pieces && !read->has_max)
                r = read_params_set(read, "max_bytes", json_integer(READ_PIECE_BYTES));
        if (r == 0)
                r = filter_options_check(&read->filter_options, read->cli);
        if (r == 0 && filter_init(&read->filter, &read->filter_options, write_out, NULL, &error) < 0)
                r = cli_fail(read->cli, &error);
        filter_locate(&read->filter, locate_byte, read);
        read->deadline_usec = clock_monotonic_usec() + MIN(read->timeout_usec, UINT64_C(1) << 60);
        return r;
}

void read_params_add_timeout(const ReadParams *read, json_t *params, bool wait) {
        uint64_t now_usec = clock_monotonic_usec();

        if (!wait || read->timeout_usec < UINT64_C(1) << 60)
                (void)json_object_set_new(params, "timeout_usec",
                                          json_integer(wait && now_usec < read->deadline_usec
                                                               ? (json_int_t)(read->deadline_usec - now_usec)
                                                               : 0));
}

json_t *read_params_now(const ReadParams *read) {
        json_t *params = json_copy(read->params);

        if (params)
                read_params_add_timeout(read, params, true);
        return params;
}

int read_params_print(ReadParams *read, json_t *result, bool more) {
        CLEANUP(bytes_deinit) Bytes data = {};
        const json_t *lost = json_object_get(result, "lost");
        PmuxError error;
        Error own = {};
        int r;

        if (lost)
                cli_complain("%lld bytes lost at offset %lld",
                             (long long)(json_integer_value(json_object_get(lost, "to")) -
                                         json_integer_value(json_object_get(lost, "from"))),
                             (long long)json_integer_value(json_object_get(lost, "from")));
        if (read->cli->json) {
                if (more)
                        (void)json_object_set_new(result, "more", json_true());
                cli_emit(json_incref(result));
                return 0;
        }
        if (bytes_from_json(json_object_get(result, "data"), "data", &data, &own) < 0)
                return cli_fail_error(read->cli, &own);
        if (filter_options_any(&read->filter_options)) {
                r = add_piece(read, result);
                if (r != 0)
                        return r;
                if (lost && filter_gap(&read->filter, &error) < 0 && *error.code)
                        return cli_fail(read->cli, &error);
                if (filter_add(&read->filter, read->pieces[read->n_pieces - 1].begin, data.data, data.size,
                               &error) < 0 &&
                    *error.code)
                        return cli_fail(read->cli, &error);
        } else {
                (void)write_out(NULL, data.data, data.size);
        }
        return 0;
}

int read_params_status(ReadParams *read, const json_t *result) {
        const char *reason = json_string_value(json_object_get(result, "reason"));
        PmuxError error;

        if (reason && strcmp(reason, "timeout") == 0)
                return STATUS_DEADLINE; /* what was begun comes again, maybe whole */
        if (filter_options_any(&read->filter_options) && filter_end(&read->filter, &error) < 0 && *error.code)
                return cli_fail(read->cli, &error);
        if (!reason || strcmp(reason, "satisfied") == 0)
                return STATUS_OK;
        if (strcmp(reason, "gap") == 0)
                cli_complain("bytes are lost behind offset %lld",
                             (long long)json_integer_value(json_object_get(result, "next")));
        return STATUS_FAILED; /* with `eof` the stream ended first */
}

void read_params_deinit(ReadParams *read) {
        filter_deinit(&read->filter);
        free(read->pieces);
        json_decref(read->params);
        read->params = NULL;
}
