/* SPDX-License-Identifier: MIT */

#include "daemon/engine/store-wal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* SQLite writes each page of a transaction in two pieces, a header of the frame and the page, and the header
 * of the last one says that it is the last: how many pages the database has then. Until that one is whole the
 * others mean nothing, so that they may as well wait for it. Whatever else is done with the file has them
 * written first. An error of the one write is that of the last page: SQLite takes the transaction back. */
#define FRAME_HEADER_BYTES 24
#define WAL_BUFFER_BYTES (16 * (FRAME_HEADER_BYTES + STORE_PAGE_SIZE))

typedef struct WalFile {
        sqlite3_file base;
        sqlite3_file *file; /* owned; the system's, behind this one */
        Store *store;       /* borrowed; NULL until it is watched */
        uint8_t *buffer;    /* owned; NULL: none, each piece is written by itself */
        sqlite3_int64 at;   /* where its first byte goes */
        int n;              /* bytes in it */
        bool is_last;       /* the page that comes is the transaction's last */
} WalFile;

static sqlite3_vfs *system_vfs; /* static */

static int wal_flush(WalFile *wal) {
        int n = wal->n;

        wal->n = 0;
        return n == 0 ? SQLITE_OK : wal->file->pMethods->xWrite(wal->file, wal->buffer, n, wal->at);
}

static int wal_close(sqlite3_file *file) {
        WalFile *wal = (WalFile *)file;

        (void)wal_flush(wal);
        free(wal->buffer);
        return wal->file->pMethods->xClose(wal->file);
}

static int wal_read(sqlite3_file *file, void *data, int size, sqlite3_int64 offset) {
        WalFile *wal = (WalFile *)file;
        int rc;

        rc = wal_flush(wal);
        return rc != SQLITE_OK ? rc : wal->file->pMethods->xRead(wal->file, data, size, offset);
}

static uint32_t frame_n_pages(const uint8_t *header) {
        return (uint32_t)header[4] << 24 | (uint32_t)header[5] << 16 | (uint32_t)header[6] << 8 | header[7];
}

static int wal_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 offset) {
        bool is_header = size == FRAME_HEADER_BYTES, was_last;
        WalFile *wal = (WalFile *)file;
        uint32_t n_pages = is_header ? frame_n_pages(data) : 0;
        int rc = SQLITE_OK;

        if (n_pages > 0 && wal->store && store_allot(wal->store, n_pages) < 0)
                return SQLITE_FULL;
        if (offset != wal->at + wal->n || wal->n + size > WAL_BUFFER_BYTES)
                rc = wal_flush(wal);
        if (rc != SQLITE_OK)
                return rc;
        if (!wal->buffer || (!is_header && wal->n == 0) || size > WAL_BUFFER_BYTES)
                return wal->file->pMethods->xWrite(wal->file, data, size, offset);
        if (wal->n == 0)
                wal->at = offset;
        memcpy(wal->buffer + wal->n, data, (size_t)size);
        wal->n += size;
        was_last = wal->is_last;
        wal->is_last = n_pages > 0;
        return was_last ? wal_flush(wal) : SQLITE_OK;
}

static int wal_truncate(sqlite3_file *file, sqlite3_int64 size) {
        WalFile *wal = (WalFile *)file;
        int rc;

        rc = wal_flush(wal);
        return rc != SQLITE_OK ? rc : wal->file->pMethods->xTruncate(wal->file, size);
}

static int wal_sync(sqlite3_file *file, int flags) {
        WalFile *wal = (WalFile *)file;
        int rc;

        rc = wal_flush(wal);
        return rc != SQLITE_OK ? rc : wal->file->pMethods->xSync(wal->file, flags);
}

static int wal_size(sqlite3_file *file, sqlite3_int64 *ret_size) {
        WalFile *wal = (WalFile *)file;
        int rc;

        rc = wal_flush(wal);
        return rc != SQLITE_OK ? rc : wal->file->pMethods->xFileSize(wal->file, ret_size);
}

static int wal_lock(sqlite3_file *file, int lock) {
        WalFile *wal = (WalFile *)file;

        return wal->file->pMethods->xLock(wal->file, lock);
}

static int wal_unlock(sqlite3_file *file, int lock) {
        WalFile *wal = (WalFile *)file;

        return wal->file->pMethods->xUnlock(wal->file, lock);
}

static int wal_check_reserved_lock(sqlite3_file *file, int *ret_is_locked) {
        WalFile *wal = (WalFile *)file;

        return wal->file->pMethods->xCheckReservedLock(wal->file, ret_is_locked);
}

static int wal_control(sqlite3_file *file, int what, void *argument) {
        WalFile *wal = (WalFile *)file;

        return wal->file->pMethods->xFileControl(wal->file, what, argument);
}

static int wal_sector_size(sqlite3_file *file) {
        WalFile *wal = (WalFile *)file;

        return wal->file->pMethods->xSectorSize(wal->file);
}

static int wal_characteristics(sqlite3_file *file) {
        WalFile *wal = (WalFile *)file;

        return wal->file->pMethods->xDeviceCharacteristics(wal->file);
}

static const sqlite3_io_methods wal_methods = {
        .iVersion = 1,
        .xClose = wal_close,
        .xRead = wal_read,
        .xWrite = wal_write,
        .xTruncate = wal_truncate,
        .xSync = wal_sync,
        .xFileSize = wal_size,
        .xLock = wal_lock,
        .xUnlock = wal_unlock,
        .xCheckReservedLock = wal_check_reserved_lock,
        .xFileControl = wal_control,
        .xSectorSize = wal_sector_size,
        .xDeviceCharacteristics = wal_characteristics,
};

/* All files but the log's are the system's own. */
static int wal_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *ret_flags) {
        WalFile *wal = (WalFile *)file;
        int rc;

        (void)vfs;
        if (!(flags & SQLITE_OPEN_WAL))
                return system_vfs->xOpen(system_vfs, path, file, flags, ret_flags);
        *wal = (WalFile){ .file = (sqlite3_file *)(wal + 1) };
        rc = system_vfs->xOpen(system_vfs, path, wal->file, flags, ret_flags);
        if (rc != SQLITE_OK)
                return rc;
        wal->buffer = malloc(WAL_BUFFER_BYTES);
        wal->base.pMethods = &wal_methods;
        return SQLITE_OK;
}

int store_wal_register(void) {
        static sqlite3_vfs vfs;

        if (system_vfs)
                return 0;
        system_vfs = sqlite3_vfs_find(NULL);
        if (!system_vfs)
                return -ENOMEM;
        vfs = *system_vfs;
        vfs.zName = STORE_WAL_VFS;
        vfs.szOsFile += (int)sizeof(WalFile);
        vfs.xOpen = wal_open;
        vfs.pNext = NULL;
        if (sqlite3_vfs_register(&vfs, 0) == SQLITE_OK)
                return 0;
        system_vfs = NULL;
        return -ENOMEM;
}

void store_wal_watch(Store *store) {
        sqlite3_file *file = NULL;

        (void)sqlite3_file_control(store->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file);
        assert(file && file->pMethods == &wal_methods);
        ((WalFile *)file)->store = store;
}
