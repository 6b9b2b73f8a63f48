/* SPDX-License-Identifier: MIT */

/* run: start a process; in the foreground, be to it what a shell's pipes and signals would be, and exit as it
 * did. */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/feeder.h"
#include "client/cli/filter.h"
#include "client/cli/output.h"
#include "client/cli/record-json.h"
#include "client/cli/run-params.h"
#include "client/cli/signals.h"
#include "client/libpmux/connection.h"
#include "client/libpmux/stream.h"
#include "common/clock.h"
#include "common/fd.h"

#define WINDOW_BYTES (4 * 1024 * 1024)
#define JSON_BUFFER_BYTES (64 * 1024)
#define SIGNALS_MAX 32           /* that wait for the process to exist */
#define SILENT_USEC USEC_PER_SEC /* a daemon that has not answered for so long is not waited for */

typedef struct Attach {
        Cli *cli;             /* borrowed */
        const RunParams *run; /* borrowed */
        PmuxStream *stream;   /* owned */
        Feeder feeder;
        int signal_fd;      /* owned */
        Output *outputs[3]; /* borrowed; by source */
        Filter filters[3];
        RecordJson json;

        uint64_t id; /* 0: not known yet */
        uint32_t run_number;
        int signals[SIGNALS_MAX]; /* came before the id */
        size_t n_signals;
        unsigned n_while_away; /* SIGINT and SIGTERM that came while the daemon did not answer */
        unsigned n_unanswered; /* signals that the daemon was told, or is to be told */
        uint64_t silent_usec;  /* monotonic: since when there are such */

        uint64_t delivered; /* credit of records that are not written out yet */
        bool exited;        /* the exit record has come */
        PmuxRecord exit;
        bool want_details;   /* the reply to "wait" is needed, too */
        json_t *details;     /* owned; EXIT of the run */
        int broken;          /* -errno once our output cannot be written */
        uint64_t renew_usec; /* monotonic: when the lease is renewed next */
        bool over;
        int status;

        Output out;
        Output err;
} Attach;

static void attach_end(Attach *attach, int status) {
        if (attach->over)
                return;
        attach->over = true;
        attach->status = status;
}

/* ---- what comes from the daemon ---- */

/* What a filter gives out goes away: it is written or copied at once. */
static int write_filtered(void *userdata, const void *data, size_t size) {
        Output *output = userdata;
        int r;

        r = output_add(output, data, size);
        return r == 0 ? output_settle(output) : r;
}

/* What cannot be printed as asked fails the output, as a full disk would. */
static void filter_done(Attach *attach, size_t source, int r, const PmuxError *error) {
        if (r == 0 || attach->outputs[source]->failure != 0)
                return;
        cli_complain("%s", error->message);
        attach->outputs[source]->failure = -EILSEQ;
}

static void write_data(Attach *attach, const PmuxRecord *record) {
        PmuxError error;
        int r;

        if (!filter_options_any(&attach->run->filter)) {
                (void)output_add(attach->outputs[record->source], record->data, record->size);
                return;
        }
        r = filter_add(&attach->filters[record->source], record->offset, record->data, record->size, &error);
        filter_done(attach, record->source, r, &error);
}

static void filters_end(Attach *attach) {
        PmuxError error;
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(attach->filters); i++) {
                r = filter_end(&attach->filters[i], &error);
                filter_done(attach, i, r, &error);
        }
}

/* Of which stream the lost bytes were nobody knows. */
static void write_gap(Attach *attach, const PmuxRecord *record) {
        PmuxError error;
        int r;

        cli_complain("%llu bytes of output are lost at offset %llu", (unsigned long long)record->value,
                     (unsigned long long)record->offset);
        for (size_t i = 0; i < ARRAY_SIZE(attach->filters); i++) {
                r = filter_gap(&attach->filters[i], &error);
                filter_done(attach, i, r, &error);
        }
}

