/* SPDX-License-Identifier: MIT */

/* The store beneath the registry: kills at any instant, disks that are full, files that are damaged or not
 * ours. Seen through the registry, whose reserve of pages belongs to it. */

#include "daemon/engine/store.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "common/macro.h"
#include "daemon/engine/registry.h"
#include "tests/support/check-main.h"
#include "tests/support/scratch.h"

#define N_KILLS KILLS(100)
#define LIFE_MAX_USEC 5000

static char dir[SCRATCH_MAX], path[SCRATCH_MAX + 16];
static Registry *registry; /* owned */
static int n_fds;

static void setup(void) {
        n_fds = open_fds_count();
        scratch_make(dir, "/tmp");
        (void)snprintf(path, sizeof(path), "%s/registry", dir);
}

static void teardown(void) {
        registry = registry_free(registry);
        scratch_remove(dir);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static int try_open(Error *ret_error) {
        registry = registry_free(registry);
        return registry_open(&registry, path, ret_error);
}

static void reopen(void) {
        ck_assert_int_eq(try_open(NULL), 0);
}

/* As a kill leaves it: nothing is freed, closed or rolled back. */
static void in_a_killed_process(void (*fn)(void)) {
        int status;
        pid_t pid;

        pid = fork();
        if (pid == 0) {
                fn();
                (void)raise(SIGKILL);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void meta_set(const char *name, uint64_t value) {
        char text[32];

        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
        if (registry_set_meta(registry, name, text, NULL) < 0)
                abort();
}

static uint64_t meta_get(const char *name) {
        uint64_t value = 0;
        char *text;

        if (registry_get_meta(registry, name, &text, NULL) == 1) {
                value = strtoull(text, NULL, 10);
                free(text);
        }
        return value;
}

/* --- files --- */

START_TEST(the_files_are_private_and_there_is_no_shared_memory)
{
        char file[SCRATCH_MAX + 32];
        struct stat st;

        umask(0);
        reopen();
        meta_set("a", 1);
        ck_assert_int_eq(registry_commit(registry, NULL), 0);
        ck_assert_int_eq(scratch_n_files(dir), 2);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_int_eq(st.st_mode & 0777, 0600);
        (void)snprintf(file, sizeof(file), "%s-wal", path);
        ck_assert_int_eq(stat(file, &st), 0);
        ck_assert_int_eq(st.st_mode & 0777, 0600);
        registry = registry_free(registry);
        ck_assert_int_eq(chmod(path, 0644), 0);
        reopen();
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_int_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(one_at_a_time)
{
        Registry *other = NULL;
        Error error;
        int status;
        pid_t pid;

        reopen();
        pid = fork();
        if (pid == 0)
                _exit(registry_open(&other, path, &error) == -EADDRINUSE &&
                                      error.code == ERROR_ALREADY_RUNNING
                              ? 0
                              : 1);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_int_eq(status, 0);
        ck_assert_int_eq(registry_open(&other, path, &error), -EADDRINUSE);
        ck_assert_ptr_null(other);
        meta_set("a", 1); /* and it harms the one that is there in nothing */
        ck_assert_int_eq(registry_commit(registry, NULL), 0);
}
END_TEST

START_TEST(a_directory_that_is_not_there_is_enoent)
{
        Error error;

        (void)snprintf(path, sizeof(path), "%s/no/registry", dir);
        ck_assert_int_eq(try_open(&error), -ENOENT);
        ck_assert_ptr_nonnull(strstr(error.text, path));
        ck_assert_ptr_null(registry);
}
END_TEST

/* --- kills --- */

static void commit_one_and_half_of_another(void) {
        reopen();
        meta_set("a", 1);
        if (registry_commit(registry, NULL) < 0)
                abort();
        meta_set("a", 2);
}

START_TEST(a_turn_that_was_not_committed_is_gone_with_its_engine)
{
        for (unsigned i = 0; i < 3; i++) {
                in_a_killed_process(commit_one_and_half_of_another);
                reopen(); /* at once: nobody holds it any more */
                ck_assert_uint_eq(meta_get("a"), 1);
                registry = registry_free(registry);
        }
}
END_TEST

/* Counts in four tables at once, tells of each commit, until it is killed. */
static void count_until_killed(int fd) {
        RegistryProcess process = { .config = "{}" };
        RegistryRun run = {};
        uint64_t n;

        reopen();
        for (n = meta_get("count") + 1;; n++) {
                process.id = 0;
                if (registry_add_process(registry, &process, NULL) < 0)
                        abort();
                run = (RegistryRun){ .process = process.id, .run = (uint32_t)n };
                meta_set("count", n);
                if (registry_put_run(registry, &run, NULL) < 0 ||
                    registry_add_event(registry, n, "{\"type\":\"started\"}", NULL, NULL) < 0 ||
                    registry_commit(registry, NULL) < 0)
                        abort();
                if (write(fd, &n, sizeof(n)) != sizeof(n))
                        abort();
        }
}

static int count_runs(const RegistryProcess *process, const RegistryRun *run, void *userdata) {
        (void)process;
        if (!run || run->run != ++*(uint64_t *)userdata)
                ck_abort_msg("process %llu and its run do not belong together",
                             (unsigned long long)process->id);
        return 0;
}

START_TEST(what_was_told_survives_kills_and_all_tables_agree)
{
        uint64_t told = 0, n_runs, oldest, latest, total = 0;
        int fds[2];
        pid_t pid;

        ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        for (unsigned i = 0; i < N_KILLS; i++) {
                pid = fork();
                if (pid == 0)
                        count_until_killed(fds[1]);
                if (i % 2 == 0) /* at work, not while it opens */
                        ck_assert_int_eq(poll(&(struct pollfd){ .fd = fds[0], .events = POLLIN }, 1, 60000),
                                         1);
                ck_assert_int_eq(usleep((useconds_t)random() % LIFE_MAX_USEC), 0);
                ck_assert_int_eq(kill(pid, SIGKILL), 0);
                ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
                while (read(fds[0], &told, sizeof(told)) == sizeof(told))
                        total++;
                reopen();
                n_runs = 0;
                ck_assert_int_eq(registry_load(registry, count_runs, &n_runs, NULL), 0);
                ck_assert_int_eq(registry_event_range(registry, &oldest, &latest, NULL), 0);
                ck_assert_uint_ge(n_runs, told);
                ck_assert_uint_le(n_runs, told + 1);
                ck_assert_uint_eq(latest, n_runs);
                ck_assert_uint_eq(meta_get("count"), n_runs);
                told = n_runs;
                registry = registry_free(registry);
        }
        ck_assert_uint_gt(total, 0);
        close(fds[0]);
        close(fds[1]);
}
END_TEST

START_TEST(a_kill_while_the_registry_is_made_leaves_one_that_can_be_made)
{
        char wal[SCRATCH_MAX + 32], journal[SCRATCH_MAX + 32];
        pid_t pid;

        (void)snprintf(wal, sizeof(wal), "%s-wal", path);
        (void)snprintf(journal, sizeof(journal), "%s-journal", path);
        for (unsigned i = 0; i < N_KILLS; i++) {
                pid = fork();
                if (pid == 0) {
                        reopen();
                        for (;;)
                                (void)pause();
                }
                ck_assert_int_eq(usleep((useconds_t)random() % LIFE_MAX_USEC), 0);
                ck_assert_int_eq(kill(pid, SIGKILL), 0);
                ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
                reopen();
                meta_set("a", 1);
                ck_assert_int_eq(registry_commit(registry, NULL), 0);
                registry = registry_free(registry);
                ck_assert_int_eq(unlink(path), 0);
                ck_assert_int_eq(unlink(wal), 0);
                (void)unlink(journal);
        }
}
END_TEST

/* --- full disks --- */

static int put_exit(uint64_t process) {
        RegistryRun run = {
                .process = process,
                .run = 1,
                .ended = RUN_EXITED,
                .exit = { .known = true, .has_usage = true, .usage = { 1000000, 2000000, 3000000, 4, 5, 6 } },
        };
        int r;

        r = registry_put_run(registry, &run, NULL);
        if (r == 0)
                r = registry_add_event(registry, 1, "{\"type\":\"exited\",\"id\":1,\"name\":null,\"run\":1}",
                                       NULL, NULL);
        return r < 0 ? r : registry_commit(registry, NULL);
}

static int put_large(const char *name, Error *ret_error) {
        static char config[1024 * 1024];
        RegistryProcess process = { .name = name, .config = config };
        int r;

        memset(config, 'x', sizeof(config) - 1);
        r = registry_add_process(registry, &process, ret_error);
        return r < 0 ? r : registry_commit(registry, ret_error);
}

static int count_processes(const RegistryProcess *process, const RegistryRun *run, void *userdata) {
        (void)process;
        (void)run;
        ++*(unsigned *)userdata;
        return 0;
}

static void assert_n_processes(unsigned expected) {
        unsigned n = 0;

        ck_assert_int_eq(registry_load(registry, count_processes, &n, NULL), 0);
        ck_assert_uint_eq(n, expected);
}

static void exits_on_a_full_disk(unsigned n_padding) {
        RegistryProcess process = { .config = "{\"argv\":[\"sleep\"]}" };
        static char padding[32 * 1024];
        Error error;

        memset(padding, 'x', sizeof(padding) - 1);
        for (unsigned i = 0; i < 100; i++) {
                process.id = 0;
                ck_assert_int_eq(registry_add_process(registry, &process, NULL), 0);
                ck_assert_int_eq(
                        registry_put_run(registry, &(RegistryRun){ .process = process.id, .run = 1 }, NULL),
                        0);
        }
        for (unsigned i = 0; i < n_padding; i++)
                ck_assert_int_eq(
                        registry_add_process(registry, &(RegistryProcess){ .config = padding }, NULL), 0);
        ck_assert_int_eq(registry_commit(registry, NULL), 0);
        scratch_fill(dir);
        for (unsigned i = 0; i < 1000; i++)
                if (put_exit(1 + i % 100) < 0)
                        ck_abort_msg("the disk is full: exit %u is not recorded", i);
        ck_assert_int_eq(put_large("large", &error), -ENOSPC);
        ck_assert_int_eq(error.code, ERROR_NO_SPACE);
        ck_assert_ptr_nonnull(strstr(error.text, path));
        ck_assert(!registry_dirty(registry));
        assert_n_processes(100 + n_padding);
        ck_assert_int_eq(put_exit(1), 0);
}

/* Whatever the file's last chunk has left. */
START_TEST(an_exit_is_recorded_on_a_full_disk)
{
        if (!scratch_mount(dir, 8 * 1024 * 1024))
                return;
        reopen();
        exits_on_a_full_disk((unsigned)_i);
        /* a new engine on a disk that is still full */
        reopen();
        assert_n_processes(100 + (unsigned)_i);
        for (unsigned i = 0; i < 100; i++)
                ck_assert_int_eq(put_exit(1 + i), 0);
        scratch_empty(dir);
        ck_assert_int_eq(put_large("large", NULL), 0);
        assert_n_processes(101 + (unsigned)_i);
        registry = registry_free(registry);
        scratch_unmount(dir);
}
END_TEST

START_TEST(a_turn_that_does_not_fit_is_undone_as_a_whole)
{
        RegistryProcess process = { .name = "small", .config = "{}" };
        static char config[6 * 1024 * 1024];
        Error error;

        if (!scratch_mount(dir, 6 * 1024 * 1024))
                return;
        reopen();
        meta_set("a", 1);
        ck_assert_int_eq(registry_commit(registry, NULL), 0);
        scratch_fill(dir);
        for (unsigned i = 0; i < 3; i++) {
                meta_set("a", 2);
                ck_assert_int_eq(registry_add_process(registry, &process, NULL), 0);
                memset(config, 'x', sizeof(config) - 1);
                ck_assert_int_eq(registry_add_process(registry, &(RegistryProcess){ .config = config }, NULL),
                                 0);
                ck_assert_int_eq(registry_commit(registry, &error), -ENOSPC);
                ck_assert_uint_eq(meta_get("a"), 1);
                assert_n_processes(0);
                process.id = 0;
                meta_set("b", 7 + i);
                ck_assert_int_eq(registry_commit(registry, NULL), 0);
                ck_assert_uint_eq(meta_get("b"), 7 + i);
                if (i == 1)
                        reopen();
        }
        registry = registry_free(registry);
        scratch_unmount(dir);
}
END_TEST

START_TEST(no_registry_is_made_on_a_full_disk)
{
        Error error;

        if (!scratch_mount(dir, 1024 * 1024))
                return;
        scratch_fill(dir);
        ck_assert_int_eq(try_open(&error), -ENOSPC);
        scratch_empty(dir);
        ck_assert_int_eq(try_open(&error), 0); /* what was left of the attempt harms nothing */
        registry = registry_free(registry);
        scratch_unmount(dir);
}
END_TEST

/* --- damage --- */

/* Enough for the log to be emptied into the file, and then some that is in the log alone. */
static void fill_a_bit(void) {
        char name[16];

        reopen();
        for (unsigned i = 0; i < 200; i++)
                if (registry_add_process(registry, &(RegistryProcess){ .config = "{\"argv\":[\"cat\"]}" },
                                         NULL) < 0)
                        abort();
        if (registry_commit(registry, NULL) < 0)
                abort();
        for (unsigned i = 0; i < 6; i++) {
                (void)snprintf(name, sizeof(name), "large %u", i);
                if (put_large(name, NULL) < 0)
                        abort();
        }
        meta_set("a", 1);
        if (registry_commit(registry, NULL) < 0)
                abort();
}

static void write_file(const char *text, size_t size) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        ck_assert_int_eq(write(fd, text, size), (ssize_t)size);
        close(fd);
}

static void assert_damaged_and_untouched(void) {
        struct stat before, after;
        Error error;

        ck_assert_int_eq(stat(path, &before), 0);
        ck_assert_int_eq(try_open(&error), -EUCLEAN);
        ck_assert_int_eq(error.code, ERROR_SYSTEM);
        ck_assert_ptr_nonnull(strstr(error.text, path));
        ck_assert_ptr_null(registry);
        ck_assert_int_eq(stat(path, &after), 0);
        ck_assert_int_eq(before.st_size, after.st_size);
        ck_assert_mem_eq(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
}

START_TEST(garbage_is_refused_and_left_as_it_is)
{
        static char garbage[20000];

        memset(garbage, 'g', sizeof(garbage));
        for (size_t size = 1; size < sizeof(garbage); size = size * 3) {
                write_file(garbage, size);
                assert_damaged_and_untouched();
        }
}
END_TEST

/* Cut anywhere, with the log that a killed engine left behind or without it. */
START_TEST(a_file_that_is_cut_off_is_refused)
{
        char wal[SCRATCH_MAX + 32];
        struct stat st;

        in_a_killed_process(fill_a_bit);
        (void)snprintf(wal, sizeof(wal), "%s-wal", path);
        if (_i % 2 == 0)
                ck_assert_int_eq(unlink(wal), 0);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_int_gt(st.st_size, 1024 * 1024);
        ck_assert_int_eq(truncate(path, _i < 2 ? st.st_size / 2 : _i < 4 ? 4096 * 3 : _i < 6 ? 50 : 0), 0);
        if (_i == 6) /* empty and alone: as good as new */
                reopen();
        else
                assert_damaged_and_untouched();
}
END_TEST

START_TEST(a_page_of_garbage_is_found_when_it_is_read)
{
        static const char garbage[4096] = { 'g' };
        char wal[SCRATCH_MAX + 32];
        unsigned n = 0;
        Error error = {};
        int fd, r;

        in_a_killed_process(fill_a_bit);
        (void)snprintf(wal, sizeof(wal), "%s-wal", path);
        ck_assert_int_eq(unlink(wal), 0);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        for (off_t page = 1; page < 200; page++)
                ck_assert_int_eq(pwrite(fd, garbage, 4096, page * 4096), 4096);
        close(fd);
        r = try_open(&error);
        if (r == 0)
                r = registry_load(registry, count_processes, &n, &error);
        ck_assert_int_eq(r, -EUCLEAN);
        ck_assert_ptr_nonnull(strstr(error.text, path));
}
END_TEST

static void execute(const char *sql) {
        sqlite3 *db;

        ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
        ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

START_TEST(a_database_of_another_program_is_refused)
{
        execute("CREATE TABLE music(title); PRAGMA user_version=1");
        assert_damaged_and_untouched();
}
END_TEST

START_TEST(a_newer_version_is_refused_and_left_as_it_is)
{
        struct stat before, after;
        Error error;

        reopen();
        registry = registry_free(registry);
        execute("PRAGMA user_version=1000");
        ck_assert_int_eq(stat(path, &before), 0);
        ck_assert_int_eq(try_open(&error), -EPROTONOSUPPORT);
        ck_assert_int_eq(error.code, ERROR_VERSION);
        ck_assert_ptr_nonnull(strstr(error.text, "1000"));
        ck_assert_int_eq(stat(path, &after), 0);
        ck_assert_mem_eq(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
}
END_TEST

/* --- migrations --- */

static const char *const steps[] = {
        "CREATE TABLE t(a); INSERT INTO t VALUES(1)",
        "ALTER TABLE t ADD COLUMN b; UPDATE t SET b = a + 1",
        "INSERT INTO t VALUES(3, 4); this is not SQL",
};
static const char *const sums[] = { "SELECT sum(a) FROM t", "SELECT sum(a + b) FROM t" };

static int open_version(unsigned version, unsigned number, uint64_t *ret_sum) {
        StoreConfig config = { .application_id = 7,
                               .migrations = steps,
                               .n_migrations = version,
                               .statements = sums,
                               .n_statements = ARRAY_SIZE(sums) };
        CLEANUP(store_free) Store *store = NULL;
        StoreStatement *statement;
        int r;

        r = store_open(&store, path, &config, NULL);
        if (r < 0)
                return r;
        ck_assert_int_eq(store_read(store, number, &statement, NULL), 0);
        ck_assert_int_eq(store_step(store, statement, NULL), 1);
        *ret_sum = store_column_u64(statement, 0);
        store_done(statement);
        return 0;
}

START_TEST(an_older_version_is_brought_forward_step_by_step)
{
        uint64_t sum;

        ck_assert_int_eq(open_version(1, 0, &sum), 0);
        ck_assert_uint_eq(sum, 1);
        ck_assert_int_lt(open_version(3, 1, &sum), 0); /* the second step holds, the third leaves no trace */
        ck_assert_int_eq(open_version(2, 1, &sum), 0);
        ck_assert_uint_eq(sum, 3);
        ck_assert_int_eq(open_version(2, 1, &sum), 0);
        ck_assert_uint_eq(sum, 3);
        ck_assert_int_eq(open_version(1, 0, &sum), -EPROTONOSUPPORT);
}
END_TEST

static Suite *store_suite(void) {
        Suite *suite = suite_create("store");
        TCase *tcase = tcase_create("store");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 120);
        tcase_add_test(tcase, the_files_are_private_and_there_is_no_shared_memory);
        tcase_add_test(tcase, one_at_a_time);
        tcase_add_test(tcase, a_directory_that_is_not_there_is_enoent);
        tcase_add_test(tcase, a_turn_that_was_not_committed_is_gone_with_its_engine);
        tcase_add_test(tcase, what_was_told_survives_kills_and_all_tables_agree);
        tcase_add_test(tcase, a_kill_while_the_registry_is_made_leaves_one_that_can_be_made);
        tcase_add_loop_test(tcase, an_exit_is_recorded_on_a_full_disk, 0, 8);
        tcase_add_test(tcase, a_turn_that_does_not_fit_is_undone_as_a_whole);
        tcase_add_test(tcase, no_registry_is_made_on_a_full_disk);
        tcase_add_test(tcase, garbage_is_refused_and_left_as_it_is);
        tcase_add_loop_test(tcase, a_file_that_is_cut_off_is_refused, 0, 8);
        tcase_add_test(tcase, a_page_of_garbage_is_found_when_it_is_read);
        tcase_add_test(tcase, a_database_of_another_program_is_refused);
        tcase_add_test(tcase, a_newer_version_is_refused_and_left_as_it_is);
        tcase_add_test(tcase, an_older_version_is_brought_forward_step_by_step);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(store_suite);
