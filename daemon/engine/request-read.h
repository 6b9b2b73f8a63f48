/* SPDX-License-Identifier: MIT */
#pragma once

/* What `read` and `ask` share: what is read for, and the answer. */

#include "daemon/engine/reader.h"
#include "daemon/engine/request.h"

#define READ_KEY_MAX 64
#define READ_CURSOR_MAX 64

/* What a request asked for. */
typedef struct ReadWish {
        MatchSpec spec;
        Bytes text;            /* owned; the separator or the pattern */
        char *cursor;          /* owned; NULL: none is moved */
        const char *key;       /* borrowed; NULL: none */
        uint64_t digest;       /* of the request, if it has a key */
        ReaderOptions options; /* without begin */
        bool peek;
        bool follows; /* begins at the cursor, also where somebody else moves that to */
        bool is_ask;
        uint64_t accepted; /* of `ask` */
} ReadWish;

void read_wish_deinit(ReadWish *wish);

static inline void read_wish_deinit_cleanup(ReadWish *wish) {
        read_wish_deinit(wish);
}

/** read_parse() - the members READ_MEMBERS. @kind: what is read for if nothing is said. */
int read_parse(ReadWish *wish, Params *params, MatchKind kind, Error *reterr_error);

/** read_check_sources() - whether what is to be read is in the log. Return: 0; -EOPNOTSUPP (UNSUPPORTED):
 * stdin, of a process without a transcript. */
int read_check_sources(const Process *process, unsigned sources, Error *reterr_error);

/** read_may_wait() - whether one more read may wait, on this connection and at all: asked before anything is
 * begun. Return: 0; -errno (LIMIT). */
int read_may_wait(const Request *request, Error *reterr_error);

/** read_begin() - wait for what is wished for; answers by itself. @match: as made of wish->spec, moved in.
 * Return: REQUEST_WAITS or -errno. */
int read_begin(Request *request, Process *process, Match *match, ReadWish *wish, Error *reterr_error);

/** read_match_to_json() - what a pattern matched, as the answer has it. */
json_t *read_match_to_json(const Match *match, const MatchResult *result);

/** read_repeat() - give the answer again that a request with this key had. Return: as a handler. */
int read_repeat(Process *process, const char *answer, json_t **ret_result, Error *reterr_error);

/** read_parse_cursor() - the name of a cursor; owned. @what: the member, for the error. */
int read_parse_cursor(const json_t *value, const char *what, char **ret_name, Error *reterr_error);
/** read_move_cursor() - move a cursor, and those who wait at it. */
int read_move_cursor(RequestHost *host, Process *process, const char *name, uint64_t offset,
                     Error *reterr_error);
