/* SPDX-License-Identifier: MIT */

/* logs, follow: what processes wrote, byte for byte. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/arguments.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/lines.h"
#include "client/cli/output.h"
#include "client/cli/record-json.h"
#include "client/cli/target.h"
#include "client/cli/text.h"
#include "common/clock.h"
#include "common/parse.h"

enum {
        OPTION_ALL = ARGUMENTS_LONG,
        OPTION_SINCE,
        OPTION_FROM,
        OPTION_RUN,
        OPTION_STDOUT,
        OPTION_STDERR,
        OPTION_HEAD,
        OPTION_LOSSLESS
};

#define WINDOW_SHARED                                                                                        \
        (256 * 1024) /* of each of several streams, so that none of them crowds the others out */

typedef struct Logs Logs;

/* One process whose log is read. */
typedef struct LogsReader {
        Logs *logs;         /* borrowed */
        PmuxStream *stream; /* owned */
        json_t *target;     /* borrowed */
        char *name;         /* owned */
        RecordJson json;
        Lines lines[3]; /* by source; used with -t and with several processes */
} LogsReader;

struct Logs {
        Cli *cli;       /* borrowed */
        json_t *params; /* owned; of subscribe, without the target */
        bool follow;
        bool all;
        bool with_time;
        bool by_line;
        LogsReader *readers; /* owned */
        size_t n_readers;
        size_t n_open;
        Output out;
        Output err;
        Output *outputs[3]; /* borrowed; by source: where it goes to */
        int status;
};

/* ---- options ---- */

static int set(Logs *logs, const char *key, json_t *value) {
        return json_object_set_new(logs->params, key, value) < 0 ? cli_out_of_memory() : 0;
}

static int set_since(Logs *logs, const char *text) {
        uint64_t now_usec = clock_realtime_usec(), usec;
        Error error = {};

        if (parse_duration(text, &usec, NULL) == 0)
                usec = usec < now_usec ? now_usec - usec : 0;
        else if (parse_timestamp(text, now_usec, &usec, &error) < 0)
                return cli_usage(logs->cli, "%s", error.text);
        return set(logs, "since_usec", json_integer((json_int_t)usec));
}

static int set_number(Logs *logs, const char *key, const char *text, uint64_t max) {
        Error error = {};
        uint64_t n;

        if (parse_u64(text, max, &n, &error) < 0)
                return cli_usage(logs->cli, "%s", error.text);
        return set(logs, key, json_integer((json_int_t)n));
}

static int set_head(Logs *logs, const char *text) {
        Error error = {};
        uint64_t n;

        if (parse_size(text, &n, &error) < 0)
                return cli_usage(logs->cli, "%s", error.text);
        return set(logs, "head_bytes", json_integer((json_int_t)MIN(n, (uint64_t)INT64_MAX)));
}

static int add_source(Logs *logs, const char *name) {
        json_t *sources = json_object_get(logs->params, "sources");

        if (sources)
                return json_array_append_new(sources, json_string(name)) < 0 ? cli_out_of_memory() : 0;
        return set(logs, "sources", json_pack("[s]", name));
}

static int on_option(Logs *logs, int c) {
        switch (c) {
        case 'f':
                logs->follow = true;
                return 0;
        case 't':
                logs->with_time = true;
                return 0;
        case 'n':
                return set_number(logs, "last_lines", optarg, INT64_MAX);
        case OPTION_ALL:
                logs->all = true;
                return 0;
        case OPTION_SINCE:
                return set_since(logs, optarg);
        case OPTION_FROM:
                if (strcmp(optarg, "start") == 0 || strcmp(optarg, "end") == 0)
                        return set(logs, "from", json_string(optarg));
                return set_number(logs, "from", optarg, INT64_MAX);
        case OPTION_RUN:
                return set_number(logs, "run", optarg, UINT32_MAX);
        case OPTION_STDOUT:
                return add_source(logs, "stdout");
        case OPTION_STDERR:
                return add_source(logs, "stderr");
        case OPTION_HEAD:
                return set_head(logs, optarg);
        default:
                return set(logs, "lossless", json_true());
        }
}

