/* SPDX-License-Identifier: MIT */

/* stop, signal, pause, resume, remove. */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>

#include "common/bytes.h"
#include "daemon/engine/status-json.h"
#include "daemon/engine/wait.h"

#define SURVIVORS_MAX 64

static json_t *process_ref_json(const Process *process) {
        return json_pack("{s:I, s:o}", "id", (json_int_t)process->id, "name",
                         bytes_string_to_json(process->config.name));
}

static json_t *survivors_json(const Process *process) {
        json_t *array = json_array();
        pid_t pids[SURVIVORS_MAX];
        Tree tree = process_tree(process);
        size_t n = 0;

        if (process->run.ended & RUN_EMPTY)
                return array;
        if (tree_pids(process->host->tree_root, &tree, pids, SURVIVORS_MAX, &n) >= 0)
                for (size_t i = 0; array && i < MIN(n, SURVIVORS_MAX); i++)
                        (void)json_array_append_new(array, json_integer(pids[i]));
        return array;
}

static json_t *stopped_json(Supervisor *supervisor, const WaitTarget *target) {
        Process *process = target->process;
        const RegistryRun *run;
        RegistryRun earlier = {};
        const char *how;
        json_t *object;

        if (!process)
                return json_pack("{s:I, s:n, s:s, s:[], s:n}", "id", (json_int_t)target->id, "name", "how",
                                 "exited", "survivors", "exit");
        run = &process->run;
        if (run->run != target->run) { /* it was stopped, and has been started again since */
                (void)registry_find_run(supervisor->registry, process->id, target->run, &earlier, NULL);
                run = &earlier;
                how = earlier.exit.signal == SIGKILL ? "killed" : "exited";
        } else
                how = process->killed_usec != 0 ? "killed" : "exited";
        object = process_ref_json(process);
        if (object) {
                (void)json_object_set_new(object, "how", json_string(target->flag ? "not-running" : how));
                (void)json_object_set_new(object, "survivors",
                                          run == &process->run ? survivors_json(process) : json_array());
                (void)json_object_set_new(object, "exit", exit_to_json(run));
        }
        return object;
}

static bool stop_target_met(const WaitTarget *target) {
        return !target->process || target->flag || target->process->run.run != target->run ||
               process_stop_finished(target->process);
}

static int stop_check(Wait *wait) {
        json_t *array;

        for (size_t i = 0; i < wait->n; i++)
                if (!stop_target_met(&wait->targets[i]))
                        return 0;
        array = json_array();
        for (size_t i = 0; array && i < wait->n; i++)
                (void)json_array_append_new(array, stopped_json(wait->host->supervisor, &wait->targets[i]));
        return wait_answer(wait, json_pack("{s:o}", "processes", array), NULL);
}

int request_stop(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        uint64_t grace = UINT64_MAX, signal = 0;
        Process **processes;
        bool now = false;
        size_t n;
        Wait *wait;
        int r;

        (void)ret_result;
        if ((r = params_u64(params, "grace_usec", 0, INT64_MAX / 4, &grace, reterr_error)) < 0 ||
            (r = params_u64(params, "signal", 1, SIGRTMAX, &signal, reterr_error)) < 0 ||
            (r = params_bool(params, "now", &now, reterr_error)) < 0 ||
            (r = request_targets(request, params, &processes, &n, reterr_error)) < 0)
                return r;
        if (r >= 0)
                r = wait_new(&wait, request->host, request, processes, n, stop_check, USEC_INFINITY,
                             reterr_error);
        for (size_t i = 0; r >= 0 && i < n; i++) {
                uint64_t usec = now ? 0 : grace == UINT64_MAX ? processes[i]->config.kill_after_usec : grace;

                if (process_stop(processes[i], "stop", usec, (int)signal, NULL) < 0)
                        wait->targets[i].flag = true; /* there was nothing to stop */
        }
        free(processes);
        return r;
}

