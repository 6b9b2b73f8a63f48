/* SPDX-License-Identifier: MIT */

#include "client/libpmux/call.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "client/libpmux/connection.h"
#include "client/libpmux/events.h"
#include "client/libpmux/input.h"
#include "client/libpmux/pmux-read.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/fd.h"

#define LONG_ANSWER 4096 /* bytes */
#define CONTROL_TO_DAEMON_MAX (8 * 1024 * 1024)

/* Takes the place of the data of a callback of the public kind. */
struct PmuxCall {
        List link;  /* in Pmux.calls */
        Pmux *pmux; /* borrowed */
        uint64_t id;
        char *text; /* owned; the whole request, to be sent again if need be */
        size_t text_size;
        bool sent;        /* on the socket of now */
        bool sent_before; /* on one that broke before the answer came */
        bool is_remove;
        bool is_wait;
        bool is_late;           /* it could not be sent when it was made, or was lost */
        json_t *request;        /* owned; of one with a time limit: it is sent with what is left of that */
        uint64_t deadline_usec; /* monotonic; of that one */
        int fds[LINK_FDS_MAX];  /* owned; go along with the request each time it is sent */
        size_t n_fds;
        CallFn fn; /* one of these two */
        PmuxReplyFn reply_fn;
        void *userdata; /* borrowed */
        void *owned;    /* owned; userdata, if it is */
};

/* The methods whose repetition is made harmless by a key (docs/protocol.md §3). */
static const char *const keyed_methods[] = { "run", "start", "restart", "write", "read", "ask" };

/* The methods that wait for so long as they say, from when they were asked. */
static const char *const timed_methods[] = { "wait", "write", "read", "ask" };

int pmux_key(char ret_key[PMUX_KEY_SIZE]) {
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
        uint8_t random[PMUX_KEY_SIZE - 1];
        ssize_t n;

        do
                n = getrandom(random, sizeof(random), 0);
        while (n < 0 && errno == EINTR);
        if (n != (ssize_t)sizeof(random))
                return n < 0 ? -errno : -EIO;
        for (size_t i = 0; i < sizeof(random); i++)
                ret_key[i] = letters[random[i] % 32];
        ret_key[PMUX_KEY_SIZE - 1] = '\0';
        return 0;
}

void fds_close(int *fds, size_t *n_fds) {
        while (*n_fds > 0)
                (void)fd_close(fds[--*n_fds]);
}

int pmux_send_fds(Pmux *pmux, const int *fds, size_t n_fds, PmuxError *reterr_error) {
        Error error = {};
        int fd, r;

        fds_close(pmux->next_fds, &pmux->n_next_fds);
        if (n_fds > LINK_FDS_MAX)
                return error_export(reterr_error, &error,
                                    error_set(&error, ERROR_INVALID,
                                              "a request takes at most %d descriptors along", LINK_FDS_MAX));
        for (size_t i = 0; i < n_fds; i++) {
                fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
                if (fd < 0) {
                        r = error_set_errno(&error, errno, "descriptor %d cannot be sent", fds[i]);
                        fds_close(pmux->next_fds, &pmux->n_next_fds);
                        return error_export(reterr_error, &error, r);
                }
                pmux->next_fds[pmux->n_next_fds++] = fd;
        }
        return 0;
}

static PmuxCall *call_free(PmuxCall *call) {
        list_remove(&call->link);
        fds_close(call->fds, &call->n_fds);
        free(call->text);
        json_decref(call->request);
        free(call->owned);
        free(call);
        return NULL;
}

/* Puts what is left of its time into a request. At least a little, as none at all means something else. */
static void call_renew(PmuxCall *call) {
        uint64_t now = clock_monotonic_usec(),
                 left = call->deadline_usec > now ? call->deadline_usec - now : 1;
        json_t *params = json_copy(json_object_get(call->request, "params"));
        char *text = NULL;

        if (json_object_set_new(params, "timeout_usec", json_integer((json_int_t)left)) == 0 &&
            json_object_set(call->request, "params", params) == 0)
                text = json_dumps(call->request, JSON_COMPACT);
        json_decref(params);
        if (!text)
                return; /* out of memory: rather too long than not at all */
        free(call->text);
        call->text = text;
        call->text_size = strlen(text);
}

static void call_send(PmuxCall *call) {
        uint64_t position = link_position(&call->pmux->link);

        if (call->sent || !connection_up(call->pmux))
                return;
        if (call->request && call->is_late)
                call_renew(call);
        /* Out of memory: it stays unsent and goes with the next socket; better than a lost request. */
        call->sent =
                connection_send(call->pmux, FRAME_CONTROL, 0, 0, call->text, call->text_size, NULL, 0) == 0;
        if (call->sent && call->n_fds > 0) /* without them the daemon refuses it, which is an answer, too */
                (void)link_queue_fds(&call->pmux->link, position, call->fds, call->n_fds);
        connection_kick(call->pmux);
}

