/* SPDX-License-Identifier: MIT */
#pragma once

/* The columns of the table "run" after "process", in the order in which they are bound and read.
 *        TYPE    column                        field of RegistryRun */
#define RUN_TABLE(X) \
        X(NUMBER, run,                          run) \
        X(NUMBER, ended,                        ended) \
        X(NUMBER, pid,                          pid) \
        X(NUMBER, start_usec,                   start_usec) \
        X(NUMBER, start_monotonic_usec,         start_monotonic_usec) \
        X(NUMBER, end_usec,                     end_usec) \
        X(NUMBER, start_offset,                 start_offset) \
        X(NUMBER, start_stdin_offset,           start_stdin_offset) \
        X(TEXT,   stop_cause,                   stop_cause) \
        X(NUMBER, stop_deadline_monotonic_usec, stop_deadline_monotonic_usec) \
        X(NUMBER, exit_known,                   exit.known) \
        X(NUMBER, exit_core,                    exit.core) \
        X(NUMBER, exit_code,                    exit.code) \
        X(NUMBER, exit_signal,                  exit.signal) \
        X(NUMBER, exit_oom,                     exit.oom) \
        X(TEXT,   exit_cause,                   exit.cause) \
        X(NUMBER, has_usage,                    exit.has_usage) \
        X(NUMBER, user_usec,                    exit.usage.user_usec) \
        X(NUMBER, system_usec,                  exit.usage.system_usec) \
        X(NUMBER, max_rss_bytes,                exit.usage.max_rss_bytes) \
        X(NUMBER, minor_faults,                 exit.usage.minor_faults) \
        X(NUMBER, major_faults,                 exit.usage.major_faults) \
        X(NUMBER, in_blocks,                    exit.usage.in_blocks) \
        X(NUMBER, out_blocks,                   exit.usage.out_blocks) \
        X(NUMBER, voluntary_switches,           exit.usage.voluntary_switches) \
        X(NUMBER, involuntary_switches,         exit.usage.involuntary_switches)
