/* SPDX-License-Identifier: MIT */

/* Readers of a process's output, in the whole engine of engine-fixture.h; the clock is set by hand. */

#include "daemon/engine/reader.h"

#include <dlfcn.h>
#include <errno.h>

#include "tests/support/reader-fixture.h"

#define BACKLOG_BYTES (8 * 1024 * 1024) /* more than all of them may look at in a turn */

static bool no_timers; /* there is no memory for one more */

/* Stands before libevent's. */
int event_add(struct event *event, const struct timeval *timeout) {
        int (*real)(struct event *, const struct timeval *) =
                (int (*)(struct event *, const struct timeval *))dlsym(RTLD_NEXT, "event_add");

        return no_timers && timeout ? -1 : real(event, timeout);
}

/* --- what is waited for --- */

static const struct {
        MatchKind kind;
        uint64_t n;
        const char *text;
        const char *data;
        size_t end; /* satisfied once so many bytes have come */
} wishes[] = {
        { MATCH_LINE, 0, NULL, "a line\nand more", 7 },
        { MATCH_SEPARATOR, 0, "--\xc3\xa4--", "-----\xc3\xa4-\xc3--\xc3\xa4--x", 15 },
        { MATCH_PATTERN, 0, "(\\d+) bytes;", "no 12 bytes 345 bytes;!", 22 },
        { MATCH_EXACTLY, 9, NULL, "0123456789", 9 },
};

START_TEST(what_was_read_for_is_found_wherever_it_is_cut)
{
        const char *data = wishes[_i].data;
        size_t size = strlen(data);

        for (size_t at = 0; at <= size; at++) {
                char left[64] = "";
                Watcher *watcher;

                memset(&watchers[0], 0, sizeof(watchers[0]));
                watcher = begin(wishes[_i].kind, wishes[_i].n, wishes[_i].text, NULL);
                memcpy(left, data, at);
                if (at > 0)
                        say(left);
                ck_assert_uint_eq(watcher->n_ends, at >= wishes[_i].end);
                if (at < size)
                        say(data + at);
                ck_assert_uint_eq(watcher->n_ends, 1);
                ck_assert_int_eq(watcher->end, READER_SATISFIED);
                ck_assert_uint_eq(watcher->result.end, wishes[_i].end);
        }
}
END_TEST

START_TEST(byte_by_byte_is_as_good)
{
        Watcher *watcher = begin(wishes[_i].kind, wishes[_i].n, wishes[_i].text, NULL);

        for (const char *p = wishes[_i].data; *p; p++) {
                char byte[2] = { *p, '\0' };

                ck_assert_uint_eq(watcher->n_ends, (size_t)(p - wishes[_i].data) >= wishes[_i].end);
                say(byte);
        }
        ck_assert_uint_eq(watcher->result.end, wishes[_i].end);
}
END_TEST

START_TEST(what_was_there_before_is_looked_at)
{
        ReaderOptions options = { .timeout_usec = USEC_INFINITY };
        Watcher *watcher;
        Log *log;

        say("one\ntwo\n");
        ck_assert_int_eq(process_log(process, &log, NULL), 0);
        ck_assert_int_eq(log_seek_offset(log, &options.begin, 4), 0);
        watcher = begin(MATCH_LINE, 0, NULL, &options);
        ck_assert_uint_eq(watcher->n_ends, 0); /* not before the end of the turn */
        turns();
        ck_end(watcher, READER_SATISFIED, 4);
}
END_TEST

START_TEST(a_source_that_was_not_chosen_satisfies_nothing)
{
        ReaderOptions options = { .timeout_usec = USEC_INFINITY, .sources = 1u << SOURCE_STDERR };
        Watcher *watcher = begin(MATCH_LINE, 0, NULL, &options);

        say("to stdout\n");
        ck_assert_uint_eq(watcher->n_ends, 0);
        fake_child_write(fake_child(process->id, 1), 2, "err\n", 4);
        turns();
        ck_end(watcher, READER_SATISFIED, 4);
}
END_TEST

