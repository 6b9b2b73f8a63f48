/* SPDX-License-Identifier: MIT */

/* Out of memory at every single allocation: the call is refused with -ENOMEM, nothing leaks, nothing is half
 * done. */

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/parse.h"
#include "common/paths.h"
#include "daemon/engine/cgroup-own.h"
#include "daemon/engine/proc-set.h"
#include "daemon/engine/tree-file.h"
#include "daemon/engine/tree-proc.h"
#include "daemon/engine/tree-watch.h"
#include "daemon/engine/tree.h"
#include "tests/support/torture.h"

static Error error;

static bool refused(int r) {
        return r == -ENOMEM && (error.code == ERROR_NO_MEMORY || error.code == ERROR_NONE);
}

/* The C library shrinks what vasprintf(3) and getcwd(3) return and takes room for qsort(3): it does without
 * where it cannot. */
static bool refused_or_done(int r) {
        return r == 0 || refused(r);
}

START_TEST(the_torture_itself_counts)
{
        char *volatile p; /* or the compiler does without the allocation */
        int n = 0;

        TORTURE(n++; p = strdup("x"), !p, free(p));
        ck_assert_int_eq(n, 2);
        n = 0;
        TORTURE(n++; p = malloc(1); free(p); p = NULL;
                if (!torture_failed) p = realloc(NULL, 1), !p, free(p));
        ck_assert_int_eq(n, 3);
}
END_TEST

START_TEST(bytes_become_json)
{
        json_t *json;

        TORTURE(json = bytes_to_json("text", 4), !json, json_decref(json));
        TORTURE(json = bytes_to_json("\xff\xfe", 2), !json, json_decref(json));
        TORTURE(json = bytes_string_to_json("x"), !json, json_decref(json));
        TORTURE(json = bytes_string_to_json(NULL), !json, json_decref(json));
}
END_TEST

START_TEST(json_becomes_bytes)
{
        static const char *const texts[] = { "\"text\"", "{\"base64\":\"AAEC\"}", "{\"base64\":\"AQEC\"}" };
        char *string;
        json_t *json;
        Bytes bytes;
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                json = json_loads(texts[i], JSON_DECODE_ANY, NULL);
                bytes = (Bytes){};
                TORTURE(r = bytes_from_json(json, "data", &bytes, &error), refused(r) && !bytes.data,
                        bytes_deinit(&bytes));
                string = NULL;
                TORTURE(r = bytes_string_from_json(json, "data", &string, &error), refused(r) && !string,
                        free(string);
                        string = NULL);
                json_decref(json);
        }
}
END_TEST

START_TEST(base64_both_ways)
{
        Bytes bytes = {};
        char *text;
        int r;

        TORTURE(text = base64_encode("abc", 3), !text, free(text));
        TORTURE(r = base64_decode("YWJj", 4, &bytes), r == -ENOMEM && !bytes.data, bytes_deinit(&bytes));
        TORTURE(r = base64_decode("YW?j", 4, &bytes), r == -ENOMEM && !bytes.data, bytes_deinit(&bytes));
}
END_TEST

START_TEST(paths)
{
        char long_path[200], *path = NULL;
        int r;

        memset(long_path, 'x', sizeof(long_path) - 1);
        long_path[0] = '/';
        long_path[sizeof(long_path) - 1] = '\0';
        TORTURE(r = paths_socket("/a/b", &path, &error), refused_or_done(r) && !path == (r < 0), free(path);
                path = NULL);
        TORTURE(r = paths_socket("b", &path, &error), refused_or_done(r) && !path == (r < 0), free(path);
                path = NULL);
        TORTURE(r = paths_socket(NULL, &path, &error), refused_or_done(r) && !path == (r < 0), free(path);
                path = NULL);
        TORTURE(r = paths_socket(long_path, &path, &error), r < 0 && !path, free(path); path = NULL);
        TORTURE(r = paths_state(NULL, 1, &path, &error), refused_or_done(r) && !path == (r < 0), free(path);
                path = NULL);
        TORTURE(r = paths_state("x", 0, &path, &error), refused_or_done(r) && !path == (r < 0), free(path);
                path = NULL);
        ck_assert_int_eq(setenv("HOME", "/home/x", 1), 0);
        TORTURE(r = paths_state(NULL, 0, &path, &error), refused_or_done(r) && !path == (r < 0), free(path);
                path = NULL);
}
END_TEST

START_TEST(what_is_parsed_needs_no_memory)
{
        uint64_t value;
        int number, r;

        TORTURE(r = parse_duration("1h30m", &value, &error), false, (void)r);
        TORTURE(r = parse_duration("x", &value, &error), false, (void)r);
        TORTURE(r = parse_size("1.5K", &value, &error), false, (void)r);
        TORTURE(r = parse_signal("TERM", &number, &error), false, (void)r);
        TORTURE(r = parse_timestamp("@5", 0, &value, &error), false, (void)r);
}
END_TEST

