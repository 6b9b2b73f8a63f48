/* SPDX-License-Identifier: MIT */

/* read: what is waited for, where it begins, what it came to. A cursor moves in the transaction of the turn,
 * before the answer leaves; whoever else waits at the same cursor begins anew where it is then. */

#include "daemon/engine/request-read.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/request-key.h"

/* A read that waits. */
typedef struct Read {
        Reader reader;
        Request *request;  /* owned until it is answered */
        RequestHost *host; /* borrowed; NULL until it is counted there */
        uint64_t start;    /* where it began */
        uint64_t accepted;
        char *cursor; /* owned; NULL: none */
        bool peek;
        bool follows;
        bool is_ask;
        uint64_t digest; /* of the request, if it has a key */
        char key[];      /* empty: none */
} Read;

static void read_free(Read *read) {
        if (read->host)
                read->host->n_reads--;
        reader_stop(&read->reader);
        free(read->cursor);
        free(read);
}

/* --- the answer --- */

json_t *read_match_to_json(const Match *match, const MatchResult *result) {
        json_t *groups = json_array();
        uint64_t from, to;
        const char *name;

        for (unsigned i = 0; i < match_n_groups(match); i++) {
                if (match_group(match, i, &from, &to, &name))
                        (void)json_array_append_new(groups, json_pack("{s:i, s:s?, s:I, s:I}", "n", (int)i,
                                                                      "name", name, "from", (json_int_t)from,
                                                                      "to", (json_int_t)to));
                else
                        (void)json_array_append_new(groups, json_null());
        }
        return json_pack("{s:I, s:I, s:o}", "from", (json_int_t)result->from, "to", (json_int_t)result->to,
                         "groups", groups);
}

static const char *const reasons[] = {
        [READER_SATISFIED] = "satisfied",
        [READER_EOF] = "eof",
        [READER_TIMEOUT] = "timeout",
        [READER_GAP] = "gap",
};

/* All of the answer but the data; 'sources' is for a repetition. */
static json_t *read_answer(const Read *read, ReaderEnd end, uint64_t size, uint64_t next) {
        const Scan *scan = &read->reader.scan;
        const Process *process = read->reader.process;
        json_t *answer;

        answer =
                json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "reason", reasons[end], "bytes", (json_int_t)size,
                          "from", (json_int_t)(scan->n > 0 ? scan->first : next), "next", (json_int_t)next,
                          "run", (json_int_t)(scan->run != 0 ? scan->run : process->run.run), "sources",
                          (json_int_t)scan->sources);
        if (match_missing(read->reader.match) > 0)
                (void)json_object_set_new(answer, "missing",
                                          json_integer((json_int_t)match_missing(read->reader.match)));
        if (scan->is_done && match_kind(read->reader.match) == MATCH_PATTERN)
                (void)json_object_set_new(answer, "match",
                                          read_match_to_json(read->reader.match, &scan->result));
        if (scan->lost_from < scan->lost_to)
                (void)json_object_set_new(answer, "lost",
                                          json_pack("{s:I, s:I}", "from", (json_int_t)scan->lost_from, "to",
                                                    (json_int_t)scan->lost_to));
        if (read->is_ask)
                (void)json_object_set_new(answer, "accepted", json_integer((json_int_t)read->accepted));
        return answer;
}

/* The answer as it is sent: with the data, without what is for a repetition. */
static int answer_with_data(const json_t *answer, const Scan *scan, Log *log, uint64_t size,
                            json_t **ret_result, Error *reterr_error) {
        json_t *result = json_copy((json_t *)answer);
        char *data = malloc(size + 1);
        uint64_t next;
        int r;

        if (result && data)
                r = scan_copy(scan, log, size, data, &next);
        else
                r = -ENOMEM;
        if (r >= 0 && (json_object_set_new(result, "data", bytes_to_json(data, size)) < 0 ||
                       json_object_del(result, "sources") < 0))
                r = -ENOMEM;
        free(data);
        if (r >= 0) {
                *ret_result = result;
                return 0;
        }
        json_decref(result);
        if (r == -ENODATA)
                return error_set(reterr_error, ERROR_NOT_FOUND, "what was read is no longer kept");
        if (r == -ENOMEM)
                return error_set_errno(reterr_error, r, "cannot hold what was read");
        return log_explain(log, r, "cannot read the log", reterr_error);
}