/* --- bounds --- */

START_TEST(too_much_is_one_byte_more_than_may_be_gathered)
{
        ReaderOptions options = { .timeout_usec = USEC_INFINITY, .max = 8 };
        Watcher *watcher = begin(MATCH_LINE, 0, NULL, &options);

        say("12345678");
        ck_assert_uint_eq(watcher->n_ends, 0);
        say("9");
        ck_end(watcher, READER_FAILED, 8);
        ck_assert_int_eq(watcher->error.code, ERROR_TOO_LARGE);
}
END_TEST

START_TEST(what_just_fits_is_not_too_much)
{
        ReaderOptions options = { .timeout_usec = USEC_INFINITY, .max = 8 };
        Watcher *watcher = begin(MATCH_LINE, 0, NULL, &options);

        say("1234567");
        say("\nrest");
        ck_end(watcher, READER_SATISFIED, 8);
}
END_TEST

/* A process whose log holds more than one turn looks at. */
static void backlog(LogCursor *ret_begin) {
        static char block[256 * 1024];
        Log *log;

        memset(block, 'x', sizeof(block));
        ck_assert_int_eq(process_log(process, &log, NULL), 0);
        for (size_t i = 0; i < BACKLOG_BYTES / sizeof(block); i++)
                ck_assert_int_eq(log_append(log, SOURCE_STDOUT, 1, block, sizeof(block), NULL), 0);
        ck_assert_int_eq(log_seek_offset(log, ret_begin, 1), 0);
}

START_TEST(a_long_backlog_does_not_hold_up_the_others)
{
        ReaderOptions options = { .timeout_usec = USEC_INFINITY };
        Watcher *greedy, *modest;
        unsigned n_turns = 0;

        backlog(&options.begin);
        greedy = begin_with(0, MATCH_LINE, 0, NULL, &options, &ops);
        modest = begin_with(1, MATCH_EXACTLY, 10, NULL, &options, &ops);
        readers_finish_turn(&engine.requests.readers);
        ck_assert_uint_eq(greedy->n_ends, 0);
        ck_assert_uint_gt(greedy->reader.scan.n, 0);
        ck_assert_uint_lt(greedy->reader.scan.n, BACKLOG_BYTES / 2);
        while (modest->n_ends == 0) { /* in the same turn, or when its time was up in the next */
                ck_assert_uint_lt(++n_turns, 3);
                readers_finish_turn(&engine.requests.readers);
        }
        ck_assert_uint_eq(greedy->n_ends, 0);
        ck_assert_uint_ge(modest->n, 10);
        while (greedy->reader.scan.n < BACKLOG_BYTES - 1) { /* and it comes to the end all the same */
                ck_assert_uint_lt(++n_turns, 1000);
                readers_finish_turn(&engine.requests.readers);
        }
        ck_assert_uint_eq(greedy->n_ends, 0);
        say("\n");
        ck_end(greedy, READER_SATISFIED, BACKLOG_BYTES);
}
END_TEST

START_TEST(a_pattern_that_takes_for_ever_is_given_up_at_its_deadline)
{
        ReaderOptions options = { .timeout_usec = 1000 };
        Watcher *watcher;
        unsigned n_turns = 0;

        backlog(&options.begin);
        watcher = begin(MATCH_PATTERN, 0, "(x+x+)+y", &options);
        skew_usec += USEC_PER_SEC;
        while (watcher->n_ends == 0) {
                ck_assert_uint_lt(++n_turns, 1000);
                readers_finish_turn(&engine.requests.readers);
        }
        ck_assert(watcher->end == READER_TIMEOUT ||
                  (watcher->end == READER_FAILED && watcher->error.code == ERROR_LIMIT));
}
END_TEST

