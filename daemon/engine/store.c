/* SPDX-License-Identifier: MIT */

#include "daemon/engine/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

/* How a full disk is survived. Three things may need new blocks, and each gets them ahead of its need:
 *   - the write-ahead log: its blocks are allotted at open, and it is emptied (checkpoint) long before it has
 *     used them up, so that it never grows but for a transaction of its own size;
 *   - the database file: grows in chunks, and always before the commit that needs it, so that a checkpoint
 *     finds its blocks there. Otherwise a commit would succeed that no checkpoint could ever carry out, and
 *     the log would fill up;
 *   - new rows: the caller keeps unused pages within the file (store_n_free(), store_extend()).
 * A transaction stays in memory until it is committed (cache_spill), so that it fails there or not at all. */
#define PAGE_SIZE 4096
#define CHUNK_BYTES (256 * 1024)
#define CHECKPOINT_PAGES 512
#define WAL_BYTES (3 * 1024 * 1024)
#define CACHE_PAGES 64
#define BUSY_MSEC 1000
#define HEADER_SIZE 100 /* of a database file: magic, at 16 the page size, at 28 the number of pages */

typedef struct OwnStatements {
        StoreStatement *begin;      /* owned */
        StoreStatement *commit;     /* owned */
        StoreStatement *rollback;   /* owned */
        StoreStatement *page_count; /* owned */
        StoreStatement *free_count; /* owned */
} OwnStatements;

struct Store {
        sqlite3 *db;                 /* owned */
        const StoreConfig *config;   /* borrowed */
        StoreStatement **statements; /* owned, each; NULL until first used */
        OwnStatements own;
        uint32_t n_pages_allotted; /* 0: not known */
        bool open;                 /* a transaction is */
        int failed;                /* -errno of what rolled the turn's transaction back */
        Error failure;             /* and the sentence */
        char path[];
};

static int store_error(Store *store, int rc, const char *what, Error *reterr_error) {
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

static int store_prepare(Store *store, const char *sql, StoreStatement **ret_statement, Error *reterr_error) {
        int rc;

        rc = sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret_statement, NULL);
        return rc == SQLITE_OK ? 0 : store_error(store, rc, "read", reterr_error);
}

/* The number in the first row of a statement of our own, 0 if it has no row. */
static int store_number(Store *store, StoreStatement *statement, int64_t *ret_number, Error *reterr_error) {
        int rc;

        *ret_number = 0;
        rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW)
                *ret_number = sqlite3_column_int64(statement, 0);
        (void)sqlite3_reset(statement);
        return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : store_error(store, rc, "access", reterr_error);
}

static int store_exec(Store *store, const char *sql, Error *reterr_error) {
        int rc;

        rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
        return rc == SQLITE_OK ? 0 : store_error(store, rc, "set up", reterr_error);
}

static int store_ask(Store *store, const char *sql, int64_t *ret_number, Error *reterr_error) {
        StoreStatement *statement;
        int r;

        r = store_prepare(store, sql, &statement, reterr_error);
        if (r < 0)
                return r;
        r = store_number(store, statement, ret_number, reterr_error);
        (void)sqlite3_finalize(statement);
        return r;
}

/* --- opening --- */

/* Looks at the file as it lies there, for what SQLite would take for an empty database, or would find out
 * only when it comes to a page that is missing. A kill during a checkpoint may leave a file that is too short
 * too: then the log has what is missing, and *ret_doubtful asks for a look at every page. Reads through
 * SQLite's descriptor: closing one of our own would drop the locks that this process holds on the file. */
