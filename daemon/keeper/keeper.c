/* SPDX-License-Identifier: MIT */

#include "daemon/keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/keeper/engine-slot.h"
#include "daemon/keeper/report.h"
#include "daemon/keeper/request.h"
#include "daemon/keeper/systemd.h"
#include "daemon/keeper/upgrade.h"
#include "daemon/keeper/watchdog.h"

#define KEEPER_KILL_USEC (5 * USEC_PER_SEC)    /* for what is killed at the end to be gone */
#define KEEPER_SWEEP_USEC (10 * USEC_PER_MSEC) /* the longest that one sweep for ended children may take */
#define KEEPER_SWEEP_REST 100                  /* times what a sweep took: until the next */
#define KEEPER_SWEEP_REST_MIN_USEC (10 * USEC_PER_MSEC)
#define KEEPER_SWEEP_REST_MAX_USEC (500 * USEC_PER_MSEC)
#define KEEPER_LATEST 8 /* children that are looked at by themselves whenever one has ended */
#define KEEPER_READS 64 /* messages of the engine in one turn of the loop */

int keeper_keep_fd(int fd) {
        int kept;

        if (fd >= KEEPER_FD_MIN)
                return fd;
        kept = fcntl(fd, F_DUPFD_CLOEXEC, KEEPER_FD_MIN);
        if (kept < 0)
                return -errno;
        (void)fd_close(fd);
        return kept;
}

/* Opens the descriptors that the keeper itself needs, out of the way of those that pass through. */
static int keeper_open(Keeper *keeper, const sigset_t *signals, Error *reterr_error) {
        int *fds[] = { &keeper->signal_fd, &keeper->null_fd, &keeper->config.ready_fd,
                       &keeper->config.lock_fd };
        int fd;

        keeper->signal_fd = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK);
        if (keeper->signal_fd < 0)
                return error_set_errno(reterr_error, errno, "cannot make a signalfd");
        keeper->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (keeper->null_fd < 0)
                return error_set_errno(reterr_error, errno, "cannot open '/dev/null'");
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
                if (*fds[i] < 0)
                        continue;
                fd = keeper_keep_fd(*fds[i]);
                if (fd < 0)
                        return error_set_errno(reterr_error, fd, "cannot move a descriptor");
                *fds[i] = fd;
        }
        return 0;
}

int keeper_init(Keeper *keeper, KeeperConfig *config, Error *reterr_error) {
        const struct sigaction child_action = { .sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP };
        sigset_t signals;
        int r;

        *keeper = (Keeper){
                .config = *config,
                .signal_fd = -1,
                .null_fd = -1,
                .terminate_usec = USEC_INFINITY,
        };
        *config = (KeeperConfig){ .ready_fd = -1, .lock_fd = -1 };
        bag_init(&keeper->bag, KEEPER_FD_MIN);
        child_table_init(&keeper->children);
        engine_slot_init(keeper);
        /* An ignored SIGCHLD would have the kernel reap in our place; of a child that stops we need not hear.
         */
        (void)sigaction(SIGCHLD, &child_action, NULL);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGHUP, SIG_IGN);
        (void)sigemptyset(&signals);
        (void)sigaddset(&signals, SIGCHLD);
        (void)sigaddset(&signals, SIGTERM);
        (void)sigaddset(&signals, SIGINT);
        (void)sigprocmask(SIG_SETMASK, &signals, NULL);
        r = keeper_open(keeper, &signals, reterr_error);
        if (r < 0)
                return r;
        keeper->answers = malloc(KEEPER_ANSWERS_MAX * sizeof(*keeper->answers));
        if (!keeper->answers)
                return error_set_errno(reterr_error, ENOMEM, "cannot make a queue of answers");
        r = spawner_init(&keeper->spawner);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot make a stack");
        if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                return error_set_errno(reterr_error, errno, "cannot become a subreaper");
        if (getrandom(keeper->instance, sizeof(keeper->instance), 0) != sizeof(keeper->instance))
                return error_set_errno(reterr_error, errno, "cannot get random bytes");
        watchdog_init(keeper);
        return 0;
}

