/* SPDX-License-Identifier: MIT */

/* events: the feed of what happens to all processes. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/arguments.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/text.h"
#include "common/parse.h"

enum {
        OPTION_SINCE = ARGUMENTS_LONG
};

typedef struct Feed {
        Cli *cli; /* borrowed */
        bool over;
        int status;
} Feed;

/* Members that have a column of their own. */
static bool has_column(const char *key) {
        static const char *const keys[] = { "seq", "time_usec", "type", "id", "name", "run" };

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                if (strcmp(key, keys[i]) == 0)
                        return true;
        return false;
}

static void print_event(const json_t *event) {
        const char *type = json_string_value(json_object_get(event, "type")), *key;
        json_t *usec = json_object_get(event, "time_usec"), *value;
        char when[64] = "-", *name, *text;

        if (json_is_integer(usec))
                (void)text_of_time(when, sizeof(when), (uint64_t)json_integer_value(usec), 0);
        (void)printf("%6lld  %s  %-12s", (long long)json_integer_value(json_object_get(event, "seq")), when,
                     type ? type : "?");
        if (json_object_get(event, "id")) {
                name = text_of_name(event);
                (void)printf("  %s", name);
                free(name);
        }
        json_object_foreach((json_t *)event, key, value) {
                if (has_column(key) || json_is_null(value))
                        continue;
                text = json_is_string(value) ? text_of_bytes(value)
                                             : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
                (void)printf("  %s=%s", key, text ? text : "?");
                free(text);
        }
        (void)printf("\n");
}

static void on_event(PmuxEvents *events, const char *text, const PmuxError *error, void *userdata) {
        json_auto_t *event = NULL;
        Feed *feed = userdata;
        const char *type;

        (void)events;
        if (error) {
                feed->status = cli_fail(feed->cli, error);
                feed->over = true;
                return;
        }
        event = json_loads(text, JSON_ALLOW_NUL, NULL);
        type = json_string_value(json_object_get(event, "type"));
        if (type && strcmp(type, "end") == 0) {
                feed->over = true;
                return;
        }
        if (type && strcmp(type, "lost") == 0 && !feed->cli->json)
                cli_complain("events %lld to %lld are no longer kept",
                             (long long)json_integer_value(json_object_get(event, "from")),
                             (long long)json_integer_value(json_object_get(event, "to")));
        else if (feed->cli->json)
                cli_emit(json_incref(event));
        else
                print_event(event);
}

int verb_events(Cli *cli, int argc, char **argv) {
        static const struct option options[] = { { "follow", no_argument, NULL, 'f' },
                                                 { "since", required_argument, NULL, OPTION_SINCE },
                                                 {} };
        uint64_t since = PMUX_INFINITY;
        Feed feed = { .cli = cli };
        PmuxEvents *events = NULL;
        Arguments arguments;
        bool follow = false;
        PmuxError error;
        Error own = {};
        int c, n, r;

        arguments_init(&arguments, cli, argc, argv, options, false);
        while ((c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status;
                if (c == 'f')
                        follow = true;
                else if (parse_u64(optarg, INT64_MAX, &since, &own) < 0)
                        return cli_usage(cli, "%s", own.text);
        }
        if (*arguments_rest(&arguments, &n))
                return cli_usage(cli, "events takes no targets");
        if (!follow && since == PMUX_INFINITY)
                since = 0; /* everything that is kept */
        r = cli_connect(cli);
        if (r != 0)
                return r;
        if (pmux_events_start(cli->pmux, since, follow, on_event, &feed, &events, &error) < 0)
                return cli_fail(cli, &error);
        while (!feed.over) {
                (void)pmux_turn(cli->pmux, PMUX_INFINITY, NULL); /* a failure comes to on_event() */
                if (cli_finish(0) != 0)
                        return STATUS_FAILED;
        }
        (void)pmux_events_free(events);
        return feed.status;
}
