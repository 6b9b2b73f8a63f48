/* SPDX-License-Identifier: MIT */

/* Opening a log: whatever a kill or a power loss left, and what it costs to keep one. */

#include <sys/resource.h>

#include "daemon/engine/log-private.h"
#include "tests/support/log-test.h"

/* ---- a new log, and what it costs ---- */

START_TEST(a_new_log_is_empty)
{
        LogCursor cursor = {};

        log_test_open(1 << 20, 0);
        ck_assert_uint_eq(log_begin(test_log), 0);
        ck_assert_uint_eq(log_end(test_log), 0);
        ck_assert_uint_eq(log_lost(test_log), 0);
        ck_assert_uint_eq(log_test_disk_bytes(), 0);
        ck_assert_str_eq(read_on(&cursor, 10, BOTH), "");
        ck_assert_str_eq(read_from(0), "");
}
END_TEST

START_TEST(without_a_byte_there_is_no_data_file)
{
        int fds[2];
        size_t n;

        log_test_open(1 << 20, 5);
        put_record(RECORD_START, 1, 42);
        ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        ck_assert_int_eq(log_splice(test_log, SOURCE_STDOUT, 1, fds[0], 100, &n, NULL), -EAGAIN);
        close(fds[1]);
        ck_assert_int_eq(log_splice(test_log, SOURCE_STDOUT, 1, fds[0], 100, &n, NULL), 0);
        ck_assert_uint_eq(n, 0);
        close(fds[0]);
        put_record(RECORD_EXIT, 1, 3);
        for (int i = 0; i < 2; i++) {
                ck_assert_str_eq(read_from(0), "start@0=42 exit@0=3");
                ck_assert_int_eq(log_sync(test_log), 0);
                ck_assert_int_eq(log_test_file_size(0, ".log"), -ENOENT);
                log_test_open(1 << 20, 5);
        }
        put(SOURCE_STDOUT, 2, "abcde");
        ck_assert_int_eq(log_test_file_size(0, ".log"), 5);
        put(SOURCE_STDOUT, 2, "f");
        ck_assert_int_eq(log_test_file_size(5, ".log"), 1);
        ck_assert_str_eq(read_from(0), "start@0=42 exit@0=3 1@0'abcdef'");
        log_idle(test_log);
        ck_assert_str_eq(read_from(0), "start@0=42 exit@0=3 1@0'abcdef'");
}
END_TEST

START_TEST(what_was_written_is_there_again)
{
        log_test_open(1 << 20, 5);
        put_record(RECORD_START, 1, 42);
        put(SOURCE_STDOUT, 1, "hello ");
        put(SOURCE_STDERR, 1, "world");
        put_record(RECORD_EXIT, 1, 3);
        for (int i = 0; i < 3; i++) {
                ck_assert_str_eq(read_from(0), "start@0=42 1@0'hello ' 2@6'world' exit@11=3");
                ck_assert_uint_eq(log_end(test_log), 11);
                ck_assert_uint_eq(log_test_disk_bytes(), 11);
                log_test_open(1 << 20, 5);
        }
}
END_TEST

START_TEST(an_idle_log_holds_no_descriptor_and_little_memory)
{
        LogCursor cursor = {};

        ck_assert_uint_le(sizeof(Log), 400);
        ck_assert_uint_le(sizeof(Segment), 24);
        log_test_open(1 << 20, 4);
        put(SOURCE_STDOUT, 1, "abcdefghijkl");
        ck_assert_int_eq(open_fds_count(), n_fds_before + 2);
        ck_assert_str_eq(read_on(&cursor, 1, BOTH), "1@0'abcdefghijkl'");
        ck_assert_int_le(open_fds_count(), n_fds_before + 4);
        log_idle(test_log);
        ck_assert_int_eq(open_fds_count(), n_fds_before);
        ck_assert_str_eq(read_on(&cursor, 1, BOTH), ""); /* asking costs none */
        ck_assert_int_eq(open_fds_count(), n_fds_before);
        log_test_open(1 << 20, 4);
        ck_assert_int_eq(open_fds_count(), n_fds_before);
        put(SOURCE_STDOUT, 1, "m");
        ck_assert_int_eq(log_sync(test_log), 0);
        log_idle(test_log);
        ck_assert_int_eq(log_sync(test_log), 0);
        ck_assert_str_eq(read_from(0), "1@0'abcdefghijklm'");
}
END_TEST