/* Whoever waits at a cursor that has been moved begins anew where it is now. 'done' moved it, with this
 * result; NULL: no read did. */
static void readers_follow(Process *process, const char *name, uint64_t offset, const Read *done,
                           json_t *result);

/* All that is kept of an answer: with it, or not at all. */
static int read_store(Read *read, const json_t *answer, bool moves, uint64_t next, Error *reterr_error) {
        Registry *registry = read->request->host->supervisor->registry;
        RegistryKey done = { .digest = read->digest,
                             .process = read->reader.process->id,
                             .offset = read->start };
        char *text = NULL;
        int r = 0;

        if (read->key[0]) {
                text = json_dumps(answer, JSON_COMPACT);
                if (!text)
                        return error_set_errno(reterr_error, ENOMEM, "cannot keep the answer");
        }
        if (moves)
                r = registry_set_cursor(registry, done.process, read->cursor, next, reterr_error);
        done.answer = text;
        if (r >= 0 && text)
                r = registry_put_read_key(registry, read->key, clock_realtime_usec(), &done, reterr_error);
        free(text);
        return r;
}

/* What there is to say is made first: a read that fails consumes nothing. */
static int read_finish(Read *read, ReaderEnd end, json_t **ret_result, Error *reterr_error) {
        const Scan *scan = &read->reader.scan;
        uint64_t size = scan->is_done ? scan->result.end : scan->n, next = scan->at.offset;
        bool moves = end != READER_TIMEOUT && read->cursor && !read->peek;
        json_t *answer, *result = NULL;
        Log *log;
        int r;

        r = process_log(read->reader.process, &log, reterr_error);
        if (r < 0)
                return r;
        if (end == READER_SATISFIED) {
                r = scan_copy(scan, log, size, NULL, &next);
                if (r < 0)
                        return error_set_errno(reterr_error, r, "cannot find the place in the log");
        } else if (end == READER_TIMEOUT)
                next = read->start;
        answer = read_answer(read, end, size, next);
        r = answer ? answer_with_data(answer, scan, log, size, &result, reterr_error)
                   : error_set_errno(reterr_error, ENOMEM, "cannot answer");
        if (r >= 0)
                r = read_store(read, answer, moves, next, reterr_error);
        json_decref(answer);
        if (r < 0) {
                json_decref(result);
                return r;
        }
        read->follows = false; /* it has what it came for, wherever its cursor goes */
        if (moves)
                readers_follow(read->reader.process, read->cursor, next, read, result);
        *ret_result = result;
        return 0;
}

static void read_on_end(Reader *reader, ReaderEnd end, const Error *why) {
        Read *read = CONTAINER_OF(reader, Read, reader);
        json_t *result = NULL;
        Error error = {};

        if (end == READER_FAILED)
                error = *why;
        else if (end == READER_REMOVED)
                (void)error_set(&error, ERROR_NOT_FOUND, "the process was removed");
        else if (read_finish(read, end, &result, &error) < 0)
                result = NULL;
        request_answer(read->request, result, &error);
        read_free(read);
}

/* An answer may be large: it waits until those before it have been read. */
static bool read_has_room(Reader *reader) {
        return client_queued_bytes(CONTAINER_OF(reader, Read, reader)->request->client) < LIMIT_REPLY_BYTES;
}

static const ReaderOps read_ops = {
        .on_end = read_on_end,
        .has_room = read_has_room,
};

static void read_on_cancel(Request *request) {
        read_free(request->waiter);
}

int read_repeat(Process *process, const char *text, json_t **ret_result, Error *reterr_error) {
        json_t *answer = json_loads(text, 0, NULL);
        Scan scan = {};
        uint64_t size;
        Log *log;
        int r;

        if (!answer)
                return error_set_errno(reterr_error, ENOMEM, "cannot read what the key stands for");
        size = (uint64_t)json_integer_value(json_object_get(answer, "bytes"));
        scan.sources = (uint8_t)json_integer_value(json_object_get(answer, "sources"));
        scan.first = (uint64_t)json_integer_value(json_object_get(answer, "from"));
        scan.n = size;
        r = process_log(process, &log, reterr_error);
        if (r >= 0 && size > 0) {
                r = scan.first < log_begin(log) ? -EINVAL : log_seek_offset(log, &scan.begin, scan.first);
                if (r == -EINVAL)
                        r = error_set(reterr_error, ERROR_NOT_FOUND, "what was read is no longer kept");
                else if (r < 0)
                        (void)log_explain(log, r, "cannot find the place in the log", reterr_error);
        }
        if (r >= 0)
                r = answer_with_data(answer, &scan, log, size, ret_result, reterr_error);
        json_decref(answer);
        return r;
}

