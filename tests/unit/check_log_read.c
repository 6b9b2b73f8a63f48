/* SPDX-License-Identifier: MIT */

/* The reading side of the log: what a cursor gets, step by step. */

#include <sys/resource.h>

#include "tests/support/log-model.h"

START_TEST(readers_get_what_happened_in_order)
{
        enum {
                N_READERS = 4
        };
        ModelCursor readers[N_READERS] = {};
        static const unsigned sources[N_READERS] = { BOTH, BOTH, 1u << SOURCE_STDOUT, 1u << SOURCE_STDERR };

        model_init((unsigned)_i * 7919 + 1);
        for (int j = 0; j < N_READERS; j++)
                ck_assert_int_eq(log_seek_offset(test_log, &readers[j].real, 0), 0);
        for (int i = 0; i < 600; i++) {
                model_step();
                for (int j = 0; j < N_READERS; j++)
                        for (unsigned n = model_random(j == 1 ? 30 : 5); n > 0; n--)
                                if (!model_next(&readers[j], 1 + model_random(3000), sources[j]))
                                        break;
        }
        for (int j = 0; j < N_READERS; j++)
                while (model_next(&readers[j], 65536, sources[j]))
                        ;
        model_deinit();
}
END_TEST

START_TEST(a_cursor_of_zeros_is_at_the_begin)
{
        LogCursor cursor = {}, early = {};
        LogChunk chunk;

        log_test_open(10, 4);
        ck_assert_int_eq(log_next(test_log, &early, 1, BOTH, &chunk), 0);
        for (int i = 0; i < 10; i++)
                put(SOURCE_STDOUT, 1, "abcd");
        ck_assert_str_eq(read_on(&cursor, 9, BOTH),
                         "1@28'abcdabcdabcd'"); /* where it begins now: nothing was missed */
        ck_assert_str_eq(read_on(&early, 9, BOTH), "gap@0+28 1@28'abcdabcdabcd'");
}
END_TEST

START_TEST(retention_that_passes_a_reader_by_is_told_exactly)
{
        LogCursor cursor = {};
        LogChunk chunk;

        log_test_open(10, 4);
        put(SOURCE_STDOUT, 1, "abcd");
        ck_assert_int_eq(log_next(test_log, &cursor, 3, BOTH, &chunk), 1);
        for (int i = 0; i < 10; i++)
                put(SOURCE_STDERR, 1, "efgh");
        ck_assert_str_eq(read_on(&cursor, 9, 1u << SOURCE_STDOUT), "gap@3+29");
        ck_assert_uint_eq(cursor.offset, 44);
        put(SOURCE_STDOUT, 1, "x");
        ck_assert_str_eq(read_on(&cursor, 9, 1u << SOURCE_STDOUT), "1@44'x'");
}
END_TEST

START_TEST(a_chunk_is_as_large_as_asked_for_and_of_one_kind)
{
        LogCursor cursor = {};
        LogChunk chunk;

        log_test_open(1 << 20, 0);
        for (int i = 0; i < 10; i++) {
                put(SOURCE_STDOUT, 1, "abcd");
                now_usec += 2 * LOG_RECORD_USEC; /* a record each */
        }
        put(SOURCE_STDOUT, 2, "efgh"); /* another run */
        put(SOURCE_STDERR, 2, "ijkl");
        put(SOURCE_STDOUT, 2, "mnop");
        ck_assert_int_eq(log_next(test_log, &cursor, 30, BOTH, &chunk), 1);
        ck_assert_uint_eq(chunk.size, 30);
        ck_assert_uint_eq(chunk.header.time_usec, 1000000);
        ck_assert_int_eq(log_next(test_log, &cursor, 30, BOTH, &chunk), 1);
        ck_assert_uint_eq(chunk.size, 10);
        ck_assert_uint_eq(chunk.header.offset, 30);
        ck_assert_uint_eq(chunk.header.time_usec, 1000000 + 7 * 2 * LOG_RECORD_USEC);
        ck_assert_uint_eq(chunk.header.run, 1);
        ck_assert_int_eq(log_next(test_log, &cursor, 30, BOTH, &chunk), 1);
        ck_assert_uint_eq(chunk.size, 4);
        ck_assert_uint_eq(chunk.header.run, 2);
        ck_assert_str_eq(read_on(&cursor, 30, BOTH), "2@44'ijkl' 1@48'mnop'");
}
END_TEST

