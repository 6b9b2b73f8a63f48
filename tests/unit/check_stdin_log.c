/* SPDX-License-Identifier: MIT */

/* The stdin log as its header has it: accepting, retrying, delivering, end of file, cancelling. What a kill
 * or a full disk leave is in check_stdin_log_recovery.c, kills at random instants in check_stdin_log_kill.c.
 */

#include "daemon/engine/stdin-log.h"

#include <malloc.h>

#include "common/macro.h"
#include "daemon/engine/stdin-index.h"
#include "tests/support/stdin-fixture.h"

/* --- files and memory --- */

START_TEST(a_process_without_input_has_no_files)
{
        uint64_t dropped;

        ck_assert_int_eq(stdin_log_begin_run(stdin_log, 2, NULL), 0);
        ck_assert_int_eq(stdin_log_cancel(stdin_log, &dropped, NULL), 0);
        ck_assert_uint_eq(dropped, 0);
        ck_assert_int_eq(stdin_log_end_run(stdin_log, &dropped, NULL), 0);
        reopen(false);
        ck_assert_uint_eq(stdin_log_accepted(stdin_log), 0);
        ck_assert(!stdin_log_eof(stdin_log));
        ck_assert_int_eq(scratch_n_files(dir), 0);
}
END_TEST

START_TEST(an_idle_log_has_no_descriptor_and_little_memory)
{
        int n = open_fds_count();
        size_t before;

        ck_assert_int_eq(say(&alice, 0, "hello", false), 0);
        stdin_log_idle(stdin_log);
        ck_assert_int_eq(open_fds_count(), n);
        stdin_log = stdin_log_free(stdin_log);
        before = mallinfo2().uordblks;
        ck_assert_int_eq(stdin_log_open(&stdin_log, dir, -1, NULL), 0);
        ck_assert_uint_lt(mallinfo2().uordblks - before, 200);
        ck_assert_int_eq(open_fds_count(), n);
        ck_assert_uint_eq(stdin_log_accepted(stdin_log), 5);
}
END_TEST

START_TEST(files_are_private)
{
        umask(0);
        ck_assert_int_eq(say(NULL, 0, "x", false), 0);
        ck_assert_int_eq(file_stat("stdin.log").st_mode & 0777, 0600);
        ck_assert_int_eq(file_stat("stdin.idx").st_mode & 0777, 0600);
}
END_TEST

START_TEST(remove_takes_every_file_and_leaves_the_directory)
{
        ck_assert_int_eq(say(NULL, 0, "x", false), 0);
        stdin_log = stdin_log_free(stdin_log);
        ck_assert_int_eq(stdin_log_remove(dir), 0);
        ck_assert_int_eq(scratch_n_files(dir), 0);
        ck_assert_int_eq(stdin_log_remove(dir), 0);
}
END_TEST

/* --- accepting and delivering --- */

START_TEST(input_is_delivered_in_the_order_of_acceptance)
{
        ck_assert_int_eq(say(&alice, 0, "one ", false), 0);
        ck_assert_int_eq(say(&bob, 0, "two ", false), 0);
        ck_assert_int_eq(say(NULL, 0, "three ", false), 0);
        ck_assert_int_eq(say(&alice, 4, "four", false), 0);
        ck_assert_uint_eq(stdin_log_accepted(stdin_log), 18);
        ck_assert_uint_eq(stdin_log_taken(stdin_log), 0);
        ck_assert_int_eq(deliver(), 0);
        ck_assert_uint_eq(stdin_log_taken(stdin_log), 18);
        assert_reads("one two three four");
        ck_assert_int_eq(deliver(), 0);
        assert_reads("");
}
END_TEST

START_TEST(the_position_descriptor_is_new_once)
{
        bool is_new;
        int fd, again;

        ck_assert_int_eq(stdin_log_position_fd(stdin_log, &fd, &is_new, NULL), 0);
        ck_assert(is_new);
        ck_assert_int_eq(stdin_log_position_fd(stdin_log, &again, &is_new, NULL), 0);
        ck_assert(!is_new);
        ck_assert_int_eq(fd, again);
        reopen(true);
        ck_assert_int_eq(stdin_log_position_fd(stdin_log, &fd, &is_new, NULL), 0);
        ck_assert(!is_new);
}
END_TEST

