/* SPDX-License-Identifier: MIT */

#include "client/cli/run-params.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/arguments.h"
#include "client/cli/exit-status.h"
#include "common/bytes.h"
#include "common/parse.h"

enum {
        OPTION_CLEAN_ENV = ARGUMENTS_LONG,
        OPTION_TIMEOUT,
        OPTION_KILL_AFTER,
        OPTION_STDIN,
        OPTION_STDOUT,
        OPTION_STDERR,
        OPTION_NO_LOSSLESS,
        OPTION_RM,
        OPTION_LEASE,
        OPTION_SHELL,
        OPTION_RETENTION,
        OPTION_TRANSCRIPT,
};

static const struct option options[] = { { "detach", no_argument, NULL, 'd' },
                                         { "name", required_argument, NULL, 'n' },
                                         { "cwd", required_argument, NULL, 'w' },
                                         { "env", required_argument, NULL, 'e' },
                                         { "clean-env", no_argument, NULL, OPTION_CLEAN_ENV },
                                         { "timeout", required_argument, NULL, OPTION_TIMEOUT },
                                         { "kill-after", required_argument, NULL, OPTION_KILL_AFTER },
                                         { "stdin", required_argument, NULL, OPTION_STDIN },
                                         { "stdout", required_argument, NULL, OPTION_STDOUT },
                                         { "stderr", required_argument, NULL, OPTION_STDERR },
                                         { "no-lossless", no_argument, NULL, OPTION_NO_LOSSLESS },
                                         { "rm", no_argument, NULL, OPTION_RM },
                                         { "lease", required_argument, NULL, OPTION_LEASE },
                                         { "shell", required_argument, NULL, OPTION_SHELL },
                                         { "retention", required_argument, NULL, OPTION_RETENTION },
                                         { "transcript", no_argument, NULL, OPTION_TRANSCRIPT },
                                         FILTER_OPTIONS,
                                         {} };

/* What the options say, before it is put together. */
typedef struct Reading {
        Cli *cli;       /* borrowed */
        RunParams *run; /* borrowed */
        const char *shell;
        bool clean_env;
        char **added; /* owned; of -e, each borrowed */
        size_t n_added;
        const char *streams[3]; /* borrowed; --stdin, --stdout, --stderr */
} Reading;

extern char **environ;

static int set(Reading *reading, const char *key, json_t *value) {
        return json_object_set_new(reading->run->params, key, value) < 0 ? cli_out_of_memory() : 0;
}

/* A path as it is meant here, for a daemon that lives elsewhere. */
static char *absolute(const char *base, const char *path) {
        char *whole = NULL;

        if (*path == '/' || strcmp(path, ".") == 0)
                return strdup(*path == '/' ? path : base);
        return asprintf(&whole, "%s%s%s", base, strcmp(base, "/") == 0 ? "" : "/", path) < 0 ? NULL : whole;
}

static int set_path(Reading *reading, const char *key, const char *path, bool as_file) {
        char buffer[PATH_MAX], *here = getcwd(buffer, sizeof(buffer)), *longer = NULL, *whole;
        json_t *value;
        int r;

        if (!here && errno == ERANGE)
                here = longer = getcwd(NULL, 0);
        if (!here && *path != '/') {
                cli_complain("cannot tell the current directory: %s", strerror(errno));
                return exit_status_of_usage("run");
        }
        whole = absolute(here ? here : "/", path);
        free(longer);
        if (!whole)
                return cli_out_of_memory();
        value = bytes_string_to_json(whole);
        r = set(reading, key, as_file ? json_pack("{s:o}", "file", value) : value);
        free(whole);
        return r;
}

static int set_duration(Reading *reading, const char *key, const char *text) {
        Error error = {};
        uint64_t usec;

        if (parse_duration(text, &usec, &error) < 0)
                return cli_usage(reading->cli, "%s", error.text);
        return usec > INT64_MAX ? 0 : set(reading, key, json_integer((json_int_t)usec));
}

static int set_lease(Reading *reading, const char *text) {
        Error error = {};

        if (parse_duration(text, &reading->run->lease_usec, &error) < 0 || reading->run->lease_usec == 0)
                return cli_usage(reading->cli, "--lease takes client, none or a span of time, not '%s'",
                                 text);
        if (reading->run->lease_usec > INT64_MAX)
                reading->run->lease_usec = 0;
        return reading->run->lease_usec == 0 ? 0 : set_duration(reading, "lease", text);
}

