/* SPDX-License-Identifier: MIT */

/* batch: run the commands of a file, some at a time, and say in order how each went. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/arguments.h"
#include "client/cli/batch-file.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/run-params.h"
#include "client/cli/signals.h"
#include "client/cli/text.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/parse.h"

#define PROGRESS_USEC (100 * USEC_PER_MSEC) /* between two looks of the progress line */
#define MANY 1000 /* commands from which on it is worth asking whether the daemon can hold them */

enum {
        OPTION_TIMEOUT = ARGUMENTS_LONG,
        OPTION_RM,
        OPTION_SHELL,
        OPTION_LEASE,
};

typedef struct Batch {
        Cli *cli; /* borrowed */
        BatchFile file;
        PmuxBatchOptions options;
        json_t *params; /* owned; of all commands */
        bool shell;
        const char *lease;      /* borrowed */
        int signal_fd;          /* owned */
        unsigned n_signals;     /* that ask to stop */
        int signal;             /* the first of them */
        bool broken;            /* nobody reads the results */
        bool shows_progress;    /* there is a progress line */
        uint64_t progress_usec; /* monotonic; when it was drawn last */
        int status;             /* of the last result */
        size_t n_failed;        /* or not begun */
} Batch;

/* ---- results ---- */

/* What the shell would say of it; -1: it was not begun. */
static int status_of(const PmuxBatchResult *result) {
        if (result->error)
                return exit_status_of_error("run", result->error);
        if (!result->started)
                return -1;
        return result->timed_out ? STATUS_DEADLINE : exit_status_of_word(result->exit);
}

static const char *state_of(const PmuxBatchResult *result) {
        if (result->error)
                return result->started ? "unknown" : "failed";
        return result->started ? "exited" : "not-started";
}

static json_t *exit_to_json(const PmuxBatchResult *result) {
        int sig = PMUX_EXIT_SIGNAL(result->exit);
        bool known = !PMUX_EXIT_UNKNOWN(result->exit);

        return json_pack("{s:b, s:o, s:o, s:s?, s:b}", "known", (int)known, "code",
                         known && sig == 0 ? json_integer(PMUX_EXIT_CODE(result->exit)) : json_null(),
                         "signal", sig ? json_integer(sig) : json_null(), "signal_name",
                         sig ? signal_name(sig) : NULL, "core", PMUX_EXIT_CORE(result->exit));
}

static void add_output(json_t *line, const PmuxBatchResult *result) {
        static const char *const names[][2] = { { "stdout", "stdout_bytes" }, { "stderr", "stderr_bytes" } };
        bool cut = false;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                (void)json_object_set_new(
                        line, names[i][0],
                        bytes_to_json(result->out[i] ? result->out[i] : "", result->out_size[i]));
                (void)json_object_set_new(line, names[i][1], json_integer((json_int_t)result->out_total[i]));
                cut |= result->out_size[i] < result->out_total[i];
        }
        (void)json_object_set_new(line, "truncated", json_boolean(cut));
        (void)json_object_set_new(line, "lost_bytes", json_integer((json_int_t)result->lost));
}

static void add_error(json_t *line, const PmuxError *error) {
        const char *named = error->errno_value > 0 ? strerrorname_np(error->errno_value) : NULL;

        (void)json_object_set_new(line, "error",
                                  json_pack("{s:s, s:i, s:s?, s:s?, s:s}", "code", error->code, "errno",
                                            error->errno_value, "errno_name", named, "step",
                                            *error->step ? error->step : NULL, "message", error->message));
}

static void print_json(const Batch *batch, const PmuxBatchResult *result, int status) {
        json_t *line;

        line = json_pack("{s:s, s:I, s:I, s:o, s:s, s:o, s:s}", "type", "result", "number",
                         (json_int_t)result->index + 1, "line",
                         (json_int_t)batch->file.commands[result->index].line, "argv",
                         batch_file_argv(&batch->file, result->index), "state", state_of(result), "status",
                         status < 0 ? json_null() : json_integer(status), "by",
                         result->error || result->timed_out || !result->started ? "pmux" : "process");
        if (line && result->error)
                add_error(line, result->error);
        if (line && result->started) {
                (void)json_object_update_new(
                        line,
                        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "id", (json_int_t)result->id, "run",
                                  (json_int_t)result->run, "start_usec", (json_int_t)result->start_usec,
                                  "end_usec", (json_int_t)result->end_usec, "from", (json_int_t)result->from,
                                  "to", (json_int_t)result->to, "exit",
                                  result->error ? json_null() : exit_to_json(result)));
                add_output(line, result);
        }
        cli_emit(line);
}

