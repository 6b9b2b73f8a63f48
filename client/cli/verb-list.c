/* SPDX-License-Identifier: MIT */

/* ps, status, show: what is known of processes. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/cli/arguments.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/plain-row.h"
#include "client/cli/target.h"
#include "client/cli/text.h"
#include "common/clock.h"
#include "common/parse.h"

#define FILTERS_MAX 16

static const char *const ps_columns[] = { "ID", "NAME", "STATUS", "RUN", "PID", "COMMAND" };

/* What of a STATUS is shown; NULL for all of it, as --json has it. */
static json_t *wanted_fields(const Cli *cli) {
        return cli->json ? NULL
                         : json_pack("[s, s, s, s, s, s, s, s, s, s]", "id", "name", "state", "run", "pid",
                                     "argv", "start_usec", "end_usec", "exit", "tree_empty");
}

/* ---- ps ---- */

static bool filter_known(const char *filter) {
        return strncmp(filter, "state=", 6) == 0 || strncmp(filter, "name=", 5) == 0 ||
               strncmp(filter, "id=", 3) == 0;
}

static bool filter_matches(const json_t *status, const char *filter) {
        const char *value = strchr(filter, '=') + 1;
        const char *state = json_string_value(json_object_get(status, "state"));
        char id[24];

        if (filter[0] == 's')
                return state && strcmp(state, value) == 0;
        if (filter[0] == 'n')
                return target_matches(status, value);
        (void)snprintf(id, sizeof(id), "%lld", (long long)json_integer_value(json_object_get(status, "id")));
        return strcmp(id, value) == 0;
}

static size_t terminal_width(void) {
        struct winsize size;

        if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
                return 0;
        return size.ws_col;
}

static char *number_cell(const json_t *number) {
        char *text = NULL;

        if (!json_is_integer(number) || json_integer_value(number) <= 0)
                text = strdup("-");
        else if (asprintf(&text, "%lld", (long long)json_integer_value(number)) < 0)
                text = NULL;
        if (!text)
                abort();
        return text;
}

static void add_row(TextTable *table, const json_t *status, uint64_t now_usec) {
        json_t *pid = target_is_running(status) ? json_object_get(status, "pid") : NULL;

        text_table_add(table, number_cell(json_object_get(status, "id")));
        text_table_add(table, text_of_bytes(json_object_get(status, "name")));
        text_table_add(table, text_of_status(status, now_usec));
        text_table_add(table, number_cell(json_object_get(status, "run")));
        text_table_add(table, number_cell(pid));
        text_table_add(table, text_of_argv(json_object_get(status, "argv")));
}

static void add_plain_row(TextTable *table, const PlainRow *row, uint64_t now_usec) {
        static const PlainText none = { "-", 1 };
        const PlainText *name = row->name.text ? &row->name : &none;
        char status[80], span[64];
        int n;

        n = snprintf(status, sizeof(status), "running for %s",
                     text_of_age(span, sizeof(span), row->start_usec, now_usec));
        text_table_add_bytes(table, row->id.text, row->id.size);
        text_table_add_bytes(table, name->text, name->size);
        text_table_add_bytes(table, status, (size_t)n);
        text_table_add_bytes(table, row->run.text, row->run.size);
        text_table_add_bytes(table, row->pid.text, row->pid.size);
        text_table_add_bytes(table, row->command, strlen(row->command));
}

/* What 'ps' was asked for. */
typedef struct Listing {
        char *filters[FILTERS_MAX]; /* borrowed */
        size_t n_filters;
} Listing;

/* The next process of a list; the values of a thousand at a time would take ten times the room of their text,
 * and memory that was not used before is what a short program spends most of its time on. Return: new
 * reference; NULL: there is none, or what is there is no value. */
static json_t *list_next(const char **p, const char *end) {
        json_error_t error;
        json_t *status;

        if (**p == ']' || **p == '\0')
                return NULL;
        status = json_loadb(*p, (size_t)(end - *p), JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &error);
        *p += status ? error.position : 0;
        return status;
}

