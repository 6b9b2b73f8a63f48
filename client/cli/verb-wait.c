/* SPDX-License-Identifier: MIT */

/* wait: until processes are where one wants them; exits as they did. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/arguments.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/target.h"
#include "client/cli/text.h"
#include "common/bytes.h"
#include "common/parse.h"

enum {
        OPTION_ALL = ARGUMENTS_LONG,
        OPTION_FOR,
        OPTION_ANY,
        OPTION_TIMEOUT
};

static const char *const wait_fors[] = { "exited", "closed", "empty", "ready", "running" };

/* Those of them after which a process has a status to exit with. */
#define N_ENDS 3

static bool known_for(const char *what, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(what, wait_fors[i]) == 0)
                        return true;
        return false;
}

static json_t *usec_condition(Cli *cli, const char *text, int *ret_status) {
        Error error = {};
        uint64_t usec;

        if (parse_duration(text, &usec, &error) == 0)
                return json_pack("{s:s, s:I}", "for", "quiet", "quiet_usec",
                                 (json_int_t)MIN(usec, (uint64_t)INT64_MAX / 8));
        *ret_status = cli_usage(cli, "%s", error.text);
        return NULL;
}

static json_t *bytes_condition(Cli *cli, const char *text, int *ret_status) {
        Error error = {};
        uint64_t n;

        if (parse_size(text, &n, &error) == 0)
                return json_pack("{s:s, s:I}", "for", "bytes", "n", (json_int_t)MIN(n, (uint64_t)INT64_MAX));
        *ret_status = cli_usage(cli, "%s", error.text);
        return NULL;
}

/* "exited", "pattern=REGEX", "quiet=T", "bytes=N", "state=S". NULL: *ret_status, after a complaint. */
static json_t *condition_to_json(Cli *cli, const char *text, int *ret_status) {
        *ret_status = 0;
        if (strncmp(text, "pattern=", 8) == 0)
                return json_pack("{s:s, s:o}", "for", "pattern", "pattern", bytes_string_to_json(text + 8));
        if (strncmp(text, "quiet=", 6) == 0)
                return usec_condition(cli, text + 6, ret_status);
        if (strncmp(text, "bytes=", 6) == 0)
                return bytes_condition(cli, text + 6, ret_status);
        if (strncmp(text, "state=", 6) == 0)
                return json_pack("{s:s, s:s}", "for", "state", "state", text + 6);
        if (known_for(text, ARRAY_SIZE(wait_fors)))
                return json_pack("{s:s}", "for", text);
        *ret_status = cli_usage(cli,
                                "--for takes exited, closed, empty, ready, running, pattern=REGEX, quiet=T, "
                                "bytes=N or state=S, not '%s'",
                                text);
        return NULL;
}

static int add_condition(Cli *cli, json_t *params, const char *text) {
        json_t *conditions = json_object_get(params, "conditions"), *condition;
        int status;

        condition = condition_to_json(cli, text, &status);
        if (!condition)
                return status != 0 ? status : -ENOMEM;
        if (conditions)
                return json_array_append_new(conditions, condition);
        return json_object_set_new(params, "conditions", json_pack("[o]", condition));
}

/* One of the old ones, alone, is asked for in the old way, whose answer has a line for each process. */
static int simplify(json_t *params) {
        json_t *conditions = json_object_get(params, "conditions"), *what;
        int r;

        what = json_object_get(json_array_get(conditions, 0), "for");
        if (json_array_size(conditions) != 1 || !known_for(json_string_value(what), ARRAY_SIZE(wait_fors)))
                return 0;
        r = json_object_set(params, "for", what);
        return r < 0 ? r : json_object_del(params, "conditions");
}

/* Whether what has come about is the end of a process, whose status is then ours. */
static bool has_ended(const json_t *params, const json_t *result) {
        json_t *conditions = json_object_get(params, "conditions"), *satisfied, *condition;
        const char *what = json_string_value(json_object_get(params, "for"));
        size_t i;

        if (!conditions)
                return !what || known_for(what, N_ENDS);
        json_array_foreach(json_object_get(result, "satisfied"), i, satisfied) {
                condition = json_array_get(
                        conditions, (size_t)json_integer_value(json_object_get(satisfied, "condition")));
                what = json_string_value(json_object_get(condition, "for"));
                if (what && known_for(what, N_ENDS))
                        return true;
        }
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
                return add_condition(cli, params, optarg);
        default:
                if (parse_duration(optarg, &usec, &error) < 0)
                        return cli_usage(cli, "%s", error.text);
                if (usec > INT64_MAX / 8)
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
        const char *reason;
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
        if (simplify(params) < 0)
                return cli_out_of_memory();
        r = json_array_size(targets) > 0;
        (void)json_object_set_new(params, "targets", targets);
        if (r == 0)
                return STATUS_OK;
        r = cli_call(cli, "wait", json_incref(params), &result);
        if (r != 0)
                return r;
        if (cli->json && json_object_get(params, "conditions"))
                cli_emit(json_incref(result));
        else if (cli->json)
                cli_emit_result(result);
        reason = json_string_value(json_object_get(result, "reason"));
        if (reason && strcmp(reason, "timeout") == 0)
                return STATUS_DEADLINE;
        return has_ended(params, result) ? wait_status(result) : STATUS_OK;
}
