/* SPDX-License-Identifier: MIT */

#include "daemon/engine/scan.h"

#include "tests/support/log-test.h"

static Match *match;      /* owned; freed by teardown */
static ScanBuffer buffer; /* freed by teardown */
static Scan scan;

static void setup(void) {
        log_test_setup();
        log_test_open(1 << 20, 0);
        match = NULL;
}

static void teardown(void) {
        match = match_free(match);
        scan_buffer_deinit(&buffer);
        log_test_teardown();
}

static void begin(MatchKind kind, uint64_t n, const char *text, uint64_t max) {
        MatchSpec spec = { .kind = kind, .n = n, .text = text, .text_size = text ? strlen(text) : 0 };
        LogCursor start;

        match = match_free(match);
        ck_assert_int_eq(match_new(&match, &spec, NULL), 0);
        ck_assert_int_eq(log_seek_offset(test_log, &start, 0), 0);
        scan_init(&scan, match, &start, max, BOTH);
}

static int step(void) {
        Error error = {};
        int r;

        do
                r = scan_step(&scan, test_log, &buffer, UINT64_MAX, &error);
        while (r == SCAN_BUSY);
        ck_assert_msg(r >= 0, "%s", error.text);
        return r;
}

/* What was gathered, up to n, and the offset behind it. */
static const char *taken(uint64_t n, uint64_t *ret_next) {
        static char data[4096];

        ck_assert_int_eq(scan_copy(&scan, test_log, n, data, ret_next), 0);
        data[n] = '\0';
        return data;
}

START_TEST(what_comes_in_pieces_is_found_once_it_is_there)
{
        static const char text[] = "ab: value;\n>>> ";
        uint64_t next;

        for (size_t split = 0; split <= strlen(text); split++) {
                char left[32] = "";

                log_test_open(1 << 20, 0);
                begin(MATCH_PATTERN, 0, "(?<=ab: )(\\w+);\\n>>> $", 1000);
                log_seek_end(test_log, &scan.at);
                scan_init(&scan, match, &scan.at, 1000, BOTH);
                memcpy(left, text, split);
                put(SOURCE_STDOUT, 1, left);
                ck_assert_int_eq(step(), split == strlen(text) ? SCAN_DONE : SCAN_WAITS);
                if (split < strlen(text)) {
                        put(SOURCE_STDOUT, 1, text + split);
                        ck_assert_int_eq(step(), SCAN_DONE);
                }
                ck_assert_str_eq(taken(scan.result.end, &next), text);
                ck_assert_uint_eq(next, log_end(test_log));
                ck_assert_uint_eq(scan.result.from, 4);
        }
}
END_TEST

START_TEST(only_the_chosen_sources_are_gathered)
{
        uint64_t next;

        begin(MATCH_LINE, 0, NULL, 1000);
        scan.sources = 1u << SOURCE_STDOUT;
        put(SOURCE_STDOUT, 1, "o");
        put(SOURCE_STDERR, 1, "EE\n");
        ck_assert_int_eq(step(), SCAN_WAITS);
        ck_assert_uint_eq(scan.n, 1);
        put(SOURCE_STDOUT, 1, "ut\nmore");
        ck_assert_int_eq(step(), SCAN_DONE);
        ck_assert_str_eq(taken(scan.result.end, &next), "out\n");
        ck_assert_uint_eq(next, 7);
}
END_TEST

/* What can be read is found, however little stands between it and what cannot. */
START_TEST(what_cannot_be_read_hides_nothing_in_front_of_it)
{
        Error error = {};
        uint64_t next;
        int r;

        log_test_open(1 << 20, 4);
        for (int i = 0; i < 4; i++)
                put(SOURCE_STDOUT, 1, "abc\n");
        test_log = log_free(test_log);
        ck_assert_int_eq(truncate(log_test_file(8, ".log"), 5), 0);
        log_test_open(1 << 20, 4);
        begin(_i == 0 ? MATCH_LINE : MATCH_PATTERN, 0, "c\\na", 1000);
        ck_assert_int_eq(step(), SCAN_DONE);
        ck_assert_str_eq(taken(4, &next), "abc\n");
        begin(_i == 0 ? MATCH_EXACTLY : MATCH_PATTERN, 10, "c\\nabc\\na", 1000);
        do
                r = scan_step(&scan, test_log, &buffer, UINT64_MAX, &error);
        while (r == SCAN_BUSY);
        ck_assert_int_eq(r, -EUCLEAN);
        ck_assert_ptr_nonnull(strstr(error.text, "00000000000000000008.log'"));
        ck_assert_uint_eq(scan.n, 8);
        ck_assert_int_eq(scan_step(&scan, test_log, &buffer, UINT64_MAX, &error), -EUCLEAN);
}
END_TEST