START_TEST(without_room_for_the_answer_nothing_is_looked_at)
{
        Watcher *watcher;

        room = false;
        watcher = begin_with(0, MATCH_LINE, 0, NULL, NULL, &roomy_ops);
        say("line\n");
        ck_assert_uint_eq(watcher->n_ends, 0);
        ck_assert_uint_eq(watcher->reader.scan.n, 0);
        ck_assert(!list_empty(&engine.requests.readers.parked));
        ck_assert(!readers_are_due(&engine.requests.readers));
        room = true; /* nothing else happens: the answers before it went to the socket at once */
        ck_assert(readers_are_due(&engine.requests.readers));
        turns();
        ck_end(watcher, READER_SATISFIED, 5);
}
END_TEST

START_TEST(one_without_room_is_told_that_the_process_is_gone)
{
        Watcher *watcher;

        room = false;
        watcher = begin_with(0, MATCH_LINE, 0, NULL, NULL, &roomy_ops);
        turns();
        (void)fixture_request(&client, "remove", "{\"targets\":[\"p\"],\"force\":true}");
        turns();
        ck_end(watcher, READER_REMOVED, 0);
}
END_TEST

/* --- time --- */

START_TEST(the_deadline_comes_neither_early_nor_late_and_leaves_what_there_is)
{
        ReaderOptions options = { .timeout_usec = 10 * USEC_PER_SEC };
        Watcher *watcher = begin(MATCH_LINE, 0, NULL, &options);

        say("half");
        pass(9 * USEC_PER_SEC);
        ck_assert_uint_eq(watcher->n_ends, 0);
        pass(USEC_PER_SEC);
        ck_end(watcher, READER_TIMEOUT, 4);
        say(" a line\n");
        ck_assert_uint_eq(watcher->n_ends, 1);
}
END_TEST

START_TEST(what_is_there_at_the_deadline_is_still_found)
{
        ReaderOptions options = { .timeout_usec = USEC_PER_SEC };
        Watcher *watcher = begin(MATCH_LINE, 0, NULL, &options);

        turns();
        fake_child_write(fake_child(process->id, 1), 1, "line\n", 5);
        skew_usec += 2 * USEC_PER_SEC; /* both in one turn */
        event_active(&watcher->reader.timer, EV_TIMEOUT, 0);
        (void)process_collect_outputs(process, NULL);
        turns();
        ck_end(watcher, READER_SATISFIED, 5);
}
END_TEST

START_TEST(no_time_at_all_is_one_look)
{
        ReaderOptions options = { .timeout_usec = 0 };
        Watcher *watcher = begin(MATCH_LINE, 0, NULL, &options);
        Log *log;

        turns();
        ck_end(watcher, READER_TIMEOUT, 0);
        say("line\n");
        memset(watcher, 0, sizeof(*watcher));
        ck_assert_int_eq(process_log(process, &log, NULL), 0);
        ck_assert_int_eq(log_seek_offset(log, &options.begin, 1), 0);
        watcher = begin(MATCH_LINE, 0, NULL, &options);
        turns();
        ck_end(watcher, READER_SATISFIED, 4);
}
END_TEST

START_TEST(a_deadline_that_cannot_be_waited_for_is_an_error_at_once)
{
        ReaderOptions options = { .timeout_usec = USEC_PER_SEC };
        Watcher *watcher = begin(MATCH_LINE, 0, NULL, &options);

        no_timers = true;
        turns();
        no_timers = false;
        ck_assert_uint_eq(watcher->n_ends, 1);
        ck_assert_int_eq(watcher->end, READER_FAILED);
        ck_assert_int_eq(watcher->error.code, ERROR_NO_MEMORY);
        ck_assert_int_eq(watcher->error.errno_value, ENOMEM);
}
END_TEST

START_TEST(quiet_is_counted_from_the_latest_byte)
{
        ReaderOptions options = { .timeout_usec = USEC_INFINITY, .quiet_usec = 10 * USEC_PER_SEC };
        Watcher *watcher = begin(MATCH_QUIET, 0, NULL, &options);

        pass(60 * USEC_PER_SEC); /* nothing has come: it is not quiet but empty */
        ck_assert_uint_eq(watcher->n_ends, 0);
        say("a");
        pass(9 * USEC_PER_SEC);
        ck_assert_uint_eq(watcher->n_ends, 0);
        say("b");
        pass(9 * USEC_PER_SEC);
        ck_assert_uint_eq(watcher->n_ends, 0);
        pass(USEC_PER_SEC);
        ck_end(watcher, READER_SATISFIED, 2);
}
END_TEST

