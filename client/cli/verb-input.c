/* SPDX-License-Identifier: MIT */

/* write, close-stdin, cancel-input: a process's stdin. */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/arguments.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/target.h"
#include "client/cli/text-join.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/parse.h"

#define READ_BYTES (256 * 1024)
#define WRITE_MAX (1024 * 1024) /* bytes of one "write" */
#define FOR_EVER_USEC ((json_int_t)1 << 50)

enum {
        OPTION_EOF = ARGUMENTS_LONG,
        OPTION_DRAIN,
        OPTION_TIMEOUT,
        OPTION_CONSUMED,
        OPTION_LOCK
};

typedef struct Writing {
        Cli *cli; /* borrowed */
        bool no_newline;
        bool eof;
        bool drain;
        bool consumed;
        const char *lock; /* borrowed; NULL: none */
        uint64_t timeout_usec;
        uint64_t deadline_usec; /* monotonic */
        json_t *target;         /* owned */
} Writing;

static uint64_t time_left(const Writing *writing) {
        uint64_t now;

        if (writing->timeout_usec == USEC_INFINITY)
                return PMUX_INFINITY;
        now = clock_monotonic_usec();
        return now < writing->deadline_usec ? writing->deadline_usec - now : 0;
}

static void emit_positions(const Writing *writing, const PmuxInput *input) {
        if (writing->cli->json)
                cli_emit(json_pack("{s:I, s:I, s:I}", "bytes", (json_int_t)pmux_input_written(input),
                                   "accepted", (json_int_t)pmux_input_accepted(input), "taken",
                                   (json_int_t)pmux_input_taken(input)));
}

/* The stream was ended: what came before it is not taken back, so that one can go on behind it. */
static int stream_failed(const Writing *writing, const PmuxInput *input, const PmuxError *error) {
        int status;

        emit_positions(writing, input);
        status = cli_fail(writing->cli, error);
        if (!writing->cli->json && pmux_input_accepted(input) > 0)
                cli_complain("%llu bytes were accepted before that",
                             (unsigned long long)pmux_input_accepted(input));
        return status;
}

static int deadline_passed(const Writing *writing, const PmuxInput *input) {
        const PmuxError error = { .code = "timeout",
                                  .errno_value = ETIMEDOUT,
                                  .message = "the input was not taken in time" };

        return stream_failed(writing, input, &error);
}

/* A stream to the target, whose name may be any bytes: the library takes ids and names as text. */
static int open_input(const Writing *writing, PmuxInput **ret_input) {
        const PmuxInputOptions options = { .size = sizeof(options), .lock = writing->lock };
        CLEANUP(bytes_deinit) Bytes name = {};
        char id[24];
        const char *target = id;
        PmuxError error;
        Error own = {};
        int r;

        if (json_is_integer(writing->target)) {
                (void)snprintf(id, sizeof(id), "%lld", (long long)json_integer_value(writing->target));
        } else {
                if (bytes_from_json(writing->target, "target", &name, &own) < 0)
                        return cli_fail_error(writing->cli, &own);
                target = name.data;
        }
        r = cli_connect(writing->cli);
        if (r != 0)
                return r;
        return pmux_input_open(writing->cli->pmux, target, &options, ret_input, &error) < 0
                       ? cli_fail(writing->cli, &error)
                       : 0;
}

static void add_timeout(const Writing *writing, json_t *params) {
        uint64_t left_usec = time_left(writing);

        if (params && left_usec != PMUX_INFINITY)
                (void)json_object_set_new(params, "timeout_usec", json_integer((json_int_t)left_usec));
}

/* Until the process has read all that it was given: a write of nothing waits for that. */
static int wait_consumed(const Writing *writing) {
        json_t *params = json_pack("{s:O, s:s, s:b, s:s*}", "target", writing->target, "data", "", "consumed",
                                   1, "lock", writing->lock);

        add_timeout(writing, params);
        return cli_call(writing->cli, "write", params, NULL);
}

