/* SPDX-License-Identifier: MIT */

/* Placing a reader: by offset, time, run and lines, against the naive model and by example. */

#include "tests/support/log-model.h"

/* ---- against the model ---- */

/* The log was placed at 'real': does what follows begin with item i, at an offset? */
static void check_placed(LogCursor real, size_t i, uint64_t offset, unsigned sources) {
        ModelCursor cursor = { .real = real, .item = i, .offset = offset };

        ck_assert_uint_eq(real.offset, offset);
        for (int n = model_random(6) == 0 ? 10000 : 8; n > 0; n--)
                if (!model_next(&cursor, 1 + model_random(4000), sources))
                        break;
}

/* The first item that is kept and not wholly below an offset. */
static size_t model_find_offset(uint64_t offset) {
        size_t i;
        const Item *item;

        for (i = 0; i < model.n_items; i++) {
                item = &model.items[i];
                if (item_is_kept(item) &&
                    (item->header.kind == RECORD_DATA ? item->header.offset + item->size > offset
                                                      : item->header.offset >= offset))
                        break;
        }
        return i;
}

static void check_offset(void) {
        uint64_t offset = model_random(8) == 0 ? model.end : (uint64_t)model_random((unsigned)model.end + 1);
        LogCursor cursor;

        if (model.n_items > 0 && model_random(2) == 0)
                offset = model.items[model_random((unsigned)model.n_items)]
                                 .header.offset; /* where records stand */
        ck_assert_int_eq(log_seek_offset(test_log, &cursor, offset), 0);
        check_placed(cursor, model_find_offset(offset), offset, BOTH);
        ck_assert_int_eq(log_seek_offset(test_log, &cursor, model.end + 1), -EINVAL);
}

static void check_end(void) {
        LogCursor cursor;

        log_seek_end(test_log, &cursor);
        check_placed(cursor, model.n_items, model.end, BOTH);
}

static void check_time(void) {
        uint64_t time_usec = now_usec - MIN(model_random(1000000), now_usec) + model_random(3) * 100000;
        LogCursor cursor;
        LogChunk chunk;
        size_t i;

        if (model.n_items > 0 && model_random(2) == 0)
                time_usec = model.items[model_random((unsigned)model.n_items)].header.time_usec;
        for (i = 0; i < model.n_items; i++)
                if (item_is_kept(&model.items[i]) && model.items[i].header.time_usec >= time_usec)
                        break;
        ck_assert_int_eq(log_seek_time(test_log, &cursor, time_usec), 0);
        /* What was lost on the way there is told first, if it was noticed at or after that time. */
        if (cursor.offset < (i < model.n_items ? model.items[i].header.offset : model.end)) {
                ck_assert_int_eq(log_next(test_log, &cursor, 1, BOTH, &chunk), 1);
                ck_assert_int_eq(chunk.header.kind, RECORD_GAP);
                ck_assert_uint_ge(chunk.header.time_usec, time_usec);
        }
        if (i < model.n_items)
                check_placed(cursor, i, MIN(cursor.offset, model.items[i].header.offset), BOTH);
        else
                check_placed(cursor, i, model.end, BOTH);
}

static void check_run(void) {
        uint32_t run = 1 + model_random(model.run + 1);
        size_t i, first = model.n_items, start = model.n_items;
        LogCursor cursor;
        int r;

        for (i = model.n_items; i-- > 0;) {
                if (!item_is_kept(&model.items[i]) || model.items[i].header.run != run)
                        continue;
                first = i;
                if (model.items[i].header.kind == RECORD_START)
                        start = i;
        }
        r = log_seek_run(test_log, &cursor, run);
        if (first == model.n_items) {
                ck_assert_int_eq(r, -ENOENT);
                return;
        }
        ck_assert_int_eq(r, 0);
        i = start < model.n_items ? start : first;
        check_placed(cursor, i, model.items[i].header.offset, BOTH);
}

static void check_last_record(void) {
        RecordKind kind = RECORD_START + model_random(7);
        uint32_t run = model_random(2) == 0 ? 0 : 1 + model_random(model.run + 1);
        const Item *item = NULL;
        LogChunk chunk;
        int r;

        for (size_t i = 0; i < model.n_items; i++)
                if (item_is_kept(&model.items[i]) && model.items[i].header.kind == kind &&
                    (run == 0 || model.items[i].header.run == run))
                        item = &model.items[i];
        r = log_last_record(test_log, kind, run, &chunk);
        ck_assert_int_eq(r, item ? 1 : 0);
        if (item) {
                ck_assert_uint_eq(chunk.header.offset, item->header.offset);
                ck_assert_uint_eq(chunk.header.time_usec, item->header.time_usec);
                ck_assert_uint_eq(chunk.header.run, item->header.run);
                ck_assert_uint_eq(chunk.argument, item->argument);
                ck_assert_int_eq(chunk.fd, -1);
        }
}

