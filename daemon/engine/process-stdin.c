/* SPDX-License-Identifier: MIT */

/* Who may use the input of a process, and how much of it has been read. */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "common/fd.h"
#include "daemon/engine/process.h"

void process_drop_stdin(Process *process) {
        if (process->stdin_fd < 0)
                return;
        LIST_FOREACH(ProcessWatch, watch, &process->watches, link)
                if (watch->on_close_stdin)
                        watch->on_close_stdin(watch, process);
        process_unwatch_stdin(process);
        process->stdin_fd = fd_close(process->stdin_fd);
        keeper_link_drop(process->host->link, KEEPER_LABEL_STDIN, process->id, process->run.run);
}

int process_check_lock(const Process *process, const char *lock, Error *reterr_error) {
        return stdin_lock_check(process->stdin_lock, lock, process->id, reterr_error);
}

int process_set_lock(Process *process, const StdinLock *lock) {
        if (!lock) {
                free(process->stdin_lock);
                process->stdin_lock = NULL;
                return 0;
        }
        if (!process->stdin_lock)
                process->stdin_lock = malloc(sizeof(*lock));
        if (!process->stdin_lock)
                return -ENOMEM;
        *process->stdin_lock = *lock;
        return 0;
}

int process_input_consumed(Process *process, int pipe_fd, uint64_t *ret_offset, Error *reterr_error) {
        struct pollfd pollfd = { .fd = pipe_fd };
        StdinLog *log;
        int n, r;

        r = process_stdin_log(process, &log, reterr_error);
        if (r < 0)
                return r;
        if (ioctl(pipe_fd, FIONREAD, &n) < 0)
                return error_set(reterr_error, ERROR_UNSUPPORTED,
                                 "this system does not tell how much of process %" PRIu64
                                 "'s input has been read",
                                 process->id);
        /* What the pipe holds are the bytes that it took last. Where some were dropped instead of taken, that
         * is certain only for bytes behind those. */
        if ((uint64_t)n <= stdin_log_taken(log) - stdin_log_base(log))
                *ret_offset = stdin_log_taken(log) - (uint64_t)n;
        else
                *ret_offset = 0;
        if (n > 0 && poll(&pollfd, 1, 0) > 0 && pollfd.revents & POLLERR)
                return error_set(reterr_error, ERROR_STDIN_CLOSED,
                                 "process %" PRIu64 " closed its stdin before it had read its input",
                                 process->id);
        return 0;
}
