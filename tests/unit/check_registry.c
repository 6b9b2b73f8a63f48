/* SPDX-License-Identifier: MIT */

/* The registry as its header has it: what is put in comes out, in one transaction a turn. What a kill, a full
 * disk or a damaged file do to it is in check_store.c. */

#include "daemon/engine/registry.h"

#include <malloc.h>

#include "common/macro.h"
#include "daemon/engine/registry-run-table.h"
#include "tests/support/check-main.h"
#include "tests/support/scratch.h"

static char dir[SCRATCH_MAX], path[SCRATCH_MAX + 16];
static int n_fds;
static Registry *registry; /* owned */

static void setup(void) {
        n_fds = open_fds_count();
        scratch_make(dir, "/tmp");
        (void)snprintf(path, sizeof(path), "%s/registry", dir);
        ck_assert_int_eq(registry_open(&registry, path, NULL), 0);
}

static void teardown(void) {
        registry = registry_free(registry);
        scratch_remove(dir);
        ck_assert_int_eq(open_fds_count(), n_fds);
}

static void reopen(void) {
        registry = registry_free(registry);
        ck_assert_int_eq(registry_open(&registry, path, NULL), 0);
}

static uint64_t add(const char *name) {
        RegistryProcess process = { .name = name, .config = "{}", .created_usec = 1 };

        ck_assert_int_eq(registry_add_process(registry, &process, NULL), 0);
        return process.id;
}

static int commit(void) {
        return registry_commit(registry, NULL);
}

/* --- processes --- */

typedef struct Seen {
        unsigned n, n_runs, n_stop;
        uint64_t ids[16];
        char names[16][160];
        char config[64];
        bool paused;
        RegistryRun run;
} Seen;

static int see(const RegistryProcess *process, const RegistryRun *run, void *userdata) {
        Seen *seen = userdata;

        seen->ids[seen->n] = process->id;
        (void)snprintf(seen->names[seen->n], 160, "%s", process->name ? process->name : "(none)");
        (void)snprintf(seen->config, sizeof(seen->config), "%s", process->config);
        seen->paused = process->paused;
        if (run) {
                seen->run = *run;
                seen->n_runs++;
        }
        return ++seen->n == seen->n_stop ? 7 : 0;
}

static Seen load(void) {
        Seen seen = {};

        ck_assert_int_eq(registry_load(registry, see, &seen, NULL), 0);
        return seen;
}

START_TEST(processes_come_back_by_id)
{
        RegistryProcess process = { .name = "b", .config = "{\"argv\":[]}", .paused = true };
        Seen seen;

        ck_assert_uint_eq(add("z"), 1);
        ck_assert_uint_eq(add(NULL), 2);
        ck_assert_uint_eq(add(NULL), 3);
        ck_assert_int_eq(registry_add_process(registry, &process, NULL), 0);
        ck_assert_uint_eq(process.id, 4);
        ck_assert_int_eq(commit(), 0);
        for (unsigned i = 0; i < 2; i++) {
                seen = load();
                ck_assert_uint_eq(seen.n, 4);
                for (unsigned k = 0; k < 4; k++)
                        ck_assert_uint_eq(seen.ids[k], k + 1);
                ck_assert_str_eq(seen.names[0], "z");
                ck_assert_str_eq(seen.names[1], "(none)");
                ck_assert_str_eq(seen.config, "{\"argv\":[]}");
                ck_assert(seen.paused);
                ck_assert_uint_eq(seen.n_runs, 0);
                reopen();
        }
}
END_TEST

START_TEST(the_text_of_a_process_can_be_read_again)
{
        RegistryProcess process = { .config = "{\"argv\":[\"a\"]}" };
        char *config = NULL;
        Error error;

        ck_assert_int_eq(registry_add_process(registry, &process, NULL), 0);
        ck_assert_int_eq(registry_get_config(registry, process.id, &config, NULL), 0);
        ck_assert_str_eq(config, process.config);
        free(config);
        ck_assert_int_eq(registry_get_config(registry, 77, &config, &error), -ESRCH);
        ck_assert_int_eq(error.code, ERROR_NOT_FOUND);
}
END_TEST

