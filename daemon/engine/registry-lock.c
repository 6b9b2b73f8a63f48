/* SPDX-License-Identifier: MIT */

/* The locks on the stdin of processes, which outlast engine and daemon. */

#include <errno.h>
#include <inttypes.h>

#include "daemon/engine/registry-private.h"
#include "daemon/engine/registry.h"

int registry_put_lock(Registry *registry, uint64_t process, const StdinLock *lock, Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_write(registry->store, STATEMENT_PUT_LOCK, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, process);
        store_bind_bytes(statement, 2, lock->token);
        store_bind_bytes(statement, 3, lock->holder);
        store_bind_u64(statement, 4, (uint64_t)lock->pid);
        store_bind_u64(statement, 5, lock->expires_usec);
        r = store_run(registry->store, statement, reterr_error);
        if (r == -ESRCH)
                return error_set(reterr_error, ERROR_NOT_FOUND, "there is no process %" PRIu64, process);
        return r;
}

int registry_remove_lock(Registry *registry, uint64_t process, Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_write(registry->store, STATEMENT_REMOVE_LOCK, &statement, reterr_error);
        if (r < 0)
                return r;
        store_bind_u64(statement, 1, process);
        return store_run(registry->store, statement, reterr_error);
}

int registry_load_locks(Registry *registry, RegistryLockFn fn, void *userdata, Error *reterr_error) {
        StoreStatement *statement;
        StdinLock lock;
        int r;

        r = store_read(registry->store, STATEMENT_LOCKS, &statement, reterr_error);
        if (r < 0)
                return r;
        for (;;) {
                r = store_step(registry->store, statement, reterr_error);
                if (r <= 0)
                        return r;
                lock = (StdinLock){ .pid = (pid_t)store_column_u64(statement, 3),
                                    .expires_usec = store_column_u64(statement, 4) };
                store_column_copy(statement, 1, lock.token, sizeof(lock.token));
                store_column_copy(statement, 2, lock.holder, sizeof(lock.holder));
                r = fn(store_column_u64(statement, 0), &lock, userdata);
                if (r != 0) {
                        store_done(statement);
                        return r;
                }
        }
}
