/* SPDX-License-Identifier: MIT */

/* Taking a run up again from the keeper's handover, or recording that its keeper is gone. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/clock.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/process.h"

void process_lose(Process *process) {
        if (!(process->run.ended & RUN_EXITED)) /* else its status was recorded in time */
                process->run.exit = (ExitRecord){ .code = -1, .oom = -1, .cause = "unknown" };
        if (process->run.end_usec == 0)
                process->run.end_usec = clock_realtime_usec();
        process->state = process->run.ended & RUN_FAILED ? PROCESS_FAILED : PROCESS_EXITED;
        process->is_adopted = true;
        process_transcript_recover(process);
        process_drop_stdin(process);
        if (!(process->run.ended & RUN_LOGGED_EXIT))
                (void)process_record(process, RECORD_EXIT, SOURCE_NONE, process_exit_word(process));
        process_tell_disk_works(process);
        process_set_ended(process, RUN_ENDS);
        process->host->ops->on_event(process, "exited", process->host->userdata);
}

static void process_adopt_fds(Process *process, Handover *handover) {
        uint32_t run = process->run.run;
        Error error = {};
        Log *log;

        process->stdin_fd = handover_take_fd(handover, KEEPER_LABEL_STDIN, process->id, run);
        process->outputs[0].fd = handover_take_fd(handover, KEEPER_LABEL_STDOUT, process->id, run);
        process->outputs[1].fd = handover_take_fd(handover, KEEPER_LABEL_STDERR, process->id, run);
        process_stage_adopt(process, 0,
                            handover_take_fd(handover, KEEPER_LABEL_STDOUT_STAGE, process->id, run));
        process_stage_adopt(process, 1,
                            handover_take_fd(handover, KEEPER_LABEL_STDERR_STAGE, process->id, run));
        process->position_fd = handover_take_fd(handover, KEEPER_LABEL_POSITION, process->id, 0);
        process->discard_fd = handover_take_fd(handover, KEEPER_LABEL_DISCARD, process->id, 0);
        if (process->discard_fd < 0)
                return;
        process->disk_retry_usec = clock_monotonic_usec() + DISK_RETRY_USEC;
        if (process_log(process, &log, &error) < 0)
                (void)fprintf(stderr, "<3>process %" PRIu64 ": cannot go on discarding: %s\n", process->id,
                              error.text);
}

/* The state that the registry's record of a run that goes on stands for. */
static ProcessState adopted_state(const Process *process, bool paused) {
        if (process->run.stop_deadline_monotonic_usec != 0)
                return PROCESS_STOPPING;
        return paused ? PROCESS_PAUSED : PROCESS_RUNNING;
}

/* A client comes back and renews its lease in time; one for a time begins anew. */
static void process_adopt_lease(Process *process) {
        if (process->config.lease == LEASE_TIME)
                process->lease_deadline_usec = clock_monotonic_usec() + process->config.lease_usec;
        else if (process->config.lease == LEASE_CLIENT)
                process->lease_deadline_usec = clock_monotonic_usec() + LEASE_REATTACH_USEC;
}

void process_adopt_input(Process *process) {
        StdinLog *stdin_log;
        LogChunk chunk;
        Log *log;

        if ((process->stdin_fd >= 0 || process->position_fd >= 0 || process->stdin_log) &&
            process_stdin_log(process, &stdin_log, NULL) >= 0 &&
            stdin_log_accepted(stdin_log) > process->run.start_stdin_offset &&
            process_log(process, &log, NULL) >= 0 &&
            (log_last_record(log, RECORD_INPUT, process->run.run, &chunk) <= 0 ||
             chunk.argument < stdin_log_accepted(stdin_log)))
                (void)process_record(process, RECORD_INPUT, SOURCE_STDIN, stdin_log_accepted(stdin_log));
}

static void process_adopt_running(Process *process) {
        bool paused = process->state == PROCESS_PAUSED; /* as loaded */

        process->state = adopted_state(process, paused);
        process_outputs_start(process);
        process_adopt_input(process);
        process_deliver(process);
}

/* The main process had been recorded as ended before the engine was replaced: what follows an end may be
 * missing. */
static void process_adopt_ended(Process *process) {
        process->state = process->run.ended & RUN_FAILED ? PROCESS_FAILED : PROCESS_EXITED;
        process_outputs_start(process);
        process_begin_exit(process);
        if (process->run.ended & RUN_LOGGED_EXIT)
                process->exit_pending = false;
        else
                process_finish_exit(process);
        if (process->outputs[0].fd < 0)
                process_set_ended(process, RUN_STDOUT_CLOSED);
        if (process->outputs[1].fd < 0 && process->config.stderr_config.kind != STDIO_JOIN)
                process_set_ended(process, RUN_STDERR_CLOSED);
        process_check_tree(process);
}

static const KeeperMessage streams_are_lost = { .error = ECONNRESET, .text = "the caller's streams" };

void process_adopt(Process *process, Handover *handover) {
        const KeeperMessage *child = handover_child(handover, process->id, process->run.run);
        Error error = {};

        process->is_adopted = true;
        process_adopt_fds(process, handover);
        if (registry_run_claims(&process->run) > 0)
                process_claim(process);
        process_transcript_recover(
                process); /* behind the claim: it may not cost a lossless reader anything */
        if (process->run.ended & RUN_EXITED) {
                if (child)
                        process_forget(process);
                process_adopt_ended(process);
        } else if (!child) {
                if (process->run.ended & RUN_SPAWNED)
                        process_lose(process);
                else if (process_respawn(process, &error) < 0) {
                        (void)fprintf(stderr, "<3>process %" PRIu64 ": %s\n", process->id, error.text);
                        if (process_config_has_caller(&process->config)) /* gone with the engine before */
                                process_fail_start(process, &streams_are_lost);
                        else
                                process_lose(process);
                }
        } else if (!(process->run.ended & RUN_SPAWNED)) {
                process->state = PROCESS_STARTING;
                if (child->state == KEEPER_CHILD_EXITED)
                        process_on_exited(process, child);
                else if (child->state == KEEPER_CHILD_FAILED)
                        process_on_spawned(process, child);
                else
                        process_begin_running(process, child->pid, true);
        } else {
                process_adopt_running(process);
                if (child->state == KEEPER_CHILD_EXITED)
                        process_on_exited(process, child);
        }
        if (process_has_tree(process))
                process_adopt_lease(process);
        process_arm_timer(process);
}
