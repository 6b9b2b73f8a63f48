/* SPDX-License-Identifier: MIT */

#include "daemon/keeper/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/keeper/systemd.h"

#define SETUP_PROBES 50 /* before we believe that somebody listens, 50 times 20 ms */
#define SETUP_PROBE_NSEC (20 * 1000 * 1000)

static void setup_free(char **string) {
        free(*string);
}

#define SETUP_STRING __attribute__((cleanup(setup_free))) char *

/* Makes all directories above the last part of path. */
static int setup_parents(char *path, const char *what, Error *reterr_error) {
        for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                if (mkdir(path, 0700) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
                        return error_set_errno(reterr_error, errno, "cannot make '%s' for the %s", path,
                                               what);
                *slash = '/';
        }
        return 0;
}

static int setup_check_directory(const char *path, const char *what, Error *reterr_error) {
        struct stat st;

        if (lstat(path, &st) < 0)
                return error_set_errno(reterr_error, errno, "cannot look at the %s '%s'", what, path);
        if (!S_ISDIR(st.st_mode))
                return error_set(reterr_error, ERROR_DENIED,
                                 "the %s '%s' is %s, not a directory: remove it or choose another path", what,
                                 path, S_ISLNK(st.st_mode) ? "a symbolic link" : "a file");
        if (st.st_uid != geteuid())
                return error_set(reterr_error, ERROR_DENIED,
                                 "the %s '%s' belongs to uid %u, not to uid %u: choose another path", what,
                                 path, st.st_uid, geteuid());
        if (st.st_mode & 077)
                return error_set(reterr_error, ERROR_DENIED,
                                 "the %s '%s' is open to other users (mode %03o): chmod 700 '%s'", what, path,
                                 st.st_mode & 0777, path);
        return 0;
}

int setup_directory(const char *path, const char *what, Error *reterr_error) {
        SETUP_STRING copy = NULL;
        size_t n;
        int r;

        copy = strdup(path);
        if (!copy)
                return error_set_errno(reterr_error, ENOMEM, "cannot name the %s", what);
        for (n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
                copy[n - 1] = '\0';
        r = setup_parents(copy, what, reterr_error);
        if (r < 0)
                return r;
        if (mkdir(copy, 0700) < 0 && errno != EEXIST)
                return error_set_errno(reterr_error, errno, "cannot make the %s '%s'", what, copy);
        return setup_check_directory(copy, what, reterr_error);
}

/* The pid in a lock file, 0: none can be read. */
static int setup_lock_owner(int fd) {
        char text[16] = "";

        return pread(fd, text, sizeof(text) - 1, 0) > 0 ? atoi(text) : 0;
}

int setup_lock(const char *state_dir, int *ret_fd, Error *reterr_error) {
        SETUP_STRING path = NULL;
        int fd, pid, r;

        if (asprintf(&path, "%s/lock", state_dir) < 0) {
                path = NULL;
                return error_set_errno(reterr_error, ENOMEM, "cannot name the lock file");
        }
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return error_set_errno(reterr_error, errno, "cannot open '%s'", path);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                r = -errno;
                pid = setup_lock_owner(fd);
                (void)fd_close(fd);
                if (r != -EWOULDBLOCK)
                        return error_set_errno(reterr_error, r, "cannot lock '%s'", path);
                if (pid > 0)
                        return error_set(reterr_error, ERROR_ALREADY_RUNNING,
                                         "another daemon (pid %d) uses the state directory '%s'", pid,
                                         state_dir);
                return error_set(reterr_error, ERROR_ALREADY_RUNNING,
                                 "another daemon uses the state directory '%s'", state_dir);
        }
        *ret_fd = fd;
        return 0;
}

void setup_lock_sign(int lock_fd) {
        char text[16];
        int n;

        n = snprintf(text, sizeof(text), "%d\n", getpid());
        (void)!ftruncate(lock_fd, 0);
        (void)!pwrite(lock_fd, text, (size_t)n, 0);
}

/* Whether it is a Unix stream socket that listens. */
static bool setup_is_listener(int fd) {
        static const struct {
                int option, value;
        } expected[] = { { SO_DOMAIN, AF_UNIX }, { SO_TYPE, SOCK_STREAM }, { SO_ACCEPTCONN, 1 } };
        socklen_t size;
        int value;

        for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
                size = sizeof(value);
                if (getsockopt(fd, SOL_SOCKET, expected[i].option, &value, &size) < 0 ||
                    value != expected[i].value)
                        return false;
        }
        return true;
}

int setup_activated(SetupListeners *listeners, Error *reterr_error) {
        int n;

        n = systemd_listen_fds();
        if (n == -ENOSYS)
                return error_set_errno(reterr_error, ENOSYS,
                                       "systemd hands us sockets, but there is no libsystemd");
        for (int i = 0; i < n; i++) {
                int fd = SD_LISTEN_FDS_START + i;

                if (i >= SETUP_LISTENERS_MAX || !setup_is_listener(fd)) {
                        for (; i < n; i++)
                                (void)fd_close(SD_LISTEN_FDS_START + i);
                        return error_set(
                                reterr_error, ERROR_INVALID,
                                "descriptor %d from systemd is not a listening Unix stream socket, or is "
                                "one of more than %d",
                                fd, SETUP_LISTENERS_MAX);
                }
                (void)fd_set_nonblock(fd, 1);
                listeners->fds[listeners->n++] = fd;
        }
        return 0;
}