START_TEST(quiet_from_the_start_needs_no_byte)
{
        ReaderOptions options = { .timeout_usec = USEC_INFINITY,
                                  .quiet_usec = 10 * USEC_PER_SEC,
                                  .quiet_from_start = true };
        Watcher *watcher;

        say("x");
        watcher = begin(MATCH_QUIET, 0, NULL, &options);
        turns();
        ck_assert_uint_eq(watcher->n_ends, 0);
        pass(10 * USEC_PER_SEC);
        ck_end(watcher, READER_SATISFIED, 0);
}
END_TEST

/* --- ends --- */

static const struct {
        MatchKind kind;
        const char *text;
        const char *data;
        ReaderEnd end;
} at_the_end[] = {
        { MATCH_LINE, NULL, "no newline", READER_EOF }, { MATCH_SEPARATOR, "ab", "a", READER_EOF },
        { MATCH_PATTERN, "ab", "a", READER_EOF },       { MATCH_EXACTLY, NULL, "abc", READER_EOF },
        { MATCH_EOF, NULL, "abc", READER_SATISFIED },   { MATCH_EOF, NULL, "", READER_SATISFIED },
        { MATCH_QUIET, NULL, "abc", READER_SATISFIED }, { MATCH_QUIET, NULL, "", READER_EOF },
};

START_TEST(the_end_of_the_run_ends_it_with_what_there_is)
{
        ReaderOptions options = { .timeout_usec = USEC_INFINITY, .quiet_usec = 1000 * USEC_PER_SEC };
        Watcher *watcher = begin(at_the_end[_i].kind, 100, at_the_end[_i].text, &options);

        if (at_the_end[_i].data[0])
                say(at_the_end[_i].data);
        ck_assert_uint_eq(watcher->n_ends, 0);
        fake_child_exit(fake_child(process->id, 1), CLD_EXITED, 0);
        turns();
        ck_end(watcher, at_the_end[_i].end, strlen(at_the_end[_i].data));
}
END_TEST

/* That an output of a living program is at its end is told in a moment. */
static void await_ended(unsigned bits) {
        uint64_t deadline_usec = clock_monotonic_usec() + 10 * USEC_PER_SEC;

        while ((process->run.ended & bits) != bits && clock_monotonic_usec() < deadline_usec)
                turns();
        ck_assert_uint_eq(process->run.ended & bits, bits);
}

START_TEST(the_end_of_one_source_is_no_end_of_the_other)
{
        ReaderOptions options = { .timeout_usec = USEC_INFINITY };
        FakeChild *child = fake_child(process->id, 1);
        Watcher *watcher = begin(MATCH_LINE, 0, NULL, &options);

        child->fds[2] = fd_close(child->fds[2]);
        await_ended(RUN_STDERR_CLOSED);
        ck_assert_uint_eq(watcher->n_ends, 0);
        child->fds[1] = fd_close(child->fds[1]);
        await_ended(RUN_STDOUT_CLOSED);
        ck_end(watcher, READER_EOF, 0);
}
END_TEST

START_TEST(a_removed_process_ends_it)
{
        Watcher *watcher = begin(MATCH_LINE, 0, NULL, NULL);

        say("half");
        (void)fixture_request(&client, "remove", "{\"targets\":[\"p\"],\"force\":true}");
        for (unsigned i = 0; i < 50 && watcher->n_ends == 0; i++)
                turns();
        ck_assert_uint_eq(watcher->n_ends, 1);
        ck_assert(watcher->end == READER_REMOVED || watcher->end == READER_EOF);
        ck_assert_ptr_null(watcher->reader.process);
}
END_TEST