/* --- cursors --- */

/* Whether this is the same request, repeated while the first one still waits for a connection that nobody may
 * be at the other end of. */
static bool read_is_repeated(const Read *other, const Read *done) {
        return done && done->key[0] && done->digest == other->digest && strcmp(done->key, other->key) == 0;
}

static void readers_follow(Process *process, const char *name, uint64_t offset, const Read *done,
                           json_t *result) {
        LogCursor place;
        Log *log;

        LIST_FOREACH(ProcessReader, link, &process->readers, link) {
                Reader *reader = reader_from(link, &read_ops);
                Read *other = reader ? CONTAINER_OF(reader, Read, reader) : NULL;

                if (!other || !other->follows || strcmp(other->cursor, name) != 0 || other->start == offset)
                        continue;
                if (read_is_repeated(other, done)) {
                        request_answer(other->request, json_incref(result), NULL);
                        read_free(other);
                        continue;
                }
                if (process_log(process, &log, NULL) >= 0 && log_seek_offset(log, &place, offset) >= 0) {
                        other->start = offset;
                        reader_move(reader, &place);
                }
        }
}

int read_move_cursor(RequestHost *host, Process *process, const char *name, uint64_t offset,
                     Error *reterr_error) {
        int r;

        r = registry_set_cursor(host->supervisor->registry, process->id, name, offset, reterr_error);
        if (r >= 0)
                readers_follow(process, name, offset, NULL, NULL);
        return r;
}

/* --- the question --- */

void read_wish_deinit(ReadWish *wish) {
        bytes_deinit(&wish->text);
        free(wish->cursor);
        wish->cursor = NULL;
}

/* Whether these bytes may name a cursor. */
static bool is_cursor_name(const char *name) {
        size_t size = strlen(name);

        for (const char *p = name; *p; p++)
                if ((unsigned char)*p < ' ' || *p == 0x7f)
                        return false;
        return size >= 1 && size <= READ_CURSOR_MAX;
}

int read_parse_cursor(const json_t *value, const char *what, char **ret_name, Error *reterr_error) {
        char *name;
        int r;

        r = bytes_string_from_json(value, what, &name, reterr_error);
        if (r < 0)
                return r;
        if (!is_cursor_name(name)) {
                free(name);
                return error_set(reterr_error, ERROR_INVALID,
                                 "%s: not a name of 1 to %d bytes without control characters", what,
                                 READ_CURSOR_MAX);
        }
        *ret_name = name;
        return 0;
}

static int parse_text(ReadWish *wish, Params *params, const char *name, size_t max, Error *reterr_error) {
        const json_t *value = params_get(params, name);
        int r;

        if (!value)
                return error_set(reterr_error, ERROR_INVALID, "%s: it is needed", name);
        r = bytes_from_json(value, name, &wish->text, reterr_error);
        if (r < 0)
                return r;
        if (wish->text.size < 1 || wish->text.size > max)
                return error_set(reterr_error, ERROR_INVALID, "%s: not 1 to %zu bytes", name, max);
        wish->spec.text = wish->text.data;
        wish->spec.text_size = wish->text.size;
        return 0;
}

