/* SPDX-License-Identifier: MIT */

/* The table of children, and what is told of each in which order. */

#include "daemon/keeper/child.h"

#include <errno.h>
#include <signal.h>

#include "tests/support/check-main.h"

#define N_MANY 5000

static ChildTable table;
static const KeeperUsage usage = { .user_usec = 11, .involuntary_switches = 19 };

static void setup(void) {
        child_table_init(&table);
}

static void teardown(void) {
        child_table_deinit(&table);
        ck_assert_uint_eq(table.n, 0);
        ck_assert(list_empty(&table.all) && list_empty(&table.untold));
}

static Child *child_add(uint64_t process, uint32_t run) {
        Child *child = NULL;

        ck_assert_int_eq(child_table_add(&table, process, run, &child), 0);
        return child;
}

/* Takes the next message that is due, and the child is told. */
static KeeperMessage told_next(Child *child) {
        KeeperMessage message;

        ck_assert(list_linked(&child->untold));
        child_set_told(&table, child, child_next_message(child, &message));
        return message;
}

START_TEST(a_child_is_found_by_key_and_pid_while_it_runs)
{
        Child *child = child_add(5, 2);

        ck_assert_ptr_eq(child_table_find(&table, 5, 2), child);
        ck_assert_ptr_null(child_table_find(&table, 5, 1));
        child_set_running(&table, child, 4711, 1);
        ck_assert_ptr_eq(child_table_find_pid(&table, 4711), child);
        ck_assert_uint_eq(table.n_running, 1);
        child_set_exited(&table, child, CLD_EXITED, 3, &usage, 2);
        ck_assert_ptr_null(child_table_find_pid(&table, 4711));
        ck_assert_ptr_eq(child_table_find(&table, 5, 2), child);
        ck_assert_uint_eq(table.n_running, 0);
        (void)child_remove(&table, child);
        ck_assert_ptr_null(child_table_find(&table, 5, 2));
}
END_TEST

START_TEST(start_and_end_are_told_in_order)
{
        Child *child = child_add(5, 2);
        KeeperMessage message;

        child_set_running(&table, child, 4711, 1);
        message = told_next(child);
        ck_assert_uint_eq(message.type, KEEPER_SPAWNED);
        ck_assert_uint_eq(message.state, KEEPER_CHILD_RUNNING);
        ck_assert_int_eq(message.pid, 4711);
        ck_assert(list_empty(&table.untold));
        child_set_exited(&table, child, CLD_EXITED, 3, &usage, 2);
        ck_assert_uint_eq(told_next(child).type, KEEPER_EXITED);
        ck_assert(list_empty(&table.untold));
}
END_TEST

START_TEST(an_end_before_the_start_was_told_says_both)
{
        Child *child = child_add(5, 2);
        KeeperMessage message;

        child_set_running(&table, child, 4711, 1);
        child_set_exited(&table, child, CLD_KILLED, 9, &usage, 2);
        message = told_next(child);
        ck_assert_int_eq(message.pid, 4711);
        ck_assert_uint_eq(message.type, KEEPER_EXITED);
        ck_assert_uint_eq(message.state, KEEPER_CHILD_EXITED);
        ck_assert_int_eq(message.wait_code, CLD_KILLED);
        ck_assert_int_eq(message.wait_status, 9);
        ck_assert_uint_eq(message.usec, 2);
        ck_assert_uint_eq(message.usage.user_usec, 11);
        ck_assert_uint_eq(message.usage.involuntary_switches, 19);
        ck_assert(list_empty(&table.untold));
}
END_TEST

START_TEST(a_failure_is_told_with_step_and_error)
{
        Child *child = child_add(5, 2);
        KeeperMessage message;

        child_set_failed(&table, child, ENOENT, "exec");
        message = told_next(child);
        ck_assert_uint_eq(message.type, KEEPER_SPAWNED);
        ck_assert_uint_eq(message.state, KEEPER_CHILD_FAILED);
        ck_assert_int_eq(message.error, ENOENT);
        ck_assert_str_eq(message.text, "exec");
        ck_assert(list_empty(&table.untold));
}
END_TEST

START_TEST(what_is_to_be_told_again_is_told_once)
{
        Child *child = child_add(5, 2);

        child_set_running(&table, child, 4711, 1);
        (void)told_next(child);
        child_set_exited(&table, child, CLD_EXITED, 0, &usage, 2);
        (void)told_next(child);
        child_set_told(&table, child, KEEPER_CHILD_NONE);
        ck_assert_uint_eq(told_next(child).type, KEEPER_EXITED);
        ck_assert(list_empty(&table.untold));
}
END_TEST

START_TEST(thousands_are_found_and_kept_in_order)
{
        uint64_t next = 0;

        for (uint64_t i = 0; i < N_MANY; i++)
                child_set_running(&table, child_add(i, (uint32_t)i % 3), (pid_t)(100 + i * 64), 1);
        for (uint64_t i = 0; i < N_MANY; i += 2)
                (void)child_remove(&table, child_table_find_pid(&table, (pid_t)(100 + i * 64)));
        for (uint64_t i = 0; i < N_MANY; i++)
                ck_assert_int_eq(!!child_table_find(&table, i, (uint32_t)i % 3), i % 2);
        LIST_FOREACH(Child, child, &table.all, all) {
                ck_assert_uint_gt(child->process, next);
                next = child->process;
        }
        ck_assert_uint_eq(table.n, N_MANY / 2);
        ck_assert_uint_eq(table.n_running, N_MANY / 2);
}
END_TEST

static Suite *child_suite(void) {
        Suite *suite = suite_create("child");
        TCase *all = tcase_create("table");

        tcase_add_checked_fixture(all, setup, teardown);
        tcase_add_test(all, a_child_is_found_by_key_and_pid_while_it_runs);
        tcase_add_test(all, start_and_end_are_told_in_order);
        tcase_add_test(all, an_end_before_the_start_was_told_says_both);
        tcase_add_test(all, a_failure_is_told_with_step_and_error);
        tcase_add_test(all, what_is_to_be_told_again_is_told_once);
        tcase_add_test(all, thousands_are_found_and_kept_in_order);
        suite_add_tcase(suite, all);
        return suite;
}

CHECK_MAIN(child_suite);
