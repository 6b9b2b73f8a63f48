/* SPDX-License-Identifier: MIT */

#include "daemon/engine/reader.h"

#include <errno.h>
#include <inttypes.h>

#include "common/clock.h"

#define SLICE_USEC UINT64_C(2000)        /* of one look of a pattern */
#define TURN_USEC UINT64_C(10000)        /* of all looks in a turn */
#define TURN_STEPS 16                    /* of one reader in a turn */
#define LATE_USEC (UINT64_C(100) * 1000) /* what is there at the deadline is looked at for so long */
#define HOLD_USEC UINT64_C(1000)         /* what is held back waits so long, at least */
#define HOLD_LOOKS 8                     /* and so many times as long as the last look */

void reader_set_init(ReaderSet *set, struct event_base *base) {
        *set = (ReaderSet){ .base = base };
        list_init(&set->due);
        list_init(&set->parked);
}

void reader_set_deinit(ReaderSet *set) {
        scan_buffer_deinit(&set->buffer);
}

static void reader_due(Reader *reader) {
        if (!list_linked(&reader->due_link))
                list_append(&reader->set->due, &reader->due_link);
}

static void reader_on_grown(ProcessReader *reader, bool lazily) {
        (void)lazily;
        reader_due(CONTAINER_OF(reader, Reader, reader));
}

static void reader_on_removed(ProcessReader *link) {
        Reader *reader = CONTAINER_OF(link, Reader, reader);

        list_remove(&link->link);
        reader->process = NULL;
        reader_due(reader);
}

static void reader_on_timer(evutil_socket_t fd, short what, void *userdata) {
        (void)fd;
        (void)what;
        reader_due(userdata);
}

Reader *reader_from(ProcessReader *link, const ReaderOps *ops) {
        Reader *reader = CONTAINER_OF(link, Reader, reader);

        return link->on_grown == reader_on_grown && reader->ops == ops ? reader : NULL;
}

/* When the latest byte came, of what was there before: not before any of it, and hardly later. */
static uint64_t last_before(Log *log) {
        uint64_t now = clock_monotonic_usec(), real = clock_realtime_usec(), time = log_time(log);
        uint64_t age = real > time ? real - time : 0;

        return now > age ? now - age : 0;
}

int reader_start(Reader *reader, ReaderSet *set, Process *process, Match *match, const ReaderOptions *options,
                 const ReaderOps *ops, pid_t client_pid, Error *reterr_error) {
        Log *log;
        int r;

        *reader = (Reader){
                .reader = { .offset = options->begin.offset,
                            .client_pid = client_pid,
                            .on_grown = reader_on_grown,
                            .on_removed = reader_on_removed },
                .set = set,
                .process = process,
                .match = match,
                .ops = ops,
                .begin_usec = clock_monotonic_usec(),
                .deadline_usec = USEC_INFINITY,
                .quiet_usec = match_kind(match) == MATCH_QUIET ? options->quiet_usec : USEC_INFINITY,
                .quiet_from_start = options->quiet_from_start,
        };
        set->n++;
        r = process_log(process, &log, reterr_error);
        if (r < 0 || event_assign(&reader->timer, set->base, -1, 0, reader_on_timer, reader) < 0) {
                reader->process = NULL;
                reader_stop(reader);
                return r < 0 ? r : error_set_errno(reterr_error, ENOMEM, "cannot wait");
        }
        if (options->timeout_usec != USEC_INFINITY)
                reader->deadline_usec = reader->begin_usec + options->timeout_usec;
        reader->last_usec = last_before(log);
        scan_init(&reader->scan, match, &options->begin, options->max, options->sources);
        reader->scan.any_run = options->any_run;
        reader->scan.forgets = options->forgets;
        if (options->run != 0) {
                reader->scan.run = options->run;
                reader->scan.only_run = true;
        }
        list_append(&process->readers, &reader->reader.link);
        reader_due(reader);
        return 0;
}

void reader_stop(Reader *reader) {
        Process *process = TAKE(reader->process);

        if (!reader->set)
                return;
        if (event_initialized(&reader->timer))
                (void)event_del(&reader->timer);
        list_remove(&reader->reader.link);
        list_remove(&reader->due_link);
        reader->match = match_free(reader->match);
        reader->set->n--;
        reader->set = NULL;
        if (process)
                process_changed(process, PROCESS_CHANGED_READERS);
}

