/* SPDX-License-Identifier: MIT */
#pragma once

/* A real keeper in a process of its own, whose engine is the test: what it starts with --engine passes its
 * end of the keeper's socket to the test and waits to be killed. */

#include <check.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/keeper/keeper.h"
#include "daemon/keeper/upgrade.h"
#include "tests/support/check-main.h"

#define FIXTURE_TIMEOUT_MSEC 20000
#define FIXTURE_STOP_USEC USEC_PER_SEC
#define FIXTURE_ENTRIES_MAX 8192

typedef struct Fixture {
        char dir[32];
        char socket_path[64]; /* of the test's own socket, where the fake engines call */
        int listen_fd;
        pid_t keeper_pid;
        int engine_fd; /* the engine's end of the keeper's socket */
        pid_t engine_pid;
        int ready_fd;
        int log_fd; /* what the keeper reports */
        int n_fds;
        /* the latest handover */
        KeeperMessage hello;
        KeeperMessage fd_messages[FIXTURE_ENTRIES_MAX];
        int fds[FIXTURE_ENTRIES_MAX];
        size_t n_handed_fds;
        KeeperMessage children[FIXTURE_ENTRIES_MAX];
        size_t n_children;
} Fixture;

static Fixture fixture;

/* In the fake engine: gives away descriptor 3 and waits. */
static inline _Noreturn void fake_engine(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        pid_t pid = getpid();
        int fd = KEEPER_ENGINE_FD;
        int s;

        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (s < 0 || connect(s, (struct sockaddr *)&address, sizeof(address)) < 0 ||
            fd_send(s, &pid, sizeof(pid), &fd, 1) < 0)
                _exit(1);
        (void)close(fd);
        for (;;)
                (void)pause();
}

static inline _Noreturn void fixture_keep(const char *socket_path, const char *state_dir, int ready_fd,
                                          int state_fd) {
        KeeperConfig config = {
                .socket_path = strdup(socket_path),
                .state_dir = strdup(state_dir),
                .engine_program = "/proc/self/exe",
                .stop_usec = FIXTURE_STOP_USEC,
                .ready_fd = ready_fd,
                .lock_fd = -1,
                .nofile = { .rlim_cur = 200, .rlim_max = 300 },
        };
        Error error = {};
        Keeper keeper;
        int r;

        r = keeper_init(&keeper, &config, &error);
        if (r == 0 && state_fd >= 0)
                r = upgrade_load(state_fd, &keeper, &error);
        if (r < 0)
                fprintf(stderr, "%s\n", error.text);
        r = r < 0 ? 99 : keeper_run(&keeper);
        keeper_deinit(&keeper);
        exit(r);
}

/* The roles in which the keeper executes this program again. */
__attribute__((constructor)) static void fixture_roles(int argc, char **argv) {
        if (argc >= 4 && strcmp(argv[1], "--engine") == 0)
                fake_engine(argv[3]);
        if (argc == 3 && strcmp(argv[1], "--check-keeper-state") == 0)
                _exit(upgrade_check(atoi(argv[2]), NULL) < 0);
        if (argc == 7 && strcmp(argv[5], "--keeper-state") == 0)
                fixture_keep(argv[2], argv[4], -1, atoi(argv[6]));
}

static inline void fixture_setup(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int ready[2];

        fixture = (Fixture){ .dir = "/tmp/check_keeper.XXXXXX", .n_fds = open_fds_count() };
        ck_assert_ptr_nonnull(mkdtemp(fixture.dir));
        (void)snprintf(fixture.socket_path, sizeof(fixture.socket_path), "%s/socket", fixture.dir);
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", fixture.socket_path);
        fixture.listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(bind(fixture.listen_fd, (struct sockaddr *)&address, sizeof(address)), 0);
        ck_assert_int_eq(listen(fixture.listen_fd, 16), 0);
        ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
        fixture.log_fd = memfd_create("log", MFD_CLOEXEC);
        ck_assert_int_ge(fixture.log_fd, 0);
        fixture.keeper_pid = fork();
        if (fixture.keeper_pid == 0) {
                (void)close(fixture.listen_fd);
                (void)close(ready[0]);
                (void)close_range(3, ~0U, CLOSE_RANGE_CLOEXEC); /* what the test itself was started with */
                if (!getenv("KEEPER_FIXTURE_VERBOSE"))
                        (void)dup2(fixture.log_fd, STDERR_FILENO);
                fixture_keep(fixture.socket_path, fixture.dir, ready[1], -1);
        }
        ck_assert_int_ge(fixture.keeper_pid, 0); /* said by the parent alone */
        (void)close(ready[1]);
        fixture.ready_fd = ready[0];
        fixture.engine_fd = -1;
}

