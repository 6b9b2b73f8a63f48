/* SPDX-License-Identifier: MIT */

#include "daemon/keeper/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/keeper/keeper.h"
#include "daemon/keeper/report.h"

/* The state is text, one fact a line, so that it does not depend on how either program lays out its structs.
 * A reader refuses a line that it does not know: to lose a fact is worse than not to upgrade. */
#define UPGRADE_MAGIC "pmux-keeper-state 1"
#define UPGRADE_PROBE_MSEC 10000 /* for the new program to say that it understands the state */
#define UPGRADE_PROBE_FD 3
#define UPGRADE_YES "understood\n" /* behind the state: its answer, which no stranger gives by chance */

/* Numbers of a child's line after "child": how many there are. */
#define UPGRADE_CHILD_NUMBERS 17

static int upgrade_write(const Keeper *keeper, int lock_fd, FILE *file) {
        const KeeperConfig *config = &keeper->config;

        fprintf(file, UPGRADE_MAGIC "\ninstance ");
        for (size_t i = 0; i < sizeof(keeper->instance); i++)
                fprintf(file, "%02x", keeper->instance[i]);
        fprintf(file, "\nengine-restarts %" PRIu32 "\nlock %d\n", keeper->engine.restarts, lock_fd);
        fprintf(file, "socket %" PRIu64 " %" PRIu64 "\n", config->socket_device, config->socket_inode);
        fprintf(file, "nofile %" PRIu64 " %" PRIu64 "\n", (uint64_t)config->nofile.rlim_cur,
                (uint64_t)config->nofile.rlim_max);
        fprintf(file, "oom-score-adj %d %d\n", config->oom_score_adj, config->lowers_oom_score);
        for (int fd = bag_next(&keeper->bag, 0); fd >= 0; fd = bag_next(&keeper->bag, fd + 1)) {
                const BagEntry *entry = &keeper->bag.entries[fd];

                fprintf(file, "fd %" PRIu32 " %" PRIu64 " %" PRIu32 " %d\n", entry->label, entry->process,
                        entry->run, fd);
        }
        LIST_FOREACH(const Child, child, &keeper->children.all, all) {
                const KeeperUsage *usage = &child->usage;
                const uint64_t numbers[UPGRADE_CHILD_NUMBERS] = {
                        child->process,
                        child->run,
                        (uint64_t)child->pid,
                        child->state,
                        (uint64_t)child->error,
                        (uint64_t)child->wait_code,
                        (uint64_t)child->wait_status,
                        child->usec,
                        usage->user_usec,
                        usage->system_usec,
                        usage->max_rss_bytes,
                        usage->minor_faults,
                        usage->major_faults,
                        usage->in_blocks,
                        usage->out_blocks,
                        usage->voluntary_switches,
                        usage->involuntary_switches,
                };

                fprintf(file, "child");
                for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
                        fprintf(file, " %" PRIu64, numbers[i]);
                fprintf(file, " %s\n", *child->step ? child->step : "-");
        }
        fprintf(file, "end\n");
        return fflush(file) != 0 || ferror(file) ? -EIO : 0;
}

/* The reader of each kind of line; keeper is NULL where the state is only to be understood. */
typedef struct UpgradeLine {
        const char *word;
        int (*read)(Keeper *keeper, const char *rest);
} UpgradeLine;

static int upgrade_read_instance(Keeper *keeper, const char *rest) {
        uint8_t instance[sizeof(keeper->instance)];

        for (size_t i = 0; i < sizeof(instance); i++)
                if (sscanf(rest + 2 * i, "%2" SCNx8, &instance[i]) != 1)
                        return -EPROTO;
        if (keeper)
                memcpy(keeper->instance, instance, sizeof(instance));
        return 0;
}

