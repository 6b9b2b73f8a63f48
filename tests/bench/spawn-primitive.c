/* SPDX-License-Identifier: MIT */

/* What it costs to start a program, by each primitive, with none and with many open descriptors.
 *
 * usage: spawn-primitive [ROUNDS [DESCRIPTORS…]]; prints medians in microseconds: how long the caller waits
 * for one start, and how long until the program, which does nothing, has been reaped. The ways take
 * turns, some starts each, so that whatever else the machine does falls on all of them alike; the first
 * starts of a turn do not count, because the kernel may still be busy with what the way before it left
 * behind. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/macro.h"
#include "daemon/keeper/spawn.h"

#define ROUNDS_DEFAULT 600
#define TURN 20    /* starts of one way in a row that count */
#define TURN_OFF 8 /* and those before, which do not */
#define FD_LOW 16  /* below: what a child gets; above: what is in the way */

static Spawner spawner;
static int null_fd, cgroup_fd = -1;
static char *const argv[] = { (char *)"/bin/true", NULL };

static pid_t start_fork(void) {
        pid_t pid = fork();

        if (pid == 0) {
                (void)execv(argv[0], argv);
                _exit(127);
        }
        return pid; /* not yet executing: its cost is the copy alone */
}

static pid_t start_vfork(void) {
        pid_t pid = vfork();

        if (pid == 0) {
                (void)execv(argv[0], argv);
                _exit(127);
        }
        return pid;
}

