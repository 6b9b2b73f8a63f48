/* SPDX-License-Identifier: MIT */

#include "daemon/engine/proc-stat.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/macro.h"
#include "tests/support/check-main.h"

#define STAT(name, state, n_threads)                                                                         \
        "4711 (" name ") " state " 12 13 14 0 -1 4194304 102 0 0 0 1 2 0 0 20 0 " n_threads                  \
        " 0 987654321 2543616 239 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n"

static const struct {
        const char *text;
        bool alive;
} rows[] = {
        { STAT("sh", "S", "1"), true },        { STAT("sh", "R", "1"), true },
        { STAT("sh", "T", "1"), true },        { STAT("sh", "D", "1"), true },
        { STAT("sh", "Z", "1"), false },       { STAT("sh", "X", "1"), false },
        { STAT("sh", "Z", "2"), true }, /* its first thread has ended, another lives */
        { STAT("", "S", "1"), true },          { STAT("a b", "S", "1"), true },
        { STAT(") Z 1 1 1", "S", "1"), true }, /* a name made up to deceive */
        { STAT("((\n))", "S", "1"), true },
};

START_TEST(the_text_is_read_whatever_the_name)
{
        ProcStat stat;

        ck_assert_int_eq(proc_stat_parse(rows[_i].text, &stat), 0);
        ck_assert_int_eq(stat.pid, 4711);
        ck_assert_int_eq(stat.parent, 12);
        ck_assert_int_eq(stat.group, 13);
        ck_assert_int_eq(stat.session, 14);
        ck_assert_uint_eq(stat.start, 987654321);
        ck_assert_int_eq(stat.alive, rows[_i].alive);
}
END_TEST

#define MEMORY(flags, end_code, env)                                                                         \
        "4711 (a) 1 S) S 12 13 14 0 -1 " flags " 102 0 0 0 1 2 0 0 20 0 1 0 987654321 2543616 239 "          \
        "18446744073709551615 4194304 " end_code " 7 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 5 6 7 8 9 " env " 0\n"

static const struct {
        const char *text;
        ProcMemory memory;
} memories[] = {
        { MEMORY("4194304", "4198400", "100 200"), PROC_MEMORY_WHOLE },
        { MEMORY("4194304", "4198400", "100 100"), PROC_MEMORY_BARE },
        { MEMORY("4194304", "4198400", "0 0"), PROC_MEMORY_BARE },
        { MEMORY("4194304", "0", "100 0"), PROC_MEMORY_MADE },
        { MEMORY("4194304", "0", "100 200"), PROC_MEMORY_MADE },
        { MEMORY("4194308", "0", "0 0"), PROC_MEMORY_NONE },
        { MEMORY("4194308", "4198400", "100 200"), PROC_MEMORY_NONE },
        { "4711 (sh) S 1 2 3", PROC_MEMORY_UNKNOWN },
        { "4711", PROC_MEMORY_UNKNOWN },
        { "", PROC_MEMORY_UNKNOWN },
};

START_TEST(what_there_is_of_a_programs_memory_is_told)
{ ck_assert_int_eq(proc_memory_parse(memories[_i].text), memories[_i].memory); }
END_TEST

START_TEST(another_text_is_refused)
{
        static const char *const bad[] = { "",           "4711", "4711 (sh", "4711 (sh)", "4711 (sh) S 1 2 3",
                                           "x (sh) S 1", ")" };
        ProcStat stat;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                ck_assert_int_eq(proc_stat_parse(bad[i], &stat), -EIO);
        ck_assert_int_eq(proc_stat_parse(STAT("sh", "Z", "0"), &stat), -EAGAIN);
}
END_TEST

START_TEST(this_process_is_found_and_no_other)
{
        ProcStat stat, again;

        ck_assert_int_eq(proc_stat_read(getpid(), &stat), 0);
        ck_assert_int_eq(stat.pid, getpid());
        ck_assert_int_eq(stat.parent, getppid());
        ck_assert_int_eq(stat.group, getpgid(0));
        ck_assert_int_eq(stat.session, getsid(0));
        ck_assert(stat.alive && !stat.ending);
        ck_assert_int_eq(proc_stat_read(getpid(), &again), 0);
        ck_assert_uint_eq(again.start, stat.start);
        ck_assert_int_eq(proc_stat_read(0x3fffffff, &stat), -ESRCH);
}
END_TEST

static void *sleep_on(void *userdata) {
        char c;

        _exit(read(*(int *)userdata, &c, 1) == 1 ? 0 : 1);
}

