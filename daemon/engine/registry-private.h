/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of the registry share. */

#include "daemon/engine/registry-schema.h"
#include "daemon/engine/registry.h"
#include "daemon/engine/store.h"

struct Registry {
        Store *store;            /* owned */
        unsigned n_events_added; /* since old ones were pruned */
        unsigned n_keys_put;     /* since old ones were pruned */
        unsigned n_read_keys_put;
        unsigned n_commits; /* since the reserve was looked at */
};

/* NOT_FOUND, with the sentence. */
int registry_not_found(uint64_t id, Error *reterr_error);
/* A key was put just now, with 'prune' for its table and 'n_put' counting for it: old ones go every so often.
 */
int registry_prune_keys(Registry *registry, RegistryStatement prune, unsigned *n_put, uint64_t time_usec,
                        Error *reterr_error);