static int upgrade_read_restarts(Keeper *keeper, const char *rest) {
        uint32_t restarts;

        if (sscanf(rest, "%" SCNu32, &restarts) != 1)
                return -EPROTO;
        if (keeper)
                keeper->engine.restarts = restarts;
        return 0;
}

static int upgrade_read_lock(Keeper *keeper, const char *rest) {
        int fd;

        if (sscanf(rest, "%d", &fd) != 1)
                return -EPROTO;
        if (keeper)
                keeper->config.lock_fd = fd;
        return keeper && fd >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

static int upgrade_read_socket(Keeper *keeper, const char *rest) {
        uint64_t device, inode;

        if (sscanf(rest, "%" SCNu64 " %" SCNu64, &device, &inode) != 2)
                return -EPROTO;
        if (keeper) {
                keeper->config.socket_device = device;
                keeper->config.socket_inode = inode;
        }
        return 0;
}

static int upgrade_read_nofile(Keeper *keeper, const char *rest) {
        uint64_t soft, hard;

        if (sscanf(rest, "%" SCNu64 " %" SCNu64, &soft, &hard) != 2)
                return -EPROTO;
        if (keeper)
                keeper->config.nofile = (struct rlimit){ .rlim_cur = soft, .rlim_max = hard };
        return 0;
}

static int upgrade_read_oom_score(Keeper *keeper, const char *rest) {
        int score, lowers;

        if (sscanf(rest, "%d %d", &score, &lowers) != 2)
                return -EPROTO;
        if (keeper) {
                keeper->config.oom_score_adj = score;
                keeper->config.lowers_oom_score = lowers;
        }
        return 0;
}

static int upgrade_read_fd(Keeper *keeper, const char *rest) {
        uint64_t process;
        uint32_t label, run;
        int fd;

        if (sscanf(rest, "%" SCNu32 " %" SCNu64 " %" SCNu32 " %d", &label, &process, &run, &fd) != 4 ||
            fd < 0 || label == KEEPER_LABEL_NONE || label >= KEEPER_LABEL_N_)
                return -EPROTO;
        if (!keeper)
                return 0;
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
                return -errno;
        return bag_put(&keeper->bag, process, run, label, fd);
}

static int upgrade_read_child(Keeper *keeper, const char *rest) {
        uint64_t n[UPGRADE_CHILD_NUMBERS];
        char step[CHILD_STEP_MAX] = "";
        Child *child;
        char *end;
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(n); i++, rest = end) {
                n[i] = strtoull(rest, &end, 10);
                if (end == rest)
                        return -EPROTO;
        }
        if (sscanf(rest, " %15s", step) != 1 || n[3] < KEEPER_CHILD_RUNNING || n[3] > KEEPER_CHILD_EXITED)
                return -EPROTO;
        if (!keeper)
                return 0;
        r = child_table_add(&keeper->children, n[0], (uint32_t)n[1], &child);
        if (r < 0)
                return r;
        if (n[3] == KEEPER_CHILD_FAILED) {
                child_set_failed(&keeper->children, child, (int)n[4], step);
                return 0;
        }
        child_set_running(&keeper->children, child, (pid_t)n[2], n[7]);
        if (n[3] == KEEPER_CHILD_EXITED) {
                const KeeperUsage usage = { n[8], n[9], n[10], n[11], n[12], n[13], n[14], n[15], n[16] };

                child_set_exited(&keeper->children, child, (int)n[5], (int)n[6], &usage, n[7]);
        }
        return 0;
}

static int upgrade_read_line(Keeper *keeper, char *line) {
        static const UpgradeLine lines[] = {
                { "instance", upgrade_read_instance },
                { "engine-restarts", upgrade_read_restarts },
                { "lock", upgrade_read_lock },
                { "socket", upgrade_read_socket },
                { "nofile", upgrade_read_nofile },
                { "oom-score-adj", upgrade_read_oom_score },
                { "fd", upgrade_read_fd },
                { "child", upgrade_read_child },
        };
        char *rest = strchr(line, ' ');

        if (!rest)
                return -EPROTO;
        *rest++ = '\0';
        for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
                if (strcmp(lines[i].word, line) == 0)
                        return lines[i].read(keeper, rest);
        return -EPROTO;
}

