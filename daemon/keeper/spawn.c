/* SPDX-License-Identifier: MIT */

#include "daemon/keeper/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/macro.h"

/* linux/close_range.h is older than some C libraries that have the call. */
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

#define SPAWN_STACK_SIZE (64u * 1024)
#define SPAWN_GUARD_SIZE (64u * 1024) /* at least a page anywhere */
#define SPAWN_FLAGS (CLONE_VM | CLONE_VFORK)

/* Code of the child: it shares our memory but not our stack, which AddressSanitizer does not expect. */
#define SPAWN_CHILD_CODE __attribute__((no_sanitize("address"))) __attribute__((no_sanitize("undefined")))

/* Steps that make us try again in another way; compared by address. */
static const char spawn_step_unshare[] = "unshare";
static const char spawn_step_clone[] = "clone";

/* What parent and child share: the child writes error and step, the parent reads them when it runs again. */
typedef struct SpawnJob {
        const SpawnRequest *request;
        uint64_t ignored;
        bool shares_fds;
        bool born_in_cgroup;
        pid_t parent;
        int fd_end; /* above all descriptors that the child still needs */
        volatile int error;
        const char *volatile step;
} SpawnJob;

/* The kernel's struct sigaction: handler, flags, restorer, mask. Not sigaction(3), which leaves out the two
 * signals that the C library keeps for itself; a parent such as make(1) may have had them ignored. */
typedef uint64_t KernelAction[4];

static uint64_t ignored_signals(void) {
        KernelAction action;
        uint64_t ignored = 0;

        for (int i = 1; i < NSIG; i++)
                if (syscall(SYS_rt_sigaction, i, NULL, action, sizeof(uint64_t)) == 0 &&
                    action[0] == (uint64_t)(uintptr_t)SIG_IGN)
                        ignored |= UINT64_C(1) << (i - 1);
        return ignored;
}

int spawner_init(Spawner *spawner) {
        char *stack;

        stack = mmap(NULL, SPAWN_GUARD_SIZE + SPAWN_STACK_SIZE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        if (stack == MAP_FAILED)
                return -errno;
        (void)mprotect(stack, SPAWN_GUARD_SIZE, PROT_NONE);
        *spawner = (Spawner){ .stack = stack, .ignored = ignored_signals() };
        return 0;
}

void spawner_deinit(Spawner *spawner) {
        if (spawner->stack)
                (void)munmap(spawner->stack, SPAWN_GUARD_SIZE + SPAWN_STACK_SIZE);
        *spawner = (Spawner){};
}

/* From here to spawn_child() everything runs in the child, on its own stack but in the parent's memory:
 * system calls and nothing else. */

SPAWN_CHILD_CODE static _Noreturn void spawn_fail(SpawnJob *job, const char *step, int error) {
        job->step = step;
        job->error = error;
        _exit(127);
}

SPAWN_CHILD_CODE static void spawn_write_file(SpawnJob *job, int dir_fd, const char *name, const char *text,
                                              const char *step) {
        int fd;

        fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, text, strlen(text)) < 0)
                spawn_fail(job, step, errno);
        (void)close(fd);
}

