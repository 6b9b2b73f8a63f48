/* SPDX-License-Identifier: MIT */

/* The files of a segment: names, what a kill leaves half made, what cannot be. */

#include "daemon/engine/segment.h"

#include "common/fd.h"
#include "daemon/engine/index.h"
#include "tests/support/log-test.h"

static Segment *segments; /* owned */
static uint32_t n_segments;
static Error error;

static void teardown(void) {
        free(segments);
        segments = NULL;
        log_test_teardown();
}

/* Make a file of a segment, of a size. */
static void make(uint64_t begin, SegmentFile file, off_t size) {
        int fd;

        fd = segment_open(log_dir, begin, file, O_RDWR | O_CREAT);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ftruncate(fd, size), 0);
        close(fd);
}

static void make_segment(uint64_t begin, off_t size, off_t n_records) {
        make(begin, SEGMENT_DATA, size);
        make(begin, SEGMENT_INDEX, n_records * INDEX_RECORD_SIZE);
}

static int scan(void) {
        free(segments);
        segments = NULL;
        n_segments = 0;
        return segment_scan(log_dir, &segments, &n_segments, &error);
}

/* Look at a segment that was found. */
static int look(uint32_t i) {
        return segment_look(log_dir, &segments[i], i + 1 < n_segments ? &segments[i + 1] : NULL, &error);
}

START_TEST(names_have_twenty_digits)
{
        make(42, SEGMENT_DATA, 1);
        make(INT64_MAX, SEGMENT_INDEX, 1);
        ck_assert_int_eq(log_test_file_size(42, ".log"), 1);
        ck_assert_int_eq(log_test_file_size(INT64_MAX, ".idx"), 1);
}
END_TEST

START_TEST(segments_are_found_in_order)
{
        make_segment(1000, 10, 3);
        make_segment(0, 900, 2);
        make_segment(900, 100, 1);
        ck_assert_int_eq(scan(), 0);
        ck_assert_uint_eq(n_segments, 3);
        ck_assert_uint_eq(segments[0].begin, 0);
        ck_assert_uint_eq(segments[1].begin, 900);
        ck_assert_uint_eq(segments[2].begin, 1000);
        ck_assert_uint_eq(segments[2].size, 10);
        ck_assert_uint_eq(segments[2].n_records, 3);
}
END_TEST

START_TEST(all_but_the_last_are_looked_at_later)
{
        make_segment(0, 900, 2);
        make_segment(1000, 70, 5);
        make_segment(2000, 10, 3);
        ck_assert_int_eq(scan(), 0);
        ck_assert(!segment_is_known(&segments[0]) && !segment_is_known(&segments[1]));
        ck_assert(segment_is_known(&segments[2]));
        make(1000, SEGMENT_DATA, 60); /* what counts is what is there then */
        ck_assert_int_eq(look(1), 0);
        ck_assert(!segment_is_known(&segments[0]) && segment_is_known(&segments[1]));
        ck_assert_uint_eq(segments[1].size, 60);
        ck_assert_uint_eq(segments[1].n_records, 5);
        ck_assert_int_eq(look(0), 0);
        ck_assert_uint_eq(segments[0].size, 900);
        ck_assert_uint_eq(segments[0].n_records, 2);
}
END_TEST

START_TEST(an_empty_directory_has_none)
{
        ck_assert_int_eq(scan(), 0);
        ck_assert_uint_eq(n_segments, 0);
        ck_assert_ptr_null(segments);
}
END_TEST

START_TEST(other_files_are_left_alone)
{
        static const char *const names[] = { "stdin.log",
                                             "stdin.idx",
                                             "1.log",
                                             "0000000000000000000x.log",
                                             "00000000000000000000.bak",
                                             "99999999999999999999.log",
                                             "12345" };
        char path[128];

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                (void)snprintf(path, sizeof(path), "%s/%s", log_dir, names[i]);
                close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        }
        make_segment(0, 5, 1);
        ck_assert_int_eq(scan(), 0);
        ck_assert_uint_eq(n_segments, 1);
        ck_assert_int_eq(segment_remove_all(log_dir), 0);
        ck_assert_int_eq(scan(), 0);
        ck_assert_uint_eq(n_segments, 0);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                (void)snprintf(path, sizeof(path), "%s/%s", log_dir, names[i]);
                ck_assert_int_eq(access(path, F_OK), 0);
        }
}
END_TEST