int request_signal(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        static const char *const scopes[] = { "main", "group", "tree", NULL };
        Process **processes;
        uint64_t signal = 0;
        json_t *array;
        int scope = PROCESS_SCOPE_MAIN, r;
        size_t n, n_signalled;

        if ((r = params_u64(params, "signal", 1, SIGRTMAX, &signal, reterr_error)) < 0 ||
            (r = params_choice(params, "scope", scopes, &scope, reterr_error)) < 0 ||
            (r = request_targets(request, params, &processes, &n, reterr_error)) < 0)
                return r;
        if (r >= 0 && signal == 0)
                r = error_set(reterr_error, ERROR_INVALID, "signal: a number is needed");
        array = json_array();
        for (size_t i = 0; r >= 0 && i < n; i++) {
                r = process_signal(processes[i], (int)signal, (ProcessScope)scope, &n_signalled,
                                   reterr_error);
                if (r >= 0)
                        (void)json_array_append_new(array, json_pack("{s:I, s:I}", "id",
                                                                     (json_int_t)processes[i]->id,
                                                                     "n_signalled", (json_int_t)n_signalled));
        }
        free(processes);
        if (r < 0) {
                json_decref(array);
                return r;
        }
        *ret_result = json_pack("{s:o}", "processes", array);
        return 0;
}

static int pause_or_resume(Request *request, Params *params, bool pause, json_t **ret_result,
                           Error *reterr_error) {
        Process **processes;
        json_t *array;
        size_t n;
        int r;

        r = request_targets(request, params, &processes, &n, reterr_error);
        if (r < 0)
                return r;
        array = json_array();
        for (size_t i = 0; r >= 0 && i < n; i++) {
                r = process_pause(processes[i], pause, reterr_error);
                if (r >= 0)
                        (void)json_array_append_new(array, process_ref_json(processes[i]));
        }
        free(processes);
        if (r < 0) {
                json_decref(array);
                return r;
        }
        *ret_result = json_pack("{s:o}", "processes", array);
        return 0;
}

int request_pause(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        return pause_or_resume(request, params, true, ret_result, reterr_error);
}

int request_resume(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        return pause_or_resume(request, params, false, ret_result, reterr_error);
}

static int remove_check(Wait *wait) {
        Error error = {};
        json_t *array;

        for (size_t i = 0; i < wait->n; i++) {
                Process *process = wait->targets[i].process;

                if (!process)
                        continue;
                if (process->run.run !=
                    wait->targets[i].run) { /* started again meanwhile: end that one, too */
                        wait->targets[i].run = process->run.run;
                        (void)process_stop(process, "remove", 0, 0, NULL);
                }
                if (!process_stop_finished(process))
                        return 0;
                if (process_is_alive(process)) {
                        (void)error_set(&error, ERROR_WRONG_STATE, "process %" PRIu64 " could not be ended",
                                        process->id);
                        return wait_answer(wait, NULL, &error);
                }
        }
        array = json_array();
        for (size_t i = 0; i < wait->n; i++)
                if (wait->targets[i].process) {
                        (void)json_array_append_new(array, process_ref_json(wait->targets[i].process));
                        supervisor_remove(wait->host->supervisor, wait->targets[i].process);
                }
        return wait_answer(wait, json_pack("{s:o}", "processes", array), NULL);
}

int request_remove(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        Process **processes;
        bool force = false;
        Wait *wait;
        size_t n;
        int r;

        (void)ret_result;
        r = params_bool(params, "force", &force, reterr_error);
        if (r >= 0)
                r = request_targets(request, params, &processes, &n, reterr_error);
        if (r < 0)
                return r;
        for (size_t i = 0; r >= 0 && i < n && !force; i++)
                if (process_is_alive(processes[i]) || !process_stop_finished(processes[i]))
                        r = error_set(reterr_error, ERROR_WRONG_STATE,
                                      "process %" PRIu64 " is %s: stop it first", processes[i]->id,
                                      process_is_alive(processes[i]) ? process_state_name(processes[i]->state)
                                                                     : "not empty, a descendant is left");
        if (r >= 0)
                r = wait_new(&wait, request->host, request, processes, n, remove_check, USEC_INFINITY,
                             reterr_error);
        for (size_t i = 0; r >= 0 && i < n && force; i++)
                (void)process_stop(processes[i], "remove", 0, 0, NULL);
        free(processes);
        return r;
}
