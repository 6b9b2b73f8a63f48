/* SPDX-License-Identifier: MIT */
#pragma once

/* A stdin log in a directory of its own, a pipe of one page to deliver to, and two writers. */

#include "daemon/engine/stdin-log.h"

#include <fcntl.h>
#include <signal.h>

#include "common/macro.h"
#include "daemon/engine/stdin-index.h"
#include "tests/support/check-main.h"
#include "tests/support/scratch.h"

static char dir[SCRATCH_MAX];
static int n_fds;
static int pipe_fds[2];
static StdinLog *stdin_log; /* owned */
static StdinWriter alice, bob;

static inline void setup(void) {
        signal(SIGPIPE, SIG_IGN);
        n_fds = open_fds_count();
        scratch_make(dir, "/tmp");
        ck_assert_int_eq(pipe2(pipe_fds, O_NONBLOCK | O_CLOEXEC), 0);
        ck_assert_int_eq(fcntl(pipe_fds[1], F_SETPIPE_SZ, 4096), 4096);
        alice = stdin_writer_hash("alice", 5);
        bob = stdin_writer_hash("bob", 3);
        ck_assert_int_eq(stdin_log_open(&stdin_log, dir, -1, NULL), 0);
        ck_assert_int_eq(stdin_log_begin_run(stdin_log, 1, NULL), 0);
}

static inline void teardown(void) {
        stdin_log = stdin_log_free(stdin_log);
        if (pipe_fds[0] >= 0)
                close(pipe_fds[0]);
        close(pipe_fds[1]);
        scratch_remove(dir);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

/* --- what the tests do again and again --- */

static inline int say(const StdinWriter *writer, uint64_t position, const char *text, bool eof) {
        return stdin_log_accept(stdin_log, writer, position, text, strlen(text), eof, NULL, NULL, NULL);
}

static inline int position_fd(void) {
        bool is_new;
        int fd;

        ck_assert_int_eq(stdin_log_position_fd(stdin_log, &fd, &is_new, NULL), 0);
        return fd;
}

static inline int deliver(void) {
        size_t n;

        (void)position_fd();
        return stdin_log_deliver(stdin_log, pipe_fds[1], &n, NULL);
}

static inline void assert_reads(const char *text) {
        char buffer[4096];
        ssize_t n;

        n = read(pipe_fds[0], buffer, sizeof(buffer) - 1);
        buffer[MAX(n, 0)] = '\0';
        ck_assert_str_eq(buffer, text);
}

/* As if the engine were killed and a new one got the keeper's duplicate, if 'keeper' says so. */
static inline void reopen(bool keeper) {
        int fd = keeper ? fcntl(position_fd(), F_DUPFD_CLOEXEC, 0) : -1;

        stdin_log = stdin_log_free(stdin_log);
        ck_assert_int_eq(stdin_log_open(&stdin_log, dir, fd, NULL), 0);
}

static inline void file_path(char *ret_path, const char *name) {
        (void)snprintf(ret_path, SCRATCH_MAX + 16, "%s/%s", dir, name);
}

static inline struct stat file_stat(const char *name) {
        char path[SCRATCH_MAX + 16];
        struct stat st;

        file_path(path, name);
        ck_assert_int_eq(stat(path, &st), 0);
        return st;
}
