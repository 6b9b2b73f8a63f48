/* SPDX-License-Identifier: MIT */

/* main() of a fuzz target without a fuzzer: runs each file of the directories that are given, once. */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/fuzz/fuzz-target.h"

static int run_file(int dir_fd, const char *name) {
        CLEANUP(fd_close) int fd = -1;
        uint8_t *data;
        struct stat st;
        ssize_t n;

        fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return -1;
        data = malloc(st.st_size > 0
                              ? (size_t)st.st_size
                              : 1); /* exactly as large as the input, so that a sanitizer sees its end */
        assert(data);
        n = fd_read_full(fd, data, (size_t)st.st_size);
        assert(n == st.st_size);
        (void)LLVMFuzzerTestOneInput(data, (size_t)n);
        free(data);
        return 0;
}

int main(int argc, char **argv) {
        struct dirent *entry;
        unsigned n = 0;
        DIR *dir;

        (void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
        for (int i = 1; i < argc; i++) {
                dir = opendir(argv[i]);
                if (!dir) {
                        (void)fprintf(stderr, "cannot open '%s'\n", argv[i]);
                        return EXIT_FAILURE;
                }
                while ((entry = readdir(dir)))
                        if (entry->d_name[0] != '.' && run_file(dirfd(dir), entry->d_name) == 0)
                                n++;
                (void)closedir(dir);
        }
        (void)printf("%u inputs\n", n);
        return n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