/* Everything is handed over: wait for the daemon, and for the process with --drain. */
static int finish_input(const Writing *writing, PmuxInput *input) {
        PmuxError error;
        int r;

        if (writing->eof && pmux_input_eof(input, &error) < 0)
                return stream_failed(writing, input, &error);
        if (pmux_input_flush(input, writing->drain || writing->consumed, time_left(writing), &error) < 0)
                return stream_failed(writing, input, &error);
        r = writing->consumed ? wait_consumed(writing) : 0;
        if (r != 0)
                return r;
        emit_positions(writing, input);
        return STATUS_OK;
}

/* One turn of copying: waits for stdin or the daemon. Return: 1 at the end of stdin; 0; -1: *ret_status. */
static int copy_turn(const Writing *writing, PmuxInput *input, uint8_t *buffer, int *ret_status) {
        struct pollfd fds[] = { { .fd = pmux_fd(writing->cli->pmux), .events = POLLIN },
                                { .fd = STDIN_FILENO, .events = POLLIN } };
        size_t room = pmux_input_room(input);
        uint64_t left = time_left(writing);
        PmuxError error;
        ssize_t n;

        if (left == 0) {
                *ret_status = deadline_passed(writing, input);
                return -1;
        }
        if (room == 0)
                fds[1].fd = -1;
        (void)poll(fds, 2, left == PMUX_INFINITY ? -1 : (int)MIN(left / USEC_PER_MSEC + 1, (uint64_t)60000));
        if (fds[0].revents)
                (void)pmux_dispatch(writing->cli->pmux, NULL); /* a failure closes the input, too */
        if (room == 0 || fds[1].revents == 0) {
                n = pmux_input_write(input, "", 0, &error); /* only to learn whether it is closed */
        } else {
                n = read(STDIN_FILENO, buffer, MIN(room, (size_t)READ_BYTES));
                if (n == 0)
                        return 1;
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return 0;
                if (n < 0) {
                        cli_complain("cannot read stdin: %s", strerror(errno));
                        *ret_status = STATUS_FAILED;
                        return -1;
                }
                n = pmux_input_write(input, buffer, (size_t)n, &error);
        }
        if (n >= 0)
                return 0;
        *ret_status = stream_failed(writing, input, &error);
        return -1;
}

static int copy_stdin(const Writing *writing) {
        uint8_t *buffer = malloc(READ_BYTES);
        PmuxInput *input = NULL;
        int r, status;

        if (!buffer)
                return cli_out_of_memory();
        status = open_input(writing, &input);
        if (status == 0) {
                do
                        r = copy_turn(writing, input, buffer, &status);
                while (r == 0);
                if (r > 0)
                        status = finish_input(writing, input);
        }
        (void)pmux_input_free(input);
        free(buffer);
        return status;
}

/* TEXT that is too long to go as one piece goes as a stream. */
static int stream_text(const Writing *writing, const char *text, size_t size) {
        PmuxInput *input = NULL;
        PmuxError error;
        size_t done = 0;
        ssize_t n;
        int status;

        status = open_input(writing, &input);
        while (status == 0 && done < size) {
                n = pmux_input_write(input, text + done, size - done, &error);
                if (n < 0)
                        status = stream_failed(writing, input, &error);
                else if (n == 0 && time_left(writing) == 0)
                        status = deadline_passed(writing, input);
                else if (n == 0)
                        (void)pmux_turn(writing->cli->pmux, time_left(writing), NULL);
                done += n > 0 ? (size_t)n : 0;
        }
        if (status == 0)
                status = finish_input(writing, input);
        (void)pmux_input_free(input);
        return status;
}