static void print_text(const Batch *batch, const PmuxBatchResult *result, int status) {
        json_auto_t *argv = batch_file_argv(&batch->file, result->index);
        char time[32] = "-", number[16] = "-", id[24] = "-", from[24] = "-", to[24] = "-";
        char *command = text_of_argv(argv);

        if (status >= 0)
                (void)snprintf(number, sizeof(number), "%d", status);
        if (result->started) {
                (void)snprintf(id, sizeof(id), "%" PRIu64, result->id);
                (void)snprintf(from, sizeof(from), "%" PRIu64, result->from);
                (void)snprintf(to, sizeof(to), "%" PRIu64, result->to);
        }
        if (result->end_usec > 0)
                (void)snprintf(time, sizeof(time), "%.3f",
                               (double)(result->end_usec - result->start_usec) / (double)USEC_PER_SEC);
        (void)printf("%6zu %6s %9s %7s %10s %10s  %s\n", result->index + 1, number, time, id, from, to,
                     command);
        free(command);
}

static void hide_progress(Batch *batch) {
        if (batch->progress_usec == 0)
                return;
        (void)fputs("\r\033[K", stderr);
        batch->progress_usec = 0;
}

static void on_result(PmuxBatch *pmux_batch, const PmuxBatchResult *result, void *userdata) {
        Batch *batch = userdata;
        int status = status_of(result);

        (void)pmux_batch;
        batch->status = status < 0 ? STATUS_FAILED : status;
        batch->n_failed += status != 0;
        hide_progress(batch);
        if (result->error)
                cli_complain("command %zu (line %u): %s", result->index + 1,
                             batch->file.commands[result->index].line, result->error->message);
        if (batch->broken)
                return;
        if (batch->cli->json)
                print_json(batch, result, status);
        else
                print_text(batch, result, status);
}

/* ---- while it runs ---- */

static void on_progress(PmuxBatch *pmux_batch, const PmuxBatchCounts *counts, void *userdata) {
        uint64_t now_usec = clock_monotonic_usec();
        Batch *batch = userdata;

        if (!batch->broken && cli_flush() < 0) {
                batch->broken = true;
                pmux_batch_stop(pmux_batch, 0);
        }
        if (!batch->shows_progress ||
            (batch->progress_usec > 0 && now_usec - batch->progress_usec < PROGRESS_USEC))
                return;
        (void)fprintf(stderr, "\r%zu of %zu done, %zu running, %zu failed\033[K", counts->ended, counts->n,
                      counts->running, counts->failed);
        batch->progress_usec = now_usec;
}

static void on_signal(PmuxBatch *pmux_batch, void *userdata) {
        Batch *batch = userdata;
        int number;

        while ((number = signals_next(batch->signal_fd)) > 0) {
                if (number == SIGUSR1 || number == SIGUSR2)
                        continue;
                hide_progress(batch);
                cli_inform(batch->cli, batch->n_signals == 0 ? "stopping what runs (once more: by SIGKILL)"
                                                             : "killing what runs");
                if (batch->n_signals == 0)
                        batch->signal = number;
                pmux_batch_stop(pmux_batch, batch->n_signals++ > 0);
        }
}

static int on_command(size_t index, char **ret_params, void *userdata) {
        Batch *batch = userdata;
        json_auto_t *params = json_pack("{s:o}", "argv", batch_file_argv(&batch->file, index));

        *ret_params = params ? json_dumps(params, JSON_COMPACT) : NULL;
        return *ret_params ? 0 : -ENOMEM;
}

/* ---- before ---- */

/* Without --rm every process stays known: say at once if the daemon cannot hold so many. */
static int check_room(Batch *batch) {
        json_auto_t *result = NULL;
        json_t *limit;
        json_int_t room;
        int r;

        if (batch->options.flags & PMUX_BATCH_REMOVE || batch->file.n < MANY)
                return 0;
        r = cli_call(batch->cli, "daemon-status", json_object(), &result);
        if (r != 0)
                return r;
        limit = json_object_get(json_object_get(result, "limits"), "processes");
        room = json_integer_value(json_object_get(limit, "max")) -
               json_integer_value(json_object_get(limit, "used"));
        if (!json_is_object(limit) || room >= (json_int_t)batch->file.n)
                return 0;
        cli_complain("%zu commands are more than the daemon can keep (%lld): use --rm", batch->file.n,
                     (long long)room);
        return STATUS_USAGE;
}

static int read_file(Batch *batch, const char *path) {
        bool is_stdin = !path || strcmp(path, "-") == 0;
        int fd = STDIN_FILENO, r;
        Error error = {};

        if (!is_stdin)
                fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
                (void)error_set_errno(&error, errno, "cannot open '%s'", path);
                return cli_fail_error(batch->cli, &error);
        }
        r = batch_file_read(&batch->file, fd, is_stdin ? "stdin" : path, batch->shell, &error);
        if (!is_stdin)
                (void)fd_close(fd);
        return r < 0 ? cli_fail_error(batch->cli, &error) : 0;
}

