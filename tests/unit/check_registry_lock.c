/* SPDX-License-Identifier: MIT */

/* Locks on stdin in the registry: kept over a reopening, replaced, gone with their process. */

#include <errno.h>

#include "daemon/engine/registry.h"
#include "tests/support/check-main.h"
#include "tests/support/scratch.h"

static char dir[SCRATCH_MAX], path[SCRATCH_MAX + 16];
static Registry *registry; /* owned */
static uint64_t id;

static void setup(void) {
        RegistryProcess process = { .config = "{}" };

        scratch_make(dir, "/tmp");
        (void)snprintf(path, sizeof(path), "%s/registry", dir);
        ck_assert_int_eq(registry_open(&registry, path, NULL), 0);
        ck_assert_int_eq(registry_add_process(registry, &process, NULL), 0);
        id = process.id;
}

static void teardown(void) {
        registry = registry_free(registry);
        scratch_remove(dir);
}

static void reopen(void) {
        ck_assert_int_eq(registry_commit(registry, NULL), 0);
        registry = registry_free(registry);
        ck_assert_int_eq(registry_open(&registry, path, NULL), 0);
}

typedef struct Seen {
        unsigned n;
        StdinLock lock;
} Seen;

static int see(uint64_t process, const StdinLock *lock, void *userdata) {
        Seen *seen = userdata;

        ck_assert_uint_eq(process, id);
        seen->n++;
        seen->lock = *lock;
        return 0;
}

static Seen load(void) {
        Seen seen = {};

        ck_assert_int_eq(registry_load_locks(registry, see, &seen, NULL), 0);
        return seen;
}

START_TEST(a_lock_is_kept_and_replaced)
{
        StdinLock lock = { .token = "t", .holder = "h\xff", .pid = 12, .expires_usec = UINT64_C(1) << 52 };
        Seen seen;

        ck_assert_uint_eq(load().n, 0);
        ck_assert_int_eq(registry_put_lock(registry, id, &lock, NULL), 0);
        reopen();
        seen = load();
        ck_assert_uint_eq(seen.n, 1);
        ck_assert_str_eq(seen.lock.token, "t");
        ck_assert_str_eq(seen.lock.holder, "h\xff");
        ck_assert_int_eq(seen.lock.pid, 12);
        ck_assert_uint_eq(seen.lock.expires_usec, UINT64_C(1) << 52);
        lock.pid = 13;
        ck_assert_int_eq(registry_put_lock(registry, id, &lock, NULL), 0);
        seen = load();
        ck_assert_uint_eq(seen.n, 1);
        ck_assert_int_eq(seen.lock.pid, 13);
}
END_TEST

START_TEST(a_lock_goes_when_it_is_removed_or_its_process_is)
{
        StdinLock lock = { .token = "t", .holder = "h" };
        Error error = {};

        ck_assert_int_eq(registry_remove_lock(registry, id, NULL), 0);
        ck_assert_int_eq(registry_put_lock(registry, id, &lock, NULL), 0);
        ck_assert_int_eq(registry_remove_lock(registry, id, NULL), 0);
        reopen();
        ck_assert_uint_eq(load().n, 0);
        ck_assert_int_eq(registry_put_lock(registry, id, &lock, NULL), 0);
        ck_assert_int_eq(registry_remove_process(registry, id, NULL), 0);
        reopen();
        ck_assert_uint_eq(load().n, 0);
        ck_assert_int_eq(registry_put_lock(registry, id, &lock, &error), -ESRCH);
        ck_assert_int_eq(error.code, ERROR_NOT_FOUND);
}
END_TEST

static Suite *registry_lock_suite(void) {
        Suite *suite = suite_create("registry-lock");
        TCase *tcase = tcase_create("locks");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, a_lock_is_kept_and_replaced);
        tcase_add_test(tcase, a_lock_goes_when_it_is_removed_or_its_process_is);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(registry_lock_suite);
