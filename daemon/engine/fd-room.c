/* SPDX-License-Identifier: MIT */

#include "daemon/engine/fd-room.h"

#include <sys/resource.h>

#include "common/macro.h"
#include "daemon/engine/limits.h"

#define OWN_FDS 32    /* registry, loop, sockets, what is open for a moment */
#define SIXTEENTHS 16 /* of the limit */
#define LOG_SHARE 32  /* the logs of one process in so many descriptors may be open: up to five of them */

static const struct {
        unsigned spared; /* sixteenths that are left for others */
        const char *what;
} uses[] = {
        [FD_USE_PROCESS] = { 6, "another run" },
        [FD_USE_INPUT] = { 3, "the input of another process" },
        [FD_USE_CLIENT] = { 2, "another connection" },
};

static rlim_t fd_limit(void) {
        struct rlimit limit;

        return getrlimit(RLIMIT_NOFILE, &limit) < 0 ? 1024 : limit.rlim_cur;
}

int fd_room_check(FdUse use, int fd, Error *reterr_error) {
        rlim_t limit = fd_limit(), spared = limit / SIXTEENTHS * uses[use].spared;

        if (use == FD_USE_PROCESS)
                spared += OWN_FDS;
        if ((rlim_t)fd + spared < limit)
                return (rlim_t)fd + spared + limit / SIXTEENTHS >= limit;
        return error_set(reterr_error, ERROR_LIMIT,
                         "the daemon has no descriptor left for %s: %d of %llu are in use (RLIMIT_NOFILE), "
                         "the rest is for what runs already",
                         uses[use].what, fd + 1, (unsigned long long)limit);
}

size_t fd_room_open_logs(void) {
        return MIN((size_t)LIMIT_OPEN_LOGS, MAX((size_t)fd_limit() / LOG_SHARE, (size_t)1));
}