static int add_key(const char *method, json_t *params) {
        char key[PMUX_KEY_SIZE];
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(keyed_methods); i++) {
                if (strcmp(method, keyed_methods[i]) != 0 || json_object_get(params, "key"))
                        continue;
                r = pmux_key(key);
                if (r < 0)
                        return r;
                return json_object_set_new(params, "key", json_string(key)) < 0 ? -ENOMEM : 0;
        }
        return 0;
}

/* Its time, if it has a limit, begins now, whenever the daemon gets to hear of it. */
static void call_take_time(PmuxCall *call, const char *method, json_t *request) {
        const json_t *timeout = json_object_get(json_object_get(request, "params"), "timeout_usec");

        for (size_t i = 0; i < ARRAY_SIZE(timed_methods); i++) {
                if (strcmp(method, timed_methods[i]) != 0 || json_integer_value(timeout) <= 0)
                        continue;
                call->deadline_usec = clock_monotonic_usec() +
                                      MIN((uint64_t)json_integer_value(timeout), (uint64_t)INT64_MAX / 4);
                call->request = json_incref(request);
        }
}

static int call_start_any(Pmux *pmux, const char *method, json_t *params, const PmuxCall *callbacks,
                          PmuxCall **ret_call, Error *reterr_error) {
        json_auto_t *request = NULL;
        PmuxCall *call;
        int r;

        if (pmux->state == CONNECTION_FAILED) {
                json_decref(params);
                if (reterr_error)
                        *reterr_error = pmux->failure;
                return -abs(pmux->failure.errno_value);
        }
        r = add_key(method, params);
        request = json_pack("{s:s, s:I, s:s, s:o}", "jsonrpc", "2.0", "id", (json_int_t)++pmux->next_request,
                            "method", method, "params", params);
        call = calloc(1, sizeof(*call));
        if (r < 0 || !request || !call) {
                free(call);
                return error_set_errno(reterr_error, r < 0 ? r : ENOMEM, "cannot make a request");
        }
        *call = *callbacks;
        call->pmux = pmux;
        call->id = pmux->next_request;
        call->is_remove = strcmp(method, "remove") == 0;
        call->is_wait = strcmp(method, "wait") == 0;
        call_take_time(call, method, request);
        memcpy(call->fds, pmux->next_fds, sizeof(call->fds)); /* they are its own now */
        call->n_fds = pmux->n_next_fds;
        pmux->n_next_fds = 0;
        list_append(&pmux->calls, &call->link);
        call->text = json_dumps(request, JSON_COMPACT);
        call->text_size = call->text ? strlen(call->text) : 0;
        if (!call->text || call->text_size > CONTROL_TO_DAEMON_MAX) {
                r = call->text ? error_set(reterr_error, ERROR_TOO_LARGE,
                                           "a request of %zu bytes is over the bound of %d", call->text_size,
                                           CONTROL_TO_DAEMON_MAX)
                               : error_set_errno(reterr_error, ENOMEM, "cannot make a request");
                call->owned = NULL; /* it stays the caller's */
                (void)call_free(call);
                return r;
        }
        call_send(call);
        call->is_late = !call->sent;
        if (ret_call)
                *ret_call = call;
        return 0;
}

int call_start(Pmux *pmux, const char *method, json_t *params, CallFn fn, void *userdata, PmuxCall **ret_call,
               Error *reterr_error) {
        return call_start_any(pmux, method, params, &(PmuxCall){ .fn = fn, .userdata = userdata }, ret_call,
                              reterr_error);
}

int call_start_owning(Pmux *pmux, const char *method, json_t *params, CallFn fn, void *userdata,
                      PmuxCall **ret_call, Error *reterr_error) {
        return call_start_any(pmux, method, params,
                              &(PmuxCall){ .fn = fn, .userdata = userdata, .owned = userdata }, ret_call,
                              reterr_error);
}

PmuxCall *pmux_call_forget(PmuxCall *call) {
        return call ? call_free(call) : NULL;
}

