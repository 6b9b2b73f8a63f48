/* SPDX-License-Identifier: MIT */

/* pmuxd: reads its command line and becomes a keeper, or the engine that a keeper started. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/parse.h"
#include "common/paths.h"
#include "daemon/engine/engine.h"
#include "daemon/keeper/keeper.h"
#include "daemon/keeper/setup.h"
#include "daemon/keeper/upgrade.h"

#define SYSTEM_SOCKET "/run/pmux/socket"
#define DAEMON_LOG_MAX (1 << 20) /* bytes; a longer one is put aside when a daemon starts */
#define DAEMON_TELL_MAX 4096     /* bytes of the log that are shown when the daemon does not come up */
#define KEEPER_STOP_USEC (95 * USEC_PER_SEC)
#define KEEPER_OOM_SCORE_ADJ -900 /* its death is everybody's */

enum {
        STATUS_OK = 0,
        STATUS_FAILED = 1,
        STATUS_USAGE = 2,
        STATUS_ALREADY_RUNNING = 3, /* the client then tries to connect again */
};

typedef struct Options {
        const char *socket;
        const char *state_dir;
        int ready_fd;
        int state_fd; /* --keeper-state */
        int check_fd; /* --check-keeper-state */
        bool daemonizes;
        bool is_system;
        bool is_engine;
        bool helps;
        bool tells_version;
} Options;

static const char usage_text[] =
        "usage: pmuxd [OPTION]…\n"
        "\n"
        "Starts programs, keeps them running and owns their standard streams, for pmux(1).\n"
        "\n"
        "  --socket PATH     listen here\n"
        "  --state-dir DIR   keep logs and registry here\n"
        "  --system          be the machine's daemon: " SYSTEM_SOCKET ", /var/lib/pmux\n"
        "  --daemonize       go to the background once clients are served; messages go to DIR/daemon.log\n"
        "  --ready-fd N      write a newline to descriptor N and close it once clients are served\n"
        "  --version         print the version and exit\n"
        "  --help            print this and exit\n"
        "\n"
        "Exit status: 0 stopped as asked, 1 failed, 2 usage, 3 another daemon uses the socket or the "
        "directory.\n";

static int fail(const Error *error) {
        fprintf(stderr, "pmuxd: %s\n", error->text);
        return error->code == ERROR_ALREADY_RUNNING ? STATUS_ALREADY_RUNNING : STATUS_FAILED;
}

static int parse_fd(const char *text, int *ret_fd) {
        Error error = {};
        uint64_t fd;

        if (parse_u64(text, INT32_MAX, &fd, &error) < 0 || fcntl((int)fd, F_GETFD) < 0) {
                fprintf(stderr, "pmuxd: '%s' is not an open descriptor\n", text);
                return -EINVAL;
        }
        *ret_fd = (int)fd;
        (void)fcntl(*ret_fd, F_SETFD, FD_CLOEXEC);
        return 0;
}

static int parse_options(int argc, char **argv, Options *options) {
        static const struct option table[] = {
                { "socket", required_argument, NULL, 's' },
                { "state-dir", required_argument, NULL, 'd' },
                { "system", no_argument, NULL, 'y' },
                { "daemonize", no_argument, NULL, 'D' },
                { "ready-fd", required_argument, NULL, 'r' },
                { "version", no_argument, NULL, 'v' },
                { "help", no_argument, NULL, 'h' },
                { "engine", no_argument, NULL, 'e' },
                { "keeper-state", required_argument, NULL, 'k' },
                { "check-keeper-state", required_argument, NULL, 'c' },
                {},
        };
        int option, r = 0;

        while (r == 0 && (option = getopt_long(argc, argv, "h", table, NULL)) != -1)
                switch (option) {
                case 's':
                        options->socket = optarg;
                        break;
                case 'd':
                        options->state_dir = optarg;
                        break;
                case 'y':
                        options->is_system = true;
                        break;
                case 'D':
                        options->daemonizes = true;
                        break;
                case 'r':
                        r = parse_fd(optarg, &options->ready_fd);
                        break;
                case 'v':
                        options->tells_version = true;
                        break;
                case 'h':
                        options->helps = true;
                        break;
                case 'e':
                        options->is_engine = true;
                        break;
                case 'k':
                        r = parse_fd(optarg, &options->state_fd);
                        break;
                case 'c':
                        r = parse_fd(optarg, &options->check_fd);
                        break;
                default:
                        return -EINVAL;
                }
        if (r == 0 && optind < argc) {
                fprintf(stderr, "pmuxd: unexpected argument '%s'\n", argv[optind]);
                r = -EINVAL;
        }
        return r;
}

/* Whoever started us may have closed them; what we open must not take their place. */
static int open_standard_fds(void) {
        int fd;

        do
                fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        while (fd >= 0 && fd <= STDERR_FILENO && fcntl(fd, F_SETFD, 0) == 0);
        if (fd < 0)
                return -errno;
        (void)fd_close(fd);
        return 0;
}