static inline void fixture_await(int fd, short events) {
        struct pollfd pollfd = { .fd = fd, .events = events };

        ck_assert_msg(poll(&pollfd, 1, FIXTURE_TIMEOUT_MSEC) == 1, "nothing happened in time");
}

/* The next message to the engine. Returns 1, or 0 when the keeper closed the socket. */
static inline int fixture_receive_fds(KeeperMessage *ret_message, int *ret_fds, size_t *ret_n_fds) {
        int r;

        fixture_await(fixture.engine_fd, POLLIN);
        r = keeper_message_receive(fixture.engine_fd, ret_message, ret_fds, ret_n_fds);
        ck_assert_int_ge(r, 0);
        return r;
}

static inline int fixture_receive(KeeperMessage *ret_message, int *ret_fd) {
        int fds[FD_PASS_MAX], r;
        size_t n_fds = 0;

        r = fixture_receive_fds(ret_message, fds, &n_fds);
        ck_assert_uint_le(n_fds, 1);
        *ret_fd = n_fds == 1 ? fds[0] : -1;
        return r;
}

/* Whether it may come before the one that is waited for: hints about orphans at any time; a start before its
 * end, if the child lived for long enough. */
static inline bool fixture_may_precede(const KeeperMessage *message, KeeperMessageType type) {
        if (message->type == KEEPER_REAPED)
                return type != KEEPER_REAPED;
        return message->type == KEEPER_SPAWNED && message->state == KEEPER_CHILD_RUNNING &&
               type == KEEPER_EXITED;
}

/* The next message, which must be of this type. */
static inline KeeperMessage fixture_expect(KeeperMessageType type) {
        KeeperMessage message = {};
        int fd;

        do
                ck_assert_int_eq(fixture_receive(&message, &fd), 1);
        while (fixture_may_precede(&message, type));
        ck_assert_int_eq(fd, -1);
        ck_assert_uint_eq(message.type, type);
        return message;
}

static inline void fixture_drop_handover(void) {
        for (size_t i = 0; i < fixture.n_handed_fds; i++)
                (void)fd_close(fixture.fds[i]);
        fixture.n_handed_fds = fixture.n_children = 0;
        fixture.engine_fd = fd_close(fixture.engine_fd);
}

/* Waits for the next engine; its handover is not read yet. */
static inline void fixture_accept(void) {
        size_t n_fds = 0;
        int s, fd[FD_PASS_MAX];

        fixture_drop_handover();
        fixture_await(fixture.listen_fd, POLLIN);
        s = accept4(fixture.listen_fd, NULL, NULL, SOCK_CLOEXEC);
        ck_assert_int_ge(s, 0);
        ck_assert_int_eq(fd_receive(s, &fixture.engine_pid, sizeof(fixture.engine_pid), fd, &n_fds),
                         sizeof(fixture.engine_pid));
        ck_assert_uint_eq(n_fds, 1);
        fixture.engine_fd = fd[0];
        (void)close(s);
}

static inline void fixture_read_handover(void) {
        KeeperMessage message;
        int fds[FD_PASS_MAX];
        size_t n_fds;

        fixture.hello = fixture_expect(KEEPER_HELLO);
        for (;;) {
                n_fds = 0;
                ck_assert_int_eq(fixture_receive_fds(&message, fds, &n_fds), 1);
                ck_assert_int_eq(n_fds > 0, message.type == KEEPER_FDS);
                for (size_t i = 0; i < n_fds; i++) {
                        KeeperHeld held;

                        memcpy(&held, message.text + i * sizeof(held), sizeof(held));
                        ck_assert_uint_eq(fixture.n_children, 0);
                        ck_assert_uint_lt(fixture.n_handed_fds, FIXTURE_ENTRIES_MAX);
                        fixture.fd_messages[fixture.n_handed_fds] = (KeeperMessage){ .label = held.label,
                                                                                     .process = held.process,
                                                                                     .run = held.run };
                        fixture.fds[fixture.n_handed_fds++] = fds[i];
                }
                if (message.type == KEEPER_FDS)
                        continue;
                if (message.type == KEEPER_CHILD)
                        fixture.children[fixture.n_children++] = message;
                else
                        break;
        }
        ck_assert_uint_eq(message.type, KEEPER_READY);
}

