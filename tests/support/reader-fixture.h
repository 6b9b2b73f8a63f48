/* SPDX-License-Identifier: MIT */
#pragma once

/* Those who read the output of a process, in the whole engine of engine-fixture.h, with clocks that are set
 * by hand. Included by one source of a program. */

#include <check.h>
#include <time.h>

#include "common/clock.h"
#include "daemon/engine/reader.h"
#include "tests/support/engine-fixture.h"

#include "tests/support/check-main.h"

#define N_READERS 4
#define MANY (UINT64_C(1) << 30)

/* Somebody who reads. */
typedef struct Watcher {
        Reader reader;
        unsigned n_ends;
        ReaderEnd end;
        Error error;
        uint64_t n; /* bytes gathered when it was over */
        MatchResult result;
        bool stays; /* on_end() begins anew instead of stopping */
} Watcher;

static uint64_t skew_usec; /* how far the clocks are ahead */
static FixtureClient client;
static Process *process;
static Watcher watchers[N_READERS];
static bool room;
static int n_fds_before;

static uint64_t clock_read(clockid_t id) {
        struct timespec ts;

        (void)clock_gettime(id, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000 + skew_usec;
}

uint64_t clock_monotonic_usec(void) {
        return clock_read(CLOCK_MONOTONIC);
}

uint64_t clock_realtime_usec(void) {
        return clock_read(CLOCK_REALTIME);
}

static void on_end(Reader *reader, ReaderEnd end, const Error *error) {
        Watcher *watcher = CONTAINER_OF(reader, Watcher, reader);
        LogCursor behind = reader->scan.at;

        watcher->n_ends++;
        watcher->end = end;
        watcher->n = reader->scan.n;
        watcher->result = reader->scan.result;
        if (error)
                watcher->error = *error;
        if (watcher->stays && reader->process)
                reader_move(reader, &behind);
        else
                reader_stop(reader);
}

static bool has_room(Reader *reader) {
        (void)reader;
        return room;
}

static const ReaderOps ops = { .on_end = on_end }, roomy_ops = { .on_end = on_end, .has_room = has_room };

static void turns(void) {
        fixture_settle(&client);
}

/* Time passes, and the timers that are due by then go off. */
static void pass(uint64_t usec) {
        skew_usec += usec;
        for (unsigned i = 0; i < N_READERS; i++) {
                Reader *reader = &watchers[i].reader;

                if (reader->set && event_pending(&reader->timer, EV_TIMEOUT, NULL))
                        event_active(&reader->timer, EV_TIMEOUT, 0);
        }
        turns();
}

static void say(const char *text) {
        fake_child_write(fake_child(process->id, 1), 1, text, strlen(text));
        turns();
}

static void run(const char *name) {
        char params[64];

        (void)snprintf(params, sizeof(params), "{\"argv\":[\"%s\"],\"name\":\"p\"}", name);
        (void)fixture_request(&client, "run", params);
        turns();
        process = supervisor_find_name(&engine.supervisor, "p");
        ck_assert_ptr_nonnull(process);
}

static void setup(void) {
        n_fds_before = open_fds_count();
        skew_usec = 0;
        room = true;
        memset(watchers, 0, sizeof(watchers));
        fixture_open();
        fixture_connect(&client);
        fixture_hello(&client);
        run("cat");
}

static void teardown(void) {
        for (unsigned i = 0; i < N_READERS; i++)
                reader_stop(&watchers[i].reader);
        ck_assert_uint_eq(engine.requests.readers.n, 0);
        ck_assert(list_empty(&engine.requests.readers.due));
        ck_assert(list_empty(&engine.requests.readers.parked));
        fixture_disconnect(&client);
        fixture_clean();
        fixture_close();
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

/* Begins where the log ends now, with the wishes of 'options', which may be NULL. */
static Watcher *begin_with(unsigned i, MatchKind kind, uint64_t n, const char *text,
                           const ReaderOptions *options, const ReaderOps *whose) {
        MatchSpec spec = { .kind = kind, .n = n, .text = text, .text_size = text ? strlen(text) : 0 };
        ReaderOptions mine = { .max = MANY, .timeout_usec = USEC_INFINITY };
        Match *match;
        Log *log;

        if (options)
                mine = *options;
        if (mine.sources == 0)
                mine.sources = 1u << SOURCE_STDOUT | 1u << SOURCE_STDERR;
        if (mine.max == 0)
                mine.max = MANY;
        ck_assert_int_eq(process_log(process, &log, NULL), 0);
        if (!mine.begin.segment && mine.begin.offset == 0)
                log_seek_end(log, &mine.begin);
        ck_assert_int_eq(match_new(&match, &spec, NULL), 0);
        ck_assert_int_eq(reader_start(&watchers[i].reader, &engine.requests.readers, process, match, &mine,
                                      whose, 1, NULL),
                         0);
        return &watchers[i];
}

static Watcher *begin(MatchKind kind, uint64_t n, const char *text, const ReaderOptions *options) {
        return begin_with(0, kind, n, text, options, &ops);
}

static void ck_end(const Watcher *watcher, ReaderEnd end, uint64_t n) {
        ck_assert_uint_eq(watcher->n_ends, 1);
        ck_assert_int_eq(watcher->end, end);
        ck_assert_uint_eq(watcher->n, n);
}
