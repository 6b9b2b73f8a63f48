/* SPDX-License-Identifier: MIT */

/* list, show, wait, renew, cancel, version. */

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

typedef enum WaitFor {
        WAIT_EXITED,
        WAIT_CLOSED,
        WAIT_EMPTY,
        WAIT_RUNNING,
        WAIT_READY,
} WaitFor;

static bool wait_target_met(const WaitTarget *target, int condition) {
        const Process *process = target->process;
        const unsigned closed = RUN_STDOUT_CLOSED | RUN_STDERR_CLOSED;

        if (condition == WAIT_RUNNING || condition == WAIT_READY)
                return process && process->state == PROCESS_RUNNING;
        if (!process || process->run.run != target->run)
                return true; /* removed, or started again: the run that was waited for is over */
        switch (condition) {
        case WAIT_CLOSED:
                return process->state != PROCESS_STARTING && (process->run.ended & closed) == closed;
        case WAIT_EMPTY:
                return !process_is_alive(process) &&
                       (process->run.run == 0 || process->run.ended & RUN_EMPTY);
        default:
                return !process_is_alive(process);
        }
}

/* Keeps the status of a target in the answer: when its condition is met, when it goes away, at the end. */
static void wait_remember(Wait *wait, size_t i) {
        WaitTarget *target = &wait->targets[i];
        json_t *status;

        if (!target->process || target->flag)
                return;
        status = status_of_run_to_json(wait->host->supervisor->registry, target->process, target->run);
        if (status)
                (void)json_array_set_new(wait->context, i, status);
}

static int wait_check(Wait *wait) {
        Error error = {};
        size_t n_met = 0;
        bool satisfied;

        for (size_t i = 0; i < wait->n; i++) {
                WaitTarget *target = &wait->targets[i];

                if (!target->process && wait->condition >= WAIT_RUNNING) {
                        (void)error_set(&error, ERROR_NOT_FOUND, "process %" PRIu64 " was removed",
                                        target->id);
                        return wait_answer(wait, NULL, &error);
                }
                if (!target->flag && wait_target_met(target, wait->condition)) {
                        wait_remember(wait, i);
                        target->flag = true;
                }
                n_met += target->flag;
        }
        satisfied = wait->any ? n_met > 0 : n_met == wait->n;
        if (!satisfied && !wait->timed_out)
                return 0;
        for (size_t i = 0; i < wait->n; i++)
                wait_remember(wait, i);
        return wait_answer(wait,
                           json_pack("{s:s, s:O}", "reason", satisfied ? "satisfied" : "timeout", "processes",
                                     wait->context),
                           NULL);
}

int request_wait(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        static const char *const words[] = { "exited", "closed", "empty", "running", "ready", NULL };
        uint64_t timeout = USEC_INFINITY;
        int condition = WAIT_EXITED, r;
        Process **processes;
        bool any = false;
        Wait *wait;
        size_t n;

        (void)ret_result;
        if ((r = params_choice(params, "for", words, &condition, reterr_error)) < 0 ||
            (r = params_bool(params, "any", &any, reterr_error)) < 0 ||
            (r = params_u64(params, "timeout_usec", 0, INT64_MAX / 4, &timeout, reterr_error)) < 0 ||
            (r = request_targets(request, params, &processes, &n, reterr_error)) < 0)
                return r;
        if (r >= 0)
                r = wait_new(&wait, request->host, request, processes, n, wait_check, timeout, reterr_error);
        free(processes);
        if (r < 0)
                return r;
        wait->condition = condition;
        wait->any = any;
        wait->context = json_array();
        wait->on_removed = wait_remember;
        for (size_t i = 0; wait->context && i < n; i++)
                (void)json_array_append_new(wait->context, json_null());
        return r;
}

int request_renew(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        Process *process;
        int r;

        (void)ret_result;
        if ((r = request_target(request, params, &process, reterr_error)) < 0)
                return r;
        if (!process_is_alive(process))
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
        Error error = {};

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
