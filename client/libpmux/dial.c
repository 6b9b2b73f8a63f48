/* SPDX-License-Identifier: MIT */

#include "client/libpmux/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"

#define DAEMON_NAME "pmuxd"
#define DAEMON_EXIT_ALREADY_RUNNING 3

extern char **environ;

static int check_peer(int fd, const char *path, Error *reterr_error) {
        struct ucred peer;
        socklen_t size = sizeof(peer);
        uid_t uid = geteuid();

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return error_set_errno(reterr_error, errno, "cannot tell who serves %s", path);
        if (uid != 0 && peer.uid != 0 && peer.uid != uid)
                return error_set(reterr_error, ERROR_DENIED, "%s is served by user %u, not by you or root",
                                 path, (unsigned)peer.uid);
        return 0;
}

int dial_socket(const char *path, int *ret_fd, Error *reterr_error) {
        CLEANUP(fd_close) int fd = -1;
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int r;

        if (strlen(path) >= sizeof(address.sun_path))
                return error_set(reterr_error, ERROR_INVALID, "the socket path '%s' is longer than %zu bytes",
                                 path, sizeof(address.sun_path) - 1);
        (void)stpcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return error_set_errno(reterr_error, errno, "cannot make a socket");
        do
                r = connect(fd, (struct sockaddr *)&address, sizeof(address));
        while (r < 0 && errno == EINTR);
        if (r < 0 && (errno == ECONNREFUSED || errno == ENOENT || errno == EAGAIN)) {
                r = -errno;
                (void)error_set(reterr_error, ERROR_UNREACHABLE,
                                r == -EAGAIN ? "the daemon at %s is too busy to answer"
                                             : "no daemon listens at %s",
                                path);
                return r;
        }
        if (r < 0 && (errno == EACCES || errno == EPERM))
                return error_set(reterr_error, ERROR_DENIED, "not permitted to connect to %s", path);
        if (r < 0)
                return error_set_errno(reterr_error, errno, "cannot connect to %s", path);
        r = check_peer(fd, path, reterr_error);
        if (r < 0)
                return r;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

const char *dial_daemon_path(char *buffer, size_t size) {
        const char *given = getenv("PMUX_DAEMON");
        char *slash;
        ssize_t n;

        if (given && *given) {
                (void)snprintf(buffer, size, "%s", given);
                return buffer;
        }
        n = readlink("/proc/self/exe", buffer, size - 1);
        if (n > 0) {
                buffer[n] = '\0';
                slash = strrchr(buffer, '/');
                if (slash && (size_t)(slash + 1 - buffer) + sizeof(DAEMON_NAME) <= size) {
                        (void)strcpy(slash + 1, DAEMON_NAME);
                        if (access(buffer, X_OK) == 0)
                                return buffer;
                }
        }
        (void)snprintf(buffer, size, "%s", DAEMON_NAME);
        return buffer;
}

/* Starts the program with its stderr on a pipe, in a session of its own, so that no key reaches it. */
static int spawn_daemon(const char *program, const char *path, int stderr_fd, pid_t *ret_pid) {
        char *argv[] = { (char *)program, (char *)"--daemonize", (char *)"--socket", (char *)path, NULL };
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t none, all;
        int r;

        (void)sigemptyset(&none);
        (void)sigfillset(&all);
        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawnattr_init(&attributes);
        if (r != 0) {
                (void)posix_spawn_file_actions_destroy(&actions);
                return -r;
        }
        (void)posix_spawnattr_setflags(&attributes,
                                       POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        (void)posix_spawnattr_setsigmask(&attributes, &none);
        (void)posix_spawnattr_setsigdefault(&attributes, &all);
        r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        if (r == 0)
                r = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&actions, stderr_fd, STDERR_FILENO);
        if (r == 0)
                r = posix_spawnp(ret_pid, program, &actions, &attributes, argv, environ);
        (void)posix_spawnattr_destroy(&attributes);
        (void)posix_spawn_file_actions_destroy(&actions);
        return -r;
}

/* Waits for the process by a pidfd, so that a daemon that hangs in its start does not hang the client. */
static int wait_daemon(pid_t pid, uint64_t deadline_usec, int *ret_status) {
        CLEANUP(fd_close) int fd = -1;
        struct pollfd poll_fd = { .events = POLLIN };
        uint64_t now;
        int r;

        fd = (int)syscall(SYS_pidfd_open, pid, 0);
        poll_fd.fd = fd;
        while (fd >= 0) {
                now = clock_monotonic_usec();
                if (now >= deadline_usec)
                        return -ETIMEDOUT;
                r = poll(&poll_fd, 1, (int)MIN((deadline_usec - now) / USEC_PER_MSEC + 1, (uint64_t)INT_MAX));
                if (r > 0)
                        break;
        }
        do
                r = waitpid(pid, ret_status, 0);
        while (r < 0 && errno == EINTR);
        return r < 0 ? -errno : 0;
}

/* What the daemon said on its stderr, as one line without its own "pmuxd: ". */
static void read_complaint(int fd, char *buffer, size_t size) {
        ssize_t n;

        if (fd_set_nonblock(fd, 1) < 0)
                n = 0;
        else
                n = read(fd, buffer, size - 1);
        if (n < 0)
                n = 0;
        while (n > 0 && (buffer[n - 1] == '\n' || buffer[n - 1] == ' '))
                n--;
        buffer[n] = '\0';
        if (strncmp(buffer, DAEMON_NAME ": ", strlen(DAEMON_NAME ": ")) == 0)
                memmove(buffer, buffer + strlen(DAEMON_NAME ": "),
                        strlen(buffer + strlen(DAEMON_NAME ": ")) + 1);
        for (char *p = buffer; *p; p++)
                if (*p == '\n')
                        *p = ' ';
}

int dial_autostart(const char *path, uint64_t deadline_usec, Error *reterr_error) {
        CLEANUP(fd_close) int read_fd = -1;
        CLEANUP(fd_close) int write_fd = -1;
        char program[PATH_MAX], complaint[400];
        int fds[2], status = 0;
        pid_t pid;
        int r;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return error_set_errno(reterr_error, errno, "cannot make a pipe");
        read_fd = fds[0];
        write_fd = fds[1];
        (void)dial_daemon_path(program, sizeof(program));
        r = spawn_daemon(program, path, write_fd, &pid);
        if (r < 0) {
                (void)error_set(reterr_error, ERROR_UNREACHABLE,
                                "no daemon listens at %s and '%s' cannot be started: %s", path, program,
                                strerror(-r));
                return r;
        }
        write_fd = fd_close(write_fd);
        r = wait_daemon(pid, deadline_usec, &status);
        if (r == -ECHILD) /* the caller ignores SIGCHLD: the connection will tell */
                return 0;
        if (r < 0) {
                (void)error_set(reterr_error, ERROR_UNREACHABLE,
                                "the daemon that was started for %s does not get ready", path);
                return r;
        }
        if (WIFEXITED(status) &&
            (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == DAEMON_EXIT_ALREADY_RUNNING))
                return 0;
        read_complaint(read_fd, complaint, sizeof(complaint));
        if (WIFSIGNALED(status))
                return error_set(reterr_error, ERROR_UNREACHABLE,
                                 "'%s' was killed by signal %d when it was started", program,
                                 WTERMSIG(status));
        return error_set(reterr_error, ERROR_UNREACHABLE, "'%s' failed to start (status %d)%s%s", program,
                         WEXITSTATUS(status), *complaint ? ": " : "", complaint);
}
