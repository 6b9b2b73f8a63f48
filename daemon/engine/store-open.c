/* SPDX-License-Identifier: MIT */

/* Opening a store: whose file it is, whether it is whole, and the way to the newest version. */

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/engine/store-private.h"
#include "daemon/engine/store-wal.h"

#define CHECKPOINT_PAGES 1024
#define WAL_BYTES (5 * 1024 * 1024)
#define CACHE_PAGES 64
#define BUSY_MSEC 1000
#define HEADER_SIZE 100 /* of a database file: magic, at 16 the page size, at 28 the number of pages */

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

/* Looks at the file as it lies there, for what SQLite would take for an empty database, or would find out
 * only when it comes to a page that is missing. A kill during a checkpoint may leave a file that is too short
 * too: then the log has what is missing, and *ret_doubtful asks for a look at every page. Reads through
 * SQLite's descriptor: closing one of our own would drop the locks that this process holds on the file. */
static int store_inspect(Store *store, bool *ret_doubtful, Error *reterr_error) {
        uint8_t header[HEADER_SIZE];
        char wal_path[4096];
        uint64_t page_size, n_pages;
        sqlite3_file *file = store->file;
        struct stat st;
        bool has_wal;

        (void)snprintf(wal_path, sizeof(wal_path), "%s-wal", store->path);
        has_wal = stat(wal_path, &st) == 0 && st.st_size > 0;
        if (stat(store->path, &st) < 0)
                return error_set_errno(reterr_error, errno, "cannot stat the registry '%s'", store->path);
        *ret_doubtful = false;
        if (st.st_size == 0 && !has_wal)
                return 0;
        if (st.st_size < HEADER_SIZE || file->pMethods->xRead(file, header, sizeof(header), 0) != SQLITE_OK ||
            memcmp(header, "SQLite format 3", 16) != 0)
                return error_set_errno(reterr_error, EUCLEAN, "'%s' is damaged or no registry", store->path);
        page_size = (uint64_t)header[16] << 8 | header[17];
        n_pages = (uint64_t)header[28] << 24 | (uint64_t)header[29] << 16 | (uint64_t)header[30] << 8 |
                  header[31];
        *ret_doubtful = page_size * n_pages > (uint64_t)st.st_size;
        if (*ret_doubtful && !has_wal)
                return error_set_errno(reterr_error, EUCLEAN, "the registry '%s' is cut off at %lld bytes",
                                       store->path, (long long)st.st_size);
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

/* In place of SQLite's automatic checkpoint, which tells nobody how long the log is. */
static int store_on_commit(void *userdata, sqlite3 *db, const char *name, int n_log_pages) {
        Store *store = userdata;

        store->n_log_pages = (uint32_t)n_log_pages;
        if (n_log_pages >= CHECKPOINT_PAGES &&
            sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) == SQLITE_OK)
                store->n_log_pages = 0;
        return SQLITE_OK; /* what was committed is, and the next one tries again */
}

static int store_set_up(Store *store, Error *reterr_error) {
        int chunk = STORE_CHUNK_BYTES;
        char sql[256];
        int r;

        (void)snprintf(sql, sizeof(sql),
                       "PRAGMA synchronous=NORMAL; PRAGMA journal_size_limit=%d;"
                       "PRAGMA cache_size=%d; PRAGMA cache_spill=OFF; PRAGMA temp_store=MEMORY;"
                       "PRAGMA foreign_keys=ON",
                       WAL_BYTES, CACHE_PAGES);
        r = store_exec(store, sql, reterr_error);
        if (r < 0)
                return r;
        (void)sqlite3_file_control(store->db, "main", SQLITE_FCNTL_CHUNK_SIZE, &chunk);
        (void)sqlite3_wal_hook(store->db, store_on_commit, store);
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
        int rc, r;

        if (!is_configured) {
                /* One thread, no statistics: both cost time at every call. */
                (void)sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
                (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
                is_configured = true;
        }
        r = store_wal_register();
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot open the registry '%s'", store->path);
        rc = sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                             STORE_WAL_VFS);
        if (!store->db)
                return error_set_errno(reterr_error, ENOMEM, "cannot open the registry '%s'", store->path);
        if (rc != SQLITE_OK)
                return store_error(store, rc, "open", reterr_error);
        (void)sqlite3_extended_result_codes(store->db, 1);
        (void)sqlite3_busy_timeout(store->db, BUSY_MSEC);
        (void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_LOOKASIDE, NULL, 256, 64);
        (void)sqlite3_file_control(store->db, "main", SQLITE_FCNTL_FILE_POINTER, &store->file);
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
        store_wal_watch(store);
        store_allot_wal(store);
        *ret_store = TAKE(store);
        return 0;
}
