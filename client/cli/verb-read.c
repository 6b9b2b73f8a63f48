/* SPDX-License-Identifier: MIT */

/* read, ask: what a process writes, in the portions that a program needs. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/arguments.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/read-params.h"
#include "client/cli/target.h"
#include "client/cli/text-join.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/parse.h"

#define ASK_MAX (1024 * 1024) /* bytes of one question */

enum {
        OPTION_FROM = ARGUMENTS_LONG,
        OPTION_RUN,
        OPTION_EOF,
        OPTION_PEEK,
        OPTION_LOCK
};

/* ---- read ---- */

/* What is too large for one answer is read in pieces. */
typedef struct ReadLoop {
        ReadParams read;
        bool peek;
        bool moved;       /* a piece has been consumed */
        json_t *cursor;   /* owned; where the cursor was before that: an offset, or null */
        bool amid;        /* the bytes that were read for ended within a character: the rest of it is read */
        json_int_t begin; /* where that character stands */
        bool had_any;     /* there were whole ones before it */
} ReadLoop;

static json_int_t integer_of(const json_t *result, const char *key) {
        return json_integer_value(json_object_get(result, key));
}

/* The next piece begins where this one ended; without a cursor that must be said. */
static int piece_done(ReadLoop *loop, json_t *result) {
        loop->moved = true;
        return read_params_set(&loop->read, "from", json_integer(integer_of(result, "next")));
}

/* The cursor that is moved; NULL: none. */
static json_t *cursor_name(const ReadLoop *loop) {
        json_t *cursor = json_object_get(loop->read.params, "cursor");

        if (loop->peek || json_is_null(cursor))
                return NULL;
        return cursor ? json_incref(cursor) : json_string("default");
}

/* A piece is about to be consumed, and the deadline may come behind it: notes where the cursor is. Return: 0,
 * or the exit status after a complaint. */
static int note_cursor(ReadLoop *loop) {
        json_auto_t *name = cursor_name(loop), *result = NULL;
        json_t *cursor;
        size_t i;
        int r;

        if (!name || loop->moved || loop->read.timeout_usec == USEC_INFINITY)
                return 0;
        r = cli_call(loop->read.cli, "cursors",
                     json_pack("{s:O}", "target", json_object_get(loop->read.params, "target")), &result);
        if (r != 0)
                return r;
        json_array_foreach(json_object_get(result, "cursors"), i, cursor) {
                if (json_equal(json_object_get(cursor, "name"), name))
                        loop->cursor = json_incref(json_object_get(cursor, "offset"));
        }
        return 0;
}

/* A deadline consumes nothing: the cursor goes back to where it was before the first piece, or to the
 * character whose end did not come. */
static void put_back(ReadLoop *loop) {
        json_t *name = loop->moved ? cursor_name(loop) : NULL;
        json_auto_t *to = loop->amid ? json_integer(loop->begin) : json_incref(loop->cursor);
        PmuxError error;

        if (name &&
            cli_call_quietly(loop->read.cli, "set-cursor",
                             json_pack("{s:O, s:o, s:O?}", "target",
                                       json_object_get(loop->read.params, "target"), "name", name, "to", to),
                             NULL, &error) < 0)
                (void)cli_fail(loop->read.cli, &error);
}

/* Bytes that were read for may end within a character, which is read to its end: byte by byte, as nothing
 * behind it was asked for. Return: whether it is so; *ret_status as below. */
static bool begin_byte(ReadLoop *loop, const json_t *result, const char *reason, int *ret_status) {
        const char *what = loop->read.what ? loop->read.what : "bytes";
        uint64_t offset;
        size_t n;

        if (strcmp(what, "bytes") != 0 || !reason || strcmp(reason, "satisfied") != 0)
                return false;
        n = filter_begun(&loop->read.filter, &offset);
        if (n == 0)
                return false;
        if (!loop->amid) {
                loop->begin = (json_int_t)offset;
                loop->had_any = integer_of(result, "bytes") > (json_int_t)n;
        }
        loop->amid = loop->moved = true;
        *ret_status = read_params_set(&loop->read, "for", json_string("exactly"));
        if (*ret_status == 0)
                *ret_status = read_params_set(&loop->read, "n", json_integer(1));
        return true;
}

/* So much is there that it does not fit into an answer: the most that does. */
static int read_large_piece(ReadLoop *loop, json_t **ret_result) {
        json_t *params;
        int r;

        r = note_cursor(loop);
        if (r != 0)
                return r;
        params = read_params_now(&loop->read);
        if (!params)
                return cli_out_of_memory();
        (void)json_object_del(params, "quiet_usec");
        (void)json_object_set_new(params, "for", json_string("exactly"));
        (void)json_object_set_new(params, "n", json_integer(READ_PIECE_BYTES));
        return cli_call(loop->read.cli, "read", params, ret_result);
}

