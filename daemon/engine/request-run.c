/* SPDX-License-Identifier: MIT */

/* run, start, restart: each is answered when the program has been executed. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/fd.h"
#include "daemon/engine/client-fds.h"
#include "daemon/engine/request-key.h"
#include "daemon/engine/subscription.h"
#include "daemon/engine/wait.h"

#define KEY_MAX 64
#define STRING_OVERHEAD 16 /* bytes, about, that a string takes besides its own */

/* What a request wants once the program runs; kept while it waits. */
typedef struct StartWish {
        SubscriptionOptions subscribe;
        bool has_subscribe;
        bool existing;   /* the key had been used */
        bool is_run;     /* a process that could not be started is removed again */
        uint32_t run;    /* of a restart: the run to end; of an existing key: the run that it began */
        bool restart;    /* it has still to be stopped and started */
        uint64_t digest; /* of the request, if it has a key */
        char key[KEY_MAX + 1];
} StartWish;

/* A run as it was asked for. */
typedef struct RunOrder {
        QueuePlace place;
        RequestHost *host; /* borrowed */
        Request *request;  /* borrowed */
        ProcessConfig config;
        StartWish wish;
        Bytes data;
        bool eof;
} RunOrder;

static RunOrder *run_order_free(RunOrder *order) {
        if (!order)
                return NULL;
        queue_leave(&order->host->queues, &order->place);
        process_config_deinit(&order->config);
        bytes_deinit(&order->data);
        free(order);
        return NULL;
}
DEFINE_CLEANUP(RunOrder *, run_order_free);

static json_t *start_result(Wait *wait, Process *process, const StartWish *wish) {
        const RegistryRun *run = &process->run;
        RegistryRun earlier;

        if (wish->existing && wish->run != run->run &&
            registry_find_run(wait->host->supervisor->registry, process->id, wish->run, &earlier, NULL) > 0)
                run = &earlier; /* what the first request began */

        return json_pack("{s:I, s:o, s:I, s:I, s:I, s:b}", "id", (json_int_t)process->id, "name",
                         bytes_string_to_json(process->config.name), "run", (json_int_t)run->run, "pid",
                         (json_int_t)run->pid, "offset", (json_int_t)run->start_offset, "existing",
                         (int)wish->existing);
}

static int start_subscribe(Wait *wait, Process *process, StartWish *wish, Error *reterr_error) {
        uint64_t from, end;

        if (!wish->has_subscribe)
                return 0;
        if (!wish->subscribe.has_from && !wish->subscribe.from_end && !wish->subscribe.has_since &&
            !wish->subscribe.has_lines)
                wish->subscribe.begin_run = process->run.run;
        return subscription_new(wait->request->client, process, &wish->subscribe, &from, &end, reterr_error);
}

static int start_check(Wait *wait);

static int start_finish(Wait *wait, Process *process) {
        StartWish *wish = wait->data;
        Error error = {};
        json_t *result;

        if (process->run.ended & RUN_FAILED) {
                if (process->spawn_error)
                        error = *process->spawn_error;
                else
                        (void)error_set(&error, ERROR_SPAWN, "run %u could not be started", process->run.run);
                if (wish->is_run)
                        supervisor_remove(wait->host->supervisor, process);
                return wait_answer(wait, NULL, &error);
        }
        if (wait->request) {
                if (process->config.lease == LEASE_CLIENT && process_has_tree(process)) {
                        process_set_lease_holder(process, wait->request->client);
                        process_renew_lease(process);
                }
                if (start_subscribe(wait, process, wish, &error) < 0)
                        return wait_answer(wait, NULL, &error);
        }
        result = start_result(wait, process, wish);
        return wait_answer(wait, result, NULL);
}

static int start_put_key(RequestHost *host, const StartWish *wish, const Process *process,
                         Error *reterr_error) {
        RegistryKey done = { .digest = wish->digest, .process = process->id, .run = process->run.run };

        if (!wish->key[0])
                return 0;
        return registry_put_key(host->supervisor->registry, wish->key, clock_realtime_usec(), &done,
                                reterr_error);
}

/* The lease is the client's from the start on, not only from the answer: it may leave before. One that has
 * left already has lost it. */
static void start_lease(Process *process, const Request *request) {
        if (process->config.lease != LEASE_CLIENT)
                return;
        if (request)
                process_set_lease_holder(process, request->client);
        else
                (void)process_stop(process, "lease", process->config.lease_grace_usec, 0, NULL);
}