START_TEST(the_size_of_segments_follows_retention)
{
        static const struct {
                uint64_t retention_bytes, segment_bytes, expected;
        } rows[] = {
                { 0, 0, 64 << 10 },       { 1 << 20, 0, 128 << 10 },
                { 64 << 20, 0, 8 << 20 }, { UINT64_C(1) << 40, 0, 8 << 20 },
                { 1 << 20, 1, 1 },        { 1 << 20, UINT64_MAX, 1 << 30 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                log_test_open(rows[i].retention_bytes, rows[i].segment_bytes);
                ck_assert_uint_eq(test_log->options.segment_bytes, rows[i].expected);
        }
}
END_TEST

START_TEST(a_log_is_removed_with_all_its_files)
{
        log_test_open(1 << 20, 4);
        put(SOURCE_STDOUT, 1, "abcdefghijkl");
        test_log = log_free(test_log);
        ck_assert_int_eq(log_remove(log_dir), 0);
        ck_assert_int_eq(rmdir(log_dir), 0);
        ck_assert_int_eq(log_remove(log_dir), 0);
        ck_assert_int_eq(mkdir(log_dir, 0700), 0);
}
END_TEST

/* ---- another name ---- */

START_TEST(a_log_goes_on_under_another_name)
{
        char moved[80], path[128];
        LogCursor cursor = {};
        struct stat st;

        (void)snprintf(moved, sizeof(moved), "%s-moved", log_dir);
        log_test_open(1 << 20, 6);
        put(SOURCE_STDOUT, 1, "before");
        ck_assert_str_eq(read_on(&cursor, 3, BOTH), "1@0'before'");
        if (_i == 1)
                log_idle(test_log); /* it has to find its files again */
        ck_assert_int_eq(log_move(test_log, moved, NULL), 0);
        ck_assert_int_eq(stat(log_dir, &st), -1);
        put(SOURCE_STDOUT, 1, "behind");
        put(SOURCE_STDERR, 1, "more"); /* in segments of their own */
        ck_assert_str_eq(read_on(&cursor, 100, BOTH), "1@6'behind' 2@12'more'");
        ck_assert_str_eq(read_from(0), "1@0'beforebehind' 2@12'more'");
        (void)snprintf(path, sizeof(path), "%s/%020d.log", moved, 6);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_int_eq(log_move(test_log, log_dir, NULL), 0); /* and back, for the next who opens it */
        log_test_open(1 << 20, 6);
        ck_assert_str_eq(read_from(0), "1@0'beforebehind' 2@12'more'");
}
END_TEST

START_TEST(a_name_that_is_taken_changes_nothing)
{
        char taken[80], file[128];
        Error error = {};

        (void)snprintf(taken, sizeof(taken), "%s-taken", log_dir);
        (void)snprintf(file, sizeof(file), "%s/file", taken);
        log_test_open(1 << 20, 0);
        put(SOURCE_STDOUT, 1, "before");
        ck_assert_int_eq(mkdir(taken, 0700), 0);
        ck_assert_int_eq(mkdir(file, 0700), 0);
        ck_assert_int_eq(log_move(test_log, taken, &error), -ENOTEMPTY);
        ck_assert_ptr_nonnull(strstr(error.text, taken));
        ck_assert_int_eq(log_move(test_log, "/nonexistent/log", NULL), -ENOENT);
        log_idle(test_log);
        put(SOURCE_STDOUT, 1, " behind");
        ck_assert_str_eq(read_from(0), "1@0'before behind'");
        ck_assert_int_eq(rmdir(file), 0);
        ck_assert_int_eq(log_move(test_log, taken, NULL), 0); /* an empty one is nobody's */
        ck_assert_int_eq(log_move(test_log, log_dir, NULL), 0);
        ck_assert_str_eq(read_from(0), "1@0'before behind'");
}
END_TEST

START_TEST(failures_to_open_say_what_and_why)
{
        LogOptions options = { .retention_bytes = 1 };
        Error error = {};
        Log *log = NULL;

        ck_assert_int_eq(log_open(&log, "/nonexistent/log", &options, &error), -ENOENT);
        ck_assert_ptr_nonnull(strstr(error.text, "/nonexistent/log"));
        if (!log_test_mount("size=16k,nr_inodes=10"))
                return;
        log_test_fill_disk(0);
        ck_assert_int_eq(log_open(&log, log_dir, &options, &error), -ENOSPC);
        ck_assert_int_eq(error.code, ERROR_NO_SPACE);
        ck_assert_ptr_null(log);
        ck_assert_int_eq(log_test_file_size(0, ".log"), -ENOENT); /* nothing is left half made */
        ck_assert_int_eq(log_test_file_size(0, ".idx"), -ENOENT);
}
END_TEST

START_TEST(without_descriptors_opening_fails_and_nothing_is_lost)
{
        LogOptions options = { .retention_bytes = 1 << 20 };
        struct rlimit old, none;
        Log *log = NULL;

        log_test_open(1 << 20, 0);
        put(SOURCE_STDOUT, 1, "abc");
        test_log = log_free(test_log);
        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
        none = (struct rlimit){ 3, old.rlim_max };
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
        ck_assert_int_eq(log_open(&log, log_dir, &options, NULL), -EMFILE);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
        log_test_open(1 << 20, 0);
        ck_assert_str_eq(read_from(0), "1@0'abc'");
}
END_TEST

/* ---- what a kill leaves ---- */

/* A log as it was left, for tests that damage it: two sources, a record, two segments. */
static void leave_log(void) {
        log_test_open(1 << 20, 10);
        put(SOURCE_STDOUT, 1, "0123456789");
        put(SOURCE_STDERR, 1, "abc");
        put_record(RECORD_SIGNAL, 1, 9);
        put(SOURCE_STDOUT, 1, "de");
        test_log = log_free(test_log);
}
#define LEFT "1@0'0123456789' 2@10'abc' signal@13=9 1@13'de'"

static void write_index(uint64_t segment, uint32_t number, const IndexRecord *record) {
        int fd = segment_open(log_dir, segment, SEGMENT_INDEX, O_RDWR | O_CREAT);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(index_write(fd, number, record, 1), 0);
        close(fd);
}

static void write_data(uint64_t segment, const char *text) {
        int fd = segment_open(log_dir, segment, SEGMENT_DATA, O_RDWR | O_CREAT | O_APPEND);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, text, strlen(text)), (int)strlen(text));
        close(fd);
}

