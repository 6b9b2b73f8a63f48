/* SPDX-License-Identifier: MIT */

#include "client/cli/read-loop.h"

#include <string.h>

#include "client/cli/exit-status.h"
#include "common/clock.h"

#define ASK_QUIET_USEC 300000 /* as `ask` has it where nothing is said */

static json_int_t integer_of(const json_t *result, const char *key) {
        return json_integer_value(json_object_get(result, key));
}

/* The next piece begins where this one ended; without a cursor that must be said. */
static int piece_done(ReadLoop *loop, json_t *result) {
        loop->moved = true;
        return read_params_set(&loop->read, "from", json_integer(integer_of(result, "next")));
}

/* The cursor that is moved; NULL: none. */
static json_t *cursor_name(const ReadLoop *loop) {
        json_t *cursor = json_object_get(loop->read.params, "cursor");

        if (loop->peek || json_is_null(cursor))
                return NULL;
        return cursor ? json_incref(cursor) : json_string("default");
}

/* A piece is about to be consumed, and the deadline may come behind it: notes where the cursor is. Return: 0,
 * or the exit status after a complaint. */
static int note_cursor(ReadLoop *loop) {
        json_auto_t *name = cursor_name(loop), *result = NULL;
        json_t *cursor;
        size_t i;
        int r;

        if (!name || loop->moved || loop->read.timeout_usec == USEC_INFINITY)
                return 0;
        r = cli_call(loop->read.cli, "cursors",
                     json_pack("{s:O}", "target", json_object_get(loop->read.params, "target")), &result);
        if (r != 0)
                return r;
        json_array_foreach(json_object_get(result, "cursors"), i, cursor) {
                if (json_equal(json_object_get(cursor, "name"), name))
                        loop->cursor = json_incref(json_object_get(cursor, "offset"));
        }
        return 0;
}

/* @to: an offset, or null: there is none. */
static void move_cursor(const ReadLoop *loop, json_t *to) {
        json_t *name = cursor_name(loop);
        PmuxError error;

        if (name &&
            cli_call_quietly(loop->read.cli, "set-cursor",
                             json_pack("{s:O, s:o, s:O?}", "target",
                                       json_object_get(loop->read.params, "target"), "name", name, "to", to),
                             NULL, &error) < 0)
                (void)cli_fail(loop->read.cli, &error);
}

/* A deadline consumes nothing: the cursor goes back to where it was before the first piece, or to the
 * character whose end did not come. */
static void put_back(const ReadLoop *loop) {
        json_auto_t *to = loop->amid ? json_integer((json_int_t)loop->begin) : json_incref(loop->cursor);

        if (loop->moved)
                move_cursor(loop, to);
}

/* What is asked for from now on. Return: 0, or the exit status after a complaint. */
static int set_for(ReadLoop *loop, const char *what, const char *key, json_t *value) {
        static const char *const others[] = { "n", "separator", "pattern", "quiet_usec" };
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(others); i++)
                (void)json_object_del(loop->read.params, others[i]);
        r = read_params_set(&loop->read, key, value);
        return r != 0 ? r : read_params_set(&loop->read, "for", json_string(what));
}

/* Whether what satisfies it may end within a character, which then is read to its end: not where the number
 * of bytes is what was asked for, nor where nothing can come any more. */
static bool reads_on(const ReadLoop *loop) {
        static const char *const kinds[] = { "bytes", "line", "separator", "pattern" };

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (strcmp(loop->kind, kinds[i]) == 0)
                        return true;
        return false;
}

/* What was read for may end within a character, which is read to its end: byte by byte, as nothing behind it
 * was asked for. Return: whether it is so; *ret_status as below. */
static bool begin_byte(ReadLoop *loop, const json_t *result, int *ret_status) {
        uint64_t offset;
        size_t n;

        n = reads_on(loop) ? filter_begun(&loop->read.filter, &offset) : 0;
        if (n == 0)
                return false;
        loop->had_any |= loop->amid ? offset != loop->begin : integer_of(result, "bytes") > (json_int_t)n;
        loop->begin = offset;
        loop->amid = loop->moved = true;
        *ret_status = set_for(loop, "exactly", "n", json_integer(1));
        return true;
}

/* What comes behind an answer. */
typedef enum Behind {
        BEHIND_NOTHING, /* by now, or by the deadline */
        BEHIND_MORE,
        BEHIND_END, /* of the run; or bytes are lost there */
} Behind;

/* Consumes nothing. Return: 0, or the exit status after a complaint. */
static int look_behind(const ReadLoop *loop, const json_t *answer, bool wait, Behind *ret_behind) {
        json_t *params, *found;
        const char *reason;
        int r;

        params = json_pack("{s:O, s:n, s:O*, s:O, s:s, s:i}", "target",
                           json_object_get(loop->read.params, "target"), "cursor", "sources",
                           json_object_get(loop->read.params, "sources"), "from",
                           json_object_get(answer, "next"), "for", "exactly", "n", 1);
        if (params)
                read_params_add_timeout(&loop->read, params, wait);
        r = cli_call(loop->read.cli, "read", params, &found);
        if (r != 0)
                return r;
        reason = json_string_value(json_object_get(found, "reason"));
        if (reason && strcmp(reason, "timeout") == 0)
                *ret_behind = BEHIND_NOTHING;
        else if (reason && strcmp(reason, "satisfied") == 0 && !json_object_get(found, "lost") &&
                 integer_of(found, "run") == integer_of(answer, "run"))
                *ret_behind = BEHIND_MORE;
        else
                *ret_behind = BEHIND_END;
        json_decref(found);
        return 0;
}

