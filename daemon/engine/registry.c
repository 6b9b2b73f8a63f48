/* SPDX-License-Identifier: MIT */

#include "daemon/engine/registry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/limits.h"
#include "daemon/engine/registry-private.h"
#include "daemon/engine/registry-run-table.h"

/* So many unused pages are kept within the file for the exits and events of a full disk; they are counted
 * every so many commits. */
#define RESERVE_PAGES 64
#define RESERVE_BYTES (RESERVE_PAGES * 4096)
#define RESERVE_COMMITS 32

#define KEYS_MAX LIMIT_KEYS
#define KEYS_PRUNE 64 /* so many may be kept beyond */
#define KEY_LIFE_USEC (3600 * USEC_PER_SEC)

/* Makes unused pages: a row of that size is inserted and deleted again. The file gets its blocks before, as a
 * checkpoint will look for them. On a full disk nothing happens. */
static void registry_refill_reserve(Registry *registry) {
        StoreStatement *statement;
        int r;

        r = store_n_free(registry->store);
        if (r < 0 || r >= RESERVE_PAGES / 2 || store_extend(registry->store, RESERVE_PAGES + 8) < 0)
                return;
        r = store_write(registry->store, STATEMENT_ADD_RESERVE, &statement, NULL);
        if (r == 0) {
                store_bind_u64(statement, 1, RESERVE_BYTES);
                r = store_run(registry->store, statement, NULL);
        }
        if (r == 0)
                r = store_write(registry->store, STATEMENT_DROP_RESERVE, &statement, NULL);
        if (r == 0)
                r = store_run(registry->store, statement, NULL);
        if (r < 0)
                store_rollback(registry->store);
        (void)store_commit(registry->store, NULL);
}

int registry_open(Registry **ret_registry, const char *path, Error *reterr_error) {
        CLEANUP(registry_free) Registry *registry = NULL;
        int r;

        registry = calloc(1, sizeof(*registry));
        if (!registry)
                return error_set_errno(reterr_error, ENOMEM, "cannot open the registry '%s'", path);
        r = store_open(&registry->store, path, &registry_store_config, reterr_error);
        if (r < 0)
                return r;
        registry_refill_reserve(registry);
        *ret_registry = TAKE(registry);
        return 0;
}

Registry *registry_free(Registry *registry) {
        if (!registry)
                return NULL;
        (void)store_free(registry->store);
        free(registry);
        return NULL;
}

int registry_commit(Registry *registry, Error *reterr_error) {
        int r;

        if (!store_dirty(registry->store))
                return 0;
        r = store_commit(registry->store, reterr_error);
        if (r < 0)
                return r;
        if (++registry->n_commits >= RESERVE_COMMITS) {
                registry->n_commits = 0;
                registry_refill_reserve(registry);
        }
        return 0;
}

bool registry_dirty(const Registry *registry) {
        return store_dirty(registry->store);
}

bool registry_wants_checkpoint(const Registry *registry) {
        return store_wants_checkpoint(registry->store);
}

void registry_checkpoint(Registry *registry) {
        if (!store_dirty(registry->store))
                store_checkpoint(registry->store);
}

/* --- processes --- */

int registry_add_process(Registry *registry, RegistryProcess *process, Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_write(registry->store, STATEMENT_ADD_PROCESS, &statement, reterr_error);
        if (r < 0)
                return r;
        if (process->id != 0)
                store_bind_u64(statement, 1, process->id);
        store_bind_bytes(statement, 2, process->name);
        store_bind_bytes(statement, 3, process->config ? process->config : "");
        store_bind_u64(statement, 4, process->created_usec);
        store_bind_u64(statement, 5, process->paused);
        r = store_run(registry->store, statement, reterr_error);
        if (r == -EEXIST)
                return error_set(reterr_error, ERROR_EXISTS, "the name '%s' or the id %llu is taken",
                                 process->name ? process->name : "", (unsigned long long)process->id);
        if (r < 0)
                return r;
        process->id = store_inserted(registry->store);
        return 0;
}

int registry_not_found(uint64_t id, Error *reterr_error) {
        return error_set(reterr_error, ERROR_NOT_FOUND, "no process %llu is registered",
                         (unsigned long long)id);
}