static void on_record(PmuxStream *stream, const PmuxRecord *record, void *userdata) {
        Attach *attach = userdata;
        Cli *cli = attach->cli;

        (void)stream;
        attach->delivered += record->kind == PMUX_END ? 0 : pmux_record_cost(record);
        if (attach->exited || attach->over)
                return;
        if (record->kind == PMUX_DATA && !cli->json && record->source < ARRAY_SIZE(attach->outputs))
                write_data(attach, record);
        if (record->kind == PMUX_GAP)
                write_gap(attach, record);
        if (record->kind == PMUX_EXIT) {
                attach->exited = true;
                attach->exit = *record;
                filters_end(attach);
        } else if (cli->json) {
                record_json_print(&attach->json, record);
        }
        if (record->kind == PMUX_END) {
                cli_complain(record->value == PMUX_END_REMOVED
                                     ? "the process was removed before its end was seen"
                                     : "the log of the process cannot be read");
                attach_end(attach, STATUS_PMUX);
        }
}

static void on_failed(PmuxStream *stream, const PmuxError *error, void *userdata) {
        Attach *attach = userdata;

        (void)stream;
        if (!attach->exited)
                attach_end(attach, cli_fail(attach->cli, error));
}

static void on_details(Pmux *pmux, const char *result, const PmuxError *error, void *userdata) {
        json_auto_t *object = NULL;
        Attach *attach = userdata;

        (void)pmux;
        (void)error;
        attach->want_details = false;
        if (!result)
                return; /* the exit record tells what is most needed */
        object = json_loads(result, JSON_ALLOW_NUL, NULL);
        attach->details =
                json_incref(json_object_get(json_array_get(json_object_get(object, "processes"), 0), "exit"));
}

static void on_forwarded(Pmux *pmux, const char *result, const PmuxError *error, void *userdata) {
        Attach *attach = userdata;

        (void)pmux;
        (void)result;
        (void)error; /* what if it has just ended? Then it needs no signal */
        attach->n_unanswered--;
        attach->n_while_away = 0;
        attach->silent_usec = clock_monotonic_usec();
}

static void forward_signal(Attach *attach, int signal) {
        char params[96];

        (void)snprintf(params, sizeof(params), "{\"targets\":[%llu],\"signal\":%d,\"scope\":\"group\"}",
                       (unsigned long long)attach->id, signal);
        if (pmux_call_start(attach->cli->pmux, "signal", params, on_forwarded, attach, NULL, NULL) < 0)
                attach->n_unanswered--;
}

static void on_open(PmuxStream *stream, const char *result, void *userdata) {
        json_auto_t *object = json_loads(result, JSON_ALLOW_NUL, NULL);
        Attach *attach = userdata;
        char params[64];

        (void)stream;
        attach->id = (uint64_t)json_integer_value(json_object_get(object, "id"));
        attach->run_number = (uint32_t)json_integer_value(json_object_get(object, "run"));
        attach->json.subject = json_pack("{s:I}", "id", (json_int_t)attach->id);
        if (attach->cli->json)
                cli_emit(json_pack("{s:s, s:O}", "type", "started", "process", object));
        if (attach->run->has_timeout || attach->cli->json) {
                (void)snprintf(params, sizeof(params), "{\"targets\":[%llu]}",
                               (unsigned long long)attach->id);
                attach->want_details = pmux_call_start(attach->cli->pmux, "wait", params, on_details, attach,
                                                       NULL, NULL) == 0;
        }
        if (attach->run->forward_stdin && !feeder_stdin_is_empty())
                feeder_start(&attach->feeder, attach->id);
        for (size_t i = 0; i < attach->n_signals; i++)
                forward_signal(attach, attach->signals[i]);
        attach->n_signals = 0;
}

/* ---- what comes from here ---- */

/* Whether an earlier signal should have been answered by now. */
static bool daemon_is_silent(const Attach *attach) {
        return attach->n_unanswered > 0 && clock_monotonic_usec() - attach->silent_usec >= SILENT_USEC;
}