/* Whether more is wanted than fits into an answer, which is known beforehand. */
static bool wants_pieces(const ReadLoop *loop) {
        return loop->read.n > READ_PIECE_BYTES && strcmp(loop->read.what, "exactly") == 0;
}

/* One answer. Return: 0: it was the last, *ret_status is set; 1: there is more; -1: *ret_status, after a
 * complaint. */
static int read_piece(ReadLoop *loop, int *ret_status) {
        bool more = false, in_pieces = !loop->read.has_max && read_params_to_the_end(&loop->read);
        json_auto_t *result = NULL;
        PmuxError error;
        const char *reason;

        *ret_status = wants_pieces(loop) ? note_cursor(loop) : 0;
        if (*ret_status != 0)
                return -1;
        if (cli_call_quietly(loop->read.cli, "read", read_params_now(&loop->read), &result, &error) < 0) {
                if (!in_pieces || strcmp(error.code, "too-large") != 0) {
                        *ret_status = cli_fail(loop->read.cli, &error);
                        return -1;
                }
                *ret_status = read_large_piece(loop, &result);
                if (*ret_status != 0)
                        return -1;
                more = true;
        }
        reason = json_string_value(json_object_get(result, "reason"));
        if (!more && wants_pieces(loop)) {
                loop->read.n -= READ_PIECE_BYTES;
                more = reason && strcmp(reason, "satisfied") == 0;
                if (!more && json_object_get(result, "missing"))
                        (void)json_object_set_new(
                                result, "missing",
                                json_integer(integer_of(result, "missing") + (json_int_t)loop->read.n));
                (void)read_params_set(&loop->read, "n",
                                      json_integer((json_int_t)MIN(loop->read.n, READ_PIECE_BYTES)));
        }
        *ret_status = read_params_print(&loop->read, result, more);
        if (*ret_status == 0)
                more |= begin_byte(loop, result, reason, ret_status);
        if (*ret_status == 0 && more)
                *ret_status = piece_done(loop, result);
        if (*ret_status != 0)
                return -1;
        if (more)
                return 1;
        *ret_status = read_params_status(&loop->read, result);
        if (*ret_status == STATUS_DEADLINE)
                put_back(loop);
        if (loop->amid && (*ret_status == STATUS_FAILED || (*ret_status == STATUS_DEADLINE && loop->had_any)))
                *ret_status = STATUS_OK; /* it had what it read for */
        return 0;
}

static int on_read_option(ReadLoop *loop, int c) {
        Cli *cli = loop->read.cli;
        Error error = {};
        uint64_t n;

        switch (c) {
        case OPTION_FROM:
                if (strcmp(optarg, "start") == 0 || strcmp(optarg, "end") == 0)
                        return read_params_set(&loop->read, "from", json_string(optarg));
                if (parse_u64(optarg, INT64_MAX, &n, &error) < 0)
                        return cli_usage(cli, "%s", error.text);
                return read_params_set(&loop->read, "from", json_integer((json_int_t)n));
        case OPTION_RUN:
                if (parse_u64(optarg, UINT32_MAX, &n, &error) < 0)
                        return cli_usage(cli, "%s", error.text);
                return read_params_set(&loop->read, "run", json_integer((json_int_t)n));
        case OPTION_EOF:
                if (loop->read.what)
                        return cli_usage(cli, "only one can be read for: %s or eof", loop->read.what);
                loop->read.what = "eof";
                return read_params_set(&loop->read, "for", json_string("eof"));
        case OPTION_PEEK:
                loop->peek = true;
                return read_params_set(&loop->read, "peek", json_true());
        default:
                return read_params_option(&loop->read, c, optarg);
        }
}

