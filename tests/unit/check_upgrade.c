/* SPDX-License-Identifier: MIT */

/* The keeper executes another program in its place: pid, children, descriptors and unrecorded ends stay. */

#include "daemon/keeper/upgrade.h"

#include <errno.h>
#include <sys/stat.h>

#include "tests/support/keeper-fixture.h"

static int in, out;

/* Three children: one that waits for a line, one that ended, one that never was. */
static void setup(void) {
        fixture_setup();
        fixture_next_engine();
        fixture_send_type(KEEPER_SERVING, 0, 0);
        fixture_spawn_pipes(1, 1, "read line; echo still $line; exit 6", &in, &out);
        (void)fixture_expect(KEEPER_SPAWNED);
        fixture_spawn(2, 5, "kill -9 $$");
        (void)fixture_expect(KEEPER_EXITED);
        fixture_spawn_argv(3, 1, (char *const[]){ (char *)"/no/such", NULL }, "/");
        (void)fixture_expect(KEEPER_SPAWNED);
        fixture_kill_engine(); /* so that there is a count of restarts */
}

static void teardown(void) {
        (void)fd_close(in);
        (void)fd_close(out);
        fixture_teardown();
}

static void send_upgrade(const char *path) {
        KeeperMessage message = { .type = KEEPER_UPGRADE };

        (void)snprintf(message.text, sizeof(message.text), "%s", path);
        fixture_send(&message, NULL, 0);
}

/* When the program was executed: it changes with the upgrade, the pid does not. */
static ino_t program_of(pid_t pid) {
        char path[64];
        struct stat st;

        (void)snprintf(path, sizeof(path), "/proc/%d/exe", pid);
        ck_assert_int_eq(stat(path, &st), 0);
        return st.st_ino;
}

static void ck_assert_all_is_there(const KeeperMessage *hello, pid_t child) {
        ck_assert_int_eq(fixture.hello.pid, fixture.keeper_pid);
        ck_assert_mem_eq(fixture.hello.instance, hello->instance, sizeof(hello->instance));
        ck_assert_uint_eq(fixture.hello.engine_restarts, hello->engine_restarts + 1);
        ck_assert_uint_eq(fixture.n_children, 3);
        ck_assert_uint_eq(fixture.n_handed_fds, 2);
        ck_assert_uint_eq(fixture_child(1, 1)->state, KEEPER_CHILD_RUNNING);
        ck_assert_int_eq(fixture_child(1, 1)->pid, child);
        ck_assert_uint_eq(fixture_child(2, 5)->state, KEEPER_CHILD_EXITED);
        ck_assert_int_eq(fixture_child(2, 5)->wait_code, CLD_KILLED);
        ck_assert_int_eq(fixture_child(2, 5)->wait_status, SIGKILL);
        ck_assert_uint_gt(fixture_child(2, 5)->usage.minor_faults, 0);
        ck_assert_uint_eq(fixture_child(3, 1)->state, KEEPER_CHILD_FAILED);
        ck_assert_int_eq(fixture_child(3, 1)->error, ENOENT);
        ck_assert_str_eq(fixture_child(3, 1)->text, "exec");
        ck_assert_int_eq(write(fixture_handed_fd(KEEPER_LABEL_STDIN, 1, 1), "here\n", 5), 5);
        fixture_ck_line(fixture_handed_fd(KEEPER_LABEL_STDOUT, 1, 1), "still here\n");
        ck_assert_int_eq(fixture_expect(KEEPER_EXITED).wait_status, 6);
}

/* A copy of this program, to be told from it. */
static void copy_program(const char *path) {
        char buffer[65536];
        int from, to;
        ssize_t n;

        from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        to = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
        while ((n = read(from, buffer, sizeof(buffer))) > 0)
                ck_assert_int_eq(fd_write_all(to, buffer, (size_t)n), 0);
        (void)fd_close(from);
        (void)fd_close(to);
}

