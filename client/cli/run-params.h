/* SPDX-License-Identifier: MIT */
#pragma once

/* The command line of run, made into the params of the method "run". */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/cli/cli.h"
#include "client/cli/filter.h"

typedef struct RunParams {
        json_t *params; /* owned; complete, but for "subscribe" */
        bool detach;
        bool lossless;
        bool has_timeout;
        uint64_t lease_usec; /* of --lease T: to be renewed in time; 0: none */
        FilterOptions filter;
        int fds[3]; /* borrowed; ours that become its own */
        size_t n_fds;
        bool forward_stdin; /* its stdin is "open" and nobody said otherwise */
} RunParams;

/** run_params_read() - read options and command. Return: 0; the exit status plus one (of --help: 1). */
int run_params_read(RunParams *run, Cli *cli, int argc, char **argv);

/** run_params_here() - the params that make a command run as this program does: cwd, env, umask. NULL after a
 * complaint. */
json_t *run_params_here(Cli *cli);
void run_params_deinit(RunParams *run);

static inline void run_params_deinit_cleanup(RunParams *run) {
        run_params_deinit(run);
}