void keeper_config_deinit(KeeperConfig *config) {
        free(config->socket_path);
        free(config->state_dir);
        (void)fd_close(config->ready_fd);
        (void)fd_close(config->lock_fd);
        *config = (KeeperConfig){ .ready_fd = -1, .lock_fd = -1 };
}

void keeper_deinit(Keeper *keeper) {
        free(keeper->answers);
        (void)fd_close(keeper->engine.socket_fd);
        (void)fd_close(keeper->signal_fd);
        (void)fd_close(keeper->null_fd);
        spawner_deinit(&keeper->spawner);
        child_table_deinit(&keeper->children);
        bag_deinit(&keeper->bag);
        keeper_config_deinit(&keeper->config);
}

void keeper_on_serving(Keeper *keeper) {
        KeeperConfig *config = &keeper->config;
        char state[256];

        /* The descriptor store: here each entry of the bag could go to systemd too (FDSTORE=1, FDNAME=label.
         * process.run), to be taken back in main.c when a keeper that was killed is started again. */
        (void)snprintf(state, sizeof(state), "READY=1\nMAINPID=%d\nSTATUS=Serving %s", getpid(),
                       config->socket_path);
        systemd_notify(state);
        keeper->has_served = true;
        keeper->engine.has_served = true;
        if (config->ready_fd >= 0)
                (void)fd_write_all(config->ready_fd, "\n", 1);
        config->ready_fd = fd_close(config->ready_fd);
}

static KeeperUsage keeper_usage(const struct rusage *rusage) {
        return (KeeperUsage){
                .user_usec =
                        (uint64_t)rusage->ru_utime.tv_sec * USEC_PER_SEC + (uint64_t)rusage->ru_utime.tv_usec,
                .system_usec =
                        (uint64_t)rusage->ru_stime.tv_sec * USEC_PER_SEC + (uint64_t)rusage->ru_stime.tv_usec,
                .max_rss_bytes = (uint64_t)rusage->ru_maxrss * 1024,
                .minor_faults = (uint64_t)rusage->ru_minflt,
                .major_faults = (uint64_t)rusage->ru_majflt,
                .in_blocks = (uint64_t)rusage->ru_inblock,
                .out_blocks = (uint64_t)rusage->ru_oublock,
                .voluntary_switches = (uint64_t)rusage->ru_nvcsw,
                .involuntary_switches = (uint64_t)rusage->ru_nivcsw,
        };
}

/* Reaps one child, this one (P_PID) or any (P_ALL). Returns its pid, 0: none has ended, -ECHILD: there is
 * none. */
static pid_t keeper_reap_one(Keeper *keeper, idtype_t type, pid_t pid) {
        EngineSlot *engine = &keeper->engine;
        siginfo_t info = {};
        struct rusage rusage;
        KeeperUsage usage;
        Child *child;

        /* The system call tells si_code and rusage, of which the C library's calls tell but one each. */
        while (syscall(SYS_waitid, type, pid, &info, WEXITED | WNOHANG, &rusage) < 0)
                if (errno != EINTR)
                        return -errno;
        if (info.si_pid == 0)
                return 0;
        child = child_table_find_pid(&keeper->children, info.si_pid);
        if (child) {
                usage = keeper_usage(&rusage);
                child_set_exited(&keeper->children, child, info.si_code, info.si_status, &usage,
                                 clock_realtime_usec());
        } else if (info.si_pid == engine->pid) {
                request_drain(keeper);
                engine_slot_on_exit(keeper, &info);
        } else {
                engine->owes_reaped = true;
                engine->reaped = info.si_pid;
        }
        return info.si_pid;
}

/* SIGCHLD is not queued, one may stand for many. Those that it does not name are most likely among the
 * latest, as most that end soon after others began soon after others, too; and an engine that ended is waited
 * for by all clients. A look at one costs the same however many there are. */
