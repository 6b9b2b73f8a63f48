/* SPDX-License-Identifier: MIT */

#include "daemon/engine/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/protocol.h"
#include "daemon/engine/index.h"

#define DIGITS 20
#define SUFFIX_SIZE 4 /* ".log" */

/* Larger files are not ours: Segment could not hold their sizes. */
#define SEGMENT_DATA_MAX UINT32_MAX
#define SEGMENT_INDEX_MAX ((uint64_t)(SEGMENT_UNKNOWN - 1) * INDEX_RECORD_SIZE)

/* What a directory is read with: 200 segments in one call, on the stack, as an engine that has just begun
 * pays more for memory of its own than for the call. */
#define DIRECTORY_BYTES (16 * 1024)

/* What segment_scan() has found so far: files, each by twice the begin of its segment, and 1 for an index. */
typedef struct Scan {
        uint64_t *files; /* owned */
        uint32_t n;
        uint32_t n_allocated;
} Scan;

static void scan_deinit_cleanup(Scan *scan) {
        free(scan->files);
}

static const char *segment_suffix(SegmentFile file) {
        return file == SEGMENT_DATA ? ".log" : ".idx";
}

/* The path of a file of a segment, in 'ret_name' (PATH_MAX bytes). Return: 0; -ENAMETOOLONG. */
static int segment_path(char *ret_name, const char *path, uint64_t begin, SegmentFile file) {
        int n;

        n = snprintf(ret_name, PATH_MAX, "%s/%020" PRIu64 "%s", path, begin, segment_suffix(file));
        return n > 0 && n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Whether a file's name is that of a segment's file of the given sort. */
static bool segment_parse(const char *name, SegmentFile file, uint64_t *ret_begin) {
        uint64_t value = 0;

        if (strlen(name) != DIGITS + SUFFIX_SIZE || strcmp(name + DIGITS, segment_suffix(file)) != 0)
                return false;
        for (int i = 0; i < DIGITS; i++) {
                if (name[i] < '0' || name[i] > '9')
                        return false;
                if (value > INT64_MAX / 10)
                        return false; /* offsets are below 2^63 */
                value = value * 10 + (uint64_t)(name[i] - '0');
        }
        *ret_begin = value;
        return value <= INT64_MAX;
}

int segment_open(const char *path, uint64_t begin, SegmentFile file, int flags) {
        char name[PATH_MAX];
        int fd, r;

        r = segment_path(name, path, begin, file);
        if (r < 0)
                return r;
        do
                fd = open(name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
        while (fd < 0 && errno == EINTR);
        if (fd >= 0)
                return fd;
        return errno == EDQUOT ? -ENOSPC : -errno;
}

int segment_unlink(const char *path, uint64_t begin) {
        char name[PATH_MAX];
        int r;

        for (SegmentFile file = SEGMENT_DATA; file <= SEGMENT_INDEX; file++) {
                r = segment_path(name, path, begin, file);
                if (r < 0)
                        return r;
                if (unlink(name) < 0 && errno != ENOENT)
                        return -errno;
        }
        return 0;
}

/* Return: 1 and the size; 0: there is none, and the size is 0; -errno. */
static int look_at_file(const char *path, uint64_t begin, SegmentFile file, uint64_t *ret_size,
                        Error *reterr_error) {
        char name[PATH_MAX];
        struct stat st;
        int r;

        r = segment_path(name, path, begin, file);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot look at the log '%s'", path);
        if (lstat(name, &st) < 0) {
                if (errno != ENOENT)
                        return error_set_errno(reterr_error, errno, "cannot look at '%s'", name);
                *ret_size = 0;
                return 0;
        }
        if (!S_ISREG(st.st_mode))
                return error_set_errno(reterr_error, EUCLEAN, "'%s' is not a file", name);
        if (st.st_size > (off_t)(file == SEGMENT_DATA ? SEGMENT_DATA_MAX : SEGMENT_INDEX_MAX))
                return error_set_errno(reterr_error, EUCLEAN, "'%s' is larger than any segment", name);
        *ret_size = (uint64_t)st.st_size;
        return 1;
}

int segment_look(const char *path, Segment *segment, const Segment *next, Error *reterr_error) {
        uint64_t size, index_size;
        int r;

        r = look_at_file(path, segment->begin, SEGMENT_DATA, &size, reterr_error);
        if (r < 0)
                return r;
        if (r == 0 && next) { /* its index alone tells nothing, as segment_scan() has it */
                segment->size = segment->n_records = 0;
                return 0;
        }
        r = look_at_file(path, segment->begin, SEGMENT_INDEX, &index_size, reterr_error);
        if (r < 0)
                return r;
        /* The last one: no byte has come yet; or a kill came between the two files of a new segment. */
        if (r == 0 && (next || size > 0))
                return error_set_errno(reterr_error, EUCLEAN, "'%s/%020" PRIu64 ".idx' is missing", path,
                                       segment->begin);
        if (next && segment->begin + size > next->begin)
                return error_set_errno(reterr_error, EUCLEAN, "'%s/%020" PRIu64 ".log' reaches into the next",
                                       path, segment->begin);
        segment->size = (uint32_t)size;
        segment->n_records = (uint32_t)(index_size / INDEX_RECORD_SIZE);
        return 0;
}

static int scan_add(Scan *scan, uint64_t begin, SegmentFile file) {
        uint64_t *files;
        uint32_t n_allocated;

        if (scan->n == scan->n_allocated) {
                n_allocated = scan->n_allocated ? 2 * scan->n_allocated : 4;
                files = realloc(scan->files, n_allocated * sizeof(*files));
                if (!files)
                        return -ENOMEM;
                scan->files = files;
                scan->n_allocated = n_allocated;
        }
        scan->files[scan->n++] = 2 * begin + (file == SEGMENT_INDEX);
        return 0;
}

/* The data of a segment before its index. */
static int file_compare(const void *left, const void *right) {
        const uint64_t *a = left, *b = right;

        return (*a > *b) - (*a < *b);
}

static int scan_entry(Scan *scan, int dir_fd, const char *name) {
        uint64_t begin;

        (void)dir_fd;
        if (segment_parse(name, SEGMENT_DATA, &begin))
                return scan_add(scan, begin, SEGMENT_DATA);
        return segment_parse(name, SEGMENT_INDEX, &begin) ? scan_add(scan, begin, SEGMENT_INDEX) : 0;
}

/* Makes one entry of the two files of a segment. The last one may have an index alone, as long as it has no
 * bytes; elsewhere that is what is left of a segment that was being deleted. */
static int scan_merge(Scan *scan, int dir_fd) {
        char name[DIGITS + SUFFIX_SIZE + 1];
        uint64_t *files = scan->files, begin;
        uint32_t n = 0;

        for (uint32_t i = 0; i < scan->n; i++) {
                begin = files[i] / 2;
                if (n > 0 && files[n - 1] == begin)
                        continue; /* the index of what is there already */
                if (files[i] % 2 == 1 && i + 1 < scan->n) {
                        (void)snprintf(name, sizeof(name), "%020" PRIu64 ".idx", begin);
                        if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
                                return -errno;
                        continue;
                }
                files[n++] = begin;
        }
        scan->n = n;
        return 0;
}

/* Calls fn for each name in a directory until one fails; the directory stays open for fn. */
static int scan_directory(Scan *scan, int dir_fd, int (*fn)(Scan *scan, int dir_fd, const char *name)) {
        alignas(struct dirent64) char buffer[DIRECTORY_BYTES];
        const struct dirent64 *entry;
        ssize_t size;
        int r;

        while ((size = getdents64(dir_fd, buffer, sizeof(buffer))) > 0)
                for (ssize_t at = 0; at < size; at += entry->d_reclen) {
                        entry = (const struct dirent64 *)(buffer + at);
                        r = fn(scan, dir_fd, entry->d_name);
                        if (r < 0)
                                return r;
                }
        return size < 0 ? -errno : 0;
}

static int directory_open(const char *path) {
        int fd;

        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* What becomes of the begins that were found: segments of which nothing else is known but of the last. */
static int scan_finish(const Scan *scan, const char *path, Segment **ret_segments, Error *reterr_error) {
        Segment *segments;
        int r;

        segments = malloc(scan->n * sizeof(*segments));
        if (!segments)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold the log '%s'", path);
        for (uint32_t i = 0; i < scan->n; i++)
                segments[i] = (Segment){ .begin = scan->files[i], .n_records = SEGMENT_UNKNOWN };
        r = segment_look(path, &segments[scan->n - 1], NULL, reterr_error);
        if (r < 0) {
                free(segments);
                return r;
        }
        *ret_segments = segments;
        return 0;
}

int segment_scan(const char *path, Segment **ret_segments, uint32_t *ret_n, Error *reterr_error) {
        CLEANUP(scan_deinit) Scan scan = {};
        CLEANUP(fd_close) int dir_fd = -1;
        int r;

        dir_fd = directory_open(path);
        if (dir_fd < 0)
                return error_set_errno(reterr_error, dir_fd, "cannot open the log '%s'", path);
        r = scan_directory(&scan, dir_fd, scan_entry);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot read the log '%s'", path);
        if (scan.n > 0)
                qsort(scan.files, scan.n, sizeof(*scan.files), file_compare);
        r = scan_merge(&scan, dir_fd);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot delete what is left of the log '%s'", path);
        if (scan.n > 0) {
                r = scan_finish(&scan, path, ret_segments, reterr_error);
                if (r < 0)
                        return r;
        } else
                *ret_segments = NULL;
        *ret_n = scan.n;
        return 0;
}

static int scan_remove(Scan *scan, int dir_fd, const char *name) {
        uint64_t begin;

        (void)scan;
        if (!segment_parse(name, SEGMENT_DATA, &begin) && !segment_parse(name, SEGMENT_INDEX, &begin))
                return 0;
        return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int segment_remove_all(const char *path) {
        CLEANUP(fd_close) int dir_fd = -1;

        dir_fd = directory_open(path);
        if (dir_fd < 0)
                return dir_fd == -ENOENT ? 0 : dir_fd;
        return scan_directory(NULL, dir_fd, scan_remove);
}