/* Quiet came within a character. That is left for the next read of the cursor, but where nothing can come any
 * more; where it is all that has come its end is waited for, and then for quiet again. Return: as
 * on_answer(), or 0: go on with the answer. */
static int on_quiet(ReadLoop *loop, const json_t *answer, int *ret_status) {
        json_auto_t *name = cursor_name(loop);
        Behind behind;
        size_t n;

        n = filter_begun(&loop->read.filter, &loop->begin);
        loop->had_any |= integer_of(answer, "bytes") > (json_int_t)n;
        if (n == 0 || (loop->had_any && !name && !loop->peek))
                return 0; /* without a cursor nobody would find it */
        loop->amid = loop->moved = true;
        put_back(loop);
        *ret_status = look_behind(loop, answer, !loop->had_any, &behind);
        if (*ret_status != 0)
                return -1;
        if (behind == BEHIND_END) {
                move_cursor(loop, json_object_get(answer, "next"));
                return 0;
        }
        filter_drop(&loop->read.filter);
        if (loop->had_any)
                return 0;
        *ret_status = behind == BEHIND_NOTHING
                              ? STATUS_DEADLINE
                              : read_params_set(&loop->read, "from", json_integer((json_int_t)loop->begin));
        if (*ret_status == 0 && !loop->read.what) /* of an answer, by default */
                *ret_status = set_for(loop, "quiet", "quiet_usec", json_integer(ASK_QUIET_USEC));
        return *ret_status == 0 ? 1 : -1;
}

/* So much is there that it does not fit into an answer: the most that does. */
static int read_large_piece(ReadLoop *loop, json_t **ret_result) {
        json_t *params;
        int r;

        r = note_cursor(loop);
        if (r != 0)
                return r;
        params = read_params_now(&loop->read);
        if (!params)
                return cli_out_of_memory();
        (void)json_object_del(params, "quiet_usec");
        (void)json_object_set_new(params, "for", json_string("exactly"));
        (void)json_object_set_new(params, "n", json_integer(READ_PIECE_BYTES));
        return cli_call(loop->read.cli, "read", params, ret_result);
}

/* Whether more is wanted than fits into an answer, which is known beforehand. */
static bool wants_pieces(const ReadLoop *loop) {
        return loop->read.n > READ_PIECE_BYTES && strcmp(loop->read.what, "exactly") == 0;
}

/* Such a piece is had. Return: whether there is more to come. */
static bool count_piece(ReadLoop *loop, json_t *result, bool is_satisfied) {
        loop->read.n -= READ_PIECE_BYTES;
        if (!is_satisfied && json_object_get(result, "missing"))
                (void)json_object_set_new(
                        result, "missing",
                        json_integer(integer_of(result, "missing") + (json_int_t)loop->read.n));
        (void)read_params_set(&loop->read, "n",
                              json_integer((json_int_t)MIN(loop->read.n, READ_PIECE_BYTES)));
        return is_satisfied;
}

/* An answer has come. @more: it is a piece of what there is. Return: 0: it was the last, *ret_status is set;
 * 1: there is more; -1: *ret_status, after a complaint. */
static int on_answer(ReadLoop *loop, json_t *result, bool more, int *ret_status) {
        const char *reason = json_string_value(json_object_get(result, "reason"));
        bool is_satisfied = reason && strcmp(reason, "satisfied") == 0;
        int r;

        if (!more && wants_pieces(loop))
                more = count_piece(loop, result, is_satisfied);
        *ret_status = read_params_print(&loop->read, result, more);
        if (*ret_status == 0 && !more && is_satisfied && strcmp(loop->kind, "quiet") == 0) {
                r = on_quiet(loop, result, ret_status);
                if (r != 0)
                        return r;
        }
        if (*ret_status == 0 && !more && is_satisfied)
                more = begin_byte(loop, result, ret_status);
        if (*ret_status == 0 && more)
                *ret_status = piece_done(loop, result);
        if (*ret_status != 0)
                return -1;
        if (more)
                return 1;
        *ret_status = read_params_status(&loop->read, result);
        if (*ret_status == STATUS_DEADLINE)
                put_back(loop);
        if (loop->amid && (*ret_status == STATUS_FAILED || (*ret_status == STATUS_DEADLINE && loop->had_any)))
                *ret_status = STATUS_OK; /* it had what it read for */
        return 0;
}

/* Return: as on_answer(). */
static int read_piece(ReadLoop *loop, int *ret_status) {
        bool more = false, in_pieces = !loop->read.has_max && read_params_to_the_end(&loop->read);
        json_auto_t *result = NULL;
        PmuxError error;

        *ret_status = wants_pieces(loop) ? note_cursor(loop) : 0;
        if (*ret_status != 0)
                return -1;
        if (cli_call_quietly(loop->read.cli, "read", read_params_now(&loop->read), &result, &error) < 0) {
                if (!in_pieces || strcmp(error.code, "too-large") != 0) {
                        *ret_status = cli_fail(loop->read.cli, &error);
                        return -1;
                }
                *ret_status = read_large_piece(loop, &result);
                if (*ret_status != 0)
                        return -1;
                more = true;
        }
        return on_answer(loop, result, more, ret_status);
}

int read_loop_run(ReadLoop *loop, json_t *answer) {
        int r = 1, status;

        loop->kind = loop->read.what ? loop->read.what : answer ? "quiet" : "bytes";
        if (answer)
                r = on_answer(loop, answer, false, &status);
        while (r > 0 && cli_finish(0) == 0)
                r = read_piece(loop, &status);
        return r > 0 ? STATUS_PMUX : status;
}

void read_loop_deinit(ReadLoop *loop) {
        json_decref(loop->cursor);
        read_params_deinit(&loop->read);
}