START_TEST(a_record_whose_bytes_never_came_means_nothing)
{
        IndexRecord record = {
                .kind = RECORD_DATA, .source = SOURCE_STDERR, .run = 1, .offset = 15, .time_usec = now_usec
        };

        leave_log();
        write_index(10, 4, &record);
        log_test_open(1 << 20, 10);
        ck_assert_str_eq(read_from(0), LEFT);
        /* This could share the record of "de", but then the other one would claim its bytes after the next
         * kill. */
        put(SOURCE_STDOUT, 1, "f");
        log_test_open(1 << 20, 10);
        ck_assert_str_eq(read_from(0), "1@0'0123456789' 2@10'abc' signal@13=9 1@13'def'");
}
END_TEST

START_TEST(what_a_damaged_record_hid_does_not_come_back)
{
        IndexRecord record = {
                .kind = RECORD_DATA, .source = SOURCE_STDERR, .run = 1, .offset = 15, .time_usec = now_usec
        };

        leave_log();
        write_index(10, 5, &record); /* behind one that reads as zeros */
        log_test_open(1 << 20, 10);
        put(SOURCE_STDOUT, 1, "f");
        log_test_open(1 << 20, 10);
        ck_assert_str_eq(read_from(0), "1@0'0123456789' 2@10'abc' signal@13=9 1@13'def'");
}
END_TEST