START_TEST(lost_bytes_behind_what_was_gathered_end_it)
{
        static const char text[] = "thrown away";
        int fd, ends[2];
        Watcher *watcher;
        size_t n;
        Log *log;

        watcher = begin(MATCH_LINE, 0, NULL, NULL);
        say("half");
        ck_assert_uint_eq(watcher->n_ends, 0);
        ck_assert_int_eq(process_log(process, &log, NULL), 0);
        ck_assert_int_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
        ck_assert_int_eq(write(ends[1], text, strlen(text)), (ssize_t)strlen(text));
        ck_assert_int_eq(log_discard_begin(log, 1, &fd, NULL), 0);
        ck_assert_int_eq(log_discard(log, fd, ends[0], 100, &n, NULL), 0);
        ck_assert_int_eq(log_discard_end(log, fd, NULL), 0);
        (void)fd_close(fd);
        (void)fd_close(ends[0]);
        (void)fd_close(ends[1]);
        say("a line\n");
        ck_end(watcher, READER_GAP, 4);
}
END_TEST

/* --- whoever waits goes away, or changes its mind --- */

START_TEST(one_that_is_stopped_hears_nothing_more)
{
        Watcher *before = begin_with(0, MATCH_LINE, 0, NULL, NULL, &ops), *between, *parked;
        ReaderOptions options = { .timeout_usec = 10 * USEC_PER_SEC };

        reader_stop(&before->reader); /* before it was looked at */
        between = begin_with(1, MATCH_LINE, 0, NULL, &options, &ops);
        room = false;
        parked = begin_with(2, MATCH_LINE, 0, NULL, &options, &roomy_ops);
        say("half");
        reader_stop(&between->reader);
        reader_stop(&between->reader); /* harmless to repeat */
        reader_stop(&parked->reader);
        ck_assert_uint_eq(engine.requests.readers.n, 0);
        ck_assert(list_empty(&process->readers));
        room = true;
        say(" a line\n");
        pass(20 * USEC_PER_SEC);
        ck_assert_uint_eq(before->n_ends + between->n_ends + parked->n_ends, 0);
        reader_stop(&watchers[3].reader); /* and for one that never began */
}
END_TEST

START_TEST(one_that_is_moved_begins_anew_and_keeps_its_deadline)
{
        ReaderOptions options = { .timeout_usec = 10 * USEC_PER_SEC };
        Watcher *watcher = begin(MATCH_EXACTLY, 6, NULL, &options);
        LogCursor place;
        Log *log;

        say("01234");
        ck_assert_int_eq(process_log(process, &log, NULL), 0);
        ck_assert_int_eq(log_seek_offset(log, &place, 3), 0);
        reader_move(&watcher->reader, &place);
        say("56");
        ck_assert_uint_eq(watcher->n_ends, 0); /* 3456 */
        pass(9 * USEC_PER_SEC);
        ck_assert_uint_eq(watcher->n_ends, 0);
        pass(USEC_PER_SEC);
        ck_end(watcher, READER_TIMEOUT, 4);
}
END_TEST

START_TEST(one_that_begins_anew_at_its_end_gets_the_next)
{
        Watcher *watcher = begin(MATCH_EXACTLY, 3, NULL, NULL);

        watcher->stays = true;
        say("abc");
        ck_assert_uint_eq(watcher->n_ends, 1);
        say("de");
        ck_assert_uint_eq(watcher->n_ends, 1);
        say("f");
        ck_assert_uint_eq(watcher->n_ends, 2);
        ck_assert_uint_eq(watcher->n, 3);
}
END_TEST

