/* SPDX-License-Identifier: MIT */

/* What the stdin log makes of what it finds: a position or none, torn records, contradictions; and its
 * bounds: the index, the disk, a disk that is full. */

#include "daemon/engine/stdin-log.h"

#include "common/macro.h"
#include "daemon/engine/stdin-index.h"
#include "tests/support/stdin-fixture.h"

/* --- reconstruction --- */

START_TEST(a_new_engine_goes_on_where_the_keeper_says)
{
        static char data[6000], got[sizeof(data)];

        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (char)(i % 251);
        ck_assert_int_eq(stdin_log_accept(stdin_log, &alice, 0, data, sizeof(data), false, NULL, NULL, NULL),
                         0);
        ck_assert_int_eq(deliver(), -EAGAIN);
        reopen(true);
        ck_assert_uint_eq(stdin_log_accepted(stdin_log), 6000);
        ck_assert_uint_eq(stdin_log_taken(stdin_log), 4096);
        ck_assert_int_eq(read(pipe_fds[0], got, 4096), 4096);
        ck_assert_int_eq(deliver(), 0);
        ck_assert_int_eq(read(pipe_fds[0], got + 4096, sizeof(got) - 4096), 6000 - 4096);
        ck_assert_mem_eq(data, got, sizeof(data));
}
END_TEST

START_TEST(without_a_position_delivery_begins_with_the_run)
{
        ck_assert_int_eq(say(NULL, 0, "of the run before ", false), 0);
        ck_assert_int_eq(stdin_log_begin_run(stdin_log, 2, NULL), 0);
        ck_assert_int_eq(say(NULL, 0, "of this run", false), 0);
        reopen(false);
        ck_assert_uint_eq(stdin_log_taken(stdin_log), 18);
        ck_assert_int_eq(deliver(), 0);
        assert_reads("of this run");
}
END_TEST

/* Cut within the last record, at each byte, or with one byte of it changed: it was never accepted. */
START_TEST(a_torn_record_accepts_nothing)
{
        char path[SCRATCH_MAX + 16];
        uint64_t accepted;
        uint8_t byte;
        int fd;

        ck_assert_int_eq(say(&alice, 0, "abc", false), 0);
        ck_assert_int_eq(say(&alice, 3, "def", true), 0);
        file_path(path, "stdin.idx");
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (_i < STDIN_RECORD_SIZE)
                ck_assert_int_eq(ftruncate(fd, STDIN_RECORD_SIZE + _i), 0);
        else {
                ck_assert_int_eq(pread(fd, &byte, 1, _i), 1);
                byte ^= 0x20;
                ck_assert_int_eq(pwrite(fd, &byte, 1, _i), 1);
        }
        close(fd);
        reopen(false);
        ck_assert_uint_eq(stdin_log_accepted(stdin_log), 3);
        ck_assert(!stdin_log_eof(stdin_log));
        ck_assert_int_eq(stdin_log_writer(stdin_log, &alice, &accepted, NULL, NULL, NULL), 0);
        ck_assert_uint_eq(accepted, 3);
        ck_assert_int_eq(say(&alice, 3, "DEF", true), 0);
        reopen(false);
        ck_assert_uint_eq(stdin_log_accepted(stdin_log), 6);
        ck_assert_int_eq(file_stat("stdin.idx").st_size, 2 * STDIN_RECORD_SIZE);
        ck_assert_int_eq(deliver(), 0);
        assert_reads("abcDEF");
}
END_TEST

START_TEST(bytes_without_a_record_are_overwritten)
{
        char path[SCRATCH_MAX + 16];
        int fd;

        ck_assert_int_eq(say(NULL, 0, "abc", false), 0);
        file_path(path, "stdin.log");
        fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
        ck_assert_int_eq(write(fd, "never accepted", 14), 14);
        close(fd);
        reopen(false);
        ck_assert_int_eq(say(NULL, 0, "def", false), 0);
        ck_assert_int_eq(deliver(), 0);
        assert_reads("abcdef");
}
END_TEST

START_TEST(contradictions_are_euclean_and_leave_the_descriptor)
{
        int n, fd;
        Error error;

        ck_assert_int_eq(say(NULL, 0, "abcdef", false), 0);
        ck_assert_int_eq(say(NULL, 0, "ghi", false), 0);
        ck_assert_int_eq(deliver(), 0);
        fd = fcntl(position_fd(), F_DUPFD_CLOEXEC, 0);
        stdin_log = stdin_log_free(stdin_log);
        n = open_fds_count();
        ck_assert_int_eq(truncate((file_path(error.text, "stdin.idx"), error.text), STDIN_RECORD_SIZE), 0);
        ck_assert_int_eq(stdin_log_open(&stdin_log, dir, fd, &error), -EUCLEAN);
        ck_assert_ptr_nonnull(strstr(error.text, "stdin.idx"));
        ck_assert_int_eq(open_fds_count(), n);
        ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 9); /* another attempt can have it */
        close(fd);
        ck_assert_ptr_null(stdin_log);
}
END_TEST