START_TEST(bytes_behind_the_last_record_are_its_own)
{
        leave_log();
        write_data(10, "f");
        log_test_open(1 << 20, 10);
        ck_assert_uint_eq(log_end(test_log), 16);
        ck_assert_str_eq(read_from(0), "1@0'0123456789' 2@10'abc' signal@13=9 1@13'def'");
}
END_TEST

START_TEST(half_a_rotation_is_completed)
{
        /* 0: no index yet; 1: an empty one; 2: a torn head */
        leave_log();
        write_data(10, "fghij");
        write_data(20, "");
        if (_i > 0)
                close(segment_open(log_dir, 20, SEGMENT_INDEX, O_RDWR | O_CREAT));
        if (_i > 1)
                ck_assert_int_eq(truncate(log_test_file(20, ".idx"), 31), 0);
        log_test_open(1 << 20, 10);
        ck_assert_uint_eq(log_end(test_log), 20);
        ck_assert_str_eq(read_from(0), "1@0'0123456789' 2@10'abc' signal@13=9 1@13'defghij'");
        put(SOURCE_STDOUT, 1, "x");
        ck_assert_int_eq(log_test_file_size(20, ".log"), 1);
        ck_assert_int_eq(log_test_file_size(20, ".idx"), 2 * 32); /* a head and a record */
        log_test_open(1 << 20, 10);
        ck_assert_str_eq(read_from(13), "signal@13=9 1@13'defghijx'");
}
END_TEST

START_TEST(half_a_rotation_behind_a_gap_is_completed)
{
        leave_log();
        write_data(100, "");
        log_test_open(1 << 20, 10);
        ck_assert_uint_eq(log_end(test_log), 100);
        ck_assert_uint_eq(log_lost(test_log), 85);
        ck_assert_str_eq(read_from(13), "signal@13=9 1@13'de' gap@15+85");
        put(SOURCE_STDOUT, 1, "x");
        log_test_open(1 << 20, 10);
        ck_assert_str_eq(read_from(13), "signal@13=9 1@13'de' gap@15+85 1@100'x'");
        ck_assert_uint_eq(log_lost(test_log), 85);
}
END_TEST

START_TEST(half_a_deletion_is_completed)
{
        leave_log();
        ck_assert_int_eq(unlink(log_test_file(0, ".log")), 0);
        log_test_open(1 << 20, 10);
        ck_assert_int_eq(log_test_file_size(0, ".idx"), -ENOENT);
        ck_assert_str_eq(read_from(0), "gap@0+10 2@10'abc' signal@13=9 1@13'de'");
}
END_TEST

START_TEST(the_loss_of_a_disk_outlives_retention)
{
        leave_log();
        write_data(100, "");
        log_test_open(20, 10);
        for (int i = 0; i < 10; i++)
                put(SOURCE_STDOUT, 1, "0123456789");
        ck_assert_uint_ge(log_begin(test_log), 100);
        ck_assert_uint_eq(log_lost(test_log), 85);
        log_test_open(20, 10);
        ck_assert_uint_eq(log_lost(test_log), 85);
}
END_TEST

/* ---- what a power loss or somebody else leaves ---- */