START_TEST(a_full_pipe_takes_the_rest_later)
{
        static char data[3 * 4096 + 100], got[sizeof(data)];
        size_t n_got = 0, n;
        int r;

        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (char)(i % 251);
        ck_assert_int_eq(stdin_log_accept(stdin_log, NULL, 0, data, sizeof(data), false, NULL, NULL, NULL),
                         0);
        (void)position_fd();
        do {
                r = stdin_log_deliver(stdin_log, pipe_fds[1], &n, NULL);
                ck_assert_uint_gt(n, 0);
                ck_assert_uint_eq(stdin_log_taken(stdin_log), n_got + n);
                ck_assert_int_eq(r, n_got + n < sizeof(data) ? -EAGAIN : 0);
                ck_assert_int_eq(read(pipe_fds[0], got + n_got, n), (ssize_t)n);
                n_got += n;
        } while (r == -EAGAIN);
        ck_assert_mem_eq(got, data, sizeof(data));
}
END_TEST

START_TEST(nobody_reading_is_epipe_and_loses_nothing)
{
        Error error;
        size_t n;

        ck_assert_int_eq(say(NULL, 0, "x", false), 0);
        close(pipe_fds[0]);
        pipe_fds[0] = -1;
        (void)position_fd();
        ck_assert_int_eq(stdin_log_deliver(stdin_log, pipe_fds[1], &n, &error), -EPIPE);
        ck_assert_int_eq(error.code, ERROR_STDIN_CLOSED);
        ck_assert_uint_eq(n, 0);
        ck_assert_uint_eq(stdin_log_taken(stdin_log), 0);
}
END_TEST

/* --- retrying --- */

static const struct {
        uint64_t position;
        const char *text;
        int r;
        uint64_t accepted, end; /* of the writer; the stdin offset, "hello " of another comes first */
} retries[] = {
        { 0, "abcdef", 0, 6, 12 },                          /* all of it again */
        { 0, "abc", 0, 6, 9 },                              /* the first of two */
        { 3, "def", 0, 6, 12 },                             /* the second */
        { 1, "bc", 0, 6, 9 },                               /* any piece */
        { 6, "ghi", 0, 9, 15 },                             /* what follows */
        { 4, "efghi", 0, 9, 15 },                           /* old and new */
        { 7, "hi", -EINVAL, 6, 0 },                         /* something is missing before */
        { 1000, "hi", -EINVAL, 6, 0 }, { 6, "", 0, 6, 12 }, /* nothing */
};

START_TEST(a_retry_is_accepted_once)
{
        uint64_t accepted = 99, end = 99, before;
        Error error;
        int r;

        ck_assert_int_eq(say(&bob, 0, "hello ", false), 0);
        ck_assert_int_eq(say(&alice, 0, "abc", false), 0);
        ck_assert_int_eq(say(&alice, 3, "def", false), 0);
        before = stdin_log_accepted(stdin_log);
        reopen(false);
        r = stdin_log_accept(stdin_log, &alice, retries[_i].position, retries[_i].text,
                             strlen(retries[_i].text), false, &accepted, &end, &error);
        ck_assert_int_eq(r, retries[_i].r);
        if (r == 0) {
                ck_assert_uint_eq(accepted, retries[_i].accepted);
                ck_assert_uint_eq(end, retries[_i].end);
        } else
                ck_assert_int_eq(error.code, ERROR_INVALID);
        ck_assert_uint_eq(stdin_log_accepted(stdin_log), before + retries[_i].accepted - 6);
        ck_assert_int_eq(deliver(), 0);
        assert_reads(retries[_i].accepted > 6 ? "hello abcdefghi" : "hello abcdef");
}
END_TEST

START_TEST(a_writer_is_told_what_is_accepted_and_taken)
{
        static char data[3000];
        uint64_t accepted, taken, end;
        bool eof;

        memset(data, 'x', sizeof(data));
        for (unsigned i = 0; i < 3; i++) {
                ck_assert_int_eq(
                        stdin_log_accept(stdin_log, &alice, i * 3000, data, 3000, false, NULL, NULL, NULL),
                        0);
                ck_assert_int_eq(
                        stdin_log_accept(stdin_log, &bob, i * 500, data, 500, i == 2, NULL, NULL, NULL), 0);
        }
        ck_assert_int_eq(deliver(), -EAGAIN); /* one page: 3,000 of alice, 500 of bob, 596 of alice */
        ck_assert_uint_eq(stdin_log_taken(stdin_log), 4096);
        for (unsigned i = 0; i < 2; i++) {
                ck_assert_int_eq(stdin_log_writer(stdin_log, &alice, &accepted, &taken, &end, &eof), 0);
                ck_assert_uint_eq(accepted, 9000);
                ck_assert_uint_eq(taken, 3596);
                ck_assert_uint_eq(end, 10000);
                ck_assert(!eof);
                ck_assert_int_eq(stdin_log_writer(stdin_log, &bob, &accepted, &taken, &end, &eof), 0);
                ck_assert_uint_eq(accepted, 1500);
                ck_assert_uint_eq(taken, 500);
                ck_assert_uint_eq(end, 10500);
                ck_assert(eof);
                reopen(true);
        }
        ck_assert_int_eq(stdin_log_cancel(stdin_log, NULL, NULL), 0);
        ck_assert_int_eq(stdin_log_writer(stdin_log, &alice, &accepted, &taken, NULL, NULL), 0);
        ck_assert_uint_eq(taken, 9000);
}
END_TEST