static int write_text(const Writing *writing, char **words, int n_words) {
        json_auto_t *result = NULL;
        json_t *params;
        size_t size;
        char *text;
        int status;

        text = text_join(words, n_words, !writing->no_newline, &size);
        if (!text)
                return cli_out_of_memory();
        status = cli_connect(writing->cli);
        if (status != 0 || size > WRITE_MAX) {
                status = status != 0 ? status : stream_text(writing, text, size);
                free(text);
                return status;
        }
        params = json_pack("{s:O, s:o, s:b, s:b, s:s*}", "target", writing->target, "data",
                           bytes_to_json(text, size), "eof", writing->eof, "drain", writing->drain, "lock",
                           writing->lock);
        if (params && writing->consumed)
                (void)json_object_set_new(params, "consumed", json_true());
        if (writing->timeout_usec == USEC_INFINITY && params) /* to wait for room, too */
                (void)json_object_set_new(params, "timeout_usec", json_integer(FOR_EVER_USEC));
        else
                add_timeout(writing, params);
        free(text);
        status = cli_call(writing->cli, "write", params, &result);
        if (status == 0 && writing->cli->json)
                cli_emit_result(result);
        return status;
}

int verb_write(Cli *cli, int argc, char **argv) {
        static const struct option options[] = { { "no-newline", no_argument, NULL, 'N' },
                                                 { "eof", no_argument, NULL, OPTION_EOF },
                                                 { "drain", no_argument, NULL, OPTION_DRAIN },
                                                 { "timeout", required_argument, NULL, OPTION_TIMEOUT },
                                                 { "consumed", no_argument, NULL, OPTION_CONSUMED },
                                                 { "lock", required_argument, NULL, OPTION_LOCK },
                                                 {} };
        Writing writing = { .cli = cli, .timeout_usec = USEC_INFINITY };
        Arguments arguments;
        Error error = {};
        char **rest;
        int c, n, status;

        arguments_init(&arguments, cli, argc, argv, options, false);
        while ((c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status;
                writing.no_newline |= c == 'N';
                writing.eof |= c == OPTION_EOF;
                writing.drain |= c == OPTION_DRAIN;
                writing.consumed |= c == OPTION_CONSUMED;
                if (c == OPTION_LOCK)
                        writing.lock = optarg;
                if (c == OPTION_TIMEOUT && parse_duration(optarg, &writing.timeout_usec, &error) < 0)
                        return cli_usage(cli, "%s", error.text);
        }
        rest = arguments_rest(&arguments, &n);
        status = target_resolve(cli, rest, MIN(n, 1), &writing.target);
        if (status != 0)
                return status;
        writing.deadline_usec = clock_monotonic_usec() + MIN(writing.timeout_usec, UINT64_C(1) << 60);
        status = n > 1 ? write_text(&writing, rest + 1, n - 1) : copy_stdin(&writing);
        json_decref(writing.target);
        return status;
}

/* close-stdin and cancel-input: each target is a request; the first failure does not spare the others. */
static int input_each(Cli *cli, int argc, char **argv, const char *method) {
        static const struct option options[] = { { "lock", required_argument, NULL, OPTION_LOCK }, {} };
        int c, n, r, status = STATUS_OK;
        json_auto_t *targets = NULL;
        const char *lock = NULL;
        Arguments arguments;
        json_t *target;
        char **rest;
        size_t i;

        arguments_init(&arguments, cli, argc, argv, options, false);
        while ((c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status;
                lock = optarg;
        }
        rest = arguments_rest(&arguments, &n);
        r = targets_resolve(cli, rest, n, false, TARGET_ALL_NONE, &targets);
        if (r != 0)
                return r;
        json_array_foreach(targets, i, target) {
                json_auto_t *result = NULL;

                r = cli_call(cli, method, json_pack("{s:O, s:s*}", "target", target, "lock", lock), &result);
                if (r != 0)
                        status = status != 0 ? status : r;
                else if (cli->json)
                        cli_emit_result(result);
        }
        return status;
}

int verb_close_stdin(Cli *cli, int argc, char **argv) {
        return input_each(cli, argc, argv, "close-stdin");
}

int verb_cancel_input(Cli *cli, int argc, char **argv) {
        return input_each(cli, argc, argv, "cancel-input");
}
