/* SPDX-License-Identifier: MIT */

#include "daemon/engine/request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "daemon/engine/error-json.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/subscription.h"

#define ID_MAX 64 /* bytes of a request's id */

typedef struct Method {
        const char *name;
        RequestHandler handler;
        const char *members; /* of params, each followed by a space or the end */
} Method;

static const Method methods[] = {
#define METHOD(name, handler, members) { name, handler, members },
#include "daemon/engine/request-table.h"
#undef METHOD
};

static Request *request_free(Request *request) {
        if (!request)
                return NULL;
        if (list_linked(&request->link)) {
                list_remove(&request->link);
                request->client->n_requests--;
        }
        json_decref(request->id);
        free(request);
        return NULL;
}

/* Takes over 'result' and 'error'. */
static void request_send(Client *client, json_t *id, json_t *result, json_t *error) {
        json_t *object = NULL;

        if (result || error)
                object = json_pack("{s:s, s:O?, s:o*, s:o*}", "jsonrpc", "2.0", "id", id, "result", result,
                                   "error", error);
        (void)client_send_json(client, object); /* out of memory: the client asks again, with its key */
        json_decref(object);
}

void request_answer(Request *request, json_t *result, const Error *error) {
        request_send(request->client, request->id, result,
                     !result && error && error->code != ERROR_NONE ? error_to_json(error) : NULL);
        (void)request_free(request);
}

int request_answer_text(Request *request, const JsonText *result) {
        CLEANUP(json_text_deinit) JsonText text = {};

        json_text_literal(&text, "{\"jsonrpc\":\"2.0\",\"id\":");
        json_text_value(&text, json_incref(request->id));
        json_text_literal(&text, ",\"result\":");
        json_text_raw(&text, result->data, result->size);
        json_text_literal(&text, "}");
        if (json_text_failed(result) || json_text_failed(&text))
                return -ENOMEM;
        (void)client_send_frame(request->client, FRAME_CONTROL, 0, text.data, text.size);
        (void)request_free(request);
        return REQUEST_ANSWERED;
}

int request_may_wait(const Request *request, Error *reterr_error) {
        if (request->client->n_requests >= LIMIT_REQUESTS_PER_CLIENT)
                return error_set(reterr_error, ERROR_LIMIT, "this connection has %d requests waiting already",
                                 LIMIT_REQUESTS_PER_CLIENT);
        return 0;
}

int request_defer(Request *request, void (*on_cancel)(Request *request), void *waiter, Error *reterr_error) {
        Client *client = request->client;
        int r;

        r = request_may_wait(request, reterr_error);
        if (r < 0)
                return r;
        request->on_cancel = on_cancel;
        request->waiter = waiter;
        list_append(&client->requests, &request->link);
        client->n_requests++;
        return REQUEST_WAITS;
}

void request_undefer(Request *request) {
        list_remove(&request->link);
        request->client->n_requests--;
}

void requests_drop(Client *client) {
        LIST_FOREACH(Request, request, &client->requests, link) {
                request->on_cancel(request);
                (void)request_free(request);
        }
}

static int request_parse_error(Client *client, const json_error_t *json_error) {
        json_t *error;

        error = json_pack("{s:i, s:s, s:{s:s, s:i, s:s, s:n}}", "code", -32700, "message", json_error->text,
                          "data", "code", error_wire_name(ERROR_INVALID), "errno", EINVAL, "errno_name",
                          "EINVAL", "step");
        request_send(client, NULL, NULL, error);
        return 0;
}

