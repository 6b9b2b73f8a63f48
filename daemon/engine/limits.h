/* SPDX-License-Identifier: MIT */
#pragma once

/* Every bound, from one table. */

enum {
#define LIMIT(name, value, wire_name) LIMIT_##name = (value),
#include "daemon/engine/limits-table.h"
#undef LIMIT
};

/* The row of each in the table. */
enum {
#define LIMIT(name, value, wire_name) LIMIT_INDEX_##name,
#include "daemon/engine/limits-table.h"
#undef LIMIT
        LIMIT_INDEX_N_,
};

/* Times that are bounds too. */
#define STOP_GRACE_DEFAULT_USEC (UINT64_C(10) * 1000000)
#define LEASE_GRACE_DEFAULT_USEC (UINT64_C(500) * 1000) /* of a client that is gone */
#define LEASE_REATTACH_USEC                                                                                  \
        (UINT64_C(5) * 1000000) /* for the holder of a lease, after an engine's replacement */
#define CLAIM_REATTACH_USEC                                                                                  \
        (UINT64_C(5) * 1000000) /* for a lossless reader, likewise: the process may have to wait for it */
#define REMOVE_REATTACH_USEC (UINT64_C(30) * 1000000) /* for the readers of a process that removes itself */
#define OUTPUT_END_USEC UINT64_C(1000) /* for which the end of an output waits for that of its program */
#define DISK_RETRY_USEC (UINT64_C(500) * 1000)  /* between two attempts on a full disk */
#define TREE_RETRY_MIN_MSEC 2u                  /* between two looks at a tree, where one told nothing: */
#define TREE_RETRY_MSEC 500u                    /* doubled each time, up to this */
#define KILL_REPEAT_USEC (UINT64_C(100) * 1000) /* between two SIGKILLs of a tree that is not empty */
#define KILL_GIVE_UP_USEC                                                                                    \
        (UINT64_C(10) * 1000000)               /* after SIGKILL: what is left then is called a survivor      \
                                                */
#define READ_BYTES_DEFAULT (UINT64_C(1) << 20) /* in the answer to a read */
#define RETENTION_DEFAULT_BYTES (UINT64_C(64) << 20)
#define RETENTION_MIN_BYTES (UINT64_C(64) << 10)
