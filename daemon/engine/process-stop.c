/* SPDX-License-Identifier: MIT */

/* Signals, and how a run is ended: the deadline belongs to the tree, not to its leader. */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/process.h"

/* No answer now, and perhaps no hint will come any more: look again, very soon where somebody was just
 * executing a program. */
static void process_look_later(Process *process, int r) {
        if (r != -EAGAIN)
                process->tree_wait_msec = TREE_RETRY_MSEC;
        else if (process->tree_wait_msec == 0)
                process->tree_wait_msec = TREE_RETRY_MIN_MSEC;
        else
                process->tree_wait_msec = MIN(2 * process->tree_wait_msec, TREE_RETRY_MSEC);
        process->tree_retry_usec = clock_monotonic_usec() + process->tree_wait_msec * USEC_PER_MSEC;
        process_arm_timer(process);
}

/* Nearly every tree is empty when its main process has ended. One that is not is watched from then on. */
static bool process_tree_is_empty(Process *process, const Tree *tree) {
        TreeRoot *root = process->host->tree_root;
        int r;

        r = tree_empty(root, tree);
        if (r == 0 && process->watched_run != process->run.run) {
                r = tree_watch(root, tree);
                if (r >= 0)
                        process->watched_run = process->run.run;
                if (r == 1)
                        r = tree_empty(root, tree); /* it may just have become so */
        }
        if (r < 0)
                process_look_later(process, r);
        else
                process->tree_wait_msec = 0;
        return r == 1;
}

void process_check_tree(Process *process) {
        Tree tree;

        if (!(process->run.ended & RUN_EXITED) || (process->run.ended & RUN_EMPTY))
                return;
        tree = process_tree(process);
        if (!process_tree_is_empty(process, &tree))
                return;
        process->run.stop_deadline_monotonic_usec = 0;
        tree_release(process->host->tree_root, &tree);
        (void)process_record(process, RECORD_EMPTY, SOURCE_NONE, 0);
        process_set_ended(process, RUN_EMPTY);
        process->host->ops->on_event(process, "empty", process->host->userdata);
}

bool process_stop_finished(const Process *process) {
        if (process_is_alive(process))
                return process->killed_usec != 0 && process->run.stop_deadline_monotonic_usec == 0;
        return (process->run.ended & RUN_EMPTY) || process->run.run == 0 ||
               (process->killed_usec != 0 && process->run.stop_deadline_monotonic_usec == 0);
}

static void stop_kill(Process *process) {
        uint64_t now = clock_monotonic_usec();
        Tree tree = process_tree(process);
        Error error = {};
        size_t n;

        if (process->killed_usec == 0)
                process->killed_usec = now;
        if (tree_signal(process->host->tree_root, &tree, SIGKILL, &n, &error) < 0)
                (void)fprintf(stderr, "<4>process %" PRIu64 ": %s\n", process->id, error.text);
        process_check_tree(process);
        if (process->run.ended & RUN_EMPTY)
                return;
        /* repeated: what the kernel is still ending, and what escapes a walk through /proc */
        process->run.stop_deadline_monotonic_usec =
                now < process->killed_usec + KILL_GIVE_UP_USEC ? now + KILL_REPEAT_USEC : 0;
}

static void stop_signal(Process *process, int signal) {
        Tree tree = process_tree(process);
        Error error = {};
        size_t n;

        if (process->state == PROCESS_PAUSED)
                (void)tree_freeze(process->host->tree_root, &tree, false, &error);
        if (tree_signal(process->host->tree_root, &tree, signal, &n, &error) < 0)
                (void)fprintf(stderr, "<4>process %" PRIu64 ": %s\n", process->id, error.text);
        if (signal != SIGKILL) /* one that was stopped by SIGSTOP must run to act on the signal */
                (void)tree_signal(process->host->tree_root, &tree, SIGCONT, &n, NULL);
}