/* The members that one kind needs, and others have no use for. */
static int parse_kind(ReadWish *wish, Params *params, Error *reterr_error) {
        static const struct {
                const char *name;
                unsigned kinds;
        } members[] = {
                { "n", 1u << MATCH_BYTES | 1u << MATCH_EXACTLY },
                { "separator", 1u << MATCH_SEPARATOR },
                { "pattern", 1u << MATCH_PATTERN },
                { "quiet_usec", 1u << MATCH_QUIET },
        };
        uint64_t n = wish->options.max;
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(members); i++)
                if (params_get(params, members[i].name) && !(members[i].kinds & 1u << wish->spec.kind))
                        return error_set(reterr_error, ERROR_INVALID, "%s: of no use to what is read for",
                                         members[i].name);
        r = params_u64(params, "n", 1, wish->options.max, &n, reterr_error);
        if (r < 0)
                return r;
        wish->spec.n = n;
        switch (wish->spec.kind) {
        case MATCH_EXACTLY:
                return r > 0 ? 0 : error_set(reterr_error, ERROR_INVALID, "n: it is needed");
        case MATCH_SEPARATOR:
                return parse_text(wish, params, "separator", MATCH_SEPARATOR_MAX, reterr_error);
        case MATCH_PATTERN:
                return parse_text(wish, params, "pattern", MATCH_PATTERN_MAX, reterr_error);
        case MATCH_QUIET:
                r = params_u64(params, "quiet_usec", 0, INT64_MAX / 4, &wish->options.quiet_usec,
                               reterr_error);
                if (r == 0 && !wish->is_ask)
                        return error_set(reterr_error, ERROR_INVALID, "quiet_usec: it is needed");
                return r < 0 ? r : 0;
        default:
                return 0;
        }
}

int read_parse(ReadWish *wish, Params *params, MatchKind kind, Error *reterr_error) {
        static const char *const kinds[] = { "bytes",   "exactly", "line", "separator",
                                             "pattern", "quiet",   "eof",  NULL };
        const json_t *cursor = json_object_get(params->object, "cursor");
        int number = (int)kind, r;

        wish->options.max = READ_BYTES_DEFAULT;
        wish->options.timeout_usec = USEC_INFINITY;
        if ((r = params_choice(params, "for", kinds, &number, reterr_error)) < 0 ||
            (r = params_u64(params, "max_bytes", 1, LIMIT_READ_BYTES, &wish->options.max, reterr_error)) <
                    0 ||
            (r = params_u64(params, "timeout_usec", 0, INT64_MAX / 4, &wish->options.timeout_usec,
                            reterr_error)) < 0 ||
            (r = params_sources(params, &wish->options.sources, reterr_error)) < 0 ||
            (r = params_string(params, "key", READ_KEY_MAX, &wish->key, reterr_error)) < 0)
                return r;
        if (wish->options.sources == 0)
                return error_set(reterr_error, ERROR_INVALID, "sources: at least one is needed");
        wish->spec.kind = (MatchKind)number;
        r = parse_kind(wish, params, reterr_error);
        if (r < 0 || json_is_null(cursor))
                return r;
        if (cursor)
                return read_parse_cursor(cursor, "cursor", &wish->cursor, reterr_error);
        wish->cursor = strdup("default");
        return wish->cursor ? 0 : error_set_errno(reterr_error, ENOMEM, "cannot read");
}

int read_check_sources(const Process *process, unsigned sources, Error *reterr_error) {
        if (!(sources & 1u << SOURCE_STDIN) || process->config.transcript)
                return 0;
        return error_set(reterr_error, ERROR_UNSUPPORTED,
                         "sources: what is written to stdin is not kept in the log of process %" PRIu64
                         ": it was run without a transcript",
                         process->id);
}

int read_may_wait(const Request *request, Error *reterr_error) {
        if (request->host->n_reads >= LIMIT_WAITING_READS)
                return error_set(reterr_error, ERROR_LIMIT, "%d reads wait already", LIMIT_WAITING_READS);
        return request_may_wait(request, reterr_error);
}

int read_begin(Request *request, Process *process, Match *match, ReadWish *wish, Error *reterr_error) {
        Read *read;
        int r;

        read = calloc(1, sizeof(*read) + (wish->key ? strlen(wish->key) : 0) + 1);
        if (!read) {
                (void)match_free(match);
                return error_set_errno(reterr_error, ENOMEM, "cannot read");
        }
        if (wish->key)
                (void)strcpy(read->key, wish->key);
        r = reader_start(&read->reader, &request->host->readers, process, match, &wish->options, &read_ops,
                         request->client->pid, reterr_error);
        if (r >= 0)
                r = request_defer(request, read_on_cancel, read, reterr_error);
        if (r < 0) {
                read_free(read);
                return r;
        }
        read->request = request;
        read->host = request->host;
        read->host->n_reads++;
        read->start = wish->options.begin.offset;
        read->cursor = TAKE(wish->cursor);
        read->peek = wish->peek;
        read->follows = wish->follows;
        read->is_ask = wish->is_ask;
        read->digest = wish->digest;
        read->accepted = wish->accepted;
        return REQUEST_WAITS;
}