START_TEST(half_a_deletion_is_completed)
{
        make(0, SEGMENT_INDEX, 64);
        make_segment(10, 5, 1);
        ck_assert_int_eq(scan(), 0);
        ck_assert_uint_eq(n_segments, 1);
        ck_assert_int_eq(log_test_file_size(0, ".idx"), -ENOENT);
}
END_TEST

START_TEST(an_index_alone_is_a_last_segment_without_bytes)
{
        make_segment(0, 10, 1);
        make(10, SEGMENT_INDEX, 3 * INDEX_RECORD_SIZE);
        ck_assert_int_eq(scan(), 0);
        ck_assert_uint_eq(n_segments, 2);
        ck_assert_uint_eq(segments[1].begin, 10);
        ck_assert_uint_eq(segments[1].size, 0);
        ck_assert_uint_eq(segments[1].n_records, 3);
        make(5, SEGMENT_INDEX, INDEX_RECORD_SIZE); /* two that stand alone: the first is a deletion's */
        ck_assert_int_eq(unlink(log_test_file(0, ".log")), 0);
        ck_assert_int_eq(scan(), 0);
        ck_assert_uint_eq(n_segments, 1);
        ck_assert_uint_eq(segments[0].begin, 10);
        ck_assert_int_eq(log_test_file_size(0, ".idx"), -ENOENT);
        ck_assert_int_eq(log_test_file_size(5, ".idx"), -ENOENT);
}
END_TEST

START_TEST(half_a_new_segment_is_accepted_as_the_last)
{
        make_segment(0, 10, 1);
        make(10, SEGMENT_DATA, 0);
        ck_assert_int_eq(scan(), 0);
        ck_assert_uint_eq(n_segments, 2);
        ck_assert_uint_eq(segments[1].n_records, 0);
}
END_TEST

START_TEST(one_that_was_deleted_since_it_was_found_is_empty)
{
        make_segment(0, 10, 1);
        make_segment(10, 10, 1);
        make_segment(20, 10, 1);
        ck_assert_int_eq(scan(), 0);
        ck_assert_int_eq(unlink(log_test_file(0, ".log")), 0);
        ck_assert_int_eq(segment_unlink(log_dir, 10), 0);
        for (uint32_t i = 0; i < 2; i++) {
                ck_assert_int_eq(look(i), 0);
                ck_assert_uint_eq(segments[i].size, 0);
                ck_assert_uint_eq(segments[i].n_records, 0);
        }
        ck_assert_int_eq(scan(), 0);
        ck_assert_uint_eq(n_segments, 1);
        ck_assert_int_eq(log_test_file_size(0, ".idx"), -ENOENT);
}
END_TEST

/* Its names come in several pieces, among others. */
START_TEST(a_large_directory_is_read_whole)
{
        char name[512];

        for (unsigned i = 0; i < 1000; i++) {
                make_segment(i * 7919 % 1000 * 10, 10, 1);
                (void)snprintf(name, sizeof(name), "%s/%0*u", log_dir, (int)(i % NAME_MAX) + 1, i);
                ck_assert_int_eq(i % 2 == 0 ? mkdir(name, 0700) : symlink("a", name), 0);
        }
        ck_assert_int_eq(scan(), 0);
        ck_assert_uint_eq(n_segments, 1000);
        for (uint32_t i = 0; i < n_segments; i++) {
                ck_assert_uint_eq(segments[i].begin, i * 10);
                ck_assert_int_eq(look(i), 0);
        }
        ck_assert_int_eq(segment_remove_all(log_dir), 0);
        ck_assert_int_eq(scan(), 0);
        ck_assert_uint_eq(n_segments, 0);
}
END_TEST

