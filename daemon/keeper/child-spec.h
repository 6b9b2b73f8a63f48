/* SPDX-License-Identifier: MIT */
#pragma once

/* The spec of a SPAWN message, unpacked into what execve(2) wants: everything is ready before the clone. */

#include <sys/types.h>

#include "common/macro.h"

typedef struct ChildSpec {
        char *block;       /* owned: the spec as the engine wrote it; the strings lie in it */
        char **argv;       /* owned array, NULL-terminated, of borrowed strings */
        char **envp;       /* owned array, likewise; the mark is its last */
        char **candidates; /* owned array and strings in one block: paths to execute, in turn */
        const char *cwd;   /* borrowed */
        mode_t umask;
} ChildSpec;

/**
 * child_spec_read() - read and check a spec
 * @fd:  a memfd, borrowed; read with pread(2), so that its later fate does not matter
 *
 * Return: 0; -EPROTO: magic, counts or size do not agree; -ENOMEM; -errno. On failure *ret_spec is untouched.
 */
int child_spec_read(int fd, ChildSpec *ret_spec);
/** child_spec_copy() - the same of a spec in memory, which is borrowed. */
int child_spec_copy(const char *bytes, size_t size, ChildSpec *ret_spec);
void child_spec_deinit(ChildSpec *spec);

static inline void child_spec_deinit_cleanup(ChildSpec *spec) {
        child_spec_deinit(spec);
}