static int upgrade_read(Keeper *keeper, FILE *file, Error *reterr_error) {
        char line[512];
        int r;

        if (!fgets(line, sizeof(line), file) || strcmp(line, UPGRADE_MAGIC "\n") != 0)
                return error_set(reterr_error, ERROR_PROTOCOL, "the keeper's state is of another version");
        while (fgets(line, sizeof(line), file)) {
                line[strcspn(line, "\n")] = '\0';
                if (strcmp(line, "end") == 0)
                        return 0;
                r = upgrade_read_line(keeper, line);
                if (r == -EPROTO)
                        return error_set(reterr_error, ERROR_PROTOCOL, "the keeper's state has the line '%s'",
                                         line);
                if (r < 0)
                        return error_set_errno(reterr_error, r, "cannot take over '%s'", line);
        }
        return error_set(reterr_error, ERROR_PROTOCOL, "the keeper's state is cut off");
}

int upgrade_load(int fd, Keeper *keeper, Error *reterr_error) {
        FILE *file;
        int r;

        file = lseek(fd, 0, SEEK_SET) < 0 ? NULL : fdopen(fd, "r");
        if (!file)
                return error_set_errno(reterr_error, errno, "cannot read the keeper's state");
        r = upgrade_read(keeper, file, reterr_error);
        (void)fclose(file);
        keeper->is_upgraded = true;
        keeper->has_served = true;
        return r;
}

int upgrade_check(int fd, Error *reterr_error) {
        FILE *file;
        int copy, r;

        copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        file = copy < 0 || lseek(copy, 0, SEEK_SET) < 0 ? NULL : fdopen(copy, "r");
        if (!file) {
                r = error_set_errno(reterr_error, errno, "cannot read the keeper's state");
                (void)fd_close(copy);
                return r;
        }
        r = upgrade_read(NULL, file, reterr_error);
        if (r == 0 && (lseek(fd, 0, SEEK_END) < 0 || fd_write_all(fd, UPGRADE_YES, strlen(UPGRADE_YES)) < 0))
                r = error_set_errno(reterr_error, errno, "cannot answer");
        (void)fclose(file);
        return r;
}

static int upgrade_make_state(const Keeper *keeper, int *ret_fd) {
        FILE *file;
        int copy, fd, low, r;

        low = memfd_create("pmux-keeper-state", MFD_CLOEXEC);
        if (low < 0)
                return -errno;
        fd = keeper_keep_fd(low);
        if (fd < 0) {
                (void)fd_close(low);
                return fd;
        }
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        file = copy < 0 ? NULL : fdopen(copy, "w");
        r = file ? upgrade_write(keeper, keeper->config.lock_fd, file) : -errno;
        if (file)
                (void)fclose(file);
        else
                (void)fd_close(copy);
        if (r < 0) {
                (void)fd_close(fd);
                return r;
        }
        *ret_fd = fd;
        return 0;
}

/* Waits for the probe, but not for ever. Returns whether it succeeded. */
static bool upgrade_wait(pid_t pid) {
        struct pollfd pollfd = { .events = POLLIN };
        siginfo_t info = {};

        pollfd.fd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (pollfd.fd < 0 || poll(&pollfd, 1, UPGRADE_PROBE_MSEC) != 1)
                (void)kill(pid, SIGKILL);
        (void)fd_close(pollfd.fd);
        while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 && errno == EINTR)
                ;
        return info.si_code == CLD_EXITED && info.si_status == 0;
}

