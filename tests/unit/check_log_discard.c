/* SPDX-License-Identifier: MIT */

/* Discarding on a full disk: counted exactly, told as a gap, resumed by the next engine. */

#include "tests/support/log-kill.h"
#include "tests/support/log-test.h"

static int pipe_fds[2]; /* owned */
static int fd;          /* owned; the memfd */

static void setup(void) {
        log_test_setup();
        ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
        (void)fcntl(pipe_fds[1], F_SETPIPE_SZ, 1 << 20);
        fd = -1;
}

static void teardown(void) {
        close(pipe_fds[0]);
        pipe_fds[1] = fd_close(pipe_fds[1]);
        fd = fd_close(fd);
        log_test_teardown();
}

static void begin(void) {
        ck_assert_int_eq(log_discard_begin(test_log, 1, &fd, NULL), 0);
}

static void end(void) {
        ck_assert_int_eq(log_discard_end(test_log, fd, NULL), 0);
        fd = fd_close(fd);
}

static void discard(size_t size) {
        size_t n;

        fill_pipe(pipe_fds[1], size);
        ck_assert_int_eq(log_discard(test_log, fd, pipe_fds[0], size, &n, NULL), 0);
        ck_assert_uint_eq(n, size);
}

/* As a new engine does, with the memfd that the keeper held. */
static void resume(void) {
        log_test_open(1 << 20, 0);
        ck_assert_int_eq(log_discard_resume(test_log, 1, fd, NULL), 0);
}

START_TEST(discarded_bytes_become_a_gap)
{
        log_test_open(1 << 20, 0);
        put(SOURCE_STDOUT, 1, "ab");
        begin();
        discard(100);
        discard(1);
        ck_assert_uint_eq(log_end(test_log), 103);
        ck_assert_uint_eq(log_lost(test_log), 101);
        end();
        put(SOURCE_STDERR, 1, "c");
        ck_assert_str_eq(read_from(0), "1@0'ab' gap@2+101 2@103'c'");
        ck_assert_str_eq(read_from(50), "gap@50+53 2@103'c'");
        ck_assert_str_eq(read_from(103), "2@103'c'");
        ck_assert_uint_eq(log_lost(test_log), 101);
        log_test_open(1 << 20, 0);
        ck_assert_str_eq(read_from(0), "1@0'ab' gap@2+101 2@103'c'");
        ck_assert_uint_eq(log_lost(test_log), 101);
}
END_TEST

START_TEST(a_segment_without_a_byte_outlives_the_gap_behind_it)
{
        log_test_open(1 << 20, 0);
        put_record(RECORD_START, 1, 42);
        begin();
        discard(7);
        end();
        ck_assert_int_eq(log_test_file_size(0, ".log"), 0);
        for (int i = 0; i < 2; i++) {
                ck_assert_uint_eq(log_begin(test_log), 0);
                ck_assert_str_eq(read_from(0), "start@0=42 gap@0+7");
                log_test_open(1 << 20, 0);
        }
        put(SOURCE_STDOUT, 1, "c");
        ck_assert_str_eq(read_from(0), "start@0=42 gap@0+7 1@7'c'");
}
END_TEST

START_TEST(the_gap_is_a_record_that_can_be_searched)
{
        LogChunk chunk;

        log_test_open(1 << 20, 0);
        put(SOURCE_STDOUT, 3, "ab");
        ck_assert_int_eq(log_last_record(test_log, RECORD_GAP, 0, &chunk), 0);
        begin();
        discard(9);
        end();
        ck_assert_int_eq(log_last_record(test_log, RECORD_GAP, 0, &chunk), 1);
        ck_assert_uint_eq(chunk.header.offset, 2);
        ck_assert_uint_eq(chunk.argument, 9);
        ck_assert_uint_eq(chunk.header.run, 3);
}
END_TEST