START_TEST(names_and_texts_are_any_bytes)
{
        char name[256];
        Seen seen;

        for (int i = 0; i < 255; i++)
                name[i] = (char)(i + 1);
        name[255] = '\0';
        (void)add(name + 128);
        ck_assert_int_eq(registry_set_meta(registry, name, name, NULL), 0);
        ck_assert_int_eq(commit(), 0);
        reopen();
        seen = load();
        ck_assert_str_eq(seen.names[0], name + 128);
}
END_TEST

START_TEST(a_name_is_taken_once)
{
        RegistryProcess process = { .name = "same", .config = "{}" };
        Error error;

        (void)add("same");
        ck_assert_int_eq(registry_add_process(registry, &process, &error), -EEXIST);
        ck_assert_int_eq(error.code, ERROR_EXISTS);
        ck_assert_uint_eq(process.id, 0);
        (void)add("Same");
        ck_assert_int_eq(commit(), 0); /* the refusal harmed nothing */
        ck_assert_int_eq(registry_remove_process(registry, 1, NULL), 0);
        (void)add("same");
}
END_TEST

START_TEST(ids_are_never_used_again)
{
        RegistryProcess process = { .id = 100, .config = "{}" };

        ck_assert_uint_eq(add(NULL), 1);
        ck_assert_uint_eq(add(NULL), 2);
        ck_assert_int_eq(commit(), 0);
        ck_assert_int_eq(registry_remove_process(registry, 2, NULL), 0);
        ck_assert_int_eq(commit(), 0);
        reopen();
        ck_assert_uint_eq(add(NULL), 3);
        ck_assert_int_eq(registry_add_process(registry, &process, NULL), 0);
        ck_assert_int_eq(registry_remove_process(registry, 100, NULL), 0);
        ck_assert_int_eq(commit(), 0);
        ck_assert_uint_eq(add(NULL), 101);
}
END_TEST

START_TEST(what_is_not_there_is_not_found)
{
        RegistryRun run = { .process = 5, .run = 1 };
        Error error;

        ck_assert_int_eq(registry_set_paused(registry, 5, true, &error), -ESRCH);
        ck_assert_int_eq(error.code, ERROR_NOT_FOUND);
        ck_assert_int_eq(registry_remove_process(registry, 5, &error), -ESRCH);
        ck_assert_int_eq(registry_put_run(registry, &run, &error), -ESRCH);
        ck_assert_int_eq(error.code, ERROR_NOT_FOUND);
        ck_assert_uint_eq(add(NULL), 1); /* the turn goes on */
        ck_assert_int_eq(commit(), 0);
        ck_assert_uint_eq(load().n, 1);
}
END_TEST

START_TEST(paused_is_kept)
{
        (void)add(NULL);
        ck_assert_int_eq(registry_set_paused(registry, 1, true, NULL), 0);
        ck_assert_int_eq(commit(), 0);
        reopen();
        ck_assert(load().paused);
        ck_assert_int_eq(registry_set_paused(registry, 1, false, NULL), 0);
        ck_assert(!load().paused);
}
END_TEST

START_TEST(load_stops_when_it_is_told_to)
{
        Seen seen = { .n_stop = 2 };

        for (unsigned i = 0; i < 5; i++)
                (void)add(NULL);
        ck_assert_int_eq(registry_load(registry, see, &seen, NULL), 7);
        ck_assert_uint_eq(seen.n, 2);
        ck_assert_uint_eq(load().n, 5);
}
END_TEST

/* --- runs --- */

/* Every field has a value of its own, and the numbers use all of their bits. */
static RegistryRun full_run(uint64_t process, uint32_t number) {
        return (RegistryRun){
                .process = process,
                .run = number,
                .ended = UINT32_MAX,
                .pid = 4194304,
                .start_usec = UINT64_MAX - 1,
                .start_monotonic_usec = UINT64_MAX - 2,
                .end_usec = UINT64_MAX - 3,
                .start_offset = INT64_MAX,
                .start_stdin_offset = INT64_MAX - 1,
                .stop_cause = "fifteen letters",
                .stop_deadline_monotonic_usec = USEC_INFINITY,
                .exit = { .known = true,
                          .core = true,
                          .code = -1,
                          .signal = 11,
                          .oom = -1,
                          .cause = "FIFTEEN LETTERS",
                          .has_usage = true,
                          .usage = { 1, UINT64_MAX, 3, 4, 5, 6, 7, 8, UINT64_C(1) << 63 } },
        };
}

