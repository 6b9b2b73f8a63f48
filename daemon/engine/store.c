/* SPDX-License-Identifier: MIT */

#include "daemon/engine/store.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/store-private.h"

/* How a full disk is survived. Three things may need new blocks, and each gets them ahead of its need:
 *   - the write-ahead log: its blocks are allotted at open, and it is emptied (checkpoint) when there is
 *     time, or long before it has used them up, so that it never grows but for a transaction of its own size;
 *   - the database file: grows in chunks, and always before the commit that needs it, so that a checkpoint
 *     finds its blocks there. Otherwise a commit would succeed that no checkpoint could ever carry out, and
 *     the log would fill up;
 *   - new rows: the caller keeps unused pages within the file (store_n_free(), store_extend()).
 * A transaction stays in memory until it is committed (cache_spill), so that it fails there or not at all. */

int store_error(Store *store, int rc, const char *what, Error *reterr_error) {
        int errno_value = sqlite3_system_errno(store->db);

        switch (rc & 0xff) {
        case SQLITE_FULL:
                return error_set_errno(reterr_error, ENOSPC, "cannot %s the registry '%s'", what,
                                       store->path);
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return error_set_errno(reterr_error, EUCLEAN, "the registry '%s' is damaged", store->path);
        case SQLITE_NOMEM:
                return error_set_errno(reterr_error, ENOMEM, "cannot %s the registry '%s'", what,
                                       store->path);
        case SQLITE_BUSY:
                return error_set(reterr_error, ERROR_ALREADY_RUNNING,
                                 "another process uses the registry '%s'", store->path);
        default:
                if (errno_value == EDQUOT)
                        errno_value = ENOSPC;
                return error_set_errno(reterr_error, errno_value > 0 ? errno_value : EIO,
                                       "cannot %s the registry '%s' (%s)", what, store->path,
                                       sqlite3_errmsg(store->db));
        }
}

/* Rolls back and remembers why, so that the rest of the turn is refused too. */
static int store_fail(Store *store, int r, const Error *error) {
        store_rollback(store);
        store->failed = r;
        store->failure = *error;
        return r;
}

int store_prepare(Store *store, const char *sql, StoreStatement **ret_statement, Error *reterr_error) {
        int rc;

        rc = sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret_statement, NULL);
        return rc == SQLITE_OK ? 0 : store_error(store, rc, "read", reterr_error);
}

/* The number in the first row of a statement of our own, 0 if it has no row. */
int store_number(Store *store, StoreStatement *statement, int64_t *ret_number, Error *reterr_error) {
        int rc;

        *ret_number = 0;
        rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW)
                *ret_number = sqlite3_column_int64(statement, 0);
        (void)sqlite3_reset(statement);
        return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : store_error(store, rc, "access", reterr_error);
}

Store *store_free(Store *store) {
        StoreStatement **own;

        if (!store)
                return NULL;
        if (store->open)
                store_rollback(store);
        own = (StoreStatement *[]){ store->own.begin, store->own.commit, store->own.rollback,
                                    store->own.page_count, store->own.free_count };
        for (unsigned i = 0; i < 5; i++)
                (void)sqlite3_finalize(own[i]);
        for (unsigned i = 0; store->statements && i < store->config->n_statements; i++)
                (void)sqlite3_finalize(store->statements[i]);
        (void)sqlite3_close(store->db);
        free(store->statements);
        free(store);
        return NULL;
}

/* --- statements --- */

int store_read(Store *store, unsigned number, StoreStatement **ret_statement, Error *reterr_error) {
        StoreStatement *statement = store->statements[number];
        int r;

        if (!statement) {
                r = store_prepare(store, store->config->statements[number], &statement, reterr_error);
                if (r < 0)
                        return r;
                store->statements[number] = statement;
        }
        assert(!sqlite3_stmt_busy(statement));
        *ret_statement = statement;
        return 0;
}

int store_write(Store *store, unsigned number, StoreStatement **ret_statement, Error *reterr_error) {
        int64_t unused;
        int r;

        if (store->failed < 0) {
                if (reterr_error)
                        *reterr_error = store->failure;
                return store->failed;
        }
        if (!store->open) {
                r = store_number(store, store->own.begin, &unused, reterr_error);
                if (r < 0)
                        return r;
                store->open = true;
        }
        return store_read(store, number, ret_statement, reterr_error);
}

void store_bind_u64(StoreStatement *statement, int parameter, uint64_t value) {
        int rc;

        rc = sqlite3_bind_int64(statement, parameter, (sqlite3_int64)value);
        assert(rc == SQLITE_OK);
}