START_TEST(a_writer_that_is_not_known_has_nothing)
{
        uint64_t accepted = 9, taken = 9, end = 9;
        bool eof = true;

        ck_assert_int_eq(stdin_log_writer(stdin_log, &alice, &accepted, &taken, &end, &eof), 0);
        ck_assert_uint_eq(accepted + taken + end, 0);
        ck_assert(!eof);
        ck_assert_int_eq(scratch_n_files(dir), 0);
}
END_TEST

START_TEST(more_writers_than_are_remembered_are_found_in_the_index)
{
        uint64_t accepted;
        StdinWriter writer;

        for (unsigned round = 0; round < 3; round++)
                for (unsigned i = 0; i < 50; i++) {
                        writer = stdin_writer_hash(&i, sizeof(i));
                        ck_assert_int_eq(stdin_log_accept(stdin_log, &writer, 2 * round, "xy", 2, false,
                                                          &accepted, NULL, NULL),
                                         0);
                        ck_assert_uint_eq(accepted, 2 * round + 2);
                }
        ck_assert_uint_eq(stdin_log_accepted(stdin_log), 300);
}
END_TEST

START_TEST(nothing_that_is_written_stands_behind_all_that_was)
{
        uint64_t end;

        ck_assert_int_eq(say(&alice, 0, "hello", false), 0);
        ck_assert_int_eq(stdin_log_accept(stdin_log, &bob, 0, "", 0, false, NULL, &end, NULL), 0);
        ck_assert_uint_eq(end, 5);
        ck_assert_int_eq(stdin_log_accept(stdin_log, NULL, 0, "", 0, false, NULL, &end, NULL), 0);
        ck_assert_uint_eq(end, 5);
}
END_TEST

START_TEST(one_who_writes_once_is_known_by_what_it_wrote)
{
        StdinWriter same, other;

        alice.digest[0] = 7;
        same = other = alice;
        other.digest[0] = 8;
        ck_assert(stdin_log_wrote_this(stdin_log, &other)); /* nothing is accepted yet */
        ck_assert_int_eq(say(&alice, 0, "hello", false), 0);
        ck_assert_int_eq(say(&bob, 0, "hello", false), 0);
        for (unsigned i = 0; i < 2; i++) {
                ck_assert(stdin_log_wrote_this(stdin_log, &same));
                ck_assert(!stdin_log_wrote_this(stdin_log, &other));
                ck_assert(stdin_log_wrote_this(stdin_log, &bob)); /* it has none */
                ck_assert_int_eq(say(&same, 0, "hello", false), 0);
                ck_assert_uint_eq(stdin_log_accepted(stdin_log), 10);
                reopen(true);
        }
}
END_TEST

/* --- end of file --- */

START_TEST(an_end_of_file_comes_with_its_bytes_in_one_record)
{
        ck_assert_int_eq(say(&alice, 0, "bye", true), 0);
        ck_assert_int_eq(file_stat("stdin.idx").st_size, STDIN_RECORD_SIZE);
        ck_assert(stdin_log_eof(stdin_log));
        reopen(false);
        ck_assert(stdin_log_eof(stdin_log));
        ck_assert_uint_eq(stdin_log_accepted(stdin_log), 3);
        ck_assert_int_eq(deliver(), 0);
        assert_reads("bye");
}
END_TEST