static int store_inspect(Store *store, bool *ret_doubtful, Error *reterr_error) {
        uint8_t header[HEADER_SIZE];
        char wal_path[4096];
        uint64_t page_size, n_pages;
        sqlite3_file *file;
        sqlite3_int64 size;
        struct stat st;
        bool has_wal;

        (void)snprintf(wal_path, sizeof(wal_path), "%s-wal", store->path);
        has_wal = stat(wal_path, &st) == 0 && st.st_size > 0;
        (void)sqlite3_file_control(store->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
        if (file->pMethods->xFileSize(file, &size) != SQLITE_OK)
                return error_set_errno(reterr_error, EIO, "cannot read the registry '%s'", store->path);
        *ret_doubtful = false;
        if (size == 0 && !has_wal)
                return 0;
        if (size < HEADER_SIZE || file->pMethods->xRead(file, header, sizeof(header), 0) != SQLITE_OK ||
            memcmp(header, "SQLite format 3", 16) != 0)
                return error_set_errno(reterr_error, EUCLEAN, "'%s' is damaged or no registry", store->path);
        page_size = (uint64_t)header[16] << 8 | header[17];
        n_pages = (uint64_t)header[28] << 24 | (uint64_t)header[29] << 16 | (uint64_t)header[30] << 8 |
                  header[31];
        *ret_doubtful = page_size * n_pages > (uint64_t)size;
        if (*ret_doubtful && !has_wal)
                return error_set_errno(reterr_error, EUCLEAN, "the registry '%s' is cut off at %lld bytes",
                                       store->path, (long long)size);
        return 0;
}

static int store_check_pages(Store *store, Error *reterr_error) {
        StoreStatement *statement;
        bool is_ok;
        int r;

        r = store_prepare(store, "PRAGMA quick_check(1)", &statement, reterr_error);
        if (r < 0)
                return r;
        is_ok = sqlite3_step(statement) == SQLITE_ROW &&
                strcmp((const char *)sqlite3_column_text(statement, 0), "ok") == 0;
        (void)sqlite3_finalize(statement);
        if (!is_ok)
                return error_set_errno(reterr_error, EUCLEAN, "the registry '%s' is damaged", store->path);
        return 0;
}

/* Whose the database is and of which version; everything up to here leaves it untouched. */
static int store_check(Store *store, bool is_doubtful, int64_t *ret_version, Error *reterr_error) {
        int64_t application_id, n_objects;
        int r;

        r = store_ask(store, "PRAGMA application_id", &application_id, reterr_error);
        if (r < 0)
                return r;
        r = store_ask(store, "PRAGMA user_version", ret_version, reterr_error);
        if (r < 0)
                return r;
        r = store_ask(store, "SELECT count(*) FROM sqlite_schema", &n_objects, reterr_error);
        if (r < 0)
                return r;
        if (application_id != (int64_t)store->config->application_id &&
            (application_id != 0 || n_objects > 0))
                return error_set_errno(reterr_error, EUCLEAN, "'%s' is a database of another program",
                                       store->path);
        if (*ret_version > store->config->n_migrations)
                return error_set(reterr_error, ERROR_VERSION,
                                 "the registry '%s' has version %lld, this program knows up to %u",
                                 store->path, (long long)*ret_version, store->config->n_migrations);
        return is_doubtful ? store_check_pages(store, reterr_error) : 0;
}

static int store_migrate(Store *store, int64_t version, Error *reterr_error) {
        char sql[128];
        int r;

        for (; version < store->config->n_migrations; version++) {
                r = store_exec(store, "BEGIN IMMEDIATE", reterr_error);
                if (r < 0)
                        return r;
                r = store_exec(store, store->config->migrations[version], reterr_error);
                if (r < 0)
                        return r; /* the caller closes: that rolls back */
                (void)snprintf(sql, sizeof(sql), "PRAGMA application_id=%u; PRAGMA user_version=%lld; COMMIT",
                               store->config->application_id, (long long)version + 1);
                r = store_exec(store, sql, reterr_error);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Allots the log's blocks without changing its size; where that cannot be done, commits fail on a full disk.
 */
static void store_allot_wal(Store *store) {
        CLEANUP(fd_close) int fd = -1;
        char wal_path[4096];

        (void)snprintf(wal_path, sizeof(wal_path), "%s-wal", store->path);
        fd = open(wal_path, O_RDWR | O_CLOEXEC);
        if (fd >= 0)
                (void)fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, WAL_BYTES);
}

static int store_set_up(Store *store, Error *reterr_error) {
        int chunk = CHUNK_BYTES;
        char sql[256];
        int r;

        (void)snprintf(
                sql, sizeof(sql),
                "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=%d; PRAGMA journal_size_limit=%d;"
                "PRAGMA cache_size=%d; PRAGMA cache_spill=OFF; PRAGMA temp_store=MEMORY;"
                "PRAGMA foreign_keys=ON",
                CHECKPOINT_PAGES, WAL_BYTES, CACHE_PAGES);
        r = store_exec(store, sql, reterr_error);
        if (r < 0)
                return r;
        (void)sqlite3_file_control(store->db, "main", SQLITE_FCNTL_CHUNK_SIZE, &chunk);
        r = store_prepare(store, "BEGIN IMMEDIATE", &store->own.begin, reterr_error);
        if (r < 0)
                return r;
        r = store_prepare(store, "COMMIT", &store->own.commit, reterr_error);
        if (r < 0)
                return r;
        r = store_prepare(store, "ROLLBACK", &store->own.rollback, reterr_error);
        if (r < 0)
                return r;
        r = store_prepare(store, "PRAGMA page_count", &store->own.page_count, reterr_error);
        if (r < 0)
                return r;
        return store_prepare(store, "PRAGMA freelist_count", &store->own.free_count, reterr_error);
}

/* The file is made here for its mode, but never opened when it is there: closing it would drop the locks that
 * this process may hold on it. */
static int store_make_file(const char *path, Error *reterr_error) {
        struct stat st;
        int fd;

        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0) {
                (void)fd_close(fd);
                return 0;
        }
        if (errno != EEXIST)
                return error_set_errno(reterr_error, errno, "cannot make the registry '%s'", path);
        if (stat(path, &st) == 0 && (st.st_mode & 077) && chmod(path, 0600) < 0)
                return error_set_errno(reterr_error, errno, "cannot protect the registry '%s'", path);
        return 0;
}

static int store_connect(Store *store, Error *reterr_error) {
        static bool is_configured;
        int rc;

        if (!is_configured) {
                /* One thread, no statistics: both cost time at every call. */
                (void)sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
                (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
                is_configured = true;
        }
        rc = sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
        if (!store->db)
                return error_set_errno(reterr_error, ENOMEM, "cannot open the registry '%s'", store->path);
        if (rc != SQLITE_OK)
                return store_error(store, rc, "open", reterr_error);
        (void)sqlite3_extended_result_codes(store->db, 1);
        (void)sqlite3_busy_timeout(store->db, BUSY_MSEC);
        (void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_LOOKASIDE, NULL, 256, 64);
        /* A close is like a kill: there is one way to begin. And a damaged file stays as it is. */
        (void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        /* Before the first access: then the log's index is in memory and there is no -shm file. */
        return store_exec(store, "PRAGMA locking_mode=EXCLUSIVE", reterr_error);
}

int store_open(Store **ret_store, const char *path, const StoreConfig *config, Error *reterr_error) {
        CLEANUP(store_free) Store *store = NULL;
        bool is_doubtful;
        int64_t version;
        int r;

        store = calloc(1, sizeof(*store) + strlen(path) + 1);
        if (!store)
                return error_set_errno(reterr_error, ENOMEM, "cannot open the registry '%s'", path);
        memcpy(store->path, path, strlen(path) + 1);
        store->config = config;
        store->statements = calloc(config->n_statements, sizeof(*store->statements));
        if (!store->statements)
                return error_set_errno(reterr_error, ENOMEM, "cannot open the registry '%s'", path);
        r = store_make_file(path, reterr_error);
        if (r < 0)
                return r;
        r = store_connect(store, reterr_error);
        if (r < 0)
                return r;
        r = store_inspect(store, &is_doubtful, reterr_error);
        if (r < 0)
                return r;
        r = store_check(store, is_doubtful, &version, reterr_error);
        if (r < 0)
                return r;
        r = store_exec(store, "PRAGMA page_size=4096; PRAGMA journal_mode=WAL", reterr_error);
        if (r < 0)
                return r;
        r = store_set_up(store, reterr_error);
        if (r < 0)
                return r;
        r = store_migrate(store, version, reterr_error);
        if (r < 0)
                return r;
        store_allot_wal(store);
        *ret_store = TAKE(store);
        return 0;
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

/* Makes the file at least so long, with blocks, not a hole. */
static int store_allot(Store *store, int64_t n_pages) {
        sqlite3_int64 size = n_pages * PAGE_SIZE;
        int rc;

        if (n_pages <= store->n_pages_allotted)
                return 0;
        rc = sqlite3_file_control(store->db, "main", SQLITE_FCNTL_SIZE_HINT, &size);
        if (rc != SQLITE_OK)
                return -ENOSPC;
        store->n_pages_allotted =
                (uint32_t)((size + CHUNK_BYTES - 1) / CHUNK_BYTES * (CHUNK_BYTES / PAGE_SIZE));
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
                r = store_number(store, store->own.page_count, &n, &error);
                if (r == 0 && store_allot(store, n) < 0)
                        r = error_set_errno(&error, ENOSPC, "cannot extend the registry '%s'", store->path);
                if (r == 0)
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

bool store_dirty(const Store *store) {
        return store->open || store->failed < 0;
}
