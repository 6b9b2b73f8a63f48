/* SPDX-License-Identifier: MIT */
#pragma once

/* What the keeper tells people: one line to stderr, with the priority that the journal understands. */

#include <systemd/sd-daemon.h>

#include "common/macro.h"

/**
 * report() - write one line to stderr
 * @priority:  SD_ERR, SD_WARNING, …: the prefix that the journal takes off again
 * @format:    printf(3) format, without a newline
 *
 * Without a journal the line carries date and pid. Never blocks: a stderr that nobody reads loses the line.
 */
void report(const char *priority, const char *format, ...) PRINTF_LIKE(2, 3);
