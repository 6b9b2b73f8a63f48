/* SPDX-License-Identifier: MIT */
#pragma once

/* main() of a unit test, and a check that a test leaves no descriptor open. */

#include <check.h>
#include <dirent.h>
#include <stdlib.h>

/* How many descriptors this process has open now, the one used to count not included. */
static inline int open_fds_count(void) {
        DIR *dir = opendir("/proc/self/fd");
        int n = -3; /* ".", ".." and the directory itself */

        ck_assert_ptr_nonnull(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

#define CHECK_MAIN(make_suite)                                                                               \
        int main(void) {                                                                                     \
                SRunner *runner = srunner_create(make_suite());                                              \
                int n_failed;                                                                                \
                                                                                                             \
                srunner_run_all(runner, CK_ENV);                                                             \
                n_failed = srunner_ntests_failed(runner);                                                    \
                srunner_free(runner);                                                                        \
                return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;                                          \
        }                                                                                                    \
        struct check_main_semicolon