START_TEST(a_process_whose_first_thread_ended_is_alive)
{
        int fds[2], status;
        pthread_t thread;
        char state = 0, path[64], text[512];
        ProcStat stat;
        pid_t pid;
        FILE *f;

        ck_assert_int_eq(pipe(fds), 0);
        pid = fork();
        if (pid == 0) {
                (void)close(fds[1]);
                if (pthread_create(&thread, NULL, sleep_on, &fds[0]) == 0)
                        pthread_exit(NULL);
                _exit(1);
        }
        (void)close(fds[0]);
        (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        while (state != 'Z') { /* the test's own timeout is the deadline */
                f = fopen(path, "re");
                ck_assert_ptr_nonnull(f);
                ck_assert_ptr_nonnull(fgets(text, sizeof(text), f));
                (void)fclose(f);
                state = strrchr(text, ')')[2];
        }
        ck_assert_int_eq(proc_stat_read(pid, &stat), 0);
        ck_assert(stat.alive && stat.ending);
        ck_assert_int_eq(write(fds[1], "x", 1), 1);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
        (void)close(fds[1]);
}
END_TEST

/* A child with an environment, which waits for its stdin to end. */
static pid_t start(char *const env[], int *ret_fd) {
        char *argv[] = { (char *)"cat", NULL };
        int in[2], out[2];
        char c;
        pid_t pid;

        ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
        ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                (void)dup2(in[0], 0);
                (void)dup2(out[1], 1);
                (void)execve("/bin/cat", argv, env);
                _exit(1);
        }
        (void)close(in[0]);
        (void)close(out[1]);
        ck_assert_int_eq(write(in[1], "x", 1), 1);
        ck_assert_int_eq(read(out[0], &c, 1), 1); /* it has executed */
        (void)close(out[0]);
        *ret_fd = in[1];
        return pid;
}

static ProcMark mark_of(char *const env[], const char *mark) {
        ProcMark result;
        pid_t pid;
        int fd;

        pid = start(env, &fd);
        result = proc_mark_read(pid, mark);
        (void)close(fd);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        return result;
}

START_TEST(a_mark_is_found_wherever_it_stands)
{
        static char large[100000];
        char *none[] = { NULL };
        char *first[] = { (char *)"MARK=a.1.1", (char *)"X=1", NULL };
        char *behind[] = { large, (char *)"X", (char *)"MARK=a.1.1", NULL };
        char *other[] = { (char *)"MARK=a.1.11", NULL };
        char *shorter[] = { (char *)"MARK=a.1.", NULL };
        char *both[] = { (char *)"MARK=b.1.1", (char *)"MARK=a.1.1", (char *)"MARK=c.1.1", NULL };
        char *inside[] = { (char *)"XMARK=a.1.1", (char *)"Y= MARK=a.1.1", (char *)"MARKS=a.1.1",
                           (char *)"MARK", NULL };

        memset(large, 'x', sizeof(large) - 1);
        ck_assert_int_eq(mark_of(none, "MARK=a.1.1"), PROC_MARK_NONE);
        ck_assert_int_eq(mark_of(first, "MARK=a.1.1"), PROC_MARK_SAME);
        ck_assert_int_eq(mark_of(behind, "MARK=a.1.1"), PROC_MARK_SAME);
        ck_assert_int_eq(mark_of(other, "MARK=a.1.1"), PROC_MARK_OTHER);
        ck_assert_int_eq(mark_of(shorter, "MARK=a.1.1"), PROC_MARK_OTHER);
        ck_assert_int_eq(mark_of(both, "MARK=a.1.1"), PROC_MARK_SAME);
        ck_assert_int_eq(mark_of(inside, "MARK=a.1.1"), PROC_MARK_NONE);
        ck_assert_int_eq(proc_mark_read(0x3fffffff, "MARK=a.1.1"), PROC_MARK_GONE);
}
END_TEST

static Suite *proc_stat_suite(void) {
        Suite *suite = suite_create("proc-stat");
        TCase *stat = tcase_create("stat"), *mark = tcase_create("mark");

        tcase_set_timeout(stat, 30);
        tcase_set_timeout(mark, 30);
        tcase_add_loop_test(stat, the_text_is_read_whatever_the_name, 0, ARRAY_SIZE(rows));
        tcase_add_loop_test(stat, what_there_is_of_a_programs_memory_is_told, 0, ARRAY_SIZE(memories));
        tcase_add_test(stat, another_text_is_refused);
        tcase_add_test(stat, this_process_is_found_and_no_other);
        tcase_add_test(stat, a_process_whose_first_thread_ended_is_alive);
        tcase_add_test(mark, a_mark_is_found_wherever_it_stands);
        suite_add_tcase(suite, stat);
        suite_add_tcase(suite, mark);
        return suite;
}

CHECK_MAIN(proc_stat_suite);