START_TEST(a_reader_hears_of_it_as_it_goes_on)
{
        LogCursor cursor = {};

        log_test_open(1 << 20, 0);
        put(SOURCE_STDOUT, 1, "ab");
        begin();
        discard(10);
        ck_assert_str_eq(read_on(&cursor, 100, BOTH), "1@0'ab' gap@2+10");
        ck_assert_str_eq(read_on(&cursor, 100, BOTH), "");
        discard(5);
        put_record(RECORD_EXIT, 1, 0);
        ck_assert_str_eq(read_on(&cursor, 100, 1u << SOURCE_STDERR), "gap@12+5 exit@17=0");
        discard(3);
        end();
        put(SOURCE_STDOUT, 1, "c");
        ck_assert_str_eq(read_on(&cursor, 100, BOTH), "gap@17+3 1@20'c'");
        ck_assert_str_eq(read_from(0), "1@0'ab' gap@2+15 exit@17=0 gap@17+3 1@20'c'");
        ck_assert_str_eq(read_from(17), "exit@17=0 gap@17+3 1@20'c'");
}
END_TEST

START_TEST(nothing_discarded_leaves_no_gap)
{
        size_t n;

        log_test_open(1 << 20, 0);
        put(SOURCE_STDOUT, 1, "ab");
        begin();
        ck_assert_int_eq(log_discard(test_log, fd, pipe_fds[0], 100, &n, NULL), -EAGAIN);
        pipe_fds[1] = fd_close(pipe_fds[1]);
        ck_assert_int_eq(log_discard(test_log, fd, pipe_fds[0], 100, &n, NULL), 0);
        ck_assert_uint_eq(n, 0);
        end();
        put(SOURCE_STDOUT, 1, "c");
        ck_assert_str_eq(read_from(0), "1@0'abc'");
}
END_TEST

START_TEST(the_memory_is_given_back)
{
        struct stat st;

        log_test_open(1 << 20, 0);
        begin();
        for (int i = 0; i < 50; i++)
                discard(100000 + (size_t)i);
        ck_assert_int_eq(fstat(fd, &st), 0);
        ck_assert_uint_eq((uint64_t)st.st_size, log_end(test_log));
        ck_assert_int_le(st.st_blocks * 512, 4096);
}
END_TEST

START_TEST(the_next_engine_goes_on_where_the_count_is)
{
        log_test_open(1 << 20, 0);
        put(SOURCE_STDOUT, 1, "ab");
        begin();
        discard(1000);
        put_record(RECORD_SIGNAL, 1, 9);
        discard(5000);
        resume();
        ck_assert_uint_eq(log_end(test_log), 6002);
        discard(1);
        resume();
        end();
        put(SOURCE_STDOUT, 1, "c");
        ck_assert_str_eq(read_from(0), "1@0'ab' gap@2+1000 signal@1002=9 gap@1002+5001 1@6003'c'");
        ck_assert_uint_eq(log_lost(test_log), 6001);
}
END_TEST

START_TEST(a_kill_between_the_gap_and_its_end_counts_nothing_twice)
{
        log_test_open(1 << 20, 0);
        put(SOURCE_STDOUT, 1, "ab");
        begin();
        discard(1000);
        ck_assert_int_eq(log_discard_end(test_log, fd, NULL), 0);
        resume(); /* the keeper was not told */
        ck_assert_uint_eq(log_end(test_log), 1002);
        resume();
        discard(7);
        resume();
        ck_assert_uint_eq(log_end(test_log), 1009);
        end();
        put(SOURCE_STDOUT, 1, "cd");
        ck_assert_str_eq(read_from(0), "1@0'ab' gap@2+1000 gap@1002+7 1@1009'cd'");
}
END_TEST

START_TEST(a_count_that_is_lost_with_the_keeper_still_leaves_a_gap)
{
        log_test_open(1 << 20, 0);
        put(SOURCE_STDOUT, 1, "ab");
        begin();
        discard(1000);
        put_record(RECORD_EXIT, 1, 1);
        discard(5);
        log_test_open(1 << 20, 0);
        ck_assert_uint_eq(log_end(test_log), 1002); /* as far as is known */
        ck_assert_str_eq(read_from(0), "1@0'ab' gap@2+1000 exit@1002=1");
        put(SOURCE_STDOUT, 2, "cd");
        ck_assert_str_eq(read_from(0), "1@0'ab' gap@2+1000 exit@1002=1 1@1002'cd'");
        log_test_open(1 << 20, 0);
        ck_assert_str_eq(read_from(0), "1@0'ab' gap@2+1000 exit@1002=1 1@1002'cd'");
}
END_TEST

