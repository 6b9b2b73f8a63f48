/* SPDX-License-Identifier: MIT */
#pragma once

/* The targets of a command line: ids, names, globs and --all, made into what the protocol takes. */

#include <jansson.h>
#include <stdbool.h>

#include "client/cli/cli.h"

/* Which processes --all means. */
typedef enum TargetAll {
        TARGET_ALL_NONE, /* the verb takes no --all */
        TARGET_ALL_ANY,
        TARGET_ALL_RUNNING, /* starting, running, paused, stopping */
        TARGET_ALL_PAUSED,
        TARGET_ALL_ENDED,
} TargetAll;

/**
 * targets_resolve() - ids, names and globs to an array of "target" values
 * @all:          --all was given: 'which' says what it means; then there must be no words
 * @ret_targets:  new reference; empty only with --all
 *
 * A glob is matched against names, and must match. Return: 0, or the exit status after a complaint.
 */
int targets_resolve(Cli *cli, char **words, int n_words, bool all, TargetAll which, json_t **ret_targets);

/** target_resolve() - exactly one target. Return as above. */
int target_resolve(Cli *cli, char **words, int n_words, json_t **ret_target);

/** target_matches() - whether the name of a STATUS matches a glob. */
bool target_matches(const json_t *status, const char *glob);

/** target_is_running() - whether a STATUS is that of a process whose main process lives. */
bool target_is_running(const json_t *status);