/* Return: whether the text was a list to its end. */
static bool print_list(Cli *cli, const char *text, const Listing *list, TextTable *table) {
        const char *p = strchr(text, '['), *end = text + strlen(text);
        uint64_t now_usec = clock_realtime_usec();
        bool any = cli->json || list->n_filters > 0;
        json_t *status;
        PlainRow row;

        for (size_t i = 0; i < ARRAY_SIZE(ps_columns); i++)
                text_table_add_bytes(table, ps_columns[i], strlen(ps_columns[i]));
        p = p ? p + 1 : end;
        for (;;) {
                bool wanted = true;

                p += strspn(p, " ,\n");
                if (!any && plain_row_read(&row, &p)) {
                        add_plain_row(table, &row, now_usec);
                        continue;
                }
                status = list_next(&p, end);
                if (!status)
                        break;
                for (size_t f = 0; f < list->n_filters; f++)
                        wanted &= filter_matches(status, list->filters[f]);
                if (wanted && cli->json)
                        cli_emit(json_incref(status));
                else if (wanted)
                        add_row(table, status, now_usec);
                json_decref(status);
        }
        if (!cli->json)
                text_table_print(table, terminal_width());
        return *p == ']';
}

static int on_list(Cli *cli, const char *text, void *userdata) {
        TextTable *table = text_table_new(ARRAY_SIZE(ps_columns));
        bool is_list;

        if (!table)
                return cli_out_of_memory();
        is_list = print_list(cli, text, userdata, table);
        (void)text_table_free(table);
        return is_list ? STATUS_OK : cli_out_of_memory(); /* the daemon's JSON is sound */
}