static int set_retention(Reading *reading, const char *text) {
        Error error = {};
        uint64_t bytes;

        if (parse_size(text, &bytes, &error) < 0)
                return cli_usage(reading->cli, "%s", error.text);
        return set(reading, "retention_bytes", json_integer((json_int_t)MIN(bytes, (uint64_t)INT64_MAX)));
}

/* The stream is to be what a descriptor of ours is. */
static int set_inherited(Reading *reading, const char *key, int fd) {
        RunParams *run = reading->run;

        if (fcntl(fd, F_GETFD) < 0)
                return cli_usage(reading->cli, "--%s: descriptor %d is not open here", key, fd);
        if (run->n_fds == ARRAY_SIZE(run->fds))
                return cli_usage(reading->cli, "--%s was given too often", key);
        run->fds[run->n_fds] = fd;
        return set(reading, key, json_pack("{s:i}", "fd", (int)run->n_fds++));
}

/* "open", "null", "log", "stdout": whichever words the stream takes; all else is a file's name. */
static int set_stream(Reading *reading, size_t index, const char *text) {
        static const char *const keys[] = { "stdin", "stdout", "stderr" };
        static const char *const words[][3] = { { "open", "null", NULL },
                                                { "log", "null", NULL },
                                                { "log", "null", "stdout" } };
        uint64_t fd;

        reading->streams[index] = text;
        for (size_t i = 0; i < ARRAY_SIZE(words[index]) && words[index][i]; i++)
                if (strcmp(text, words[index][i]) == 0)
                        return set(reading, keys[index], json_string(text));
        if (strcmp(text, "inherit") == 0)
                return set_inherited(reading, keys[index], (int)index);
        if (strncmp(text, "fd:", 3) == 0) {
                if (parse_u64(text + 3, INT32_MAX, &fd, NULL) < 0)
                        return cli_usage(reading->cli, "'%s' is no descriptor", text);
                return set_inherited(reading, keys[index], (int)fd);
        }
        if (!*text)
                return cli_usage(reading->cli, "--%s needs a file", keys[index]);
        return set_path(reading, keys[index], text, true);
}

static int on_flag(Reading *reading, int c) {
        switch (c) {
        case 'd':
                reading->run->detach = true;
                return 0;
        case OPTION_CLEAN_ENV:
                reading->clean_env = true;
                return 0;
        case OPTION_NO_LOSSLESS:
                reading->run->lossless = false;
                return 0;
        case OPTION_TRANSCRIPT:
                return set(reading, "transcript", json_true());
        default:
                return set(reading, "rm", json_true());
        }
}

static int on_option(Reading *reading, int c) {
        switch (c) {
        case 'n':
                return set(reading, "name", bytes_string_to_json(optarg));
        case 'w':
                return set_path(reading, "cwd", optarg, false);
        case 'e':
                if (*optarg == '=' || !*optarg)
                        return cli_usage(reading->cli, "-e takes K=V or K, not '%s'", optarg);
                reading->added[reading->n_added++] = optarg;
                return 0;
        case OPTION_TIMEOUT:
                reading->run->has_timeout = true;
                return set_duration(reading, "timeout_usec", optarg);
        case OPTION_KILL_AFTER:
                return set_duration(reading, "kill_after_usec", optarg);
        case OPTION_STDIN:
        case OPTION_STDOUT:
        case OPTION_STDERR:
                return set_stream(reading, (size_t)(c - OPTION_STDIN), optarg);
        case OPTION_LEASE:
                if (strcmp(optarg, "client") == 0 || strcmp(optarg, "none") == 0)
                        return set(reading, "lease", json_string(optarg));
                return set_lease(reading, optarg);
        case OPTION_SHELL:
                reading->shell = optarg;
                return 0;
        case OPTION_RETENTION:
                return set_retention(reading, optarg);
        case FILTER_OPTION:
        case FILTER_OPTION + 1:
        case FILTER_OPTION + 2:
                return filter_option(&reading->run->filter, reading->cli, c, optarg);
        default:
                return on_flag(reading, c);
        }
}

