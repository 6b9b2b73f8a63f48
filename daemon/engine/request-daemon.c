/* SPDX-License-Identifier: MIT */

/* daemon-status, daemon-stop, daemon-upgrade. */

#include "daemon/engine/request-daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/bytes.h"
#include "daemon/engine/fd-room.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/wait.h"

typedef struct LimitRow {
        const char *name;
        uint64_t max;
} LimitRow;

static const LimitRow limits[] = {
#define LIMIT(name, value, wire_name) { wire_name, (value) },
#include "daemon/engine/limits-table.h"
#undef LIMIT
};

/* How much of each limit is in use; of one that is for each client or process, the largest use. */
static void limits_measure(const Request *request, uint64_t used[LIMIT_INDEX_N_]) {
        const RequestHost *host = request->host;
        uint64_t oldest = 0, latest = 0;

        (void)registry_event_range(host->supervisor->registry, &oldest, &latest, NULL);
        used[LIMIT_INDEX_EVENTS] = latest > 0 ? latest + 1 - oldest : 0;
        used[LIMIT_INDEX_KEYS] = registry_key_count(host->supervisor->registry);
        used[LIMIT_INDEX_CURSORS] = registry_most_cursors(host->supervisor->registry);
        used[LIMIT_INDEX_CLIENTS] = host->clients->n_clients;
        used[LIMIT_INDEX_WIDE_CLIENTS] = host->clients->n_wide;
        used[LIMIT_INDEX_PROCESSES] = host->supervisor->n_processes;
        used[LIMIT_INDEX_FRAME_BYTES] = host->clients->frame_bytes;
        used[LIMIT_INDEX_WAITING_WRITE_BYTES] = host->waiting_write_bytes;
        used[LIMIT_INDEX_QUEUED_RUN_BYTES] = host->queues.waiting_bytes;
        used[LIMIT_INDEX_ALL_WAIT_TERMS] = host->n_wait_terms;
        used[LIMIT_INDEX_ALL_WAIT_TARGETS] = host->n_wait_targets;
        used[LIMIT_INDEX_WAITING_READS] = host->n_reads;
        used[LIMIT_INDEX_OPEN_LOGS] = host->supervisor->host.n_open_logs;
        used[LIMIT_INDEX_WIDE_PIPES] = process_flow_n_wide(&host->supervisor->host);
        LIST_FOREACH(Client, client, &host->clients->clients, link) {
                used[LIMIT_INDEX_REQUESTS_PER_CLIENT] =
                        MAX(used[LIMIT_INDEX_REQUESTS_PER_CLIENT], client->n_requests);
                used[LIMIT_INDEX_STREAMS_PER_CLIENT] =
                        MAX(used[LIMIT_INDEX_STREAMS_PER_CLIENT], client->n_streams);
                used[LIMIT_INDEX_REPLY_BYTES] =
                        MAX(used[LIMIT_INDEX_REPLY_BYTES], client_queued_bytes(client));
        }
        LIST_FOREACH(Process, process, &host->supervisor->processes, link)
                if (process->stdin_log)
                        used[LIMIT_INDEX_STDIN_BYTES] = MAX(used[LIMIT_INDEX_STDIN_BYTES],
                                                            stdin_log_accepted(process->stdin_log) -
                                                                    stdin_log_taken(process->stdin_log));
}

static json_t *limits_json(const Request *request) {
        uint64_t used[LIMIT_INDEX_N_] = {}, max;
        json_t *object = json_object();

        limits_measure(request, used);
        for (size_t i = 0; object && i < ARRAY_SIZE(limits); i++) {
                max = i == LIMIT_INDEX_OPEN_LOGS ? fd_room_open_logs() : limits[i].max;
                if (limits[i].name)
                        (void)json_object_set_new(
                                object, limits[i].name,
                                json_pack("{s:I, s:I}", "used", (json_int_t)used[i], "max", (json_int_t)max));
        }
        return object;
}

int request_daemon_status(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        const RequestHost *host = request->host;
        char instance[2 * PROTOCOL_INSTANCE_SIZE + 1];

        for (size_t i = 0; i < PROTOCOL_INSTANCE_SIZE; i++)
                (void)snprintf(instance + 2 * i, 3, "%02x", host->hello.instance[i]);
        *ret_result = json_pack(
                "{s:s, s:i, s:I, s:I, s:I, s:I, s:o, s:o, s:s, s:b, s:o, s:I, s:I}", "version", PMUX_VERSION,
                "protocol", PROTOCOL_VERSION, "keeper_pid", (json_int_t)host->hello.pid, "engine_pid",
                (json_int_t)getpid(), "engine_restarts", (json_int_t)host->hello.engine_restarts,
                "start_usec", (json_int_t)host->start_usec, "socket", bytes_string_to_json(host->socket_path),
                "state_dir", bytes_string_to_json(host->state_dir), "instance", instance, "cgroup",
                (int)tree_root_has_cgroups(host->supervisor->host.tree_root), "limits", limits_json(request),
                "processes", (json_int_t)host->supervisor->n_processes, "running",
                (json_int_t)supervisor_running(host->supervisor));
        return *ret_result ? 0 : -ENOMEM;
}

static int daemon_stop_check(Wait *wait) {
        for (size_t i = 0; i < wait->n; i++)
                if (wait->targets[i].process && !process_stop_finished(wait->targets[i].process))
                        return 0;
        /* What was written last goes into the logs now, whoever has not read on, also of what had ended
         * before. */
        LIST_FOREACH(Process, process, &wait->host->supervisor->processes, link)
                if (!process_is_over(process)) {
                        process_lift_claims(process);
                        (void)process_drain_outputs(process);
                }
        wait->host->stopping = true;
        return wait_answer(wait, json_object(), NULL);
}

int daemon_stop(RequestHost *host, Request *request, uint64_t grace_usec, Error *reterr_error) {
        Supervisor *supervisor = host->supervisor;
        Process **processes;
        size_t n = 0;
        Wait *wait;
        int r;

        processes = calloc(supervisor->n_processes + 1, sizeof(*processes));
        if (!processes)
                return error_set_errno(reterr_error, ENOMEM, "cannot stop all processes");
        LIST_FOREACH(Process, process, &supervisor->processes, link)
                if (!process_stop_finished(process) || process_is_alive(process))
                        processes[n++] = process;
        r = wait_new(&wait, host, request, processes, n, daemon_stop_check, USEC_INFINITY, reterr_error);
        if (r >= 0)
                supervisor->shutting_down = true;
        for (size_t i = 0; r >= 0 && i < n; i++)
                (void)process_stop(processes[i], "shutdown",
                                   grace_usec == UINT64_MAX ? processes[i]->config.kill_after_usec
                                                            : grace_usec,
                                   0, NULL);
        free(processes);
        return r;
}

int request_daemon_stop(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        uint64_t grace = UINT64_MAX;
        int r;

        (void)ret_result;
        if ((r = params_u64(params, "grace_usec", 0, INT64_MAX / 4, &grace, reterr_error)) < 0)
                return r;
        return daemon_stop(request->host, request, grace, reterr_error);
}

int request_daemon_upgrade(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        request->host->upgrading = true;
        return 0;
}
