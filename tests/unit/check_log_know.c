/* SPDX-License-Identifier: MIT */

/* What is learned late of older segments is what a look at all of them at once finds, and a damaged one is in
 * nobody's way but of those who come to it. */

#include <sys/mman.h>

#include "tests/support/log-model.h"

#define N_QUESTIONS 100 /* to each log */

/* Open the log again; as it is, or as if all had been looked at first. */
static void reopen(bool knows_all) {
        log_test_open(model.retention_bytes, model.segment_bytes);
        ck_assert_uint_eq(test_log->n_unknown, test_log->n_segments - 1);
        if (knows_all) {
                ck_assert_int_eq(log_know_all(test_log, NULL), 0);
                ck_assert_uint_eq(test_log->n_unknown, 0);
        }
}

/* ---- a log of many segments, with holes, whose files may have been cut ---- */

/* Something that a reader asks for. */
typedef struct Question {
        enum {
                ASK_OFFSET,
                ASK_TIME,
                ASK_RUN,
                ASK_LINES,
                ASK_LAST_RECORD,
                ASK_LAST_INPUT,
                ASK_DISK_BYTES,
                ASK_N_
        } what;
        uint64_t value;
        unsigned n_steps; /* read on so many times */
} Question;

typedef struct Answer {
        int r;
        uint64_t value;
        LogCursor cursor;
        LogChunk chunks[40];
        unsigned n_chunks;
} Answer;

static Question question_random(void) {
        Question question = { .what = model_random(ASK_N_), .n_steps = model_random(40) };

        switch (question.what) {
        case ASK_OFFSET:
                question.value = model_random((unsigned)model.end + 1);
                break;
        case ASK_TIME:
                question.value = model.items[model_random((unsigned)model.n_items)].header.time_usec;
                break;
        case ASK_LINES:
                question.value = model_random(200);
                break;
        default:
                question.value = 1 + model_random(model.run + 1);
                break;
        }
        return question;
}

static void answer_chunk(Answer *answer, LogChunk chunk) {
        chunk.fd = chunk.fd >= 0; /* which number it has says nothing */
        answer->chunks[answer->n_chunks++] = chunk;
}

static void ask(const Question *question, Answer *ret_answer) {
        uint32_t run = (uint32_t)question->value;
        LogChunk chunk;

        memset(ret_answer, 0, sizeof(*ret_answer));
        memset(&chunk, 0, sizeof(chunk));
        switch (question->what) {
        case ASK_OFFSET:
                ret_answer->r = log_seek_offset(test_log, &ret_answer->cursor, question->value);
                break;
        case ASK_TIME:
                ret_answer->r = log_seek_time(test_log, &ret_answer->cursor, question->value);
                break;
        case ASK_RUN:
                ret_answer->r = log_seek_run(test_log, &ret_answer->cursor, run);
                break;
        case ASK_LINES:
                ret_answer->r = log_seek_lines(test_log, &ret_answer->cursor, question->value, BOTH);
                break;
        case ASK_LAST_RECORD:
                ret_answer->r = log_last_record(test_log, RECORD_START, run, &chunk);
                if (ret_answer->r > 0)
                        answer_chunk(ret_answer, chunk);
                return;
        case ASK_LAST_INPUT:
                ret_answer->r = log_last_input(test_log, run, &ret_answer->value);
                return;
        default:
                ret_answer->r = log_disk_bytes(test_log, &ret_answer->value, NULL);
                return;
        }
        if (ret_answer->r < 0)
                return;
        while (ret_answer->n_chunks < question->n_steps &&
               (ret_answer->r = log_next(test_log, &ret_answer->cursor, 1000, BOTH, &chunk)) > 0)
                answer_chunk(ret_answer, chunk);
}

static void check_same(const Question *question, const Answer *late, const Answer *early) {
        ck_assert_msg(late->r == early->r, "question %d: %d, not %d", question->what, late->r, early->r);
        ck_assert_uint_eq(late->value, early->value);
        ck_assert_uint_eq(late->n_chunks, early->n_chunks);
        ck_assert_mem_eq(&late->cursor, &early->cursor, sizeof(late->cursor));
        for (unsigned i = 0; i < late->n_chunks; i++) {
                const LogChunk *a = &late->chunks[i], *b = &early->chunks[i];

                ck_assert_uint_eq(a->header.offset, b->header.offset);
                ck_assert_uint_eq(a->header.time_usec, b->header.time_usec);
                ck_assert_uint_eq(a->header.run, b->header.run);
                ck_assert_int_eq(a->header.kind, b->header.kind);
                ck_assert_int_eq(a->header.source, b->header.source);
                ck_assert_uint_eq(a->argument, b->argument);
                ck_assert_uint_eq(a->size, b->size);
                ck_assert_uint_eq(a->file_offset, b->file_offset);
                ck_assert_int_eq(a->fd, b->fd);
        }
}