#define NUMBER_IS(a, b) ck_assert((a) == (b))
#define TEXT_IS(a, b) ck_assert_str_eq(a, b)
static void assert_same(const RegistryRun *a, const RegistryRun *b) {
        ck_assert_uint_eq(a->process, b->process);
#define X(type, name, field) type##_IS(a->field, b->field);
        RUN_TABLE(X)
#undef X
}

static int see_run(const RegistryRun *run, void *userdata) {
        Seen *seen = userdata;

        if (seen->n == 0)
                seen->run = *run;
        seen->ids[seen->n++] = run->run;
        return seen->n == seen->n_stop ? -7 : 0;
}

START_TEST(every_field_of_a_run_is_kept)
{
        RegistryRun run = full_run(1, 3), empty = { .process = 1, .run = 4 };
        Seen seen = {};

        (void)add(NULL);
        ck_assert_int_eq(registry_put_run(registry, &run, NULL), 0);
        ck_assert_int_eq(commit(), 0);
        reopen();
        ck_assert_int_eq(registry_runs(registry, 1, 10, see_run, &seen, NULL), 0);
        ck_assert_uint_eq(seen.n, 1);
        assert_same(&seen.run, &run);
        seen = load();
        ck_assert_uint_eq(seen.n_runs, 1);
        assert_same(&seen.run, &run);
        ck_assert_int_eq(registry_put_run(registry, &empty, NULL), 0);
        seen = load();
        assert_same(&seen.run, &empty);
}
END_TEST

START_TEST(a_run_is_replaced_by_its_number)
{
        RegistryRun run = { .process = 1, .run = 1 };
        Seen seen = {};

        (void)add(NULL);
        ck_assert_int_eq(registry_put_run(registry, &run, NULL), 0);
        ck_assert_int_eq(commit(), 0);
        run.exit.code = 9;
        ck_assert_int_eq(registry_put_run(registry, &run, NULL), 0);
        ck_assert_int_eq(registry_runs(registry, 1, 10, see_run, &seen, NULL), 0);
        ck_assert_uint_eq(seen.n, 1);
        ck_assert_int_eq(seen.run.exit.code, 9);
}
END_TEST

START_TEST(runs_come_latest_first_and_load_has_the_latest)
{
        RegistryRun run = {};
        Seen seen = {};

        for (unsigned i = 0; i < 3; i++) {
                run.process = add(NULL);
                for (run.run = 1; run.run <= 12; run.run++)
                        ck_assert_int_eq(registry_put_run(registry, &run, NULL), 0);
        }
        ck_assert_int_eq(registry_runs(registry, 2, 5, see_run, &seen, NULL), 0);
        ck_assert_uint_eq(seen.n, 5);
        for (unsigned i = 0; i < 5; i++)
                ck_assert_uint_eq(seen.ids[i], 12 - i);
        seen = load();
        ck_assert_uint_eq(seen.n_runs, 3);
        ck_assert_uint_eq(seen.run.run, 12);
        seen = (Seen){ .n_stop = 2 };
        ck_assert_int_eq(registry_runs(registry, 2, 5, see_run, &seen, NULL), -7);
        ck_assert_uint_eq(seen.n, 2);
}
END_TEST

