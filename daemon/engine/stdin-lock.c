/* SPDX-License-Identifier: MIT */

#include "daemon/engine/stdin-lock.h"

#include <inttypes.h>
#include <string.h>

#include "common/clock.h"
#include "common/macro.h"

void stdin_lock_begin(StdinLock *lock, uint64_t ttl_usec) {
        lock->expires_usec = clock_realtime_usec() + ttl_usec;
        lock->deadline_usec = clock_monotonic_usec() + ttl_usec;
}

void stdin_lock_resume(StdinLock *lock) {
        uint64_t now = clock_realtime_usec();
        uint64_t left = lock->expires_usec > now ? lock->expires_usec - now : 0;

        /* the clock may have been set back meanwhile: no lock lasts longer than any may */
        lock->deadline_usec = clock_monotonic_usec() + MIN(left, STDIN_LOCK_TTL_MAX_USEC);
}

uint64_t stdin_lock_left(const StdinLock *lock) {
        uint64_t now;

        if (!lock)
                return 0;
        now = clock_monotonic_usec();
        return lock->deadline_usec > now ? lock->deadline_usec - now : 0;
}

int stdin_lock_check(const StdinLock *lock, const char *token, uint64_t id, Error *reterr_error) {
        uint64_t left, now, ago;

        if (!lock && !token)
                return 0;
        left = stdin_lock_left(lock);
        if (left == 0 && !token)
                return 0;
        if (left > 0 && token && strcmp(token, lock->token) == 0)
                return 0;
        if (left > 0)
                return error_set(reterr_error, ERROR_LOCKED,
                                 "the stdin of process %" PRIu64 " is held by '%s' (pid %d) for %" PRIu64
                                 ".%03" PRIu64 " s more",
                                 id, lock->holder, (int)lock->pid, left / USEC_PER_SEC,
                                 left % USEC_PER_SEC / USEC_PER_MSEC);
        if (lock && strcmp(token, lock->token) == 0) {
                now = clock_realtime_usec();
                ago = now > lock->expires_usec ? now - lock->expires_usec : 0;
                return error_set(reterr_error, ERROR_LOCKED,
                                 "the lock of '%s' on the stdin of process %" PRIu64 " expired %" PRIu64
                                 ".%03" PRIu64 " s ago; nobody holds it",
                                 lock->holder, id, ago / USEC_PER_SEC, ago % USEC_PER_SEC / USEC_PER_MSEC);
        }
        return error_set(reterr_error, ERROR_LOCKED,
                         "the lock on the stdin of process %" PRIu64
                         " has expired or was given back; nobody holds it",
                         id);
}