START_TEST(accepted_bytes_that_are_gone_are_euclean)
{
        char path[SCRATCH_MAX + 16];
        size_t n;

        ck_assert_int_eq(say(NULL, 0, "abcdef", false), 0);
        file_path(path, "stdin.log");
        ck_assert_int_eq(truncate(path, 0), 0);
        (void)position_fd();
        ck_assert_int_eq(stdin_log_deliver(stdin_log, pipe_fds[1], &n, NULL), -EUCLEAN);
        ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(an_index_of_garbage_is_euclean)
{
        char path[SCRATCH_MAX + 16];
        Error error;
        int fd;

        stdin_log = stdin_log_free(stdin_log);
        file_path(path, "stdin.idx");
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        for (unsigned i = 0; i < 1000; i++)
                ck_assert_int_eq(write(fd, "garbage", 7), 7);
        close(fd);
        ck_assert_int_eq(stdin_log_open(&stdin_log, dir, -1, &error), -EUCLEAN);
        ck_assert_ptr_nonnull(strstr(error.text, path));
}
END_TEST

/* --- bounds --- */

START_TEST(the_index_is_bounded_and_recent_writers_are_known)
{
        uint64_t accepted;
        StdinWriter writer;
        off_t size, size_max = 0;

        for (unsigned i = 0; i < 20000; i++) {
                writer = stdin_writer_hash(&i, sizeof(i));
                ck_assert_int_eq(stdin_log_accept(stdin_log, &writer, 0, "x", 1, false, NULL, NULL, NULL), 0);
                ck_assert_int_eq(deliver(), 0);
                ck_assert_int_eq(read(pipe_fds[0], &accepted, 1), 1);
                if (i % 100 == 0) {
                        size = file_stat("stdin.idx").st_size;
                        size_max = MAX(size, size_max);
                }
        }
        ck_assert_int_le(size_max, (STDIN_INDEX_MAX + 1) * STDIN_RECORD_SIZE);
        for (unsigned i = 20000 - STDIN_INDEX_KEEP; i < 20000; i += 97) {
                writer = stdin_writer_hash(&i, sizeof(i));
                ck_assert_int_eq(stdin_log_writer(stdin_log, &writer, &accepted, NULL, NULL, NULL), 0);
                ck_assert_uint_eq(accepted, 1);
        }
        reopen(true);
        ck_assert_uint_eq(stdin_log_accepted(stdin_log), 20000);
        ck_assert_uint_eq(stdin_log_taken(stdin_log), 20000);
        ck_assert_int_eq(scratch_n_files(dir), 2);
}
END_TEST

/* The pages of delivered bytes are dropped from the file while the pipe still refers to some of them. */
START_TEST(delivered_bytes_leave_the_disk_and_not_the_pipe)
{
        const size_t size = 1024 * 1024, n_pieces = 6;
        uint64_t n_read = 0, taken, got_word;
        uint64_t *data = malloc(size), *got = malloc(size);
        StdinLog *log = NULL;
        char path[SCRATCH_MAX];
        struct stat st;
        size_t n;
        bool is_new;
        int fd;

        scratch_make(path, _i == 0 ? "/tmp" : "/dev/shm");
        ck_assert_int_eq(fcntl(pipe_fds[1], F_SETPIPE_SZ, size), (int)size);
        ck_assert_int_eq(stdin_log_open(&log, path, -1, NULL), 0);
        for (uint64_t piece = 0; piece < n_pieces; piece++) {
                for (size_t i = 0; i < size / 8; i++)
                        data[i] = (piece * size + i * 8) * UINT64_C(0x9e3779b97f4a7c15) + 1;
                ck_assert_int_eq(stdin_log_accept(log, NULL, 0, data, size, false, NULL, NULL, NULL), 0);
        }
        ck_assert_int_eq(stdin_log_position_fd(log, &fd, &is_new, NULL), 0);
        while (n_read < n_pieces * size) {
                (void)stdin_log_deliver(log, pipe_fds[1], &n, NULL);
                /* leave the pipe filled up to here, and with it references across the edge of the hole */
                taken = stdin_log_taken(log);
                ck_assert_int_eq(fstat(fd, &st), 0);
                ck_assert_int_le(st.st_blocks * 512,
                                 (off_t)(n_pieces * size - taken / (2 * size) * (2 * size) + 65536));
                ck_assert_int_gt(read(pipe_fds[0], got, 65536), 0);
                for (size_t i = 0; i < 65536 / 8; i++) {
                        got_word = (n_read + i * 8) * UINT64_C(0x9e3779b97f4a7c15) + 1;
                        if (got[i] != got_word)
                                ck_abort_msg("changed at %llu", (unsigned long long)(n_read + i * 8));
                }
                n_read += 65536;
        }
        stdin_log_free(log);
        scratch_remove(path);
        free(data);
        free(got);
}
END_TEST

START_TEST(a_full_disk_refuses_input_and_nothing_else)
{
        static char data[8192];
        uint64_t position = 0, dropped;
        Error error;
        int r;

        if (!scratch_mount(dir, 256 * 1024))
                return;
        ck_assert_int_eq(say(&alice, 0, "a", false), 0);
        scratch_fill(dir);
        ck_assert_int_eq(stdin_log_accept(stdin_log, &alice, 1, data, sizeof(data), true, NULL, NULL, &error),
                         -ENOSPC);
        ck_assert_int_eq(error.code, ERROR_NO_SPACE);
        ck_assert_uint_eq(stdin_log_accepted(stdin_log), 1);
        ck_assert(!stdin_log_eof(stdin_log));
        /* the page of the bytes has room yet, that of the records comes to its end */
        do {
                r = stdin_log_accept(stdin_log, &alice, ++position, "b", 1, false, NULL, NULL, NULL);
                ck_assert_uint_lt(position, 1000);
        } while (r == 0);
        ck_assert_int_eq(r, -ENOSPC);
        ck_assert_uint_eq(stdin_log_accepted(stdin_log), position);
        ck_assert_int_eq(stdin_log_cancel(stdin_log, &dropped, NULL), 0);
        ck_assert_uint_eq(dropped, position);
        reopen(false);
        ck_assert_uint_eq(stdin_log_taken(stdin_log), position);
        scratch_empty(dir);
        ck_assert_int_eq(
                stdin_log_accept(stdin_log, &alice, position, data, sizeof(data), true, NULL, NULL, NULL), 0);
        stdin_log = stdin_log_free(stdin_log);
        scratch_unmount(dir);
        ck_assert_int_eq(stdin_log_open(&stdin_log, dir, -1, NULL), 0);
}
END_TEST

START_TEST(a_run_begins_on_a_full_disk)
{
        uint64_t position = 0;

        if (!scratch_mount(dir, 256 * 1024))
                return;
        ck_assert_int_eq(say(&alice, 0, "a", false), 0);
        scratch_fill(dir);
        while (stdin_log_accept(stdin_log, &alice, ++position, "b", 1, false, NULL, NULL, NULL) == 0)
                ;
        stdin_log_idle(stdin_log);
        for (uint32_t run = 2; run < 50; run++)
                ck_assert_int_eq(stdin_log_begin_run(stdin_log, run, NULL), 0);
        ck_assert_uint_eq(stdin_log_taken(stdin_log), position);
        stdin_log = stdin_log_free(stdin_log);
        scratch_unmount(dir);
        ck_assert_int_eq(stdin_log_open(&stdin_log, dir, -1, NULL), 0);
}
END_TEST

static Suite *stdin_log_recovery_suite(void) {
        Suite *suite = suite_create("stdin-log-recovery");
        TCase *tcase = tcase_create("recovery");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_test(tcase, a_new_engine_goes_on_where_the_keeper_says);
        tcase_add_test(tcase, without_a_position_delivery_begins_with_the_run);
        tcase_add_loop_test(tcase, a_torn_record_accepts_nothing, 0, 2 * STDIN_RECORD_SIZE);
        tcase_add_test(tcase, bytes_without_a_record_are_overwritten);
        tcase_add_test(tcase, contradictions_are_euclean_and_leave_the_descriptor);
        tcase_add_test(tcase, accepted_bytes_that_are_gone_are_euclean);
        tcase_add_test(tcase, an_index_of_garbage_is_euclean);
        tcase_add_test(tcase, the_index_is_bounded_and_recent_writers_are_known);
        tcase_add_loop_test(tcase, delivered_bytes_leave_the_disk_and_not_the_pipe, 0, 2);
        tcase_add_test(tcase, a_full_disk_refuses_input_and_nothing_else);
        tcase_add_test(tcase, a_run_begins_on_a_full_disk);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(stdin_log_recovery_suite);