/* A daemon outlives whoever started it: it must not keep his pipes open. */
static void close_inherited(const Options *options) {
        unsigned first = STDERR_FILENO + 1, last;
        const char *n_listen = getenv("LISTEN_FDS");

        if (n_listen)
                first += (unsigned)MAX(atoi(n_listen), 0);
        last = options->ready_fd >= (int)first ? (unsigned)options->ready_fd : first;
        if (last > first)
                (void)close_range(first, last - 1, 0);
        (void)close_range(options->ready_fd >= (int)first ? last + 1 : first, ~0U, 0);
}

/* The descriptors of all processes pass through here, so as many as may be; the children get what we got. */
static void raise_nofile(KeeperConfig *config) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                limit = (struct rlimit){ .rlim_cur = 1024, .rlim_max = 4096 };
        config->nofile = limit;
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static void lower_oom_score(KeeperConfig *config) {
        char text[16] = "";
        int fd, n;

        fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return;
        if (read(fd, text, sizeof(text) - 1) > 0)
                config->oom_score_adj = atoi(text);
        n = snprintf(text, sizeof(text), "%d", KEEPER_OOM_SCORE_ADJ);
        if (config->oom_score_adj > KEEPER_OOM_SCORE_ADJ && write(fd, text, (size_t)n) == n)
                config->lowers_oom_score = true;
        (void)fd_close(fd);
}

static int find_paths(const Options *options, KeeperConfig *config, Error *reterr_error) {
        const char *given = options->socket;
        bool is_system;
        int r;

        if (options->is_system && !given && !getenv("PMUX_SOCKET"))
                given = SYSTEM_SOCKET;
        r = paths_socket(given, &config->socket_path, reterr_error);
        if (r < 0)
                return r;
        is_system = options->is_system || (geteuid() == 0 && strcmp(config->socket_path, SYSTEM_SOCKET) == 0);
        return paths_state(options->state_dir, is_system, &config->state_dir, reterr_error);
}

/* Everything that can go wrong for a reason which a person must hear of. */
static int set_up(const Options *options, KeeperConfig *config, SetupListeners *listeners,
                  Error *reterr_error) {
        bool checks_directory = !options->socket && !getenv("PMUX_SOCKET");
        int r;

        r = find_paths(options, config, reterr_error);
        if (r == 0)
                r = setup_directory(config->state_dir, "state directory", reterr_error);
        if (r == 0)
                r = setup_lock(config->state_dir, &config->lock_fd, reterr_error);
        if (r == 0)
                r = setup_activated(listeners, reterr_error);
        if (r == 0 && listeners->n == 0)
                r = setup_listen(config->socket_path, checks_directory, listeners, reterr_error);
        if (r == 0 && listeners->is_bound) {
                config->socket_device = listeners->device;
                config->socket_inode = listeners->inode;
        }
        return r;
}

static int open_log(const KeeperConfig *config, int *ret_fd, Error *reterr_error) {
        char path[PATH_MAX], old_path[PATH_MAX];
        struct stat st;

        (void)snprintf(path, sizeof(path), "%s/daemon.log", config->state_dir);
        (void)snprintf(old_path, sizeof(old_path), "%s/daemon.log.1", config->state_dir);
        if (lstat(path, &st) == 0 && st.st_size > DAEMON_LOG_MAX)
                (void)rename(path, old_path);
        *ret_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        return *ret_fd < 0 ? error_set_errno(reterr_error, errno, "cannot open '%s'", path) : 0;
}

/* In the parent: waits for the daemon to serve, or to end. Returns the exit status. */
static int wait_for_daemon(pid_t pid, int ready_fd, int user_ready_fd, int log_fd, off_t log_start) {
        char text[DAEMON_TELL_MAX], byte;
        ssize_t n;
        int status;

        if (fd_read_full(ready_fd, &byte, 1) == 1) {
                if (user_ready_fd >= 0)
                        (void)fd_write_all(user_ready_fd, "\n", 1);
                return STATUS_OK;
        }
        n = pread(log_fd, text, sizeof(text), log_start);
        if (n > 0)
                (void)fd_write_all(STDERR_FILENO, text, (size_t)n);
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return STATUS_FAILED;
        fprintf(stderr, "pmuxd: the daemon did not come up\n");
        return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : STATUS_FAILED;
}

static int enter_background(int log_fd) {
        int null_fd;

        if (setsid() < 0 || chdir("/") < 0)
                return -errno;
        null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(log_fd, STDOUT_FILENO) < 0 ||
            dup2(log_fd, STDERR_FILENO) < 0)
                return -errno;
        (void)fd_close(null_fd);
        return 0;
}

