/* SPDX-License-Identifier: MIT */

/* pmux: the program. Global options, then a verb from the table. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "client/cli/arguments.h"
#include "client/cli/cli.h"
#include "client/cli/exit-status.h"

/* The standard descriptors exist, whatever we were started with, so that no socket becomes one of them. Those
 * that were closed are opened the wrong way round: using them fails as it should. */
static void hold_standard_fds(void) {
        static const int modes[] = { O_WRONLY, O_RDONLY, O_RDONLY };

        for (int fd = 0; fd < 3; fd++)
                if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd)
                        _exit(STATUS_PMUX);
}

/* Each program is given some random bytes at its start: jansson, which would open /dev/urandom, can do with
 * those. */
static void seed_hashes(void) {
        const void *bytes = (const void *)getauxval(AT_RANDOM);
        unsigned seed;

        if (!bytes)
                return;
        memcpy(&seed, bytes, sizeof(seed));
        json_object_seed(seed | 1); /* 0: it would look for one by itself */
}

int main(int argc, char **argv) {
        static const struct option own_options[] = { { "version", no_argument, NULL, 'V' }, {} };
        char *version[] = { (char *)"version", NULL };
        Arguments arguments;
        Cli cli = {};
        char **rest;
        int c, n, status;

        hold_standard_fds();
        seed_hashes();
        (void)signal(SIGPIPE, SIG_IGN); /* a write that fails with EPIPE is answered where it happens */
        arguments_init(&arguments, &cli, argc, argv, own_options, true);
        while ((c = arguments_next(&arguments)) != ARGUMENTS_END) {
                if (c == ARGUMENTS_STOP)
                        return arguments.status;
                if (c == 'h')
                        return cli_finish(verb_help(&cli, 1, version));
                cli.verb = verb_find("version");
                rest = version;
                n = 1;
                break;
        }
        if (!cli.verb)
                rest = arguments_rest(&arguments, &n);
        if (n == 0)
                return cli_usage(&cli, "a verb is missing");
        cli.verb = verb_find(rest[0]);
        if (!cli.verb) {
                const Verb *nearest = verb_nearest(rest[0]);

                if (nearest)
                        return cli_usage(&cli, "'%s' is not a verb; did you mean '%s'?", rest[0],
                                         nearest->name);
                return cli_usage(&cli, "'%s' is not a verb", rest[0]);
        }
        status = cli_finish(cli.verb->run(&cli, n, rest));
        (void)pmux_close(cli.pmux);
        return status;
}
