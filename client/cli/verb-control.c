/* SPDX-License-Identifier: MIT */

/* start, stop, restart, pause, resume, rm, signal: what is done to processes. */

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/arguments.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/target.h"
#include "client/cli/text.h"
#include "common/parse.h"

enum {
        OPTION_ALL = ARGUMENTS_LONG,
        OPTION_NOW,
        OPTION_MAIN,
        OPTION_GROUP,
        OPTION_TREE
};

/* What the options of these verbs come to. */
typedef struct Control {
        json_t *params; /* owned; without the targets */
        bool all;
        bool force;
        const char *signal; /* borrowed */
} Control;

static void control_deinit_cleanup(Control *control) {
        json_decref(control->params);
}

static int set_duration(Cli *cli, json_t *params, const char *key, const char *text) {
        Error error = {};
        uint64_t usec;

        if (parse_duration(text, &usec, &error) < 0)
                return cli_usage(cli, "%s", error.text);
        if (usec > INT64_MAX)
                return 0; /* infinity: leave it out, nothing is as long */
        return json_object_set_new(params, key, json_integer((json_int_t)usec)) < 0 ? cli_out_of_memory() : 0;
}

static int set_signal(Cli *cli, json_t *params, const char *text) {
        Error error = {};
        int signal;

        if (parse_signal(text, &signal, &error) < 0)
                return cli_usage(cli, "%s", error.text);
        return json_object_set_new(params, "signal", json_integer(signal)) < 0 ? cli_out_of_memory() : 0;
}

static int on_option(Cli *cli, Control *control, int c) {
        static const char *const scopes[] = { "main", "group", "tree" };

        switch (c) {
        case OPTION_ALL:
                control->all = true;
                return 0;
        case 'f':
                control->force = true;
                return json_object_set_new(control->params, "force", json_true());
        case 'T':
                return set_duration(cli, control->params, "grace_usec", optarg);
        case 's':
                return set_signal(cli, control->params, optarg);
        case OPTION_NOW:
                return json_object_set_new(control->params, "now", json_true());
        default:
                return json_object_set_new(control->params, "scope", json_string(scopes[c - OPTION_MAIN]));
        }
}

/* Reads options and targets. Return: 0; the exit status plus one, for one that may be 0 (--help). */
static int control_read(Cli *cli, Control *control, int argc, char **argv, const struct option *options,
                        TargetAll which, json_t **ret_targets) {
        Arguments arguments;
        char **rest;
        int c, n, r;

        control->params = json_object();
        if (!control->params)
                return cli_out_of_memory() + 1;
        arguments_init(&arguments, cli, argc, argv, options, false);
        while ((c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status + 1;
                r = on_option(cli, control, c);
                if (r != 0)
                        return (r < 0 ? cli_out_of_memory() : r) + 1;
        }
        rest = arguments_rest(&arguments, &n);
        if (control->force && which == TARGET_ALL_ENDED)
                which = TARGET_ALL_ANY;
        r = targets_resolve(cli, rest, n, control->all, which, ret_targets);
        return r != 0 ? r + 1 : 0;
}

/* One call for all targets. */
static int control_call(Cli *cli, const char *method, json_t *params, const json_t *targets,
                        json_t **ret_result) {
        json_t *copy = json_copy(params);

        if (!copy || json_object_set(copy, "targets", (json_t *)targets) < 0) {
                json_decref(copy);
                return cli_out_of_memory();
        }
        return cli_call(cli, method, copy, ret_result);
}

/* pause, resume, rm, signal: one request, whose result is of interest only as JSON. */
static int control_simple(Cli *cli, int argc, char **argv, const struct option *options, const char *method,
                          TargetAll which) {
        CLEANUP(control_deinit) Control control = {};
        json_auto_t *targets = NULL;
        json_auto_t *result = NULL;
        int r;

        r = control_read(cli, &control, argc, argv, options, which, &targets);
        if (r != 0)
                return r - 1;
        if (json_array_size(targets) == 0)
                return STATUS_OK;
        if (strcmp(method, "signal") == 0 && !json_object_get(control.params, "signal"))
                (void)json_object_set_new(control.params, "signal", json_integer(15));
        r = control_call(cli, method, control.params, targets, &result);
        if (r == 0 && cli->json)
                cli_emit_result(result);
        return r;
}

/* start and restart take one target each; the first failure does not keep the others from their turn. */
static int control_each(Cli *cli, int argc, char **argv, const struct option *options, const char *method,
                        TargetAll which) {
        CLEANUP(control_deinit) Control control = {};
        json_auto_t *targets = NULL;
        json_t *target, *params;
        size_t i;
        int r, status = STATUS_OK;

        r = control_read(cli, &control, argc, argv, options, which, &targets);
        if (r != 0)
                return r - 1;
        json_array_foreach(targets, i, target) {
                json_auto_t *result = NULL;

                params = json_copy(control.params);
                if (!params || json_object_set(params, "target", target) < 0) {
                        json_decref(params);
                        return cli_out_of_memory();
                }
                r = cli_call(cli, method, params, &result);
                if (r != 0)
                        status = status != 0 ? status : r;
                else if (cli->json)
                        cli_emit_result(result);
        }
        return status;
}

static const struct option all_options[] = { { "all", no_argument, NULL, OPTION_ALL }, {} };

int verb_start(Cli *cli, int argc, char **argv) {
        return control_each(cli, argc, argv, all_options, "start", TARGET_ALL_ENDED);
}

int verb_restart(Cli *cli, int argc, char **argv) {
        static const struct option options[] = { { "all", no_argument, NULL, OPTION_ALL },
                                                 { "timeout", required_argument, NULL, 'T' },
                                                 {} };

        return control_each(cli, argc, argv, options, "restart", TARGET_ALL_ANY);
}

int verb_pause(Cli *cli, int argc, char **argv) {
        return control_simple(cli, argc, argv, all_options, "pause", TARGET_ALL_RUNNING);
}

int verb_resume(Cli *cli, int argc, char **argv) {
        return control_simple(cli, argc, argv, all_options, "resume", TARGET_ALL_PAUSED);
}

int verb_remove(Cli *cli, int argc, char **argv) {
        static const struct option options[] = { { "all", no_argument, NULL, OPTION_ALL },
                                                 { "force", no_argument, NULL, 'f' },
                                                 {} };

        return control_simple(cli, argc, argv, options, "remove", TARGET_ALL_ENDED);
}

/* Turns the -9, -KILL and -SIGKILL of kill(1) into -s VALUE, in place: "-9" becomes "-s9". Returns false when
 * out of memory. */
static bool translate_signal(int argc, char **argv) {
        int signal;

        for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
                if (argv[i][0] != '-' ||
                    !(isdigit((unsigned char)argv[i][1]) || isupper((unsigned char)argv[i][1])))
                        continue;
                if (parse_signal(argv[i] + 1, &signal, NULL) == 0 &&
                    asprintf(&argv[i], "-s%s", argv[i] + 1) < 0)
                        return false;
        }
        return true;
}