START_TEST(another_program_takes_over_and_the_children_live_on)
{
        KeeperMessage hello = fixture.hello;
        pid_t child = fixture_child(1, 1)->pid;
        char path[64];
        struct stat st;

        (void)snprintf(path, sizeof(path), "%s/program", fixture.dir);
        copy_program(path);
        ck_assert_int_eq(stat(path, &st), 0);
        send_upgrade(path);
        fixture_next_engine();
        ck_assert_uint_eq(program_of(fixture.keeper_pid), st.st_ino);
        ck_assert_all_is_there(&hello, child);
        ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(what_replaced_our_program_is_the_one_to_execute)
{
        KeeperMessage hello = fixture.hello;
        pid_t child = fixture_child(1, 1)->pid;
        char path[64], aside[64];
        struct stat st;

        (void)snprintf(path, sizeof(path), "%s/program", fixture.dir);
        copy_program(path);
        send_upgrade(path);
        fixture_next_engine();
        /* as a package manager does: the new one takes the name of the old */
        (void)snprintf(aside, sizeof(aside), "%s/aside", fixture.dir);
        copy_program(aside);
        ck_assert_int_eq(stat(aside, &st), 0);
        ck_assert_int_eq(rename(aside, path), 0);
        send_upgrade("");
        fixture_next_engine();
        ck_assert_uint_eq(program_of(fixture.keeper_pid), st.st_ino);
        hello.engine_restarts++;
        ck_assert_all_is_there(&hello, child);
        ck_assert_int_eq(unlink(path), 0);
}
END_TEST

START_TEST(the_same_path_is_the_default_and_it_works_again_and_again)
{
        KeeperMessage hello = fixture.hello;
        pid_t child = fixture_child(1, 1)->pid;

        for (int i = 0; i < 3; i++) {
                send_upgrade("");
                fixture_next_engine();
        }
        hello.engine_restarts += 2;
        ck_assert_all_is_there(&hello, child);
}
END_TEST

/* Whether each descriptor of the keeper but the first three is closed when it executes another program. */
static void ck_assert_cloexec(void) {
        char path[300], line[64];
        struct dirent *entry;
        DIR *dir;

        (void)snprintf(path, sizeof(path), "/proc/%d/fdinfo", fixture.keeper_pid);
        dir = opendir(path);
        ck_assert_ptr_nonnull(dir);
        while ((entry = readdir(dir))) {
                unsigned flags = 0;
                FILE *file;

                if (atoi(entry->d_name) < KEEPER_FD_MIN)
                        continue;
                (void)snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", fixture.keeper_pid, entry->d_name);
                file = fopen(path, "re");
                while (file && fgets(line, sizeof(line), file))
                        (void)sscanf(line, "flags: %o", &flags);
                if (file)
                        (void)fclose(file);
                ck_assert_msg(!file || (flags & O_CLOEXEC), "descriptor %s", entry->d_name);
        }
        (void)closedir(dir);
}

START_TEST(limits_and_hygiene_survive)
{
        int in2, out2;

        send_upgrade("");
        fixture_next_engine();
        fixture_spawn_pipes(9, 1, "ulimit -Sn; ls -m /proc/$$/fd", &in2, &out2);
        fixture_ck_line(out2, "200\n");
        fixture_ck_line(out2, "0, 1, 2\n");
        ck_assert_cloexec();
        (void)fd_close(in2);
        (void)fd_close(out2);
}
END_TEST

START_TEST(a_daemon_that_was_upgraded_gives_no_engine_up)
{
        for (uint64_t i = 1; i <= 3; i++)
                fixture_send_type(KEEPER_FORGET, i, i == 2 ? 5 : 1);
        ck_assert_int_eq(write(fixture_handed_fd(KEEPER_LABEL_STDIN, 1, 1), "\n", 1), 1);
        (void)fixture_expect(KEEPER_EXITED);
        fixture_send_type(KEEPER_FORGET, 1, 1);
        send_upgrade("");
        fixture_next_engine();
        ck_assert_uint_eq(fixture.n_children, 0);
        for (int i = 0; i < 4; i++)
                fixture_kill_engine();
}
END_TEST

/* Programs that are not there, are none, fail, or succeed in what they were not asked. */
static const char *const strangers[] = { "/no/such/program", "/etc/passwd", "/bin/false", "/bin/echo" };

START_TEST(a_program_that_does_not_understand_is_not_executed)
{
        KeeperMessage hello = fixture.hello;
        pid_t child = fixture_child(1, 1)->pid;
        ino_t before = program_of(fixture.keeper_pid);

        send_upgrade(strangers[_i]);
        fixture_next_engine();
        ck_assert_uint_eq(program_of(fixture.keeper_pid), before);
        ck_assert_all_is_there(&hello, child);
}
END_TEST

static int check_text(const char *text) {
        int fd = memfd_create("state", MFD_CLOEXEC), r;

        ck_assert_int_eq(fd_write_all(fd, text, strlen(text)), 0);
        r = upgrade_check(fd, NULL);
        (void)fd_close(fd);
        return r;
}

START_TEST(a_state_that_is_not_understood_is_refused)
{
        ck_assert_int_eq(check_text("pmux-keeper-state 1\nengine-restarts 3\nend\n"), 0);
        ck_assert_int_eq(check_text(""), -EPROTO);
        ck_assert_int_eq(check_text("pmux-keeper-state 2\nend\n"), -EPROTO);
        ck_assert_int_eq(check_text("pmux-keeper-state 1\nengine-restarts 3\n"), -EPROTO);
        ck_assert_int_eq(check_text("pmux-keeper-state 1\nnews 3\nend\n"), -EPROTO);
        ck_assert_int_eq(check_text("pmux-keeper-state 1\nnews\nend\n"), -EPROTO);
        ck_assert_int_eq(check_text("pmux-keeper-state 1\ninstance 00\nend\n"), -EPROTO);
        ck_assert_int_eq(check_text("pmux-keeper-state 1\nfd 99 1 1 20\nend\n"), -EPROTO);
        ck_assert_int_eq(check_text("pmux-keeper-state 1\nfd 1 1 1\nend\n"), -EPROTO);
        ck_assert_int_eq(check_text("pmux-keeper-state 1\nchild 1 1 1 1\nend\n"), -EPROTO);
        ck_assert_int_eq(check_text("pmux-keeper-state 1\nchild 1 1 77 1 0 0 0 5 0 0 0 0 0 0 0 0 0 -\nend\n"),
                         0);
        ck_assert_int_eq(check_text("pmux-keeper-state 1\nchild 1 1 77 9 0 0 0 5 0 0 0 0 0 0 0 0 0 -\nend\n"),
                         -EPROTO);
}
END_TEST

static Suite *upgrade_suite(void) {
        Suite *suite = suite_create("upgrade");
        TCase *live = tcase_create("live"), *text = tcase_create("text");

        tcase_add_checked_fixture(live, setup, teardown);
        tcase_set_timeout(live, 60);
        tcase_add_test(live, another_program_takes_over_and_the_children_live_on);
        tcase_add_test(live, the_same_path_is_the_default_and_it_works_again_and_again);
        tcase_add_test(live, what_replaced_our_program_is_the_one_to_execute);
        tcase_add_test(live, a_daemon_that_was_upgraded_gives_no_engine_up);
        tcase_add_test(live, limits_and_hygiene_survive);
        tcase_add_loop_test(live, a_program_that_does_not_understand_is_not_executed, 0,
                            (int)ARRAY_SIZE(strangers));
        suite_add_tcase(suite, live);
        tcase_add_test(text, a_state_that_is_not_understood_is_refused);
        suite_add_tcase(suite, text);
        return suite;
}

CHECK_MAIN(upgrade_suite);