int process_stop(Process *process, const char *cause, uint64_t grace_usec, int signal, Error *reterr_error) {
        uint64_t now = clock_monotonic_usec(), deadline = now + grace_usec;
        bool under_way = process->run.stop_deadline_monotonic_usec != 0;

        if (!process_is_alive(process) && (process->run.run == 0 || (process->run.ended & RUN_EMPTY)))
                return error_set(reterr_error, ERROR_NOT_RUNNING, "process %" PRIu64 " is not running",
                                 process->id);
        if (!under_way) {
                if (process->run.stop_cause != cause)
                        (void)snprintf(process->run.stop_cause, sizeof(process->run.stop_cause), "%s", cause);
                process->killed_usec = 0;
        }
        if (!under_way || deadline < process->run.stop_deadline_monotonic_usec)
                process->run.stop_deadline_monotonic_usec = MAX(deadline, 1);
        if (process->state == PROCESS_STARTING) {
                process_changed(process, PROCESS_CHANGED_RUN);
                return 0; /* goes on when it runs */
        }
        if (grace_usec == 0)
                stop_kill(process);
        else if (!under_way) {
                int number = signal ? signal : process->config.stop_signal;

                (void)process_record(process, RECORD_SIGNAL, SOURCE_NONE, (uint64_t)number);
                stop_signal(process, number);
        }
        if (process_is_alive(process))
                (void)process_transit(process, PROCESS_EVENT_STOP);
        if (!under_way)
                process->host->ops->on_event(process, "stopping", process->host->userdata);
        process_changed(process, PROCESS_CHANGED_RUN);
        return 0;
}

int process_signal(Process *process, int signal, ProcessScope scope, size_t *ret_n, Error *reterr_error) {
        KeeperMessage message = {
                .type = KEEPER_SIGNAL,
                .process = process->id,
                .run = process->run.run,
                .signal = signal,
                .flags = scope == PROCESS_SCOPE_GROUP,
        };
        Tree tree = process_tree(process);
        bool tree_left = process->run.run != 0 && !(process->run.ended & RUN_EMPTY);
        int r;

        if (scope == PROCESS_SCOPE_TREE ? !tree_left : !process_is_alive(process))
                return error_set(reterr_error, ERROR_NOT_RUNNING, "process %" PRIu64 " is not running",
                                 process->id);
        *ret_n = 1;
        if (scope == PROCESS_SCOPE_TREE)
                r = tree_signal(process->host->tree_root, &tree, signal, ret_n, reterr_error);
        else
                r = keeper_link_queue(process->host->link, &message, NULL, 0);
        if (r < 0)
                return r;
        (void)process_record(process, RECORD_SIGNAL, SOURCE_NONE, (uint64_t)signal);
        if (process->run.stop_cause[0] == '\0' || strncmp(process->run.stop_cause, "signal ", 7) == 0) {
                (void)snprintf(process->run.stop_cause, sizeof(process->run.stop_cause), "signal %d", signal);
                process_changed(process, PROCESS_CHANGED_RUN);
        }
        return 0;
}

int process_pause(Process *process, bool pause, Error *reterr_error) {
        ProcessEvent event = pause ? PROCESS_EVENT_PAUSE : PROCESS_EVENT_RESUME;
        Tree tree = process_tree(process);
        int r;

        if (!process_is_alive(process))
                return error_set(reterr_error, ERROR_NOT_RUNNING, "process %" PRIu64 " is not running",
                                 process->id);
        if (!pause && process->state == PROCESS_RUNNING)
                return 0;
        if (process_state_next(process->state, event) < 0)
                return error_set(reterr_error, ERROR_WRONG_STATE, "process %" PRIu64 " is %s", process->id,
                                 process_state_name(process->state));
        r = tree_freeze(process->host->tree_root, &tree, pause, reterr_error);
        if (r < 0)
                return r;
        (void)process_transit(process, event);
        process_changed(process, PROCESS_CHANGED_PAUSED);
        process->host->ops->on_event(process, pause ? "paused" : "resumed", process->host->userdata);
        return 0;
}