static const struct option options[] = { { "follow", no_argument, NULL, 'f' },
                                         { "lines", required_argument, NULL, 'n' },
                                         { "timestamps", no_argument, NULL, 't' },
                                         { "all", no_argument, NULL, OPTION_ALL },
                                         { "since", required_argument, NULL, OPTION_SINCE },
                                         { "from", required_argument, NULL, OPTION_FROM },
                                         { "run", required_argument, NULL, OPTION_RUN },
                                         { "stdout", no_argument, NULL, OPTION_STDOUT },
                                         { "stderr", no_argument, NULL, OPTION_STDERR },
                                         { "head", required_argument, NULL, OPTION_HEAD },
                                         { "lossless", no_argument, NULL, OPTION_LOSSLESS },
                                         {} };

/* Return: 0; the exit status plus one. */
static int read_options(Logs *logs, int argc, char **argv, json_t **ret_targets) {
        Arguments arguments;
        int c, n, r, n_begins;
        char **rest;

        arguments_init(&arguments, logs->cli, argc, argv, options, false);
        while ((c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status + 1;
                r = on_option(logs, c);
                if (r != 0)
                        return r + 1;
        }
        n_begins = (json_object_get(logs->params, "from") != NULL) +
                   (json_object_get(logs->params, "last_lines") != NULL) +
                   (json_object_get(logs->params, "since_usec") != NULL);
        if (n_begins > 1)
                return cli_usage(logs->cli, "-n, --since and --from exclude each other") + 1;
        (void)set(logs, "follow", json_boolean(logs->follow));
        rest = arguments_rest(&arguments, &n);
        r = targets_resolve(logs->cli, rest, n, logs->all, TARGET_ALL_ANY, ret_targets);
        return r != 0 ? r + 1 : 0;
}

/* ---- records ---- */

static int write_data(LogsReader *reader, const PmuxRecord *record) {
        Output *output = reader->logs->outputs[record->source % 3];

        if (reader->logs->by_line)
                return lines_add(&reader->lines[record->source % 3], output, record->time_usec, record->data,
                                 record->size);
        return output_add(output, record->data, record->size);
}

static void on_record(PmuxStream *stream, const PmuxRecord *record, void *userdata) {
        LogsReader *reader = userdata;
        Logs *logs = reader->logs;

        (void)stream;
        if (record->kind == PMUX_END) {
                logs->n_open--;
                for (size_t i = 0; i < ARRAY_SIZE(reader->lines); i++)
                        (void)lines_end(&reader->lines[i], logs->outputs[i]);
                if (record->value == PMUX_END_UNREADABLE) {
                        cli_complain("the log of '%s' cannot be read at offset %llu", reader->name,
                                     (unsigned long long)record->offset);
                        logs->status = STATUS_FAILED;
                }
        }
        if (record->kind == PMUX_GAP)
                cli_complain("%s: %llu bytes lost at offset %llu", reader->name,
                             (unsigned long long)record->value, (unsigned long long)record->offset);
        if (logs->cli->json)
                record_json_print(&reader->json, record);
        else if (record->kind == PMUX_DATA)
                (void)write_data(reader, record); /* a failure stays in the output */
}

static void on_failed(PmuxStream *stream, const PmuxError *error, void *userdata) {
        LogsReader *reader = userdata;

        (void)stream;
        reader->logs->n_open--;
        reader->logs->status = cli_fail(reader->logs->cli, error);
}

static void on_open(PmuxStream *stream, const char *result, void *userdata) {
        LogsReader *reader = userdata;
        json_auto_t *object = json_loads(result, JSON_ALLOW_NUL, NULL);

        (void)stream;
        reader->json.subject = json_pack("{s:O}", "id", json_object_get(object, "id"));
}

static int open_reader(Logs *logs, LogsReader *reader) {
        const PmuxStreamOptions stream_options = {
                .size = sizeof(stream_options),
                .window_bytes = logs->n_readers > 1 ? WINDOW_SHARED : PMUX_INFINITY,
                .on_open = on_open,
                .on_record = on_record,
                .on_failed = on_failed,
                .userdata = reader,
        };
        json_auto_t *params = json_copy(logs->params);
        PmuxError error;
        char *text;
        int r;

        if (!params || json_object_set(params, "target", reader->target) < 0)
                return cli_out_of_memory();
        text = json_dumps(params, JSON_COMPACT);
        if (!text)
                return cli_out_of_memory();
        r = pmux_stream_start(logs->cli->pmux, "subscribe", text, &stream_options, &reader->stream, &error);
        free(text);
        if (r < 0)
                return cli_fail(logs->cli, &error);
        logs->n_open++;
        return 0;
}

/* Ids are what globs come to; a person wants to see the name. */
static char *name_of(Logs *logs, const json_t *target) {
        json_auto_t *status = NULL;
        PmuxError error;

        if (json_is_integer(target) && logs->n_readers > 1 &&
            cli_call_quietly(logs->cli, "show", json_pack("{s:O}", "target", target), &status, &error) == 0)
                return text_of_name(status);
        if (json_is_integer(target)) {
                json_auto_t *object = json_pack("{s:O}", "id", target);

                return text_of_name(object);
        }
        return text_of_bytes(target);
}

static int open_readers(Logs *logs, const json_t *targets) {
        LogsReader *reader;
        json_t *target;
        size_t i;
        int r;

        logs->n_readers = json_array_size(targets);
        logs->by_line = logs->with_time || logs->n_readers > 1;
        logs->readers = calloc(logs->n_readers, sizeof(*logs->readers));
        if (!logs->readers)
                return cli_out_of_memory();
        json_array_foreach(targets, i, target) {
                reader = &logs->readers[i];
                reader->logs = logs;
                reader->target = target;
                reader->name = name_of(logs, target);
                for (size_t s = 0; s < ARRAY_SIZE(reader->lines); s++) {
                        reader->lines[s].with_time = logs->with_time;
                        reader->lines[s].name = logs->n_readers > 1 ? strdup(reader->name) : NULL;
                }
                r = open_reader(logs, reader);
                if (r != 0)
                        return r;
        }
        return 0;
}

/* ---- the loop ---- */

static int write_failed(const char *name, int r) {
        if (r == -EPIPE)
                die_of_sigpipe();
        cli_complain("cannot write to %s: %s", name, strerror(-r));
        return STATUS_FAILED;
}

static int logs_loop(Logs *logs) {
        PmuxError error;
        int r;

        while (logs->n_open > 0) {
                r = pmux_turn(logs->cli->pmux, PMUX_INFINITY, &error);
                if (logs->cli->json && cli_finish(0) != 0)
                        return STATUS_FAILED;
                if (output_drain(&logs->out) < 0)
                        return write_failed("stdout", logs->out.failure);
                if (output_drain(&logs->err) < 0)
                        return write_failed("stderr", logs->err.failure);
                if (r < 0 && logs->n_open > 0)
                        return cli_fail(logs->cli, &error);
        }
        return logs->status;
}

static int logs_run(Logs *logs, int argc, char **argv) {
        json_auto_t *targets = NULL;
        int r;

        logs->params = json_object();
        if (!logs->params)
                return cli_out_of_memory();
        r = read_options(logs, argc, argv, &targets);
        if (r != 0)
                return r - 1;
        if (json_array_size(targets) == 0)
                return STATUS_OK;
        r = cli_connect(logs->cli);
        if (r == 0)
                r = open_readers(logs, targets);
        return r != 0 ? r : logs_loop(logs);
}

static int verb_logs_with(Cli *cli, int argc, char **argv, bool follow) {
        Logs logs = { .cli = cli, .follow = follow };
        int status;

        output_init(&logs.out, STDOUT_FILENO);
        output_init(&logs.err, STDERR_FILENO);
        logs.outputs[PMUX_NONE] = logs.outputs[PMUX_STDOUT] = &logs.out;
        logs.outputs[PMUX_STDERR] = output_same(STDOUT_FILENO, STDERR_FILENO) ? &logs.out : &logs.err;
        status = logs_run(&logs, argc, argv);
        for (size_t i = 0; i < logs.n_readers && logs.readers; i++) {
                (void)pmux_stream_free(logs.readers[i].stream);
                record_json_deinit(&logs.readers[i].json);
                free(logs.readers[i].name);
                for (size_t s = 0; s < ARRAY_SIZE(logs.readers[i].lines); s++)
                        lines_deinit(&logs.readers[i].lines[s]);
        }
        free(logs.readers);
        json_decref(logs.params);
        output_deinit(&logs.out);
        output_deinit(&logs.err);
        return status;
}

int verb_logs(Cli *cli, int argc, char **argv) {
        return verb_logs_with(cli, argc, argv, false);
}

int verb_follow(Cli *cli, int argc, char **argv) {
        return verb_logs_with(cli, argc, argv, true);
}
