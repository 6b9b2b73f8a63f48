/* SPDX-License-Identifier: MIT */

/* The spec of a SPAWN: unpacked as written, refused when its parts do not agree. */

#include "daemon/keeper/child-spec.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/keeper-message.h"
#include "tests/support/check-main.h"

#define STRINGS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define NONE ((const char *const[]){ NULL })

static ChildSpec spec;
static int n_fds;

static void setup(void) {
        n_fds = open_fds_count();
        spec = (ChildSpec){};
}

static void teardown(void) {
        child_spec_deinit(&spec);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static size_t add_string(char *block, size_t at, const char *string) {
        return (size_t)(stpcpy(block + at, string) + 1 - block);
}

static size_t make(char *block, const char *const *args, const char *const *env, const char *cwd,
                   const char *mark) {
        KeeperSpec header = { .magic = KEEPER_SPEC_MAGIC, .umask = 027 };
        size_t at = sizeof(header);

        for (; args[header.n_args]; header.n_args++)
                at = add_string(block, at, args[header.n_args]);
        for (; env[header.n_env]; header.n_env++)
                at = add_string(block, at, env[header.n_env]);
        at = add_string(block, at, cwd);
        at = add_string(block, at, mark);
        header.size = (uint32_t)at;
        memcpy(block, &header, sizeof(header));
        return at;
}

/* From a descriptor, and from memory, which comes to the same. */
static int read_block(const char *block, size_t size) {
        ChildSpec copy = {};
        int fd, r;

        fd = memfd_create("spec", MFD_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, block, size), (ssize_t)size);
        r = child_spec_read(fd, &spec);
        ck_assert_int_eq(close(fd), 0);
        ck_assert_int_eq(child_spec_copy(block, size, &copy), r);
        if (r == 0)
                ck_assert_mem_eq(copy.block, spec.block, size);
        child_spec_deinit(&copy);
        return r;
}

static int read_spec(const char *const *args, const char *const *env, const char *mark) {
        char block[4096];

        return read_block(block, make(block, args, env, "/tmp", mark));
}

static void ck_assert_strings_eq(char *const *strings, const char *const *expected) {
        for (; *expected; strings++, expected++)
                ck_assert_str_eq(*strings, *expected);
        ck_assert_ptr_null(*strings);
}

START_TEST(all_parts_arrive_byte_for_byte)
{
        ck_assert_int_eq(read_spec(STRINGS("/bin/a", "", "\xff\xfe \n"), STRINGS("A=1", "B=\x80"), "M=7"), 0);
        ck_assert_strings_eq(spec.argv, STRINGS("/bin/a", "", "\xff\xfe \n"));
        ck_assert_strings_eq(spec.envp, STRINGS("A=1", "B=\x80", "M=7"));
        ck_assert_strings_eq(spec.candidates, STRINGS("/bin/a"));
        ck_assert_str_eq(spec.cwd, "/tmp");
        ck_assert_uint_eq(spec.umask, 027);
}
END_TEST

START_TEST(without_a_mark_the_environment_is_as_given)
{
        ck_assert_int_eq(read_spec(STRINGS("/bin/a"), NONE, ""), 0);
        ck_assert_strings_eq(spec.envp, NONE);
}
END_TEST

START_TEST(a_name_is_looked_up_in_the_path_of_the_environment)
{
        ck_assert_int_eq(read_spec(STRINGS("ls"), STRINGS("X=1", "PATH=/a::/b/:", "PATHS=/c"), ""), 0);
        ck_assert_strings_eq(spec.candidates, STRINGS("/a/ls", "./ls", "/b//ls", "./ls"));
}
END_TEST

START_TEST(the_first_path_counts_as_for_getenv)
{
        ck_assert_int_eq(read_spec(STRINGS("ls"), STRINGS("PATH=/first", "PATH=/second"), ""), 0);
        ck_assert_strings_eq(spec.candidates, STRINGS("/first/ls"));
}
END_TEST

START_TEST(without_a_path_there_is_a_default)
{
        ck_assert_int_eq(read_spec(STRINGS("ls"), NONE, ""), 0);
        ck_assert_strings_eq(spec.candidates, STRINGS("/usr/local/bin/ls", "/usr/bin/ls", "/bin/ls"));
}
END_TEST

START_TEST(an_empty_name_is_nowhere)
{
        ck_assert_int_eq(read_spec(STRINGS(""), NONE, ""), 0);
        ck_assert_strings_eq(spec.candidates, NONE);
}
END_TEST

/* Changes one field of a spec that is right. */
START_TEST(a_spec_that_does_not_agree_is_refused)
{
        char block[4096];
        size_t size = make(block, STRINGS("/bin/a", "b"), STRINGS("C=1"), "/", "M=1");
        KeeperSpec right, wrong;

        memcpy(&right, block, sizeof(right));
        for (int i = 0; i < 8; i++) {
                wrong = right;
                if (i == 0)
                        wrong.magic++;
                else if (i == 1)
                        wrong.size++;
                else if (i == 2)
                        wrong.size--;
                else if (i == 3)
                        wrong.n_args++;
                else if (i == 4)
                        wrong.n_env--;
                else if (i == 5)
                        wrong.n_args = 0;
                else if (i == 6)
                        wrong.n_args = UINT32_MAX;
                else
                        wrong.n_env = UINT32_MAX - 1;
                memcpy(block, &wrong, sizeof(wrong));
                ck_assert_msg(read_block(block, size) == -EPROTO, "case %d", i);
        }
        memcpy(block, &right, sizeof(right));
        block[size - 1] = 'x'; /* the last string has no end */
        ck_assert_int_eq(read_block(block, size), -EPROTO);
        ck_assert_int_eq(read_block(block, sizeof(KeeperSpec) - 1), -EPROTO);
}
END_TEST

START_TEST(what_is_no_file_is_refused)
{
        int fds[2];

        ck_assert_int_eq(pipe(fds), 0);
        ck_assert_int_lt(child_spec_read(fds[0], &spec), 0);
        (void)close(fds[0]);
        (void)close(fds[1]);
}
END_TEST

static Suite *child_spec_suite(void) {
        Suite *suite = suite_create("child-spec");
        TCase *all = tcase_create("spec");

        tcase_add_checked_fixture(all, setup, teardown);
        tcase_add_test(all, all_parts_arrive_byte_for_byte);
        tcase_add_test(all, without_a_mark_the_environment_is_as_given);
        tcase_add_test(all, a_name_is_looked_up_in_the_path_of_the_environment);
        tcase_add_test(all, the_first_path_counts_as_for_getenv);
        tcase_add_test(all, without_a_path_there_is_a_default);
        tcase_add_test(all, an_empty_name_is_nowhere);
        tcase_add_test(all, a_spec_that_does_not_agree_is_refused);
        tcase_add_test(all, what_is_no_file_is_refused);
        suite_add_tcase(suite, all);
        return suite;
}

CHECK_MAIN(child_spec_suite);