SPAWN_CHILD_CODE static void spawn_set_fds(SpawnJob *job) {
        static const char *const steps[] = { "stdin", "stdout", "stderr", "fd" };
        const SpawnRequest *request = job->request;

        for (size_t i = 0; i < request->n_fds; i++) {
                int fd = request->fds[i];

                if ((fd == (int)i ? fcntl(fd, F_SETFD, 0) : dup2(fd, (int)i)) < 0)
                        spawn_fail(job, steps[MIN(i, ARRAY_SIZE(steps) - 1)], errno);
        }
        /* What is left is closed when the program executes, which the parent no longer waits for. Where
         * neither is to be had, O_CLOEXEC at birth does it alone. */
        if (close_range((unsigned)request->n_fds, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
                (void)close_range((unsigned)request->n_fds, ~0U, 0);
}

SPAWN_CHILD_CODE static void spawn_reset_signals(uint64_t ignored) {
        KernelAction action = {}; /* SIG_DFL, no flags, nothing blocked */
        sigset_t empty;

        for (; ignored != 0; ignored &= ignored - 1)
                (void)syscall(SYS_rt_sigaction, __builtin_ctzll(ignored) + 1, action, NULL, sizeof(uint64_t));
        (void)sigemptyset(&empty);
        (void)sigprocmask(SIG_SETMASK, &empty, NULL);
}

SPAWN_CHILD_CODE static _Noreturn void spawn_exec(SpawnJob *job) {
        const SpawnRequest *request = job->request;
        bool denied = false;
        int error = ENOENT;

        for (char *const *path = request->candidates; *path; path++) {
                (void)execve(*path, request->argv, request->envp);
                error = errno;
                if (error == EACCES)
                        denied = true;
                else if (error != ENOENT && error != ENOTDIR && error != ESTALE && error != ENODEV &&
                         error != ETIMEDOUT)
                        break;
                else if (path != request->candidates || path[1])
                        error = ENOENT; /* one of several: what is told is that none was found */
        }
        if (denied && (error == ENOENT || error == EACCES))
                error = EACCES;
        spawn_fail(job, "exec", error);
}

SPAWN_CHILD_CODE static int spawn_child(void *userdata) {
        SpawnJob *job = userdata;
        const SpawnRequest *request = job->request;

        if (job->shares_fds && close_range((unsigned)job->fd_end, ~0U, CLOSE_RANGE_UNSHARE) < 0)
                spawn_fail(job, spawn_step_unshare, errno);
        if (request->parent_death_signal > 0) {
                (void)prctl(PR_SET_PDEATHSIG, request->parent_death_signal);
                if (getppid() != job->parent)
                        _exit(127);
        }
        if (request->cgroup_fd >= 0 && !job->born_in_cgroup)
                spawn_write_file(job, request->cgroup_fd, "cgroup.procs", "0", "cgroup");
        if (request->oom_score_adj)
                spawn_write_file(job, AT_FDCWD, "/proc/self/oom_score_adj", request->oom_score_adj, "limit");
        if (setsid() < 0)
                spawn_fail(job, "setsid", errno);
        spawn_set_fds(job);
        (void)umask(request->umask);
        if (request->cwd && chdir(request->cwd) < 0)
                spawn_fail(job, "chdir", errno);
        if (request->nofile && setrlimit(RLIMIT_NOFILE, request->nofile) < 0)
                spawn_fail(job, "limit", errno);
        spawn_reset_signals(job->ignored);
        spawn_exec(job);
}

/* clone3(2) as clone(3) would wrap it: 'fn' runs in the child on the stack of 'args' and does not return. The
 * C library has no wrapper that takes a cgroup, and the bare system call would have the child return on the
 * parent's stack. On machines without a few lines here the child moves itself into its cgroup. */
#ifdef __x86_64__
static long spawn_clone3(struct clone_args *args, int (*fn)(void *), void *arg) {
        register int (*fn_reg)(void *) __asm__("r12") = fn;
        register void *arg_reg __asm__("r13") = arg;
        long r;

        __asm__ volatile("syscall\n\t"
                         "testq %%rax, %%rax\n\t"
                         "jnz 1f\n\t"
                         "xorl %%ebp, %%ebp\n\t"
                         "movq %[arg], %%rdi\n\t"
                         "callq *%[fn]\n\t"
                         "hlt\n"
                         "1:"
                         : "=a"(r)
                         : "0"(SYS_clone3), "D"(args),
                           "S"(sizeof(*args)), [fn] "r"(fn_reg), [arg] "r"(arg_reg)
                         : "rcx", "r11", "cc", "memory");
        return r;
}
#else
static long spawn_clone3(struct clone_args *args, int (*fn)(void *), void *arg) {
        (void)args;
        (void)fn;
        (void)arg;
        return -ENOSYS;
}
#endif

/* Clones and waits until the child has executed or ended. Returns the pid or -errno. */
static long spawn_clone(Spawner *spawner, SpawnJob *job) {
        unsigned flags = SPAWN_FLAGS | (job->shares_fds ? CLONE_FILES : 0);
        char *stack = spawner->stack + SPAWN_GUARD_SIZE;
        int pid;

        if (job->born_in_cgroup) {
                struct clone_args args = {
                        .flags = flags | CLONE_INTO_CGROUP,
                        .exit_signal = SIGCHLD,
                        .stack = (uintptr_t)stack,
                        .stack_size = SPAWN_STACK_SIZE,
                        .cgroup = (unsigned)job->request->cgroup_fd,
                };

                return spawn_clone3(&args, spawn_child, job);
        }
        pid = clone(spawn_child, stack + SPAWN_STACK_SIZE, (int)flags | SIGCHLD, job);
        return pid < 0 ? -errno : pid;
}

static int spawn_once(Spawner *spawner, SpawnJob *job, pid_t *ret_pid) {
        sigset_t all, old;
        long pid;

        job->error = 0;
        job->step = NULL;
        (void)sigfillset(&all);
        (void)sigprocmask(SIG_SETMASK, &all, &old);
        pid = spawn_clone(spawner, job);
        (void)sigprocmask(SIG_SETMASK, &old, NULL);
        if (pid < 0) {
                job->step = spawn_step_clone;
                job->error = (int)-pid;
                return (int)pid;
        }
        if (job->error != 0) {
                while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
                        ;
                return -job->error;
        }
        *ret_pid = (pid_t)pid;
        return 0;
}

int spawn(Spawner *spawner, const SpawnRequest *request, pid_t *ret_pid, const char **reterr_step) {
        SpawnJob job = {
                .request = request,
                .ignored = spawner->ignored,
                .shares_fds = !spawner->without_unshare,
                .born_in_cgroup = request->cgroup_fd >= 0 && !spawner->without_clone3,
                .parent = getpid(),
                .fd_end = MAX(request->cgroup_fd, 2) + 1,
        };
        int r;

        for (size_t i = 0; i < request->n_fds; i++) {
                assert(request->fds[i] == (int)i || request->fds[i] >= (int)request->n_fds);
                job.fd_end = MAX(job.fd_end, request->fds[i] + 1);
        }
        r = spawn_once(spawner, &job, ret_pid);
        if (r < 0 && job.step == spawn_step_clone && job.born_in_cgroup) {
                /* Too old, forbidden, or a cgroup that must be entered in the old way: then the child goes.
                 */
                spawner->without_clone3 = r == -ENOSYS || r == -EPERM || r == -E2BIG || r == -EINVAL;
                job.born_in_cgroup = false;
                r = spawn_once(spawner, &job, ret_pid);
        }
        if (r < 0 && job.step == spawn_step_unshare) {
                spawner->without_unshare = true;
                job.shares_fds = false;
                r = spawn_once(spawner, &job, ret_pid);
        }
        if (r < 0)
                *reterr_step = job.step;
        return r;
}
