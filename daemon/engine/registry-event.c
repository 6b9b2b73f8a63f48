/* SPDX-License-Identifier: MIT */

/* The event feed of the registry: numbered texts, of which the newest are kept. */

#include <errno.h>
#include <stdint.h>

#include "daemon/engine/limits.h"
#include "daemon/engine/registry-private.h"
#include "daemon/engine/registry.h"

#define EVENTS_MAX LIMIT_EVENTS
#define EVENTS_PRUNE 128 /* so many may be kept beyond: they go together, every so many events */

static int registry_prune_events(Registry *registry, uint64_t latest, Error *reterr_error) {
        StoreStatement *statement;
        int r;

        if (latest <= EVENTS_MAX)
                return 0;
        r = store_write(registry->store, STATEMENT_PRUNE_EVENTS, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, latest - EVENTS_MAX);
        return store_run(registry->store, statement, reterr_error);
}

int registry_add_event(Registry *registry, uint64_t time_usec, const char *json, uint64_t *ret_seq,
                       Error *reterr_error) {
        StoreStatement *statement;
        uint64_t seq;
        int r;

        r = store_write(registry->store, STATEMENT_ADD_EVENT, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, time_usec);
        store_bind_bytes(statement, 2, json);
        r = store_run(registry->store, statement, reterr_error);
        if (r < 0)
                return r;
        seq = store_inserted(registry->store);
        if (++registry->n_events_added >= EVENTS_PRUNE) {
                registry->n_events_added = 0;
                r = registry_prune_events(registry, seq, reterr_error);
                if (r < 0)
                        return r;
        }
        if (ret_seq)
                *ret_seq = seq;
        return 0;
}

int registry_events(Registry *registry, uint64_t since, unsigned max, RegistryEventFn fn, void *userdata,
                    Error *reterr_error) {
        StoreStatement *statement;
        const char *json;
        int r;

        r = store_read(registry->store, STATEMENT_EVENTS, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, MIN(since, (uint64_t)INT64_MAX));
        store_bind_u64(statement, 2, max);
        for (;;) {
                r = store_step(registry->store, statement, reterr_error);
                if (r <= 0)
                        return r;
                json = store_column_bytes(statement, 2);
                if (json)
                        r = fn(store_column_u64(statement, 0), store_column_u64(statement, 1), json,
                               userdata);
                else
                        r = error_set_errno(reterr_error, ENOMEM, "cannot read the registry's events");
                if (r != 0) {
                        store_done(statement);
                        return r;
                }
        }
}

static int registry_event_edge(Registry *registry, RegistryStatement number, uint64_t *ret_seq,
                               Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_read(registry->store, number, &statement, reterr_error);
        if (r < 0)
                return r;
        r = store_step(registry->store, statement, reterr_error);
        if (r < 0)
                return r;
        *ret_seq = r > 0 ? store_column_u64(statement, 0) : 0; /* of no row at all, NULL: 0 */
        store_done(statement);
        return 0;
}

int registry_event_range(Registry *registry, uint64_t *ret_oldest, uint64_t *ret_latest,
                         Error *reterr_error) {
        uint64_t oldest, latest;
        int r;

        r = registry_event_edge(registry, STATEMENT_EVENT_OLDEST, &oldest, reterr_error);
        if (r < 0)
                return r;
        r = registry_event_edge(registry, STATEMENT_EVENT_LATEST, &latest, reterr_error);
        if (r < 0)
                return r;
        *ret_oldest = oldest;
        *ret_latest = latest;
        return 0;
}