START_TEST(data_is_refused_meanwhile)
{
        size_t n;

        log_test_open(1 << 20, 0);
        put(SOURCE_STDOUT, 1, "ab");
        begin();
        fill_pipe(pipe_fds[1], 3);
        ck_assert_int_eq(log_splice(test_log, SOURCE_STDOUT, 1, pipe_fds[0], 9, &n, NULL), -ENOSPC);
        ck_assert_int_eq(log_append(test_log, SOURCE_STDOUT, 1, "x", 1, NULL), -ENOSPC);
        ck_assert_uint_eq(log_end(test_log), 2);
        ck_assert_int_eq(pipe_holds(pipe_fds[0]), 3);
}
END_TEST

START_TEST(a_full_disk_is_discarded_from_until_there_is_room)
{
        size_t n;
        int r;

        if (!log_test_mount("size=1m"))
                return;
        log_test_open(1 << 30, 64 * 1024);
        put(SOURCE_STDOUT, 1, "ab");
        log_set_floor(test_log, 0);
        log_test_fill_disk(0);
        fill_pipe(pipe_fds[1], 100000);
        while ((r = log_splice(test_log, SOURCE_STDOUT, 1, pipe_fds[0], 1 << 20, &n, NULL)) == 0)
                ;
        ck_assert_int_eq(r, -ENOSPC);
        begin();
        while (log_discard(test_log, fd, pipe_fds[0], 1 << 20, &n, NULL) == 0)
                ;
        ck_assert_uint_eq(log_end(test_log), 100002);
        ck_assert_int_eq(log_discard_end(test_log, fd, NULL), -ENOSPC);
        ck_assert_int_eq(log_test_file_size(100002, ".log"), -ENOENT);
        ck_assert_int_eq(log_test_file_size(100002, ".idx"), -ENOENT);
        put_record(RECORD_EXIT, 1, 0);
        discard(5);
        log_test_empty_disk();
        log_test_fill_disk(30000); /* room for a segment's files and a few bytes: too little to begin again */
        ck_assert_int_eq(log_discard_end(test_log, fd, NULL), -ENOSPC);
        log_test_empty_disk();
        end();
        put(SOURCE_STDOUT, 1, "z");
        ck_assert_uint_eq(log_end(test_log), 100008);
        ck_assert_uint_eq(log_lost(test_log) + log_test_disk_bytes(), 100008);
        ck_assert_str_eq(read_from(100002), "exit@100002=0 gap@100002+5 1@100007'z'");
}
END_TEST

START_TEST(kills_between_logging_and_discarding_are_counted_exactly)
{
        now_usec = 0;
        kill_run(log_dir, true, KILLS(250));
}
END_TEST

static Suite *log_discard_suite(void) {
        Suite *suite = suite_create("log-discard");
        TCase *tcase = tcase_create("discard"), *kills = tcase_create("kill");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 30);
        tcase_add_test(tcase, discarded_bytes_become_a_gap);
        tcase_add_test(tcase, a_segment_without_a_byte_outlives_the_gap_behind_it);
        tcase_add_test(tcase, the_gap_is_a_record_that_can_be_searched);
        tcase_add_test(tcase, a_reader_hears_of_it_as_it_goes_on);
        tcase_add_test(tcase, nothing_discarded_leaves_no_gap);
        tcase_add_test(tcase, the_memory_is_given_back);
        tcase_add_test(tcase, the_next_engine_goes_on_where_the_count_is);
        tcase_add_test(tcase, a_kill_between_the_gap_and_its_end_counts_nothing_twice);
        tcase_add_test(tcase, a_count_that_is_lost_with_the_keeper_still_leaves_a_gap);
        tcase_add_test(tcase, data_is_refused_meanwhile);
        tcase_add_test(tcase, a_full_disk_is_discarded_from_until_there_is_room);
        suite_add_tcase(suite, tcase);
        tcase_add_checked_fixture(kills, log_test_setup, log_test_teardown);
        tcase_set_timeout(kills, 300);
        tcase_add_test(kills, kills_between_logging_and_discarding_are_counted_exactly);
        suite_add_tcase(suite, kills);
        return suite;
}

CHECK_MAIN(log_discard_suite);