START_TEST(a_damaged_record_among_others_hides_no_bytes)
{
        static const uint8_t zeros[32] = {};
        int fd;

        for (int damaged = 0; damaged < 7; damaged++) {
                log_test_open(1 << 20, 0);
                for (int i = 0; i < 6; i++) {
                        put(SOURCE_STDOUT, 1, "abcd");
                        now_usec += 2 * LOG_RECORD_USEC;
                }
                put_record(RECORD_EXIT, 1, 0);
                fd = open(log_test_file(0, ".idx"), O_WRONLY | O_CLOEXEC);
                ck_assert_int_eq(pwrite(fd, zeros, 32, damaged * 32), 32);
                close(fd);
                log_test_open(1 << 20, 0);
                if (damaged != 1) /* the bytes of a damaged one are taken for those of the one before */
                        ck_assert_str_eq(read_from(0), "1@0'abcdabcdabcdabcdabcdabcd' exit@24=0");
                else /* whose they are is not known */
                        ck_assert_str_eq(read_from(0), "gap@0+4 1@4'abcdabcdabcdabcdabcd' exit@24=0");
                test_log = log_free(test_log);
                ck_assert_int_eq(log_remove(log_dir), 0);
        }
}
END_TEST

START_TEST(a_reader_of_one_source_gets_records_and_gaps_all_the_same)
{
        LogCursor cursor = {};

        log_test_open(1 << 20, 4);
        put_record(RECORD_START, 1, 7);
        put(SOURCE_STDOUT, 1, "abcdef");
        put(SOURCE_STDERR, 1, "g");
        put_record(RECORD_EXIT, 1, 0);
        ck_assert_str_eq(read_on(&cursor, 9, 1u << SOURCE_STDERR), "start@0=7 2@6'g' exit@7=0");
        cursor = (LogCursor){};
        ck_assert_str_eq(read_on(&cursor, 9, 0), "start@0=7 exit@7=0");
        ck_assert_uint_eq(cursor.offset, 7);
}
END_TEST

START_TEST(two_readers_in_different_segments_do_not_disturb_each_other)
{
        LogCursor a = {}, b;
        LogChunk chunk;
        char data[8] = {};

        log_test_open(1 << 20, 4);
        put(SOURCE_STDOUT, 1, "aaaabbbbccccdddd");
        ck_assert_int_eq(log_seek_offset(test_log, &b, 8), 0);
        for (int i = 0; i < 4; i++) {
                ck_assert_int_eq(log_next(test_log, &a, 1, BOTH, &chunk), 1);
                ck_assert_int_eq(pread(chunk.fd, data, 1, (off_t)chunk.file_offset), 1);
                ck_assert_str_eq(data, "a");
                ck_assert_int_eq(log_next(test_log, &b, 1, BOTH, &chunk), 1);
                ck_assert_int_eq(pread(chunk.fd, data, 1, (off_t)chunk.file_offset), 1);
                ck_assert_str_eq(data, "c");
        }
}
END_TEST

START_TEST(without_descriptors_a_reader_stays_where_it_is)
{
        LogCursor cursor = {};
        struct rlimit old, none;
        LogChunk chunk;

        log_test_open(1 << 20, 4);
        put(SOURCE_STDOUT, 1, "abcdef");
        log_idle(test_log);
        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
        none = (struct rlimit){ 3, old.rlim_max };
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
        ck_assert_int_eq(log_next(test_log, &cursor, 9, BOTH, &chunk), -EMFILE);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
        ck_assert_str_eq(read_on(&cursor, 9, BOTH), "1@0'abcdef'");
}
END_TEST

static Suite *log_read_suite(void) {
        Suite *suite = suite_create("log-read");
        TCase *tcase = tcase_create("read");

        tcase_add_checked_fixture(tcase, log_test_setup, log_test_teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_loop_test(tcase, readers_get_what_happened_in_order, 0, 16);
        tcase_add_test(tcase, a_cursor_of_zeros_is_at_the_begin);
        tcase_add_test(tcase, retention_that_passes_a_reader_by_is_told_exactly);
        tcase_add_test(tcase, a_chunk_is_as_large_as_asked_for_and_of_one_kind);
        tcase_add_test(tcase, a_damaged_record_among_others_hides_no_bytes);
        tcase_add_test(tcase, a_reader_of_one_source_gets_records_and_gaps_all_the_same);
        tcase_add_test(tcase, two_readers_in_different_segments_do_not_disturb_each_other);
        tcase_add_test(tcase, without_descriptors_a_reader_stays_where_it_is);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(log_read_suite);
