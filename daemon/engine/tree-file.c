/* SPDX-License-Identifier: MIT */

#include "daemon/engine/tree-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"

#define SIZE_FIRST 4096

static void free_cleanup(char **p) {
        free(*p);
}

int tree_file_read(int dir_fd, const char *name, char **ret_text) {
        CLEANUP(fd_close) int fd = -1;
        CLEANUP(free) char *text = NULL;
        size_t size = 0, n_allocated = SIZE_FIRST;
        char *larger;
        ssize_t n;

        fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        text = malloc(n_allocated);
        if (!text)
                return -ENOMEM;
        for (;;) {
                n = fd_read_full(fd, text + size, n_allocated - size - 1);
                if (n < 0)
                        return (int)n;
                size += (size_t)n;
                if (size < n_allocated - 1)
                        break;
                larger = realloc(text, n_allocated * 2);
                if (!larger)
                        return -ENOMEM;
                text = larger;
                n_allocated *= 2;
        }
        text[size] = '\0';
        *ret_text = TAKE(text);
        return 0;
}

int tree_file_write(int dir_fd, const char *name, const char *text) {
        CLEANUP(fd_close) int fd = -1;

        fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return fd_write_all(fd, text, strlen(text));
}
