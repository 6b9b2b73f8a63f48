/* SPDX-License-Identifier: MIT */
#pragma once

/* A database of one writer: opening and migrating it, statements prepared once, and transactions that either
 * hold or leave no trace, also on a full disk. The only file that knows SQLite; it knows no table. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/macro.h"

typedef struct Store Store;
typedef struct sqlite3_stmt StoreStatement; /* opaque here */

typedef struct StoreConfig {
        uint32_t application_id;       /* tells our databases from those of other programs */
        const char *const *migrations; /* SQL that leads from version i to i + 1 */
        unsigned n_migrations;         /* which is also the version that this program knows */
        const char *const *statements; /* SQL, by the number given to store_read() and store_write() */
        unsigned n_statements;
} StoreConfig;

/**
 * store_open() - open or make a database and bring it to the newest version
 * @config:  borrowed as long as the store lives
 *
 * Return: 0; -EUCLEAN (SYSTEM) when the file is damaged or another program's, -EPROTONOSUPPORT (VERSION) when
 * a newer version made it: both leave the file as it is; -EADDRINUSE (ALREADY_RUNNING) when another process
 * holds it; -errno.
 */
int store_open(Store **ret_store, const char *path, const StoreConfig *config, Error *reterr_error);
Store *store_free(Store *store); /* an open transaction is rolled back */
DEFINE_CLEANUP(Store *, store_free);

/** store_read() - the statement 'number', ready to be bound; it must not be in use. Return: 0 or -errno. */
int store_read(Store *store, unsigned number, StoreStatement **ret_statement, Error *reterr_error);

/** store_write() - the same for a statement that changes something: begins the transaction if none is open.
 * After a failure that rolled the transaction back, fails alike until store_commit() has said so. */
int store_write(Store *store, unsigned number, StoreStatement **ret_statement, Error *reterr_error);

/* Parameters count from 1, columns from 0. Bound bytes are borrowed until the statement is done. */
void store_bind_u64(StoreStatement *statement, int parameter, uint64_t value);
void store_bind_bytes(StoreStatement *statement, int parameter, const char *string); /* NULL: SQL NULL */
uint64_t store_column_u64(StoreStatement *statement, int column);
/** store_column_bytes() - with NUL behind; NULL for an SQL NULL, and without memory. */
const char *store_column_bytes(StoreStatement *statement, int column);
/** store_column_copy() - copy what fits, with NUL behind. */
void store_column_copy(StoreStatement *statement, int column, char *ret_text, size_t size);
bool store_column_null(StoreStatement *statement, int column);

/**
 * store_step() - the next row
 * Return: 1: a row is there; 0: done; -errno. After 0 and -errno the statement is no longer in use.
 * -EEXIST and -ESRCH: a UNIQUE or REFERENCES constraint refused this statement alone (no Error is set). Any
 * other failure of a change rolls the whole transaction back.
 */
int store_step(Store *store, StoreStatement *statement, Error *reterr_error);
/** store_done() - stop reading rows; the statement is no longer in use. */
void store_done(StoreStatement *statement);
/** store_run() - execute a statement that gives no rows. Return as store_step(), never 1. */
int store_run(Store *store, StoreStatement *statement, Error *reterr_error);

uint64_t store_inserted(const Store *store); /* rowid of the latest insert */
unsigned store_changed(const Store *store);  /* rows that the latest statement changed */

/**
 * store_commit() - end the transaction, if one is open
 * Return: 0; -ENOSPC (NO_SPACE); -errno. On failure nothing of the transaction has happened and the store can
 * be used on.
 */
int store_commit(Store *store, Error *reterr_error);
/** store_rollback() - forget the transaction, if one is open. */
void store_rollback(Store *store);
bool store_dirty(
        const Store *store); /* a transaction is open, or failed and store_commit() has not said so */

/** store_wants_checkpoint() - whether it pays to empty the log when there is time: a commit that finds it too
 * long does so by itself, which takes some milliseconds. */
bool store_wants_checkpoint(const Store *store);
/** store_checkpoint() - empty the log into the database, as far as that can be done; not in a transaction. */
void store_checkpoint(Store *store);

/** store_extend() - allot disk blocks for 'n_pages' more pages. Return: 0; -ENOSPC. */
int store_extend(Store *store, unsigned n_pages);
/** store_n_free() - unused pages within the file, which new rows take first. Return: their number or -errno.
 */
int store_n_free(Store *store);
