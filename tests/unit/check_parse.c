/* SPDX-License-Identifier: MIT */

#include "common/parse.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "tests/support/check-main.h"

typedef struct Row {
        const char *text;
        uint64_t value;
} Row;

static const Row durations[] = {
        { "0", 0 },
        { "5", 5000000 },
        { "0.5", 500000 },
        { "500ms", 500000 },
        { "500msec", 500000 },
        { "7us", 7 },
        { "7usec", 7 },
        { "5s", 5000000 },
        { "5sec", 5000000 },
        { "0.5s", 500000 },
        { "2m", 120000000 },
        { "2min", 120000000 },
        { "1h", 3600000000 },
        { "1h30m", 5400000000 },
        { "1h 30min", 5400000000 },
        { "1.5h", 5400000000 },
        { "3d", 259200000000 },
        { "1w", 604800000000 },
        { "0.0000001s", 0 },
        { "0.1234567899999999s", 123456 },
        { "18446744073709551614us", UINT64_MAX - 1 },
        { "18446744073709.551614", UINT64_MAX - 1 },
        { "infinity", USEC_INFINITY },
};

static const char *const not_durations[] = {
        "",
        " ",
        "s",
        "-5s",
        "+5s",
        "5 s",
        " 5s",
        "5s ",
        "5x",
        "5S",
        "1h30",
        "1h  3m",
        "5..5s",
        "5.s",
        ".5s",
        "0x5",
        "5ss",
        "5,5s",
        "1e3",
        "inf",
        "infinity5",
        "5s\n",
        "ms5",
        "18446744073709551615us",
        "18446744073709551616us",
        "18446744073709551615s",
        "99999999999999999999w",
        "18446744073709.551615",
        "30500568904943w",
        "5\xc3\xa9",
};

START_TEST(spans_of_time_are_read)
{
        uint64_t usec = 1;

        ck_assert_int_eq(parse_duration(durations[_i].text, &usec, NULL), 0);
        ck_assert_uint_eq(usec, durations[_i].value);
}
END_TEST

START_TEST(what_is_no_span_is_refused_and_quoted)
{
        uint64_t usec = 77;
        Error error = {};

        ck_assert_int_eq(parse_duration(not_durations[_i], &usec, &error), -EINVAL);
        ck_assert_uint_eq(usec, 77);
        ck_assert_int_eq(error.code, ERROR_INVALID);
        if (strspn(not_durations[_i], "\n") == strlen(not_durations[_i]) || !strchr(not_durations[_i], '\n'))
                ck_assert_ptr_nonnull(strstr(error.text, not_durations[_i]));
}
END_TEST

static const Row sizes[] = {
        { "0", 0 },
        { "4096", 4096 },
        { "12B", 12 },
        { "64K", 65536 },
        { "64k", 65536 },
        { "64KB", 65536 },
        { "64KiB", 65536 },
        { "1M", 1048576 },
        { "2G", 2147483648 },
        { "1T", 1099511627776 },
        { "1P", 1125899906842624 },
        { "15E", UINT64_C(15) << 60 },
        { "1.5K", 1536 },
        { "0.5KiB", 512 },
        { "18446744073709551615", UINT64_MAX },
};

static const char *const not_sizes[] = {
        "",    "K",   "-1",   "+1", "1.5", "1.5B", "1 K", "1KK",
        "1Ki", "1iB", "1KBB", "1b", "1m",  "0x10", "16E", "18446744073709551616",
        "1K ", "1.K", "\xff",
};

START_TEST(sizes_are_read)
{
        uint64_t bytes = 1;

        ck_assert_int_eq(parse_size(sizes[_i].text, &bytes, NULL), 0);
        ck_assert_uint_eq(bytes, sizes[_i].value);
}
END_TEST

START_TEST(what_is_no_size_is_refused)
{
        uint64_t bytes = 77;
        Error error = {};

        ck_assert_int_eq(parse_size(not_sizes[_i], &bytes, &error), -EINVAL);
        ck_assert_uint_eq(bytes, 77);
        ck_assert_int_eq(error.code, ERROR_INVALID);
}
END_TEST

START_TEST(numbers_are_digits_up_to_a_bound)
{
        static const char *const bad[] = { "",    "-1",  "+1",
                                           " 1",  "1 ",  "1.0",
                                           "0x1", "101", "99999999999999999999" };
        uint64_t value = 77;
        Error error = {};

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                ck_assert_int_eq(parse_u64(bad[i], 100, &value, &error), -EINVAL);
        ck_assert_uint_eq(value, 77);
        ck_assert_str_eq(error.text, "'99999999999999999999' is not a number from 0 to 100");
        ck_assert_int_eq(parse_u64("100", 100, &value, NULL), 0);
        ck_assert_uint_eq(value, 100);
        ck_assert_int_eq(parse_u64("007", 100, &value, NULL), 0);
        ck_assert_uint_eq(value, 7);
        ck_assert_int_eq(parse_u64("18446744073709551615", UINT64_MAX, &value, NULL), 0);
        ck_assert_uint_eq(value, UINT64_MAX);
}
END_TEST

static const struct {
        const char *text;
        int number;
} signals[] = {
        { "TERM", SIGTERM }, { "SIGTERM", SIGTERM }, { "term", SIGTERM },   { "sigTerm", SIGTERM },
        { "15", SIGTERM },   { "1", SIGHUP },        { "64", 64 },          { "KILL", SIGKILL },
        { "usr1", SIGUSR1 }, { "CLD", SIGCHLD },     { "IO", SIGIO },       { "SIGIOT", SIGABRT },
        { "RTMIN", 34 },     { "RTMIN+3", 37 },      { "SIGRTMIN+30", 64 }, { "RTMAX", 64 },
        { "rtmax-1", 63 },   { "SYS", SIGSYS },
};

