/* SPDX-License-Identifier: MIT */
#pragma once

/* A process as docs/protocol.md shows it: STATUS, EXIT, and everything. */

#include <jansson.h>

#include "daemon/engine/process.h"

/** exit_to_json() - EXIT of a run that has ended; JSON null for one that has not. */
json_t *exit_to_json(const RegistryRun *run);
/** status_to_json() - STATUS; NULL when out of memory. */
json_t *status_to_json(Process *process);
/** status_of_run_to_json() - STATUS as it is, or was, of a run that may not be the latest. */
json_t *status_of_run_to_json(Registry *registry, Process *process, uint32_t run);
/** show_add_details() - what `show` adds to a STATUS, but for the runs; 0 or -ENOMEM. */
int show_add_details(Process *process, json_t *object);
/** run_to_json() - one entry of `runs`. */
json_t *run_to_json(const RegistryRun *run);