/* Waits for the next engine and its handover. */
static inline void fixture_next_engine(void) {
        fixture_accept();
        fixture_read_handover();
}

static inline void fixture_kill_engine(void) {
        ck_assert_int_eq(kill(fixture.engine_pid, SIGKILL), 0);
        fixture_next_engine();
}

static inline void fixture_send(const KeeperMessage *message, const int *fds, size_t n_fds) {
        ck_assert_int_eq(keeper_message_send(fixture.engine_fd, message, fds, n_fds), 0);
}

static inline void fixture_send_type(KeeperMessageType type, uint64_t process, uint32_t run) {
        const KeeperMessage message = { .type = type, .process = process, .run = run };

        fixture_send(&message, NULL, 0);
}

static inline int fixture_handed_fd(KeeperLabel label, uint64_t process, uint32_t run) {
        for (size_t i = 0; i < fixture.n_handed_fds; i++)
                if (fixture.fd_messages[i].label == label && fixture.fd_messages[i].process == process &&
                    fixture.fd_messages[i].run == run)
                        return fixture.fds[i];
        return -1;
}

static inline const KeeperMessage *fixture_child(uint64_t process, uint32_t run) {
        for (size_t i = 0; i < fixture.n_children; i++)
                if (fixture.children[i].process == process && fixture.children[i].run == run)
                        return &fixture.children[i];
        return NULL;
}

/* A memfd with the spec of these arguments and one variable, PATH. */
static inline int fixture_spec(char *const *argv, const char *cwd) {
        KeeperSpec header = { .magic = KEEPER_SPEC_MAGIC, .umask = 022, .n_env = 1 };
        static const char env[] = "PATH=/usr/bin:/bin", mark[] = "MARK=1";
        int fd = memfd_create("spec", MFD_CLOEXEC);
        FILE *file = fdopen(dup(fd), "w");

        ck_assert_int_eq(fseek(file, sizeof(header), SEEK_SET), 0);
        for (; argv[header.n_args]; header.n_args++)
                ck_assert_uint_eq(fwrite(argv[header.n_args], strlen(argv[header.n_args]) + 1, 1, file), 1);
        ck_assert_uint_eq(fwrite(env, sizeof(env), 1, file), 1);
        ck_assert_uint_eq(fwrite(cwd, strlen(cwd) + 1, 1, file), 1);
        ck_assert_uint_eq(fwrite(mark, sizeof(mark), 1, file), 1);
        header.size = (uint32_t)ftell(file);
        ck_assert_int_eq(fclose(file), 0);
        ck_assert_int_eq(pwrite(fd, &header, sizeof(header), 0), sizeof(header));
        return fd;
}

/* With the spec in the message unless it is too large; fixture_spawn_pipes() sends it in a descriptor. */
static inline void fixture_spawn_argv(uint64_t process, uint32_t run, char *const *argv, const char *cwd) {
        KeeperMessage message = { .type = KEEPER_SPAWN, .process = process, .run = run };
        char spec[KEEPER_SPEC_INLINE_MAX + 1];
        int fd = fixture_spec(argv, cwd);
        ssize_t n = pread(fd, spec, sizeof(spec), 0);

        ck_assert_int_gt(n, 0);
        if (n <= KEEPER_SPEC_INLINE_MAX) {
                message.flags = KEEPER_SPAWN_INLINE;
                ck_assert_int_eq(keeper_packet_send(fixture.engine_fd, &message, spec, (size_t)n, NULL, 0),
                                 0);
        } else
                fixture_send(&message, &fd, 1);
        (void)fd_close(fd);
}

