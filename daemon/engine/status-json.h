/* SPDX-License-Identifier: MIT */
#pragma once

/* A process as docs/protocol.md shows it: STATUS, EXIT, and everything. */

#include <jansson.h>
#include <stdint.h>

#include "common/json-text.h"
#include "daemon/engine/process.h"

/** exit_to_json() - EXIT of a run that has ended; JSON null for one that has not. */
json_t *exit_to_json(const RegistryRun *run);
/** status_fields() - which members a request's `fields` asks for: bits for the two below. @names: NULL or
 * JSON null: all. Return: 0; -EINVAL (INVALID). */
int status_fields(uint32_t *ret_fields, const json_t *names, Error *reterr_error);
#define STATUS_FIELDS_ALL UINT32_MAX
/** status_write() - STATUS as text, with these members; unless it is all of them, those that are null are
 * left out. */
void status_write(Process *process, uint32_t fields, JsonText *text);
/** status_to_json() - the same as a value; NULL when out of memory. */
json_t *status_to_json(Process *process, uint32_t fields);
/** status_of_run_to_json() - STATUS as it is, or was, of a run that may not be the latest. */
json_t *status_of_run_to_json(Registry *registry, Process *process, uint32_t run);
/** show_add_details() - what `show` adds to a STATUS, but for the runs; 0 or -ENOMEM. */
int show_add_details(Process *process, json_t *object);
/** run_to_json() - one entry of `runs`. */
json_t *run_to_json(const RegistryRun *run);
