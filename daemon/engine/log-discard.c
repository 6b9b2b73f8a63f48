/* SPDX-License-Identifier: MIT */

/* What becomes of output while the disk is full and nobody shall wait: it goes into a memfd of which the
 * keeper holds a duplicate. Its size counts the bytes, by the same splice(2) that moves them, so that the
 * count is exact under kill; the pages are punched out again. Its file position, shared by all duplicates, is
 * the offset at which discarding began, so that a memfd that outlives its purpose by a kill is known as such.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/engine/log-private.h"
#include "daemon/engine/log.h"

#define PAGE_BYTES 4096

/* So much must be free for data before logging is tried again, or the two would alternate without end. */
#define DISCARD_END_BYTES (64 * 1024)

int log_discard_begin(Log *log, uint32_t run, int *ret_fd, Error *reterr_error) {
        CLEANUP(fd_close) int fd = -1;

        assert(!log->is_discarding);
        fd = memfd_create("pmux-discard", MFD_CLOEXEC);
        if (fd < 0)
                return error_set_errno(reterr_error, errno, "cannot make a place to discard output to");
        if (lseek(fd, (off_t)log->end, SEEK_SET) < 0)
                return error_set_errno(reterr_error, errno, "cannot mark where discarding begins");
        log->is_discarding = true;
        log->discarded_bytes = 0;
        log->run = MAX(log->run, run);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* Give the memory of what was discarded back; the size stays. */
static void discard_punch(int fd, uint64_t from, uint64_t size) {
        from -= from % PAGE_BYTES;
        (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(size - from));
}

int log_discard_resume(Log *log, uint32_t run, int fd, Error *reterr_error) {
        struct stat st;
        uint64_t size;
        off_t begin;

        begin = lseek(fd, 0, SEEK_CUR);
        if (begin < 0 || fstat(fd, &st) < 0)
                return error_set_errno(reterr_error, errno, "cannot read how much was discarded");
        size = (uint64_t)st.st_size;
        if ((uint64_t)begin + size > log->end)
                log->end = (uint64_t)begin + size;
        else if (log->end >= size && lseek(fd, (off_t)(log->end - size), SEEK_SET) < 0)
                return error_set_errno(reterr_error, errno, "cannot mark where discarding begins");
        if (size > 0)
                discard_punch(fd, 0, size);
        log->is_discarding = true;
        log->discarded_bytes = size;
        log->run = MAX(log->run, run);
        return 0;
}

int log_discard(Log *log, int fd, int pipe_fd, size_t max, size_t *ret_n, Error *reterr_error) {
        loff_t at = (loff_t)log->discarded_bytes;
        ssize_t n;

        assert(log->is_discarding);
        *ret_n = 0;
        do
                n = splice(pipe_fd, NULL, fd, &at, max, SPLICE_F_NONBLOCK);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno == EAGAIN)
                return -EAGAIN;
        if (n < 0)
                return error_set_errno(reterr_error, errno, "cannot discard output");
        if (n > 0)
                discard_punch(fd, log->discarded_bytes, log->discarded_bytes + (uint64_t)n);
        log->discarded_bytes += (uint64_t)n;
        log->end += (uint64_t)n;
        *ret_n = (size_t)n;
        return 0;
}

void log_discard_cancel(Log *log) {
        assert(log->is_discarding && log->discarded_bytes == 0);
        log->is_discarding = false;
}

int log_discard_end(Log *log, int fd, Error *reterr_error) {
        Error error = {};
        int r;

        (void)fd; /* is the caller's to close */
        assert(log->is_discarding);
        while (log->end > segment_end(log_current(log))) {
                r = log_make_ready(log, &error);
                if (r == 0)
                        r = log_rotate(log, DISCARD_END_BYTES, &error);
                if (r == 0)
                        break;
                if (r == -ENOSPC) {
                        r = log_drop_oldest(log, &error);
                        if (r > 0)
                                continue;
                        if (r == 0)
                                r = -ENOSPC;
                }
                if (reterr_error)
                        *reterr_error = error;
                return r;
        }
        log->is_discarding = false;
        return 0;
}
