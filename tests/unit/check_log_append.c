/* SPDX-License-Identifier: MIT */

/* The writing side of the log: what is recorded, when segments begin and go, full disks, kills. */

#include <sys/resource.h>

#include "tests/support/log-kill.h"
#include "tests/support/log-test.h"

static int pipe_fds[2]; /* owned */

static void setup(void) {
        log_test_setup();
        ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
        (void)fcntl(pipe_fds[1], F_SETPIPE_SZ, 1 << 20);
}

static void teardown(void) {
        close(pipe_fds[0]);
        pipe_fds[1] = fd_close(pipe_fds[1]);
        log_test_teardown();
}

static int move(Source source, uint32_t run, size_t max, size_t *ret_n) {
        return log_splice(test_log, source, run, pipe_fds[0], max, ret_n, NULL);
}

/* Write to the pipe and move it. */
static void splice_text(Source source, uint32_t run, const char *text) {
        size_t n;

        ck_assert_int_eq(write(pipe_fds[1], text, strlen(text)), (int)strlen(text));
        ck_assert_int_eq(move(source, run, 1 << 20, &n), 0);
        ck_assert_uint_eq(n, strlen(text));
}

/* ---- records ---- */

START_TEST(bytes_are_kept_as_they_were_written)
{
        char data[32] = {};
        int fd;

        log_test_open(1 << 20, 0);
        splice_text(SOURCE_STDOUT, 1, "out");
        splice_text(SOURCE_STDERR, 1, "err");
        splice_text(SOURCE_STDOUT, 2, "again");
        ck_assert_str_eq(read_from(0), "1@0'out' 2@3'err' 1@6'again'");
        fd = open(log_test_file(0, ".log"), O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(read(fd, data, sizeof(data)), 11);
        ck_assert_str_eq(data, "outerragain");
        close(fd);
}
END_TEST

START_TEST(a_record_is_shared_within_its_time_by_one_source_and_run)
{
        log_test_open(1 << 20, 0);
        ck_assert_int_eq(log_test_file_size(0, ".idx"), 32); /* the head */
        splice_text(SOURCE_STDOUT, 1, "a");
        now_usec += LOG_RECORD_USEC - 1;
        splice_text(SOURCE_STDOUT, 1, "b");
        ck_assert_int_eq(log_test_file_size(0, ".idx"), 2 * 32);
        now_usec += 1;
        splice_text(SOURCE_STDOUT, 1, "c");
        ck_assert_int_eq(log_test_file_size(0, ".idx"), 3 * 32);
        splice_text(SOURCE_STDERR, 1, "d");
        splice_text(SOURCE_STDERR, 2, "e");
        ck_assert_int_eq(log_test_file_size(0, ".idx"), 5 * 32);
        put_record(RECORD_SIGNAL, 2, 15);
        splice_text(SOURCE_STDERR, 2, "f");
        ck_assert_int_eq(log_test_file_size(0, ".idx"), 7 * 32);
        ck_assert_str_eq(read_from(0), "1@0'abc' 2@3'de' signal@5=15 2@5'f'");
}
END_TEST

START_TEST(an_empty_pipe_leaves_no_trace)
{
        size_t n;

        log_test_open(1 << 20, 0);
        splice_text(SOURCE_STDOUT, 1, "a");
        /* Each of these may have written a record; none may claim the bytes that come later. */
        ck_assert_int_eq(move(SOURCE_STDERR, 1, 100, &n), -EAGAIN);
        splice_text(SOURCE_STDOUT, 1, "b");
        ck_assert_int_eq(move(SOURCE_STDERR, 1, 100, &n), -EAGAIN);
        ck_assert_int_eq(move(SOURCE_STDOUT, 2, 100, &n), -EAGAIN);
        put_record(RECORD_EXIT, 1, 0);
        ck_assert_int_eq(move(SOURCE_STDERR, 1, 100, &n), -EAGAIN);
        ck_assert_str_eq(read_from(0), "1@0'ab' exit@2=0");
        log_test_open(1 << 20, 0);
        ck_assert_str_eq(read_from(0), "1@0'ab' exit@2=0");
        splice_text(SOURCE_STDOUT, 1, "c");
        log_test_open(1 << 20, 0);
        ck_assert_str_eq(read_from(0), "1@0'ab' exit@2=0 1@2'c'");
}
END_TEST

START_TEST(the_end_of_a_pipe_is_told)
{
        size_t n = 7;

        log_test_open(1 << 20, 0);
        splice_text(SOURCE_STDOUT, 1, "a");
        pipe_fds[1] = fd_close(pipe_fds[1]);
        ck_assert_int_eq(move(SOURCE_STDOUT, 1, 100, &n), 0);
        ck_assert_uint_eq(n, 0);
        ck_assert_str_eq(read_from(0), "1@0'a'");
}
END_TEST

START_TEST(no_more_than_asked_for_is_moved)
{
        size_t n;

        log_test_open(1 << 20, 0);
        ck_assert_int_eq(write(pipe_fds[1], "abcdef", 6), 6);
        ck_assert_int_eq(move(SOURCE_STDOUT, 1, 4, &n), 0);
        ck_assert_uint_eq(n, 4);
        ck_assert_int_eq(pipe_holds(pipe_fds[0]), 2);
}
END_TEST

START_TEST(time_never_goes_back)
{
        LogCursor cursor = {};
        uint64_t last = 0;
        LogChunk chunk;

        log_test_open(1 << 20, 0);
        now_usec = 50000000;
        splice_text(SOURCE_STDOUT, 1, "a");
        now_usec = 40000000;
        put_record(RECORD_SIGNAL, 1, 1);
        log_test_open(1 << 20, 0); /* the next engine keeps to it, too */
        splice_text(SOURCE_STDERR, 1, "b");
        put_record(RECORD_EXIT, 1, 1);
        while (log_next(test_log, &cursor, 100, BOTH, &chunk) > 0) {
                ck_assert_uint_ge(chunk.header.time_usec, last);
                last = chunk.header.time_usec;
        }
        ck_assert_uint_eq(last, 50000000);
}
END_TEST

/* ---- segments ---- */

START_TEST(segments_are_named_by_their_offset_and_read_as_one)
{
        log_test_open(1 << 20, 4);
        put(SOURCE_STDOUT, 1, "abcdefghij");
        ck_assert_int_eq(log_test_file_size(0, ".log"), 4);
        ck_assert_int_eq(log_test_file_size(4, ".log"), 4);
        ck_assert_int_eq(log_test_file_size(8, ".log"), 2);
        ck_assert_int_eq(log_test_file_size(8, ".idx"), 2 * 32);
        ck_assert_str_eq(read_from(0), "1@0'abcdefghij'");
}
END_TEST

START_TEST(retention_keeps_what_was_asked_for_and_whole_segments)
{
        log_test_open(10, 4);
        for (int i = 0; i < 40; i++) {
                put(SOURCE_STDOUT, 1, "a");
                ck_assert_uint_ge(log_test_disk_bytes(), MIN(i + 1, 10));
                ck_assert_uint_le(log_test_disk_bytes(), 10 + 4);
                ck_assert_uint_eq(log_begin(test_log) % 4, 0);
                ck_assert_uint_eq(log_test_disk_bytes(), log_end(test_log) - log_begin(test_log));
        }
        ck_assert_int_eq(log_test_file_size(0, ".log"), -ENOENT);
        ck_assert_int_eq(log_test_file_size(0, ".idx"), -ENOENT);
        ck_assert_str_eq(read_from(24), "gap@24+4 1@28'aaaaaaaaaaaa'");
        ck_assert_uint_eq(log_lost(test_log), 0); /* retention is no loss of the disk's */
}
END_TEST

START_TEST(retention_may_leave_only_the_current_segment)
{
        log_test_open(1, 4);
        put(SOURCE_STDOUT, 1, "abcdefghi");
        ck_assert_uint_eq(log_begin(test_log), 8);
        ck_assert_uint_eq(log_test_disk_bytes(), 1);
}
END_TEST

START_TEST(nothing_at_or_above_the_floor_is_dropped)
{
        size_t n, moved = 0;
        int r;

        log_test_open(10, 4);
        log_set_floor(test_log, 4);
        fill_pipe(pipe_fds[1], 100);
        while ((r = move(SOURCE_STDOUT, 1, 3, &n)) == 0)
                moved += n;
        ck_assert_int_eq(r, -EDQUOT);
        ck_assert_uint_eq(moved, 10 + 4);
        ck_assert_uint_eq(log_begin(test_log), 0); /* what ends at the floor is not below it */
        ck_assert_int_eq(pipe_holds(pipe_fds[0]), 100 - 14);
        put_record(RECORD_SIGNAL, 1, 9); /* records are never refused for it */
        ck_assert_int_eq(move(SOURCE_STDOUT, 1, 3, &n), -EDQUOT);
        log_set_floor(test_log, 5);
        ck_assert_int_eq(move(SOURCE_STDOUT, 1, 3, &n), 0);
        ck_assert_uint_eq(log_begin(test_log), 4);
        log_set_floor(test_log, UINT64_MAX);
        while (move(SOURCE_STDOUT, 1, 3, &n) == 0)
                ;
        ck_assert_uint_eq(log_end(test_log), 100);
        ck_assert_uint_ge(log_begin(test_log), 100 - 14);
}
END_TEST

START_TEST(a_pipe_that_waits_still_tells_that_it_is_empty_or_ended)
{
        Error error = {};
        size_t n;

        log_test_open(10, 4);
        log_set_floor(test_log, 0);
        fill_pipe(pipe_fds[1], 14);
        while (move(SOURCE_STDOUT, 1, 100, &n) == 0)
                ;
        ck_assert_int_eq(move(SOURCE_STDOUT, 1, 100, &n), -EAGAIN);
        fill_pipe(pipe_fds[1], 1);
        ck_assert_int_eq(log_splice(test_log, SOURCE_STDOUT, 1, pipe_fds[0], 9, &n, &error), -EDQUOT);
        ck_assert_int_eq(error.code, ERROR_LIMIT);
        ck_assert_int_eq(read(pipe_fds[0], &n, 1), 1);
        pipe_fds[1] = fd_close(pipe_fds[1]);
        ck_assert_int_eq(move(SOURCE_STDOUT, 1, 100, &n), 0);
        ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(the_index_is_bounded_as_the_data_is)
{
        log_test_open(100000, 0);
        for (int i = 0; i < 40000; i++)
                if (log_append(test_log, SOURCE_STDOUT + (Source)(i % 2), 1, "x", 1, NULL) < 0)
                        ck_abort();
        ck_assert_uint_gt(log_begin(test_log), 0);
        ck_assert_uint_ge(log_test_disk_bytes() * 32, LOG_INDEX_FACTOR * 100000);
        ck_assert_uint_lt(log_test_disk_bytes() * 32, LOG_INDEX_FACTOR * (100000 + 65536) + 32);
}
END_TEST

START_TEST(records_without_bytes_are_bounded_too)
{
        LogCursor behind = {}, cursor = {};
        uint64_t last = 0, n = 0;
        struct stat st;
        LogChunk chunk;

        log_test_open(2, 0);
        put_record(RECORD_START, 1, 42);
        ck_assert_int_eq(log_next(test_log, &behind, 1, BOTH, &chunk), 1);
        for (uint64_t i = 1; i <= 50000; i++)
                if (log_record(test_log, RECORD_INPUT, SOURCE_NONE, 1, i, NULL) < 0)
                        ck_abort();
        ck_assert_int_eq(stat(log_test_file(0, ".idx"), &st), 0);
        ck_assert_int_le(st.st_blocks * 512, 2 * LOG_INDEX_FACTOR * 64 * 1024);
        for (int pass = 0; pass < 2; pass++) {
                cursor = (LogCursor){};
                ck_assert_int_eq(log_next(test_log, &cursor, 1, BOTH, &chunk), 1);
                ck_assert_uint_eq(chunk.header.kind, RECORD_START); /* the first ones stay */
                ck_assert_int_eq(log_seek_run(test_log, &cursor, 1), 0);
                last = n = 0;
                while (log_next(test_log, pass == 0 ? &behind : &cursor, 1, BOTH, &chunk) > 0) {
                        if (chunk.header.kind != RECORD_START && chunk.argument <= last)
                                ck_abort();
                        last = chunk.header.kind == RECORD_START ? 0 : chunk.argument;
                        n++;
                }
                ck_assert_uint_eq(last, 50000);
                ck_assert_uint_ge(n, 4096);
                ck_assert_uint_le(n, 2 * 8192);
                ck_assert_int_eq(log_last_record(test_log, RECORD_START, 0, &chunk), 1);
                ck_assert_uint_eq(chunk.argument, 42);
                log_test_open(2, 0);
        }
        put(SOURCE_STDOUT, 1, "a");
        put(SOURCE_STDOUT, 1, "b");
        ck_assert_str_eq(read_on(&cursor, 10, BOTH), "1@0'ab'");
        ck_assert_int_eq(log_test_file_size(1, ".log"), 1); /* a segment with bytes is followed by another */
}
END_TEST

/* ---- full disks, no descriptors ---- */

START_TEST(a_full_disk_first_gives_up_the_oldest_segments)
{
        size_t n, total = 0;
        int r;

        if (!log_test_mount("size=1m"))
                return;
        log_test_open(1 << 30, 64 * 1024);
        while ((r = move(SOURCE_STDOUT, 1, 1 << 20, &n)) == 0 || (r == -EAGAIN && total < 4 << 20)) {
                total += n;
                if (r < 0)
                        fill_pipe(pipe_fds[1], 100000);
        }
        ck_assert_int_eq(r, -EAGAIN);
        ck_assert_uint_ge(log_end(test_log), 4 << 20);
        ck_assert_uint_gt(log_test_disk_bytes(), 512 * 1024);
        ck_assert_uint_eq(log_end(test_log) - log_begin(test_log), log_test_disk_bytes());
}
END_TEST

START_TEST(a_full_disk_that_gives_nothing_back_refuses_and_moves_nothing)
{
        Error error = {};
        size_t n, held;
        int r;

        if (!log_test_mount("size=1m"))
                return;
        log_test_open(1 << 30, 64 * 1024);
        splice_text(SOURCE_STDOUT, 1, "begin");
        for (int i = 0; i < 380; i++) /* the first pages of the index are nearly full: room ahead is needed */
                put_record(RECORD_SIGNAL, 1, 1);
        log_set_floor(test_log, 0);
        log_test_fill_disk(20000);
        held = fill_pipe(pipe_fds[1], 50000);
        while ((r = log_splice(test_log, SOURCE_STDOUT, 1, pipe_fds[0], 1 << 20, &n, &error)) == 0)
                held -= n; /* what fits is taken and counted */
        ck_assert_int_eq(r, -ENOSPC);
        ck_assert_int_eq(error.code, ERROR_NO_SPACE);
        ck_assert_uint_eq(n, 0);
        ck_assert_int_eq(pipe_holds(pipe_fds[0]), (int)held);
        ck_assert_uint_eq(log_end(test_log), 5 + 50000 - held);
        ck_assert_int_eq(log_test_file_size(0, ".log"), (int)(5 + 50000 - held));
        for (int i = 0; i < 60; i++) /* an exit is recorded all the same */
                put_record(RECORD_EXIT, 1, (uint64_t)i);
        log_test_empty_disk();
        while (move(SOURCE_STDOUT, 1, 1 << 20, &n) == 0)
                held -= n;
        ck_assert_uint_eq(held, 0);
        ck_assert_uint_eq(log_end(test_log), 50005);
}
END_TEST

START_TEST(a_full_disk_costs_no_history_for_nothing)
{
        size_t n;

        if (!log_test_mount("size=1m"))
                return;
        log_test_open(1 << 30, 4096);
        fill_pipe(pipe_fds[1], 8192);
        ck_assert_int_eq(move(SOURCE_STDOUT, 1, 1 << 20, &n), 0);
        ck_assert_int_eq(move(SOURCE_STDOUT, 1, 1 << 20, &n), 0);
        log_test_fill_disk(0);
        ck_assert_int_eq(move(SOURCE_STDOUT, 1, 1 << 20, &n), -EAGAIN); /* a new segment would be needed */
        ck_assert_uint_eq(log_begin(test_log), 0);
        pipe_fds[1] = fd_close(pipe_fds[1]);
        ck_assert_int_eq(move(SOURCE_STDOUT, 1, 1 << 20, &n), 0);
        ck_assert_uint_eq(n, 0);
        ck_assert_uint_eq(log_begin(test_log), 0);
}
END_TEST

START_TEST(without_descriptors_nothing_is_lost)
{
        struct rlimit old, none;
        size_t n;
        int fd;

        log_test_open(1 << 20, 4);
        put(SOURCE_STDOUT, 1, "abcd");
        log_idle(test_log);
        fill_pipe(pipe_fds[1], 4);
        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* the lowest number that is free */
        close(fd);
        none = (struct rlimit){ (rlim_t)fd, old.rlim_max };
        for (int i = 0; i < 3; i++) {
                /* 0: none at all; 1: the data file alone; 2: no next segment */
                none.rlim_cur = (rlim_t)(fd + i);
                ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
                ck_assert_int_eq(move(SOURCE_STDOUT, 1, 100, &n), -EMFILE);
                if (i < 2)
                        ck_assert_int_eq(log_record(test_log, RECORD_EXIT, SOURCE_NONE, 1, 0, NULL), -EMFILE);
        }
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
        ck_assert_int_eq(pipe_holds(pipe_fds[0]), 4);
        ck_assert_int_eq(move(SOURCE_STDOUT, 1, 100, &n), 0);
        ck_assert_str_eq(read_from(0), "1@0'abcdxxxx'");
}
END_TEST

/* ---- kills ---- */

START_TEST(a_mover_that_is_killed_loses_doubles_and_moves_nothing)
{
        now_usec = 0;
        kill_run(log_dir, false, KILLS(250));
}
END_TEST

static Suite *log_append_suite(void) {
        Suite *suite = suite_create("log-append");
        TCase *tcase = tcase_create("append"), *kills = tcase_create("kill");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 30);
        tcase_add_test(tcase, bytes_are_kept_as_they_were_written);
        tcase_add_test(tcase, a_record_is_shared_within_its_time_by_one_source_and_run);
        tcase_add_test(tcase, an_empty_pipe_leaves_no_trace);
        tcase_add_test(tcase, the_end_of_a_pipe_is_told);
        tcase_add_test(tcase, no_more_than_asked_for_is_moved);
        tcase_add_test(tcase, time_never_goes_back);
        tcase_add_test(tcase, segments_are_named_by_their_offset_and_read_as_one);
        tcase_add_test(tcase, retention_keeps_what_was_asked_for_and_whole_segments);
        tcase_add_test(tcase, retention_may_leave_only_the_current_segment);
        tcase_add_test(tcase, nothing_at_or_above_the_floor_is_dropped);
        tcase_add_test(tcase, a_pipe_that_waits_still_tells_that_it_is_empty_or_ended);
        tcase_add_test(tcase, the_index_is_bounded_as_the_data_is);
        tcase_add_test(tcase, records_without_bytes_are_bounded_too);
        tcase_add_test(tcase, a_full_disk_first_gives_up_the_oldest_segments);
        tcase_add_test(tcase, a_full_disk_that_gives_nothing_back_refuses_and_moves_nothing);
        tcase_add_test(tcase, a_full_disk_costs_no_history_for_nothing);
        tcase_add_test(tcase, without_descriptors_nothing_is_lost);
        suite_add_tcase(suite, tcase);
        tcase_add_checked_fixture(kills, log_test_setup, log_test_teardown);
        tcase_set_timeout(kills, 300);
        tcase_add_test(kills, a_mover_that_is_killed_loses_doubles_and_moves_nothing);
        suite_add_tcase(suite, kills);
        return suite;
}

CHECK_MAIN(log_append_suite);
