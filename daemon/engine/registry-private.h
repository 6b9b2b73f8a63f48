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
