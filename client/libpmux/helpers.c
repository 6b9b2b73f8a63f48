/* SPDX-License-Identifier: MIT */

/* One function for one method, for programs that would rather not write JSON. */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "client/libpmux/call.h"
#include "client/libpmux/connection.h"
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