int verb_signal(Cli *cli, int argc, char **argv) {
        static const struct option options[] = {
                { "all", no_argument, NULL, OPTION_ALL },   { "signal", required_argument, NULL, 's' },
                { "main", no_argument, NULL, OPTION_MAIN }, { "group", no_argument, NULL, OPTION_GROUP },
                { "tree", no_argument, NULL, OPTION_TREE }, {}
        };

        if (!translate_signal(argc, argv))
                return cli_out_of_memory();
        return control_simple(cli, argc, argv, options, "signal", TARGET_ALL_RUNNING);
}

/* Says what a person would want to know of a stop: who had to be killed, and who is still there. */
static int report_stop(Cli *cli, const json_t *result, bool now) {
        const char *how;
        json_t *process;
        int status = STATUS_OK;
        size_t i, n;
        char *name;

        json_array_foreach(json_object_get(result, "processes"), i, process) {
                how = json_string_value(json_object_get(process, "how"));
                n = json_array_size(json_object_get(process, "survivors"));
                name = text_of_name(process);
                if (n > 0) {
                        cli_complain("'%s': %zu of its processes could not be killed", name, n);
                        status = STATUS_FAILED;
                } else if (how && strcmp(how, "killed") == 0 && !now) {
                        cli_inform(cli, "'%s' did not stop in time and was killed", name);
                }
                free(name);
        }
        return status;
}

int verb_stop(Cli *cli, int argc, char **argv) {
        static const struct option options[] = { { "all", no_argument, NULL, OPTION_ALL },
                                                 { "timeout", required_argument, NULL, 'T' },
                                                 { "signal", required_argument, NULL, 's' },
                                                 { "now", no_argument, NULL, OPTION_NOW },
                                                 {} };
        CLEANUP(control_deinit) Control control = {};
        json_auto_t *targets = NULL;
        json_auto_t *result = NULL;
        int r;

        r = control_read(cli, &control, argc, argv, options, TARGET_ALL_RUNNING, &targets);
        if (r != 0)
                return r - 1;
        if (json_array_size(targets) == 0)
                return STATUS_OK;
        r = control_call(cli, "stop", control.params, targets, &result);
        if (r != 0)
                return r;
        if (cli->json)
                cli_emit_result(result);
        return report_stop(cli, result, json_object_get(control.params, "now") != NULL);
}
