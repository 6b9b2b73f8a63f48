/* SPDX-License-Identifier: MIT */
#pragma once

/* The file of the write-ahead log, between SQLite and the system: what a transaction adds to it is written at
 * once, not page by page, and the database file gets its blocks first. */

#include "daemon/engine/store-private.h"

#define STORE_WAL_VFS "pmux"

/** store_wal_register() - make STORE_WAL_VFS known to SQLite; harmless to repeat. Return: 0; -ENOMEM. */
int store_wal_register(void);

/** store_wal_watch() - from now on allot blocks for this store before a commit is written. The log is open,
 * as it is after the first transaction. */
void store_wal_watch(Store *store);