/* Leave a log of many small segments; with some input, which the model does not know. */
static void leave_model(unsigned seed) {
        model_init(seed);
        model.retention_bytes = 100000;
        model.segment_bytes = 50 + model_random(500);
        log_test_open(model.retention_bytes, model.segment_bytes);
        while (model.n_items < 300)
                model_step();
        if (model.is_discarding)
                model_toggle_discard();
        ck_assert_int_eq(log_append_input(test_log, model.run, 7, "input", 5, NULL), 0);
        model.end += 5;
        ck_assert_uint_ge(test_log->n_segments, 8);
}

/* Cut the files of some older segments. */
static void cut_some(void) {
        const Segment *segment;

        for (uint32_t i = 0; i + 1 < test_log->n_segments; i++) {
                segment = &test_log->segments[i];
                if (model_random(4) == 0)
                        ck_assert_int_eq(truncate(log_test_file(segment->begin, ".log"),
                                                  model_random(segment->size + 1)),
                                         0);
                if (model_random(8) == 0)
                        ck_assert_int_eq(truncate(log_test_file(segment->begin, ".idx"),
                                                  32 * (off_t)model_random(segment->n_records + 1)),
                                         0);
        }
}

START_TEST(what_is_learned_late_is_what_a_look_at_all_finds)
{
        static Answer late, early;
        uint32_t n_spared = 0;
        Question question;

        leave_model((unsigned)_i * 7919 + 11);
        if (_i % 2 == 1)
                cut_some();
        for (int i = 0; i < N_QUESTIONS; i++) {
                question = question_random();
                reopen(false);
                ask(&question, &late);
                n_spared += test_log->n_unknown > 0;
                reopen(true);
                ask(&question, &early);
                check_same(&question, &late, &early);
        }
        ck_assert_uint_gt(n_spared, N_QUESTIONS / 3); /* most did not come to all of them */
        model_deinit();
}
END_TEST

/* The sums by which retention goes are those of all files, whoever came to some of them before. */
START_TEST(who_writes_has_looked_at_all)
{
        uint64_t bytes, records;
        Question question;
        Answer answer;

        leave_model((unsigned)_i * 104729 + 5);
        for (int i = 0; i < 30; i++) {
                question = question_random();
                reopen(false);
                ask(&question, &answer);
                if (model_random(2) == 0)
                        put_record(RECORD_SIGNAL, model.run, 1);
                else
                        put(SOURCE_STDOUT, model.run, "x");
                ck_assert_uint_eq(test_log->n_unknown, 0);
                bytes = test_log->kept_bytes;
                records = test_log->kept_records;
                reopen(true);
                ck_assert_uint_eq(test_log->kept_bytes, bytes);
                ck_assert_uint_eq(test_log->kept_records, records);
        }
        model_deinit();
}
END_TEST

START_TEST(opening_and_reading_looks_at_no_more_than_it_reads)
{
        LogCursor cursor;
        LogChunk chunk;

        log_test_open(1 << 20, 4);
        for (int i = 0; i < 20; i++)
                put(SOURCE_STDOUT, 1, "abcd");
        log_test_open(1 << 20, 4);
        ck_assert_uint_eq(test_log->n_unknown, 19);
        ck_assert_uint_eq(log_end(test_log), 80);
        ck_assert_uint_eq(log_begin(test_log), 0);
        ck_assert_uint_eq(log_lost(test_log), 0);
        ck_assert_int_eq(log_seek_offset(test_log, &cursor, 41), 0);
        ck_assert_int_eq(log_next(test_log, &cursor, 3, BOTH, &chunk), 1);
        ck_assert_uint_eq(test_log->n_unknown, 18);
        log_seek_end(test_log, &cursor);
        ck_assert_int_eq(log_next(test_log, &cursor, 3, BOTH, &chunk), 0);
        ck_assert_uint_eq(test_log->n_unknown, 18);
        ck_assert_uint_eq(log_test_disk_bytes(), 80);
        ck_assert_uint_eq(test_log->n_unknown, 0);
}
END_TEST

/* ---- a damaged one among the older ones ---- */

enum {
        IS_TOO_LONG,
        HAS_NO_INDEX,
        IS_A_DIRECTORY,
        IS_TOO_LARGE,
        DAMAGE_N_
};

