/* SPDX-License-Identifier: MIT */

/* daemon, version: the daemon itself. These do not start one. */

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/cli/arguments.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/text.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/parse.h"

#define STOP_PATIENCE_MSEC 10000 /* between the answer to a stop and the daemon's end */

static void print_limits(const json_t *limits) {
        const char *name;
        json_t *limit;

        json_object_foreach((json_t *)limits, name, limit)(void) printf(
                "  %-24s %lld of %lld\n", name, (long long)json_integer_value(json_object_get(limit, "used")),
                (long long)json_integer_value(json_object_get(limit, "max")));
}

static void print_status(const json_t *status) {
        uint64_t start_usec = (uint64_t)json_integer_value(json_object_get(status, "start_usec"));
        const char *version = json_string_value(json_object_get(status, "version"));
        char *socket = text_of_bytes(json_object_get(status, "socket"));
        char *state_dir = text_of_bytes(json_object_get(status, "state_dir"));
        char when[64], span[64];
        uint64_t now_usec = clock_realtime_usec();

        (void)printf("pmuxd %s, protocol %lld\n", version ? version : "?",
                     (long long)json_integer_value(json_object_get(status, "protocol")));
        (void)printf("socket:     %s\nstate:      %s\n", socket, state_dir);
        (void)printf("started:    %s, %s ago\n", text_of_time(when, sizeof(when), start_usec, 0),
                     format_duration(span, sizeof(span),
                                     now_usec > start_usec
                                             ? (now_usec - start_usec) / USEC_PER_SEC * USEC_PER_SEC
                                             : 0));
        (void)printf("keeper:     pid %lld\nengine:     pid %lld, replaced %lld times\n",
                     (long long)json_integer_value(json_object_get(status, "keeper_pid")),
                     (long long)json_integer_value(json_object_get(status, "engine_pid")),
                     (long long)json_integer_value(json_object_get(status, "engine_restarts")));
        (void)printf("cgroups:    %s\n", json_is_true(json_object_get(status, "cgroup")) ? "yes" : "no");
        (void)printf("processes:  %lld, %lld running\n",
                     (long long)json_integer_value(json_object_get(status, "processes")),
                     (long long)json_integer_value(json_object_get(status, "running")));
        (void)printf("limits:\n");
        print_limits(json_object_get(status, "limits"));
        free(socket);
        free(state_dir);
}

static int daemon_status(Cli *cli) {
        json_auto_t *status = NULL;
        int r;

        r = cli_call(cli, "daemon-status", json_object(), &status);
        if (r != 0)
                return r;
        if (cli->json)
                cli_emit(json_incref(status));
        else
                print_status(status);
        return STATUS_OK;
}

/* A descriptor that becomes readable when the daemon has ended; -1 if there is no telling. */
static int watch_keeper(Cli *cli) {
        json_auto_t *status = NULL;
        PmuxError error;
        json_int_t pid;

        if (cli_call_quietly(cli, "daemon-status", json_object(), &status, &error) < 0)
                return -1;
        pid = json_integer_value(json_object_get(status, "keeper_pid"));
        return pid > 1 && pid <= INT_MAX ? (int)syscall(SYS_pidfd_open, (pid_t)pid, 0) : -1;
}

/* Returns when the daemon is gone, so that what comes next does not meet it on its way out. */
static int daemon_stop(Cli *cli, const char *grace) {
        CLEANUP(fd_close) int keeper_fd = -1;
        struct pollfd poll_fd = { .events = POLLIN };
        json_t *params = json_object();
        Error error = {};
        PmuxError failure;
        uint64_t usec;
        int r;

        if (grace && parse_duration(grace, &usec, &error) < 0) {
                json_decref(params);
                return cli_usage(cli, "%s", error.text);
        }
        if (params && grace && usec <= INT64_MAX)
                (void)json_object_set_new(params, "grace_usec", json_integer((json_int_t)usec));
        r = cli_connect(cli);
        if (r != 0) {
                json_decref(params);
                return r;
        }
        keeper_fd = watch_keeper(cli);
        if (cli_call_quietly(cli, "daemon-stop", params, NULL, &failure) < 0 &&
            strcmp(failure.code, "shutting-down") != 0) /* that is what was asked for */
                return cli_fail(cli, &failure);
        poll_fd.fd = keeper_fd;
        if (keeper_fd >= 0)
                (void)poll(&poll_fd, 1, STOP_PATIENCE_MSEC);
        if (cli->json)
                cli_emit(json_object());
        return STATUS_OK;
}

/* Answers before the new binary runs; asking the daemon once more waits until it does. */
static int daemon_upgrade(Cli *cli) {
        json_auto_t *after = NULL;
        int r;

        r = cli_call(cli, "daemon-upgrade", json_object(), NULL);
        if (r == 0)
                r = cli_call(cli, "version", json_object(), &after);
        if (r != 0)
                return r;
        if (cli->json)
                cli_emit(json_incref(after));
        else
                cli_inform(cli, "the daemon is pmuxd %s now",
                           json_string_value(json_object_get(after, "version")));
        return STATUS_OK;
}

int verb_daemon(Cli *cli, int argc, char **argv) {
        static const struct option options[] = { { "timeout", required_argument, NULL, 'T' }, {} };
        const char *grace = NULL;
        Arguments arguments;
        char **rest;
        int c, n;

        arguments_init(&arguments, cli, argc, argv, options, false);
        while ((c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status;
                grace = optarg;
        }
        rest = arguments_rest(&arguments, &n);
        if (n != 1)
                return cli_usage(cli, n == 0 ? "status, stop or upgrade is missing" : "too many words");
        cli->no_autostart = true;
        if (strcmp(rest[0], "status") == 0)
                return daemon_status(cli);
        if (strcmp(rest[0], "stop") == 0)
                return daemon_stop(cli, grace);
        if (strcmp(rest[0], "upgrade") == 0)
                return daemon_upgrade(cli);
        return cli_usage(cli, "daemon takes status, stop or upgrade, not '%s'", rest[0]);
}

/* The daemon's part is left out where none runs: asking for a version starts nothing. */
int verb_version(Cli *cli, int argc, char **argv) {
        PmuxOptions options = { .size = sizeof(options), .flags = PMUX_NO_AUTOSTART | PMUX_NO_RECONNECT };
        json_auto_t *daemon = NULL;
        Arguments arguments;
        PmuxError error;

        if (arguments_none(&arguments, cli, argc, argv) == ARGUMENTS_STOP)
                return arguments.status;
        options.socket_path = cli->socket_path;
        if (pmux_open(&cli->pmux, &options, NULL) == 0)
                (void)cli_call_quietly(cli, "version", json_object(), &daemon, &error);
        if (cli->json) {
                cli_emit(json_pack("{s:s, s:O?}", "client", PMUX_VERSION, "daemon", daemon));
                return STATUS_OK;
        }
        (void)printf("pmux %s\n", PMUX_VERSION);
        if (daemon)
                (void)printf("pmuxd %s, protocol %lld\n",
                             json_string_value(json_object_get(daemon, "version")),
                             (long long)json_integer_value(json_object_get(daemon, "protocol")));
        return STATUS_OK;
}
