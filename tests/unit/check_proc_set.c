/* SPDX-License-Identifier: MIT */

#include "daemon/engine/proc-set.h"

#include "common/macro.h"
#include "tests/support/check-main.h"

static ProcId id(pid_t pid, uint64_t start) {
        return (ProcId){ .pid = pid, .start = start };
}

static bool has(const ProcSet *set, pid_t pid, uint64_t start) {
        ProcId wanted = id(pid, start);

        return proc_set_has(set, &wanted);
}

START_TEST(processes_are_kept_in_order_each_once)
{
        CLEANUP(proc_set_deinit) ProcSet set = {};
        ProcId one;

        ck_assert(!has(&set, 1, 1));
        for (int i = 0; i < 1000; i++) { /* 7 * i mod 1000 takes every value once */
                one = id(1 + 7 * i % 1000, 5);
                ck_assert_int_eq(proc_set_add(&set, &one), 0);
                ck_assert_int_eq(proc_set_add(&set, &one), 0);
        }
        ck_assert_uint_eq(set.n_ids, 1000);
        for (size_t i = 0; i < 1000; i++)
                ck_assert_int_eq(set.ids[i].pid, (pid_t)i + 1);
        ck_assert(has(&set, 1, 5) && has(&set, 500, 5) && has(&set, 1000, 5));
        ck_assert(!has(&set, 0, 5) && !has(&set, 1001, 5));
}
END_TEST

START_TEST(a_pid_that_is_used_again_is_another_process)
{
        CLEANUP(proc_set_deinit) ProcSet set = {};
        ProcId one = { .pid = 7, .start = 5 };

        ck_assert_int_eq(proc_set_add(&set, &one), 0);
        ck_assert(has(&set, 7, 5) && !has(&set, 7, 6));
        one.start = 6;
        ck_assert_int_eq(proc_set_add(&set, &one), 0);
        ck_assert(has(&set, 7, 6) && !has(&set, 7, 5));
        ck_assert_uint_eq(set.n_ids, 1);
        proc_set_deinit(&set);
        ck_assert_uint_eq(set.n_ids, 0);
        ck_assert(!has(&set, 7, 6));
}
END_TEST

static Suite *proc_set_suite(void) {
        Suite *suite = suite_create("proc-set");
        TCase *set = tcase_create("set");

        tcase_add_test(set, processes_are_kept_in_order_each_once);
        tcase_add_test(set, a_pid_that_is_used_again_is_another_process);
        suite_add_tcase(suite, set);
        return suite;
}

CHECK_MAIN(proc_set_suite);