/* However the last segment was damaged: it opens, nothing is made up, and it goes on at a higher offset. */
static void check_goes_on(uint64_t end_min, const char *what, int64_t at) {
        LogCursor cursor;
        LogChunk chunk;
        uint64_t end;
        char data[16];

        log_test_open(1 << 20, 10);
        end = log_end(test_log);
        ck_assert_msg(end >= end_min, "%s at %" PRId64 ": ends at %" PRIu64, what, at, end);
        put(SOURCE_STDERR, 7, "XY");
        ck_assert_uint_eq(log_end(test_log), end + 2);
        log_test_open(1 << 20, 10);
        ck_assert_uint_eq(log_end(test_log), end + 2);
        ck_assert_int_eq(log_seek_offset(test_log, &cursor, 0), 0);
        for (uint64_t offset = 0; offset < end + 2; offset = cursor.offset) {
                ck_assert_int_eq(log_next(test_log, &cursor, 16, BOTH, &chunk), 1);
                ck_assert_uint_eq(chunk.header.offset, offset);
                if (chunk.header.kind != RECORD_DATA)
                        continue;
                ck_assert_int_eq(pread(chunk.fd, data, chunk.size, (off_t)chunk.file_offset),
                                 (int)chunk.size);
                if (offset < end)
                        ck_assert_mem_eq(data, &"0123456789abcde"[offset], chunk.size);
                else {
                        ck_assert_uint_eq(offset, end);
                        ck_assert_mem_eq(data, "XY", 2);
                        ck_assert_uint_eq(chunk.header.source, SOURCE_STDERR);
                }
        }
        test_log = log_free(test_log);
        ck_assert_int_eq(log_remove(log_dir), 0);
}

START_TEST(an_index_cut_anywhere_is_accepted)
{
        for (int64_t size = 0; size <= 4 * 32; size++) {
                leave_log();
                ck_assert_int_eq(truncate(log_test_file(10, ".idx"), size), 0);
                check_goes_on(15, "index cut", size);
        }
}
END_TEST

START_TEST(garbage_behind_or_within_the_index_is_passed_over)
{
        uint8_t garbage[100];
        int fd;

        for (int pass = 0; pass < 2; pass++)
                for (int64_t at = 0; at <= 4 * 32 + 40; at += 4) {
                        leave_log();
                        memset(garbage, pass == 0 ? 0 : 0xa5, sizeof(garbage));
                        fd = segment_open(log_dir, 10, SEGMENT_INDEX, O_RDWR);
                        ck_assert_int_eq(pwrite(fd, garbage, sizeof(garbage), at), sizeof(garbage));
                        close(fd);
                        check_goes_on(15, "garbage", at);
                }
}
END_TEST

START_TEST(data_cut_anywhere_becomes_a_gap)
{
        for (int64_t size = 0; size <= 5; size++) {
                leave_log();
                ck_assert_int_eq(truncate(log_test_file(10, ".log"), size), 0);
                check_goes_on(size < 3 ? 13 : 10 + (uint64_t)size, "data cut", size);
        }
        for (int64_t size = 0; size <= 10; size++) {
                leave_log();
                ck_assert_int_eq(truncate(log_test_file(0, ".log"), size), 0);
                check_goes_on(15, "first data cut", size);
        }
}
END_TEST

START_TEST(a_gap_stands_where_bytes_were_cut_off)
{
        leave_log();
        ck_assert_int_eq(truncate(log_test_file(0, ".log"), 4), 0);
        ck_assert_int_eq(truncate(log_test_file(10, ".log"), 1), 0);
        log_test_open(1 << 20, 10);
        ck_assert_str_eq(read_from(0), "1@0'0123' gap@4+6 2@10'a' gap@11+2 signal@13=9");
        put(SOURCE_STDOUT, 1, "X");
        ck_assert_str_eq(read_from(10), "2@10'a' gap@11+2 signal@13=9 1@13'X'");
}
END_TEST