START_TEST(a_process_goes_with_its_runs_but_not_its_events_and_keys)
{
        RegistryRun run = { .process = 1, .run = 1 };
        uint64_t oldest, latest;
        RegistryKey done;
        Seen seen = {};

        (void)add(NULL);
        ck_assert_int_eq(registry_put_run(registry, &run, NULL), 0);
        ck_assert_int_eq(registry_add_event(registry, 1, "{}", NULL, NULL), 0);
        ck_assert_int_eq(registry_put_key(registry, "k", 1, &(RegistryKey){ .process = 1, .run = 1 }, NULL),
                         0);
        ck_assert_int_eq(registry_remove_process(registry, 1, NULL), 0);
        ck_assert_int_eq(commit(), 0);
        ck_assert_int_eq(registry_runs(registry, 1, 10, see_run, &seen, NULL), 0);
        ck_assert_uint_eq(seen.n, 0);
        ck_assert_int_eq(registry_get_key(registry, "k", &done, NULL), 1);
        ck_assert_int_eq(registry_event_range(registry, &oldest, &latest, NULL), 0);
        ck_assert_uint_eq(latest, 1);
}
END_TEST

/* --- turns --- */

START_TEST(a_turn_is_all_or_nothing)
{
        ck_assert(!registry_dirty(registry));
        ck_assert_int_eq(commit(), 0);
        (void)add(NULL);
        ck_assert(registry_dirty(registry));
        ck_assert_int_eq(commit(), 0);
        ck_assert(!registry_dirty(registry));
        (void)add(NULL);
        ck_assert_int_eq(registry_set_meta(registry, "a", "b", NULL), 0);
        ck_assert_uint_eq(load().n, 2); /* the turn sees itself */
        reopen();
        ck_assert_uint_eq(load().n, 1);
}
END_TEST

static int change_while_loading(const RegistryProcess *process, const RegistryRun *run, void *userdata) {
        RegistryRun other = { .process = process->id, .run = 1 };
        Seen seen = {};

        (void)run;
        ++*(unsigned *)userdata;
        ck_assert_int_eq(registry_put_run(registry, &other, NULL), 0);
        ck_assert_int_eq(registry_add_event(registry, 1, "{}", NULL, NULL), 0);
        return registry_runs(registry, process->id, 1, see_run, &seen, NULL);
}

START_TEST(a_callback_may_change_the_registry)
{
        unsigned n = 0;

        for (unsigned i = 0; i < 10; i++)
                (void)add(NULL);
        ck_assert_int_eq(registry_load(registry, change_while_loading, &n, NULL), 0);
        ck_assert_uint_eq(n, 10);
        ck_assert_int_eq(commit(), 0);
        ck_assert_uint_eq(load().n_runs, 10);
}
END_TEST

/* --- keys and small texts --- */

START_TEST(keys_tell_what_was_done)
{
        const RegistryKey first = { .digest = UINT64_MAX, .process = UINT64_C(1) << 40, .run = UINT32_MAX };
        RegistryKey done = {};

        ck_assert_int_eq(registry_get_key(registry, "k", &done, NULL), 0);
        ck_assert_int_eq(registry_put_key(registry, "k", 1, &first, NULL), 0);
        ck_assert_int_eq(commit(), 0);
        reopen();
        ck_assert_int_eq(registry_get_key(registry, "k", &done, NULL), 1);
        ck_assert_uint_eq(done.process, first.process);
        ck_assert_uint_eq(done.run, first.run);
        ck_assert_uint_eq(done.digest, first.digest);
        ck_assert_int_eq(registry_put_key(registry, "k", 2, &(RegistryKey){ .process = 3, .run = 4 }, NULL),
                         0);
        ck_assert_int_eq(registry_get_key(registry, "k", &done, NULL), 1);
        ck_assert_uint_eq(done.process, 3);
        ck_assert_uint_eq(done.digest, 0);
        ck_assert_int_eq(registry_get_key(registry, "K", &done, NULL), 0);
}
END_TEST

static bool has_key(unsigned number) {
        RegistryKey done;
        char key[16];

        (void)snprintf(key, sizeof(key), "%u", number);
        return registry_get_key(registry, key, &done, NULL) == 1;
}

static void put_keys(unsigned begin, unsigned end, uint64_t time_usec) {
        const RegistryKey done = { .process = 1, .run = 1 };
        char key[16];

        for (unsigned i = begin; i < end; i++) {
                (void)snprintf(key, sizeof(key), "%u", i);
                if (registry_put_key(registry, key, time_usec, &done, NULL) < 0)
                        ck_abort_msg("key %u is refused", i);
        }
}

