/* SPDX-License-Identifier: MIT */

#include "client/cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/exit-status.h"

#define SCHEMA 1

static void complain(const char *format, va_list ap) {
        char text[1024];

        (void)vsnprintf(text, sizeof(text), format, ap);
        (void)fflush(stdout); /* what was printed before stays before */
        (void)fprintf(stderr, "pmux: %s\n", text);
}

void cli_complain(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        complain(format, ap);
        va_end(ap);
}

void cli_inform(const Cli *cli, const char *format, ...) {
        va_list ap;

        if (cli->quiet)
                return;
        va_start(ap, format);
        complain(format, ap);
        va_end(ap);
}

int cli_usage(Cli *cli, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        complain(format, ap);
        va_end(ap);
        if (cli->verb)
                (void)fprintf(stderr, "usage: pmux %s%s%s\n", cli->verb->name, *cli->verb->usage ? " " : "",
                              cli->verb->usage);
        else
                (void)fprintf(
                        stderr,
                        "usage: pmux [--socket PATH] [--json] [-q] VERB ...   (pmux help lists them)\n");
        return exit_status_of_usage(cli->verb ? cli->verb->name : "");
}

int cli_out_of_memory(void) {
        cli_complain("out of memory");
        return STATUS_FAILED;
}

/* The lost-and-found of a connection, told to people once it takes long enough to be noticed. */
static void on_notice(Pmux *pmux, PmuxNotice notice, void *userdata) {
        const Cli *cli = userdata;

        (void)pmux;
        if (notice == PMUX_NOTICE_LOST && isatty(STDERR_FILENO))
                cli_inform(cli, "the connection to the daemon is lost, trying to get it back");
        else if (notice == PMUX_NOTICE_BACK && isatty(STDERR_FILENO))
                cli_inform(cli, "the connection to the daemon is back");
}

int cli_connect(Cli *cli) {
        const PmuxOptions options = {
                .size = sizeof(options),
                .socket_path = cli->socket_path,
                .flags = PMUX_GREET_LATER | (cli->no_autostart ? PMUX_NO_AUTOSTART : 0),
                .on_notice = on_notice,
                .userdata = cli,
        };
        PmuxError error;

        if (cli->pmux)
                return 0;
        return pmux_open(&cli->pmux, &options, &error) < 0 ? cli_fail(cli, &error) : 0;
}

static const PmuxError no_memory = { .code = "no-memory", .errno_value = ENOMEM, .message = "out of memory" };

static int call_text_quietly(Cli *cli, const char *method, json_t *params, char **ret_text,
                             PmuxError *reterr_error) {
        char *text = NULL;
        int r = -ENOMEM;

        *reterr_error = no_memory;
        if (params)
                text = json_dumps(params, JSON_COMPACT);
        json_decref(params);
        if (text)
                r = pmux_call(cli->pmux, method, text, ret_text, reterr_error);
        free(text);
        return r;
}

/* Takes the text over, which the library has looked at: what can be wrong is the memory. Return: 0; -ENOMEM.
 */
static int result_of_text(char *text, json_t **ret_result) {
        json_t *object = json_loads(text, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);

        free(text);
        if (ret_result && object)
                *ret_result = object;
        else
                json_decref(object);
        return object ? 0 : -ENOMEM;
}

int cli_call_quietly(Cli *cli, const char *method, json_t *params, json_t **ret_result,
                     PmuxError *reterr_error) {
        char *text = NULL;
        int r;

        r = call_text_quietly(cli, method, params, &text, reterr_error);
        return r < 0 ? r : result_of_text(text, ret_result);
}

int cli_call(Cli *cli, const char *method, json_t *params, json_t **ret_result) {
        PmuxError error;
        char *text = NULL;
        int r;

        r = cli_connect(cli);
        if (r != 0) {
                json_decref(params);
                return r;
        }
        if (call_text_quietly(cli, method, params, &text, &error) < 0)
                return cli_fail(cli, &error);
        return result_of_text(text, ret_result) < 0 ? cli_fail(cli, &no_memory) : 0;
}

/* What cli_call_text() waits for. */
typedef struct TextCall {
        Cli *cli; /* borrowed */
        CliTextFn fn;
        void *userdata; /* borrowed */
        bool done;
        int status;
} TextCall;

