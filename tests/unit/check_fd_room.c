/* SPDX-License-Identifier: MIT */

#include "daemon/engine/fd-room.h"

#include <string.h>
#include <sys/resource.h>

#include "common/macro.h"
#include "daemon/engine/limits.h"
#include "tests/support/check-main.h"

static void limit_to(rlim_t n) {
        struct rlimit limit;

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        limit.rlim_cur = n;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* The first descriptor with which 'wanted' or worse is said. */
static int first_with(FdUse use, int wanted, Error *error) {
        for (int fd = 0; fd < 1024; fd++) {
                int r = fd_room_check(use, fd, error);

                if (wanted > 0 ? r != 0 : r < 0)
                        return fd;
        }
        return 1024;
}

START_TEST(each_leaves_more_than_the_one_behind_it)
{
        Error error = {};
        int processes, inputs, clients;

        limit_to(1024);
        processes = first_with(FD_USE_PROCESS, -1, &error);
        ck_assert_int_eq(error.code, ERROR_LIMIT);
        ck_assert_ptr_nonnull(strstr(error.text, "another run"));
        ck_assert_ptr_nonnull(strstr(error.text, "of 1024 "));
        inputs = first_with(FD_USE_INPUT, -1, &error);
        clients = first_with(FD_USE_CLIENT, -1, &error);
        /* what three pipes were given for has room for a position, too */
        ck_assert_int_ge(inputs, processes / 3 * 4);
        ck_assert_int_ge(clients, inputs + 50);
        ck_assert_int_le(clients, 1024 - 2 * (int)fd_room_open_logs());
        ck_assert_int_lt(first_with(FD_USE_PROCESS, 1, &error), processes);
        ck_assert_int_gt(first_with(FD_USE_PROCESS, 1, &error), processes - 100);
}
END_TEST

START_TEST(with_next_to_none_there_is_still_an_answer)
{
        Error error = {};

        limit_to(64);
        ck_assert_int_eq(fd_room_open_logs(), 2);
        ck_assert_int_lt(fd_room_check(FD_USE_PROCESS, 20, &error), 0);
        ck_assert_int_ge(fd_room_check(FD_USE_CLIENT, 20, &error), 0);
        limit_to(8);
        ck_assert_int_eq(fd_room_open_logs(), 1);
        ck_assert_int_lt(fd_room_check(FD_USE_PROCESS, 0, &error), 0);
}
END_TEST

static Suite *fd_room_suite(void) {
        Suite *suite = suite_create("fd-room");
        TCase *tcase = tcase_create("room");

        tcase_add_test(tcase, each_leaves_more_than_the_one_behind_it);
        tcase_add_test(tcase, with_next_to_none_there_is_still_an_answer);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(fd_room_suite);