/* With the daemon away, or stopped, a signal cannot be forwarded: it waits; a second one to end ends this
 * program. */
static void on_signal(Attach *attach, int signal) {
        bool to_end = signal == SIGINT || signal == SIGTERM;

        if (to_end && (daemon_is_silent(attach) || !pmux_connected(attach->cli->pmux))) {
                if (++attach->n_while_away > 1) {
                        cli_complain(attach->id > 0 ? "leaving; the process is left to the daemon"
                                                    : "leaving; the daemon may start the process yet");
                        attach_end(attach, STATUS_PMUX);
                        return;
                }
                cli_inform(attach->cli, "the daemon does not answer; once more leaves it");
        }
        if (attach->id == 0 && attach->n_signals == SIGNALS_MAX)
                return;
        if (attach->n_unanswered++ == 0)
                attach->silent_usec = clock_monotonic_usec();
        if (attach->id > 0)
                forward_signal(attach, signal);
        else
                attach->signals[attach->n_signals++] = signal;
}

static void on_stopped(Pmux *pmux, const char *result, const PmuxError *error, void *userdata) {
        Attach *attach = userdata;

        (void)pmux;
        (void)result;
        (void)error;
        attach_end(attach, STATUS_PMUX);
}

/* Nobody reads our output any more. A pipe would kill the process with SIGPIPE, so it is stopped with that;
 * until it has ended, what it writes is dropped. */
static void output_broke(Attach *attach, const char *name, int r) {
        char params[80];

        if (attach->broken != 0)
                return;
        attach->broken = r;
        if (r != -EPIPE && r != -EILSEQ) /* of the latter it has been told what is wrong */
                cli_complain("cannot write to %s: %s", name, strerror(-r));
        (void)snprintf(params, sizeof(params), "{\"targets\":[%llu],\"signal\":%d}",
                       (unsigned long long)attach->id, SIGPIPE);
        if (attach->exited ||
            pmux_call_start(attach->cli->pmux, "stop", params, on_stopped, attach, NULL, NULL) < 0)
                attach_end(attach, STATUS_PMUX);
}

/* Writes what goes out; what has gone out may come again from the daemon. */
static void attach_write(Attach *attach) {
        int r;

        if (attach->cli->json)
                (void)fflush(stdout); /* into attach->out */
        r = output_settle(&attach->out);
        if (r < 0)
                output_broke(attach, "stdout", r);
        r = output_settle(&attach->err);
        if (r < 0)
                output_broke(attach, "stderr", r);
        if (attach->delivered > attach->out.pending + attach->err.pending) {
                pmux_stream_consumed(attach->stream,
                                     attach->delivered - attach->out.pending - attach->err.pending);
                attach->delivered = attach->out.pending + attach->err.pending;
        }
}

/* ---- the loop ---- */

/* How long until the lease is to be renewed, which is done three times in T; milliseconds, -1: never. */
static int renew_msec(const Attach *attach) {
        uint64_t now_usec = clock_monotonic_usec();

        if (attach->run->lease_usec == 0 || attach->id == 0)
                return -1;
        if (now_usec >= attach->renew_usec)
                return 0;
        return (int)MIN((attach->renew_usec - now_usec) / USEC_PER_MSEC + 1, (uint64_t)60000);
}

static void renew(Attach *attach) {
        char params[48];

        if (renew_msec(attach) != 0)
                return;
        (void)snprintf(params, sizeof(params), "{\"target\":%llu}", (unsigned long long)attach->id);
        (void)pmux_call_start(attach->cli->pmux, "renew", params, NULL, NULL, NULL, NULL);
        attach->renew_usec = clock_monotonic_usec() + attach->run->lease_usec / 3;
}

static struct pollfd poll_output(const Output *output) {
        return (struct pollfd){ .fd = output->pending > 0 ? output_poll_fd(output) : -1, .events = POLLOUT };
}

static void attach_dispatch(Attach *attach) {
        PmuxError error;

        if (pmux_dispatch(attach->cli->pmux, &error) < 0 && !attach->exited && !attach->over)
                attach_end(attach, cli_fail(attach->cli, &error));
}

