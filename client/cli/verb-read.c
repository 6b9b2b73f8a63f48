/* SPDX-License-Identifier: MIT */

/* read, ask: what a process writes, in the portions that a program needs. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/arguments.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/read-loop.h"
#include "client/cli/target.h"
#include "client/cli/text-join.h"
#include "common/bytes.h"
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
        int r;

        r = read_params_init(&loop->read, loop->read.cli);
        if (r != 0)
                return r;
        r = read_read_options(loop, argc, argv);
        if (r != 0)
                return r - 1;
        r = cli_connect(loop->read.cli);
        return r != 0 ? r : read_loop_run(loop, NULL);
}

int verb_read(Cli *cli, int argc, char **argv) {
        CLEANUP(read_loop_deinit) ReadLoop loop = { .read = { .cli = cli } };

        return read_all(&loop, argc, argv);
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

static int ask(ReadLoop *loop, int argc, char **argv) {
        static const char *const asked[] = { "data", "eof", "lock" };
        static const struct option options[] = { { "no-newline", no_argument, NULL, 'N' },
                                                 { "eof", no_argument, NULL, OPTION_EOF },
                                                 { "lock", required_argument, NULL, OPTION_LOCK },
                                                 READ_OPTIONS,
                                                 FILTER_OPTIONS,
                                                 {} };
        bool newline = true, eof = false;
        ReadParams *read = &loop->read;
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
        if (r != 0)
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(asked); i++) /* what else is read for it is no question */
                (void)json_object_del(read->params, asked[i]);
        return read_loop_run(loop, result);
}

int verb_ask(Cli *cli, int argc, char **argv) {
        CLEANUP(read_loop_deinit) ReadLoop loop = {};
        int r;

        r = read_params_init(&loop.read, cli);
        return r != 0 ? r : ask(&loop, argc, argv);
}