START_TEST(nothing_is_accepted_after_an_end_of_file_but_what_had_been)
{
        uint64_t accepted = 0, end = 0;
        Error error;

        ck_assert_int_eq(say(&alice, 0, "abc", false), 0);
        ck_assert_int_eq(say(&alice, 3, "", true), 0);
        for (unsigned i = 0; i < 2; i++) {
                ck_assert_int_eq(
                        stdin_log_accept(stdin_log, &alice, 0, "abc", 3, true, &accepted, &end, NULL), 0);
                ck_assert_uint_eq(accepted, 3);
                ck_assert_uint_eq(end, 3);
                ck_assert_int_eq(say(&alice, 1, "b", false), 0);
                ck_assert_int_eq(stdin_log_accept(stdin_log, &alice, 3, "d", 1, false, NULL, NULL, &error),
                                 -EPIPE);
                ck_assert_int_eq(error.code, ERROR_STDIN_CLOSED);
                ck_assert_int_eq(say(&alice, 2, "cd", true), -EPIPE);
                ck_assert_int_eq(say(&bob, 0, "x", false), -EPIPE);
                ck_assert_int_eq(say(NULL, 0, "x", true), -EPIPE);
                ck_assert_int_eq(say(NULL, 0, "", true), 0); /* closing again */
                ck_assert_uint_eq(stdin_log_accepted(stdin_log), 3);
                reopen(false);
        }
        ck_assert_int_eq(file_stat("stdin.idx").st_size, 2 * STDIN_RECORD_SIZE);
}
END_TEST

START_TEST(a_new_run_can_be_written_to_again)
{
        uint64_t accepted;
        bool eof;

        ck_assert_int_eq(say(&alice, 0, "old", true), 0);
        ck_assert_int_eq(stdin_log_begin_run(stdin_log, 2, NULL), 0);
        ck_assert(!stdin_log_eof(stdin_log));
        ck_assert_uint_eq(stdin_log_taken(stdin_log), 3);
        ck_assert_int_eq(say(&alice, 0, "old", true), 0); /* a retry from before */
        ck_assert(!stdin_log_eof(stdin_log));
        ck_assert_int_eq(say(&bob, 0, "new", false), 0);
        reopen(false);
        ck_assert(!stdin_log_eof(stdin_log));
        ck_assert_int_eq(stdin_log_begin_run(stdin_log, 2, NULL), 0); /* again: keeps what it has */
        ck_assert_int_eq(stdin_log_writer(stdin_log, &alice, &accepted, NULL, NULL, &eof), 0);
        ck_assert_uint_eq(accepted, 3);
        ck_assert(eof);
        ck_assert_int_eq(deliver(), 0);
        assert_reads("new");
}
END_TEST

START_TEST(runs_without_input_share_a_record)
{
        ck_assert_int_eq(say(NULL, 0, "x", false), 0);
        for (uint32_t run = 2; run < 100; run++)
                ck_assert_int_eq(stdin_log_begin_run(stdin_log, run, NULL), 0);
        ck_assert_int_eq(file_stat("stdin.idx").st_size, 2 * STDIN_RECORD_SIZE);
        reopen(false);
        ck_assert_int_eq(stdin_log_begin_run(stdin_log, 99, NULL), 0);
        ck_assert_int_eq(file_stat("stdin.idx").st_size, 2 * STDIN_RECORD_SIZE);
        ck_assert_uint_eq(stdin_log_taken(stdin_log), 1);
}
END_TEST

START_TEST(the_end_of_a_run_is_remembered_without_the_keeper)
{
        static char data[6000];
        uint64_t taken, dropped;
        int n = open_fds_count();

        ck_assert_int_eq(stdin_log_accept(stdin_log, &alice, 0, data, sizeof(data), false, NULL, NULL, NULL),
                         0);
        ck_assert_int_eq(deliver(), -EAGAIN);
        ck_assert_int_eq(stdin_log_end_run(stdin_log, &dropped, NULL), 0);
        ck_assert_uint_eq(dropped, 6000 - 4096);
        stdin_log_idle(stdin_log);
        ck_assert_int_eq(open_fds_count(), n);
        reopen(false);
        ck_assert_uint_eq(stdin_log_taken(stdin_log), 6000);
        ck_assert_int_eq(stdin_log_writer(stdin_log, &alice, NULL, &taken, NULL, NULL), 0);
        ck_assert_uint_eq(taken, 6000);
}
END_TEST

/* --- cancelling --- */

