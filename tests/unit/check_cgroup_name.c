/* SPDX-License-Identifier: MIT */

#include "daemon/engine/cgroup-name.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/macro.h"
#include "tests/support/check-main.h"

START_TEST(a_keeper_is_dead_when_it_is_gone)
{
        char name[CGROUP_NAME_MAX];
        siginfo_t info;
        int fds[2];
        pid_t pid;
        char c;

        ck_assert_int_eq(pipe(fds), 0);
        pid = fork();
        if (pid == 0) {
                (void)close(fds[1]);
                _exit(read(fds[0], &c, 1) == 0 ? 0 : 1);
        }
        (void)close(fds[0]);
        ck_assert_int_eq(cgroup_name_make(name, "0123456789abcdef", pid), 0);
        ck_assert(!cgroup_name_is_dead(name));
        (void)close(fds[1]);
        ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
        ck_assert(cgroup_name_is_dead(name)); /* not reaped yet */
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        ck_assert(cgroup_name_is_dead(name));
}
END_TEST

START_TEST(a_number_that_is_used_again_is_another_keeper)
{
        char name[CGROUP_NAME_MAX], other[CGROUP_NAME_MAX], *start;
        unsigned long long ticks, space;
        int pid;

        ck_assert_int_eq(cgroup_name_make(name, "ab", getpid()), 0);
        start = strchr(name, '.');
        ck_assert_int_eq(sscanf(start, ".%d.%llu.%llu", &pid, &ticks, &space), 3);
        ck_assert_int_eq(pid, getpid());
        (void)snprintf(other, sizeof(other), "pmux-ab.%d.%llu.%llu", pid, ticks, space);
        ck_assert(!cgroup_name_is_dead(other));
        (void)snprintf(other, sizeof(other), "pmux-ab.%d.%llu.%llu", pid, ticks - 1, space);
        ck_assert(cgroup_name_is_dead(other));
        (void)snprintf(other, sizeof(other), "pmux-ab.%d.%llu.%llu", pid, ticks - 1, space + 1);
        ck_assert(!cgroup_name_is_dead(other)); /* what lives in another pid namespace, we cannot know */
}
END_TEST

START_TEST(a_name_of_another_form_says_nothing)
{
        static const char *const names[] = {
                "",
                "pmux",
                "pmux-",
                "pmux-ab",
                "pmux.service",
                "pmux-ab.1073741823",
                "pmux-ab.1073741823.1",
                "system.slice",
                "pmux-ab.0.1.1",
                "pmux-ab.-1.1.1",
        };
        char name[CGROUP_NAME_MAX], longer[CGROUP_NAME_MAX + 1], *pid;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                ck_assert(!cgroup_name_is_dead(names[i]));
        ck_assert_int_eq(cgroup_name_make(name, "ab", getpid()), 0);
        pid = strchr(name, '.') + 1;
        (void)snprintf(longer, sizeof(longer), "pmux-ab.1073741823%s", strchr(pid, '.'));
        ck_assert(cgroup_name_is_dead(longer)); /* no such process: the form is what the next one breaks */
        strcat(longer, "x");
        ck_assert(!cgroup_name_is_dead(longer));
        (void)snprintf(longer, sizeof(longer), "pmux-xy.1073741823%s", strchr(pid, '.'));
        ck_assert(!cgroup_name_is_dead(longer));
}
END_TEST

START_TEST(only_hex_text_names_an_instance)
{
        char name[CGROUP_NAME_MAX];
        char digits[66];

        ck_assert_int_eq(cgroup_name_make(name, "", getpid()), -EINVAL);
        ck_assert_int_eq(cgroup_name_make(name, "a/b", getpid()), -EINVAL);
        ck_assert_int_eq(cgroup_name_make(name, "a.b", getpid()), -EINVAL);
        memset(digits, 'f', sizeof(digits));
        digits[65] = '\0';
        ck_assert_int_eq(cgroup_name_make(name, digits, getpid()), -EINVAL);
        digits[64] = '\0';
        ck_assert_int_eq(cgroup_name_make(name, digits, getpid()), 0);
        ck_assert_int_eq(cgroup_name_make(name, "ab", 0x3fffffff), -ESRCH);
}
END_TEST

static Suite *cgroup_name_suite(void) {
        Suite *suite = suite_create("cgroup-name");
        TCase *dead = tcase_create("dead"), *form = tcase_create("form");

        tcase_add_test(dead, a_keeper_is_dead_when_it_is_gone);
        tcase_add_test(dead, a_number_that_is_used_again_is_another_keeper);
        tcase_add_test(form, a_name_of_another_form_says_nothing);
        tcase_add_test(form, only_hex_text_names_an_instance);
        suite_add_tcase(suite, dead);
        suite_add_tcase(suite, form);
        return suite;
}

CHECK_MAIN(cgroup_name_suite);
