/* SPDX-License-Identifier: MIT */

/* The index of a segment: layout, check, bisection over damage, room reserved ahead. */

#include "daemon/engine/index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/protocol.h"
#include "tests/support/check-main.h"

static int fd; /* owned */

static void setup(void) {
        fd = memfd_create("index", MFD_CLOEXEC);
        ck_assert_int_ge(fd, 0);
}

static void teardown(void) {
        close(fd);
}

static IndexRecord record_at(uint64_t offset) {
        return (IndexRecord){ .offset = offset,
                              .time_usec = 1000 + offset,
                              .argument = ~offset,
                              .run = 3,
                              .kind = RECORD_DATA,
                              .source = SOURCE_STDERR };
}

static void assert_same(const IndexRecord *a, const IndexRecord *b) {
        ck_assert_uint_eq(a->offset, b->offset);
        ck_assert_uint_eq(a->time_usec, b->time_usec);
        ck_assert_uint_eq(a->argument, b->argument);
        ck_assert_uint_eq(a->run, b->run);
        ck_assert_uint_eq(a->kind, b->kind);
        ck_assert_uint_eq(a->source, b->source);
}

START_TEST(a_record_has_its_documented_layout)
{
        IndexRecord record = { .offset = 0x0102030405060708,
                               .time_usec = 0x1112131415161718,
                               .argument = 0x2122232425262728,
                               .run = 0x31323334,
                               .kind = 8,
                               .source = 2 };
        static const uint8_t expected[30] = { 8,    7,    6,    5,    4,    3,    2,    1,    0x18, 0x17,
                                              0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0x28, 0x27, 0x26, 0x25,
                                              0x24, 0x23, 0x22, 0x21, 0x34, 0x33, 0x32, 0x31, 8,    2 };
        uint8_t bytes[INDEX_RECORD_SIZE];
        IndexRecord back;

        index_record_encode(bytes, &record);
        ck_assert_mem_eq(bytes, expected, sizeof(expected));
        index_record_decode(&back, bytes);
        assert_same(&back, &record);
}
END_TEST