static void check_lines(void) {
        static const unsigned choices[] = { BOTH, 1u << SOURCE_STDOUT, 1u << SOURCE_STDERR };
        unsigned sources = choices[model_random(3)];
        uint64_t n = model_random(model_random(3) == 0 ? 1000 : 6), left = n, offset = log_begin(test_log);
        bool seen = false;
        LogCursor cursor;

        for (size_t i = model.n_items; i-- > 0 && left > 0;) {
                const Item *item = &model.items[i];

                if (!item_is_kept(item) || item->header.kind != RECORD_DATA ||
                    !(sources & 1u << item->header.source))
                        continue;
                for (uint64_t at = item->header.offset + item->size; at-- > item->header.offset;) {
                        if (model.bytes[at] == '\n' && seen && --left == 0) {
                                offset = at + 1;
                                break;
                        }
                        seen = true;
                }
        }
        ck_assert_int_eq(log_seek_lines(test_log, &cursor, n, sources), 0);
        if (n == 0)
                offset = model.end;
        check_placed(cursor, n == 0 ? model.n_items : model_find_offset(offset), offset, sources);
}

START_TEST(seeks_find_what_a_scan_finds)
{
        static void (*const checks[])(void) = { check_offset, check_end,         check_time,
                                                check_run,    check_last_record, check_lines };

        model_init((unsigned)_i * 104729 + 3);
        for (int i = 0; i < 500; i++) {
                model_step();
                checks[model_random(ARRAY_SIZE(checks))]();
        }
        model_deinit();
}
END_TEST

/* ---- by example ---- */

START_TEST(records_at_an_offset_come_before_its_bytes)
{
        log_test_open(1 << 20, 4);
        put_record(RECORD_START, 1, 1);
        put(SOURCE_STDOUT, 1, "abcd");
        put_record(RECORD_EXIT, 1, 0); /* at 4, in the first segment */
        put_record(RECORD_START, 2, 2);
        put(SOURCE_STDOUT, 2, "efgh"); /* at 4, in the second */
        ck_assert_str_eq(read_from(0), "start@0=1 1@0'abcd' exit@4=0 start@4=2 1@4'efgh'");
        ck_assert_str_eq(read_from(1), "1@1'bcd' exit@4=0 start@4=2 1@4'efgh'");
        ck_assert_str_eq(read_from(4), "exit@4=0 start@4=2 1@4'efgh'");
        ck_assert_str_eq(read_from(5), "1@5'fgh'");
        ck_assert_str_eq(read_from(8), "");
}
END_TEST

START_TEST(a_reader_at_the_end_gets_what_joins_the_last_record)
{
        LogCursor end, at;

        log_test_open(1 << 20, 0);
        put(SOURCE_STDOUT, 1, "ab");
        log_seek_end(test_log, &end);
        ck_assert_int_eq(log_seek_offset(test_log, &at, 2), 0);
        put(SOURCE_STDOUT, 1, "cd"); /* within the time of one record */
        ck_assert_str_eq(read_on(&end, 10, BOTH), "1@2'cd'");
        ck_assert_str_eq(read_on(&at, 10, BOTH), "1@2'cd'");
        put(SOURCE_STDOUT, 1, "ef");
        ck_assert_str_eq(read_on(&end, 10, BOTH), "1@4'ef'");
}
END_TEST

/* Any of seven segments, one a second, may have lost its index, each of the others is found by its time. */
START_TEST(a_time_is_found_beside_segments_without_an_index)
{
        uint64_t offset;
        LogCursor cursor;

        log_test_open(1 << 20, 4);
        for (int i = 0; i < 7; i++, now_usec += 1000000)
                put(SOURCE_STDOUT, 1, "abcd");
        test_log = log_free(test_log);
        for (unsigned i = 0; i < 6; i++)
                if ((unsigned)_i & 1u << i)
                        ck_assert_int_eq(truncate(log_test_file(i * 4, ".idx"), 0), 0);
        log_test_open(1 << 20, 4);
        for (unsigned i = 0; i < 7; i++) {
                ck_assert_int_eq(log_seek_time(test_log, &cursor, 1000000 + i * 1000000), 0);
                /* what was lost before it is told first */
                for (offset = i * 4; offset > 0 && (unsigned)_i & 1u << (offset / 4 - 1); offset -= 4)
                        ;
                if (!((unsigned)_i & 1u << i))
                        ck_assert_uint_eq(cursor.offset, offset);
                ck_assert_uint_le(cursor.offset, i * 4);
        }
}
END_TEST

