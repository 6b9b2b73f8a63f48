/* SPDX-License-Identifier: MIT */

/* Named places in the logs of processes, and what reads with a key came to. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/limits.h"
#include "daemon/engine/registry-private.h"
#include "daemon/engine/registry.h"

static int registry_may_add_cursor(Registry *registry, uint64_t process, Error *reterr_error) {
        StoreStatement *statement;
        uint64_t n;
        int r;

        r = store_read(registry->store, STATEMENT_COUNT_CURSORS, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, process);
        r = store_step(registry->store, statement, reterr_error);
        if (r < 0)
                return r;
        n = r > 0 ? store_column_u64(statement, 0) : 0;
        store_done(statement);
        if (n >= LIMIT_CURSORS)
                return error_set(reterr_error, ERROR_LIMIT, "process %" PRIu64 " has %d cursors already",
                                 process, LIMIT_CURSORS);
        return 0;
}

int registry_get_cursor(Registry *registry, uint64_t process, const char *name, uint64_t *ret_offset,
                        Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_read(registry->store, STATEMENT_GET_CURSOR, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, process);
        store_bind_bytes(statement, 2, name);
        r = store_step(registry->store, statement, reterr_error);
        if (r <= 0)
                return r;
        *ret_offset = store_column_u64(statement, 0);
        store_done(statement);
        return 1;
}

int registry_set_cursor(Registry *registry, uint64_t process, const char *name, uint64_t offset,
                        Error *reterr_error) {
        StoreStatement *statement;
        uint64_t before;
        int r;

        r = registry_get_cursor(registry, process, name, &before, reterr_error);
        if (r > 0 && before == offset)
                return 0;
        if (r == 0)
                r = registry_may_add_cursor(registry, process, reterr_error);
        if (r < 0)
                return r;
        r = store_write(registry->store, STATEMENT_SET_CURSOR, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, process);
        store_bind_bytes(statement, 2, name);
        store_bind_u64(statement, 3, offset);
        r = store_run(registry->store, statement, reterr_error);
        if (r == -ESRCH)
                return registry_not_found(process, reterr_error);
        return r;
}

int registry_drop_cursor(Registry *registry, uint64_t process, const char *name, Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_write(registry->store, STATEMENT_DROP_CURSOR, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, process);
        store_bind_bytes(statement, 2, name);
        return store_run(registry->store, statement, reterr_error);
}

int registry_cursors(Registry *registry, uint64_t process, RegistryCursorFn fn, void *userdata,
                     Error *reterr_error) {
        StoreStatement *statement;
        const char *name;
        int r;

        r = store_read(registry->store, STATEMENT_CURSORS, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, process);
        for (;;) {
                r = store_step(registry->store, statement, reterr_error);
                if (r <= 0)
                        return r;
                name = store_column_bytes(statement, 0);
                if (name)
                        r = fn(name, store_column_u64(statement, 1), userdata);
                else
                        r = error_set_errno(reterr_error, ENOMEM, "cannot read the registry's cursors");
                if (r != 0) {
                        store_done(statement);
                        return r;
                }
        }
}

uint64_t registry_most_cursors(Registry *registry) {
        StoreStatement *statement;
        uint64_t n;

        if (store_read(registry->store, STATEMENT_MOST_CURSORS, &statement, NULL) < 0 ||
            store_step(registry->store, statement, NULL) <= 0)
                return 0;
        n = store_column_u64(statement, 0);
        store_done(statement);
        return n;
}

int registry_put_read_key(Registry *registry, const char *key, uint64_t time_usec, const RegistryKey *done,
                          Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_write(registry->store, STATEMENT_PUT_READ_KEY, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_bytes(statement, 1, key);
        store_bind_u64(statement, 2, time_usec);
        store_bind_u64(statement, 3, done->process);
        store_bind_u64(statement, 4, done->offset);
        store_bind_bytes(statement, 5, done->answer);
        store_bind_u64(statement, 6, done->digest);
        r = store_run(registry->store, statement, reterr_error);
        if (r < 0)
                return r;
        return registry_prune_keys(registry, STATEMENT_PRUNE_READ_KEYS, &registry->n_read_keys_put, time_usec,
                                   reterr_error);
}

int registry_get_read_key(Registry *registry, const char *key, RegistryKey *ret_done, Error *reterr_error) {
        StoreStatement *statement;
        const char *text;
        int r;

        r = store_read(registry->store, STATEMENT_GET_READ_KEY, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_bytes(statement, 1, key);
        r = store_step(registry->store, statement, reterr_error);
        if (r <= 0)
                return r;
        *ret_done = (RegistryKey){
                .process = store_column_u64(statement, 0),
                .offset = store_column_u64(statement, 1),
                .digest = store_column_u64(statement, 3),
        };
        if (!store_column_null(statement, 2)) {
                text = store_column_bytes(statement, 2);
                ret_done->answer = text ? strdup(text) : NULL;
                if (!ret_done->answer)
                        r = error_set_errno(reterr_error, ENOMEM, "cannot read what the key stands for");
        }
        store_done(statement);
        return r < 0 ? r : 1;
}