static void on_text(Pmux *pmux, const char *result, const PmuxError *error, void *userdata) {
        TextCall *call = userdata;

        (void)pmux;
        call->done = true;
        call->status = error ? cli_fail(call->cli, error) : call->fn(call->cli, result, call->userdata);
}

int cli_call_text(Cli *cli, const char *method, json_t *params, CliTextFn fn, void *userdata) {
        TextCall call = { .cli = cli, .fn = fn, .userdata = userdata };
        PmuxError error = no_memory;
        char *text = NULL;
        int r;

        r = cli_connect(cli);
        if (r == 0 && params)
                text = json_dumps(params, JSON_COMPACT);
        json_decref(params);
        if (r != 0)
                return r;
        r = text ? pmux_call_start(cli->pmux, method, text, on_text, &call, NULL, &error) : -ENOMEM;
        free(text);
        if (r < 0)
                return cli_fail(cli, &error);
        while (!call.done)
                (void)pmux_turn(cli->pmux, PMUX_INFINITY,
                                NULL); /* giving up the connection answers the call, too */
        return call.status;
}

int cli_fail(Cli *cli, const PmuxError *error) {
        const char *verb = cli->verb ? cli->verb->name : "";
        const char *named = error->errno_value > 0 ? strerrorname_np(error->errno_value) : NULL;
        int status = exit_status_of_error(verb, error);
        bool says_why;

        says_why = !named || strstr(error->message, strerror(error->errno_value)) ||
                   strcmp(error->code, "spawn-failed") != 0;
        if (says_why)
                cli_complain("%s", error->message);
        else
                cli_complain("%s: %s", error->message, strerror(error->errno_value));
        if (cli->json)
                cli_emit(json_pack("{s:s, s:i, s:{s:s, s:i, s:s?, s:s?, s:s}}", "type", "error", "status",
                                   status, "error", "code", error->code, "errno", error->errno_value,
                                   "errno_name", named, "step", *error->step ? error->step : NULL, "message",
                                   error->message));
        return status;
}

int cli_fail_error(Cli *cli, const Error *error) {
        PmuxError exported = { .errno_value = error->errno_value };

        (void)snprintf(exported.code, sizeof(exported.code), "%s", error_wire_name(error->code));
        (void)snprintf(exported.step, sizeof(exported.step), "%s", error->step);
        (void)snprintf(exported.message, sizeof(exported.message), "%s", error->text);
        return cli_fail(cli, &exported);
}

void cli_emit(json_t *object) {
        json_auto_t *line = json_object();
        char *text = NULL;

        if (line && object && json_object_set_new(line, "schema", json_integer(SCHEMA)) == 0 &&
            json_object_update(line, object) == 0)
                text = json_dumps(line, JSON_COMPACT);
        json_decref(object);
        if (!text) {
                (void)cli_out_of_memory();
                return;
        }
        (void)fputs(text, stdout);
        (void)fputc('\n', stdout);
        free(text);
}

void cli_emit_result(const json_t *result) {
        const json_t *processes = json_object_get(result, "processes");
        json_t *process;
        size_t i;

        if (!json_is_array(processes)) {
                cli_emit(json_copy((json_t *)result));
                return;
        }
        json_array_foreach(processes, i, process) cli_emit(json_incref(process));
}

void die_of_sigpipe(void) {
        sigset_t set;

        (void)signal(SIGPIPE, SIG_DFL);
        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGPIPE);
        (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
        (void)raise(SIGPIPE);
        _exit(128 + SIGPIPE);
}

/* Why stdout failed: a write that failed earlier has left nothing to flush, and errno is another's by now. */
static int stdout_error(bool is_now) {
        struct pollfd pollfd = { .fd = STDOUT_FILENO };

        if (poll(&pollfd, 1, 0) == 1 && pollfd.revents & POLLERR)
                return -EPIPE;
        return errno != 0 && (is_now || errno != EPIPE) ? -errno : -EIO;
}

int cli_flush(void) {
        static int failed; /* -errno of the first failure: later ones say less */

        if (failed == 0 && fflush(stdout) != 0)
                failed = stdout_error(true);
        else if (failed == 0 && ferror(stdout))
                failed = stdout_error(false);
        return failed;
}

int cli_finish(int status) {
        int r = cli_flush();

        if (r == 0)
                return status;
        if (r == -EPIPE)
                die_of_sigpipe();
        cli_complain("cannot write to stdout: %s", strerror(-r));
        return status != 0 ? status : STATUS_FAILED;
}