void reader_move(Reader *reader, const LogCursor *begin) {
        bool any_run = reader->scan.any_run, forgets = reader->scan.forgets;

        match_restart(reader->match);
        scan_init(&reader->scan, reader->match, begin, reader->scan.max, reader->scan.sources);
        reader->scan.any_run = any_run;
        reader->scan.forgets = forgets;
        reader->hold_usec = 0;
        reader->reader.offset = begin->offset;
        reader_due(reader);
}

/* --- looking --- */

/* The reader stays as it is for whoever takes what it gathered; he stops it. */
static void reader_end(Reader *reader, ReaderEnd end, const Error *error) {
        (void)event_del(&reader->timer);
        list_remove(&reader->due_link);
        reader->ops->on_end(reader, end, error);
}

/* What the end of a run, or a gap, means to what was waited for. */
static ReaderEnd reader_end_of(const Reader *reader, ReaderEnd otherwise) {
        MatchKind kind = match_kind(reader->match);

        if (match_is_enough(reader->match))
                return READER_SATISFIED;
        if (otherwise == READER_EOF && (kind == MATCH_EOF || (kind == MATCH_QUIET && reader->scan.n > 0)))
                return READER_SATISFIED;
        return otherwise;
}

static unsigned ended_bit(Source source) {
        return source == SOURCE_STDOUT ? RUN_STDOUT_CLOSED : source == SOURCE_STDERR ? RUN_STDERR_CLOSED : 0;
}

/* Whether all that was accepted for stdin is in the transcript, and no more can be. */
static bool stdin_has_ended(const Process *process) {
        bool closed = process->stdin_fd < 0 && process->state != PROCESS_STARTING;

        return (closed || !process_is_alive(process)) && process->transcript_from == UINT64_MAX;
}

/* Whether nothing more can come of the run that is read, now that the log's end is reached. */
static bool reader_is_at_eof(const Reader *reader) {
        const RegistryRun *run = &reader->process->run;
        const Scan *scan = &reader->scan;

        if (scan->any_run || run->run == 0)
                return false;
        if (scan->run != 0 && scan->run < run->run)
                return scan->n > 0 || scan->only_run;
        for (Source source = SOURCE_STDOUT; source <= SOURCE_STDERR; source++)
                if ((scan->sources & 1u << source) && !(run->ended & ended_bit(source)))
                        return false;
        return !(scan->sources & 1u << SOURCE_STDIN) || stdin_has_ended(reader->process);
}

/* Waits for what comes first. Without memory to do so it is over: nobody would look at its deadline. */
static void reader_arm(Reader *reader) {
        uint64_t next = reader->deadline_usec, now = clock_monotonic_usec();
        Error error = {};
        struct timeval tv;

        if (reader->quiet_usec != USEC_INFINITY && (reader->scan.n > 0 || reader->quiet_from_start))
                next = MIN(next, reader->last_usec + reader->quiet_usec);
        if (reader->hold_usec != 0)
                next = MIN(next, reader->hold_usec);
        if (next == USEC_INFINITY)
                return;
        next = next > now ? next - now : 0;
        tv.tv_sec = (time_t)(next / USEC_PER_SEC);
        tv.tv_usec = (suseconds_t)(next % USEC_PER_SEC);
        if (evtimer_add(&reader->timer, &tv) < 0) {
                (void)error_set_errno(&error, ENOMEM, "cannot wait");
                reader_end(reader, READER_FAILED, &error);
        }
}

/* It is at the end of the log. */
static void reader_wait(Reader *reader) {
        uint64_t now = clock_monotonic_usec();

        if (match_is_enough(reader->match))
                reader_end(reader, READER_SATISFIED, NULL);
        else if (reader_is_at_eof(reader))
                reader_end(reader, reader_end_of(reader, READER_EOF), NULL);
        else if (reader->quiet_usec != USEC_INFINITY && (reader->scan.n > 0 || reader->quiet_from_start) &&
                 now >= reader->last_usec + reader->quiet_usec)
                reader_end(reader, READER_SATISFIED, NULL);
        else if (now >= reader->deadline_usec)
                reader_end(reader, READER_TIMEOUT, NULL);
        else
                reader_arm(reader);
}

/* It is at the end of the log, but what came last is held back, as it is little beside what would have to be
 * seen again. Return: whether to look all the same, since it has waited long enough or nothing more can come.
 */