START_TEST(a_run_is_found_by_its_start_among_others)
{
        LogCursor cursor;

        log_test_open(1 << 20, 6);
        put_record(RECORD_START, 1, 100);
        put(SOURCE_STDOUT, 1, "one");
        put_record(RECORD_START, 2, 200);
        put(SOURCE_STDOUT, 2, "two");
        put(SOURCE_STDERR, 1, "late"); /* of a grandchild of the first */
        put_record(RECORD_START, 3, 300);
        put(SOURCE_STDOUT, 3, "three");
        ck_assert_int_eq(log_seek_run(test_log, &cursor, 2), 0);
        ck_assert_str_eq(read_on(&cursor, 10, BOTH),
                         "start@3=200 1@3'two' 2@6'late' start@10=300 1@10'three'");
        ck_assert_int_eq(log_seek_run(test_log, &cursor, 3), 0);
        ck_assert_str_eq(read_on(&cursor, 10, BOTH), "start@10=300 1@10'three'");
        ck_assert_int_eq(log_seek_run(test_log, &cursor, 4), -ENOENT);
}
END_TEST

START_TEST(lines_are_counted_from_the_end)
{
        static const struct {
                const char *text;
                uint64_t n, expected;
        } rows[] = {
                { "a\nb\nc\n", 1, 4 }, { "a\nb\nc\n", 2, 2 }, { "a\nb\nc\n", 3, 0 }, { "a\nb\nc\n", 9, 0 },
                { "a\nb\nc\n", 0, 6 }, { "a\nb\nc", 1, 4 },   { "a\nb\nc", 2, 2 },   { "\n\n\n", 1, 2 },
                { "\n\n\n", 2, 1 },    { "abc", 1, 0 },       { "", 1, 0 },          { "\n", 1, 0 },
        };
        LogCursor cursor;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                log_test_open(1 << 20, 2);
                if (rows[i].text[0])
                        put(SOURCE_STDOUT, 1, rows[i].text);
                ck_assert_int_eq(log_seek_lines(test_log, &cursor, rows[i].n, BOTH), 0);
                ck_assert_msg(cursor.offset == rows[i].expected, "row %zu: %" PRIu64, i, cursor.offset);
                test_log = log_free(test_log);
                ck_assert_int_eq(log_remove(log_dir), 0);
        }
}
END_TEST

START_TEST(long_lines_are_found_across_blocks)
{
        static char line[50000];
        LogCursor cursor;

        log_test_open(1 << 30, 0);
        memset(line, 'x', sizeof(line) - 1);
        for (int i = 0; i < 10; i++) {
                put(SOURCE_STDOUT, 1, line);
                put(SOURCE_STDERR, 1, "e\n");
                put(SOURCE_STDOUT, 1, "\n");
        }
        ck_assert_int_eq(log_seek_lines(test_log, &cursor, 3, 1u << SOURCE_STDOUT), 0);
        ck_assert_uint_eq(cursor.offset, 7 * 50002);
        ck_assert_int_eq(log_seek_lines(test_log, &cursor, 3, 1u << SOURCE_STDERR), 0);
        ck_assert_uint_eq(cursor.offset, 6 * 50002 + 50001);
}
END_TEST

static Suite *log_seek_suite(void) {
        Suite *suite = suite_create("log-seek");
        TCase *tcase = tcase_create("seek");

        tcase_add_checked_fixture(tcase, log_test_setup, log_test_teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_loop_test(tcase, seeks_find_what_a_scan_finds, 0, 20);
        tcase_add_test(tcase, records_at_an_offset_come_before_its_bytes);
        tcase_add_test(tcase, a_reader_at_the_end_gets_what_joins_the_last_record);
        tcase_add_loop_test(tcase, a_time_is_found_beside_segments_without_an_index, 0, 64);
        tcase_add_test(tcase, a_run_is_found_by_its_start_among_others);
        tcase_add_test(tcase, lines_are_counted_from_the_end);
        tcase_add_test(tcase, long_lines_are_found_across_blocks);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(log_seek_suite);
