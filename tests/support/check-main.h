/* SPDX-License-Identifier: MIT */
#pragma once

/* main() of a unit test, and a check that a test leaves no descriptor open.
 *
 * Each test is a process of its own, but with AddressSanitizer, where $CK_FORK asks for nothing else, all
 * tests of a file are one process: to look for leaks at the end of each took most of the time, and the one
 * look at the end of all finds the same. A process that a test forks says nothing by ck_assert() while its
 * parent may look. */

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

/* KILLS(n): how often a process is killed at a random instant. AddressSanitizer makes each several times as
 * dear, and looks for what the code does with what a kill leaves, which it does after every one; to meet the
 * rare instant is left to the build without it. */
#ifdef __SANITIZE_ADDRESS__
#define CHECK_FORK_STATUS CK_NOFORK
#define KILLS(n) ((n) / 4)
#else
#define CHECK_FORK_STATUS CK_FORK
#define KILLS(n) (n)
#endif

#define CHECK_MAIN(make_suite)                                                                               \
        int main(void) {                                                                                     \
                SRunner *runner = srunner_create(make_suite());                                              \
                int n_failed;                                                                                \
                                                                                                             \
                if (!getenv("CK_FORK"))                                                                      \
                        srunner_set_fork_status(runner, CHECK_FORK_STATUS);                                  \
                srunner_run_all(runner, CK_ENV);                                                             \
                n_failed = srunner_ntests_failed(runner);                                                    \
                srunner_free(runner);                                                                        \
                return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;                                          \
        }                                                                                                    \
        struct check_main_semicolon