static int request_handle(Request *request, const json_t *object, json_t **ret_result, Error *reterr_error) {
        const json_t *method = json_object_get(object, "method");
        const char *name = json_string_value(method);
        Params params;
        int r;

        if (!json_is_object(object) || !name || !json_is_string(json_object_get(object, "jsonrpc")) ||
            strcmp(json_string_value(json_object_get(object, "jsonrpc")), "2.0") != 0)
                return error_set(reterr_error, ERROR_INVALID, "not a JSON-RPC 2.0 request");
        if (json_string_length(request->id) > ID_MAX) {
                json_decref(request->id);
                request->id = NULL; /* it is kept while the request waits: it must not be large */
                return error_set(reterr_error, ERROR_INVALID, "id: longer than %d bytes", ID_MAX);
        }
        if (!json_is_integer(request->id) && !json_is_string(request->id))
                return error_set(reterr_error, ERROR_INVALID, "id: neither an integer nor a string");
        LIST_FOREACH(Request, other, &request->client->requests, link)
                if (json_equal(other->id, request->id))
                        return error_set(reterr_error, ERROR_INVALID,
                                         "id: another request with this id waits");
        r = params_init(&params, json_object_get(object, "params"), reterr_error);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
                if (strcmp(methods[i].name, name) == 0) {
                        r = params_allow(&params, methods[i].members, reterr_error);
                        return r < 0 ? r : methods[i].handler(request, &params, ret_result, reterr_error);
                }
        return error_set(reterr_error, ERROR_UNKNOWN_METHOD, "there is no method '%.64s'", name);
}

int request_dispatch(RequestHost *host, Client *client, const char *text, size_t size) {
        json_error_t json_error;
        json_t *object, *result = NULL;
        Request *request;
        Error error = {};
        int r;

        object = json_loadb(text, size, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &json_error);
        if (!object && json_error_code(&json_error) == json_error_out_of_memory)
                return -ENOMEM;
        if (!object)
                return request_parse_error(client, &json_error);
        request = calloc(1, sizeof(*request));
        if (!request) {
                json_decref(object);
                return -ENOMEM;
        }
        request->client = client;
        request->host = host;
        request->id = json_incref(json_object_get(object, "id"));
        r = request_handle(request, object, &result, &error);
        json_decref(object);
        if (r == REQUEST_WAITS || r == REQUEST_ANSWERED)
                return 0;
        if (r < 0 && error.code == ERROR_NONE)
                (void)error_set_errno(&error, r, "the request failed");
        if (r >= 0 && !result)
                result = json_object();
        request_answer(request, r < 0 ? NULL : result, r < 0 ? &error : NULL);
        return 0;
}

static int find_target(Request *request, const json_t *value, const char *what, Process **ret_process,
                       Error *reterr_error) {
        Process *process;
        char *name;
        int r;

        if (json_is_integer(value)) {
                process = supervisor_find_id(request->host->supervisor, (uint64_t)json_integer_value(value));
                if (!process)
                        return error_set(reterr_error, ERROR_NOT_FOUND,
                                         "there is no process %" JSON_INTEGER_FORMAT,
                                         json_integer_value(value));
                *ret_process = process;
                return 0;
        }
        r = bytes_string_from_json(value, what, &name, reterr_error);
        if (r < 0)
                return r;
        process = supervisor_find_name(request->host->supervisor, name);
        r = process ? 0 : error_set(reterr_error, ERROR_NOT_FOUND, "there is no process '%.200s'", name);
        free(name);
        *ret_process = process;
        return r;
}

int request_target(Request *request, Params *params, Process **ret_process, Error *reterr_error) {
        const json_t *value = params_get(params, "target");

        if (!value)
                return error_set(reterr_error, ERROR_INVALID, "target: an id or a name is needed");
        return find_target(request, value, "target", ret_process, reterr_error);
}

int request_targets(Request *request, Params *params, Process ***ret_processes, size_t *ret_n,
                    Error *reterr_error) {
        const json_t *array = params_get(params, "targets");
        size_t n = json_array_size(array), n_found = 0;
        Process **processes;
        int r;

        if (!json_is_array(array) || n == 0 || n > LIMIT_LIST_TARGETS)
                return error_set(reterr_error, ERROR_INVALID,
                                 "targets: not an array of 1 to %d ids and names", LIMIT_LIST_TARGETS);
        processes = calloc(n, sizeof(*processes));
        if (!processes)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold the targets");
        for (size_t i = 0; i < n; i++) {
                bool known = false;
                Process *process;

                r = find_target(request, json_array_get(array, i), "targets", &process, reterr_error);
                if (r < 0) {
                        free(processes);
                        return r;
                }
                for (size_t j = 0; j < n_found && !known; j++)
                        known = processes[j] == process;
                if (!known)
                        processes[n_found++] = process;
        }
        *ret_processes = processes;
        *ret_n = n_found;
        return 0;
}
