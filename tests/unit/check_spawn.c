/* SPDX-License-Identifier: MIT */

/* Starting programs: what the child gets and does not get, how failures are told, and every way to clone. */

#include "daemon/keeper/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/macro.h"
#include "tests/support/check-main.h"

#define STRINGS(...) ((char *const[]){ __VA_ARGS__, NULL })
#define SH(script) STRINGS((char *)"sh", (char *)"-c", (char *)(script))

/* Loop index of the tests that must hold for each way to clone. */
enum {
        WAY_SHARED,
        WAY_COPIED, /* as without CLOSE_RANGE_UNSHARE */
        WAY_N_,
};

static Spawner spawner;
static SpawnRequest request;
static int fds[4], out[2];
static int n_fds;
static char dir[] = "/tmp/check_spawn.XXXXXX";
static const char *step;

static void setup(void) {
        static char *const shell[] = { (char *)"/bin/sh", NULL };
        static char *const env[] = { (char *)"PATH=/usr/bin:/bin", NULL };

        n_fds = open_fds_count();
        ck_assert_int_eq(spawner_init(&spawner), 0);
        ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
        fds[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
        ck_assert_int_ge(fds[0], 3);
        fds[1] = out[1];
        fds[2] = fds[0];
        request = (SpawnRequest){
                .candidates = shell,
                .envp = env,
                .fds = fds,
                .n_fds = 3,
                .cgroup_fd = -1,
                .umask = 022,
        };
        step = NULL;
        strcpy(dir + strlen(dir) - 6, "XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void) {
        ck_assert_int_eq(rmdir(dir), 0);
        (void)fd_close(fds[0]);
        (void)fd_close(out[0]);
        (void)fd_close(out[1]);
        spawner_deinit(&spawner);
        ck_assert_int_eq(open_fds_count(), n_fds);
        ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no zombie is left */
}

static void take_way(int way) {
        spawner.without_unshare = way == WAY_COPIED;
}

static int run(char *const *argv, pid_t *ret_pid) {
        request.argv = argv;
        return spawn(&spawner, &request, ret_pid, &step);
}

/* Runs to the end; returns the wait status, what it wrote is in 'text'. */
static int run_output(char *const *argv, char *text, size_t size) {
        pid_t pid = 0;
        ssize_t n;
        int status;

        ck_assert_msg(run(argv, &pid) == 0, "spawn failed: %s", step ? step : "?");
        (void)fd_close(out[1]);
        n = fd_read_full(out[0], text, size - 1);
        ck_assert_int_ge(n, 0);
        text[n] = '\0';
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        (void)fd_close(out[0]);
        ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
        fds[1] = out[1];
        return status;
}

START_TEST(a_program_runs_and_ends_as_it_likes)
{
        char text[64];

        take_way(_i);
        ck_assert_int_eq(run_output(SH("echo hello; exit 7"), text, sizeof(text)), 7 << 8);
        ck_assert_str_eq(text, "hello\n");
        ck_assert_int_eq(run_output(SH("kill -9 $$"), text, sizeof(text)), SIGKILL);
        ck_assert_int_eq(spawner.without_unshare, _i == WAY_COPIED);
}
END_TEST

START_TEST(a_child_has_three_descriptors_and_no_other)
{
        int many[64];
        char text[256];

        take_way(_i);
        for (size_t i = 0; i < ARRAY_SIZE(many); i++)
                many[i] = open("/dev/null", O_RDONLY); /* without O_CLOEXEC: even those must not leak */
        ck_assert_int_eq(run_output(SH("ls /proc/$$/fd"), text, sizeof(text)), 0);
        ck_assert_str_eq(text, "0\n1\n2\n");
        for (size_t i = 0; i < ARRAY_SIZE(many); i++)
                (void)fd_close(many[i]);
}
END_TEST

START_TEST(the_parents_descriptors_are_untouched)
{
        int n = open_fds_count(), high;
        struct stat before, after;
        char text[64];

        take_way(_i);
        ck_assert_int_eq(fstat(STDOUT_FILENO, &before), 0);
        high = fcntl(fds[0], F_DUPFD_CLOEXEC, 200);
        ck_assert_int_eq(run_output(SH("exec >&- 2>&-"), text, sizeof(text)), 0);
        ck_assert_int_eq(fstat(STDOUT_FILENO, &after), 0);
        ck_assert_uint_eq(before.st_ino, after.st_ino);
        ck_assert_int_eq(fcntl(high, F_GETFD), FD_CLOEXEC);
        (void)fd_close(high);
        ck_assert_int_eq(open_fds_count(), n);
}
END_TEST

START_TEST(a_fourth_descriptor_arrives_and_high_numbers_do)
{
        char text[64];

        take_way(_i);
        fds[1] = fcntl(out[1], F_DUPFD_CLOEXEC, 700);
        fds[3] = fcntl(out[1], F_DUPFD_CLOEXEC, 701);
        (void)fd_close(out[1]);
        out[1] = -1;
        request.n_fds = 4;
        request.argv = SH("echo a; echo b >&3");
        {
                pid_t pid = 0;
                ssize_t n;

                ck_assert_int_eq(spawn(&spawner, &request, &pid, &step), 0);
                (void)fd_close(fds[1]);
                (void)fd_close(fds[3]);
                n = fd_read_full(out[0], text, sizeof(text) - 1);
                ck_assert_int_ge(n, 0);
                text[n] = '\0';
                ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        }
        ck_assert_str_eq(text, "a\nb\n");
}
END_TEST

START_TEST(a_descriptor_that_has_its_number_already_is_kept_open)
{
        int mine = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
        char text[64];

        take_way(_i);
        ck_assert_int_eq(dup3(fds[0], STDIN_FILENO, O_CLOEXEC), STDIN_FILENO);
        fds[0] = STDIN_FILENO;
        ck_assert_int_eq(run_output(SH("ls -m /proc/$$/fd"), text, sizeof(text)), 0);
        ck_assert_str_eq(text, "0, 1, 2\n");
        fds[0] = fds[2];
        (void)dup2(mine, STDIN_FILENO);
        (void)fd_close(mine);
}
END_TEST

START_TEST(signals_are_as_new)
{
        char text[256];
        sigset_t set, old;

        (void)sigfillset(&set);
        (void)sigprocmask(SIG_SETMASK, &set, &old);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGHUP, SIG_IGN);
        (void)signal(SIGRTMAX, SIG_IGN);
        spawner_deinit(&spawner);
        ck_assert_int_eq(spawner_init(&spawner), 0);
        take_way(_i);
        request.candidates = STRINGS((char *)"/bin/grep");
        ck_assert_int_eq(run_output(STRINGS((char *)"grep", (char *)"-E", (char *)"^Sig(Blk|Ign|Cgt)",
                                            (char *)"/proc/self/status"),
                                    text, sizeof(text)),
                         0);
        (void)sigprocmask(SIG_SETMASK, &old, NULL);
        ck_assert_ptr_nonnull(strstr(text, "SigBlk:\t0000000000000000"));
        ck_assert_ptr_nonnull(strstr(text, "SigIgn:\t0000000000000000"));
        /* and ours are as they were */
        ck_assert_ptr_eq(signal(SIGPIPE, SIG_DFL), SIG_IGN);
        (void)signal(SIGHUP, SIG_DFL);
        (void)signal(SIGRTMAX, SIG_DFL);
}
END_TEST

START_TEST(a_child_leads_a_session_of_its_own)
{
        char text[64], expected[64];
        pid_t pid = 0;

        take_way(_i);
        ck_assert_int_eq(run(SH("exec cat /proc/self/stat"), &pid), 0);
        (void)fd_close(out[1]);
        memset(text, 0, sizeof(text));
        ck_assert_int_ge(fd_read_full(out[0], text, sizeof(text) - 1), 0);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        /* pid (comm) state ppid pgrp session */
        (void)snprintf(expected, sizeof(expected), "%d (cat) R %d %d %d ", pid, getpid(), pid, pid);
        ck_assert_int_eq(strncmp(text, expected, strlen(expected)), 0);
}
END_TEST

START_TEST(directory_mask_limit_and_environment_are_the_requests)
{
        const struct rlimit nofile = { .rlim_cur = 123, .rlim_max = 456 };
        char text[256], expected[256];
        mode_t mask = umask(027);

        take_way(_i);
        request.cwd = dir;
        request.umask = 0137;
        request.nofile = &nofile;
        request.envp = STRINGS((char *)"PATH=/usr/bin:/bin", (char *)"X=\xff");
        ck_assert_int_eq(
                run_output(SH("pwd; umask; ulimit -Sn; ulimit -Hn; printf %s \"$X\""), text, sizeof(text)),
                0);
        (void)snprintf(expected, sizeof(expected), "%s\n0137\n123\n456\n\xff", dir);
        ck_assert_str_eq(text, expected);
        ck_assert_uint_eq(umask(mask), 027);
}
END_TEST

START_TEST(the_oom_score_is_the_requests)
{
        char text[64];

        request.oom_score_adj = "321";
        ck_assert_int_eq(run_output(SH("cat /proc/self/oom_score_adj"), text, sizeof(text)), 0);
        ck_assert_str_eq(text, "321\n");
        request.oom_score_adj = NULL;
        ck_assert_int_eq(run_output(SH("cat /proc/self/oom_score_adj"), text, sizeof(text)), 0);
        ck_assert_str_ne(text, "321\n");
}
END_TEST

START_TEST(arguments_may_be_long_and_of_any_bytes)
{
        enum {
                N = 16,
                SIZE = 64 * 1024
        };
        static char big[SIZE];
        char *argv[5 + N + 1] = { (char *)"sh", (char *)"-c", (char *)"printf %s \"$@\" | wc -c",
                                  (char *)"sh" };
        char text[64];

        take_way(_i);
        memset(big, 0xff, SIZE - 1);
        for (int i = 0; i < N; i++)
                argv[4 + i] = big;
        ck_assert_int_eq(run_output(argv, text, sizeof(text)), 0);
        ck_assert_int_eq(atoi(text), N * (SIZE - 1));
}
END_TEST

START_TEST(too_many_arguments_are_e2big)
{
        enum {
                N = 64,
                SIZE = 128 * 1024
        };
        static char big[SIZE];
        static char *argv[N + 1];
        pid_t pid = 0;

        memset(big, 'x', SIZE - 1);
        for (int i = 0; i < N; i++)
                argv[i] = big;
        take_way(_i);
        ck_assert_int_eq(run(argv, &pid), -E2BIG);
        ck_assert_str_eq(step, "exec");
}
END_TEST

START_TEST(failures_name_their_step)
{
        pid_t pid = 0;
        int n = open_fds_count();

        take_way(_i);
        request.candidates = STRINGS((char *)"/no/such/program");
        ck_assert_int_eq(run(STRINGS((char *)"x"), &pid), -ENOENT);
        ck_assert_str_eq(step, "exec");
        request.candidates = STRINGS((char *)"/etc/passwd");
        ck_assert_int_eq(run(STRINGS((char *)"x"), &pid), -EACCES);
        ck_assert_str_eq(step, "exec");
        request.candidates = STRINGS((char *)"/etc/passwd/x");
        ck_assert_int_eq(run(STRINGS((char *)"x"), &pid), -ENOTDIR);
        request.cwd = "/no/such/directory";
        ck_assert_int_eq(run(STRINGS((char *)"x"), &pid), -ENOENT);
        ck_assert_str_eq(step, "chdir");
        request.cgroup_fd = fds[0]; /* no directory of a cgroup */
        ck_assert_int_eq(run(STRINGS((char *)"x"), &pid), -ENOTDIR);
        ck_assert_str_eq(step, "cgroup");
        ck_assert_int_eq(pid, 0);
        ck_assert_int_eq(open_fds_count(), n);
}
END_TEST

START_TEST(descriptors_that_are_not_open_name_their_stream)
{
        pid_t pid = 0;
        int sound[3] = { fds[0], fds[0], fds[0] };
        const char *const names[] = { "stdin", "stdout", "stderr" };

        take_way(_i);
        for (int i = 0; i < 3; i++) {
                int broken[3] = { sound[0], sound[1], sound[2] };

                broken[i] = 900;
                request.fds = broken;
                ck_assert_int_eq(run(SH("true"), &pid), -EBADF);
                ck_assert_str_eq(step, names[i]);
        }
}
END_TEST

START_TEST(candidates_are_tried_as_execvp_does)
{
        char text[64];
        pid_t pid = 0;

        request.candidates = STRINGS((char *)"/no/such", (char *)"/etc/passwd", (char *)"/etc/passwd/x");
        ck_assert_int_eq(run(SH("true"), &pid), -EACCES); /* more is known of the one that exists */
        request.candidates = STRINGS((char *)"/no/such", (char *)"/etc/passwd/x");
        ck_assert_int_eq(run(SH("true"), &pid), -ENOENT);
        request.candidates =
                STRINGS((char *)"/no/such", (char *)"/etc/passwd", (char *)"/bin/sh", (char *)"/bin/false");
        ck_assert_int_eq(run_output(SH("echo found"), text, sizeof(text)), 0);
        ck_assert_str_eq(text, "found\n");
        request.candidates = (char *const[]){ NULL };
        ck_assert_int_eq(run(SH("true"), &pid), -ENOENT);
}
END_TEST

START_TEST(a_child_with_a_death_signal_dies_with_its_parent)
{
        char byte;
        pid_t pid, child = 0;
        int status;

        pid = fork();
        if (pid == 0) {
                request.parent_death_signal = SIGKILL;
                _exit(run(SH("echo; read line </dev/zero; sleep 100"), &child) == 0 ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
        (void)fd_close(out[1]);
        out[1] = -1;
        /* the child held the other end */
        while (read(out[0], &byte, 1) > 0)
                ;
}
END_TEST

/* Valgrind plays the kernel, but its vfork shares no memory: what fails in the child is not seen. */
static bool under_valgrind(void) {
        const char *preload = getenv("LD_PRELOAD");

        return preload && strstr(preload, "vgpreload");
}

/* Every system call given fails with 'error' from now on, in this process and those it starts. */
static void forbid(const unsigned *calls, size_t n_calls, int error) {
        struct sock_filter filter[16] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                   offsetof(struct seccomp_data, nr)) };
        struct sock_fprog program = { .filter = filter };
        size_t n = 1;

        for (size_t i = 0; i < n_calls; i++) {
                filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], 0, 1);
                filter[n++] =
                        (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error);
        }
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        program.len = (unsigned short)n;
        ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

