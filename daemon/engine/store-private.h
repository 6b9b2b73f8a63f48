/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of the store share; with them, the only ones that include SQLite. */

#include <sqlite3.h>

#include "daemon/engine/store.h"

#define STORE_PAGE_SIZE 4096
#define STORE_CHUNK_BYTES (256 * 1024)
#define STORE_LONG_LOG_PAGES 128 /* emptying it waits for the disk twice, however short it is */

typedef struct OwnStatements {
        StoreStatement *begin;      /* owned */
        StoreStatement *commit;     /* owned */
        StoreStatement *rollback;   /* owned */
        StoreStatement *page_count; /* owned */
        StoreStatement *free_count; /* owned */
} OwnStatements;

struct Store {
        sqlite3 *db;                 /* owned */
        sqlite3_file *file;          /* borrowed; the database's */
        const StoreConfig *config;   /* borrowed */
        StoreStatement **statements; /* owned, each; NULL until first used */
        OwnStatements own;
        uint32_t n_pages_allotted; /* 0: not known */
        uint32_t n_log_pages;      /* in the write-ahead log at the latest commit; 0: it was emptied since */
        bool open;                 /* a transaction is */
        int failed;                /* -errno of what rolled the turn's transaction back */
        Error failure;             /* and the sentence */
        char path[];
};

/* Turns a result code of SQLite into an Error. Return: -errno. */
int store_error(Store *store, int rc, const char *what, Error *reterr_error);
/* Makes the database file at least so long, with blocks, not a hole. Return: 0; -ENOSPC. */
int store_allot(Store *store, int64_t n_pages);
int store_prepare(Store *store, const char *sql, StoreStatement **ret_statement, Error *reterr_error);
/* The number in the first row of a statement of our own, 0 if it has no row. */
int store_number(Store *store, StoreStatement *statement, int64_t *ret_number, Error *reterr_error);