/* ---- environment and command ---- */

static size_t name_length(const char *variable) {
        return strcspn(variable, "=");
}

static bool same_name(const char *a, const char *b) {
        return name_length(a) == name_length(b) && strncmp(a, b, name_length(a)) == 0;
}

static bool is_replaced(const Reading *reading, const char *variable, size_t from) {
        for (size_t i = from; i < reading->n_added; i++)
                if (same_name(reading->added[i], variable))
                        return true;
        return false;
}

static const char *find_here(const char *name) {
        for (char **p = environ; *p; p++)
                if (same_name(*p, name) && strchr(*p, '='))
                        return *p;
        return NULL;
}

/* The environment as it is here, or PATH alone, with what -e adds; of several -e for one name the last
 * counts. */
static json_t *environment(const Reading *reading) {
        json_t *env = json_array();
        const char *variable;

        for (char **p = environ; env && *p; p++) {
                if (!strchr(*p, '=') || **p == '=' || is_replaced(reading, *p, 0))
                        continue;
                if (!reading->clean_env || same_name(*p, "PATH"))
                        (void)json_array_append_new(env, bytes_string_to_json(*p));
        }
        for (size_t i = 0; env && i < reading->n_added; i++) {
                variable = strchr(reading->added[i], '=') ? reading->added[i] : find_here(reading->added[i]);
                if (variable && !is_replaced(reading, variable, i + 1))
                        (void)json_array_append_new(env, bytes_string_to_json(variable));
        }
        return env;
}

static json_t *command(const Reading *reading, char **words, int n_words) {
        json_t *argv;

        argv = reading->shell ? json_pack("[s, s, o, s]", "/bin/sh", "-c",
                                          bytes_string_to_json(reading->shell), "sh")
                              : json_array();
        for (int i = 0; argv && i < n_words; i++)
                (void)json_array_append_new(argv, bytes_string_to_json(words[i]));
        return argv;
}

/* Where and in what it runs: as this program does, but for what the options said. */
static int set_surroundings(Reading *reading) {
        mode_t mask = umask(0);
        int r;

        (void)umask(mask);
        if (!json_object_get(reading->run->params, "cwd")) {
                r = set_path(reading, "cwd", ".", false);
                if (r != 0)
                        return r;
        }
        r = set(reading, "env", environment(reading));
        if (r == 0)
                r = set(reading, "umask", json_integer((json_int_t)mask));
        return r;
}

static int finish_params(Reading *reading, char **words, int n_words) {
        int r;

        if (n_words == 0 && !reading->shell)
                return cli_usage(reading->cli, "a command is missing");
        r = filter_options_check(&reading->run->filter, reading->cli);
        if (r != 0)
                return r;
        r = set(reading, "argv", command(reading, words, n_words));
        if (r == 0)
                r = set_surroundings(reading);
        reading->run->forward_stdin = !reading->streams[0] || strcmp(reading->streams[0], "open") == 0;
        return r;
}

json_t *run_params_here(Cli *cli) {
        RunParams run = { .params = json_object() };
        Reading reading = { .cli = cli, .run = &run };

        if (run.params && set_surroundings(&reading) == 0)
                return run.params;
        run_params_deinit(&run);
        return NULL;
}

static int read_all(Reading *reading, int argc, char **argv) {
        Arguments arguments;
        char **rest;
        int c, n, r;

        arguments_init(&arguments, reading->cli, argc, argv, options, true);
        while ((c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status + 1;
                r = on_option(reading, c);
                if (r != 0)
                        return r + 1;
        }
        rest = arguments_rest(&arguments, &n);
        r = finish_params(reading, rest, n);
        return r != 0 ? r + 1 : 0;
}

int run_params_read(RunParams *run, Cli *cli, int argc, char **argv) {
        Reading reading = { .cli = cli, .run = run };
        int r;

        *run = (RunParams){ .params = json_object(), .lossless = true };
        reading.added = calloc((size_t)argc, sizeof(*reading.added));
        if (run->params && reading.added)
                r = read_all(&reading, argc, argv);
        else
                r = cli_out_of_memory() + 1;
        free(reading.added);
        return r;
}

void run_params_deinit(RunParams *run) {
        json_decref(run->params);
        run->params = NULL;
}
