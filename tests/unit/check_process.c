/* SPDX-License-Identifier: MIT */

/* Directories of processes, and the one that is made ahead for the next, and what becomes of a lease and of
 * input when the engine is killed, and descriptors that run out, in the whole engine of engine-fixture.h. */

#include "daemon/engine/process.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/support/engine-requests.h"

static FixtureClient client;
static int n_fds_before;

static void turns(void) {
        fixture_settle(&client);
}

static const char *path_of(const char *name) {
        static char paths[4][160];
        static unsigned i;

        i = (i + 1) % 4;
        (void)snprintf(paths[i], sizeof(paths[i]), "%s/%s", fixture_dir, name);
        return paths[i];
}

static ino_t inode(const char *name) {
        struct stat st;

        return stat(path_of(name), &st) < 0 ? 0 : st.st_ino;
}

static const char *dir_of(uint64_t id) {
        static char name[64];

        (void)snprintf(name, sizeof(name), "processes/%llu", (unsigned long long)id);
        return name;
}

/* Lets the engine do what it does when it has nothing else to do. */
static void rest(void) {
        turns();
        while (supervisor_has_chores(&engine.supervisor))
                supervisor_do_chore(&engine.supervisor);
}

static uint64_t last_id;

/* What was made ahead for the next process, and a file in it. */
static const char *spare(const char *file) {
        static char name[96];

        (void)snprintf(name, sizeof(name), "%s%s", dir_of(last_id + 1), file);
        return name;
}

/* Runs a cat. Return: its id; 0: it was refused. */
static uint64_t run(const char *more) {
        uint32_t id = ask_by(&client, "run", "{\"argv\":[\"cat\"]%s}", more);

        turns();
        ck_assert(answered_by(&client, id));
        if (code_of(&client))
                return 0;
        last_id = (uint64_t)json_integer_value(json_object_get(json_object_get(client.last, "result"), "id"));
        return last_id;
}

/* It is a process like any other: what goes in comes out. */
static void ck_works(uint64_t id, const char *text) {
        json_t *data;

        (void)ask_by(&client, "ask", "{\"target\":%llu,\"data\":\"%s\\n\",\"for\":\"line\"}",
                     (unsigned long long)id, text);
        turns();
        data = json_object_get(json_object_get(client.last, "result"), "data");
        ck_assert_msg(json_is_string(data), "%s", json_dumps(client.last, 0));
        ck_assert_int_eq(strncmp(json_string_value(data), text, strlen(text)), 0);
}

static void connect_client(void) {
        fixture_connect(&client);
        fixture_hello(&client);
        turns();
}

/* The engine is killed: nothing of what it holds is tidied up. */
static void kill_engine(void) {
        Log *spare = TAKE(engine.supervisor.host.spare_log);

        fixture_disconnect(&client);
        fixture_end_engine();
        (void)log_free(spare); /* the kernel closes what a killed engine had open */
        fixture_start();
        connect_client();
}

