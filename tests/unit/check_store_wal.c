/* SPDX-License-Identifier: MIT */

/* The write-ahead log's file: one write a transaction, whatever its size in pages; read back as any other. */

#include "daemon/engine/store-wal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/engine/registry.h"
#include "tests/support/check-main.h"
#include "tests/support/scratch.h"

static char dir[SCRATCH_MAX], path[SCRATCH_MAX + 16];
static Registry *registry; /* owned */

static void reopen(void) {
        registry = registry_free(registry);
        ck_assert_int_eq(registry_open(&registry, path, NULL), 0);
}

static void setup(void) {
        scratch_make(dir, "/tmp");
        (void)snprintf(path, sizeof(path), "%s/registry", dir);
        reopen();
}

static void teardown(void) {
        registry = registry_free(registry);
        scratch_remove(dir);
}

/* How often this process has written to a file; asserts nothing, as an assertion writes as well. */
static unsigned long n_writes(void) {
        FILE *file = fopen("/proc/self/io", "re");
        unsigned long n = 0;
        char line[64];

        while (file && fgets(line, sizeof(line), file))
                if (sscanf(line, "syscw: %lu", &n) == 1)
                        break;
        if (file)
                (void)fclose(file);
        return n;
}

static uint64_t add(const char *name, size_t size) {
        char *config = calloc(1, size + 1);
        RegistryProcess process = { .name = name, .config = config };

        ck_assert_ptr_nonnull(config);
        memset(config, 'x', size);
        ck_assert_int_eq(registry_add_process(registry, &process, NULL), 0);
        free(config);
        return process.id;
}

static void check_size(uint64_t id, size_t size) {
        char *config;

        ck_assert_int_eq(registry_get_config(registry, id, &config, NULL), 0);
        ck_assert_uint_eq(strlen(config), size);
        free(config);
}

START_TEST(a_transaction_is_one_write)
{
        unsigned long before, after;
        uint64_t id;
        int r;

        if (access("/proc/self/io", R_OK) < 0)
                return;
        (void)add("first", 10); /* begins the log, and extends the file */
        ck_assert_int_eq(registry_commit(registry, NULL), 0);
        id = add("second", 20000);
        ck_assert_int_eq(registry_put_run(registry, &(RegistryRun){ .process = id, .run = 1 }, NULL), 0);
        before = n_writes();
        r = registry_commit(registry, NULL);
        after = n_writes();
        ck_assert_int_eq(r, 0);
        ck_assert_uint_eq(after, before + 1);
}
END_TEST

START_TEST(transactions_of_all_sizes_are_there_again)
{
        static const size_t sizes[] = { 1, 5000, 15 * 4096, 16 * 4096, 17 * 4096, 600 * 4096, 1 };
        uint64_t ids[ARRAY_SIZE(sizes)];

        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                ids[i] = add(NULL, sizes[i]);
                check_size(ids[i], sizes[i]);
                ck_assert_int_eq(registry_commit(registry, NULL), 0);
                for (size_t j = 0; j <= i; j++)
                        check_size(ids[j], sizes[j]);
                if (i % 2)
                        reopen();
        }
        reopen();
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
                check_size(ids[i], sizes[i]);
}
END_TEST

static void commit_number(uint64_t number) {
        char text[32];

        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
        ck_assert_int_eq(registry_set_meta(registry, "a", text, NULL), 0);
        ck_assert_int_eq(registry_commit(registry, NULL), 0);
}

START_TEST(a_long_log_is_emptied_when_there_is_time_or_else_by_a_commit)
{
        char wal[SCRATCH_MAX + 32], *text;
        uint64_t n = 0;
        struct stat st;

        (void)snprintf(wal, sizeof(wal), "%s-wal", path);
        ck_assert(!registry_wants_checkpoint(registry));
        while (!registry_wants_checkpoint(registry) && n < 1000)
                commit_number(++n);
        ck_assert(registry_wants_checkpoint(registry));
        ck_assert_int_eq(registry_set_meta(registry, "b", "1", NULL), 0);
        registry_checkpoint(registry); /* not in a transaction */
        ck_assert(registry_wants_checkpoint(registry));
        ck_assert_int_eq(registry_commit(registry, NULL), 0);
        registry_checkpoint(registry);
        ck_assert(!registry_wants_checkpoint(registry));
        commit_number(++n);
        ck_assert(!registry_wants_checkpoint(registry)); /* it began anew */
        for (unsigned i = 0; i < 3000; i++)
                commit_number(++n);
        ck_assert_int_eq(stat(wal, &st), 0);
        ck_assert_int_lt(st.st_size, 5 * 1024 * 1024);
        reopen();
        ck_assert_int_eq(registry_get_meta(registry, "a", &text, NULL), 1);
        ck_assert_uint_eq(strtoull(text, NULL, 10), n);
        free(text);
}
END_TEST

static Suite *store_wal_suite(void) {
        Suite *suite = suite_create("store-wal");
        TCase *tcase = tcase_create("log");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, a_transaction_is_one_write);
        tcase_add_test(tcase, transactions_of_all_sizes_are_there_again);
        tcase_add_test(tcase, a_long_log_is_emptied_when_there_is_time_or_else_by_a_commit);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(store_wal_suite);
