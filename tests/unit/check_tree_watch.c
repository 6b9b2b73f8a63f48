/* SPDX-License-Identifier: MIT */

/* Directories with a file cgroup.events stand for cgroups: inotify does not know the difference. */

#include "daemon/engine/tree-watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/macro.h"
#include "tests/support/check-main.h"

#define N_DIRS 300

static int n_fds_before;
static char dir[] = "/tmp/check-tree-watch-XXXXXX";
static TreeWatch watch;
static unsigned n_told[N_DIRS];

static const char *path_of(unsigned i, const char *file) {
        static char path[128];

        (void)snprintf(path, sizeof(path), "%s/%u%s", dir, i, file);
        return path;
}

static void setup(void) {
        n_fds_before = open_fds_count();
        strcpy(dir + sizeof(dir) - 7, "XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(dir));
        for (unsigned i = 0; i < N_DIRS; i++) {
                int fd;

                ck_assert_int_eq(mkdir(path_of(i, ""), 0700), 0);
                fd = open(path_of(i, "/cgroup.events"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
                ck_assert_int_ge(fd, 0);
                (void)close(fd);
                n_told[i] = 0;
        }
        tree_watch_init(&watch);
        ck_assert_int_ge(watch.fd, 0);
}

static void teardown(void) {
        tree_watch_deinit(&watch);
        for (unsigned i = 0; i < N_DIRS; i++) {
                (void)unlink(path_of(i, "/cgroup.events"));
                ck_assert_int_eq(rmdir(path_of(i, "")), 0);
        }
        ck_assert_int_eq(rmdir(dir), 0);
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

static int add(unsigned i) {
        int fd = open(path_of(i, ""), O_PATH | O_DIRECTORY | O_CLOEXEC), r;

        r = tree_watch_add(&watch, fd, i, 1000 + i);
        (void)close(fd);
        return r;
}

static void touch(unsigned i) {
        int fd = open(path_of(i, "/cgroup.events"), O_WRONLY | O_CLOEXEC);

        ck_assert_int_eq(write(fd, "x", 1), 1);
        (void)close(fd);
}

static void on_event(uint64_t process, uint32_t run, void *userdata) {
        ck_assert_uint_eq(run, 1000 + process);
        ck_assert_ptr_eq(userdata, n_told);
        n_told[process]++;
}

static void dispatch_all(TreeWatchFn fn) {
        struct pollfd poll_fd = { .fd = watch.fd, .events = POLLIN };

        while (poll(&poll_fd, 1, 0) > 0)
                ck_assert_int_eq(tree_watch_dispatch(&watch, fn, n_told), 0);
}

START_TEST(each_run_is_told_of_its_own)
{
        for (unsigned i = 0; i < N_DIRS; i++)
                ck_assert_int_eq(add(i), 0);
        ck_assert_int_eq(add(7), 0); /* again */
        ck_assert_uint_eq(watch.n_entries, N_DIRS);
        for (unsigned i = 0; i < N_DIRS; i += 3)
                touch(i);
        dispatch_all(on_event);
        for (unsigned i = 0; i < N_DIRS; i++)
                ck_assert_uint_eq(n_told[i], i % 3 == 0);
        ck_assert_int_eq(tree_watch_dispatch(&watch, on_event, n_told), 0); /* nothing */
}
END_TEST

START_TEST(what_is_no_longer_watched_is_silent)
{
        for (unsigned i = 0; i < 20; i++)
                ck_assert_int_eq(add(i), 0);
        for (unsigned i = 0; i < 20; i++)
                touch(i);
        for (unsigned i = 0; i < 20; i += 2) /* their events have been queued already */
                tree_watch_remove(&watch, i, 1000 + i);
        tree_watch_remove(&watch, 0, 1000);
        tree_watch_remove(&watch, 1, 999);
        ck_assert_uint_eq(watch.n_entries, 10);
        dispatch_all(on_event);
        for (unsigned i = 0; i < 20; i++)
                ck_assert_uint_eq(n_told[i], i % 2);
        ck_assert_int_eq(add(0), 0);
        touch(0);
        dispatch_all(on_event);
        ck_assert_uint_eq(n_told[0], 1);
}
END_TEST

static void remove_next(uint64_t process, uint32_t run, void *userdata) {
        on_event(process, run, userdata);
        tree_watch_remove(&watch, process, run);
        if (process + 1 < N_DIRS)
                tree_watch_remove(&watch, process + 1, run + 1);
}

START_TEST(the_callback_may_remove)
{
        for (unsigned i = 0; i < N_DIRS; i++)
                ck_assert_int_eq(add(i), 0);
        for (unsigned i = 0; i < N_DIRS; i++)
                touch(i);
        dispatch_all(remove_next);
        ck_assert_uint_eq(watch.n_entries, 0);
        for (unsigned i = 0; i < N_DIRS; i++)
                ck_assert_uint_eq(n_told[i], i % 2 == 0);
}
END_TEST

START_TEST(when_the_queue_overflows_every_run_is_told)
{
        FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
        unsigned max = 0;

        ck_assert_ptr_nonnull(f);
        ck_assert_int_eq(fscanf(f, "%u", &max), 1);
        (void)fclose(f);
        for (unsigned i = 0; i < 10; i++)
                ck_assert_int_eq(add(i), 0);
        for (unsigned i = 0; i < max + 10 && max < 1000000; i++)
                touch(i % 2); /* the same twice in a row would be one event */
        if (max < 1000000) {
                dispatch_all(on_event);
                for (unsigned i = 0; i < 10; i++)
                        ck_assert_uint_ge(n_told[i], 1);
        }
}
END_TEST

START_TEST(a_file_that_goes_away_ends_its_watch)
{
        ck_assert_int_eq(add(3), 0);
        ck_assert_int_eq(unlink(path_of(3, "/cgroup.events")), 0);
        dispatch_all(on_event);
        ck_assert_uint_eq(n_told[3], 1);
        ck_assert_uint_eq(watch.n_entries, 0);
        ck_assert_int_eq(add(3), -ENOENT);
}
END_TEST

START_TEST(without_a_descriptor_nothing_is_watched)
{
        tree_watch_deinit(&watch);
        ck_assert_int_eq(add(1), -ENOSPC);
        tree_watch_remove(&watch, 1, 1001);
        ck_assert_int_eq(tree_watch_dispatch(&watch, on_event, n_told), 0);
}
END_TEST

static Suite *tree_watch_suite(void) {
        Suite *suite = suite_create("tree-watch");
        TCase *tcase = tcase_create("watch");

        tcase_set_timeout(tcase, 30);
        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, each_run_is_told_of_its_own);
        tcase_add_test(tcase, what_is_no_longer_watched_is_silent);
        tcase_add_test(tcase, the_callback_may_remove);
        tcase_add_test(tcase, when_the_queue_overflows_every_run_is_told);
        tcase_add_test(tcase, a_file_that_goes_away_ends_its_watch);
        tcase_add_test(tcase, without_a_descriptor_nothing_is_watched);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(tree_watch_suite);