/* A restart whose process has been stopped: start it, then wait on. */
static int restart_go_on(Wait *wait, Process *process) {
        StartWish *wish = wait->data;
        Error error = {};
        int r;

        if (process->run.run != wish->run) { /* somebody else restarted it meanwhile: that will do */
                wish->restart = false;
                return start_put_key(wait->host, wish, process, &error) < 0 ? wait_answer(wait, NULL, &error)
                                                                            : start_check(wait);
        }
        if (process_is_alive(process) || !(process->run.run == 0 || process->run.ended & RUN_EMPTY)) {
                if (!process_stop_finished(process))
                        return 0;
                (void)error_set(&error, ERROR_WRONG_STATE, "process %" PRIu64 " could not be stopped",
                                process->id);
                return wait_answer(wait, NULL, &error);
        }
        if (process_drain_outputs(process) < 0)
                return 0; /* what its last run wrote is to be in the log first */
        process_abandon_outputs(process);
        r = process_start(process, &error);
        if (r >= 0) {
                start_lease(process, wait->request);
                r = start_put_key(wait->host, wish, process, &error);
        }
        if (r < 0)
                return wait_answer(wait, NULL, &error);
        wish->restart = false;
        return 0;
}

static int start_check(Wait *wait) {
        Process *process = wait->targets[0].process;
        StartWish *wish = wait->data;
        Error error = {};

        if (!process) {
                (void)error_set(&error, ERROR_NOT_FOUND, "the process was removed");
                return wait_answer(wait, NULL, &error);
        }
        if (wish->restart)
                return restart_go_on(wait, process);
        return process->state == PROCESS_STARTING ? 0 : start_finish(wait, process);
}

static int start_wait(Request *request, Process *process, const StartWish *wish, Error *reterr_error) {
        StartWish *kept;
        Wait *wait;
        int r;

        kept = malloc(sizeof(*kept));
        if (!kept)
                return error_set_errno(reterr_error, ENOMEM, "cannot wait for the start");
        *kept = *wish;
        r = wait_new(&wait, request->host, request, &process, 1, start_check, USEC_INFINITY, reterr_error);
        if (r < 0) {
                free(kept);
                return r;
        }
        wait->data = kept;
        wait->goes_on = wish->restart; /* without its client, too */
        return REQUEST_WAITS;
}

static int parse_wish(Request *request, const char *method, Params *params, StartWish *ret_wish,
                      Error *reterr_error) {
        const json_t *subscribe;
        const char *key = NULL;
        Params inner;
        int r;

        *ret_wish = (StartWish){};
        r = request_may_wait(request, reterr_error);
        if (r < 0)
                return r;
        r = params_string(params, "key", KEY_MAX, &key, reterr_error);
        if (r < 0)
                return r;
        if (key) {
                (void)strcpy(ret_wish->key, key);
                ret_wish->digest = request_digest(method, params, "target key subscribe");
        }
        subscribe = params_get(params, "subscribe");
        if (!subscribe)
                return 0;
        ret_wish->has_subscribe = true;
        if ((r = params_init(&inner, subscribe, reterr_error)) < 0 ||
            (r = params_allow(&inner, SUBSCRIPTION_MEMBERS, reterr_error)) < 0 ||
            (r = subscription_parse(&ret_wish->subscribe, &inner, reterr_error)) < 0)
                return r;
        if (client_stream_find(request->client, (uint32_t)ret_wish->subscribe.stream))
                return error_set(reterr_error, ERROR_INVALID, "subscribe: stream %" PRIu64 " is in use",
                                 ret_wish->subscribe.stream);
        return 0;
}

/* Whether a request with this key was carried out before, on 'target' (NULL: a process of its own). Return: 1
 * and the process; 0; <0. */
static int find_key(Request *request, StartWish *wish, const Process *target, Process **ret_process,
                    Error *reterr_error) {
        RegistryKey done;
        int r;

        if (!wish->key[0])
                return 0;
        r = registry_get_key(request->host->supervisor->registry, wish->key, &done, reterr_error);
        if (r <= 0)
                return r;
        if (done.digest != 0 && done.digest != wish->digest)
                return request_key_taken(wish->key, reterr_error);
        *ret_process = supervisor_find_id(request->host->supervisor, done.process);
        if (!*ret_process)
                return error_set(reterr_error, ERROR_NOT_FOUND,
                                 "process %" PRIu64
                                 " was started by this request before and has been removed since",
                                 done.process);
        if (target ? *ret_process != target : done.run != 1)
                return request_key_taken(wish->key, reterr_error);
        wish->existing = true;
        wish->run = done.run;
        return 1;
}