/* Ends a call: it is off the list and freed by the time its function runs, so that this may do anything. */
static void call_finish(PmuxCall *call, json_t *result, const Error *error) {
        CallFn fn = call->fn;
        PmuxReplyFn reply_fn = call->reply_fn;
        void *userdata = call->userdata, *owned = TAKE(call->owned);
        Pmux *pmux = call->pmux;
        PmuxError exported;
        char *text = NULL;

        (void)call_free(call);
        if (fn) {
                fn(pmux, result, error, userdata);
                free(owned);
                return;
        }
        if (!reply_fn)
                return;
        if (result)
                text = json_dumps(result, JSON_COMPACT | JSON_ENCODE_ANY);
        if (!text)
                (void)error_export(&exported, error ? error : &(Error){}, -ENOMEM);
        reply_fn(pmux, text, text ? NULL : &exported, userdata);
        free(text);
}

int call_error_from_json(const json_t *json, Error *reterr_error) {
        const json_t *data = json_object_get(json, "data");
        const char *name = json_string_value(json_object_get(data, "code"));
        const char *message = json_string_value(json_object_get(json, "message"));
        const char *step = json_string_value(json_object_get(data, "step"));
        json_int_t errno_value = json_integer_value(json_object_get(data, "errno"));
        ErrorCode code = name ? error_from_wire_name(name) : ERROR_SYSTEM;
        Error scratch, *error = reterr_error ? reterr_error : &scratch;

        (void)error_set(error, code, "%s", message && *message ? message : error_sentence(code));
        if (errno_value > 0 && errno_value < 4096)
                error->errno_value = (int)errno_value;
        if (step)
                (void)error_set_step(error, 0, step);
        return -error->errno_value;
}

static PmuxCall *find_call(Pmux *pmux, uint64_t id) {
        LIST_FOREACH(PmuxCall, call, &pmux->calls, link)
                if (call->id == id)
                        return call;
        return NULL;
}

static void on_answer(Pmux *pmux, const json_t *message) {
        json_t *result = json_object_get(message, "result"), *id = json_object_get(message, "id");
        json_auto_t *gone = NULL;
        PmuxCall *call;
        Error error = {};

        call = json_is_integer(id) ? find_call(pmux, (uint64_t)json_integer_value(id)) : NULL;
        if (!call)
                return; /* forgotten meanwhile */
        if (result) {
                call_finish(call, result, NULL);
                return;
        }
        (void)call_error_from_json(json_object_get(message, "error"), &error);
        if (call->is_remove && call->sent_before && error.code == ERROR_NOT_FOUND) {
                gone = json_object(); /* the first attempt had done it; only its answer was lost */
                call_finish(call, gone, gone ? NULL : &error);
                return;
        }
        call_finish(call, NULL, &error);
}

/* A long answer that is wanted as text need not be read and written again, nor copied: as the daemon writes
 * it, the result stands between this prefix and the last brace, which gives its place to the end of the
 * string. What looks any other way is read. Return: whether it was one. */
static bool on_long_answer(Pmux *pmux, char *text, size_t size) {
        unsigned long long id;
        PmuxCall *call;
        PmuxReplyFn reply_fn;
        char head[64];
        void *userdata;
        int n = 0;

        if (size < LONG_ANSWER)
                return false;
        memcpy(head, text, sizeof(head) - 1);
        head[sizeof(head) - 1] = '\0';
        if (sscanf(head, "{\"jsonrpc\":\"2.0\",\"id\":%18llu,\"result\":%n", &id, &n) != 1 || n == 0 ||
            text[n] != '{' || text[size - 2] != '}' || text[size - 1] != '}')
                return false;
        call = find_call(pmux, id);
        if (!call || call->fn || !call->reply_fn)
                return false;
        text[size - 1] = '\0';
        reply_fn = call->reply_fn;
        userdata = call->userdata;
        (void)call_free(call);
        reply_fn(pmux, text + n, NULL, userdata);
        return true;
}

int calls_on_control(Pmux *pmux, uint8_t *payload, size_t size, Error *reterr_error) {
        json_auto_t *message = NULL;
        const char *method;
        json_t *params;

        if (on_long_answer(pmux, (char *)payload, size))
                return 0;
        message = json_loadb((const char *)payload, size, JSON_ALLOW_NUL, NULL);
        if (!json_is_object(message))
                return error_set(reterr_error, ERROR_PROTOCOL, "the daemon sent what is not a JSON object");
        method = json_string_value(json_object_get(message, "method"));
        if (!method) {
                on_answer(pmux, message);
                return 0;
        }
        params = json_object_get(message, "params");
        if (strcmp(method, "event") == 0)
                events_on_event(pmux, params);
        else if (strcmp(method, "stdin-closed") == 0)
                inputs_on_closed(pmux, params);
        return 0; /* notifications that are not known are for later clients */
}

void calls_lost(Pmux *pmux) {
        LIST_FOREACH(PmuxCall, call, &pmux->calls, link) {
                call->sent_before |= call->sent;
                call->sent = false;
                call->is_late = true;
        }
}