/* The text of the first column; owned, NULL without memory. */
static char *registry_copy(StoreStatement *statement) {
        const char *text = store_column_bytes(statement, 0);

        return text ? strdup(text) : NULL;
}

int registry_get_config(Registry *registry, uint64_t id, char **ret_config, Error *reterr_error) {
        StoreStatement *statement;
        char *config;
        int r;

        r = store_read(registry->store, STATEMENT_GET_CONFIG, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, id);
        r = store_step(registry->store, statement, reterr_error);
        if (r <= 0)
                return r < 0 ? r
                             : error_set(reterr_error, ERROR_NOT_FOUND,
                                         "process %" PRIu64 " is not in the registry", id);
        config = registry_copy(statement);
        store_done(statement);
        if (!config)
                return error_set_errno(reterr_error, ENOMEM, "cannot read what process %" PRIu64 " is", id);
        *ret_config = config;
        return 0;
}

int registry_set_paused(Registry *registry, uint64_t id, bool paused, Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_write(registry->store, STATEMENT_SET_PAUSED, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, id);
        store_bind_u64(statement, 2, paused);
        r = store_run(registry->store, statement, reterr_error);
        if (r < 0)
                return r;
        return store_changed(registry->store) > 0 ? 0 : registry_not_found(id, reterr_error);
}

int registry_remove_process(Registry *registry, uint64_t id, Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_write(registry->store, STATEMENT_REMOVE_PROCESS, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, id);
        r = store_run(registry->store, statement, reterr_error);
        if (r < 0)
                return r;
        return store_changed(registry->store) > 0 ? 0 : registry_not_found(id, reterr_error);
}

/* --- runs --- */

#define BIND_NUMBER(statement, parameter, field) store_bind_u64(statement, parameter, (uint64_t)(field))
#define BIND_TEXT(statement, parameter, field) store_bind_bytes(statement, parameter, field)
#define READ_NUMBER(statement, column, field)                                                                \
        ((field) = (__typeof__(field))store_column_u64(statement, column))
#define READ_TEXT(statement, column, field) store_column_copy(statement, column, field, sizeof(field))

int registry_put_run(Registry *registry, const RegistryRun *run, Error *reterr_error) {
        StoreStatement *statement;
        int parameter = 1;
        int r;

        r = store_write(registry->store, STATEMENT_PUT_RUN, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, parameter++, run->process);
#define X(type, name, field) BIND_##type(statement, parameter++, run->field);
        RUN_TABLE(X)
#undef X
        r = store_run(registry->store, statement, reterr_error);
        return r == -ESRCH ? registry_not_found(run->process, reterr_error) : r;
}

/* Reads the columns "process" and those of the table from 'column' on. */
static void registry_read_run(StoreStatement *statement, int column, RegistryRun *ret_run) {
        memset(ret_run, 0, sizeof(*ret_run));
        ret_run->process = store_column_u64(statement, column++);
#define X(type, name, field) READ_##type(statement, column++, ret_run->field);
        RUN_TABLE(X)
#undef X
}

int registry_load(Registry *registry, RegistryProcessFn fn, void *userdata, Error *reterr_error) {
        RegistryProcess process;
        StoreStatement *statement;
        RegistryRun run;
        bool has_run;
        int r;

        r = store_read(registry->store, STATEMENT_LOAD, &statement, reterr_error);
        if (r < 0)
                return r;
        for (;;) {
                r = store_step(registry->store, statement, reterr_error);
                if (r <= 0)
                        return r;
                process = (RegistryProcess){
                        .id = store_column_u64(statement, 0),
                        .name = store_column_bytes(statement, 1),
                        .config = store_column_bytes(statement, 2),
                        .created_usec = store_column_u64(statement, 3),
                        .paused = store_column_u64(statement, 4) != 0,
                };
                if (!process.config) {
                        store_done(statement);
                        return error_set_errno(reterr_error, ENOMEM, "cannot read the registry");
                }
                has_run = !store_column_null(statement, 5);
                if (has_run)
                        registry_read_run(statement, 5, &run);
                r = fn(&process, has_run ? &run : NULL, userdata);
                if (r != 0) {
                        store_done(statement);
                        return r;
                }
        }
}

