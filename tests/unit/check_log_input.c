/* SPDX-License-Identifier: MIT */

/* Input that is kept in the log: it stands in order with the output, and tells after a kill how far it came.
 */

#include "tests/support/log-test.h"

static const LogOptions options = { .retention_bytes = 1 << 20 };

static void open_log(void) {
        test_log = log_free(test_log);
        ck_assert_int_eq(log_open(&test_log, log_dir, &options, NULL), 0);
}

static void setup(void) {
        log_test_setup();
        open_log();
}

static void append(uint32_t run, uint64_t stdin_offset, const char *text) {
        ck_assert_int_eq(log_append_input(test_log, run, stdin_offset, text, strlen(text), NULL), 0);
}

static void assert_last(uint32_t run, uint64_t stdin_end) {
        uint64_t end = 0;

        ck_assert_int_eq(log_last_input(test_log, run, &end), 1);
        ck_assert_uint_eq(end, stdin_end);
}

/* All that a reader of some sources gets, as text. */
static void assert_reads(unsigned sources, const char *text) {
        char got[256] = "";
        LogCursor cursor = {};
        LogChunk chunk;
        size_t n = 0;

        while (log_next(test_log, &cursor, sizeof(got), sources, &chunk) > 0) {
                ck_assert_int_ne(chunk.header.kind, RECORD_GAP);
                if (chunk.header.kind == RECORD_DATA)
                        n += (size_t)pread(chunk.fd, got + n, chunk.size, (off_t)chunk.file_offset);
        }
        got[n] = '\0';
        ck_assert_str_eq(got, text);
}

START_TEST(input_stands_among_the_output_for_those_who_choose_it)
{
        append(1, 0, "question ");
        ck_assert_int_eq(log_append(test_log, SOURCE_STDOUT, 1, "answer ", 7, NULL), 0);
        append(1, 9, "again ");
        assert_reads(BOTH, "answer ");
        assert_reads(BOTH | 1u << SOURCE_STDIN, "question answer again ");
        assert_reads(1u << SOURCE_STDIN, "question again ");
        ck_assert_uint_eq(log_end(test_log), 22);
}
END_TEST

START_TEST(how_far_input_came_is_told_after_a_kill)
{
        char path[128];
        uint64_t end;

        ck_assert_int_eq(log_last_input(test_log, 1, &end), 0);
        append(1, 1000, "12345");
        assert_last(1, 1005);
        ck_assert_int_eq(log_append(test_log, SOURCE_STDOUT, 1, "output", 6, NULL), 0);
        ck_assert_int_eq(log_record(test_log, RECORD_INPUT, SOURCE_STDIN, 1, 1005, NULL), 0);
        assert_last(1, 1005);
        open_log();
        assert_last(1, 1005);
        ck_assert_int_eq(log_last_input(test_log, 2, &end), 0);
        append(1, 1005, "6789");
        test_log = log_free(test_log);
        (void)snprintf(path, sizeof(path), "%s/%020d.log", log_dir, 0);
        ck_assert_int_eq(truncate(path, 13), 0); /* killed in the middle of write(2) */
        open_log();
        assert_last(1, 1007);
        append(1, 1007, "89");
        assert_last(1, 1009);
        assert_reads(1u << SOURCE_STDIN, "123456789");
}
END_TEST

START_TEST(input_larger_than_the_log_keeps_its_place)
{
        const LogOptions small = { .retention_bytes = 64 * 1024 };
        size_t size = 1 << 20;
        char *bytes = calloc(1, size);

        test_log = log_free(test_log);
        ck_assert_int_eq(log_open(&test_log, log_dir, &small, NULL), 0);
        ck_assert_int_eq(log_append_input(test_log, 3, 77, bytes, size, NULL), 0);
        free(bytes);
        ck_assert_uint_gt(log_begin(test_log), 0);
        assert_last(3, 77 + size);
        open_log();
        assert_last(3, 77 + size);
}
END_TEST

static Suite *log_input_suite(void) {
        Suite *suite = suite_create("log-input");
        TCase *tcase = tcase_create("input");

        tcase_add_checked_fixture(tcase, setup, log_test_teardown);
        tcase_add_test(tcase, input_stands_among_the_output_for_those_who_choose_it);
        tcase_add_test(tcase, how_far_input_came_is_told_after_a_kill);
        tcase_add_test(tcase, input_larger_than_the_log_keeps_its_place);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(log_input_suite);
