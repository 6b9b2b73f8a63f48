/* SPDX-License-Identifier: MIT */
#pragma once

/* Text to values and back: times, sizes, numbers, signals. Pure. */

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/**
 * parse_duration() - a span of time: "500ms", "5s", "2m", "1h", "3d", "1h30m", "0.5s"; a bare number is
 * seconds
 * @ret_usec:  microseconds; "infinity" gives USEC_INFINITY
 *
 * Return: 0; -EINVAL (INVALID) with a sentence that quotes the text; nothing overflows silently.
 */
int parse_duration(const char *text, uint64_t *ret_usec, Error *reterr_error);

/** parse_size() - bytes: "4096", "64K", "1M", "2G", "1T" (powers of 1024, an optional "B" or "iB"). Return as
 * above. */
int parse_size(const char *text, uint64_t *ret_bytes, Error *reterr_error);

/** parse_u64() - a decimal number, digits only, up to 'max'. Return as above. */
int parse_u64(const char *text, uint64_t max, uint64_t *ret_value, Error *reterr_error);

/** parse_signal() - "TERM", "SIGTERM", "term", "15", "RTMIN+3". Return as above; the number is 1 to 64. */
int parse_signal(const char *text, int *ret_signal, Error *reterr_error);

/** signal_name() - "SIGTERM"; "SIGRTMIN+3"; "signal 99" for one without a name. Static storage, one per
 * thread. */
const char *signal_name(int signal);

/**
 * parse_timestamp() - a point in time, as journalctl takes it
 * @text:          "2026-01-31 12:00:00", "2026-01-31T12:00:00Z", "12:00", "@SECONDS", "-5m" or "5m ago",
 * "today", "yesterday", "now"; local time unless Z
 * @now_usec:      real time now
 * @ret_usec:      microseconds since 1970
 */
int parse_timestamp(const char *text, uint64_t now_usec, uint64_t *ret_usec, Error *reterr_error);

/**
 * format_duration() - a span as a person reads it: "350ms", "5s", "2min 3s", "4h 5min", "3d 2h"
 * @buffer:  at least 32 bytes
 *
 * Return: buffer.
 */
char *format_duration(char *buffer, size_t size, uint64_t usec);

/** format_size() - "512B", "1.5K", "64M"; as format_duration(). */
char *format_size(char *buffer, size_t size, uint64_t bytes);
