/* SPDX-License-Identifier: MIT */

/* The table of verbs: finding one, by a mistyped name too, and printing help. */

#include <stdio.h>
#include <string.h>

#include "client/cli/arguments.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "client/cli/verb-help.h"

#define NAME_MAX_COMPARED 32

static const Verb verbs[] = {
#define VERB(name, alias, function, usage, summary) { name, alias, function, usage, summary },
#include "client/cli/verb-table.h"
#undef VERB
};

const Verb *verb_find(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                if (strcmp(verbs[i].name, name) == 0 || (verbs[i].alias && strcmp(verbs[i].alias, name) == 0))
                        return &verbs[i];
        return NULL;
}

/* Edit distance: letters to insert, delete, replace or swap with the next. Three rows of the matrix suffice.
 */
static size_t distance(const char *a, const char *b) {
        size_t rows[3][NAME_MAX_COMPARED + 1], n_a = strlen(a), n_b = strlen(b);
        size_t *before = rows[0], *last = rows[1], *now = rows[2], *spare;

        if (n_a > NAME_MAX_COMPARED || n_b > NAME_MAX_COMPARED)
                return NAME_MAX_COMPARED;
        for (size_t j = 0; j <= n_b; j++)
                last[j] = j;
        for (size_t i = 1; i <= n_a; i++) {
                now[0] = i;
                for (size_t j = 1; j <= n_b; j++) {
                        now[j] = last[j - 1] + (a[i - 1] != b[j - 1]);
                        now[j] = MIN(now[j], MIN(last[j], now[j - 1]) + 1);
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                now[j] = MIN(now[j], before[j - 2] + 1);
                }
                spare = before;
                before = last;
                last = now;
                now = spare;
        }
        return last[n_b];
}

const Verb *verb_nearest(const char *name) {
        size_t best = MIN(MAX(strlen(name) / 3, (size_t)1), (size_t)3) + 1, d;
        const Verb *nearest = NULL;

        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
                d = distance(name, verbs[i].name);
                if (verbs[i].alias)
                        d = MIN(d, distance(name, verbs[i].alias));
                if (d < best) {
                        best = d;
                        nearest = &verbs[i];
                }
        }
        return nearest;
}

void verb_print_help(const Verb *verb) {
        (void)printf("usage: pmux %s%s%s\n\n%s", verb->name, *verb->usage ? " " : "", verb->usage,
                     verb->summary);
        if (verb->alias)
                (void)printf(" (also: pmux %s)", verb->alias);
        (void)printf(".\n");
        for (size_t i = 0; i < ARRAY_SIZE(verb_helps); i++)
                if (strcmp(verb_helps[i].name, verb->name) == 0)
                        (void)printf("\n%s", verb_helps[i].text);
        (void)cli_finish(0);
}

int verb_help(Cli *cli, int argc, char **argv) {
        Arguments arguments;
        const Verb *verb;
        char **rest;
        int n;

        if (arguments_none(&arguments, cli, argc, argv) == ARGUMENTS_STOP)
                return arguments.status;
        rest = arguments_rest(&arguments, &n);
        if (n > 1)
                return cli_usage(cli, "help takes one verb");
        if (n == 1) {
                verb = verb_find(rest[0]);
                if (!verb)
                        return cli_usage(cli, "'%s' is not a verb", rest[0]);
                verb_print_help(verb);
                return STATUS_OK;
        }
        (void)printf("usage: pmux [--socket PATH] [--json] [-q] [--no-autostart] VERB ...\n\n");
        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                (void)printf("  %-14s%s\n", verbs[i].name, verbs[i].summary);
        (void)printf(
                "\nA TARGET is an id, a name, or a quoted glob. Times: 500ms 5s 2m 1h; sizes: 64K 1M 2G.\n"
                "pmux VERB --help explains a verb; so does pmux(1).\n");
        return STATUS_OK;
}