int registry_runs(Registry *registry, uint64_t process, unsigned max, RegistryRunFn fn, void *userdata,
                  Error *reterr_error) {
        StoreStatement *statement;
        RegistryRun run;
        int r;

        r = store_read(registry->store, STATEMENT_RUNS, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, process);
        store_bind_u64(statement, 2, max);
        for (;;) {
                r = store_step(registry->store, statement, reterr_error);
                if (r <= 0)
                        return r;
                registry_read_run(statement, 0, &run);
                r = fn(&run, userdata);
                if (r != 0) {
                        store_done(statement);
                        return r;
                }
        }
}

int registry_find_run(Registry *registry, uint64_t process, uint32_t run, RegistryRun *ret_run,
                      Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_read(registry->store, STATEMENT_FIND_RUN, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, process);
        store_bind_u64(statement, 2, run);
        r = store_step(registry->store, statement, reterr_error);
        if (r <= 0)
                return r;
        registry_read_run(statement, 0, ret_run);
        store_done(statement);
        return 1;
}

/* --- keys of requests --- */

/* The newest KEYS_MAX stay, and of those none that is older than its life. The clock may have jumped: then a
 * key lives longer, at most until KEYS_MAX others have come. */
int registry_prune_keys(Registry *registry, RegistryStatement prune, unsigned *n_put, uint64_t time_usec,
                        Error *reterr_error) {
        uint64_t newest_id = store_inserted(registry->store);
        StoreStatement *statement;
        int r;

        if (++*n_put < KEYS_PRUNE)
                return 0;
        *n_put = 0;
        r = store_write(registry->store, prune, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, newest_id > KEYS_MAX ? newest_id - KEYS_MAX : 0);
        store_bind_u64(statement, 2, time_usec > KEY_LIFE_USEC ? time_usec - KEY_LIFE_USEC : 0);
        return store_run(registry->store, statement, reterr_error);
}

int registry_put_key(Registry *registry, const char *key, uint64_t time_usec, const RegistryKey *done,
                     Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_write(registry->store, STATEMENT_PUT_KEY, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_bytes(statement, 1, key);
        store_bind_u64(statement, 2, time_usec);
        store_bind_u64(statement, 3, done->process);
        store_bind_u64(statement, 4, done->run);
        store_bind_u64(statement, 5, done->digest);
        r = store_run(registry->store, statement, reterr_error);
        if (r < 0)
                return r;
        return registry_prune_keys(registry, STATEMENT_PRUNE_KEYS, &registry->n_keys_put, time_usec,
                                   reterr_error);
}

uint64_t registry_key_count(Registry *registry) {
        StoreStatement *statement;
        uint64_t n;

        if (store_read(registry->store, STATEMENT_KEY_COUNT, &statement, NULL) < 0 ||
            store_step(registry->store, statement, NULL) <= 0)
                return 0;
        n = store_column_u64(statement, 0);
        store_done(statement);
        return n;
}

int registry_get_key(Registry *registry, const char *key, RegistryKey *ret_done, Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_read(registry->store, STATEMENT_GET_KEY, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_bytes(statement, 1, key);
        r = store_step(registry->store, statement, reterr_error);
        if (r <= 0)
                return r;
        *ret_done = (RegistryKey){
                .process = store_column_u64(statement, 0),
                .run = (uint32_t)store_column_u64(statement, 1),
                .digest = store_column_u64(statement, 2),
        };
        store_done(statement);
        return 1;
}

/* --- small texts --- */

int registry_set_meta(Registry *registry, const char *name, const char *value, Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_write(registry->store, STATEMENT_SET_META, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_bytes(statement, 1, name);
        store_bind_bytes(statement, 2, value);
        return store_run(registry->store, statement, reterr_error);
}

int registry_get_meta(Registry *registry, const char *name, char **ret_value, Error *reterr_error) {
        StoreStatement *statement;
        char *value;
        int r;

        r = store_read(registry->store, STATEMENT_GET_META, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_bytes(statement, 1, name);
        r = store_step(registry->store, statement, reterr_error);
        if (r <= 0)
                return r;
        value = registry_copy(statement);
        store_done(statement);
        if (!value)
                return error_set_errno(reterr_error, ENOMEM, "cannot read '%s' of the registry", name);
        *ret_value = value;
        return 1;
}