static inline void fixture_spawn(uint64_t process, uint32_t run, const char *script) {
        fixture_spawn_argv(process, run, (char *const[]){ (char *)"sh", (char *)"-c", (char *)script, NULL },
                           "/");
}

/* Spawns with stdin and stdout as pipes whose other ends are the engine's. Returns our copies of those. */
static inline void fixture_spawn_pipes(uint64_t process, uint32_t run, const char *script, int *ret_stdin,
                                       int *ret_stdout) {
        char *const argv[] = { (char *)"sh", (char *)"-c", (char *)script, NULL };
        const KeeperMessage message = {
                .type = KEEPER_SPAWN,
                .process = process,
                .run = run,
                .flags = KEEPER_SPAWN_CHILD_STDIN | KEEPER_SPAWN_CHILD_STDOUT | KEEPER_SPAWN_ENGINE_STDIN |
                         KEEPER_SPAWN_ENGINE_STDOUT,
        };
        int in[2], out[2], fds[5];

        ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
        ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
        fds[0] = fixture_spec(argv, "/");
        fds[1] = in[0];
        fds[2] = out[1];
        fds[3] = in[1];
        fds[4] = out[0];
        fixture_send(&message, fds, ARRAY_SIZE(fds));
        for (size_t i = 0; i < 3; i++)
                (void)fd_close(fds[i]);
        *ret_stdin = in[1];
        *ret_stdout = out[0];
}

static inline void fixture_ck_line(int fd, const char *line) {
        char text[256] = "";
        size_t n = 0;

        while (n < sizeof(text) - 1 && (n == 0 || text[n - 1] != '\n')) {
                fixture_await(fd, POLLIN);
                ck_assert_int_eq(read(fd, text + n, 1), 1);
                n++;
        }
        ck_assert_str_eq(text, line);
}

/* The state of a process as /proc has it, 0 when it is gone. */
static inline char fixture_state(pid_t pid) {
        char path[64], text[256] = "", *state;
        int fd;

        (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return 0;
        (void)!read(fd, text, sizeof(text) - 1);
        (void)fd_close(fd);
        state = strrchr(text, ')');
        return state ? state[2] : '\0';
}

/* Whether a process is gone or a zombie of somebody else. */
static inline bool fixture_is_dead(pid_t pid) {
        char state = fixture_state(pid);

        return state == '\0' || state == 'Z';
}

/* Stops the keeper, for what then happens to happen at once for it. */
static inline void fixture_stop_keeper(void) {
        ck_assert_int_eq(kill(fixture.keeper_pid, SIGSTOP), 0);
        while (fixture_state(fixture.keeper_pid) != 'T')
                (void)poll(NULL, 0, 1);
}

/* Whether the keeper has reported this. */
static inline bool fixture_has_reported(const char *what) {
        char text[16384] = "";

        (void)!pread(fixture.log_fd, text, sizeof(text) - 1, 0);
        return strstr(text, what);
}

/* Waits for the keeper to end; returns its wait status. */
static inline int fixture_keeper_end(void) {
        int status;

        ck_assert_int_eq(waitpid(fixture.keeper_pid, &status, 0), fixture.keeper_pid);
        fixture.keeper_pid = 0;
        return status;
}

static inline void fixture_teardown(void) {
        if (fixture.keeper_pid > 0) {
                (void)kill(fixture.keeper_pid, SIGTERM);
                (void)kill(fixture.keeper_pid, SIGTERM);
                /* two of the same signal may be one: the last word is the engine's */
                if (fixture.engine_fd >= 0)
                        (void)keeper_message_send(fixture.engine_fd,
                                                  &(KeeperMessage){ .type = KEEPER_STOPPED }, NULL, 0);
                (void)fixture_keeper_end();
        }
        fixture_drop_handover();
        (void)fd_close(fixture.listen_fd);
        (void)fd_close(fixture.ready_fd);
        (void)fd_close(fixture.log_fd);
        (void)unlink(fixture.socket_path);
        ck_assert_int_eq(rmdir(fixture.dir), 0);
        ck_assert_int_eq(open_fds_count(), fixture.n_fds);
}