/* Whether somebody listens: 0 or -EAGAIN (its backlog is full) if so, else -errno of connect(2). */
static int setup_probe(const struct sockaddr_un *address) {
        CLEANUP(fd_close) int fd = -1;

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        return connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
}

/* Removes a socket on which nobody listens. Two daemons that both find it cannot do so at once: the caller
 * has locked the directory. The engine of a keeper that was killed goes with it, but some milliseconds later:
 * who still listens gets that time. */
static int setup_remove_stale(const struct sockaddr_un *address, Error *reterr_error) {
        const char *path = address->sun_path;
        struct stat st;
        const struct timespec pause = { .tv_nsec = SETUP_PROBE_NSEC };
        int r;

        if (lstat(path, &st) < 0)
                return errno == ENOENT ? 0
                                       : error_set_errno(reterr_error, errno, "cannot look at '%s'", path);
        if (!S_ISSOCK(st.st_mode))
                return error_set(reterr_error, ERROR_DENIED,
                                 "'%s' is not a socket: remove it or choose another path", path);
        r = setup_probe(address);
        for (unsigned i = 0; i < SETUP_PROBES && (r == 0 || r == -EAGAIN); i++) {
                (void)nanosleep(&pause, NULL);
                r = setup_probe(address);
        }
        if (r == 0 || r == -EAGAIN)
                return error_set(reterr_error, ERROR_ALREADY_RUNNING, "another daemon listens on '%s'", path);
        if (r != -ECONNREFUSED && r != -ENOENT)
                return error_set_errno(reterr_error, r, "cannot find out who listens on '%s'", path);
        if (unlink(path) < 0 && errno != ENOENT)
                return error_set_errno(reterr_error, errno, "cannot replace the stale socket '%s'", path);
        return 0;
}

static int setup_bind(int fd, const struct sockaddr_un *address, Error *reterr_error) {
        const char *path = address->sun_path;
        mode_t mask;
        int r;

        r = setup_remove_stale(address, reterr_error);
        if (r < 0)
                return r;
        mask = umask(0177);
        r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
        (void)umask(mask);
        if (r == -EADDRINUSE)
                return error_set(reterr_error, ERROR_ALREADY_RUNNING, "another daemon listens on '%s'", path);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot bind '%s'", path);
        if (listen(fd, SOMAXCONN) < 0)
                return error_set_errno(reterr_error, errno, "cannot listen on '%s'", path);
        return 0;
}

/* Holds the socket's directory locked while 'fd' is bound. One that is not ours could be kept locked by
 * others. */
static int setup_bind_locked(int fd, const struct sockaddr_un *address, const char *directory,
                             Error *reterr_error) {
        CLEANUP(fd_close) int lock_fd = -1;
        struct stat st;

        lock_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (lock_fd < 0)
                return error_set_errno(reterr_error, errno, "cannot open '%s'", directory);
        if (fstat(lock_fd, &st) == 0 && st.st_uid == geteuid())
                (void)flock(lock_fd, LOCK_EX);
        return setup_bind(fd, address, reterr_error);
}

static int setup_socket_directory(const char *directory, bool checks, Error *reterr_error) {
        if (checks || (access(directory, F_OK) < 0 && errno == ENOENT))
                return setup_directory(directory, "socket's directory", reterr_error);
        return 0;
}

int setup_listen(const char *path, bool checks_directory, SetupListeners *listeners, Error *reterr_error) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        CLEANUP(fd_close) int fd = -1;
        SETUP_STRING copy = NULL;
        const char *directory;
        struct stat st;
        int r;

        assert(listeners->n < SETUP_LISTENERS_MAX);
        if (strlen(path) >= sizeof(address.sun_path))
                return error_set(reterr_error, ERROR_INVALID,
                                 "the socket's path is too long (%zu bytes, at most %zu): '%s'", strlen(path),
                                 sizeof(address.sun_path) - 1, path);
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        copy = strdup(path);
        if (!copy)
                return error_set_errno(reterr_error, ENOMEM, "cannot name the socket's directory");
        directory = dirname(copy);
        r = setup_socket_directory(directory, checks_directory, reterr_error);
        if (r < 0)
                return r;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return error_set_errno(reterr_error, errno, "cannot make a socket");
        r = setup_bind_locked(fd, &address, directory, reterr_error);
        if (r < 0)
                return r;
        if (lstat(path, &st) < 0)
                return error_set_errno(reterr_error, errno, "cannot look at '%s'", path);
        listeners->is_bound = true;
        listeners->device = st.st_dev;
        listeners->inode = st.st_ino;
        listeners->fds[listeners->n++] = TAKE_FD(fd);
        return 0;
}

void setup_listeners_deinit(SetupListeners *listeners) {
        while (listeners->n > 0)
                (void)fd_close(listeners->fds[--listeners->n]);
}