static pid_t start_posix_spawn(void) {
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t none, all;
        pid_t pid = -1;

        (void)sigemptyset(&none);
        (void)sigfillset(&all);
        (void)posix_spawn_file_actions_init(&actions);
        for (int i = 0; i < 3; i++)
                (void)posix_spawn_file_actions_adddup2(&actions, null_fd, i);
        (void)posix_spawn_file_actions_addchdir_np(&actions, "/");
        (void)posix_spawnattr_init(&attributes);
        (void)posix_spawnattr_setsigmask(&attributes, &none);
        (void)posix_spawnattr_setsigdefault(&attributes, &all);
        (void)posix_spawnattr_setflags(&attributes,
                                       POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
        if (posix_spawn(&pid, argv[0], &actions, &attributes, argv, environ) != 0)
                pid = -1;
        (void)posix_spawnattr_destroy(&attributes);
        (void)posix_spawn_file_actions_destroy(&actions);
        return pid;
}

static pid_t start_ours(bool without_unshare, int cgroup, bool without_clone3) {
        const int fds[] = { null_fd, null_fd, null_fd };
        const SpawnRequest request = {
                .candidates = argv,
                .argv = argv,
                .envp = environ,
                .cwd = "/",
                .fds = fds,
                .n_fds = ARRAY_SIZE(fds),
                .cgroup_fd = cgroup,
                .umask = 022,
        };
        const char *step;
        pid_t pid = -1;

        spawner.without_unshare = without_unshare;
        spawner.without_clone3 = without_clone3;
        return spawn(&spawner, &request, &pid, &step) < 0 ? -1 : pid;
}

static pid_t start_shared(void) {
        return start_ours(false, -1, false);
}

static pid_t start_copied(void) {
        return start_ours(true, -1, false);
}

static pid_t start_born_in_cgroup(void) {
        return start_ours(false, cgroup_fd, false);
}

static pid_t start_moved_to_cgroup(void) {
        return start_ours(false, cgroup_fd, true);
}

static const struct {
        const char *name;
        pid_t (*start)(void);
        bool wants_cgroup;
} ways[] = {
        { "fork, exec (until fork returns)", start_fork, false },
        { "vfork, exec, nothing else", start_vfork, false },
        { "posix_spawn, same work", start_posix_spawn, false },
        { "spawn(), table copied", start_copied, false },
        { "spawn(), table shared", start_shared, false },
        { "spawn(), born in cgroup", start_born_in_cgroup, true },
        { "spawn(), moved to cgroup", start_moved_to_cgroup, true },
};

static double now_usec(void) {
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b) {
        const double *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

/* Starts a program and awaits its end; the two times are left in *ret_wait and *ret_end. */
static void start_one(size_t way, double *ret_wait, double *ret_end) {
        double start = now_usec();
        pid_t pid = ways[way].start();

        *ret_wait = now_usec() - start;
        if (pid < 0 || waitpid(pid, NULL, 0) != pid) {
                fprintf(stderr, "%s failed\n", ways[way].name);
                exit(EXIT_FAILURE);
        }
        *ret_end = now_usec() - start;
}

static void measure(size_t rounds, unsigned n_open) {
        double *waits[ARRAY_SIZE(ways)], *ends[ARRAY_SIZE(ways)], ignored;

        for (size_t way = 0; way < ARRAY_SIZE(ways); way++) {
                waits[way] = calloc(rounds, sizeof(double));
                ends[way] = calloc(rounds, sizeof(double));
        }
        for (size_t round = 0; round < rounds; round += TURN)
                for (size_t way = 0; way < ARRAY_SIZE(ways); way++) {
                        if (ways[way].wants_cgroup && cgroup_fd < 0)
                                continue;
                        for (int i = 0; i < TURN_OFF; i++)
                                start_one(way, &ignored, &ignored);
                        for (size_t i = round; i < MIN(round + TURN, rounds); i++)
                                start_one(way, &waits[way][i], &ends[way][i]);
                }
        for (size_t way = 0; way < ARRAY_SIZE(ways); way++) {
                qsort(waits[way], rounds, sizeof(double), compare);
                qsort(ends[way], rounds, sizeof(double), compare);
                if (!ways[way].wants_cgroup || cgroup_fd >= 0)
                        printf("%6u open  %-32s caller waits %7.1f (best tenth %7.1f)   to the end %7.1f "
                               "(%7.1f)\n",
                               n_open, ways[way].name, waits[way][rounds / 2], waits[way][rounds / 10],
                               ends[way][rounds / 2], ends[way][rounds / 10]);
                free(waits[way]);
                free(ends[way]);
        }
}

/* A cgroup to start programs in, if there is one to be had. */
static void make_cgroup(char *path, size_t size) {
        static const char *const roots[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };

        for (size_t i = 0; i < ARRAY_SIZE(roots) && cgroup_fd < 0; i++) {
                char file[128];

                (void)snprintf(file, sizeof(file), "%s/cgroup.controllers", roots[i]);
                (void)snprintf(path, size, "%s/spawn-primitive.%d", roots[i], getpid());
                if (access(file, F_OK) == 0 && mkdir(path, 0755) == 0)
                        cgroup_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
}

/* Measures with one more heap of descriptors in the way. */
static int measure_with(size_t rounds, unsigned wanted) {
        static unsigned n_open;

        for (; n_open < wanted; n_open++)
                if (fcntl(null_fd, F_DUPFD_CLOEXEC, FD_LOW) < 0) {
                        fprintf(stderr, "only %u descriptors: %s\n", n_open, strerror(errno));
                        return -errno;
                }
        measure(rounds, n_open);
        return 0;
}

int main(int argc, char **args) {
        static const unsigned counts[] = { 0, 1000, 15000 };
        size_t rounds = argc > 1 ? strtoul(args[1], NULL, 10) : ROUNDS_DEFAULT;
        struct rlimit limit;
        char cgroup[128];
        int r = 0;

        (void)getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (rounds < 10 || null_fd < 0 || spawner_init(&spawner) < 0)
                return EXIT_FAILURE;
        make_cgroup(cgroup, sizeof(cgroup));
        for (size_t i = 0; r == 0 && argc <= 2 && i < ARRAY_SIZE(counts); i++)
                r = measure_with(rounds, counts[i]);
        for (int i = 2; r == 0 && i < argc; i++)
                r = measure_with(rounds, (unsigned)strtoul(args[i], NULL, 10));
        spawner_deinit(&spawner);
        if (cgroup_fd >= 0)
                (void)rmdir(cgroup);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