static bool reader_hold(Reader *reader) {
        uint64_t now = clock_monotonic_usec();

        if (reader->hold_usec == 0)
                reader->hold_usec = now + MAX(HOLD_LOOKS * reader->look_usec, HOLD_USEC);
        if (now < reader->hold_usec && now < reader->deadline_usec && !reader_is_at_eof(reader)) {
                reader_arm(reader);
                return false;
        }
        scan_release(&reader->scan);
        return true;
}

/* A step of the search, with how long it took. */
static int reader_scan(Reader *reader, Log *log, Error *reterr_error) {
        uint64_t begin = clock_monotonic_usec(), shown = reader->scan.n_shown;
        int r;

        r = scan_step(&reader->scan, log, &reader->set->buffer, SLICE_USEC, reterr_error);
        if (reader->scan.n_shown > shown) {
                reader->look_usec = clock_monotonic_usec() - begin;
                reader->hold_usec = 0;
        }
        return r;
}

/* One step. Return: whether to go on at once. */
static bool reader_step(Reader *reader, Log *log) {
        Scan *scan = &reader->scan;
        bool is_first = !scan->is_begun;
        uint64_t before = scan->n;
        Error error = {};
        int r;

        r = reader_scan(reader, log, &error);
        if (is_first)
                reader->last_usec = last_before(log); /* some may have come since it began */
        else if (scan->n > before)
                reader->last_usec = clock_monotonic_usec();
        switch (r) {
        case SCAN_BUSY:
                if (clock_monotonic_usec() < MAX(reader->deadline_usec, reader->begin_usec) + LATE_USEC ||
                    reader->deadline_usec == USEC_INFINITY)
                        return true;
                reader_end(reader, READER_TIMEOUT, NULL);
                break;
        case SCAN_WAITS:
                reader_wait(reader);
                break;
        case SCAN_HOLDS:
                return reader_hold(reader);
        case SCAN_DONE:
                reader_end(reader, READER_SATISFIED, NULL);
                break;
        case SCAN_RUN_ENDED:
                reader_end(reader, reader_end_of(reader, READER_EOF), NULL);
                break;
        case SCAN_GAP:
                reader_end(reader, reader_end_of(reader, READER_GAP), NULL);
                break;
        case SCAN_FULL:
                (void)error_set(&error, ERROR_TOO_LARGE,
                                "%" PRIu64 " bytes have come without what was read for", scan->max);
                reader_end(reader, READER_FAILED, &error);
                break;
        default:
                reader_end(reader, READER_FAILED, &error);
        }
        return false;
}

static void reader_look(Reader *reader) {
        Error error = {};
        Log *log;

        if (!reader->process) {
                reader_end(reader, READER_REMOVED, NULL);
                return;
        }
        if (reader->ops->has_room && !reader->ops->has_room(reader)) {
                list_append(&reader->set->parked, &reader->due_link);
                return;
        }
        if (process_log(reader->process, &log, &error) < 0) {
                reader_end(reader, READER_FAILED, &error);
                return;
        }
        for (unsigned i = 0; i < TURN_STEPS; i++)
                if (!reader_step(reader, log))
                        return;
        reader_due(reader);
}

/* Whether one that is parked need not be any more. */
static bool reader_has_room(Reader *reader) {
        return !reader->process || reader->ops->has_room(reader);
}

bool readers_are_due(const ReaderSet *set) {
        if (!list_empty(&set->due))
                return true;
        LIST_FOREACH(Reader, reader, &set->parked, due_link)
                if (reader_has_room(reader))
                        return true;
        return false;
}

static void readers_unpark(ReaderSet *set) {
        LIST_FOREACH(Reader, reader, &set->parked, due_link)
                if (reader_has_room(reader)) {
                        list_remove(&reader->due_link);
                        list_append(&set->due, &reader->due_link);
                }
}

void readers_finish_turn(ReaderSet *set) {
        uint64_t begin;
        List *last;

        readers_unpark(set);
        if (list_empty(&set->due))
                return;
        begin = clock_monotonic_usec();
        last = set->due.prev; /* those that become due meanwhile come behind it, and with the next turn */
        while (!list_empty(&set->due)) {
                List *link = set->due.next;

                list_remove(link);
                reader_look(CONTAINER_OF(link, Reader, due_link));
                if (link == last || clock_monotonic_usec() - begin >= TURN_USEC)
                        break;
        }
        scan_buffer_trim(&set->buffer);
}
