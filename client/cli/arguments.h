/* SPDX-License-Identifier: MIT */
#pragma once

/* Options of a verb: getopt_long(3) over the verb's table and the global one, with complaints of our own. */

#include <getopt.h>
#include <stdbool.h>

#include "client/cli/cli.h"

#define ARGUMENTS_END (-1)
#define ARGUMENTS_STOP (-2) /* --help was given or something is wrong: return 'status' */
#define ARGUMENTS_LONG 256  /* first value for options without a letter */
#define ARGUMENTS_MAX 48    /* options of one verb with the global ones */

typedef struct Arguments {
        Cli *cli; /* borrowed */
        int argc;
        char **argv; /* borrowed; reordered so that what is no option stands last */
        struct option options[ARGUMENTS_MAX];
        char letters[3 * ARGUMENTS_MAX];
        int status; /* after ARGUMENTS_STOP: what to exit with */
} Arguments;

/**
 * arguments_init() - begin to read options
 * @options:   ends with a row of zeros; 'val' is the letter, or ARGUMENTS_LONG and above for none
 * @in_order:  the first word that is no option ends them (run: the command has its own)
 */
void arguments_init(Arguments *arguments, Cli *cli, int argc, char **argv, const struct option *options,
                    bool in_order);

/** arguments_next() - the 'val' of the next option of the verb, its value in optarg; ARGUMENTS_END;
 * ARGUMENTS_STOP. Global options are taken care of. */
int arguments_next(Arguments *arguments);

/** arguments_rest() - what is left after the options. @ret_n: how many. */
char **arguments_rest(const Arguments *arguments, int *ret_n);

/** arguments_none() - for a verb with no options of its own: read them all. Return: 0 or ARGUMENTS_STOP. */
int arguments_none(Arguments *arguments, Cli *cli, int argc, char **argv);