/* Five segments of four bytes, the one at 8 damaged. */
static void leave_damaged(int how) {
        log_test_open(1 << 20, 4);
        for (int i = 0; i < 5; i++) {
                put(SOURCE_STDOUT, 1, "abcd");
                now_usec += 1000000;
        }
        test_log = log_free(test_log);
        switch (how) {
        case IS_TOO_LONG:
                ck_assert_int_eq(truncate(log_test_file(8, ".log"), 5), 0);
                break;
        case HAS_NO_INDEX:
                ck_assert_int_eq(unlink(log_test_file(8, ".idx")), 0);
                break;
        case IS_A_DIRECTORY:
                ck_assert_int_eq(unlink(log_test_file(8, ".log")), 0);
                ck_assert_int_eq(mkdir(log_test_file(8, ".log"), 0700), 0);
                break;
        default:
                ck_assert_int_eq(truncate(log_test_file(8, ".log"), (off_t)1 << 40), 0);
                break;
        }
        log_test_open(1 << 20, 4);
}

static const char *damaged_file(int how) {
        return how == HAS_NO_INDEX ? "/00000000000000000008.idx'" : "/00000000000000000008.log'";
}

static void check_explained(int how, int r) {
        Error error = {};

        ck_assert_int_eq(r, -EUCLEAN);
        ck_assert_int_eq(log_explain(test_log, r, "cannot read the log", &error), -EUCLEAN);
        ck_assert_int_eq(error.code, ERROR_SYSTEM);
        ck_assert_msg(strstr(error.text, damaged_file(how)) != NULL, "%s", error.text);
}

START_TEST(a_damaged_segment_refuses_only_who_comes_to_it)
{
        LogCursor cursor;
        LogChunk chunk;

        leave_damaged(_i);
        ck_assert_uint_eq(log_end(test_log), 20);
        ck_assert_str_eq(read_from(13), "1@13'bcdabcd'");
        ck_assert_int_eq(log_seek_lines(test_log, &cursor, 1, 1u << SOURCE_STDERR), -EUCLEAN);
        ck_assert_int_eq(log_seek_offset(test_log, &cursor, 0), 0);
        ck_assert_int_eq(log_next(test_log, &cursor, 9, BOTH, &chunk), 1);
        ck_assert_int_eq(log_next(test_log, &cursor, 9, BOTH, &chunk), 1);
        ck_assert_uint_eq(cursor.offset, 8);
        check_explained(_i, log_next(test_log, &cursor, 9, BOTH, &chunk));
        ck_assert_uint_eq(cursor.offset, 8); /* it stays where it was, and nothing was passed over */
        check_explained(_i, log_next(test_log, &cursor, 9, BOTH, &chunk));
        check_explained(_i, log_seek_offset(test_log, &cursor, 9));
        check_explained(_i, log_seek_time(test_log, &cursor, 1000000 + 2 * 1000000));
        check_explained(_i, log_seek_run(test_log, &cursor, 2));
        check_explained(_i, log_last_record(test_log, RECORD_START, 1, &chunk));
        ck_assert_str_eq(read_from(13), "1@13'bcdabcd'");
}
END_TEST

START_TEST(a_damaged_segment_refuses_who_writes)
{
        uint64_t bytes = 42;
        Error error = {};
        int fds[2];
        size_t n;

        leave_damaged(_i);
        ck_assert_int_eq(log_append(test_log, SOURCE_STDOUT, 1, "x", 1, &error), -EUCLEAN);
        ck_assert_ptr_nonnull(strstr(error.text, damaged_file(_i)));
        error = (Error){};
        ck_assert_int_eq(log_record(test_log, RECORD_EXIT, SOURCE_NONE, 1, 0, &error), -EUCLEAN);
        ck_assert_ptr_nonnull(strstr(error.text, damaged_file(_i)));
        error = (Error){};
        ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        fill_pipe(fds[1], 3);
        ck_assert_int_eq(log_splice(test_log, SOURCE_STDOUT, 1, fds[0], 100, &n, &error), -EUCLEAN);
        ck_assert_ptr_nonnull(strstr(error.text, damaged_file(_i)));
        ck_assert_int_eq(pipe_holds(fds[0]), 3);
        close(fds[0]);
        close(fds[1]);
        error = (Error){};
        ck_assert_int_eq(log_disk_bytes(test_log, &bytes, &error), -EUCLEAN);
        ck_assert_ptr_nonnull(strstr(error.text, damaged_file(_i)));
        ck_assert_uint_eq(bytes, 42);
        ck_assert_int_eq(log_test_file_size(0, ".log"), 4); /* nothing was given up */
}
END_TEST

