/* SPDX-License-Identifier: MIT */
#pragma once

/* The small files of the kernel that the tree reads and writes: whole, in one go. */

#include <errno.h>
#include <stdbool.h>

/** tree_file_read() - the whole text of a file below dir_fd (AT_FDCWD: of a path), with a NUL behind it;
 * owned by the caller. Return: 0 or -errno. */
int tree_file_read(int dir_fd, const char *name, char **ret_text);

/** tree_file_write() - write a text in one write(2). Return: 0 or -errno. */
int tree_file_write(int dir_fd, const char *name, const char *text);

/** tree_is_shortage() - whether an error says nothing of what was looked at, but of this moment. Pure. */
static inline bool tree_is_shortage(int r) {
        return r == -ENOMEM || r == -EMFILE || r == -ENFILE;
}
