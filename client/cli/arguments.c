/* SPDX-License-Identifier: MIT */

#include "client/cli/arguments.h"

#include <assert.h>
#include <string.h>

#include "client/cli/exit-status.h"

enum {
        OPTION_SOCKET = 512,
        OPTION_NO_AUTOSTART,
        OPTION_JSON
};

static const struct option global_options[] = {
        { "socket", required_argument, NULL, OPTION_SOCKET },
        { "no-autostart", no_argument, NULL, OPTION_NO_AUTOSTART },
        { "json", no_argument, NULL, OPTION_JSON },
        { "quiet", no_argument, NULL, 'q' },
        { "help", no_argument, NULL, 'h' },
};

static void add_option(Arguments *arguments, size_t *n, const struct option *option) {
        size_t length = strlen(arguments->letters);

        assert(*n + 1 < ARGUMENTS_MAX);
        arguments->options[(*n)++] = *option;
        if (option->val >= ARGUMENTS_LONG)
                return;
        arguments->letters[length++] = (char)option->val;
        if (option->has_arg == required_argument)
                arguments->letters[length++] = ':';
        arguments->letters[length] = '\0';
}

void arguments_init(Arguments *arguments, Cli *cli, int argc, char **argv, const struct option *options,
                    bool in_order) {
        size_t n = 0;

        *arguments = (Arguments){ .cli = cli, .argc = argc, .argv = argv };
        (void)strcpy(arguments->letters, in_order ? "+:" : ":");
        for (; options && options->name; options++) /* first: read --quiet T hides the global --quiet */
                add_option(arguments, &n, options);
        for (size_t i = 0; i < ARRAY_SIZE(global_options); i++)
                add_option(arguments, &n, &global_options[i]);
        optind = 0; /* glibc: begin anew */
        opterr = 0;
}

/* What is wrong with the word that getopt_long(3) stopped at. */
static int complain(Arguments *arguments, int result) {
        const char *word = arguments->argv[optind - 1];
        bool is_long = strncmp(word, "--", 2) == 0;
        char letter[] = { '-', (char)optopt, '\0' };

        if (result == ':')
                arguments->status =
                        cli_usage(arguments->cli, "option '%s' needs a value", is_long ? word : letter);
        else if (is_long && optopt != 0)
                arguments->status = cli_usage(arguments->cli, "option '%s' takes no value", word);
        else
                arguments->status =
                        cli_usage(arguments->cli, "option '%s' is not known", is_long ? word : letter);
        return ARGUMENTS_STOP;
}

int arguments_next(Arguments *arguments) {
        Cli *cli = arguments->cli;
        int c;

        for (;;) {
                c = getopt_long(arguments->argc, arguments->argv, arguments->letters, arguments->options,
                                NULL);
                switch (c) {
                case OPTION_SOCKET:
                        cli->socket_path = optarg;
                        continue;
                case OPTION_NO_AUTOSTART:
                        cli->no_autostart = true;
                        continue;
                case OPTION_JSON:
                        cli->json = true;
                        continue;
                case 'q':
                        cli->quiet = true;
                        continue;
                case 'h':
                        if (!cli->verb)
                                return c;
                        verb_print_help(cli->verb);
                        arguments->status = STATUS_OK;
                        return ARGUMENTS_STOP;
                case '?':
                case ':':
                        return complain(arguments, c);
                default:
                        return c;
                }
        }
}

char **arguments_rest(const Arguments *arguments, int *ret_n) {
        *ret_n = arguments->argc - optind;
        return arguments->argv + optind;
}

int arguments_none(Arguments *arguments, Cli *cli, int argc, char **argv) {
        int c;

        arguments_init(arguments, cli, argc, argv, NULL, false);
        while ((c = arguments_next(arguments)) >= 0)
                ;
        return c == ARGUMENTS_STOP ? ARGUMENTS_STOP : 0;
}