int verb_ps(Cli *cli, int argc, char **argv) {
        static const struct option options[] = { { "all", no_argument, NULL, 'a' },
                                                 { "filter", required_argument, NULL, 'f' },
                                                 {} };
        Arguments arguments;
        Listing list = {};
        bool all = false;
        int c, n;

        arguments_init(&arguments, cli, argc, argv, options, false);
        while ((c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status;
                if (c == 'a') {
                        all = true;
                        continue;
                }
                if (!filter_known(optarg))
                        return cli_usage(cli, "--filter takes state=, name= or id=, not '%s'", optarg);
                if (list.n_filters == FILTERS_MAX)
                        return cli_usage(cli, "more than %d filters", FILTERS_MAX);
                all |= strncmp(optarg, "state=", 6) ==
                       0; /* asking for a state is asking for all that are in it */
                list.filters[list.n_filters++] = optarg;
        }
        if (*arguments_rest(&arguments, &n))
                return cli_usage(cli, "ps takes no targets; --filter name=GLOB picks some");
        return cli_call_text(cli, "list", json_pack("{s:b, s:o?}", "all", all, "fields", wanted_fields(cli)),
                             on_list, &list);
}

/* ---- status ---- */

/* Reads the command line of a verb that takes one target and no options, and shows it. Return: 0; the exit
 * status plus one. */
static int call_show(Cli *cli, int argc, char **argv, bool brief, json_t **ret_status) {
        Arguments arguments;
        json_t *target;
        char **rest;
        int n, r;

        if (arguments_none(&arguments, cli, argc, argv) == ARGUMENTS_STOP)
                return arguments.status + 1;
        rest = arguments_rest(&arguments, &n);
        r = target_resolve(cli, rest, n, &target);
        if (r == 0)
                r = cli_call(cli, "show",
                             json_pack("{s:o, s:o?}", "target", target, "fields",
                                       brief ? wanted_fields(cli) : NULL),
                             ret_status);
        return r != 0 ? r + 1 : 0;
}

int verb_status(Cli *cli, int argc, char **argv) {
        json_auto_t *status = NULL;
        char *name, *words;
        bool running;
        int r;

        r = call_show(cli, argc, argv, true, &status);
        if (r != 0)
                return r - 1;
        running = target_is_running(status);
        if (cli->json) {
                cli_emit(json_incref(status));
                return running ? STATUS_OK : STATUS_STOPPED;
        }
        name = text_of_bytes(json_object_get(status, "name"));
        words = text_of_status(status, clock_realtime_usec());
        (void)printf("%s%sid %lld, run %lld: %s", strcmp(name, "-") == 0 ? "" : name,
                     strcmp(name, "-") == 0 ? "" : ", ",
                     (long long)json_integer_value(json_object_get(status, "id")),
                     (long long)json_integer_value(json_object_get(status, "run")), words);
        if (running)
                (void)printf(", pid %lld", (long long)json_integer_value(json_object_get(status, "pid")));
        (void)printf("\n");
        free(name);
        free(words);
        return running ? STATUS_OK : STATUS_STOPPED;
}

/* ---- show ---- */

static bool ends_with(const char *text, const char *end) {
        size_t n = strlen(text), m = strlen(end);

        return n >= m && strcmp(text + n - m, end) == 0;
}

static bool is_point_in_time(const char *key) {
        return strcmp(key, "start_usec") == 0 || strcmp(key, "end_usec") == 0 ||
               strcmp(key, "created_usec") == 0 || strcmp(key, "expires_usec") == 0;
}

/* One value that is no object and no array of objects, on the line of its key. */
static void print_scalar(const char *key, const json_t *value) {
        char buffer[64], *text;

        if (json_is_integer(value) && is_point_in_time(key)) {
                (void)printf("%s", json_integer_value(value) > 0
                                           ? text_of_time(buffer, sizeof(buffer),
                                                          (uint64_t)json_integer_value(value), 0)
                                           : "-");
        } else if (json_is_integer(value) && (ends_with(key, "_usec") || strcmp(key, "usec") == 0) &&
                   json_integer_value(value) >= 0) {
                (void)printf("%s",
                             format_duration(buffer, sizeof(buffer), (uint64_t)json_integer_value(value)));
        } else if (json_is_integer(value) && ends_with(key, "_bytes") && json_integer_value(value) >= 0) {
                (void)printf("%s", format_size(buffer, sizeof(buffer), (uint64_t)json_integer_value(value)));
        } else if (strcmp(key, "umask") == 0) {
                (void)printf("%03llo", (unsigned long long)json_integer_value(value));
        } else if (json_is_integer(value)) {
                (void)printf("%lld", (long long)json_integer_value(value));
        } else if (json_is_boolean(value)) {
                (void)printf("%s", json_is_true(value) ? "yes" : "no");
        } else if (json_is_real(value)) {
                (void)printf("%g", json_real_value(value));
        } else {
                text = text_of_bytes(value);
                (void)printf("%s", text);
                free(text);
        }
}

static bool is_bytes(const json_t *value) {
        return json_is_object(value) && json_object_size(value) == 1 && json_object_get(value, "base64");
}

static void print_object(const json_t *object, int depth);

static void print_array(const char *key, const json_t *array, int depth) {
        json_t *item;
        size_t i;

        if (json_array_size(array) == 0) {
                (void)printf(" -\n");
                return;
        }
        if (json_is_integer(json_array_get(array, 0))) {
                json_array_foreach(array, i, item) {
                        (void)printf(" ");
                        print_scalar("", item);
                }
                (void)printf("\n");
                return;
        }
        (void)printf("\n");
        json_array_foreach(array, i, item) {
                if (json_is_object(item) && !is_bytes(item)) {
                        (void)printf("%*s-\n", depth + 2, "");
                        print_object(item, depth + 4);
                        continue;
                }
                (void)printf("%*s", depth + 2, "");
                print_scalar(key, item);
                (void)printf("\n");
        }
}

/* The key as words: the units stand with the values. */
static void print_key(const char *key, int depth) {
        size_t n = strlen(key);

        if (strcmp(key, "usec") == 0) {
                (void)printf("%*sran:", depth, "");
                return;
        }
        if (ends_with(key, "_usec"))
                n -= strlen("_usec");
        else if (ends_with(key, "_bytes"))
                n -= strlen("_bytes");
        (void)printf("%*s", depth, "");
        for (size_t i = 0; i < n; i++)
                (void)putchar(key[i] == '_' ? ' ' : key[i]);
        (void)putchar(':');
}

/* The environment is long and seldom what is looked for: it comes last. */
static void print_object(const json_t *object, int depth) {
        const char *key;
        char *command;
        json_t *value;

        json_object_foreach((json_t *)object, key, value) {
                if (strcmp(key, "env") == 0)
                        continue;
                print_key(key, depth);
                if (strcmp(key, "argv") == 0) {
                        command = text_of_argv(value);
                        (void)printf(" %s\n", command);
                        free(command);
                } else if (json_is_array(value)) {
                        print_array(key, value, depth);
                } else if (json_is_object(value) && !is_bytes(value) && depth < 16) {
                        (void)printf("\n");
                        print_object(value, depth + 2);
                } else {
                        (void)printf(" ");
                        print_scalar(key, value);
                        (void)printf("\n");
                }
        }
        value = json_object_get(object, "env");
        if (value) {
                (void)printf("%*senv:", depth, "");
                print_array("env", value, depth);
        }
}

int verb_show(Cli *cli, int argc, char **argv) {
        json_auto_t *status = NULL;
        int r;

        r = call_show(cli, argc, argv, false, &status);
        if (r != 0)
                return r - 1;
        if (cli->json)
                cli_emit(json_incref(status));
        else
                print_object(status, 0);
        return STATUS_OK;
}
