/* SPDX-License-Identifier: MIT */
#pragma once

/* The two clocks: deadlines use the monotonic one, what people read uses the real one. Faked at link time in
 * tests. */

#include <stdint.h>

/** clock_monotonic_usec() - microseconds of CLOCK_MONOTONIC; goes on over engine restarts, not over reboots.
 */
uint64_t clock_monotonic_usec(void);

/** clock_realtime_usec() - microseconds since 1970-01-01 UTC; may jump either way. */
uint64_t clock_realtime_usec(void);