static int refuse_when_stopping(const Request *request, Error *reterr_error) {
        if (request->host->supervisor->shutting_down)
                return error_set(reterr_error, ERROR_SHUTTING_DOWN, "the daemon is stopping");
        return 0;
}

/* The first input of a run, under a key of its own that follows from the request's. */
static int run_write(Process *process, const StartWish *wish, pid_t pid, const Bytes *data, bool eof,
                     Error *reterr_error) {
        InputFrom from = { .pid = pid };
        char key[KEY_MAX + 8];
        StdinWriter writer;

        if (data->size == 0 && !eof)
                return 0;
        (void)snprintf(key, sizeof(key), "%s/data", wish->key);
        writer = stdin_writer_hash(key, strlen(key));
        if (wish->key[0])
                from.writer = &writer;
        return process_input(process, &from, 0, data->data, data->size, eof, NULL, NULL, reterr_error);
}

static int run_begin(Request *request, ProcessConfig *config, const StartWish *wish, const Bytes *data,
                     bool eof, Process **ret_process, Error *reterr_error) {
        Supervisor *supervisor = request->host->supervisor;
        Process *process;
        int r;

        r = supervisor_add(supervisor, config, &process, reterr_error);
        if (r < 0)
                return r;
        r = process_start(process, reterr_error);
        if (r < 0) {
                supervisor_remove(supervisor, process);
                return r;
        }
        start_lease(process, request);
        process->host->ops->on_event(process, "created", supervisor);
        if (wish->has_subscribe && wish->subscribe.lossless)
                process_claim(process);
        r = start_put_key(request->host, wish, process, reterr_error);
        if (r >= 0 && process->stdin_fd >= 0)
                r = run_write(process, wish, request->client->pid, data, eof, reterr_error);
        if (r < 0)
                (void)process_stop(process, "remove", 0, 0, NULL);
        *ret_process = process;
        return r;
}

/* Takes up the descriptors that came with the request. */
static int run_take_fds(Request *request, ProcessConfig *config, Error *reterr_error) {
        StdioConfig *stdios[] = { &config->stdin_config, &config->stdout_config, &config->stderr_config };
        int fd, r;

        for (size_t i = 0; i < ARRAY_SIZE(stdios); i++) {
                if (stdios[i]->kind != STDIO_CALLER)
                        continue;
                if (stdios[i]->fd == -1)
                        return error_set(reterr_error, ERROR_INVALID,
                                         "caller: this is what is told of a stream, not asked for");
                r = client_fds_take(request->client, (unsigned)STDIO_CALLER_NUMBER(stdios[i]->fd), &fd,
                                    reterr_error);
                if (r < 0)
                        return r;
                if (process_config_give_fd(stdios[i], fd) < 0) {
                        (void)fd_close(fd);
                        return error_set_errno(reterr_error, ENOMEM, "cannot hold a stream");
                }
        }
        return 0;
}

static int run_order_parse(RunOrder *order, Params *params, Error *reterr_error) {
        const json_t *data = params_get(params, "data");
        int r;

        r = parse_wish(order->request, "run", params, &order->wish, reterr_error);
        if (r >= 0)
                r = params_bool(params, "eof", &order->eof, reterr_error);
        if (r >= 0 && data)
                r = bytes_from_json(data, "data", &order->data, reterr_error);
        if (r >= 0 && order->data.size > INPUT_DATA_MAX)
                r = error_set(reterr_error, ERROR_TOO_LARGE, "data: %zu bytes, at most %d are taken",
                              order->data.size, INPUT_DATA_MAX);
        if (r >= 0)
                r = process_config_parse(&order->config, params, reterr_error);
        if (r >= 0 && order->config.stdin_config.kind != STDIO_PIPE && order->data.size > 0)
                r = error_set(reterr_error, ERROR_STDIN_CLOSED,
                              "data: this process's stdin does not take any");
        order->wish.is_run = true;
        return r;
}

/* *ret_process: what has been begun, even if not all went well. Return: REQUEST_WAITS or -errno. */
static int run_order_begin(RunOrder *order, Process **ret_process, Error *reterr_error) {
        Request *request = order->request;
        int r;

        r = refuse_when_stopping(request, reterr_error);
        if (r >= 0)
                r = run_begin(request, &order->config, &order->wish, &order->data, order->eof, ret_process,
                              reterr_error);
        return r < 0 ? r : start_wait(request, *ret_process, &order->wish, reterr_error);
}

/* ---- runs that wait for their turn ---- */