START_TEST(one_that_cannot_begin_leaves_nothing)
{
        MatchSpec spec = { .kind = MATCH_LINE };
        ReaderOptions options = { .max = MANY, .timeout_usec = USEC_INFINITY };
        char path[128], away[140];
        Error error = {};
        Match *match;
        int fd;

        fake_child_exit(fake_child(process->id, 1), CLD_EXITED, 0);
        turns();
        process->log = log_free(process->log);
        (void)snprintf(path, sizeof(path), "%s/processes/%llu", fixture_dir, (unsigned long long)process->id);
        (void)snprintf(away, sizeof(away), "%s-away", path);
        ck_assert_int_eq(rename(path, away), 0);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        ck_assert_int_ge(fd, 0);
        (void)fd_close(fd);
        ck_assert_int_eq(match_new(&match, &spec, NULL), 0);
        ck_assert_int_lt(reader_start(&watchers[0].reader, &engine.requests.readers, process, match, &options,
                                      &ops, 1, &error),
                         0);
        ck_assert_uint_ne(error.text[0], '\0');
        ck_assert_uint_eq(engine.requests.readers.n, 0);
        ck_assert(list_empty(&process->readers));
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(rename(away, path), 0);
        turns();
        ck_assert_uint_eq(watchers[0].n_ends, 0);
}
END_TEST

START_TEST(a_reader_is_known_by_its_ops)
{
        Watcher *watcher = begin(MATCH_LINE, 0, NULL, NULL);
        ProcessReader *link = &watcher->reader.reader;

        ck_assert_ptr_eq(reader_from(link, &ops), &watcher->reader);
        ck_assert_ptr_null(reader_from(link, &roomy_ops));
}
END_TEST

static TCase *theme(Suite *suite, const char *name) {
        TCase *tcase = tcase_create(name);

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 60);
        suite_add_tcase(suite, tcase);
        return tcase;
}

static Suite *reader_suite(void) {
        Suite *suite = suite_create("reader");
        TCase *tcase = theme(suite, "what is waited for");

        tcase_add_loop_test(tcase, what_was_read_for_is_found_wherever_it_is_cut, 0, ARRAY_SIZE(wishes));
        tcase_add_loop_test(tcase, byte_by_byte_is_as_good, 0, ARRAY_SIZE(wishes));
        tcase_add_test(tcase, what_was_there_before_is_looked_at);
        tcase_add_test(tcase, a_source_that_was_not_chosen_satisfies_nothing);
        tcase = theme(suite, "bounds");
        tcase_add_test(tcase, too_much_is_one_byte_more_than_may_be_gathered);
        tcase_add_test(tcase, what_just_fits_is_not_too_much);
        tcase_add_test(tcase, a_long_backlog_does_not_hold_up_the_others);
        tcase_add_test(tcase, a_pattern_that_takes_for_ever_is_given_up_at_its_deadline);
        tcase_add_test(tcase, without_room_for_the_answer_nothing_is_looked_at);
        tcase_add_test(tcase, one_without_room_is_told_that_the_process_is_gone);
        tcase = theme(suite, "time");
        tcase_add_test(tcase, the_deadline_comes_neither_early_nor_late_and_leaves_what_there_is);
        tcase_add_test(tcase, what_is_there_at_the_deadline_is_still_found);
        tcase_add_test(tcase, a_deadline_that_cannot_be_waited_for_is_an_error_at_once);
        tcase_add_test(tcase, no_time_at_all_is_one_look);
        tcase_add_test(tcase, quiet_is_counted_from_the_latest_byte);
        tcase_add_test(tcase, quiet_from_the_start_needs_no_byte);
        tcase = theme(suite, "ends");
        tcase_add_loop_test(tcase, the_end_of_the_run_ends_it_with_what_there_is, 0, ARRAY_SIZE(at_the_end));
        tcase_add_test(tcase, the_end_of_one_source_is_no_end_of_the_other);
        tcase_add_test(tcase, a_removed_process_ends_it);
        tcase_add_test(tcase, lost_bytes_behind_what_was_gathered_end_it);
        tcase = theme(suite, "leaving");
        tcase_add_test(tcase, one_that_is_stopped_hears_nothing_more);
        tcase_add_test(tcase, one_that_is_moved_begins_anew_and_keeps_its_deadline);
        tcase_add_test(tcase, one_that_begins_anew_at_its_end_gets_the_next);
        tcase_add_test(tcase, one_that_cannot_begin_leaves_nothing);
        tcase_add_test(tcase, a_reader_is_known_by_its_ops);
        return suite;
}

CHECK_MAIN(reader_suite);