void calls_resend(Pmux *pmux) {
        LIST_FOREACH(PmuxCall, call, &pmux->calls, link)
                call_send(call);
}

/* Whether it may be answered by the clock alone, while there is no daemon to ask: nothing can have come of it
 * but an answer that was lost. */
static bool call_may_expire(const PmuxCall *call) {
        return call->request && !call->sent && (call->is_wait || !call->sent_before);
}

uint64_t calls_deadline(const Pmux *pmux) {
        uint64_t deadline = USEC_INFINITY;

        LIST_FOREACH(PmuxCall, call, &pmux->calls, link)
                if (call_may_expire(call))
                        deadline = MIN(deadline, call->deadline_usec);
        return deadline;
}

void calls_expire(Pmux *pmux) {
        uint64_t now = clock_monotonic_usec();
        PmuxCall *expired;
        Error error = {};

        (void)error_set(&error, ERROR_TIMEOUT, "the time is over, and the daemon at %s has not come back",
                        pmux->socket_path);
        do { /* each tells somebody, who may do anything */
                expired = NULL;
                LIST_FOREACH(PmuxCall, call, &pmux->calls, link)
                        if (!expired && call_may_expire(call) && call->deadline_usec <= now)
                                expired = call;
                if (expired)
                        call_finish(expired, NULL, &error);
        } while (expired);
}

void calls_fail(Pmux *pmux, const Error *error) {
        while (!list_empty(&pmux->calls))
                call_finish(CONTAINER_OF(pmux->calls.next, PmuxCall, link), NULL, error);
}

void calls_free(Pmux *pmux) {
        LIST_FOREACH(PmuxCall, call, &pmux->calls, link)
                (void)call_free(call);
}

int params_parse(const char *text, json_t **ret_params, Error *reterr_error) {
        json_t *params;

        params = text ? json_loads(text, JSON_ALLOW_NUL, NULL) : json_object();
        if (!json_is_object(params)) {
                json_decref(params);
                return error_set(reterr_error, ERROR_INVALID, "the parameters are not a JSON object");
        }
        *ret_params = params;
        return 0;
}

json_t *target_to_json(const char *target) {
        bool is_id = *target && strspn(target, "0123456789") == strlen(target);

        errno = 0;
        if (is_id && strlen(target) < 19)
                return json_integer((json_int_t)strtoll(target, NULL, 10));
        return bytes_string_to_json(target);
}

json_t *sources_to_json(unsigned flags) {
        return json_pack("[s*, s*, s*]", flags & PMUX_READ_STDOUT ? "stdout" : NULL,
                         flags & PMUX_READ_STDERR ? "stderr" : NULL,
                         flags & PMUX_READ_STDIN ? "stdin" : NULL);
}

int params_set_target(json_t *params, const char *target) {
        return json_object_set_new(params, "target", target_to_json(target)) < 0 ? -ENOMEM : 0;
}

int pmux_call_start(Pmux *pmux, const char *method, const char *params, PmuxReplyFn fn, void *userdata,
                    PmuxCall **ret_call, PmuxError *reterr_error) {
        json_t *object = NULL;
        Error error = {};
        int r;

        r = params_parse(params, &object, &error);
        if (r == 0)
                r = call_start_any(pmux, method, object, &(PmuxCall){ .reply_fn = fn, .userdata = userdata },
                                   ret_call, &error);
        return r < 0 ? error_export(reterr_error, &error, r) : 0;
}

/* What a blocking call waits for. */
typedef struct Answer {
        bool done;
        char *result; /* owned */
        PmuxError error;
} Answer;

static void on_blocking_answer(Pmux *pmux, const char *result, const PmuxError *error, void *userdata) {
        Answer *answer = userdata;

        (void)pmux;
        answer->done = true;
        if (error)
                answer->error = *error;
        else
                answer->result = strdup(result);
}

int pmux_call(Pmux *pmux, const char *method, const char *params, char **ret_result,
              PmuxError *reterr_error) {
        Answer answer = {};
        int r;

        r = pmux_call_start(pmux, method, params, on_blocking_answer, &answer, NULL, reterr_error);
        if (r < 0)
                return r;
        while (!answer.done)
                (void)pmux_turn(pmux, PMUX_INFINITY,
                                NULL); /* giving up the connection answers the call, too */
        if (!answer.result) {
                if (!answer.error.errno_value)
                        return error_export(reterr_error, &(Error){}, -ENOMEM);
                if (reterr_error)
                        *reterr_error = answer.error;
                return -answer.error.errno_value;
        }
        if (ret_result)
                *ret_result = TAKE(answer.result);
        free(answer.result);
        return 0;
}