START_TEST(a_kernel_that_knows_none_of_it_will_do)
{
        static const int errors[] = { ENOSYS, EPERM, EINVAL };
        static const unsigned calls[] = { SYS_clone3, SYS_close_range };
        char text[64];
        pid_t pid;
        int status;

        /* in a process of its own: a filter is for life */
        pid = fork();
        if (pid == 0) {
                for (int fd = 3; fd < 1024; fd++) /* what the test itself was started with */
                        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
                forbid(calls, ARRAY_SIZE(calls), errors[_i]);
                ck_assert_int_eq(run_output(SH("echo hello; ls /proc/$$/fd"), text, sizeof(text)), 0);
                ck_assert_str_eq(text, "hello\n0\n1\n2\n");
                ck_assert(spawner.without_unshare);
                request.cgroup_fd = fds[0];
                ck_assert_int_eq(run(SH("true"), &pid), -ENOTDIR);
                ck_assert(spawner.without_clone3);
                ck_assert_str_eq(step, "cgroup");
                _exit(0);
        }
        (void)fd_close(out[1]); /* or it never sees the end */
        out[1] = -1;
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
}
END_TEST

/* A new cgroup, -1: this machine or our rights have none to offer. */
static int cgroup_make(char *path, size_t size) {
        static const char *const roots[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };

        for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
                char procs[128];

                (void)snprintf(procs, sizeof(procs), "%s/cgroup.controllers", roots[i]);
                (void)snprintf(path, size, "%s/check_spawn.%d", roots[i], getpid());
                if (access(procs, F_OK) == 0 && mkdir(path, 0755) == 0)
                        return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
        return -1;
}