START_TEST(keys_live_an_hour_and_are_ten_thousand)
{
        const uint64_t hour = 3600 * USEC_PER_SEC;

        put_keys(0, 1000, 10 * hour);
        put_keys(1000, 2000, 11 * hour - 1);
        ck_assert(has_key(0)); /* not yet an hour old */
        put_keys(2000, 4000, 11 * hour + 1);
        ck_assert(!has_key(0));
        ck_assert(!has_key(999));
        ck_assert(has_key(1000));
        put_keys(4000, 14100, 11 * hour + 2);
        ck_assert(!has_key(1000));
        ck_assert(!has_key(4000));
        ck_assert(has_key(4100));
        ck_assert(has_key(14099));
        put_keys(20000, 20100, 0); /* the clock fell back: nothing is old */
        ck_assert(has_key(14099));
}
END_TEST

START_TEST(small_texts_are_kept_by_name)
{
        char *value = NULL;

        ck_assert_int_eq(registry_get_meta(registry, "instance", &value, NULL), 0);
        ck_assert_ptr_null(value);
        ck_assert_int_eq(registry_set_meta(registry, "instance", "one", NULL), 0);
        ck_assert_int_eq(registry_set_meta(registry, "instance", "two", NULL), 0);
        ck_assert_int_eq(registry_set_meta(registry, "empty", "", NULL), 0);
        ck_assert_int_eq(commit(), 0);
        reopen();
        ck_assert_int_eq(registry_get_meta(registry, "instance", &value, NULL), 1);
        ck_assert_str_eq(value, "two");
        free(value);
        ck_assert_int_eq(registry_get_meta(registry, "empty", &value, NULL), 1);
        ck_assert_str_eq(value, "");
        free(value);
}
END_TEST

START_TEST(memory_stays_small)
{
        RegistryProcess process = {};
        char *config = calloc(1, 100000);
        size_t before;

        registry = registry_free(registry);
        before = mallinfo2().uordblks;
        ck_assert_int_eq(registry_open(&registry, path, NULL), 0);
        memset(config, 'x', 99999);
        process.config = config;
        for (unsigned i = 0; i < 40; i++) { /* a turn of 4 MB */
                process.id = 0;
                ck_assert_int_eq(registry_add_process(registry, &process, NULL), 0);
        }
        ck_assert_int_eq(commit(), 0);
        ck_assert_uint_lt(mallinfo2().uordblks - before, 700 * 1024);
        free(config);
}
END_TEST

static Suite *registry_suite(void) {
        Suite *suite = suite_create("registry");
        TCase *tcase = tcase_create("registry");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_test(tcase, processes_come_back_by_id);
        tcase_add_test(tcase, the_text_of_a_process_can_be_read_again);
        tcase_add_test(tcase, names_and_texts_are_any_bytes);
        tcase_add_test(tcase, a_name_is_taken_once);
        tcase_add_test(tcase, ids_are_never_used_again);
        tcase_add_test(tcase, what_is_not_there_is_not_found);
        tcase_add_test(tcase, paused_is_kept);
        tcase_add_test(tcase, load_stops_when_it_is_told_to);
        tcase_add_test(tcase, every_field_of_a_run_is_kept);
        tcase_add_test(tcase, a_run_is_replaced_by_its_number);
        tcase_add_test(tcase, runs_come_latest_first_and_load_has_the_latest);
        tcase_add_test(tcase, a_process_goes_with_its_runs_but_not_its_events_and_keys);
        tcase_add_test(tcase, a_turn_is_all_or_nothing);
        tcase_add_test(tcase, a_callback_may_change_the_registry);
        tcase_add_test(tcase, keys_tell_what_was_done);
        tcase_add_test(tcase, keys_live_an_hour_and_are_ten_thousand);
        tcase_add_test(tcase, small_texts_are_kept_by_name);
        tcase_add_test(tcase, memory_stays_small);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(registry_suite);
