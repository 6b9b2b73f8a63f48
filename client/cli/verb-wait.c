/* SPDX-License-Identifier: MIT */

/* wait: until processes are where one wants them; exits as they did. */

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
        OPTION_FOR,
        OPTION_ANY,
        OPTION_TIMEOUT
};

static const char *const wait_fors[] = { "exited", "closed", "empty", "ready", "running" };

static bool known_for(const char *what) {
        for (size_t i = 0; i < ARRAY_SIZE(wait_fors); i++)
                if (strcmp(what, wait_fors[i]) == 0)
                        return true;
        return false;
}

static int on_option(Cli *cli, json_t *params, int c, bool *ret_all) {
        Error error = {};
        uint64_t usec;

        switch (c) {
        case OPTION_ALL:
                *ret_all = true;
                return 0;
        case OPTION_ANY:
                return json_object_set_new(params, "any", json_true());
        case OPTION_FOR:
                if (!known_for(optarg))
                        return cli_usage(cli, "--for takes exited, closed, empty, ready or running, not '%s'",
                                         optarg);
                return json_object_set_new(params, "for", json_string(optarg));
        default:
                if (parse_duration(optarg, &usec, &error) < 0)
                        return cli_usage(cli, "%s", error.text);
                if (usec > INT64_MAX)
                        return 0;
                return json_object_set_new(params, "timeout_usec", json_integer((json_int_t)usec));
        }
}

/* The status that the waiting comes to: that of the first process that did not end with 0. One that still
 * runs counts as 0: with --any it is one of the others, with --for closed it has daemonized. */
static int wait_status(const json_t *result) {
        json_t *process, *exit;
        int status;
        size_t i;

        json_array_foreach(json_object_get(result, "processes"), i, process) {
                if (target_is_running(process))
                        continue;
                exit = json_object_get(process, "exit");
                status = exit_status_of_exit(exit);
                if (!json_is_true(json_object_get(exit, "known"))) {
                        char *name = text_of_name(process);

                        cli_complain("the exit status of '%s' is not known", name);
                        free(name);
                }
                if (status != 0)
                        return status;
        }
        return STATUS_OK;
}

int verb_wait(Cli *cli, int argc, char **argv) {
        static const struct option options[] = { { "all", no_argument, NULL, OPTION_ALL },
                                                 { "for", required_argument, NULL, OPTION_FOR },
                                                 { "any", no_argument, NULL, OPTION_ANY },
                                                 { "timeout", required_argument, NULL, OPTION_TIMEOUT },
                                                 {} };
        json_auto_t *params = json_object();
        json_auto_t *result = NULL;
        const char *what, *reason;
        json_t *targets = NULL;
        Arguments arguments;
        bool all = false;
        char **rest;
        int c, n, r;

        if (!params)
                return cli_out_of_memory();
        arguments_init(&arguments, cli, argc, argv, options, false);
        while ((c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status;
                r = on_option(cli, params, c, &all);
                if (r != 0)
                        return r < 0 ? cli_out_of_memory() : r;
        }
        rest = arguments_rest(&arguments, &n);
        r = targets_resolve(cli, rest, n, all, TARGET_ALL_RUNNING, &targets);
        if (r != 0)
                return r;
        r = json_array_size(targets) > 0;
        (void)json_object_set_new(params, "targets", targets);
        if (r == 0)
                return STATUS_OK;
        r = cli_call(cli, "wait", json_incref(params), &result);
        if (r != 0)
                return r;
        if (cli->json)
                cli_emit_result(result);
        reason = json_string_value(json_object_get(result, "reason"));
        if (reason && strcmp(reason, "timeout") == 0)
                return STATUS_DEADLINE;
        what = json_string_value(json_object_get(params, "for"));
        if (what && (strcmp(what, "running") == 0 || strcmp(what, "ready") == 0))
                return STATUS_OK;
        return wait_status(result);
}