static void keeper_reap_latest(Keeper *keeper) {
        const List *all = &keeper->children.all;
        unsigned n = 0;

        for (const List *link = all->prev; link != all && n < KEEPER_LATEST; link = link->prev, n++) {
                const Child *child = CONTAINER_OF(link, Child, all);

                if (child->state == KEEPER_CHILD_RUNNING)
                        (void)keeper_reap_one(keeper, P_PID, child->pid);
        }
        if (keeper->engine.is_failed && keeper->engine.pid > 0)
                (void)keeper_reap_one(keeper, P_PID, keeper->engine.pid);
}

/* Reaps the others that no signal named. To look for them costs the kernel a walk over all children (about
 * two milliseconds for 4,000), so that it is done again only after a hundred times as long as it took: with
 * few children a moment later than those that were named, with thousands some tenths of a second. */
static void keeper_sweep(Keeper *keeper) {
        uint64_t start = clock_monotonic_usec(), last = start, now = start, rest;
        pid_t pid;

        keeper->sweep_usec = USEC_INFINITY;
        do {
                last = now;
                pid = keeper_reap_one(keeper, P_ALL, 0);
                now = clock_monotonic_usec();
        } while (pid > 0 && !keeper->is_stopped && now - start < KEEPER_SWEEP_USEC);
        rest = MAX((now - last) * KEEPER_SWEEP_REST, KEEPER_SWEEP_REST_MIN_USEC);
        keeper->sweep_after_usec = now + MIN(rest, KEEPER_SWEEP_REST_MAX_USEC);
        if (pid > 0)
                keeper->sweep_usec = keeper->sweep_after_usec;
}

/* SIGKILL to every child of ours; the children of those become ours in turn, we are their subreaper. */
static void keeper_kill_children(Keeper *keeper) {
        FILE *file;
        int pid;

        LIST_FOREACH(Child, child, &keeper->children.all, all)
                if (child->state == KEEPER_CHILD_RUNNING)
                        (void)kill(child->pid, SIGKILL);
        if (keeper->engine.pid > 0)
                (void)kill(keeper->engine.pid, SIGKILL);
        file = fopen("/proc/thread-self/children", "re");
        if (!file)
                return;
        while (fscanf(file, "%d", &pid) == 1)
                (void)kill(pid, SIGKILL);
        (void)fclose(file);
}

/* Nothing is left behind: kills until no child is left or some will not die. */
static void keeper_kill_everything(Keeper *keeper) {
        uint64_t deadline = clock_monotonic_usec() + KEEPER_KILL_USEC;
        struct pollfd pollfd = { .fd = keeper->signal_fd, .events = POLLIN };
        struct signalfd_siginfo info;
        pid_t pid;

        keeper->is_stopped = true;
        for (;;) {
                keeper_kill_children(keeper);
                do
                        pid = keeper_reap_one(keeper, P_ALL, 0);
                while (pid > 0);
                if (pid < 0)
                        break;
                if (clock_monotonic_usec() >= deadline) {
                        report(SD_ERR, "some processes do not die; leaving them");
                        break;
                }
                (void)poll(&pollfd, 1, 100);
                while (read(keeper->signal_fd, &info, sizeof(info)) > 0)
                        ;
        }
}

static void keeper_terminate(Keeper *keeper, int signal) {
        if (keeper->is_terminating) {
                report(SD_WARNING, "signal %d for the second time: killing what is left", signal);
                keeper->is_stopped = true;
                keeper->exit_status = 1;
                return;
        }
        systemd_notify("STOPPING=1\nSTATUS=Stopping every process");
        keeper->is_terminating = true;
        keeper->terminate_usec = clock_monotonic_usec() + keeper->config.stop_usec;
        keeper->engine.owes_terminate = true;
        keeper->engine.start_usec = 0;
        if (!keeper->has_served && !keeper->is_upgraded && keeper->children.n == 0)
                keeper->is_stopped = true; /* nobody waits, nothing runs */
}

