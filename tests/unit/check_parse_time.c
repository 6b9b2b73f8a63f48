/* SPDX-License-Identifier: MIT */

#include "common/parse.h"

#include <errno.h>
#include <time.h>

#include "tests/support/check-main.h"

#define SEC UINT64_C(1000000)
#define NOW (UINT64_C(1769860800) * SEC) /* 2026-01-31 12:00:00 UTC, 13:00 in Berlin */

static void in_berlin(void) {
        ck_assert_int_eq(setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1), 0);
        tzset();
}

static const struct {
        const char *text;
        uint64_t usec;
} rows[] = {
        { "now", NOW },
        { "today", NOW - 13 * 3600 * SEC },
        { "yesterday", NOW - 37 * 3600 * SEC },
        { "2026-01-31 13:00:00", NOW },
        { "2026-01-31T13:00:00", NOW },
        { "2026-01-31 13:00", NOW },
        { "2026-01-31 13:00:00.25", NOW + SEC / 4 },
        { "2026-01-31 13:00:00.0000019", NOW + 1 },
        { "2026-01-31T12:00:00Z", NOW },
        { "2026-01-31 12:00:00 UTC", NOW },
        { "2026-01-31T12:00Z", NOW },
        { "2026-01-31T14:00:00+02:00", NOW },
        { "2026-01-31T08:30:00-03:30", NOW },
        { "2026-01-31", NOW - 13 * 3600 * SEC },
        { "2025-07-01 12:00:00", UINT64_C(1751364000) * SEC }, /* summer time */
        { "13:00", NOW },
        { "13:00:01", NOW + SEC },
        { "00:00", NOW - 13 * 3600 * SEC },
        { "2024-02-29", UINT64_C(1709161200) * SEC },
        { "1970-01-01T00:00:00Z", 0 },
        { "@0", 0 },
        { "@1769860800", NOW },
        { "@1769860800.5", NOW + SEC / 2 },
        { "-5m", NOW - 300 * SEC },
        { "5m ago", NOW - 300 * SEC },
        { "1h 30min ago", NOW - 5400 * SEC },
        { "-90", NOW - 90 * SEC },
        { "+1h", NOW + 3600 * SEC },
        { "-99999w", 0 },
};

static const char *const refused[] = {
        "",
        " now",
        "NOW",
        "tomorrow",
        "ago",
        " ago",
        "-",
        "--5m",
        "-5m ago",
        "+5m ago",
        "5m",
        "5mago",
        "-infinity",
        "infinity ago",
        "@",
        "@-1",
        "@1.",
        "@1x",
        "@99999999999999",
        "@18446744073709551616",
        "2026-1-31",
        "2026-02-29",
        "2026-02-30",
        "2026-04-31",
        "2026-13-01",
        "2026-00-10",
        "2026-01-00",
        "2026-01-32",
        "2026-01-31 ",
        "2026-01-31 24:00",
        "2026-01-31 12:60",
        "2026-01-31 12:00:60",
        "2026-01-31 12",
        "2026-01-31 12:0",
        "2026-01-31 12:00:00.",
        "2026-01-31 12:00:00z",
        "2026-01-31 12:00:00 +2",
        "2026-01-31Z",
        "12:00Z",
        "12",
        "1:00",
        "12:00:00:00",
        "1969-12-31T23:59:59Z",
        "10000-01-01",
        "2026/01/31",
        "2026-01-31_12:00",
        "1970-01-01T00:00:00+01:00",
};

START_TEST(times_are_read)
{
        uint64_t usec = 77;

        in_berlin();
        ck_assert_msg(parse_timestamp(rows[_i].text, NOW, &usec, NULL) == 0, "'%s' was refused",
                      rows[_i].text);
        ck_assert_msg(usec == rows[_i].usec, "'%s': %llu, not %llu", rows[_i].text, (unsigned long long)usec,
                      (unsigned long long)rows[_i].usec);
}
END_TEST

START_TEST(what_is_no_time_is_refused)
{
        uint64_t usec = 77;
        Error error = {};

        in_berlin();
        ck_assert_msg(parse_timestamp(refused[_i], NOW, &usec, &error) == -EINVAL, "'%s' was taken",
                      refused[_i]);
        ck_assert_uint_eq(usec, 77);
        ck_assert_int_eq(error.code, ERROR_INVALID);
}
END_TEST

START_TEST(a_day_is_the_day_where_one_is)
{
        uint64_t usec;

        /* 23:30 UTC is the next day in Berlin. */
        in_berlin();
        ck_assert_int_eq(parse_timestamp("today", NOW + 11 * 3600 * SEC + 1800 * SEC, &usec, NULL), 0);
        ck_assert_uint_eq(usec, NOW + 11 * 3600 * SEC);
        /* The day on which summer time begins has 23 hours. */
        ck_assert_int_eq(parse_timestamp("yesterday", UINT64_C(1774861200) * SEC, &usec, NULL), 0);
        ck_assert_uint_eq(usec, UINT64_C(1774738800) * SEC);
}
END_TEST

static Suite *parse_time_suite(void) {
        Suite *suite = suite_create("parse-time");
        TCase *read = tcase_create("read");

        tcase_add_loop_test(read, times_are_read, 0, ARRAY_SIZE(rows));
        tcase_add_loop_test(read, what_is_no_time_is_refused, 0, ARRAY_SIZE(refused));
        tcase_add_test(read, a_day_is_the_day_where_one_is);
        suite_add_tcase(suite, read);
        return suite;
}

CHECK_MAIN(parse_time_suite);
