/* SPDX-License-Identifier: MIT */

/* cursor: the places where readers of a process are, kept by the daemon. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/arguments.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/target.h"
#include "client/cli/text.h"
#include "common/bytes.h"
#include "common/parse.h"

static int list_cursors(Cli *cli, json_t *target) {
        json_auto_t *result = NULL;
        json_t *cursor;
        char *name;
        size_t i;
        int r;

        r = cli_call(cli, "cursors", json_pack("{s:o}", "target", target), &result);
        if (r != 0)
                return r;
        json_array_foreach(json_object_get(result, "cursors"), i, cursor) {
                if (cli->json) {
                        cli_emit(json_incref(cursor));
                        continue;
                }
                name = text_of_bytes(json_object_get(cursor, "name"));
                (void)printf("%lld\t%s\n", (long long)json_integer_value(json_object_get(cursor, "offset")),
                             name);
                free(name);
        }
        return STATUS_OK;
}

/* "start", "end" or an offset; NULL for what is none. */
static json_t *place_to_json(const char *text) {
        uint64_t offset;

        if (strcmp(text, "start") == 0 || strcmp(text, "end") == 0)
                return json_string(text);
        return parse_u64(text, INT64_MAX, &offset, NULL) == 0 ? json_integer((json_int_t)offset) : NULL;
}

static int set_cursor(Cli *cli, json_t *target, const char *name, json_t *to) {
        json_auto_t *result = NULL;
        int r;

        r = cli_call(
                cli, "set-cursor",
                json_pack("{s:o, s:o, s:o}", "target", target, "name", bytes_string_to_json(name), "to", to),
                &result);
        if (r == 0 && cli->json)
                cli_emit_result(result);
        return r;
}

/* Each of the names; the first failure does not spare the others. */
static int remove_cursors(Cli *cli, json_t *target, char **names, int n_names) {
        int r, status = STATUS_OK;

        for (int i = 0; i < n_names; i++) {
                r = set_cursor(cli, json_incref(target), names[i], json_null());
                status = status != 0 ? status : r;
        }
        json_decref(target);
        return status;
}

int verb_cursor(Cli *cli, int argc, char **argv) {
        const char *action = "ls";
        json_t *target, *to;
        Arguments arguments;
        char **rest;
        int n, r;

        if (arguments_none(&arguments, cli, argc, argv) == ARGUMENTS_STOP)
                return arguments.status;
        rest = arguments_rest(&arguments, &n);
        if (n > 0 &&
            (strcmp(rest[0], "ls") == 0 || strcmp(rest[0], "set") == 0 || strcmp(rest[0], "rm") == 0)) {
                action = rest[0];
                rest++;
                n--;
        }
        if (*action == 'l' ? n != 1 : *action == 's' ? n != 3 : n < 2)
                return cli_usage(cli, "cursor %s takes %s", action,
                                 *action == 'l'   ? "one target"
                                 : *action == 's' ? "a target, a name and a place"
                                                  : "a target and names");
        to = *action == 's' ? place_to_json(rest[2]) : NULL;
        if (*action == 's' && !to)
                return cli_usage(cli, "'%s' is no place: an offset, start or end", rest[2]);
        r = target_resolve(cli, rest, 1, &target);
        if (r != 0) {
                json_decref(to);
                return r;
        }
        if (*action == 'l')
                return list_cursors(cli, target);
        if (*action == 's')
                return set_cursor(cli, target, rest[1], to);
        return remove_cursors(cli, target, rest + 1, n - 1);
}