/* Returns in the daemon alone; the process that was started exits in here. */
static int daemonize(KeeperConfig *config, SetupListeners *listeners, Error *reterr_error) {
        CLEANUP(fd_close) int log_fd = -1;
        int pipe_fds[2], r;
        off_t log_start;
        pid_t pid;

        r = open_log(config, &log_fd, reterr_error);
        if (r < 0)
                return r;
        log_start = lseek(log_fd, 0, SEEK_END);
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return error_set_errno(reterr_error, errno, "cannot make a pipe");
        pid = fork();
        if (pid < 0)
                return error_set_errno(reterr_error, errno, "cannot fork");
        if (pid > 0) {
                (void)fd_close(pipe_fds[1]);
                setup_listeners_deinit(listeners);
                exit(wait_for_daemon(pid, pipe_fds[0], config->ready_fd, log_fd, log_start));
        }
        (void)fd_close(pipe_fds[0]);
        (void)fd_close(config->ready_fd);
        config->ready_fd = pipe_fds[1];
        r = enter_background(log_fd);
        return r < 0 ? error_set_errno(reterr_error, r, "cannot go to the background") : 0;
}

static int put_listeners(Keeper *keeper, SetupListeners *listeners, Error *reterr_error) {
        int r;

        while (listeners->n > 0) {
                r = bag_put(&keeper->bag, 0, (uint32_t)listeners->n - 1, KEEPER_LABEL_LISTENER,
                            listeners->fds[listeners->n - 1]);
                if (r < 0)
                        return error_set_errno(reterr_error, r, "cannot hold a listening socket");
                listeners->n--;
        }
        return 0;
}

static int keep(KeeperConfig *config, SetupListeners *listeners, int state_fd) {
        Error error = {};
        Keeper keeper;
        int r;

        config->engine_program = "/proc/self/exe";
        config->stop_usec = KEEPER_STOP_USEC;
        r = keeper_init(&keeper, config, &error);
        if (r == 0 && state_fd >= 0)
                r = upgrade_load(state_fd, &keeper, &error);
        if (r == 0)
                r = put_listeners(&keeper, listeners, &error);
        r = r < 0 ? fail(&error) : keeper_run(&keeper);
        keeper_deinit(&keeper);
        return r;
}

static int start_daemon(const Options *options) {
        KeeperConfig config = { .ready_fd = options->ready_fd, .lock_fd = -1 };
        SetupListeners listeners = {};
        Error error = {};
        int r;

        close_inherited(options);
        r = set_up(options, &config, &listeners, &error);
        if (r == 0 && options->daemonizes)
                r = daemonize(&config, &listeners, &error);
        if (r < 0)
                r = fail(&error);
        else {
                (void)!chdir("/"); /* keeps no file system busy; all paths are absolute */
                setup_lock_sign(config.lock_fd);
                raise_nofile(&config);
                lower_oom_score(&config);
                r = keep(&config, &listeners, -1);
        }
        setup_listeners_deinit(&listeners);
        keeper_config_deinit(&config);
        return r;
}

/* The same process as before, another program: everything is as it was. */
static int resume_daemon(const Options *options) {
        KeeperConfig config = { .ready_fd = -1, .lock_fd = -1 };
        SetupListeners listeners = {};
        int r;

        config.socket_path = strdup(options->socket);
        config.state_dir = strdup(options->state_dir);
        r = config.socket_path && config.state_dir ? keep(&config, &listeners, options->state_fd)
                                                   : STATUS_FAILED;
        keeper_config_deinit(&config);
        return r;
}

static int check_state(int fd) {
        Error error = {};

        return upgrade_check(fd, &error) < 0 ? fail(&error) : STATUS_OK;
}

int main(int argc, char **argv) {
        Options options = { .ready_fd = -1, .state_fd = -1, .check_fd = -1 };
        bool is_internal;

        if (open_standard_fds() < 0)
                return STATUS_FAILED;
        if (parse_options(argc, argv, &options) < 0) {
                fprintf(stderr, "try 'pmuxd --help'\n");
                return STATUS_USAGE;
        }
        if (options.helps)
                return fputs(usage_text, stdout) < 0 ? STATUS_FAILED : STATUS_OK;
        if (options.tells_version)
                return printf("pmuxd %s\n", PMUX_VERSION) < 0 ? STATUS_FAILED : STATUS_OK;
        if (options.check_fd >= 0)
                return check_state(options.check_fd);
        is_internal = options.is_engine || options.state_fd >= 0;
        if (is_internal && (!options.socket || !options.state_dir)) {
                fprintf(stderr, "pmuxd: the keeper's own options are not for people\n");
                return STATUS_USAGE;
        }
        /* The name of a program that was executed as /proc/self/exe is "exe". */
        (void)prctl(PR_SET_NAME, options.is_engine ? "pmuxd-engine" : "pmuxd");
        (void)umask(077);
        if (options.is_engine)
                return engine_run(options.socket, options.state_dir);
        return options.state_fd >= 0 ? resume_daemon(&options) : start_daemon(&options);
}