START_TEST(sets_of_processes)
{
        ProcSet set = {};
        ProcId id = { .pid = 7 };
        int r;

        TORTURE(r = proc_set_add(&set, &id), r == -ENOMEM && set.n_ids == 0, proc_set_deinit(&set));
        for (id.pid = 1; id.pid <= 16; id.pid++)
                ck_assert_int_eq(proc_set_add(&set, &id), 0);
        torture_begin(0);
        r = proc_set_add(&set, &id); /* the array must grow */
        ck_assert(torture_end());
        ck_assert_int_eq(r, -ENOMEM);
        ck_assert_uint_eq(set.n_ids, 16);
        proc_set_deinit(&set);
}
END_TEST

START_TEST(own_cgroup)
{
        static const char mountinfo[] = "30 24 0:27 / /c rw - cgroup2 cgroup2 rw\n";
        char *path = NULL, *text = NULL;
        int r, fd = -1;

        TORTURE(r = cgroup_own_path("0::/x\n", mountinfo, 0, &path), refused_or_done(r), free(path);
                path = NULL);
        TORTURE(r = tree_file_read(AT_FDCWD, "/proc/self/smaps", &text), r == -ENOMEM && !text, free(text);
                text = NULL);
        TORTURE(r = cgroup_own_open(&fd, &path, &error), refused_or_done(r) && (fd == -1) == (r < 0),
                free(path);
                path = NULL; if (fd >= 0) fd = close(fd) - 1);
}
END_TEST

START_TEST(a_whole_tree)
{
        TreeRoot *root = NULL;
        ProcSet set = {};
        int r, fd = -1;
        size_t n;
        Tree tree;
        TreeProcQuery query = { .keeper_pid = getppid(), .main_pid = getpid(), .mark = "MARK=x" };

        /* With cgroups, and without. */
        ck_assert_int_eq(_i == 0 ? unsetenv("PMUX_NO_CGROUP") : setenv("PMUX_NO_CGROUP", "1", 1), 0);
        TORTURE(r = tree_root_open(&root, "7011ab", getpid(), &error), refused_or_done(r) && !root == (r < 0),
                root = tree_root_free(root));
        TORTURE(r = tree_proc_pids(&query, false, &set), refused_or_done(r), proc_set_deinit(&set));
        TORTURE(r = tree_proc_pids(&query, true, &set), refused_or_done(r), proc_set_deinit(&set));
        ck_assert_int_eq(tree_root_open(&root, "7011ab", getpid(), NULL), 0);
        tree_init(root, &tree, 1, 1, 0);
        TORTURE(r = tree_prepare(root, &tree, &fd, &error), refused(r) && fd == -1,
                if (fd >= 0) fd = close(fd) - 1);
        TORTURE(r = tree_empty(root, &tree), r == -ENOMEM || r == 1, (void)r);
        TORTURE(r = tree_pids(root, &tree, NULL, 0, &n), refused_or_done(r), (void)r);
        TORTURE(r = tree_signal(root, &tree, SIGTERM, &n, &error), refused_or_done(r), (void)r);
        TORTURE(r = tree_signal(root, &tree, SIGKILL, &n, &error), refused_or_done(r), (void)r);
        TORTURE(r = tree_freeze(root, &tree, true, &error), refused_or_done(r), (void)r);
        if (tree_root_has_cgroups(root)) {
                torture_begin(0);
                r = tree_watch(root, &tree);
                ck_assert(torture_end());
                ck_assert_int_eq(r, -ENOMEM);
                ck_assert_int_eq(tree_watch(root, &tree), 1);
        }
        tree_release(root, &tree);
        root = tree_root_free(root);
}
END_TEST

static Suite *torture_suite(void) {
        Suite *suite = suite_create("torture");
        TCase *common = tcase_create("common"), *trees = tcase_create("trees");

        suite_add_tcase(suite, common);
        suite_add_tcase(suite, trees);
        if (!TORTURE_POSSIBLE)
                return suite;
        tcase_set_timeout(common, 30);
        tcase_set_timeout(trees, 60);
        tcase_add_test(common, the_torture_itself_counts);
        tcase_add_test(common, bytes_become_json);
        tcase_add_test(common, json_becomes_bytes);
        tcase_add_test(common, base64_both_ways);
        tcase_add_test(common, paths);
        tcase_add_test(common, what_is_parsed_needs_no_memory);
        tcase_add_test(trees, sets_of_processes);
        tcase_add_test(trees, own_cgroup);
        tcase_add_loop_test(trees, a_whole_tree, 0, 2);
        return suite;
}

CHECK_MAIN(torture_suite);