/* Return: 0; the exit status plus one. */
static int read_read_options(ReadLoop *loop, int argc, char **argv) {
        static const struct option options[] = { { "from", required_argument, NULL, OPTION_FROM },
                                                 { "run", required_argument, NULL, OPTION_RUN },
                                                 { "eof", no_argument, NULL, OPTION_EOF },
                                                 { "peek", no_argument, NULL, OPTION_PEEK },
                                                 READ_OPTIONS,
                                                 FILTER_OPTIONS,
                                                 {} };
        Arguments arguments;
        json_t *target;
        char **rest;
        int c, n, r;

        arguments_init(&arguments, loop->read.cli, argc, argv, options, false);
        while ((c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status + 1;
                r = on_read_option(loop, c);
                if (r != 0)
                        return r + 1;
        }
        rest = arguments_rest(&arguments, &n);
        r = target_resolve(loop->read.cli, rest, n, &target);
        if (r == 0)
                r = read_params_set(&loop->read, "target", target);
        if (r == 0)
                r = read_params_ready(&loop->read);
        return r != 0 ? r + 1 : 0;
}

static int read_all(ReadLoop *loop, int argc, char **argv) {
        int r, status;

        r = read_params_init(&loop->read, loop->read.cli);
        if (r != 0)
                return r;
        r = read_read_options(loop, argc, argv);
        if (r != 0)
                return r - 1;
        r = cli_connect(loop->read.cli);
        if (r != 0)
                return r;
        do
                r = read_piece(loop, &status);
        while (r > 0 && cli_finish(0) == 0);
        return r > 0 ? STATUS_PMUX : status;
}

int verb_read(Cli *cli, int argc, char **argv) {
        ReadLoop loop = { .read = { .cli = cli } };
        int status;

        status = read_all(&loop, argc, argv);
        json_decref(loop.cursor);
        read_params_deinit(&loop.read);
        return status;
}

/* ---- ask ---- */

/* All of our stdin. Return: 0, or the exit status after a complaint. */
static int read_question(Cli *cli, char **ret_text, size_t *ret_size) {
        char *text = malloc(ASK_MAX + 1);
        size_t size = 0;
        ssize_t n = 1;

        if (!text)
                return cli_out_of_memory();
        while (n != 0 && size <= ASK_MAX) {
                n = read(STDIN_FILENO, text + size, ASK_MAX + 1 - size);
                if (n < 0 && errno != EINTR) {
                        cli_complain("cannot read stdin: %s", strerror(errno));
                        free(text);
                        return STATUS_PMUX;
                }
                size += n > 0 ? (size_t)n : 0;
        }
        if (size > ASK_MAX) {
                free(text);
                return cli_usage(cli, "a question has at most %d bytes", ASK_MAX);
        }
        *ret_text = text;
        *ret_size = size;
        return 0;
}

static int set_question(ReadParams *read, char **words, int n_words, bool newline, bool eof) {
        char *text = NULL;
        size_t size = 0;
        json_t *data;
        int r = 0;

        if (n_words > 0)
                text = text_join(words, n_words, newline, &size);
        else if (eof && isatty(STDIN_FILENO))
                text = strdup("");
        else
                r = read_question(read->cli, &text, &size);
        if (r != 0)
                return r;
        data = text ? bytes_to_json(text, size) : NULL;
        free(text);
        return read_params_set(read, "data", data);
}

static int ask(ReadParams *read, int argc, char **argv) {
        static const struct option options[] = { { "no-newline", no_argument, NULL, 'N' },
                                                 { "eof", no_argument, NULL, OPTION_EOF },
                                                 { "lock", required_argument, NULL, OPTION_LOCK },
                                                 READ_OPTIONS,
                                                 FILTER_OPTIONS,
                                                 {} };
        bool newline = true, eof = false;
        json_auto_t *result = NULL;
        Arguments arguments;
        json_t *target;
        char **rest;
        int c, n, r = 0;

        arguments_init(&arguments, read->cli, argc, argv, options, false);
        while ((c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status;
                newline &= c != 'N';
                eof |= c == OPTION_EOF;
                if (c == OPTION_LOCK)
                        r = read_params_set(read, "lock", json_string(optarg));
                else if (c != 'N' && c != OPTION_EOF)
                        r = read_params_option(read, c, optarg);
                if (r != 0)
                        return r;
        }
        if (read->n > READ_PIECE_BYTES)
                return cli_usage(read->cli, "one answer has at most %d bytes", READ_PIECE_BYTES);
        rest = arguments_rest(&arguments, &n);
        r = target_resolve(read->cli, rest, MIN(n, 1), &target);
        if (r == 0)
                r = read_params_set(read, "target", target);
        if (r == 0 && eof)
                r = read_params_set(read, "eof", json_true());
        if (r == 0)
                r = set_question(read, rest + 1, n - 1, newline, eof);
        if (r == 0)
                r = read_params_ready(read);
        if (r == 0)
                r = cli_call(read->cli, "ask", read_params_now(read), &result);
        if (r == 0)
                r = read_params_print(read, result, false);
        return r != 0 ? r : read_params_status(read, result);
}

int verb_ask(Cli *cli, int argc, char **argv) {
        CLEANUP(read_params_deinit) ReadParams read = {};
        int r;

        r = read_params_init(&read, cli);
        return r != 0 ? r : ask(&read, argc, argv);
}