START_TEST(it_never_goes_into_the_next_run_with_something_gathered)
{
        put_record(RECORD_START, 1, 1);
        put(SOURCE_STDOUT, 1, "last");
        put_record(RECORD_EXIT, 1, 0);
        put_record(RECORD_START, 2, 2);
        put(SOURCE_STDOUT, 2, "next\n");
        begin(MATCH_LINE, 0, NULL, 1000);
        ck_assert_int_eq(step(), SCAN_RUN_ENDED);
        ck_assert_uint_eq(scan.n, 4);
        ck_assert_uint_eq(scan.run, 1);
        begin(MATCH_LINE, 0, NULL, 1000);
        ck_assert_int_eq(log_seek_offset(test_log, &scan.at, 4), 0);
        scan_init(&scan, match, &scan.at, 1000, BOTH);
        ck_assert_int_eq(step(), SCAN_DONE);
        ck_assert_uint_eq(scan.run, 2);
}
END_TEST

START_TEST(more_than_it_may_gather_is_said_and_not_sooner)
{
        begin(MATCH_LINE, 0, NULL, 5);
        put(SOURCE_STDOUT, 1, "12345");
        ck_assert_int_eq(step(), SCAN_WAITS);
        put(SOURCE_STDOUT, 1, "\n");
        ck_assert_int_eq(step(), SCAN_FULL);
        begin(MATCH_LINE, 0, NULL, 6);
        ck_assert_int_eq(step(), SCAN_DONE);
}
END_TEST

START_TEST(what_retention_took_is_said_and_passed_over)
{
        static char block[65536];
        uint64_t next;

        log_test_open(65536, 65536);
        begin(MATCH_LINE, 0, NULL, 1 << 24);
        put(SOURCE_STDOUT, 1, "begin");
        ck_assert_int_eq(step(), SCAN_WAITS);
        ck_assert_uint_eq(scan.n, 5);
        memset(block, 'x', sizeof(block) - 1);
        for (unsigned i = 0; i < 4; i++)
                put(SOURCE_STDOUT, 1, block);
        put(SOURCE_STDOUT, 1, "\n");
        ck_assert_uint_gt(log_begin(test_log), 0);
        ck_assert_int_eq(step(), SCAN_DONE);
        ck_assert_uint_eq(scan.lost_from, 0);
        ck_assert_uint_eq(scan.lost_to, log_begin(test_log));
        ck_assert_uint_eq(scan.first, log_begin(test_log));
        ck_assert_int_eq(scan_copy(&scan, test_log, scan.result.end, NULL, &next), 0);
        ck_assert_uint_eq(next, log_end(test_log));
}
END_TEST

/* --- what is not asked for --- */

#define BLOCKS 40

/* Many times what is kept goes by. */
static void pass(void) {
        static char block[16385];

        memset(block, 'x', sizeof(block) - 1);
        for (unsigned i = 0; i < BLOCKS; i++) {
                put(SOURCE_STDERR, 1, "beside");
                put(SOURCE_STDOUT, 1, block);
                if (step() == SCAN_HOLDS) {
                        scan_release(&scan);
                        ck_assert_int_eq(step(), SCAN_WAITS);
                }
        }
        ck_assert_uint_gt(log_begin(test_log), 0);
}

static void begin_forgetting(MatchKind kind, uint64_t n, const char *text) {
        log_test_open(65536, 65536);
        begin(kind, n, text, UINT64_MAX);
        scan.sources = 1u << SOURCE_STDOUT;
        scan.forgets = true;
}

START_TEST(what_is_counted_may_go)
{
        uint64_t next;

        begin_forgetting(MATCH_EXACTLY, BLOCKS * UINT64_C(16384) + 2, NULL);
        pass();
        put(SOURCE_STDERR, 1, "beside");
        put(SOURCE_STDOUT, 1, "end");
        ck_assert_int_eq(step(), SCAN_DONE);
        ck_assert_int_eq(scan_find_end(&scan, test_log, &next), 0);
        ck_assert_uint_eq(next, log_end(test_log) - 1);
}
END_TEST

START_TEST(what_a_pattern_has_passed_may_go)
{
        uint64_t next;

        begin_forgetting(MATCH_PATTERN, 0, "(?<=xxxx)e(n)d");
        pass();
        put(SOURCE_STDOUT, 1, "ending");
        ck_assert_int_eq(step(), SCAN_DONE);
        ck_assert_uint_eq(scan.result.from, BLOCKS * UINT64_C(16384));
        ck_assert_uint_eq(scan.lost_to, 0);
        ck_assert_uint_lt(scan.n_shown, BLOCKS * (UINT64_C(16384) + 10) + 6); /* nothing twice */
        ck_assert_int_eq(scan_find_end(&scan, test_log, &next), 0);
        ck_assert_uint_eq(next, log_end(test_log) - 3);
}
END_TEST

START_TEST(what_a_pattern_still_wanted_and_is_gone_matches_nothing)
{
        begin_forgetting(MATCH_PATTERN, 0, "be[^b]*end");
        put(SOURCE_STDOUT, 1, "be");
        pass();
        put(SOURCE_STDOUT, 1, "end");
        ck_assert_int_eq(step(), SCAN_WAITS);
        put(SOURCE_STDOUT, 1, "beend");
        ck_assert_int_eq(step(), SCAN_DONE);
}
END_TEST

