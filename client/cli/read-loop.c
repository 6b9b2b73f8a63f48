/* SPDX-License-Identifier: MIT */

#include "client/cli/read-loop.h"

#include <string.h>

#include "client/cli/exit-status.h"
#include "common/clock.h"

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

/* A deadline consumes nothing: the cursor goes back to where it was before the first piece, or to the
 * character whose end did not come. */
static void put_back(ReadLoop *loop) {
        json_t *name = loop->moved ? cursor_name(loop) : NULL;
        json_auto_t *to = loop->amid ? json_integer((json_int_t)loop->begin) : json_incref(loop->cursor);
        PmuxError error;

        if (name &&
            cli_call_quietly(loop->read.cli, "set-cursor",
                             json_pack("{s:O, s:o, s:O?}", "target",
                                       json_object_get(loop->read.params, "target"), "name", name, "to", to),
                             NULL, &error) < 0)
                (void)cli_fail(loop->read.cli, &error);
}

/* Bytes that were read for may end within a character, which is read to its end: byte by byte, as nothing
 * behind it was asked for. Return: whether it is so; *ret_status as below. */
static bool begin_byte(ReadLoop *loop, const json_t *result, const char *reason, int *ret_status) {
        const char *what = loop->read.what ? loop->read.what : "bytes";
        uint64_t offset;
        size_t n;

        if (strcmp(what, "bytes") != 0 || !reason || strcmp(reason, "satisfied") != 0)
                return false;
        n = filter_begun(&loop->read.filter, &offset);
        if (n == 0)
                return false;
        if (!loop->amid) {
                loop->begin = offset;
                loop->had_any = integer_of(result, "bytes") > (json_int_t)n;
        }
        loop->amid = loop->moved = true;
        *ret_status = read_params_set(&loop->read, "for", json_string("exactly"));
        if (*ret_status == 0)
                *ret_status = read_params_set(&loop->read, "n", json_integer(1));
        return true;
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

/* One answer. Return: 0: it was the last, *ret_status is set; 1: there is more; -1: *ret_status, after a
 * complaint. */
static int read_piece(ReadLoop *loop, int *ret_status) {
        bool more = false, in_pieces = !loop->read.has_max && read_params_to_the_end(&loop->read);
        json_auto_t *result = NULL;
        PmuxError error;
        const char *reason;

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
        reason = json_string_value(json_object_get(result, "reason"));
        if (!more && wants_pieces(loop)) {
                loop->read.n -= READ_PIECE_BYTES;
                more = reason && strcmp(reason, "satisfied") == 0;
                if (!more && json_object_get(result, "missing"))
                        (void)json_object_set_new(
                                result, "missing",
                                json_integer(integer_of(result, "missing") + (json_int_t)loop->read.n));
                (void)read_params_set(&loop->read, "n",
                                      json_integer((json_int_t)MIN(loop->read.n, READ_PIECE_BYTES)));
        }
        *ret_status = read_params_print(&loop->read, result, more);
        if (*ret_status == 0)
                more |= begin_byte(loop, result, reason, ret_status);
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

int read_loop_run(ReadLoop *loop) {
        int r, status;

        do
                r = read_piece(loop, &status);
        while (r > 0 && cli_finish(0) == 0);
        return r > 0 ? STATUS_PMUX : status;
}

void read_loop_deinit(ReadLoop *loop) {
        json_decref(loop->cursor);
        read_params_deinit(&loop->read);
}