static int on_option(Batch *batch, int c) {
        uint64_t value;
        Error error = {};

        switch (c) {
        case 'j':
                if (parse_u64(optarg, PMUX_BATCH_JOBS_MAX, &value, &error) < 0 || value == 0)
                        return cli_usage(batch->cli, "-j takes 1 to %d, not '%s'", PMUX_BATCH_JOBS_MAX,
                                         optarg);
                batch->options.jobs = value;
                return 0;
        case 'k':
                batch->options.flags |= PMUX_BATCH_KEEP_GOING;
                return 0;
        case OPTION_RM:
                batch->options.flags |= PMUX_BATCH_REMOVE;
                return 0;
        case OPTION_SHELL:
                batch->shell = true;
                return 0;
        case OPTION_LEASE:
                if (strcmp(optarg, "client") != 0 && strcmp(optarg, "none") != 0)
                        return cli_usage(batch->cli, "--lease takes client or none, not '%s'", optarg);
                batch->lease = optarg;
                return 0;
        default:
                if (parse_duration(optarg, &value, &error) < 0)
                        return cli_usage(batch->cli, "%s", error.text);
                if (value == 0)
                        return cli_usage(batch->cli, "--timeout takes a span of time above 0");
                batch->options.timeout_usec = value == USEC_INFINITY ? 0 : value;
                return 0;
        }
}

/* ---- the whole ---- */

static int batch_run(Batch *batch) {
        PmuxBatch *pmux_batch;
        PmuxError error;
        char *text;
        int r;

        r = signals_open(&batch->signal_fd);
        if (r < 0)
                cli_complain("signals do not stop what runs: %s", strerror(-r));
        batch->options.on_fd = r < 0 ? NULL : on_signal;
        batch->options.fd = batch->signal_fd;
        text = json_dumps(batch->params, JSON_COMPACT);
        if (!text)
                return cli_out_of_memory();
        batch->options.params = text;
        r = pmux_batch_new(&pmux_batch, batch->cli->pmux, &batch->options, &error);
        if (r >= 0) {
                if (!batch->cli->json && !batch->cli->quiet)
                        (void)printf("%6s %6s %9s %7s %10s %10s  %s\n", "NUMBER", "STATUS", "SECONDS", "ID",
                                     "FROM", "TO", "COMMAND");
                r = pmux_batch_run(pmux_batch, &error);
                (void)pmux_batch_free(pmux_batch);
        }
        free(text);
        hide_progress(batch);
        if (r < 0)
                return cli_fail(batch->cli, &error);
        if (batch->signal > 0)
                return STATUS_SIGNAL + batch->signal;
        if (batch->file.n == 1)
                return batch->status;
        return batch->n_failed > 0 ? STATUS_FAILED : STATUS_OK;
}

static int batch_begin(Batch *batch, const char *path) {
        Cli *cli = batch->cli;
        int r;

        r = read_file(batch, path);
        if (r == 0)
                r = cli_connect(cli);
        if (r == 0)
                r = check_room(batch);
        if (r != 0)
                return r;
        batch->params = run_params_here(cli);
        if (!batch->params)
                return STATUS_FAILED;
        if (batch->lease && json_object_set_new(batch->params, "lease", json_string(batch->lease)) < 0)
                return cli_out_of_memory();
        if (cli->json)
                batch->options.flags |= PMUX_BATCH_OUTPUT;
        batch->shows_progress = !cli->quiet && isatty(STDERR_FILENO);
        batch->options.n = batch->file.n;
        return batch_run(batch);
}

int verb_batch(Cli *cli, int argc, char **argv) {
        static const struct option options[] = { { "jobs", required_argument, NULL, 'j' },
                                                 { "keep-going", no_argument, NULL, 'k' },
                                                 { "timeout", required_argument, NULL, OPTION_TIMEOUT },
                                                 { "rm", no_argument, NULL, OPTION_RM },
                                                 { "shell", no_argument, NULL, OPTION_SHELL },
                                                 { "lease", required_argument, NULL, OPTION_LEASE },
                                                 {} };
        Batch batch = { .cli = cli,
                        .signal_fd = -1,
                        .options = { .size = sizeof(batch.options),
                                     .command = on_command,
                                     .on_result = on_result,
                                     .on_progress = on_progress,
                                     .userdata = &batch } };
        Arguments arguments;
        int c, n, r = 0;
        char **rest;

        arguments_init(&arguments, cli, argc, argv, options, false);
        while (r == 0 && (c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status;
                r = on_option(&batch, c);
        }
        if (r != 0)
                return r;
        rest = arguments_rest(&arguments, &n);
        if (n > 1)
                return cli_usage(cli, "batch takes one file");
        r = batch_begin(&batch, n == 1 ? rest[0] : NULL);
        batch_file_deinit(&batch.file);
        json_decref(batch.params);
        (void)fd_close(batch.signal_fd);
        return r;
}