START_TEST(cancel_drops_what_is_not_taken_and_keeps_the_end_of_file)
{
        static char data[5000];
        uint64_t dropped;

        memset(data, 'x', sizeof(data));
        ck_assert_int_eq(stdin_log_accept(stdin_log, NULL, 0, data, sizeof(data), true, NULL, NULL, NULL), 0);
        ck_assert_int_eq(deliver(), -EAGAIN);
        ck_assert_int_eq(stdin_log_cancel(stdin_log, &dropped, NULL), 0);
        ck_assert_uint_eq(dropped, 5000 - 4096);
        for (unsigned i = 0; i < 2; i++) {
                ck_assert_uint_eq(stdin_log_taken(stdin_log), 5000);
                ck_assert_uint_eq(stdin_log_accepted(stdin_log), 5000);
                ck_assert(stdin_log_eof(stdin_log));
                ck_assert_int_eq(deliver(), 0);
                reopen(true);
        }
        ck_assert_int_eq(read(pipe_fds[0], data, sizeof(data)), 4096);
}
END_TEST

START_TEST(cancelled_input_stays_dropped_without_a_position)
{
        uint64_t dropped;

        ck_assert_int_eq(say(NULL, 0, "dropped", false), 0);
        ck_assert_int_eq(stdin_log_cancel(stdin_log, &dropped, NULL), 0);
        ck_assert_uint_eq(dropped, 7);
        ck_assert_int_eq(say(NULL, 0, "kept", false), 0);
        reopen(false);
        ck_assert_int_eq(deliver(), 0);
        assert_reads("kept");
}
END_TEST

/* A kill between the record and the move of the position: for a cancellation and for a new run. */
START_TEST(what_a_kill_interrupted_is_completed)
{
        StdinKind kind = _i == 0 ? STDIN_KIND_CANCEL : STDIN_KIND_RUN;
        StdinRecord record = { .offset = 0, .length = 7, .run = 2, .kind = (uint8_t)kind, .base = 7 };
        StdinIndex index;
        StdinRecord last;

        ck_assert_int_eq(say(NULL, 0, "dropped", false), 0);
        (void)position_fd();
        ck_assert_int_eq(stdin_index_load(&index, dir, &last, NULL), 1);
        ck_assert_int_eq(stdin_index_append(&index, dir, &record, false, NULL), 0);
        stdin_index_deinit(&index);
        reopen(true);
        ck_assert_uint_eq(stdin_log_taken(stdin_log), 7);
        ck_assert_int_eq(say(NULL, 0, "kept", false), 0);
        ck_assert_int_eq(deliver(), 0);
        assert_reads("kept");
}
END_TEST

static Suite *stdin_log_suite(void) {
        Suite *suite = suite_create("stdin-log");
        TCase *tcase = tcase_create("stdin-log");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_test(tcase, a_process_without_input_has_no_files);
        tcase_add_test(tcase, an_idle_log_has_no_descriptor_and_little_memory);
        tcase_add_test(tcase, files_are_private);
        tcase_add_test(tcase, remove_takes_every_file_and_leaves_the_directory);
        tcase_add_test(tcase, input_is_delivered_in_the_order_of_acceptance);
        tcase_add_test(tcase, the_position_descriptor_is_new_once);
        tcase_add_test(tcase, a_full_pipe_takes_the_rest_later);
        tcase_add_test(tcase, nobody_reading_is_epipe_and_loses_nothing);
        tcase_add_loop_test(tcase, a_retry_is_accepted_once, 0, ARRAY_SIZE(retries));
        tcase_add_test(tcase, a_writer_is_told_what_is_accepted_and_taken);
        tcase_add_test(tcase, a_writer_that_is_not_known_has_nothing);
        tcase_add_test(tcase, more_writers_than_are_remembered_are_found_in_the_index);
        tcase_add_test(tcase, nothing_that_is_written_stands_behind_all_that_was);
        tcase_add_test(tcase, one_who_writes_once_is_known_by_what_it_wrote);
        tcase_add_test(tcase, an_end_of_file_comes_with_its_bytes_in_one_record);
        tcase_add_test(tcase, nothing_is_accepted_after_an_end_of_file_but_what_had_been);
        tcase_add_test(tcase, a_new_run_can_be_written_to_again);
        tcase_add_test(tcase, runs_without_input_share_a_record);
        tcase_add_test(tcase, the_end_of_a_run_is_remembered_without_the_keeper);
        tcase_add_test(tcase, cancel_drops_what_is_not_taken_and_keeps_the_end_of_file);
        tcase_add_test(tcase, cancelled_input_stays_dropped_without_a_position);
        tcase_add_loop_test(tcase, what_a_kill_interrupted_is_completed, 0, 2);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(stdin_log_suite);