static void attach_turn(Attach *attach) {
        struct pollfd fds[5];
        int timeout_msec, lease_msec = renew_msec(attach), signal;

        fds[0] = (struct pollfd){ .fd = pmux_fd(attach->cli->pmux), .events = POLLIN };
        fds[1] = (struct pollfd){ .fd = attach->signal_fd, .events = POLLIN };
        timeout_msec = feeder_poll(&attach->feeder, &fds[2]);
        fds[3] = poll_output(&attach->out);
        fds[4] = poll_output(&attach->err);
        if (lease_msec >= 0)
                timeout_msec = timeout_msec < 0 ? lease_msec : MIN(timeout_msec, lease_msec);
        (void)poll(fds, ARRAY_SIZE(fds), timeout_msec);
        if (fds[1].revents && attach->n_unanswered > 0) /* the answer may be here */
                attach_dispatch(attach);
        while ((signal = signals_next(attach->signal_fd)) > 0)
                on_signal(attach, signal);
        if (fds[2].fd >= 0 && fds[2].revents)
                feeder_turn(&attach->feeder);
        renew(attach);
        attach_dispatch(attach);
        attach_write(attach);
}

static bool attach_timed_out(const Attach *attach) {
        const char *cause = json_string_value(json_object_get(attach->details, "cause"));

        return cause && strcmp(cause, "timeout") == 0;
}

/* The last line with --json tells the process's own status from pmux's. */
static void print_end(Attach *attach) {
        json_t *subject = attach->json.subject;

        (void)json_object_set_new(subject, "exited", json_boolean(attach->exited));
        (void)json_object_set_new(subject, "status", json_integer(attach->status));
        (void)json_object_set_new(subject, "by",
                                  json_string(attach->status == STATUS_DEADLINE && attach_timed_out(attach)
                                                      ? "pmux"
                                                      : "process"));
        if (attach->details)
                (void)json_object_set(subject, "exit", attach->details);
        record_json_print(&attach->json, &attach->exit);
}

static int attach_finish(Attach *attach) {
        if (attach->broken == -EPIPE)
                die_of_sigpipe();
        if (attach->broken != 0)
                return STATUS_PMUX;
        if (!attach->exited)
                return attach->status;
        attach->status = json_is_object(attach->details) ? exit_status_of_exit(attach->details)
                                                         : exit_status_of_word(attach->exit.value);
        if (attach->status == STATUS_PMUX && PMUX_EXIT_UNKNOWN(attach->exit.value))
                cli_complain("the exit status of the process is not known");
        if (attach->cli->json)
                print_end(attach);
        return attach->status;
}

static int attach_start(Attach *attach, json_t *params) {
        const PmuxStreamOptions options = {
                .size = sizeof(options),
                .window_bytes = WINDOW_BYTES,
                .flags = PMUX_STREAM_MANUAL_CREDIT,
                .on_open = on_open,
                .on_record = on_record,
                .on_failed = on_failed,
                .userdata = attach,
        };
        PmuxError exported;
        Error error = {};
        int r;

        (void)json_object_set_new(
                params, "subscribe",
                json_pack("{s:b, s:s}", "lossless", attach->run->lossless, "until", "forever"));
        if (attach->run->forward_stdin && feeder_stdin_is_empty())
                (void)json_object_set_new(params, "eof", json_true());
        r = signals_open(&attach->signal_fd);
        if (r < 0)
                cli_complain("signals cannot be forwarded: %s", strerror(-r));
        feeder_init(&attach->feeder, attach->cli->pmux);
        /* Not as text, which would be read at once by the one that it is given to. */
        r = stream_start(attach->cli->pmux, "run", json_incref(params), &options, &attach->stream, &error);
        if (r == 0)
                return 0;
        (void)error_export(&exported, &error, r);
        return cli_fail(attach->cli, &exported);
}