static void make_file(const char *name, const char *text) {
        int fd = openat(AT_FDCWD, path_of(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
        (void)fd_close(fd);
}

static void setup(void) {
        n_fds_before = open_fds_count();
        fixture_open();
        connect_client();
}

static void teardown(void) {
        fixture_disconnect(&client);
        fixture_clean();
        fixture_close();
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

START_TEST(the_next_process_takes_what_was_made_ahead)
{
        ino_t ahead;

        ck_works(run(""), "first"); /* nothing was, for this one */
        rest();
        for (unsigned i = 0; i < 3; i++) {
                ahead = inode(spare(""));
                ck_assert_uint_ne(ahead, 0);
                (void)run("");
                ck_assert_uint_eq(inode(dir_of(last_id)), ahead);
                ck_assert_ptr_null(engine.supervisor.host.spare_log);
                ck_works(last_id, "next");
                rest();
        }
}
END_TEST

START_TEST(it_is_made_for_input_where_the_one_before_had_some)
{
        (void)run(",\"data\":\"some\"");
        rest();
        ck_assert_uint_ne(inode(spare("/stdin.idx")), 0);
        (void)run("");
        ck_assert_uint_ne(inode(dir_of(last_id)), 0);
        ck_works(last_id, "input");
        rest();
        ck_assert_uint_eq(inode(spare("/stdin.idx")), 0); /* this one had none from its start */
        (void)run(",\"data\":\"some\"");
        rest();
        ck_assert_uint_ne(inode(spare("/stdin.idx")), 0);
}
END_TEST

START_TEST(the_retention_is_that_of_the_process_that_takes_it)
{
        Process *process;
        uint64_t bytes;
        Log *log;

        (void)run("");
        rest();
        (void)run(",\"retention_bytes\":65536");
        process = supervisor_find_id(&engine.supervisor, last_id);
        ck_assert_int_eq(process_log(process, &log, NULL), 0);
        for (unsigned i = 0; i < 64; i++) {
                static const char block[8192];

                ck_assert_int_eq(log_append(log, SOURCE_STDOUT, 1, block, sizeof(block), NULL), 0);
        }
        ck_assert_uint_gt(log_begin(log), 0);
        ck_assert_int_eq(log_disk_bytes(log, &bytes, NULL), 0);
        ck_assert_uint_lt(bytes, 3 * 65536);
}
END_TEST

/* What may lie where the spare is to be, or the process's own directory. */
static void lay_nothing(const char *dir) {
        (void)dir;
}

static void lay_empty_log(const char *dir) {
        ck_assert_int_eq(mkdir(path_of(dir), 0700), 0);
}

static void lay_file(const char *dir) {
        make_file(dir, "in the way");
}

static void lay_half_a_log(const char *dir) {
        char name[128];

        ck_assert_int_eq(mkdir(path_of(dir), 0700), 0);
        (void)snprintf(name, sizeof(name), "%s/%020d.log", dir, 0);
        make_file(name, "bytes of nobody");
}

static void lay_garbage(const char *dir) {
        char name[128];

        ck_assert_int_eq(mkdir(path_of(dir), 0700), 0);
        (void)snprintf(name, sizeof(name), "%s/%020d.idx", dir, 0);
        make_file(name, "no records at all, but more than there is place for in one of them");
        (void)snprintf(name, sizeof(name), "%s/stdin.idx", dir);
        make_file(name, "nor here");
}

/* As another process has it, with input and output. */
static void lay_copy(const char *dir) {
        char command[512];

        ck_works(run(""), "of another");
        (void)snprintf(command, sizeof(command), "cp -r %s %s", path_of(dir_of(last_id)), path_of(dir));
        ck_assert_int_eq(system(command), 0);
}

static void (*const lays[])(const char *dir) = {
        lay_nothing, lay_empty_log, lay_file, lay_half_a_log, lay_garbage, lay_copy,
};

/* However it came there: the next process begins empty, and the ones after it too. */
START_TEST(whatever_lies_where_the_spare_is_to_be_the_next_one_begins_empty)
{
        (void)run("");
        kill_engine();
        lays[_i](dir_of(last_id + 1 + (lays[_i] == lay_copy)));
        rest();
        for (unsigned i = 0; i < 3; i++) {
                bool is_begun = run("") != 0;

                ck_assert(is_begun || (lays[_i] == lay_file && i == 0)); /* that is no directory of ours */
                ck_works(last_id, "clean");
                rest();
        }
}
END_TEST

START_TEST(whatever_a_killed_engine_left_of_the_process_is_not_its_own)
{
        bool is_ahead = _i % 2;
        uint64_t next = run("") + 1 + (_i / 2 == 2);
        char dir[64];

        (void)snprintf(dir, sizeof(dir), "processes/%llu", (unsigned long long)next);
        lays[_i / 2 + 3](dir);
        if (is_ahead)
                rest();
        ck_assert_uint_eq(run(""), next);
        ck_works(next, "clean");
        ck_assert_int_eq(
                json_integer_value(json_object_get(json_object_get(client.last, "result"), "accepted")), 6);
}
END_TEST

/* An engine that is killed before the first of these is stored, with a spare or without. */
START_TEST(a_killed_engine_loses_nothing_by_what_was_made_ahead)
{
        uint64_t first = run("");

        ck_works(first, "one");
        for (int i = 0; i < _i; i++)
                if (supervisor_has_chores(&engine.supervisor))
                        supervisor_do_chore(&engine.supervisor);
        kill_engine();
        ck_works(first, "two");
        (void)run("");
        rest();
        kill_engine();
        ck_works(last_id, "three");
        (void)run("");
        ck_works(last_id, "four");
        (void)ask_by(&client, "read", "{\"target\":%llu,\"cursor\":null,\"from\":0,\"for\":\"bytes\"}",
                     (unsigned long long)first);
        turns();
        ck_assert_str_eq(json_string_value(json_object_get(json_object_get(client.last, "result"), "data")),
                         "one\ntwo\n");
}
END_TEST

START_TEST(an_engine_that_ends_leaves_no_spare)
{
        (void)run("");
        rest();
        ck_assert_uint_ne(inode(spare("")), 0);
        fixture_disconnect(&client);
        fixture_restart();
        connect_client();
        ck_assert_uint_eq(inode(spare("")), 0);
        ck_works(1, "still there");
}
END_TEST

START_TEST(a_process_that_is_removed_takes_its_directory_with_it)
{
        (void)run("");
        rest();
        (void)run("");
        ck_works(last_id, "some");
        ck_assert_uint_ne(inode(dir_of(last_id)), 0);
        (void)ask_by(&client, "remove", "{\"targets\":[%llu],\"force\":true}", (unsigned long long)last_id);
        turns();
        ck_assert_uint_eq(inode(dir_of(last_id)), 0);
        rest();
        ck_assert_uint_ne(inode(spare("")), 0);
        (void)run("");
        ck_works(last_id, "nothing of the other");
}
END_TEST

/* The engine ends before it has heard that the program runs, or behind that. */
START_TEST(a_client_that_is_lost_with_an_engine_loses_its_lease_with_the_next)
{
        const Process *process;

        (void)ask_by(&client, "run", "{\"argv\":[\"%s\"],\"lease\":\"client\"}", _i == 0 ? "late" : "cat");
        turns();
        fixture_disconnect(&client);
        fixture_restart();
        connect_client();
        process = CONTAINER_OF(engine.supervisor.processes.next, Process, link);
        ck_assert(process_is_alive(process) && !process->lease_holder);
        ck_assert_uint_ne(process->lease_deadline_usec, 0);
        ck_assert(evtimer_pending(process->timer, NULL));
}
END_TEST

static Process *only_process(void) {
        return CONTAINER_OF(engine.supervisor.processes.next, Process, link);
}

/* The first input of a process that is about to run, or that runs. */
START_TEST(input_that_was_accepted_just_before_a_kill_gets_its_record)
{
        LogChunk chunk = {};
        StdinLog *input;
        Log *log;

        (void)ask_by(&client, "run", "{\"argv\":[\"%s\"]}", _i == 0 ? "late" : "cat");
        turns();
        ck_assert_int_eq(process_stdin_log(only_process(), &input, NULL), 0);
        ck_assert_int_eq(stdin_log_accept(input, NULL, 0, "one\n", 4, false, NULL, NULL, NULL), 0);
        kill_engine();
        ck_assert_int_eq(process_log(only_process(), &log, NULL), 0);
        ck_assert_int_eq(log_last_record(log, RECORD_INPUT, 1, &chunk), 1);
        ck_assert_uint_eq(chunk.argument, 4);
        ck_assert_uint_eq(process_input_taken(only_process()), 4);
}
END_TEST

/* Where others have taken the descriptors since logs were last closed. */
START_TEST(a_run_is_not_refused_for_what_logs_hold_but_once)
{
        struct rlimit before, few;
        int fds[1024], n = 0;

        for (unsigned i = 0; i < 4; i++)
                ck_works(run(""), "one");
        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
        few = (struct rlimit){ .rlim_cur = ARRAY_SIZE(fds), .rlim_max = before.rlim_max };
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
        do
                fds[n] = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        while (fd_room_check(FD_USE_PROCESS, fds[n++], NULL) >= 0);
        ck_assert_uint_eq(run(""), 0);
        ck_assert_str_eq(code_of(&client), "limit");
        ck_assert_uint_ne(run(""), 0);
        while (n > 0)
                (void)fd_close(fds[--n]);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
}
END_TEST

static Suite *process_suite(void) {
        Suite *suite = suite_create("process");
        TCase *tcase = tcase_create("directories"), *leases = tcase_create("leases");
        TCase *kills = tcase_create("kills"), *room = tcase_create("room");

        tcase_set_timeout(tcase, 60);
        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, the_next_process_takes_what_was_made_ahead);
        tcase_add_test(tcase, it_is_made_for_input_where_the_one_before_had_some);
        tcase_add_test(tcase, the_retention_is_that_of_the_process_that_takes_it);
        tcase_add_loop_test(tcase, whatever_lies_where_the_spare_is_to_be_the_next_one_begins_empty, 0,
                            ARRAY_SIZE(lays));
        tcase_add_loop_test(tcase, whatever_a_killed_engine_left_of_the_process_is_not_its_own, 0, 6);
        tcase_add_loop_test(tcase, a_killed_engine_loses_nothing_by_what_was_made_ahead, 0, 4);
        tcase_add_test(tcase, an_engine_that_ends_leaves_no_spare);
        tcase_add_test(tcase, a_process_that_is_removed_takes_its_directory_with_it);
        tcase_add_checked_fixture(leases, setup, teardown);
        tcase_add_loop_test(leases, a_client_that_is_lost_with_an_engine_loses_its_lease_with_the_next, 0, 2);
        suite_add_tcase(suite, tcase);
        suite_add_tcase(suite, leases);
        tcase_add_checked_fixture(kills, setup, teardown);
        tcase_add_loop_test(kills, input_that_was_accepted_just_before_a_kill_gets_its_record, 0, 2);
        suite_add_tcase(suite, kills);
        tcase_add_checked_fixture(room, setup, teardown);
        tcase_add_test(room, a_run_is_not_refused_for_what_logs_hold_but_once);
        suite_add_tcase(suite, room);
        return suite;
}

CHECK_MAIN(process_suite);