START_TEST(every_single_bit_error_is_detected)
{
        uint8_t bytes[INDEX_RECORD_SIZE];
        IndexRecord record = record_at(77), back;

        index_record_encode(bytes, &record);
        for (int bit = 0; bit < INDEX_RECORD_SIZE * 8; bit++) {
                bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
                index_record_decode(&back, bytes);
                ck_assert_msg(back.kind == INDEX_DAMAGED, "bit %d", bit);
                bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
}
END_TEST

START_TEST(zeros_and_ones_are_damaged)
{
        uint8_t bytes[INDEX_RECORD_SIZE] = {};
        IndexRecord back;

        index_record_decode(&back, bytes);
        ck_assert_int_eq(back.kind, INDEX_DAMAGED);
        memset(bytes, 0xff, sizeof(bytes));
        index_record_decode(&back, bytes);
        ck_assert_int_eq(back.kind, INDEX_DAMAGED);
}
END_TEST

START_TEST(records_are_read_back_until_the_file_ends)
{
        IndexRecord records[3] = { record_at(1), record_at(2), record_at(3) }, back[8];

        ck_assert_int_eq(index_write(fd, 2, records, 3), 0);
        ck_assert_int_eq(index_read(fd, 0, back, 8), 5);
        ck_assert_int_eq(back[0].kind, INDEX_DAMAGED); /* a hole */
        ck_assert_int_eq(back[1].kind, INDEX_DAMAGED);
        for (int i = 0; i < 3; i++)
                assert_same(&back[2 + i], &records[i]);
        ck_assert_int_eq(index_read(fd, 5, back, 8), 0);
        ck_assert_int_eq(ftruncate(fd, 5 * INDEX_RECORD_SIZE - 1), 0);
        ck_assert_int_eq(index_read(fd, 3, back, 8), 1); /* half a record is none */
}
END_TEST

START_TEST(bisection_finds_what_a_scan_finds)
{
        enum {
                N = 200
        };
        uint64_t keys[N], key = 5;
        uint32_t number, expected;
        IndexRecord record;

        for (uint32_t i = 0; i < N; i++) {
                keys[i] = key;
                record = record_at(key);
                ck_assert_int_eq(index_write(fd, i, &record, 1), 0);
                key += (uint64_t)(random() % 3);
        }
        for (uint32_t end = 0; end <= N; end += 17)
                for (uint64_t value = 0; value < key + 3; value++) {
                        for (expected = 0; expected < end && keys[expected] < value; expected++)
                                ;
                        ck_assert_int_eq(index_find(fd, 0, end, INDEX_BY_OFFSET, value, &number), 0);
                        ck_assert_uint_eq(number, expected);
                        ck_assert_int_eq(index_find(fd, 0, end, INDEX_BY_TIME, value + 1000, &number), 0);
                        ck_assert_uint_eq(number, expected);
                }
}
END_TEST

START_TEST(bisection_passes_over_damaged_records)
{
        enum {
                N = 100
        };
        uint8_t zeros[INDEX_RECORD_SIZE] = {};
        uint32_t number;
        IndexRecord record;

        for (int from = 0; from < N; from += 23)
                for (int n = 1; n < 40; n += 13) {
                        for (uint32_t i = 0; i < N; i++) {
                                record = record_at(2 * i);
                                ck_assert_int_eq(index_write(fd, i, &record, 1), 0);
                        }
                        for (int i = from; i < MIN(N, from + n); i++)
                                ck_assert_int_eq(pwrite(fd, zeros, sizeof(zeros), i * INDEX_RECORD_SIZE), 32);
                        for (uint64_t value = 0; value <= 2 * N; value += 3) {
                                if (index_find(fd, 0, N, INDEX_BY_OFFSET, value, &number) < 0)
                                        ck_abort();
                                /* No sound record before it is as large, and the first sound one behind it
                                 * is. */
                                for (uint32_t i = 0; i < number; i++)
                                        ck_assert(((int)i >= from && (int)i < from + n) || 2 * i < value);
                                for (uint32_t i = number; i < N; i++)
                                        ck_assert(((int)i >= from && (int)i < from + n) || 2 * i >= value);
                        }
                }
}
END_TEST

START_TEST(reserved_room_does_not_make_the_file_longer)
{
        struct stat st;

        ck_assert_int_eq(index_reserve(fd, 0, 1024), 0);
        ck_assert_int_eq(fstat(fd, &st), 0);
        ck_assert_int_eq(st.st_size, 0);
        ck_assert_int_ge(st.st_blocks * 512, 1024 * INDEX_RECORD_SIZE);
}
END_TEST

START_TEST(punched_records_are_passed_over_at_once)
{
        enum {
                N = 1 << 20
        };
        IndexRecord record;
        struct stat st;
        uint32_t number;

        record = record_at(0);
        ck_assert_int_eq(index_write(fd, 0, &record, 1), 0);
        for (uint32_t i = N - 300; i < N; i++) {
                record = record_at(i);
                ck_assert_int_eq(index_write(fd, i, &record, 1), 0);
        }
        index_punch(fd, N - 10);
        ck_assert_int_eq(fstat(fd, &st), 0);
        ck_assert_int_eq(st.st_size, (off_t)N * INDEX_RECORD_SIZE);
        ck_assert_int_le(st.st_blocks * 512, 3 * INDEX_BLOCK_BYTES);
        ck_assert_int_eq(index_read(fd, 0, &record, 1), 1);
        ck_assert_int_eq(record.kind, RECORD_DATA); /* the first block stays */
        number = index_skip(fd, 1000);
        ck_assert_uint_ge(number, N - 300);
        ck_assert_uint_le(number, N - 10);
        ck_assert_uint_eq(index_skip(fd, N - 1), UINT32_MAX);
        ck_assert_int_eq(index_find(fd, 0, N, INDEX_BY_OFFSET, N - 5, &number), 0);
        ck_assert_uint_eq(number, N - 5);
}
END_TEST

START_TEST(errors_come_back_as_errno)
{
        IndexRecord record = record_at(0);

        ck_assert_int_eq(index_write(-1, 0, &record, 1), -EBADF);
        ck_assert_int_eq(index_read(-1, 0, &record, 1), -EBADF);
        ck_assert_int_eq(index_reserve(-1, 0, 1), -EBADF);
}
END_TEST

static Suite *index_suite(void) {
        Suite *suite = suite_create("index");
        TCase *tcase = tcase_create("index");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_test(tcase, a_record_has_its_documented_layout);
        tcase_add_test(tcase, every_single_bit_error_is_detected);
        tcase_add_test(tcase, zeros_and_ones_are_damaged);
        tcase_add_test(tcase, records_are_read_back_until_the_file_ends);
        tcase_add_test(tcase, bisection_finds_what_a_scan_finds);
        tcase_add_test(tcase, bisection_passes_over_damaged_records);
        tcase_add_test(tcase, reserved_room_does_not_make_the_file_longer);
        tcase_add_test(tcase, punched_records_are_passed_over_at_once);
        tcase_add_test(tcase, errors_come_back_as_errno);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(index_suite);
