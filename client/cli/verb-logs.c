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
#include "client/cli/filter.h"
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
        OPTION_LOSSLESS,
        OPTION_STDIN,
        OPTION_TRANSCRIPT
};

#define N_SOURCES 4

#define WINDOW_SHARED                                                                                        \
        (256 * 1024) /* of each of several streams, so that none of them crowds the others out */

typedef struct Logs Logs;
typedef struct LogsReader LogsReader;

/* One of its streams. */
typedef struct LogsSource {
        LogsReader *reader; /* borrowed */
        Output *output;     /* borrowed */
        Lines lines;        /* where each line gets something before it */
        Filter filter;
        uint64_t time_usec; /* of the record that is being written */
} LogsSource;

/* One process whose log is read. */
struct LogsReader {
        Logs *logs;         /* borrowed */
        PmuxStream *stream; /* owned */
        json_t *target;     /* borrowed */
        char *name;         /* owned */
        RecordJson json;
        LogsSource sources[N_SOURCES];
};

struct Logs {
        Cli *cli;       /* borrowed */
        json_t *params; /* owned; of subscribe, without the target */
        bool follow;
        bool all;
        bool with_time;
        bool by_line;
        bool transcript;
        FilterOptions filter;
        LogsReader *readers; /* owned */
        size_t n_readers;
        size_t n_open;
        Output out;
        Output err;
        Output *outputs[N_SOURCES]; /* borrowed; by source: where it goes to */
        int status;
        bool failed; /* there is no use in going on */
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
        case OPTION_STDIN:
                return add_source(logs, "stdin");
        case OPTION_TRANSCRIPT:
                logs->transcript = true;
                return set(logs, "sources", json_pack("[s, s, s]", "stdin", "stdout", "stderr"));
        case OPTION_HEAD:
                return set_head(logs, optarg);
        case FILTER_OPTION:
        case FILTER_OPTION + 1:
        case FILTER_OPTION + 2:
                return filter_option(&logs->filter, logs->cli, c, optarg);
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
                                         { "stdin", no_argument, NULL, OPTION_STDIN },
                                         { "transcript", no_argument, NULL, OPTION_TRANSCRIPT },
                                         FILTER_OPTIONS,
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
        r = filter_options_check(&logs->filter, logs->cli);
        if (r != 0)
                return r + 1;
        (void)set(logs, "follow", json_boolean(logs->follow));
        rest = arguments_rest(&arguments, &n);
        r = targets_resolve(logs->cli, rest, n, logs->all, TARGET_ALL_ANY, ret_targets);
        return r != 0 ? r + 1 : 0;
}

/* ---- records ---- */

/* What a filter gives out, or the bytes as they came. */
static int write_bytes(void *userdata, const void *data, size_t size) {
        LogsSource *source = userdata;
        int r;

        if (source->reader->logs->by_line)
                r = lines_add(&source->lines, source->output, source->time_usec, data, size);
        else
                r = output_add(source->output, data, size);
        return r == 0 ? output_settle(source->output) : r; /* a filter's bytes go away */
}

static void filter_failed(Logs *logs, const PmuxError *error) {
        if (*error->code && !logs->failed) {
                (void)cli_fail(logs->cli, error);
                logs->status = STATUS_FAILED; /* what is wrong are the data, not the usage */
        }
        logs->failed = true;
}

static void write_data(LogsReader *reader, const PmuxRecord *record) {
        LogsSource *source = &reader->sources[record->source % N_SOURCES];
        PmuxError error;

        source->time_usec = record->time_usec;
        if (filter_options_any(&reader->logs->filter)) {
                if (!reader->logs->failed &&
                    filter_add(&source->filter, record->offset, record->data, record->size, &error) < 0)
                        filter_failed(reader->logs, &error);
        } else if (reader->logs->by_line) {
                (void)lines_add(&source->lines, source->output, record->time_usec, record->data,
                                record->size);
        } else {
                (void)output_add(source->output, record->data, record->size); /* a failure stays in it */
        }
}