START_TEST(what_no_kill_explains_is_refused_by_name)
{
        make_segment(0, 11, 1);
        make_segment(10, 5, 1);
        ck_assert_int_eq(scan(), 0);
        ck_assert_int_eq(look(0), -EUCLEAN);
        ck_assert(!segment_is_known(&segments[0]));
        ck_assert_ptr_nonnull(strstr(error.text, "00000000000000000000.log' reaches into"));
        make(0, SEGMENT_DATA, 10);
        ck_assert_int_eq(look(0), 0);
        ck_assert_int_eq(scan(), 0);
        ck_assert_int_eq(unlink(log_test_file(0, ".idx")), 0);
        ck_assert_int_eq(look(0), -EUCLEAN);
        ck_assert_ptr_nonnull(strstr(error.text, "00000000000000000000.idx' is missing"));
        make_segment(0, 10, 1);
        ck_assert_int_eq(unlink(log_test_file(10, ".idx")), 0);
        ck_assert_int_eq(scan(), -EUCLEAN); /* bytes, but no index */
        make(10, SEGMENT_INDEX, 0);
        make(10, SEGMENT_DATA, (off_t)1 << 40);
        ck_assert_int_eq(scan(), -EUCLEAN);
        make(10, SEGMENT_DATA, 0);
        make(10, SEGMENT_INDEX, ((off_t)UINT32_MAX - 1) * INDEX_RECORD_SIZE + 1);
        ck_assert_int_eq(scan(), -EUCLEAN);
        make(10, SEGMENT_INDEX, ((off_t)UINT32_MAX - 1) * INDEX_RECORD_SIZE);
        ck_assert_int_eq(scan(), 0);
        ck_assert(segment_is_known(&segments[1]));
        ck_assert_int_eq(unlink(log_test_file(10, ".log")), 0);
        ck_assert_int_eq(mkdir(log_test_file(10, ".log"), 0700), 0);
        ck_assert_int_eq(scan(), -EUCLEAN);
}
END_TEST

START_TEST(a_symbolic_link_is_not_followed)
{
        ck_assert_int_eq(symlink("/dev/null", log_test_file(0, ".log")), 0);
        ck_assert_int_eq(segment_open(log_dir, 0, SEGMENT_DATA, O_RDWR), -ELOOP);
}
END_TEST

START_TEST(unlinking_twice_is_fine)
{
        make_segment(7, 1, 1);
        ck_assert_int_eq(segment_unlink(log_dir, 7), 0);
        ck_assert_int_eq(segment_unlink(log_dir, 7), 0);
        ck_assert_int_eq(log_test_file_size(7, ".log"), -ENOENT);
        ck_assert_int_eq(log_test_file_size(7, ".idx"), -ENOENT);
}
END_TEST

START_TEST(errors_name_the_directory)
{
        ck_assert_int_eq(segment_scan("/nonexistent/x", &segments, &n_segments, &error), -ENOENT);
        ck_assert_ptr_nonnull(strstr(error.text, "/nonexistent/x"));
        ck_assert_int_eq(segment_open("/nonexistent/x", 0, SEGMENT_DATA, O_RDONLY), -ENOENT);
        ck_assert_int_eq(segment_remove_all("/nonexistent/x"), 0);
}
END_TEST

static Suite *segment_suite(void) {
        Suite *suite = suite_create("segment");
        TCase *tcase = tcase_create("segment");

        tcase_add_checked_fixture(tcase, log_test_setup, teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_test(tcase, names_have_twenty_digits);
        tcase_add_test(tcase, segments_are_found_in_order);
        tcase_add_test(tcase, all_but_the_last_are_looked_at_later);
        tcase_add_test(tcase, an_empty_directory_has_none);
        tcase_add_test(tcase, other_files_are_left_alone);
        tcase_add_test(tcase, half_a_deletion_is_completed);
        tcase_add_test(tcase, an_index_alone_is_a_last_segment_without_bytes);
        tcase_add_test(tcase, half_a_new_segment_is_accepted_as_the_last);
        tcase_add_test(tcase, one_that_was_deleted_since_it_was_found_is_empty);
        tcase_add_test(tcase, a_large_directory_is_read_whole);
        tcase_add_test(tcase, what_no_kill_explains_is_refused_by_name);
        tcase_add_test(tcase, a_symbolic_link_is_not_followed);
        tcase_add_test(tcase, unlinking_twice_is_fine);
        tcase_add_test(tcase, errors_name_the_directory);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(segment_suite);