/* What is discarded needs no file: it is counted until the damage is mended. */
START_TEST(a_damaged_segment_is_in_nobodys_way_who_discards)
{
        Error error = {};
        int fd, fds[2];
        size_t n;

        leave_damaged(_i);
        fd = memfd_create("discard", MFD_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ftruncate(fd, 7), 0);
        ck_assert_int_eq(lseek(fd, 20, SEEK_SET), 20);
        ck_assert_int_eq(log_discard_resume(test_log, 1, fd, NULL), 0);
        ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        fill_pipe(fds[1], 3);
        ck_assert_int_eq(log_discard(test_log, fd, fds[0], 100, &n, NULL), 0);
        ck_assert_int_eq(log_discard_end(test_log, fd, &error), -EUCLEAN);
        ck_assert_ptr_nonnull(strstr(error.text, damaged_file(_i)));
        ck_assert_str_eq(read_from(16), "1@16'abcd' gap@20+10");
        close(fds[0]);
        close(fds[1]);
        close(fd);
}
END_TEST

START_TEST(a_segment_that_was_mended_is_as_good_as_any)
{
        LogCursor cursor;

        leave_damaged(IS_TOO_LONG);
        ck_assert_int_eq(log_seek_offset(test_log, &cursor, 9), -EUCLEAN);
        ck_assert_int_eq(truncate(log_test_file(8, ".log"), 3), 0);
        ck_assert_str_eq(read_from(6), "1@6'cdabc' gap@11+1 1@12'abcdabcd'");
        put(SOURCE_STDOUT, 1, "x");
        ck_assert_uint_eq(log_test_disk_bytes(), 20);
}
END_TEST

/* Somebody who needs room deletes old files below an engine that has not come to them: what is left is what
 * an engine would find that begins then. */
START_TEST(a_segment_that_is_gone_by_then_is_a_gap)
{
        LogCursor cursor;

        log_test_open(1 << 20, 4);
        for (int i = 0; i < 5; i++) {
                put(SOURCE_STDOUT, 1, "abcd");
                now_usec += 1000000;
        }
        log_test_open(1 << 20, 4);
        ck_assert_int_eq(unlink(log_test_file(8, ".log")), 0);
        if (_i == 0)
                ck_assert_int_eq(unlink(log_test_file(8, ".idx")), 0);
        ck_assert_str_eq(read_from(6), "1@6'cd' gap@8+4 1@12'abcdabcd'");
        ck_assert_str_eq(read_from(9), "gap@9+3 1@12'abcdabcd'");
        ck_assert_int_eq(log_seek_lines(test_log, &cursor, 9, BOTH), 0);
        ck_assert_int_eq(log_seek_run(test_log, &cursor, 1), 0);
        for (uint64_t i = 0; i < 5; i++) {
                ck_assert_int_eq(log_seek_time(test_log, &cursor, 1000000 + i * 1000000), 0);
                ck_assert_uint_eq(cursor.offset, i == 3 ? 8 : i * 4); /* what is lost is told first */
        }
        put(SOURCE_STDOUT, 1, "x");
        ck_assert_uint_eq(log_test_disk_bytes(), 17);
}
END_TEST

START_TEST(other_failures_are_explained_by_what_failed)
{
        Error error = {};

        leave_damaged(IS_TOO_LONG);
        ck_assert_int_eq(log_explain(test_log, -EIO, "cannot read the log", &error), -EIO);
        ck_assert_ptr_nonnull(strstr(error.text, "cannot read the log: "));
        ck_assert_int_eq(error.errno_value, EIO);
        ck_assert_int_eq(log_explain(test_log, -EIO, "cannot read the log", NULL), -EIO);
}
END_TEST

static Suite *log_know_suite(void) {
        Suite *suite = suite_create("log-know");
        TCase *tcase = tcase_create("know");

        tcase_add_checked_fixture(tcase, log_test_setup, log_test_teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_loop_test(tcase, what_is_learned_late_is_what_a_look_at_all_finds, 0, 20);
        tcase_add_loop_test(tcase, who_writes_has_looked_at_all, 0, 4);
        tcase_add_test(tcase, opening_and_reading_looks_at_no_more_than_it_reads);
        tcase_add_loop_test(tcase, a_damaged_segment_refuses_only_who_comes_to_it, 0, DAMAGE_N_);
        tcase_add_loop_test(tcase, a_damaged_segment_refuses_who_writes, 0, DAMAGE_N_);
        tcase_add_loop_test(tcase, a_damaged_segment_is_in_nobodys_way_who_discards, 0, DAMAGE_N_);
        tcase_add_test(tcase, a_segment_that_was_mended_is_as_good_as_any);
        tcase_add_loop_test(tcase, a_segment_that_is_gone_by_then_is_a_gap, 0, 2);
        tcase_add_test(tcase, other_failures_are_explained_by_what_failed);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(log_know_suite);
