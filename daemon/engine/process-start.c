/* SPDX-License-Identifier: MIT */

/* How a run begins and ends: asking the keeper, and its answers. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/process.h"

/* What a start opens; indices are the bits of KEEPER_SPAWN_*, in their order. */
typedef enum StartFd {
        START_CHILD_STDIN,
        START_CHILD_STDOUT,
        START_CHILD_STDERR,
        START_ENGINE_STDIN,
        START_ENGINE_STDOUT,
        START_ENGINE_STDERR,
        START_CGROUP,
        START_N_,
} StartFd;

typedef struct Start {
        int fds[START_N_]; /* owned; -1: none */
} Start;

static void start_deinit(Start *start) {
        for (unsigned i = 0; i < START_N_; i++)
                start->fds[i] = fd_close(start->fds[i]);
}

static int start_pipe(int *ret_child, int *ret_engine, bool to_child) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        *ret_child = fds[to_child ? 0 : 1];
        *ret_engine = fds[to_child ? 1 : 0];
        return fcntl(*ret_engine, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0; /* a new one has no other flag */
}

static int start_open_file(const StdioConfig *stdio, bool output, mode_t mask, int *ret_fd) {
        const char *path = stdio->kind == STDIO_FILE ? stdio->path : "/dev/null";
        int fd, r;

        /* non-blocking only while it is opened, so that a FIFO without a peer does not hold the engine */
        mask = umask(mask);
        fd = open(path,
                  (output ? O_WRONLY | O_CREAT | O_APPEND : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                  0666);
        r = fd < 0 ? -errno : 0;
        (void)umask(mask);
        if (r < 0)
                return r;
        *ret_fd = fd;
        return fd_set_nonblock(fd, false);
}

static int start_open_stdio(Start *start, ProcessConfig *config, Error *reterr_error) {
        StdioConfig *stdios[] = { &config->stdin_config, &config->stdout_config, &config->stderr_config };
        static const char *const steps[] = { "stdin", "stdout", "stderr" };
        int r;

        for (unsigned i = 0; i < 3; i++) {
                if (stdios[i]->kind == STDIO_JOIN)
                        continue;
                if (stdios[i]->kind == STDIO_PIPE)
                        r = start_pipe(&start->fds[START_CHILD_STDIN + i],
                                       &start->fds[START_ENGINE_STDIN + i], i == 0);
                else if (stdios[i]->kind == STDIO_CALLER) {
                        r = stdios[i]->fd < 0 ? -EBADF : 0;
                        start->fds[START_CHILD_STDIN + i] = TAKE_FD(stdios[i]->fd);
                } else
                        r = start_open_file(stdios[i], i != 0, config->umask,
                                            &start->fds[START_CHILD_STDIN + i]);
                if (r < 0) {
                        (void)error_set_errno(reterr_error, r, "cannot open %s%s%s", steps[i],
                                              stdios[i]->path ? " " : "",
                                              stdios[i]->path ? stdios[i]->path : "");
                        if (reterr_error && stdios[i]->path)
                                reterr_error->code = ERROR_SPAWN;
                        return error_set_step(reterr_error, r, steps[i]);
                }
        }
        return 0;
}

/* Our ends of the pipes stay as long as the run. */
static int start_check_room(const Start *start, ProcessHost *host, Error *reterr_error) {
        int highest = -1;

        for (unsigned i = START_ENGINE_STDIN; i <= START_ENGINE_STDERR; i++)
                highest = MAX(highest, start->fds[i]);
        return highest < 0 ? 0 : process_host_check_room(host, FD_USE_PROCESS, highest, reterr_error);
}

/* What the child and the keeper alone will hold travels as it is; of what is ours, too, a duplicate. */
static int start_send(Process *process, Start *start, char *spec, size_t spec_size) {
        KeeperMessage message = { .type = KEEPER_SPAWN, .process = process->id, .run = process->run.run };
        int fds[FD_PASS_MAX];
        size_t n = 0;

        for (unsigned i = 0; i < START_N_; i++)
                if (start->fds[i] >= 0) {
                        bool is_ours = i >= START_ENGINE_STDIN && i <= START_ENGINE_STDERR;

                        fds[n++] =
                                is_ours ? fcntl(start->fds[i], F_DUPFD_CLOEXEC, 3) : TAKE_FD(start->fds[i]);
                        message.flags |= 1u << i;
                }
        for (size_t i = 0; i < n; i++)
                if (fds[i] < 0) {
                        for (size_t j = 0; j < n; j++)
                                (void)fd_close(fds[j]);
                        free(spec);
                        return -EMFILE;
                }
        process->host->has_begun_runs = true;
        return keeper_link_queue_spawn(process->host->link, &message, spec, spec_size, fds, n);
}

static int process_load_env(Process *process, Error *reterr_error) {
        ProcessConfig config;
        char *text;
        int r;

        if (process->config.env)
                return 0;
        r = process->host->ops->load_config(process, &text, process->host->userdata);
        if (r < 0)
                return error_set_errno(reterr_error, r,
                                       "cannot read what process %" PRIu64 " was asked to be", process->id);
        r = process_config_from_text(&config, text, reterr_error);
        free(text);
        if (r < 0)
                return r;
        process_config_deinit(&process->config);
        process->config = config;
        return 0;
}

static unsigned initial_ends(const ProcessConfig *config) {
        unsigned ended = 0;

        if (config->stdout_config.kind != STDIO_PIPE)
                ended |= RUN_STDOUT_CLOSED;
        if (config->stderr_config.kind == STDIO_NULL || config->stderr_config.kind == STDIO_FILE ||
            config->stderr_config.kind == STDIO_CALLER ||
            (config->stderr_config.kind == STDIO_JOIN && config->stdout_config.kind != STDIO_PIPE))
                ended |= RUN_STDERR_CLOSED;
        return ended;
}

/* Opens all that run number 'run' needs and asks the keeper; touches nothing of the process but its pipes. */
static int process_spawn(Process *process, Error *reterr_error) {
        Start start = { .fds = { -1, -1, -1, -1, -1, -1, -1 } };
        size_t spec_size;
        char *spec;
        Tree tree = process_tree(process);
        int r;

        r = process_load_env(process, reterr_error);
        if (r >= 0)
                r = start_open_stdio(&start, &process->config, reterr_error);
        if (r >= 0)
                r = start_check_room(&start, process->host, reterr_error);
        if (r >= 0)
                r = tree_prepare(process->host->tree_root, &tree, &start.fds[START_CGROUP], reterr_error);
        if (r >= 0)
                r = process_config_spec(&process->config, tree.mark, &spec, &spec_size, reterr_error);
        if (r >= 0) {
                r = start_send(process, &start, spec, spec_size);
                if (r < 0) {
                        tree_release(process->host->tree_root, &tree);
                        (void)error_set_errno(reterr_error, r, "cannot hand the run to the keeper");
                }
        }
        if (r >= 0) {
                process->stdin_fd = TAKE_FD(start.fds[START_ENGINE_STDIN]);
                process->outputs[0].fd = TAKE_FD(start.fds[START_ENGINE_STDOUT]);
                process->outputs[1].fd = TAKE_FD(start.fds[START_ENGINE_STDERR]);
                process_config_drop_env(&process->config);
        }
        start_deinit(&start);
        return r;
}

int process_check_restart(const Process *process, Error *reterr_error) {
        if (!process_config_has_caller(&process->config))
                return 0;
        return error_set(reterr_error, ERROR_WRONG_STATE,
                         "process %" PRIu64
                         " was given streams by its caller, which were for its first run alone: run it anew",
                         process->id);
}

int process_start(Process *process, Error *reterr_error) {
        RegistryRun before;
        StdinLog *stdin_log;
        Log *log;
        int r;

        if (!process_is_alive(process) && (process->run.ended & RUN_EMPTY))
                (void)process_drain_outputs(process); /* its end may not have been read yet */
        if (process_is_alive(process) || !process_is_over(process))
                return error_set(reterr_error, ERROR_WRONG_STATE, "process %" PRIu64 " is %s", process->id,
                                 process_is_alive(process) ? process_state_name(process->state)
                                                           : "exited, but something of its last run is left");
        if (process->run.run > 0 && (r = process_check_restart(process, reterr_error)) < 0)
                return r;
        if ((r = process_log(process, &log, reterr_error)) < 0 || (r = log_know_all(log, reterr_error)) < 0 ||
            (r = process_stdin_log(process, &stdin_log, reterr_error)) < 0 ||
            (r = stdin_log_begin_run(stdin_log, process->run.run + 1, reterr_error)) < 0)
                return r;
        process->host->ops->on_change(process, PROCESS_CHANGES_RUN, process->host->userdata);
        before = process->run;
        process->run = (RegistryRun){
                .process = process->id,
                .run = before.run + 1,
                .ended = initial_ends(&process->config) |
                         (before.ended & (RUN_FULL_DISK | RUN_CLAIMS_MAX << RUN_CLAIMS_SHIFT)),
                .start_usec = clock_realtime_usec(),
                .start_monotonic_usec = clock_monotonic_usec(),
                .start_offset = log_end(log),
                .start_stdin_offset = stdin_log_accepted(stdin_log),
        };
        r = process_spawn(process, reterr_error);
        if (r < 0) {
                process->run = before;
                return r;
        }
        process->killed_usec = 0;
        process->input_end = UINT64_MAX;
        process->is_adopted = false;
        free(process->spawn_error);
        process->spawn_error = NULL;
        r = process_transit(process, PROCESS_EVENT_START);
        assert(r >= 0);
        process_changed(process, PROCESS_CHANGED_RUN);
        if (registry_run_claims(&process->run) > 0)
                process_carry_claims(process);
        return 0;
}

int process_respawn(Process *process, Error *reterr_error) {
        process->state = PROCESS_STARTING;
        return process_spawn(process, reterr_error);
}

void process_forget(Process *process) {
        KeeperMessage message = { .type = KEEPER_FORGET, .process = process->id, .run = process->run.run };

        keeper_link_tell(process->host->link, &message);
}

void process_fail_start(Process *process, const KeeperMessage *message) {
        Tree tree = process_tree(process);
        Error error;

        if (strcmp(message->text, "chdir") == 0)
                (void)error_set_errno(&error, message->error, "cannot start '%.200s': chdir to '%.200s'",
                                      process->config.argv[0], process->config.cwd);
        else
                (void)error_set_errno(&error, message->error, "cannot start '%.200s': %s",
                                      process->config.argv[0], message->text);
        error.code = ERROR_SPAWN;
        (void)error_set_step(&error, 0, message->text);
        free(process->spawn_error);
        process->spawn_error = malloc(sizeof(error));
        if (process->spawn_error) /* else it is told that it failed, but not why */
                *process->spawn_error = error;
        process_outputs_close(process);
        process_drop_stdin(process);
        tree_release(process->host->tree_root, &tree);
        (void)process_transit(process, PROCESS_EVENT_SPAWN_FAILED);
        process->run.end_usec = clock_realtime_usec();
        process_forget(process);
        process_set_ended(process, RUN_FAILED | RUN_ENDS);
        process->host->ops->on_event(process, "failed", process->host->userdata);
}

void process_begin_running(Process *process, int pid, bool watch) {
        process->run.pid = pid;
        if (watch)
                process_outputs_start(process);
        (void)process_record(process, RECORD_START, SOURCE_NONE, (uint64_t)pid);
        if (process->is_adopted)
                process_adopt_input(process);
        (void)process_transit(process, PROCESS_EVENT_SPAWNED);
        if (process->config.lease == LEASE_TIME)
                process->lease_deadline_usec = clock_monotonic_usec() + process->config.lease_usec;
        process_set_ended(process, RUN_SPAWNED);
        process->host->ops->on_event(process, "started", process->host->userdata);
        process_transcript_start(process);
        process_deliver(process);
        if (process->run.stop_deadline_monotonic_usec != 0) { /* asked to stop before it ran */
                uint64_t now = clock_monotonic_usec(),
                         grace = MAX(process->run.stop_deadline_monotonic_usec, now) - now;

                process->run.stop_deadline_monotonic_usec = 0;
                (void)process_stop(process, process->run.stop_cause, grace, 0, NULL);
        }
}

void process_on_spawned(Process *process, const KeeperMessage *message) {
        if (message->run != process->run.run || process->state != PROCESS_STARTING)
                return;
        if (message->state == KEEPER_CHILD_FAILED)
                process_fail_start(process, message);
        else
                process_begin_running(process, message->pid, true);
}

static const char *exit_cause(const Process *process, int signal) {
        const char *cause = process->run.stop_cause;

        if (strncmp(cause, "signal ", 7) == 0)
                return signal != 0 && atoi(cause + 7) == signal ? "signal" : "self";
        return cause[0] ? cause : "self";
}

static void process_fill_exit(Process *process, const KeeperMessage *message) {
        ExitRecord *exit = &process->run.exit;
        Tree tree = process_tree(process);

        *exit = (ExitRecord){ .known = true, .code = -1, .has_usage = true, .usage = message->usage };
        if (message->wait_code == CLD_EXITED)
                exit->code = message->wait_status;
        else
                exit->signal = message->wait_status;
        exit->core = message->wait_code == CLD_DUMPED;
        exit->oom = tree_oom(process->host->tree_root, &tree);
        (void)snprintf(exit->cause, sizeof(exit->cause), "%s", exit_cause(process, exit->signal));
        process->run.end_usec = message->usec;
}

void process_begin_exit(Process *process) {
        process_drop_stdin(process);
        for (unsigned i = 0; i < 2; i++) {
                process->exit_left[i] = process_output_left(process, i);
                /* more than that is not to go to the stage: who would call the next turn for it? */
                process->outputs[i].is_flowing = false;
        }
        process->exit_pending = true;
}

void process_on_exited(Process *process, const KeeperMessage *message) {
        bool is_news = !(process->run.ended & RUN_SPAWNED);

        if (message->run != process->run.run)
                return;
        if (process->run.ended & RUN_EXITED) {
                process_forget(process);
                return;
        }
        if (is_news)
                process_begin_running(process, message->pid, false);
        process_ending_finish(process);
        process_fill_exit(process, message);
        process_begin_exit(process);
        if (process->state ==
            PROCESS_PAUSED) { /* its descendants live on, and nothing else would thaw them */
                Tree tree = process_tree(process);

                (void)tree_freeze(process->host->tree_root, &tree, false, NULL);
        }
        (void)process_transit(process, PROCESS_EVENT_EXIT);
        process_changed(process, PROCESS_CHANGED_PAUSED);
        process_forget(process);
        process_set_ended(process, RUN_EXITED);
        process->host->ops->on_event(process, "exited", process->host->userdata);
        process_finish_exit(process);
        process_check_tree(process);
        if (process->run.ended & RUN_EMPTY)
                (void)process_drain_outputs(process);
        if (is_news)
                process_outputs_start(process); /* of what had ended before we heard that it runs */
}