static const char *const not_signals[] = {
        "",      "0",        "65",      "-1",      "SIG",      "SIG15",  "SIGSIGTERM", "TERMX", "TER",
        " TERM", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMAX-31", "RTMIN+", "RTMINUS",    "15x",
};

START_TEST(signals_are_read)
{
        int number = 0;

        ck_assert_int_eq(parse_signal(signals[_i].text, &number, NULL), 0);
        ck_assert_int_eq(number, signals[_i].number);
}
END_TEST

START_TEST(what_is_no_signal_is_refused)
{
        int number = 77;
        Error error = {};

        ck_assert_int_eq(parse_signal(not_signals[_i], &number, &error), -EINVAL);
        ck_assert_int_eq(number, 77);
        ck_assert_int_eq(error.code, ERROR_INVALID);
}
END_TEST

START_TEST(every_name_of_a_signal_is_read_back)
{
        int number;

        for (int i = 1; i <= 64; i++) {
                if (i == 32 || i == 33) /* the C library keeps them for itself */
                        continue;
                ck_assert_int_eq(parse_signal(signal_name(i), &number, NULL), 0);
                ck_assert_int_eq(number, i);
        }
        ck_assert_str_eq(signal_name(SIGTERM), "SIGTERM");
        ck_assert_str_eq(signal_name(37), "SIGRTMIN+3");
        ck_assert_str_eq(signal_name(32), "signal 32");
        ck_assert_str_eq(signal_name(99), "signal 99");
        ck_assert_str_eq(signal_name(0), "signal 0");
        ck_assert_str_eq(signal_name(-5), "signal -5");
}
END_TEST

static const Row shown_durations[] = {
        { "0s", 0 },
        { "1us", 1 },
        { "999us", 999 },
        { "1ms", 1999 },
        { "350ms", 350000 },
        { "1s", 1000000 },
        { "1.5s", 1599999 },
        { "9.9s", 9999999 },
        { "10s", 10900000 },
        { "59s", 59999999 },
        { "1min", 60000000 },
        { "2min 3s", 123000000 },
        { "1h", 3600000000 },
        { "4h 5min", UINT64_C(14700000000) },
        { "23h 59min", UINT64_C(86399999999) },
        { "3d 2h", UINT64_C(266400000000) },
        { "213503982d 8h", UINT64_MAX - 1 },
        { "infinity", USEC_INFINITY },
};

START_TEST(spans_are_shown_as_a_person_reads_them)
{
        char buffer[32];
        uint64_t usec;

        ck_assert_ptr_eq(format_duration(buffer, sizeof(buffer), shown_durations[_i].value), buffer);
        ck_assert_str_eq(buffer, shown_durations[_i].text);
        ck_assert_int_eq(parse_duration(buffer, &usec, NULL), 0);
        ck_assert_uint_le(usec, shown_durations[_i].value);
}
END_TEST

static const Row shown_sizes[] = {
        { "0B", 0 },         { "512B", 512 },      { "1023B", 1023 },       { "1K", 1024 },
        { "1.5K", 1536 },    { "9.9K", 10239 },    { "10K", 10240 },        { "1023K", 1048575 },
        { "64M", 67108864 }, { "2G", 2147483648 }, { "1T", 1099511627776 }, { "15E", UINT64_MAX },
};

START_TEST(sizes_are_shown_as_a_person_reads_them)
{
        char buffer[32];
        uint64_t bytes;

        ck_assert_ptr_eq(format_size(buffer, sizeof(buffer), shown_sizes[_i].value), buffer);
        ck_assert_str_eq(buffer, shown_sizes[_i].text);
        ck_assert_int_eq(parse_size(buffer, &bytes, NULL), 0);
        ck_assert_uint_le(bytes, shown_sizes[_i].value);
}
END_TEST

START_TEST(a_small_buffer_is_not_overrun)
{
        char buffer[8] = "zzzzzzz";

        (void)format_duration(buffer, 4, 123000000);
        ck_assert_str_eq(buffer, "2mi");
        ck_assert_int_eq(buffer[4], 'z');
        (void)format_size(buffer, 3, 1023);
        ck_assert_str_eq(buffer, "10");
}
END_TEST

static Suite *parse_suite(void) {
        Suite *suite = suite_create("parse");
        TCase *read = tcase_create("read"), *show = tcase_create("show");

        tcase_add_loop_test(read, spans_of_time_are_read, 0, ARRAY_SIZE(durations));
        tcase_add_loop_test(read, what_is_no_span_is_refused_and_quoted, 0, ARRAY_SIZE(not_durations));
        tcase_add_loop_test(read, sizes_are_read, 0, ARRAY_SIZE(sizes));
        tcase_add_loop_test(read, what_is_no_size_is_refused, 0, ARRAY_SIZE(not_sizes));
        tcase_add_test(read, numbers_are_digits_up_to_a_bound);
        tcase_add_loop_test(read, signals_are_read, 0, ARRAY_SIZE(signals));
        tcase_add_loop_test(read, what_is_no_signal_is_refused, 0, ARRAY_SIZE(not_signals));
        tcase_add_test(show, every_name_of_a_signal_is_read_back);
        tcase_add_loop_test(show, spans_are_shown_as_a_person_reads_them, 0, ARRAY_SIZE(shown_durations));
        tcase_add_loop_test(show, sizes_are_shown_as_a_person_reads_them, 0, ARRAY_SIZE(shown_sizes));
        tcase_add_test(show, a_small_buffer_is_not_overrun);
        suite_add_tcase(suite, read);
        suite_add_tcase(suite, show);
        return suite;
}

CHECK_MAIN(parse_suite);
