/* SPDX-License-Identifier: MIT */

/* cursors, set-cursor: the named places in a log, told and moved by hand. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "daemon/engine/request-read.h"

static int add_cursor(const char *name, uint64_t offset, void *userdata) {
        return json_array_append_new(userdata, json_pack("{s:o, s:I}", "name", bytes_string_to_json(name),
                                                         "offset", (json_int_t)offset)) < 0
                       ? -ENOMEM
                       : 0;
}

int request_cursors(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        json_t *array;
        Process *process;
        int r;

        r = request_target(request, params, &process, reterr_error);
        if (r < 0)
                return r;
        array = json_array();
        r = registry_cursors(request->host->supervisor->registry, process->id, add_cursor, array,
                             reterr_error);
        if (r < 0) {
                json_decref(array);
                return r;
        }
        *ret_result = json_pack("{s:o}", "cursors", array);
        return 0;
}

int request_set_cursor(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        const json_t *to = json_object_get(params->object, "to"), *value = params_get(params, "name");
        const char *word = json_string_value(to);
        uint64_t offset = 0;
        Process *process;
        char *name = NULL;
        Log *log;
        int r;

        if ((r = request_target(request, params, &process, reterr_error)) < 0 ||
            (r = process_log(process, &log, reterr_error)) < 0 ||
            (r = read_parse_cursor(value, "name", &name, reterr_error)) < 0)
                return r;
        if (json_is_null(to))
                r = registry_drop_cursor(request->host->supervisor->registry, process->id, name,
                                         reterr_error);
        else if (json_is_integer(to) && json_integer_value(to) >= 0 &&
                 (uint64_t)json_integer_value(to) <= log_end(log))
                offset = (uint64_t)json_integer_value(to);
        else if (word && strcmp(word, "end") == 0)
                offset = log_end(log);
        else if (word && strcmp(word, "start") == 0)
                offset = log_begin(log);
        else
                r = error_set(reterr_error, ERROR_INVALID,
                              "to: not an offset up to the end, %" PRIu64 ", \"start\", \"end\" or null",
                              log_end(log));
        if (r >= 0 && !json_is_null(to))
                r = read_move_cursor(request->host, process, name, offset, reterr_error);
        free(name);
        if (r >= 0)
                *ret_result = json_is_null(to) ? json_pack("{s:n}", "offset")
                                               : json_pack("{s:I}", "offset", (json_int_t)offset);
        return r;
}
