/* SPDX-License-Identifier: MIT */

/* The event feed of the registry: its numbers, its window, and that it counts on whatever happens. */

#include "common/macro.h"
#include "daemon/engine/registry.h"
#include "tests/support/check-main.h"
#include "tests/support/scratch.h"

static char dir[SCRATCH_MAX], path[SCRATCH_MAX + 16];
static Registry *registry; /* owned */

static void setup(void) {
        scratch_make(dir, "/tmp");
        (void)snprintf(path, sizeof(path), "%s/registry", dir);
        ck_assert_int_eq(registry_open(&registry, path, NULL), 0);
}

static void teardown(void) {
        registry = registry_free(registry);
        scratch_remove(dir);
}

static void reopen(void) {
        registry = registry_free(registry);
        ck_assert_int_eq(registry_open(&registry, path, NULL), 0);
}

static void add(unsigned n) {
        uint64_t seq, oldest, latest;
        char json[32];

        ck_assert_int_eq(registry_event_range(registry, &oldest, &latest, NULL), 0);
        for (unsigned i = 1; i <= n; i++) {
                (void)snprintf(json, sizeof(json), "{\"n\":%llu}", (unsigned long long)latest + i);
                if (registry_add_event(registry, 5 * (latest + i), json, &seq, NULL) < 0 || seq != latest + i)
                        ck_abort_msg("event %llu is not the next one", (unsigned long long)latest + i);
        }
}

static void assert_range(uint64_t oldest, uint64_t latest) {
        uint64_t first, last;

        ck_assert_int_eq(registry_event_range(registry, &first, &last, NULL), 0);
        ck_assert_uint_eq(first, oldest);
        ck_assert_uint_eq(last, latest);
}

typedef struct Seen {
        uint64_t first, last;
        unsigned n, n_stop;
} Seen;

static int see(uint64_t seq, uint64_t time_usec, const char *json, void *userdata) {
        Seen *seen = userdata;
        char expected[32];

        (void)snprintf(expected, sizeof(expected), "{\"n\":%llu}", (unsigned long long)seq);
        if (strcmp(json, expected) != 0 || time_usec != 5 * seq || (seen->n > 0 && seq != seen->last + 1))
                ck_abort_msg("event %llu is %s", (unsigned long long)seq, json);
        if (seen->n++ == 0)
                seen->first = seq;
        seen->last = seq;
        return seen->n == seen->n_stop ? 3 : 0;
}

START_TEST(there_are_none_at_first)
{
        Seen seen = {};

        assert_range(0, 0);
        ck_assert_int_eq(registry_events(registry, 0, 100, see, &seen, NULL), 0);
        ck_assert_uint_eq(seen.n, 0);
}
END_TEST

START_TEST(events_come_oldest_first_from_where_one_asks)
{
        static const struct {
                uint64_t since;
                unsigned max, n_stop;
                int r;
                uint64_t first;
                unsigned n;
        } rows[] = {
                { 0, 1000, 0, 0, 1, 100 }, { 0, 10, 0, 0, 1, 10 },           { 90, 1000, 0, 0, 91, 10 },
                { 100, 1000, 0, 0, 0, 0 }, { UINT64_MAX, 1000, 0, 0, 0, 0 }, { 5, 1000, 3, 3, 6, 3 },
        };
        Seen seen;

        add(60);
        ck_assert_int_eq(registry_commit(registry, NULL), 0);
        add(40); /* of this turn */
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                seen = (Seen){ .n_stop = rows[i].n_stop };
                ck_assert_int_eq(registry_events(registry, rows[i].since, rows[i].max, see, &seen, NULL),
                                 rows[i].r);
                ck_assert_uint_eq(seen.n, rows[i].n);
                ck_assert_uint_eq(seen.first, rows[i].first);
        }
}
END_TEST

START_TEST(ten_thousand_are_kept)
{
        uint64_t oldest, latest;
        Seen seen = {};

        add(25000);
        ck_assert_int_eq(registry_commit(registry, NULL), 0);
        reopen();
        ck_assert_int_eq(registry_event_range(registry, &oldest, &latest, NULL), 0);
        ck_assert_uint_eq(latest, 25000);
        ck_assert_uint_le(oldest, 15001);
        ck_assert_uint_gt(oldest, 14000);
        ck_assert_int_eq(registry_events(registry, 0, 100000, see, &seen, NULL), 0);
        ck_assert_uint_eq(seen.first, oldest);
        ck_assert_uint_eq(seen.last, latest);
}
END_TEST

START_TEST(numbers_go_on_after_a_restart_and_a_lost_turn)
{
        add(10);
        ck_assert_int_eq(registry_commit(registry, NULL), 0);
        add(5);
        reopen();
        assert_range(1, 10); /* nobody was told of 11 to 15 */
        add(1);
        assert_range(1, 11);
}
END_TEST

static Suite *registry_event_suite(void) {
        Suite *suite = suite_create("registry-event");
        TCase *tcase = tcase_create("registry-event");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_test(tcase, there_are_none_at_first);
        tcase_add_test(tcase, events_come_oldest_first_from_where_one_asks);
        tcase_add_test(tcase, ten_thousand_are_kept);
        tcase_add_test(tcase, numbers_go_on_after_a_restart_and_a_lost_turn);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(registry_event_suite);