void store_bind_bytes(StoreStatement *statement, int parameter, const char *string) {
        int rc;

        if (string)
                rc = sqlite3_bind_blob64(statement, parameter, string, strlen(string), SQLITE_STATIC);
        else
                rc = sqlite3_bind_null(statement, parameter);
        assert(rc == SQLITE_OK);
}

uint64_t store_column_u64(StoreStatement *statement, int column) {
        return (uint64_t)sqlite3_column_int64(statement, column);
}

const char *store_column_bytes(StoreStatement *statement, int column) {
        return (const char *)sqlite3_column_text(statement, column);
}

void store_column_copy(StoreStatement *statement, int column, char *ret_text, size_t size) {
        const char *text = store_column_bytes(statement, column);

        (void)snprintf(ret_text, size, "%s", text ? text : "");
}

bool store_column_null(StoreStatement *statement, int column) {
        return sqlite3_column_type(statement, column) == SQLITE_NULL;
}

void store_done(StoreStatement *statement) {
        (void)sqlite3_reset(statement);
        (void)sqlite3_clear_bindings(statement); /* what was bound is borrowed no longer */
}

int store_step(Store *store, StoreStatement *statement, Error *reterr_error) {
        bool is_change;
        Error error;
        int rc, r;

        rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW)
                return 1;
        r = rc == SQLITE_DONE ? 0 : store_error(store, rc, "access", &error);
        is_change = !sqlite3_stmt_readonly(statement);
        store_done(statement);
        if (r == 0)
                return 0;
        if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY)
                return -EEXIST;
        if (rc == SQLITE_CONSTRAINT_FOREIGNKEY)
                return -ESRCH;
        if (reterr_error)
                *reterr_error = error;
        return is_change ? store_fail(store, r, &error) : r;
}

int store_run(Store *store, StoreStatement *statement, Error *reterr_error) {
        int r;

        r = store_step(store, statement, reterr_error);
        assert(r <= 0);
        return r;
}

uint64_t store_inserted(const Store *store) {
        return (uint64_t)sqlite3_last_insert_rowid(store->db);
}

unsigned store_changed(const Store *store) {
        return (unsigned)sqlite3_changes(store->db);
}

/* --- transactions --- */

int store_allot(Store *store, int64_t n_pages) {
        sqlite3_int64 size = n_pages * STORE_PAGE_SIZE;
        sqlite3_file *file = store->file;
        int rc;

        if (n_pages <= store->n_pages_allotted)
                return 0;
        rc = file->pMethods->xFileControl(file, SQLITE_FCNTL_SIZE_HINT, &size);
        if (rc != SQLITE_OK)
                return -ENOSPC;
        store->n_pages_allotted = (uint32_t)((size + STORE_CHUNK_BYTES - 1) / STORE_CHUNK_BYTES *
                                             (STORE_CHUNK_BYTES / STORE_PAGE_SIZE));
        return 0;
}

int store_extend(Store *store, unsigned n_pages) {
        int64_t n;
        int r;

        r = store_number(store, store->own.page_count, &n, NULL);
        return r < 0 ? r : store_allot(store, n + n_pages);
}

int store_n_free(Store *store) {
        int64_t n;
        int r;

        r = store_number(store, store->own.free_count, &n, NULL);
        return r < 0 ? r : (int)MIN(n, INT32_MAX);
}

int store_commit(Store *store, Error *reterr_error) {
        Error error = {};
        int64_t n;
        int r;

        if (store->failed == 0 && store->open) {
                r = store_number(store, store->own.commit, &n, &error);
                if (r < 0)
                        (void)store_fail(store, r, &error);
        }
        store->open = false;
        r = store->failed;
        store->failed = 0;
        if (r < 0 && reterr_error)
                *reterr_error = store->failure;
        return r;
}

void store_rollback(Store *store) {
        int64_t unused;

        /* SQLite may have done so by itself. */
        if (!sqlite3_get_autocommit(store->db))
                (void)store_number(store, store->own.rollback, &unused, NULL);
        store->open = false;
        store->failed = 0;
        store->n_pages_allotted = 0;
}

bool store_wants_checkpoint(const Store *store) {
        return store->n_log_pages >= STORE_LONG_LOG_PAGES;
}

/* The first commit after that begins the log anew, and waits for the disk until the log's head is there. So
 * there is one now, of nothing new. */
void store_checkpoint(Store *store) {
        int n_pages = 0, n_done = -1;
        char sql[64];

        assert(!store->open);
        store->n_log_pages = 0; /* where it fails, the next commit says how long the log is */
        (void)sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &n_pages, &n_done);
        if (n_done != n_pages)
                return;
        (void)snprintf(sql, sizeof(sql), "PRAGMA user_version=%u", store->config->n_migrations);
        (void)sqlite3_exec(store->db, sql, NULL, NULL, NULL);
}

bool store_dirty(const Store *store) {
        return store->open || store->failed < 0;
}