static ssize_t write_json(void *cookie, const char *data, size_t size) {
        Attach *attach = cookie;
        int r;

        r = output_add(&attach->out, data, size);
        if (r == 0)
                r = output_settle(&attach->out); /* the buffer is stdio's */
        return r < 0 ? 0 : (ssize_t)size;
}

/* Lines of JSON do not wait in write(2) either. */
static FILE *open_json(Attach *attach) {
        const cookie_io_functions_t functions = { .write = write_json };
        FILE *file = fopencookie(attach, "w", functions);

        if (file)
                (void)setvbuf(file, NULL, _IOFBF, JSON_BUFFER_BYTES);
        return file;
}

/* The last lines get out, however long it takes. */
static int close_json(Attach *attach, FILE *file, int status) {
        (void)fclose(file);
        if (output_drain(&attach->out) == -EPIPE)
                die_of_sigpipe();
        return status;
}

static int run_attached(Cli *cli, const RunParams *run) {
        static Attach attach; /* large, and little of it is touched */
        FILE *real_stdout = stdout, *json = NULL;
        PmuxError error;
        int status;

        attach.cli = cli;
        attach.run = run;
        attach.signal_fd = -1;
        output_init(&attach.out, STDOUT_FILENO);
        output_init(&attach.err, STDERR_FILENO);
        attach.outputs[PMUX_NONE] = attach.outputs[PMUX_STDOUT] = &attach.out;
        attach.outputs[PMUX_STDERR] = output_same(STDOUT_FILENO, STDERR_FILENO) ? &attach.out : &attach.err;
        for (size_t i = 0; i < ARRAY_SIZE(attach.filters); i++)
                if (filter_init(&attach.filters[i], &run->filter, write_filtered, attach.outputs[i], &error) <
                    0)
                        return cli_fail(cli, &error);
        if (cli->json)
                json = open_json(&attach);
        if (json)
                stdout = json;
        status = attach_start(&attach, run->params);
        if (status == 0) {
                while (!attach.over && (!attach.exited || attach.want_details || attach.out.pending > 0 ||
                                        attach.err.pending > 0))
                        attach_turn(&attach);
                status = attach_finish(&attach);
        }
        stdout = real_stdout;
        if (json)
                status = close_json(&attach, json, status);
        feeder_deinit(&attach.feeder);
        for (size_t i = 0; i < ARRAY_SIZE(attach.filters); i++)
                filter_deinit(&attach.filters[i]);
        /* Its end is the stream's: to unsubscribe first would wake the daemon once more for nothing. */
        cli->pmux = pmux_close(cli->pmux);
        (void)fd_close(attach.signal_fd);
        record_json_deinit(&attach.json);
        json_decref(attach.details);
        output_deinit(&attach.out);
        output_deinit(&attach.err);
        return status;
}

static int run_detached(Cli *cli, const RunParams *run) {
        json_auto_t *result = NULL;
        int r;

        r = cli_call(cli, "run", json_incref(run->params), &result);
        if (r != 0)
                return r;
        if (cli->json)
                cli_emit(json_incref(result));
        else
                (void)printf("%lld\n", (long long)json_integer_value(json_object_get(result, "id")));
        return STATUS_OK;
}

int verb_run(Cli *cli, int argc, char **argv) {
        CLEANUP(run_params_deinit) RunParams run = {};
        const char *lease;
        PmuxError error;
        int r;

        r = run_params_read(&run, cli, argc, argv);
        if (r != 0)
                return r - 1;
        lease = json_string_value(json_object_get(run.params, "lease"));
        if (run.detach && strcmp(lease ? lease : "", "client") == 0)
                return cli_usage(cli,
                                 "-d leaves it running; --lease client stops it when this client goes away");
        r = cli_connect(cli);
        if (r != 0)
                return r;
        if (pmux_send_fds(cli->pmux, run.fds, run.n_fds, &error) < 0)
                return cli_fail(cli, &error);
        return run.detach ? run_detached(cli, &run) : run_attached(cli, &run);
}
