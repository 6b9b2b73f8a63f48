/* SPDX-License-Identifier: MIT */

/* Descriptors in the bag: found by their name, replaced, dropped, closed once. */

#include "daemon/keeper/bag.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/keeper-message.h"
#include "tests/support/check-main.h"

#define FD_MIN 16
#define N_MANY 4000

static Bag bag;
static int n_fds;

static void setup(void) {
        struct rlimit limit;

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        limit.rlim_cur = limit.rlim_max;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        n_fds = open_fds_count();
        bag_init(&bag, FD_MIN);
}

static void teardown(void) {
        bag_deinit(&bag);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static int null_open(void) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        ck_assert_int_ge(fd, 0);
        return fd;
}

START_TEST(an_empty_bag_has_nothing)
{
        ck_assert_int_eq(bag_get(&bag, 1, 1, KEEPER_LABEL_STDIN), -1);
        ck_assert_int_eq(bag_next(&bag, 0), -1);
        bag_drop(&bag, 1, 1, KEEPER_LABEL_STDIN);
}
END_TEST

START_TEST(what_is_put_is_found_above_fd_min_and_cloexec)
{
        int fd = null_open();

        ck_assert_int_eq(bag_put(&bag, 7, 2, KEEPER_LABEL_STDOUT, fd), 0);
        fd = bag_get(&bag, 7, 2, KEEPER_LABEL_STDOUT);
        ck_assert_int_ge(fd, FD_MIN);
        ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
        ck_assert_int_eq(bag_get(&bag, 7, 1, KEEPER_LABEL_STDOUT), -1);
        ck_assert_int_eq(bag_get(&bag, 7, 2, KEEPER_LABEL_STDERR), -1);
        ck_assert_int_eq(bag_get(&bag, 8, 2, KEEPER_LABEL_STDOUT), -1);
        ck_assert_int_eq(open_fds_count(), n_fds + 1);
}
END_TEST

START_TEST(the_same_name_replaces)
{
        int fd;

        ck_assert_int_eq(bag_put(&bag, 7, 2, KEEPER_LABEL_STDOUT, null_open()), 0);
        fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(bag_put(&bag, 7, 2, KEEPER_LABEL_STDOUT, fd), 0);
        ck_assert_uint_eq(bag.n, 1);
        ck_assert_int_eq(open_fds_count(), n_fds + 1);
        /* only /dev/zero gives bytes */
        ck_assert_int_eq(read(bag_get(&bag, 7, 2, KEEPER_LABEL_STDOUT), &(char){ 1 }, 1), 1);
}
END_TEST

START_TEST(drop_closes_one_and_leaves_the_others)
{
        int fd;

        ck_assert_int_eq(bag_put(&bag, 7, 2, KEEPER_LABEL_STDOUT, null_open()), 0);
        ck_assert_int_eq(bag_put(&bag, 7, 2, KEEPER_LABEL_STDERR, null_open()), 0);
        bag_drop(&bag, 7, 2, KEEPER_LABEL_STDOUT);
        bag_drop(&bag, 7, 2, KEEPER_LABEL_STDOUT);
        ck_assert_int_eq(bag_get(&bag, 7, 2, KEEPER_LABEL_STDOUT), -1);
        fd = bag_get(&bag, 7, 2, KEEPER_LABEL_STDERR);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(bag_next(&bag, 0), fd); /* what is handed over is this one alone */
        ck_assert_int_eq(bag_next(&bag, fd + 1), -1);
        ck_assert_int_eq(open_fds_count(), n_fds + 1);
}
END_TEST

START_TEST(without_room_the_caller_keeps_its_descriptor)
{
        struct rlimit limit, tight = { .rlim_cur = FD_MIN };
        int fd = null_open();

        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        tight.rlim_max = limit.rlim_max;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &tight), 0);
        ck_assert_int_lt(bag_put(&bag, 7, 2, KEEPER_LABEL_STDOUT, fd), 0);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        ck_assert_int_eq(close(fd), 0);
        ck_assert_uint_eq(bag.n, 0);
}
END_TEST

START_TEST(thousands_are_found_and_walked_once_each)
{
        uint64_t n = 0;

        for (uint64_t i = 0; i < N_MANY; i++) {
                ck_assert_int_eq(bag_put(&bag, i / 3, 1, (uint32_t)(i % 3) + 1, null_open()), 0);
                if (i % 5 == 0)
                        bag_drop(&bag, i / 3, 1, (uint32_t)(i % 3) + 1);
        }
        for (uint64_t i = 0; i < N_MANY; i++)
                ck_assert_int_eq(bag_get(&bag, i / 3, 1, (uint32_t)(i % 3) + 1) >= 0, i % 5 != 0);
        for (int fd = bag_next(&bag, 0); fd >= 0; fd = bag_next(&bag, fd + 1)) {
                const BagEntry *entry = &bag.entries[fd];

                ck_assert_int_eq(bag_get(&bag, entry->process, entry->run, entry->label), fd);
                n++;
        }
        ck_assert_uint_eq(n, N_MANY / 5 * 4);
        ck_assert_uint_eq(n, bag.n);
        ck_assert_uint_le(sizeof(BagEntry), 24);
}
END_TEST

static Suite *bag_suite(void) {
        Suite *suite = suite_create("bag");
        TCase *names = tcase_create("names");

        tcase_add_checked_fixture(names, setup, teardown);
        tcase_add_test(names, an_empty_bag_has_nothing);
        tcase_add_test(names, what_is_put_is_found_above_fd_min_and_cloexec);
        tcase_add_test(names, the_same_name_replaces);
        tcase_add_test(names, drop_closes_one_and_leaves_the_others);
        tcase_add_test(names, without_room_the_caller_keeps_its_descriptor);
        tcase_add_test(names, thousands_are_found_and_walked_once_each);
        suite_add_tcase(suite, names);
        return suite;
}

CHECK_MAIN(bag_suite);