START_TEST(a_child_is_born_in_its_cgroup_or_goes_there)
{
        char path[128], text[512];
        int cgroup_fd;

        cgroup_fd = cgroup_make(path, sizeof(path));
        if (cgroup_fd < 0)
                return; /* nothing to test with */
        spawner.without_clone3 = _i / WAY_N_;
        take_way(_i % WAY_N_);
        request.cgroup_fd = cgroup_fd;
        ck_assert_int_eq(run_output(SH("grep ^0: /proc/self/cgroup; ls /proc/$$/fd"), text, sizeof(text)), 0);
        (void)fd_close(cgroup_fd);
        ck_assert_int_eq(rmdir(path), 0);
        ck_assert_ptr_nonnull(strstr(text, strrchr(path, '/')));
        ck_assert_ptr_nonnull(strstr(text, "\n0\n1\n2\n"));
        ck_assert_int_eq(spawner.without_clone3, _i / WAY_N_);
}
END_TEST

static Suite *spawn_suite(void) {
        Suite *suite = suite_create("spawn");
        TCase *child, *failure, *way;

        if (under_valgrind())
                return suite; /* AddressSanitizer sees the same code */
        child = tcase_create("child");
        failure = tcase_create("failure");
        way = tcase_create("way");
        tcase_add_checked_fixture(child, setup, teardown);
        tcase_add_loop_test(child, a_program_runs_and_ends_as_it_likes, 0, WAY_N_);
        tcase_add_loop_test(child, a_child_has_three_descriptors_and_no_other, 0, WAY_N_);
        tcase_add_loop_test(child, the_parents_descriptors_are_untouched, 0, WAY_N_);
        tcase_add_loop_test(child, a_fourth_descriptor_arrives_and_high_numbers_do, 0, WAY_N_);
        tcase_add_loop_test(child, a_descriptor_that_has_its_number_already_is_kept_open, 0, WAY_N_);
        tcase_add_loop_test(child, signals_are_as_new, 0, WAY_N_);
        tcase_add_loop_test(child, a_child_leads_a_session_of_its_own, 0, WAY_N_);
        tcase_add_loop_test(child, directory_mask_limit_and_environment_are_the_requests, 0, WAY_N_);
        tcase_add_test(child, the_oom_score_is_the_requests);
        tcase_add_loop_test(child, arguments_may_be_long_and_of_any_bytes, 0, WAY_N_);
        tcase_add_test(child, a_child_with_a_death_signal_dies_with_its_parent);
        suite_add_tcase(suite, child);
        tcase_add_checked_fixture(failure, setup, teardown);
        tcase_add_loop_test(failure, too_many_arguments_are_e2big, 0, WAY_N_);
        tcase_add_loop_test(failure, failures_name_their_step, 0, WAY_N_);
        tcase_add_loop_test(failure, descriptors_that_are_not_open_name_their_stream, 0, WAY_N_);
        tcase_add_test(failure, candidates_are_tried_as_execvp_does);
        suite_add_tcase(suite, failure);
        tcase_add_checked_fixture(way, setup, teardown);
        tcase_add_loop_test(way, a_kernel_that_knows_none_of_it_will_do, 0, 3);
        tcase_add_loop_test(way, a_child_is_born_in_its_cgroup_or_goes_there, 0, 2 * WAY_N_);
        suite_add_tcase(suite, way);
        return suite;
}

CHECK_MAIN(spawn_suite);
