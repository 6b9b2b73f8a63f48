/* SPDX-License-Identifier: MIT */

#include "daemon/engine/registry-schema.h"

#include "common/macro.h"
#include "daemon/engine/registry-run-table.h"

/* Steps that were released are never changed: a new version is a new step at the end.
 *
 * Names, keys and texts are BLOBs, since they may hold any bytes. Process ids must never be used again, hence
 * AUTOINCREMENT; the newest event is never deleted, so that a plain rowid already counts on from it. What is
 * inserted into 'reserve' is deleted in the same transaction: it leaves free pages behind (registry.c). */
static const char *const migrations[] = {
        "CREATE TABLE process("
        " id INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB UNIQUE, config BLOB NOT NULL,"
        " created_usec INTEGER NOT NULL, paused INTEGER NOT NULL);"
        "CREATE TABLE run("
        " process INTEGER NOT NULL REFERENCES process(id) ON DELETE CASCADE, run INTEGER NOT NULL,"
        " ended INTEGER NOT NULL, pid INTEGER NOT NULL, start_usec INTEGER NOT NULL,"
        " start_monotonic_usec INTEGER NOT NULL, end_usec INTEGER NOT NULL, start_offset INTEGER NOT NULL,"
        " start_stdin_offset INTEGER NOT NULL, stop_cause BLOB NOT NULL,"
        " stop_deadline_monotonic_usec INTEGER NOT NULL, exit_known INTEGER NOT NULL,"
        " exit_core INTEGER NOT NULL, exit_code INTEGER NOT NULL, exit_signal INTEGER NOT NULL,"
        " exit_oom INTEGER NOT NULL, exit_cause BLOB NOT NULL, has_usage INTEGER NOT NULL,"
        " user_usec INTEGER NOT NULL, system_usec INTEGER NOT NULL, max_rss_bytes INTEGER NOT NULL,"
        " minor_faults INTEGER NOT NULL, major_faults INTEGER NOT NULL, in_blocks INTEGER NOT NULL,"
        " out_blocks INTEGER NOT NULL, voluntary_switches INTEGER NOT NULL,"
        " involuntary_switches INTEGER NOT NULL, PRIMARY KEY(process, run)) WITHOUT ROWID;"
        "CREATE TABLE event(seq INTEGER PRIMARY KEY, time_usec INTEGER NOT NULL, json BLOB NOT NULL);"
        "CREATE TABLE key(id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, time_usec INTEGER NOT NULL,"
        " process INTEGER NOT NULL, run INTEGER NOT NULL);"
        "CREATE TABLE meta(name BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
        "CREATE TABLE reserve(data BLOB NOT NULL);",
        "CREATE TABLE stdin_lock("
        " process INTEGER PRIMARY KEY REFERENCES process(id) ON DELETE CASCADE, token BLOB NOT NULL,"
        " holder BLOB NOT NULL, pid INTEGER NOT NULL, expires_usec INTEGER NOT NULL);",
        "CREATE TABLE cursor("
        " process INTEGER NOT NULL REFERENCES process(id) ON DELETE CASCADE, name BLOB NOT NULL,"
        " offset INTEGER NOT NULL, PRIMARY KEY(process, name)) WITHOUT ROWID;"
        "CREATE TABLE read_key(id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, time_usec INTEGER NOT NULL,"
        " process INTEGER NOT NULL, offset INTEGER NOT NULL, answer BLOB);",
        ("ALTER TABLE key ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;"
         "ALTER TABLE read_key ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;"),
};

#define RUN_COLUMN(type, name, field) ", " #name
#define RUN_MARK(type, name, field) ", ?"
#define RUN_COLUMNS RUN_TABLE(RUN_COLUMN)
#define RUN_MARKS RUN_TABLE(RUN_MARK)

static const char *const statements[STATEMENT_N_] = {
#define STATEMENT(name, sql) [STATEMENT_##name] = (sql),
#include "daemon/engine/registry-statement-table.h"
#undef STATEMENT
};

const StoreConfig registry_store_config = {
        .application_id = 0x706d7578, /* "pmux" */
        .migrations = migrations,
        .n_migrations = ARRAY_SIZE(migrations),
        .statements = statements,
        .n_statements = ARRAY_SIZE(statements),
};