static size_t strings_size(char *const *strings, size_t n) {
        size_t size = n * STRING_OVERHEAD;

        for (size_t i = 0; i < n; i++)
                size += strlen(strings[i]);
        return size;
}

static int run_order_on_turn(QueuePlace *place, bool is_cancelled, Process **ret_process) {
        CLEANUP(run_order_free) RunOrder *order = CONTAINER_OF(place, RunOrder, place);
        Request *request = order->request;
        Process *process = NULL;
        Error error = {};
        int r;

        request_undefer(request);
        if (is_cancelled)
                r = error_set(&error, ERROR_CANCELLED, "another of queue '%s' has failed",
                              order->config.queue->name);
        else /* it may have come by two connections */
                r = find_key(request, &order->wish, NULL, &process, &error);
        if (r > 0)
                r = start_wait(request, process, &order->wish, &error);
        else if (r == 0)
                r = run_order_begin(order, ret_process, &error);
        if (r >= 0)
                return 0;
        if (error.code == ERROR_NONE)
                (void)error_set_errno(&error, r, "the request failed");
        request_answer(request, NULL, &error);
        return r;
}

static void run_order_on_cancel(Request *request) {
        (void)run_order_free(request->waiter);
}

/* Lets it wait for its turn, which comes at the end of this turn of the loop if there is room. */
static int run_order_queue(RunOrder *order, Error *reterr_error) {
        const ProcessConfig *config = &order->config;
        Request *request = order->request;
        int r;

        order->place = (QueuePlace){
                .config = config->queue,
                .size_bytes = sizeof(*order) + order->data.size + strings_size(config->argv, config->n_argv) +
                              strings_size(config->env, config->n_env),
                .on_turn = run_order_on_turn,
        };
        r = queue_join(&request->host->queues, &order->place, reterr_error);
        return r < 0 ? r : request_defer(request, run_order_on_cancel, order, reterr_error);
}

int request_run(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        CLEANUP(run_order_free) RunOrder *order = NULL;
        Process *process = NULL;
        int r;

        (void)ret_result;
        order = calloc(1, sizeof(*order));
        if (!order)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold the request");
        order->host = request->host;
        order->request = request;
        r = run_order_parse(order, params, reterr_error);
        if (r >= 0) /* what is known to have been done waits for nobody */
                r = find_key(request, &order->wish, NULL, &process, reterr_error);
        if (r > 0)
                return start_wait(request, process, &order->wish, reterr_error);
        if (r == 0)
                r = run_take_fds(request, &order->config, reterr_error);
        if (r == 0 && order->config.queue)
                r = run_order_queue(order, reterr_error);
        else if (r == 0)
                return run_order_begin(order, &process, reterr_error);
        if (r >= 0)
                (void)TAKE(order);
        return r;
}

int request_start(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        Process *process, *before = NULL;
        StartWish wish;
        int r;

        (void)ret_result;
        if ((r = parse_wish(request, "start", params, &wish, reterr_error)) < 0 ||
            (r = request_target(request, params, &process, reterr_error)) < 0 ||
            (r = find_key(request, &wish, process, &before, reterr_error)) < 0)
                return r;
        if (r == 0) {
                if ((r = refuse_when_stopping(request, reterr_error)) < 0 ||
                    (r = process_start(process, reterr_error)) < 0)
                        return r;
                start_lease(process, request);
                r = start_put_key(request->host, &wish, process, reterr_error);
                if (r < 0)
                        return r;
        }
        return start_wait(request, process, &wish, reterr_error);
}

int request_restart(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        Process *process, *before = NULL;
        uint64_t grace = UINT64_MAX;
        StartWish wish;
        int r;

        (void)ret_result;
        if ((r = parse_wish(request, "restart", params, &wish, reterr_error)) < 0 ||
            (r = request_target(request, params, &process, reterr_error)) < 0 ||
            (r = params_u64(params, "grace_usec", 0, INT64_MAX / 4, &grace, reterr_error)) < 0 ||
            (r = find_key(request, &wish, process, &before, reterr_error)) < 0)
                return r;
        if (r == 0) {
                if ((r = refuse_when_stopping(request, reterr_error)) < 0 ||
                    (r = process_check_restart(process, reterr_error)) < 0)
                        return r;
                wish.restart = true;
                wish.run = process->run.run;
                (void)process_stop(process, "stop",
                                   grace == UINT64_MAX ? process->config.kill_after_usec : grace, 0, NULL);
        }
        return start_wait(request, process, &wish, reterr_error);
}
