/* SPDX-License-Identifier: MIT */

#include "daemon/engine/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/limits.h"
#include "tests/support/check-main.h"

#define N 8

/* Nothing runs here: a process is what a queue sees of one. */
typedef struct Run {
        QueuePlace place;
        QueueConfig config;
        Process process;
        int result;     /* of its beginning */
        unsigned begun; /* 1, 2, …: as which one; 0: not */
        bool was_cancelled;
} Run;

static Run runs[N];
static List processes;
static QueueSet set;
static unsigned n_begun;

static int on_turn(QueuePlace *place, bool is_cancelled, Process **ret_process) {
        Run *run = CONTAINER_OF(place, Run, place);

        run->was_cancelled = is_cancelled;
        if (is_cancelled)
                return -ECANCELED;
        run->begun = ++n_begun;
        if (run->result == 0)
                *ret_process = &run->process;
        return run->result;
}

static void setup(void) {
        memset(runs, 0, sizeof(runs));
        n_begun = 0;
        list_init(&processes);
        queue_set_init(&set, &processes);
        for (size_t i = 0; i < N; i++) {
                runs[i].place =
                        (QueuePlace){ .config = &runs[i].config, .size_bytes = 100, .on_turn = on_turn };
                runs[i].config = (QueueConfig){ .jobs = 2, .stop_on_failure = true, .name = "q" };
                runs[i].process.config.queue = &runs[i].config;
                runs[i].process.run.run = 1;
                list_init(&runs[i].process.watches);
        }
}

static void teardown(void) {
        for (size_t i = 0; i < N; i++)
                queue_leave(&set, &runs[i].place);
        ck_assert_uint_eq(set.waiting_bytes, 0);
        queue_set_deinit(&set);
        for (size_t i = 0; i < N; i++)
                ck_assert(list_empty(&runs[i].process.watches));
}

static void join_all(void) {
        for (size_t i = 0; i < N; i++)
                ck_assert_int_eq(queue_join(&set, &runs[i].place, NULL), 0);
        queue_set_finish_turn(&set);
}

/* What the engine does when it learns of an end. */
static void end(Run *run, unsigned ended, int code) {
        run->process.run.ended |= ended;
        run->process.run.exit = (ExitRecord){ .known = true, .code = code, .cause = "self" };
        LIST_FOREACH(ProcessWatch, watch, &run->process.watches, link)
                watch->on_change(watch, &run->process);
}

START_TEST(as_many_go_as_may)
{
        join_all();
        ck_assert_uint_eq(n_begun, 2);
        end(&runs[0], RUN_EXITED, 0); /* not all that it wrote is in the log */
        queue_set_finish_turn(&set);
        ck_assert_uint_eq(n_begun, 2);
        end(&runs[0], RUN_LOGGED_EXIT, 0);
        ck_assert_uint_eq(n_begun, 2); /* not before the turn's end */
        queue_set_finish_turn(&set);
        ck_assert_uint_eq(n_begun, 3);
        for (unsigned i = 1; i < N; i++) {
                end(&runs[i], RUN_EXITED | RUN_LOGGED_EXIT, 0);
                queue_set_finish_turn(&set);
        }
        for (unsigned i = 0; i < N; i++)
                ck_assert_uint_eq(runs[i].begun, i + 1);
}
END_TEST

START_TEST(queues_do_not_mind_each_other)
{
        for (size_t i = 0; i < N; i++)
                (void)strcpy(runs[i].config.name, i % 2 ? "odd" : "even");
        join_all();
        for (size_t i = 0; i < N; i++)
                ck_assert_int_eq(runs[i].begun > 0, i < 4);
}
END_TEST

START_TEST(a_failure_ends_those_that_wait)
{
        join_all();
        end(&runs[0], RUN_LOGGED_EXIT | (_i == 0 ? RUN_EXITED : RUN_FAILED), _i == 0 ? 7 : 0);
        queue_set_finish_turn(&set);
        ck_assert_uint_eq(n_begun, 2);
        for (size_t i = 2; i < N; i++)
                ck_assert(runs[i].was_cancelled);
        ck_assert_int_eq(queue_join(&set, &runs[2].place, NULL), 0); /* and those that come later */
        runs[2].was_cancelled = false;
        queue_set_finish_turn(&set);
        ck_assert(runs[2].was_cancelled);
}
END_TEST

START_TEST(what_ended_at_its_deadline_has_failed)
{
        join_all();
        runs[0].process.run.ended |= RUN_EXITED | RUN_LOGGED_EXIT;
        runs[0].process.run.exit = (ExitRecord){ .known = true, .cause = "timeout" };
        LIST_FOREACH(ProcessWatch, watch, &runs[0].process.watches, link)
                watch->on_change(watch, &runs[0].process);
        queue_set_finish_turn(&set);
        ck_assert_uint_eq(n_begun, 2);
        ck_assert(runs[2].was_cancelled);
}
END_TEST

START_TEST(what_cannot_be_begun_has_failed)
{
        runs[1].result = -ENOMEM;
        join_all();
        ck_assert_uint_eq(n_begun, 2);
        ck_assert(runs[2].was_cancelled && runs[N - 1].was_cancelled);
}
END_TEST