START_TEST(cutting_files_under_a_running_log_harms_nobody)
{
        LogCursor cursor = {};
        LogChunk chunk;
        char data[16];

        leave_log();
        log_test_open(1 << 20, 10);
        ck_assert_int_eq(log_next(test_log, &cursor, 16, BOTH, &chunk), 1);
        ck_assert_int_eq(truncate(log_test_file(0, ".log"), 0), 0);
        ck_assert_int_eq(pread(chunk.fd, data, chunk.size, (off_t)chunk.file_offset), 0); /* and no SIGBUS */
        ck_assert_int_eq(truncate(log_test_file(10, ".idx"), 40), 0);
        while (log_next(test_log, &cursor, 16, BOTH, &chunk) > 0)
                ;
        ck_assert_uint_eq(cursor.offset, 15);
        /* While it is closed, what was cut off is noticed: no zeros stand in for it. */
        log_idle(test_log);
        ck_assert_int_eq(truncate(log_test_file(10, ".log"), 2), 0);
        put(SOURCE_STDOUT, 1, "X");
        ck_assert_str_eq(read_on(&cursor, 16, BOTH), "1@15'X'");
        ck_assert_int_eq(log_test_file_size(10, ".log"), 2);
        ck_assert_int_eq(log_test_file_size(15, ".log"), 1);
}
END_TEST

START_TEST(files_that_contradict_each_other_are_refused_by_name)
{
        LogOptions options = { .retention_bytes = 1 << 20 };
        Error error = {};
        Log *log = NULL;

        leave_log();
        if (_i == 0) {
                ck_assert_int_eq(unlink(log_test_file(10, ".idx")), 0);
        } else {
                write_data(0, "x"); /* which only comes to light as the last one cannot tell what was lost */
                ck_assert_int_eq(truncate(log_test_file(10, ".idx"), 0), 0);
        }
        ck_assert_int_eq(log_open(&log, log_dir, &options, &error), -EUCLEAN);
        ck_assert_int_eq(error.code, ERROR_SYSTEM);
        ck_assert_ptr_nonnull(strstr(error.text, _i == 0 ? "00010.idx" : "00000000000000000000.log"));
        ck_assert_ptr_null(log);
}
END_TEST

static Suite *log_suite(void) {
        Suite *suite = suite_create("log");
        TCase *tcase = tcase_create("log");

        tcase_add_checked_fixture(tcase, log_test_setup, log_test_teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_test(tcase, a_new_log_is_empty);
        tcase_add_test(tcase, without_a_byte_there_is_no_data_file);
        tcase_add_test(tcase, what_was_written_is_there_again);
        tcase_add_test(tcase, an_idle_log_holds_no_descriptor_and_little_memory);
        tcase_add_test(tcase, the_size_of_segments_follows_retention);
        tcase_add_test(tcase, a_log_is_removed_with_all_its_files);
        tcase_add_loop_test(tcase, a_log_goes_on_under_another_name, 0, 2);
        tcase_add_test(tcase, a_name_that_is_taken_changes_nothing);
        tcase_add_test(tcase, failures_to_open_say_what_and_why);
        tcase_add_test(tcase, without_descriptors_opening_fails_and_nothing_is_lost);
        tcase_add_test(tcase, a_record_whose_bytes_never_came_means_nothing);
        tcase_add_test(tcase, what_a_damaged_record_hid_does_not_come_back);
        tcase_add_test(tcase, bytes_behind_the_last_record_are_its_own);
        tcase_add_loop_test(tcase, half_a_rotation_is_completed, 0, 3);
        tcase_add_test(tcase, half_a_rotation_behind_a_gap_is_completed);
        tcase_add_test(tcase, half_a_deletion_is_completed);
        tcase_add_test(tcase, the_loss_of_a_disk_outlives_retention);
        tcase_add_test(tcase, an_index_cut_anywhere_is_accepted);
        tcase_add_test(tcase, garbage_behind_or_within_the_index_is_passed_over);
        tcase_add_test(tcase, data_cut_anywhere_becomes_a_gap);
        tcase_add_test(tcase, a_gap_stands_where_bytes_were_cut_off);
        tcase_add_test(tcase, cutting_files_under_a_running_log_harms_nobody);
        tcase_add_loop_test(tcase, files_that_contradict_each_other_are_refused_by_name, 0, 2);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(log_suite);
