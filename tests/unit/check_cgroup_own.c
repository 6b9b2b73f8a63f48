/* SPDX-License-Identifier: MIT */

#include "daemon/engine/cgroup-own.h"

#include <errno.h>
#include <unistd.h>

#include "tests/support/check-main.h"

#define V2(root, point) "30 24 0:27 " root " " point " rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
#define OTHER                                                                                                \
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"                                            \
        "31 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"

typedef struct Row {
        const char *cgroup;
        const char *mountinfo;
        const char *path; /* NULL: there is none */
} Row;

static const Row rows[] = {
        { "0::/\n", OTHER V2("/", "/sys/fs/cgroup"), "/sys/fs/cgroup" },
        { "0::/system.slice/pmux.service\n", V2("/", "/sys/fs/cgroup") OTHER,
          "/sys/fs/cgroup/system.slice/pmux.service" },
        /* hybrid: version 1 beside it */
        { "9:name=systemd:/x\n4:memory:/y\n0::/z\n", OTHER V2("/", "/sys/fs/cgroup/unified"),
          "/sys/fs/cgroup/unified/z" },
        { "4:memory:/y\n", V2("/", "/sys/fs/cgroup"), NULL },
        { "", V2("/", "/sys/fs/cgroup"), NULL },
        { "0::/x\n", OTHER, NULL },
        { "0::/x\n", "", NULL },
        /* a part of the tree is mounted */
        { "0::/docker/abc\n", V2("/docker/abc", "/sys/fs/cgroup"), "/sys/fs/cgroup" },
        { "0::/docker/abc/d\n", V2("/docker/abc", "/sys/fs/cgroup"), "/sys/fs/cgroup/d" },
        { "0::/docker/abcd\n", V2("/docker/abc", "/sys/fs/cgroup"), NULL },
        { "0::/docker\n", V2("/docker/abc", "/sys/fs/cgroup"), NULL },
        { "0::/docker/abc\n", V2("/other", "/a") V2("/docker", "/b"), "/b/abc" },
        /* outside of our cgroup namespace */
        { "0::/../x\n", V2("/", "/sys/fs/cgroup"), NULL },
        { "0::/..\n", V2("/", "/sys/fs/cgroup"), NULL },
        { "0::/../x/y\n", V2("/../x", "/sys/fs/cgroup"), "/sys/fs/cgroup/y" },
        { "0::/x\n", V2("/..", "/sys/fs/cgroup"), NULL },
        /* names */
        { "0::/a b\n", V2("/", "/mnt/c\\040\\134d"), "/mnt/c \\d/a b" },
        { "0::/a\n", V2("/", "/mnt/x\\09"), "/mnt/x\\09/a" },
        { "0::/x", V2("/", "/c"), "/c/x" },
        { "0::relative\n", V2("/", "/c"), NULL },
        /* lines that are not complete */
        { "0::/x\n", "30 24 0:27 / - cgroup2 cgroup2 rw\n", NULL },
        { "0::/x\n", " - cgroup2 \n\n30 - cgroup2 \n", NULL },
        { "0::/x\n", "30 24 0:27 / /mnt rw - cgroup2x cgroup2 rw\n", NULL },
};

START_TEST(the_texts_are_read)
{
        const Row *row = &rows[_i];
        char *path = NULL;

        ck_assert_int_eq(cgroup_own_path(row->cgroup, row->mountinfo, 0, &path), row->path ? 0 : -ENOENT);
        if (row->path)
                ck_assert_str_eq(path, row->path);
        else
                ck_assert_ptr_null(path);
        free(path);
        ck_assert_int_eq(cgroup_own_path(row->cgroup, row->mountinfo, 1, &path), -ENOENT);
}
END_TEST

START_TEST(each_of_several_mounts_is_offered)
{
        static const char mountinfo[] = V2("/", "/a") V2("/other", "/b") V2("/x", "/c");
        char *path;

        ck_assert_int_eq(cgroup_own_path("0::/x/y\n", mountinfo, 0, &path), 0);
        ck_assert_str_eq(path, "/a/x/y");
        free(path);
        ck_assert_int_eq(cgroup_own_path("0::/x/y\n", mountinfo, 1, &path), 0);
        ck_assert_str_eq(path, "/c/y");
        free(path);
        ck_assert_int_eq(cgroup_own_path("0::/x/y\n", mountinfo, 2, &path), -ENOENT);
}
END_TEST

START_TEST(this_machine_is_understood)
{
        int before = open_fds_count(), fd = -1, r;
        char *path = NULL, *same = NULL;
        Error error = {};

        r = cgroup_own_open(&fd, &path, &error);
        if (r < 0) { /* a machine without: then it says why */
                ck_assert_int_ne(error.code, ERROR_NONE);
                ck_assert_int_eq(fd, -1);
                return;
        }
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(cgroup_path_of(getpid(), &same), 0);
        ck_assert_str_eq(path, same);
        (void)close(fd);
        free(path);
        free(same);
        ck_assert_int_eq(open_fds_count(), before);
}
END_TEST

START_TEST(a_process_that_is_gone_has_no_cgroup)
{
        char *path = NULL;

        ck_assert_int_eq(cgroup_path_of(0x3fffffff, &path), -ESRCH);
        ck_assert_ptr_null(path);
}
END_TEST

static Suite *cgroup_own_suite(void) {
        Suite *suite = suite_create("cgroup-own");
        TCase *text = tcase_create("text"), *machine = tcase_create("machine");

        tcase_add_loop_test(text, the_texts_are_read, 0, ARRAY_SIZE(rows));
        tcase_add_test(text, each_of_several_mounts_is_offered);
        tcase_add_test(machine, this_machine_is_understood);
        tcase_add_test(machine, a_process_that_is_gone_has_no_cgroup);
        suite_add_tcase(suite, text);
        suite_add_tcase(suite, machine);
        return suite;
}

CHECK_MAIN(cgroup_own_suite);