START_TEST(those_that_do_not_mind_go_on)
{
        for (size_t i = 0; i < N; i++)
                runs[i].config.stop_on_failure = false;
        runs[1].result = -ENOMEM;
        join_all();
        ck_assert_uint_eq(n_begun, 3); /* one could not be, and takes no place */
        end(&runs[0], RUN_EXITED | RUN_LOGGED_EXIT, 1);
        queue_set_finish_turn(&set);
        ck_assert_uint_eq(n_begun, 4);
}
END_TEST

START_TEST(a_new_engine_counts_what_goes_on)
{
        for (size_t i = 0; i < 3; i++)
                list_append(&processes, &runs[i].process.link);
        runs[0].process.run.ended = RUN_EXITED | RUN_LOGGED_EXIT;
        runs[0].process.run.exit = (ExitRecord){ .known = true, .code = _i, .cause = "self" };
        runs[2].process.run.run = 2; /* somebody started it again */
        runs[3].config.jobs = runs[4].config.jobs = 2;
        ck_assert_int_eq(queue_join(&set, &runs[3].place, NULL), 0);
        ck_assert_int_eq(queue_join(&set, &runs[4].place, NULL), 0);
        queue_set_finish_turn(&set);
        ck_assert_uint_eq(n_begun, _i == 0 ? 1 : 0);
        ck_assert(runs[3].was_cancelled == (_i != 0));
        end(&runs[1], RUN_EXITED | RUN_LOGGED_EXIT, 0);
        queue_set_finish_turn(&set);
        ck_assert_uint_eq(n_begun, _i == 0 ? 2 : 0);
}
END_TEST

START_TEST(one_that_is_removed_leaves)
{
        join_all();
        LIST_FOREACH(ProcessWatch, watch, &runs[0].process.watches, link)
                watch->on_removed(watch, &runs[0].process);
        queue_set_finish_turn(&set);
        ck_assert_uint_eq(n_begun, 3);
}
END_TEST

START_TEST(one_that_waits_no_more_is_passed_over)
{
        join_all();
        queue_leave(&set, &runs[2].place);
        queue_leave(&set, &runs[2].place);
        end(&runs[0], RUN_EXITED | RUN_LOGGED_EXIT, 0);
        queue_set_finish_turn(&set);
        ck_assert_uint_eq(runs[2].begun, 0);
        ck_assert_uint_eq(runs[3].begun, 3);
}
END_TEST

START_TEST(a_queue_that_is_cancelled_begins_nothing)
{
        for (size_t i = 0; i < N; i++)
                runs[i].config.stop_on_failure = false;
        join_all();
        queue_cancel(&set, "another");
        queue_cancel(&set, "q");
        queue_set_finish_turn(&set);
        ck_assert_uint_eq(n_begun, 2);
        ck_assert(runs[2].was_cancelled && runs[N - 1].was_cancelled);
}
END_TEST

START_TEST(what_waits_is_bounded)
{
        Error error = {};

        runs[0].place.size_bytes = LIMIT_QUEUED_RUN_BYTES;
        ck_assert_int_eq(queue_join(&set, &runs[0].place, NULL), 0);
        ck_assert_int_lt(queue_join(&set, &runs[1].place, &error), 0);
        ck_assert_int_eq(error.code, ERROR_LIMIT);
        queue_set_finish_turn(&set);
        ck_assert_int_eq(queue_join(&set, &runs[1].place, NULL), 0);
}
END_TEST

START_TEST(queues_in_which_nothing_is_are_forgotten)
{
        for (unsigned i = 0; i < 1000; i++) {
                (void)snprintf(runs[0].config.name, sizeof(runs[0].config.name), "q%u", i);
                ck_assert_int_eq(queue_join(&set, &runs[0].place, NULL), 0);
                runs[0].process.run.ended = RUN_EXITED | RUN_LOGGED_EXIT;
                runs[0].process.run.exit = (ExitRecord){ .known = true, .cause = "self" };
                queue_set_finish_turn(&set);
                ck_assert_uint_eq(n_begun, i + 1);
        }
        ck_assert_uint_le(set.n_queues, 65);
}
END_TEST

static Suite *queue_suite(void) {
        Suite *suite = suite_create("queue");
        TCase *tcase = tcase_create("queue");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, as_many_go_as_may);
        tcase_add_test(tcase, queues_do_not_mind_each_other);
        tcase_add_loop_test(tcase, a_failure_ends_those_that_wait, 0, 2);
        tcase_add_test(tcase, what_ended_at_its_deadline_has_failed);
        tcase_add_test(tcase, what_cannot_be_begun_has_failed);
        tcase_add_test(tcase, those_that_do_not_mind_go_on);
        tcase_add_loop_test(tcase, a_new_engine_counts_what_goes_on, 0, 2);
        tcase_add_test(tcase, one_that_is_removed_leaves);
        tcase_add_test(tcase, one_that_waits_no_more_is_passed_over);
        tcase_add_test(tcase, a_queue_that_is_cancelled_begins_nothing);
        tcase_add_test(tcase, what_waits_is_bounded);
        tcase_add_test(tcase, queues_in_which_nothing_is_are_forgotten);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(queue_suite);
