/* SPDX-License-Identifier: MIT */

#include "common/clock.h"

#include <time.h>

#include "common/macro.h"

static uint64_t clock_read_usec(clockid_t id) {
        struct timespec ts;
        int r;

        r = clock_gettime(id, &ts);
        assert(r == 0);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t clock_monotonic_usec(void) {
        return clock_read_usec(CLOCK_MONOTONIC);
}

uint64_t clock_realtime_usec(void) {
        return clock_read_usec(CLOCK_REALTIME);
}