static bool upgrade_is_understood(int state_fd) {
        char text[sizeof(UPGRADE_YES)] = "";
        off_t end = lseek(state_fd, 0, SEEK_END);

        return end >= (off_t)strlen(UPGRADE_YES) &&
               pread(state_fd, text, strlen(UPGRADE_YES), end - (off_t)strlen(UPGRADE_YES)) > 0 &&
               strcmp(text, UPGRADE_YES) == 0;
}

/* Has the new program read our state, while there still is a way back. */
static bool upgrade_probe(Keeper *keeper, const char *path, int state_fd) {
        const int fds[] = { keeper->null_fd, keeper->null_fd, STDERR_FILENO, state_fd };
        char *const candidates[] = { (char *)path, NULL };
        char *const argv[] = { (char *)"pmuxd", (char *)"--check-keeper-state", (char *)"3", NULL };
        const SpawnRequest request = {
                .candidates = candidates,
                .argv = argv,
                .envp = environ,
                .fds = fds,
                .n_fds = ARRAY_SIZE(fds),
                .cgroup_fd = -1,
                .umask = 077,
        };
        const char *step = "";
        pid_t pid;
        int r;

        static_assert(ARRAY_SIZE(fds) == UPGRADE_PROBE_FD + 1, "argv says which descriptor the state is");
        r = spawn(&keeper->spawner, &request, &pid, &step);
        if (r < 0) {
                report(SD_ERR, "cannot upgrade to '%s': %s: %s", path, step, strerror(-r));
                return false;
        }
        if (upgrade_wait(pid) && upgrade_is_understood(state_fd))
                return true;
        report(SD_ERR, "cannot upgrade to '%s': it does not understand this daemon's state", path);
        return false;
}

static void upgrade_set_cloexec(const Keeper *keeper, int state_fd, int flags) {
        (void)fcntl(state_fd, F_SETFD, flags);
        (void)fcntl(keeper->config.lock_fd, F_SETFD, flags);
        for (int fd = bag_next(&keeper->bag, 0); fd >= 0; fd = bag_next(&keeper->bag, fd + 1))
                (void)fcntl(fd, F_SETFD, flags);
}

static int upgrade_own_path(char *path, size_t size) {
        static const char deleted[] = " (deleted)";
        size_t cut = strlen(deleted);
        ssize_t n;

        n = readlink("/proc/self/exe", path, size - 1);
        if (n < 0)
                return -errno;
        path[n] = '\0';
        /* What is installed at the path of a program that was replaced is the new one. */
        if ((size_t)n > cut && strcmp(path + n - cut, deleted) == 0)
                path[(size_t)n - cut] = '\0';
        return 0;
}

void upgrade_execute(Keeper *keeper, const char *path) {
        KeeperConfig *config = &keeper->config;
        char own_path[PATH_MAX], state_text[16];
        char *const argv[] = {
                (char *)"pmuxd",   (char *)"--socket",       config->socket_path, (char *)"--state-dir",
                config->state_dir, (char *)"--keeper-state", state_text,          NULL,
        };
        int state_fd = -1, r;

        if (!*path) {
                r = upgrade_own_path(own_path, sizeof(own_path));
                if (r < 0) {
                        report(SD_ERR, "cannot upgrade: who am I? %s", strerror(-r));
                        return;
                }
                path = own_path;
        }
        r = upgrade_make_state(keeper, &state_fd);
        if (r < 0) {
                report(SD_ERR, "cannot upgrade: the state: %s", strerror(-r));
                return;
        }
        (void)snprintf(state_text, sizeof(state_text), "%d", state_fd);
        if (upgrade_probe(keeper, path, state_fd)) {
                report(SD_NOTICE, "executing '%s' in place", path);
                upgrade_set_cloexec(keeper, state_fd, 0);
                (void)execve(path, argv, environ);
                report(SD_ERR, "cannot upgrade to '%s': %s", path, strerror(errno));
                upgrade_set_cloexec(keeper, state_fd, FD_CLOEXEC);
        }
        (void)fd_close(state_fd);
}
