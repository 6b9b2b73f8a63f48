/* SPDX-License-Identifier: MIT */

/* One function for one method, for programs that would rather not write JSON. */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/libpmux/call.h"
#include "client/libpmux/connection.h"
#include "client/libpmux/pmux-read.h"
#include "client/libpmux/pmux.h"
#include "common/bytes.h"

static int out_of_memory(PmuxError *reterr_error) {
        return error_export(reterr_error, &(Error){}, -ENOMEM);
}

/* Calls with params whose reference is taken over; NULL params: out of memory before. */
static int call_json(Pmux *pmux, const char *method, json_t *params, char **ret_result,
                     PmuxError *reterr_error) {
        char *text = NULL;
        int r;

        if (params)
                text = json_dumps(params, JSON_COMPACT);
        json_decref(params);
        if (!text)
                return out_of_memory(reterr_error);
        r = pmux_call(pmux, method, text, ret_result, reterr_error);
        free(text);
        return r;
}

static json_t *strings_to_json(const char *const *strings) {
        json_t *array = json_array();

        for (size_t i = 0; array && strings && strings[i]; i++)
                if (json_array_append_new(array, bytes_string_to_json(strings[i])) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

static char *run_params(const char *const *argv, const char *const *env, const char *cwd, const char *name) {
        json_auto_t *params = NULL;

        params = json_pack("{s:o, s:o, s:o*, s:o*}", "argv", strings_to_json(argv), "env",
                           strings_to_json(env), "cwd", cwd ? bytes_string_to_json(cwd) : NULL, "name",
                           name ? bytes_string_to_json(name) : NULL);
        return params ? json_dumps(params, JSON_COMPACT) : NULL;
}

int pmux_run(Pmux *pmux, const char *const *argv, const char *const *env, const char *cwd, const char *name,
             uint64_t *ret_id, PmuxStream **ret_stream, const PmuxStreamOptions *options,
             PmuxError *reterr_error) {
        json_auto_t *object = NULL;
        char *params, *result = NULL;
        int r;

        params = run_params(argv, env, cwd, name);
        if (!params)
                return out_of_memory(reterr_error);
        if (ret_stream)
                r = pmux_stream_open(pmux, "run", params, options, ret_stream, &result, reterr_error);
        else
                r = pmux_call(pmux, "run", params, &result, reterr_error);
        free(params);
        if (r < 0)
                return r;
        object = json_loads(result ? result : "", 0, NULL);
        free(result);
        if (ret_id)
                *ret_id = (uint64_t)json_integer_value(json_object_get(object, "id"));
        return 0;
}

int pmux_stop(Pmux *pmux, const char *target, uint64_t grace_usec, char **ret_result,
              PmuxError *reterr_error) {
        json_t *params = json_pack("{s:[o]}", "targets", target_to_json(target));

        if (params && grace_usec != PMUX_INFINITY)
                (void)json_object_set_new(params, "grace_usec", json_integer((json_int_t)grace_usec));
        return call_json(pmux, "stop", params, ret_result, reterr_error);
}

int pmux_signal(Pmux *pmux, const char *target, int signal, const char *scope, PmuxError *reterr_error) {
        return call_json(pmux, "signal",
                         json_pack("{s:[o], s:i, s:s}", "targets", target_to_json(target), "signal", signal,
                                   "scope", scope),
                         NULL, reterr_error);
}

static bool is_timeout(const char *result) {
        json_auto_t *object = NULL;
        json_t *reason;

        object = json_loads(result ? result : "", JSON_ALLOW_NUL, NULL);
        reason = json_object_get(object, "reason");
        return json_is_string(reason) && json_string_value(reason)[0] == 't';
}

int pmux_wait(Pmux *pmux, const char *target, const char *what, uint64_t timeout_usec, char **ret_result,
              PmuxError *reterr_error) {
        json_t *params = json_pack("{s:[o], s:s}", "targets", target_to_json(target), "for", what);
        char *result = NULL;
        Error error = {};
        int r;

        if (params && timeout_usec != PMUX_INFINITY)
                (void)json_object_set_new(params, "timeout_usec", json_integer((json_int_t)timeout_usec));
        r = call_json(pmux, "wait", params, &result, reterr_error);
        if (r == 0 && is_timeout(result))
                r = error_export(reterr_error, &error,
                                 error_set(&error, ERROR_TIMEOUT, "'%s' is not %s in time", target, what));
        if (r == 0 && ret_result)
                *ret_result = TAKE(result);
        free(result);
        return r;
}

int pmux_show(Pmux *pmux, const char *target, char **ret_result, PmuxError *reterr_error) {
        return call_json(pmux, "show", json_pack("{s:o}", "target", target_to_json(target)), ret_result,
                         reterr_error);
}

int pmux_list(Pmux *pmux, int all, char **ret_result, PmuxError *reterr_error) {
        return call_json(pmux, "list", json_pack("{s:b}", "all", all), ret_result, reterr_error);
}

int pmux_write(Pmux *pmux, const char *target, const void *data, size_t size, int eof,
               PmuxError *reterr_error) {
        return call_json(pmux, "write",
                         json_pack("{s:o, s:o, s:b}", "target", target_to_json(target), "data",
                                   bytes_to_json(data, size), "eof", eof),
                         NULL, reterr_error);
}

/* ---- cursors ---- */

int pmux_cursor_get(Pmux *pmux, const char *target, const char *name, uint64_t *ret_offset,
                    PmuxError *reterr_error) {
        json_auto_t *object = NULL, *wanted = NULL;
        char *result = NULL;
        Error error = {};
        json_t *cursor;
        size_t i;
        int r;

        r = call_json(pmux, "cursors", json_pack("{s:o}", "target", target_to_json(target)), &result,
                      reterr_error);
        if (r < 0)
                return r;
        object = json_loads(result, JSON_ALLOW_NUL, NULL);
        free(result);
        wanted = bytes_string_to_json(name);
        json_array_foreach(json_object_get(object, "cursors"), i, cursor) {
                if (!json_equal(json_object_get(cursor, "name"), wanted))
                        continue;
                *ret_offset = (uint64_t)json_integer_value(json_object_get(cursor, "offset"));
                return 0;
        }
        (void)error_set(&error, ERROR_NOT_FOUND, "'%s' has no cursor '%s'", target, name);
        error.errno_value = ENOENT;
        return error_export(reterr_error, &error, -ENOENT);
}

static int set_cursor(Pmux *pmux, const char *target, const char *name, json_t *to, uint64_t *ret_offset,
                      PmuxError *reterr_error) {
        json_auto_t *object = NULL;
        char *result = NULL;
        int r;

        r = call_json(pmux, "set-cursor",
                      json_pack("{s:o, s:o, s:o}", "target", target_to_json(target), "name",
                                bytes_string_to_json(name), "to", to),
                      &result, reterr_error);
        if (r < 0)
                return r;
        object = json_loads(result, JSON_ALLOW_NUL, NULL);
        free(result);
        if (ret_offset)
                *ret_offset = (uint64_t)json_integer_value(json_object_get(object, "offset"));
        return 0;
}

int pmux_cursor_set(Pmux *pmux, const char *target, const char *name, uint64_t offset, uint64_t *ret_offset,
                    PmuxError *reterr_error) {
        return set_cursor(pmux, target, name,
                          offset == PMUX_CURSOR_END
                                  ? json_string("end")
                                  : json_integer((json_int_t)MIN(offset, (uint64_t)INT64_MAX)),
                          ret_offset, reterr_error);
}

int pmux_cursor_delete(Pmux *pmux, const char *target, const char *name, PmuxError *reterr_error) {
        return set_cursor(pmux, target, name, json_null(), NULL, reterr_error);
}

/* ---- writing ---- */

int pmux_write_drain(Pmux *pmux, const char *target, const void *data, size_t size, unsigned flags,
                     uint64_t timeout_usec, const char *lock, PmuxError *reterr_error) {
        json_t *params = json_pack("{s:o, s:o, s:b, s:b, s:s*}", "target", target_to_json(target), "data",
                                   bytes_to_json(data, size), "eof", !!(flags & PMUX_WRITE_EOF), "drain",
                                   !!(flags & PMUX_WRITE_DRAIN), "lock", lock);

        if (params && flags & PMUX_WRITE_CONSUMED)
                (void)json_object_set_new(params, "consumed", json_true());
        if (params && timeout_usec > 0 && timeout_usec < INT64_MAX)
                (void)json_object_set_new(params, "timeout_usec", json_integer((json_int_t)timeout_usec));
        return call_json(pmux, "write", params, NULL, reterr_error);
}

int pmux_lock_stdin(Pmux *pmux, const char *target, const char *holder, uint64_t ttl_usec, char *token,
                    PmuxError *reterr_error) {
        int r;

        if (!*token) { /* made here, so that a repeated request is the same lock */
                r = pmux_key(token);
                if (r < 0)
                        return error_export(reterr_error, &(Error){}, r);
        }
        return call_json(pmux, "lock-stdin",
                         json_pack("{s:o, s:s, s:I, s:s}", "target", target_to_json(target), "holder", holder,
                                   "ttl_usec", (json_int_t)MIN(ttl_usec, (uint64_t)INT64_MAX), "lock", token),
                         NULL, reterr_error);
}

int pmux_unlock_stdin(Pmux *pmux, const char *target, const char *token, PmuxError *reterr_error) {
        return call_json(pmux, "unlock-stdin",
                         json_pack("{s:o, s:s}", "target", target_to_json(target), "lock", token), NULL,
                         reterr_error);
}

/* ---- the caller's own streams ---- */

int pmux_run_fds(Pmux *pmux, const char *const *argv, const char *const *env, const char *cwd,
                 const char *name, const int fds[3], uint64_t *ret_id, PmuxError *reterr_error) {
        static const char *const keys[] = { "stdin", "stdout", "stderr" };
        json_auto_t *object = NULL;
        char *text, *result = NULL;
        json_t *params = NULL;
        int sent[3], n = 0, r;

        text = run_params(argv, env, cwd, name);
        if (text)
                params = json_loads(text, JSON_ALLOW_NUL, NULL);
        free(text);
        for (size_t i = 0; params && i < ARRAY_SIZE(keys); i++) {
                if (fds[i] < 0)
                        continue;
                sent[n] = fds[i];
                (void)json_object_set_new(params, keys[i], json_pack("{s:i}", "fd", n++));
        }
        r = pmux_send_fds(pmux, sent, (size_t)n, reterr_error);
        if (r < 0) {
                json_decref(params);
                return r;
        }
        r = call_json(pmux, "run", params, &result, reterr_error);
        if (r < 0)
                return r;
        object = json_loads(result, JSON_ALLOW_NUL, NULL);
        free(result);
        if (ret_id)
                *ret_id = (uint64_t)json_integer_value(json_object_get(object, "id"));
        return 0;
}
