/* SPDX-License-Identifier: MIT */

/* list, show, renew, cancel, version. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/status-json.h"
#include "daemon/engine/wait.h"

int request_list(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        CLEANUP(json_text_deinit) JsonText text = {};
        uint64_t oldest, latest = 0;
        const char *before = "";
        uint32_t fields;
        bool all = true;
        int r;

        (void)ret_result;
        if ((r = params_bool(params, "all", &all, reterr_error)) < 0 ||
            (r = status_fields(&fields, params_get(params, "fields"), reterr_error)) < 0 ||
            (r = registry_event_range(request->host->supervisor->registry, &oldest, &latest, reterr_error)) <
                    0)
                return r;
        json_text_literal(&text, "{\"processes\":[");
        LIST_FOREACH(Process, process, &request->host->supervisor->processes, link) {
                if (!all && !process_is_alive(process))
                        continue;
                json_text_raw(&text, before, strlen(before));
                status_write(process, fields, &text);
                before = ",";
        }
        json_text_literal(&text, "],\"seq\":");
        json_text_number(&text, latest);
        json_text_literal(&text, "}");
        return request_answer_text(request, &text);
}

static int show_on_run(const RegistryRun *run, void *userdata) {
        return json_array_append_new(userdata, run_to_json(run)) < 0 ? -ENOMEM : 0;
}

int request_show(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        json_t *object, *runs;
        Process *process;
        uint32_t fields;
        int r;

        if ((r = request_target(request, params, &process, reterr_error)) < 0 ||
            (r = status_fields(&fields, params_get(params, "fields"), reterr_error)) < 0)
                return r;
        object = status_to_json(process, fields);
        if (fields != STATUS_FIELDS_ALL) {
                *ret_result = object;
                return object ? 0 : -ENOMEM;
        }
        runs = json_array();
        r = object && runs ? show_add_details(process, object) : -ENOMEM;
        if (r >= 0)
                supervisor_store_runs(request->host->supervisor);
        r = registry_runs(request->host->supervisor->registry, process->id, 100, show_on_run, runs,
                          reterr_error);
        if (r < 0) {
                json_decref(object);
                json_decref(runs);
                return r;
        }
        (void)json_object_set_new(object, "runs", runs);
        *ret_result = object;
        return 0;
}

int request_renew(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        Process *process;
        int r;

        (void)ret_result;
        if ((r = request_target(request, params, &process, reterr_error)) < 0)
                return r;
        if (!process_has_tree(process))
                return error_set(reterr_error, ERROR_NOT_RUNNING, "the process is not running");
        if (process->config.lease == LEASE_NONE)
                return error_set(reterr_error, ERROR_WRONG_STATE, "the process has no lease");
        if (process->config.lease == LEASE_CLIENT)
                process_set_lease_holder(process, request->client);
        process_renew_lease(process);
        return 0;
}

int request_cancel(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        const json_t *id = params_get(params, "request");
        const char *queue = NULL;
        Error error = {};
        int r;

        r = params_string(params, "queue", QUEUE_NAME_MAX, &queue, reterr_error);
        if (r > 0)
                queue_cancel(&request->host->queues, queue);
        if (r < 0 || (queue && !id))
                return MIN(r, 0);
        LIST_FOREACH(Request, other, &request->client->requests, link)
                if (json_equal(other->id, id)) {
                        (void)error_set(&error, ERROR_CANCELLED, "the request was cancelled");
                        other->on_cancel(other);
                        request_answer(other, NULL, &error);
                        return 0;
                }
        return error_set(reterr_error, ERROR_INVALID,
                         "request: no request with this id waits on this connection");
}

int request_version(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        *ret_result = json_pack("{s:s, s:i}", "version", PMUX_VERSION, "protocol", PROTOCOL_VERSION);
        return *ret_result ? 0 : -ENOMEM;
}
