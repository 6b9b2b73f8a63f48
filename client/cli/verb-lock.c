/* SPDX-License-Identifier: MIT */

/* lock, unlock: stdin for one writer alone. renew: a process's lease. */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/arguments.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/target.h"
#include "common/parse.h"

#define TTL_DEFAULT_USEC (30 * USEC_PER_SEC)
#define TTL_MIN_USEC (100 * USEC_PER_MSEC) /* docs/protocol.md, lock-stdin */
#define TTL_MAX_USEC (3600 * USEC_PER_SEC)
#define HOLDER_SIZE 64

enum {
        OPTION_FOR = ARGUMENTS_LONG,
        OPTION_HOLDER,
        OPTION_LOCK
};

/* Who we are, to those that find stdin locked. */
static const char *our_name(char buffer[HOLDER_SIZE]) {
        const char *user = getlogin();

        (void)snprintf(buffer, HOLDER_SIZE, "pmux lock%s%.32s", user ? " by " : "", user ? user : "");
        return buffer;
}

static int lock(Cli *cli, json_t *target, const char *holder, uint64_t ttl_usec, const char *token) {
        char key[PMUX_KEY_SIZE], name[HOLDER_SIZE];
        json_auto_t *result = NULL;
        int r;

        if (!token && pmux_key(key) < 0) /* made here, so that a repeated request is the same lock */
                return cli_out_of_memory();
        r = cli_call(cli, "lock-stdin",
                     json_pack("{s:o, s:s, s:I, s:s}", "target", target, "holder",
                               holder ? holder : our_name(name), "ttl_usec", (json_int_t)ttl_usec, "lock",
                               token ? token : key),
                     &result);
        if (r != 0)
                return r;
        if (cli->json)
                cli_emit_result(result);
        else
                (void)printf("%s\n", json_string_value(json_object_get(result, "lock")));
        return STATUS_OK;
}

int verb_lock(Cli *cli, int argc, char **argv) {
        static const struct option options[] = { { "for", required_argument, NULL, OPTION_FOR },
                                                 { "holder", required_argument, NULL, OPTION_HOLDER },
                                                 { "lock", required_argument, NULL, OPTION_LOCK },
                                                 {} };
        const char *holder = NULL, *token = NULL;
        uint64_t ttl_usec = TTL_DEFAULT_USEC;
        Arguments arguments;
        Error error = {};
        json_t *target;
        char **rest;
        int c, n, r;

        arguments_init(&arguments, cli, argc, argv, options, false);
        while ((c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status;
                if (c == OPTION_FOR && (parse_duration(optarg, &ttl_usec, &error) < 0))
                        return cli_usage(cli, "%s", error.text);
                if (ttl_usec < TTL_MIN_USEC || ttl_usec > TTL_MAX_USEC)
                        return cli_usage(cli, "--for takes 100ms to 1h, not '%s'", optarg);
                if (c == OPTION_HOLDER)
                        holder = optarg;
                if (c == OPTION_LOCK)
                        token = optarg;
        }
        rest = arguments_rest(&arguments, &n);
        r = target_resolve(cli, rest, n, &target);
        return r != 0 ? r : lock(cli, target, holder, ttl_usec, token);
}

int verb_unlock(Cli *cli, int argc, char **argv) {
        Arguments arguments;
        json_t *target;
        char **rest;
        int n, r;

        if (arguments_none(&arguments, cli, argc, argv) == ARGUMENTS_STOP)
                return arguments.status;
        rest = arguments_rest(&arguments, &n);
        if (n != 2)
                return cli_usage(cli, "unlock takes a target and the token that lock printed");
        r = target_resolve(cli, rest, 1, &target);
        return r != 0 ? r
                      : cli_call(cli, "unlock-stdin",
                                 json_pack("{s:o, s:s}", "target", target, "lock", rest[1]), NULL);
}

/* A lease on a client would pass to this one, which is about to leave: that is refused. */
static int renew(Cli *cli, json_t *target) {
        json_auto_t *process = NULL;
        const char *lease;
        Error error = {};
        int r;

        r = cli_call(cli, "show", json_pack("{s:O}", "target", target), &process);
        if (r != 0)
                return r;
        lease = json_string_value(json_object_get(process, "lease"));
        if (!lease || strcmp(lease, "client") != 0)
                return cli_call(cli, "renew", json_pack("{s:O}", "target", target), NULL);
        (void)error_set(&error, ERROR_WRONG_STATE,
                        "the lease is on the client that started it, which renews it");
        return cli_fail_error(cli, &error);
}

int verb_renew(Cli *cli, int argc, char **argv) {
        json_auto_t *targets = NULL;
        Arguments arguments;
        int n, r, status = STATUS_OK;
        json_t *target;
        char **rest;
        size_t i;

        if (arguments_none(&arguments, cli, argc, argv) == ARGUMENTS_STOP)
                return arguments.status;
        rest = arguments_rest(&arguments, &n);
        r = targets_resolve(cli, rest, n, false, TARGET_ALL_NONE, &targets);
        if (r != 0)
                return r;
        json_array_foreach(targets, i, target) {
                r = renew(cli, target);
                status = status != 0 ? status : r;
        }
        return status;
}