static void keeper_read_signals(Keeper *keeper) {
        struct signalfd_siginfo info;
        bool has_ended = false;

        while (!keeper->is_stopped && read(keeper->signal_fd, &info, sizeof(info)) == sizeof(info)) {
                if (info.ssi_signo != SIGCHLD) {
                        keeper_terminate(keeper, (int)info.ssi_signo);
                        continue;
                }
                (void)keeper_reap_one(keeper, P_PID, (pid_t)info.ssi_pid);
                has_ended = true;
        }
        if (!has_ended)
                return;
        keeper_reap_latest(keeper);
        keeper->sweep_usec = keeper->sweep_after_usec;
}

/* Does what time has come for; returns when to come back. */
static uint64_t keeper_tick(Keeper *keeper) {
        EngineSlot *engine = &keeper->engine;
        uint64_t now = clock_monotonic_usec();

        if (now >= keeper->sweep_usec) {
                keeper_sweep(keeper);
                engine_slot_flush(keeper);
        }
        if (now >= keeper->terminate_usec) {
                report(SD_ERR, "the engine did not stop in time: killing what is left");
                keeper->is_stopped = true;
                keeper->exit_status = 1;
        }
        if (engine->pid == 0 && keeper->wants_upgrade) {
                keeper->wants_upgrade = false;
                if (!keeper->is_terminating)
                        upgrade_execute(keeper, keeper->upgrade_path);
        }
        if (engine->pid == 0 && !keeper->is_stopped && now >= engine->start_usec)
                engine_slot_start(keeper);
        watchdog_tick(keeper, now);
        if (now >= engine->retry_usec)
                engine_slot_flush(keeper);
        now = MIN(MIN(watchdog_deadline(keeper), keeper->terminate_usec), keeper->sweep_usec);
        if (engine->pid == 0)
                now = MIN(now, engine->start_usec);
        return MIN(now, engine->retry_usec);
}

static void keeper_wait(Keeper *keeper, uint64_t deadline_usec) {
        EngineSlot *engine = &keeper->engine;
        bool reads = engine->phase == HANDOVER_DONE;
        struct pollfd pollfds[] = {
                { .fd = keeper->signal_fd, .events = POLLIN },
                { .fd = engine->is_failed ? -1 : engine->socket_fd,
                  .events = (short)((reads ? POLLIN : 0) | (engine->is_blocked ? POLLOUT : 0)) },
        };
        uint64_t now = clock_monotonic_usec(), left;
        struct timespec timeout;

        left = deadline_usec > now ? deadline_usec - now : 0;
        timeout.tv_sec = (time_t)(left / USEC_PER_SEC);
        timeout.tv_nsec = (long)(left % USEC_PER_SEC) * 1000;
        if (ppoll(pollfds, ARRAY_SIZE(pollfds), deadline_usec == USEC_INFINITY ? NULL : &timeout, NULL) <= 0)
                return;
        if (pollfds[1].revents & POLLIN)
                request_read(keeper, KEEPER_READS);
        else if (pollfds[1].revents & (POLLHUP | POLLERR))
                engine_slot_fail(keeper, NULL);
        /* What was just spawned may have ended while it kept us waiting: that is told in one. */
        if (pollfds[0].revents || !list_empty(&keeper->children.untold))
                keeper_read_signals(keeper);
        engine_slot_flush(keeper);
}

/* Removes the socket unless another one is there by now. */
static void keeper_unlink_socket(const KeeperConfig *config) {
        struct stat st;

        if (config->socket_inode != 0 && lstat(config->socket_path, &st) == 0 &&
            st.st_dev == config->socket_device && st.st_ino == config->socket_inode)
                (void)unlink(config->socket_path);
}

int keeper_run(Keeper *keeper) {
        uint64_t deadline;

        while (!keeper->is_stopped) {
                deadline = keeper_tick(keeper);
                if (!keeper->is_stopped)
                        keeper_wait(keeper, deadline);
        }
        systemd_notify("STOPPING=1");
        keeper_unlink_socket(&keeper->config);
        keeper_kill_everything(keeper);
        return keeper->exit_status;
}