static int read_place(Request *request, Process *process, Params *params, ReadWish *wish, Log *log,
                      Error *reterr_error) {
        const json_t *from = params_get(params, "from");
        LogCursor *place = &wish->options.begin;
        uint64_t run = 0, offset = 0;
        int r;

        r = params_u64(params, "run", 1, UINT32_MAX, &run, reterr_error);
        if (r < 0)
                return r;
        wish->options.run = (uint32_t)run;
        if (run != 0) {
                r = run > process->run.run ? -ENOENT : log_seek_run(log, place, (uint32_t)run);
                if (r == -ENOENT)
                        return error_set(reterr_error, ERROR_NOT_FOUND, "nothing of run %" PRIu64 " is kept",
                                         run);
        }
        if (json_is_string(from) && strcmp(json_string_value(from), "end") == 0) {
                log_seek_end(log, place);
                return 0;
        }
        if (json_is_integer(from) && json_integer_value(from) >= 0)
                offset = (uint64_t)json_integer_value(from);
        else if (from && !(json_is_string(from) && strcmp(json_string_value(from), "start") == 0))
                return error_set(reterr_error, ERROR_INVALID, "from: not an offset, \"start\" or \"end\"");
        else if (from)
                offset = log_begin(log);
        if (!from && !wish->cursor && run == 0)
                return error_set(reterr_error, ERROR_INVALID, "from: it is needed where there is no cursor");
        if (!from && run == 0) {
                wish->follows = true;
                r = registry_get_cursor(request->host->supervisor->registry, process->id, wish->cursor,
                                        &offset, reterr_error);
                if (r < 0)
                        return r;
        }
        if (offset > log_end(log))
                return error_set(reterr_error, ERROR_INVALID, "from: %" PRIu64 " is beyond the end, %" PRIu64,
                                 offset, log_end(log));
        if (run == 0 || offset > place->offset)
                r = log_seek_offset(log, place, offset);
        return r < 0 ? log_explain(log, r, "cannot find the place in the log", reterr_error) : 0;
}

/* Whether a read with this key was answered before. Return: 1 and the answer; 0; <0. */
static int read_find_key(Request *request, const Process *process, const ReadWish *wish, char **ret_answer,
                         Error *reterr_error) {
        RegistryKey done;
        int r;

        if (!wish->key)
                return 0;
        r = registry_get_read_key(request->host->supervisor->registry, wish->key, &done, reterr_error);
        if (r > 0 && (done.process != process->id || !done.answer ||
                      (done.digest != 0 && done.digest != wish->digest))) {
                free(done.answer);
                return request_key_taken(wish->key, reterr_error);
        }
        if (r > 0)
                *ret_answer = done.answer;
        return r;
}

int request_read_output(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        CLEANUP(read_wish_deinit) ReadWish wish = {};
        char *answer = NULL;
        Process *process;
        Match *match;
        Log *log;
        int r;

        if ((r = request_target(request, params, &process, reterr_error)) < 0 ||
            (r = read_parse(&wish, params, MATCH_BYTES, reterr_error)) < 0 ||
            (r = params_bool(params, "peek", &wish.peek, reterr_error)) < 0 ||
            (r = read_check_sources(process, wish.options.sources, reterr_error)) < 0 ||
            (r = read_may_wait(request, reterr_error)) < 0)
                return r;
        if (wish.key)
                wish.digest = request_digest("read", params, "target key timeout_usec");
        r = read_find_key(request, process, &wish, &answer, reterr_error);
        if (r < 0)
                return r;
        if (r > 0) {
                r = read_repeat(process, answer, ret_result, reterr_error);
                free(answer);
                return r;
        }
        if ((r = process_log(process, &log, reterr_error)) < 0 ||
            (r = read_place(request, process, params, &wish, log, reterr_error)) < 0 ||
            (r = match_new(&match, &wish.spec, reterr_error)) < 0)
                return r;
        return read_begin(request, process, match, &wish, reterr_error);
}
