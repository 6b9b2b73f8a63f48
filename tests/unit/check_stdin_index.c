/* SPDX-License-Identifier: MIT */

/* The index of a stdin log: its layout, what is found in it, and that rotation loses nothing that counts. */

#include "daemon/engine/stdin-index.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "common/macro.h"
#include "tests/support/check-main.h"
#include "tests/support/scratch.h"

static char dir[SCRATCH_MAX];
static StdinIndex index_of; /* of the directory */
static StdinRecord last;
static int n_fds;

static void setup(void) {
        n_fds = open_fds_count();
        scratch_make(dir, "/tmp");
        ck_assert_int_eq(stdin_index_load(&index_of, dir, &last, NULL), 0);
}

static void teardown(void) {
        stdin_index_deinit(&index_of);
        scratch_remove(dir);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static StdinWriter writer(unsigned number) {
        return stdin_writer_hash(&number, sizeof(number));
}

/* Ten bytes each, of writers in turn. */
static StdinRecord ten_bytes(unsigned number, unsigned n_writers) {
        return (StdinRecord){ .offset = 10 * (uint64_t)number,
                              .length = 10,
                              .time_usec = number,
                              .position = 10 * (uint64_t)(number / n_writers),
                              .writer = writer(number % n_writers),
                              .run = 1,
                              .kind = STDIN_KIND_BYTES };
}

static void append(unsigned begin, unsigned end, unsigned n_writers) {
        StdinRecord record;

        for (unsigned i = begin; i < end; i++) {
                record = ten_bytes(i, n_writers);
                if (stdin_index_append(&index_of, dir, &record, true, NULL) < 0)
                        ck_abort_msg("record %u is refused", i);
        }
}

START_TEST(a_record_has_its_documented_layout)
{
        static const uint8_t expected[] = {
                8,    7,    6,    5,    4,    3,    2,    1,    0x18, 0x17, 0x16, 0x15, 0x14, 0x13,
                0x12, 0x11, 0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, 0x38, 0x37, 0x36, 0x35,
                0x34, 0x33, 0x32, 0x31, 'w',  'w',  'w',  'w',  'w',  'w',  'w',  'w',  'w',  'w',
                'w',  'w',  'w',  'w',  'w',  'w',  0x44, 0x43, 0x42, 0x41, 1,    3,
        };
        static const uint8_t base[] = { 0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51 };
        StdinRecord record = { .offset = 0x0102030405060708,
                               .length = 0x1112131415161718,
                               .time_usec = 0x2122232425262728,
                               .position = 0x3132333435363738,
                               .run = 0x41424344,
                               .kind = STDIN_KIND_BYTES,
                               .flags = STDIN_FLAG_EOF | STDIN_FLAG_CLOSED,
                               .base = 0x5152535455565758 };
        uint8_t bytes[STDIN_RECORD_SIZE];
        StdinRecord decoded;

        memset(&record.writer, 'w', sizeof(record.writer));
        stdin_record_encode(bytes, &record);
        ck_assert_mem_eq(bytes, expected, sizeof(expected));
        ck_assert_mem_eq(bytes + 56, base, sizeof(base));
        ck_assert(stdin_record_decode(&decoded, bytes));
        stdin_record_encode(bytes, &decoded);
        ck_assert_mem_eq(bytes, expected, sizeof(expected));
}
END_TEST

START_TEST(every_change_of_a_bit_is_seen)
{
        StdinRecord record = ten_bytes(77, 3);
        uint8_t bytes[STDIN_RECORD_SIZE];

        stdin_record_encode(bytes, &record);
        for (unsigned bit = 0; bit < 8 * STDIN_RECORD_SIZE; bit++) {
                bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
                if (stdin_record_decode(&record, bytes))
                        ck_abort_msg("bit %u does not matter", bit);
                bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        memset(bytes, 0, sizeof(bytes));
        ck_assert(!stdin_record_decode(&record, bytes));
        memset(bytes, 0xff, sizeof(bytes));
        ck_assert(!stdin_record_decode(&record, bytes));
}
END_TEST

START_TEST(loading_finds_the_last_whole_record)
{
        char path[SCRATCH_MAX + 16];
        int fd;

        append(0, 300, 3);
        stdin_index_deinit(&index_of);
        (void)snprintf(path, sizeof(path), "%s/stdin.idx", dir);
        fd = open(path, O_RDWR | O_CLOEXEC);
        /* as a crash of the machine may leave it: longer, but without what should be there */
        ck_assert_int_eq(ftruncate(fd, (300 + _i) * STDIN_RECORD_SIZE + 13), 0);
        close(fd);
        ck_assert_int_eq(stdin_index_load(&index_of, dir, &last, NULL), 1);
        ck_assert_uint_eq(index_of.n_records, 300);
        ck_assert_uint_eq(last.offset, 2990);
        ck_assert_int_lt(index_of.fd, 0);
}
END_TEST

START_TEST(a_file_made_ahead_is_the_same_as_none)
{
        char path[SCRATCH_MAX + 16];

        stdin_index_make(dir);
        (void)snprintf(path, sizeof(path), "%s/stdin.idx", dir);
        ck_assert_int_eq(access(path, F_OK), 0);
        ck_assert_int_eq(stdin_index_load(&index_of, dir, &last, NULL), 0);
        ck_assert_uint_eq(index_of.n_records, 0);
        append(0, 3, 1);
        stdin_index_make(dir); /* takes nothing away from one that is in use */
        stdin_index_deinit(&index_of);
        ck_assert_int_eq(stdin_index_load(&index_of, dir, &last, NULL), 1);
        ck_assert_uint_eq(index_of.n_records, 3);
}
END_TEST

START_TEST(finding_is_by_where_records_end)
{
        StdinRecord cancel = { .offset = 20, .length = 980, .kind = STDIN_KIND_CANCEL, .base = 1000 };
        uint32_t number;

        ck_assert_int_eq(stdin_index_find(&index_of, dir, 0, &number, NULL), 0);
        ck_assert_uint_eq(number, 0);
        append(0, 100, 3);
        ck_assert_int_eq(stdin_index_append(&index_of, dir, &cancel, false, NULL), 0);
        append(100, 200, 3);
        for (uint64_t offset = 0; offset < 2010; offset++) {
                ck_assert_int_eq(stdin_index_find(&index_of, dir, offset, &number, NULL), 0);
                /* record n ends at 10 * n + 10, those behind the cancellation have one number more */
                if (number != (offset < 1000 ? offset / 10 : MIN(offset / 10 + 1, 201)))
                        ck_abort_msg("offset %llu is found in record %u", (unsigned long long)offset, number);
        }
}
END_TEST

START_TEST(a_writers_latest_record_is_found)
{
        StdinWriter third = writer(2), none = writer(9);
        StdinRecord record;

        append(0, 3000, 3);
        append(3000, 3001, 1);
        ck_assert_int_eq(stdin_index_writer(&index_of, dir, &third, UINT64_MAX, &record, NULL), 1);
        ck_assert_uint_eq(record.offset, 29990);
        ck_assert_uint_eq(record.position, 9990);
        ck_assert_int_eq(stdin_index_writer(&index_of, dir, &third, 25, &record, NULL), 1);
        ck_assert_uint_eq(record.position, 20);
        ck_assert_int_eq(stdin_index_writer(&index_of, dir, &third, 20, &record, NULL), 1);
        ck_assert_uint_eq(record.position, 10);
        ck_assert_int_eq(stdin_index_writer(&index_of, dir, &none, UINT64_MAX, &record, NULL), 0);
}
END_TEST

/* --- rotation --- */

START_TEST(rotation_keeps_the_latest)
{
        StdinRecord record;

        append(0, 20000, 3);
        ck_assert_int_eq(stdin_index_rotate(&index_of, dir, 200000, NULL), 0);
        ck_assert_uint_eq(index_of.n_records, STDIN_INDEX_KEEP);
        ck_assert_int_eq(stdin_index_read(&index_of, dir, 0, 1, &record, NULL), 0);
        ck_assert_uint_eq(record.offset, 10 * (20000 - STDIN_INDEX_KEEP));
        append(20000, 20001, 3);
        stdin_index_deinit(&index_of);
        ck_assert_int_eq(stdin_index_load(&index_of, dir, &last, NULL), 1);
        ck_assert_uint_eq(index_of.n_records, STDIN_INDEX_KEEP + 1);
        ck_assert_uint_eq(last.offset, 200000);
        ck_assert_int_eq(scratch_n_files(dir), 1);
}
END_TEST

START_TEST(rotation_keeps_what_is_not_taken)
{
        StdinRecord record;

        append(0, 20000, 3);
        ck_assert_int_eq(stdin_index_rotate(&index_of, dir, 1235, NULL), 0);
        ck_assert_uint_eq(index_of.n_records, 20000 - 123);
        ck_assert_int_eq(stdin_index_read(&index_of, dir, 0, 1, &record, NULL), 0);
        ck_assert_uint_eq(record.offset, 1230);
        ck_assert_uint_ge(index_of.n_rotate, 2 * index_of.n_records);
}
END_TEST

START_TEST(rotation_joins_what_one_writer_sent)
{
        StdinWriter first = writer(0);
        StdinRecord record = ten_bytes(17000, 1);

        append(0, 17000, 1);
        record.kind = STDIN_KIND_EOF;
        record.length = 0;
        record.flags = STDIN_FLAG_EOF | STDIN_FLAG_CLOSED;
        ck_assert_int_eq(stdin_index_append(&index_of, dir, &record, true, NULL), 0);
        ck_assert_int_eq(stdin_index_rotate(&index_of, dir, 0, NULL), 0);
        ck_assert_uint_eq(index_of.n_records, 2);
        ck_assert_int_eq(stdin_index_writer(&index_of, dir, &first, 5, &record, NULL), 1);
        ck_assert_uint_eq(record.offset, 0);
        ck_assert_uint_eq(record.position, 0);
        ck_assert_uint_eq(record.length, 170000);
        ck_assert_int_eq(stdin_index_writer(&index_of, dir, &first, UINT64_MAX, &record, NULL), 1);
        ck_assert_uint_eq(record.flags, STDIN_FLAG_EOF | STDIN_FLAG_CLOSED);
        ck_assert_uint_eq(record.position, 170000);
}
END_TEST

START_TEST(a_rotation_that_fails_changes_nothing)
{
        uint32_t n;

        if (!scratch_mount(dir, 512 * 1024))
                return;
        append(0, 5000, 3);
        scratch_fill(dir);
        n = index_of.n_records;
        ck_assert_int_eq(stdin_index_rotate(&index_of, dir, 50000, NULL), -ENOSPC);
        ck_assert_uint_eq(index_of.n_records, n);
        ck_assert_int_eq(scratch_n_files(dir), 2); /* the index and what fills the disk */
        stdin_index_deinit(&index_of);
        ck_assert_int_eq(stdin_index_load(&index_of, dir, &last, NULL), 1);
        ck_assert_uint_eq(last.offset, 49990);
        scratch_unmount(dir);
}
END_TEST

START_TEST(a_kill_during_rotation_leaves_a_whole_index)
{
        uint64_t offset;
        int fds[2];
        uint32_t n;
        pid_t pid;

        append(0, 6000, 2);
        ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
        for (unsigned i = 0; i < 60; i++) {
                stdin_index_deinit(&index_of);
                pid = fork();
                if (pid == 0) {
                        if (stdin_index_load(&index_of, dir, &last, NULL) < 0)
                                _exit(1);
                        for (n = (uint32_t)(last.offset / 10) + 1;; n++) {
                                last = ten_bytes(n, 2);
                                if (stdin_index_rotate(&index_of, dir, last.offset, NULL) < 0 ||
                                    stdin_index_append(&index_of, dir, &last, true, NULL) < 0)
                                        _exit(2);
                                if (n % 16 == 0)
                                        (void)!write(fds[1], "", 1);
                        }
                }
                ck_assert_int_eq(read(fds[0], &(char){ 0 }, 1), 1); /* it is at work */
                ck_assert_int_eq(usleep((useconds_t)random() % 4000), 0);
                ck_assert_int_eq(kill(pid, SIGKILL), 0);
                ck_assert_int_eq(waitpid(pid, &(int){ 0 }, 0), pid);
                ck_assert_int_eq(stdin_index_load(&index_of, dir, &last, NULL), 1);
                ck_assert_uint_ge(index_of.n_records, STDIN_INDEX_KEEP);
                offset = last.offset;
                ck_assert_int_eq(stdin_index_read(&index_of, dir, index_of.n_records - STDIN_INDEX_KEEP, 1,
                                                  &last, NULL),
                                 0);
                ck_assert_uint_eq(last.offset,
                                  offset - 10 * (STDIN_INDEX_KEEP - 1)); /* none is missing between */
        }
        ck_assert_uint_gt(offset, 60000);
        close(fds[0]);
        close(fds[1]);
}
END_TEST

static Suite *stdin_index_suite(void) {
        Suite *suite = suite_create("stdin-index");
        TCase *tcase = tcase_create("stdin-index");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_test(tcase, a_record_has_its_documented_layout);
        tcase_add_test(tcase, every_change_of_a_bit_is_seen);
        tcase_add_loop_test(tcase, loading_finds_the_last_whole_record, 0, 200);
        tcase_add_test(tcase, a_file_made_ahead_is_the_same_as_none);
        tcase_add_test(tcase, finding_is_by_where_records_end);
        tcase_add_test(tcase, a_writers_latest_record_is_found);
        tcase_add_test(tcase, rotation_keeps_the_latest);
        tcase_add_test(tcase, rotation_keeps_what_is_not_taken);
        tcase_add_test(tcase, rotation_joins_what_one_writer_sent);
        tcase_add_test(tcase, a_rotation_that_fails_changes_nothing);
        tcase_add_test(tcase, a_kill_during_rotation_leaves_a_whole_index);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(stdin_index_suite);