static void end_sources(LogsReader *reader) {
        PmuxError error;

        for (size_t i = 0; i < ARRAY_SIZE(reader->sources); i++) {
                if (!reader->logs->failed && filter_end(&reader->sources[i].filter, &error) < 0)
                        filter_failed(reader->logs, &error);
                (void)lines_end(&reader->sources[i].lines, reader->sources[i].output);
        }
}

/* Of which stream the lost bytes were nobody knows. */
static void write_gap(LogsReader *reader, const PmuxRecord *record) {
        PmuxError error;

        cli_complain("%s: %llu bytes lost at offset %llu", reader->name, (unsigned long long)record->value,
                     (unsigned long long)record->offset);
        for (size_t i = 0; i < ARRAY_SIZE(reader->sources); i++)
                if (!reader->logs->failed && filter_gap(&reader->sources[i].filter, &error) < 0)
                        filter_failed(reader->logs, &error);
}

static void on_record(PmuxStream *stream, const PmuxRecord *record, void *userdata) {
        LogsReader *reader = userdata;
        Logs *logs = reader->logs;

        (void)stream;
        if (record->kind == PMUX_END) {
                logs->n_open--;
                end_sources(reader);
                if (record->value == PMUX_END_UNREADABLE) {
                        cli_complain("the log of '%s' cannot be read at offset %llu", reader->name,
                                     (unsigned long long)record->offset);
                        logs->status = STATUS_FAILED;
                }
        }
        if (record->kind == PMUX_GAP)
                write_gap(reader, record);
        if (logs->cli->json)
                record_json_print(&reader->json, record);
        else if (record->kind == PMUX_DATA)
                write_data(reader, record);
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

/* What stands before a line: the process, where there are several, and the stream in a transcript. */
static char *prefix_of(const Logs *logs, const LogsReader *reader, size_t source) {
        static const char *const names[] = { "", "stdout", "stderr", "stdin" };
        char *prefix = NULL;

        if (!logs->transcript)
                return logs->n_readers > 1 ? strdup(reader->name) : NULL;
        if (asprintf(&prefix, "%s%s%s", logs->n_readers > 1 ? reader->name : "",
                     logs->n_readers > 1 ? " " : "", names[source]) < 0)
                return NULL;
        return prefix;
}

static int init_sources(Logs *logs, LogsReader *reader) {
        LogsSource *source;
        PmuxError error;

        for (size_t i = 0; i < ARRAY_SIZE(reader->sources); i++) {
                source = &reader->sources[i];
                source->reader = reader;
                source->output = logs->outputs[i];
                source->lines.with_time = logs->with_time;
                source->lines.name = prefix_of(logs, reader, i);
                if (filter_init(&source->filter, &logs->filter, write_bytes, source, &error) < 0)
                        return cli_fail(logs->cli, &error);
        }
        return 0;
}

static int open_readers(Logs *logs, const json_t *targets) {
        LogsReader *reader;
        json_t *target;
        size_t i;
        int r;

        logs->n_readers = json_array_size(targets);
        logs->by_line = logs->with_time || logs->transcript || logs->n_readers > 1;
        logs->readers = calloc(logs->n_readers, sizeof(*logs->readers));
        if (!logs->readers)
                return cli_out_of_memory();
        json_array_foreach(targets, i, target) {
                reader = &logs->readers[i];
                reader->logs = logs;
                reader->target = target;
                reader->name = name_of(logs, target);
                r = init_sources(logs, reader);
                if (r == 0)
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
                if (logs->failed)
                        return logs->status;
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
        logs.outputs[PMUX_NONE] = logs.outputs[PMUX_STDOUT] = logs.outputs[PMUX_STDIN] = &logs.out;
        logs.outputs[PMUX_STDERR] = output_same(STDOUT_FILENO, STDERR_FILENO) ? &logs.out : &logs.err;
        status = logs_run(&logs, argc, argv);
        for (size_t i = 0; i < logs.n_readers && logs.readers; i++) {
                (void)pmux_stream_free(logs.readers[i].stream);
                record_json_deinit(&logs.readers[i].json);
                free(logs.readers[i].name);
                for (size_t s = 0; s < N_SOURCES; s++) {
                        lines_deinit(&logs.readers[i].sources[s].lines);
                        filter_deinit(&logs.readers[i].sources[s].filter);
                }
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