START_TEST(bytes_are_counted_on_behind_a_gap)
{
        static char block[65536];
        uint64_t next;

        begin_forgetting(MATCH_EXACTLY, 8, NULL);
        put(SOURCE_STDOUT, 1, "12345");
        ck_assert_int_eq(step(), SCAN_WAITS);
        memset(block, 'x', sizeof(block) - 1);
        for (unsigned i = 0; i < 4; i++)
                put(SOURCE_STDERR, 1, block);
        ck_assert_uint_gt(log_begin(test_log), 5);
        put(SOURCE_STDOUT, 1, "6789");
        ck_assert_int_eq(step(), SCAN_DONE);
        ck_assert_int_eq(scan_find_end(&scan, test_log, &next), 0);
        ck_assert_uint_eq(next, log_end(test_log) - 1);
}
END_TEST

/* --- how much is seen again --- */

#define PIECE_BYTES 100
#define MANY_PIECES 10486 /* a megabyte */

START_TEST(a_long_match_in_part_is_seen_a_few_times_however_small_the_pieces)
{
        char piece[PIECE_BYTES + 1] = "";
        uint64_t longest = 0, n_held = 0;
        int r;

        begin(MATCH_PATTERN, 0, "a[^b]*b", UINT64_MAX);
        put(SOURCE_STDOUT, 1, "a");
        ck_assert_int_eq(step(), SCAN_WAITS);
        memset(piece, 'x', PIECE_BYTES);
        for (unsigned i = 0; i < MANY_PIECES; i++) {
                put(SOURCE_STDOUT, 1, piece);
                r = step();
                ck_assert(r == SCAN_WAITS || r == SCAN_HOLDS);
                n_held = r == SCAN_HOLDS ? n_held + PIECE_BYTES : 0;
                longest = MAX(longest, n_held * 4 / scan.n);
        }
        ck_assert_uint_eq(scan.n, 1 + MANY_PIECES * PIECE_BYTES);
        ck_assert_uint_le(scan.n_shown, 6 * scan.n); /* and not 5,000 times */
        ck_assert_uint_eq(longest, 0);               /* nor is more than a quarter held back */
        put(SOURCE_STDOUT, 1, "b");
        if (step() == SCAN_HOLDS)
                scan_release(&scan);
        ck_assert_int_eq(step(), SCAN_DONE);
        ck_assert_uint_eq(scan.result.end, scan.n);
}
END_TEST

START_TEST(what_is_held_back_is_seen_before_the_run_is_called_over)
{
        static char block[SCAN_HOLD_BYTES + 2];

        begin(MATCH_PATTERN, 0, "a[^b]*b", UINT64_MAX);
        memset(block, 'a', sizeof(block) - 1);
        put(SOURCE_STDOUT, 1, block);
        ck_assert_int_eq(step(), SCAN_WAITS);
        put(SOURCE_STDOUT, 1, "b");
        ck_assert_int_eq(step(), SCAN_HOLDS);
        ck_assert_int_eq(step(), SCAN_HOLDS);
        put(SOURCE_STDOUT, 2, "next");
        ck_assert_int_eq(step(), SCAN_DONE);
        ck_assert_uint_eq(scan.result.end, sizeof(block));
}
END_TEST

START_TEST(a_short_match_in_part_is_seen_at_once)
{
        begin(MATCH_PATTERN, 0, "a[^b]*b", UINT64_MAX);
        for (unsigned i = 0; i < SCAN_HOLD_BYTES / 16; i++) {
                put(SOURCE_STDOUT, 1, "aaaaaaaaaaaaaaaa");
                ck_assert_int_eq(step(), SCAN_WAITS);
        }
        put(SOURCE_STDOUT, 1, "b");
        ck_assert_int_eq(step(), SCAN_DONE);
}
END_TEST

static Suite *scan_suite(void) {
        Suite *suite = suite_create("scan");
        TCase *tcase = tcase_create("scan");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, what_comes_in_pieces_is_found_once_it_is_there);
        tcase_add_test(tcase, only_the_chosen_sources_are_gathered);
        tcase_add_loop_test(tcase, what_cannot_be_read_hides_nothing_in_front_of_it, 0, 2);
        tcase_add_test(tcase, it_never_goes_into_the_next_run_with_something_gathered);
        tcase_add_test(tcase, more_than_it_may_gather_is_said_and_not_sooner);
        tcase_add_test(tcase, what_retention_took_is_said_and_passed_over);
        tcase_add_test(tcase, what_is_counted_may_go);
        tcase_add_test(tcase, what_a_pattern_has_passed_may_go);
        tcase_add_test(tcase, what_a_pattern_still_wanted_and_is_gone_matches_nothing);
        tcase_add_test(tcase, bytes_are_counted_on_behind_a_gap);
        tcase_add_test(tcase, a_long_match_in_part_is_seen_a_few_times_however_small_the_pieces);
        tcase_add_test(tcase, what_is_held_back_is_seen_before_the_run_is_called_over);
        tcase_add_test(tcase, a_short_match_in_part_is_seen_at_once);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(scan_suite);
