/* SPDX-License-Identifier: MIT */

/* A place among records: cut the log at any record, go on from there, and each record is seen once. */

#include "client/libpmux/stream-place.h"

#include "common/macro.h"
#include "tests/support/check-main.h"

typedef struct Step {
        uint64_t offset;
        uint64_t time_usec;
        RecordKind kind;
        uint64_t value; /* or size of data */
} Step;

/* A log with twins, records without bytes at both ends, a gap, and two runs that meet at an offset. */
static const Step script[] = {
        { 0, 1, RECORD_START, 10 }, { 0, 2, RECORD_INPUT, 5 },   { 0, 3, RECORD_DATA, 4 },
        { 4, 3, RECORD_INPUT, 6 },  { 4, 3, RECORD_INPUT, 6 },   { 4, 3, RECORD_INPUT, 6 },
        { 4, 3, RECORD_SIGNAL, 2 }, { 4, 3, RECORD_INPUT, 6 },   { 4, 4, RECORD_DATA, 6 },
        { 10, 5, RECORD_GAP, 10 },  { 20, 6, RECORD_DATA, 1 },   { 21, 7, RECORD_EXIT, 0 },
        { 21, 7, RECORD_EMPTY, 0 }, { 21, 8, RECORD_START, 11 }, { 21, 9, RECORD_DATA, 3 },
        { 24, 9, RECORD_EXIT, 1 },
};

static bool feed(StreamPlace *place, const Step *step) {
        const RecordHeader header = { .offset = step->offset,
                                      .time_usec = step->time_usec,
                                      .kind = (uint8_t)step->kind };

        return stream_place_advance(place, &header, step->value,
                                    step->kind == RECORD_DATA ? (size_t)step->value : 0);
}

/* The log as a daemon sends it from an offset: everything that stands there or behind. */
static size_t first_at(uint64_t offset) {
        size_t i = 0;

        while (i < ARRAY_SIZE(script) && script[i].offset < offset)
                i++;
        return i;
}

START_TEST(cut_anywhere_each_record_is_seen_once)
{
        StreamPlace place = {};
        size_t n_seen = 0;

        stream_place_start(&place, 0);
        for (int i = 0; i < _i; i++)
                n_seen += feed(&place, &script[i]);
        ck_assert_uint_eq(n_seen, (size_t)_i);
        stream_place_resume(&place);
        for (size_t i = first_at(place.offset); i < ARRAY_SIZE(script); i++)
                n_seen += feed(&place, &script[i]);
        ck_assert_uint_eq(n_seen, ARRAY_SIZE(script));
}
END_TEST

START_TEST(cut_twice_at_the_same_place_it_is_the_same)
{
        StreamPlace place = {};
        size_t n_seen = 0;

        stream_place_start(&place, 0);
        for (int i = 0; i < _i; i++)
                n_seen += feed(&place, &script[i]);
        stream_place_resume(&place);
        for (size_t i = first_at(place.offset), n = 0; i < ARRAY_SIZE(script) && n < 2; i++, n++)
                n_seen += feed(&place, &script[i]);
        stream_place_resume(&place);
        for (size_t i = first_at(place.offset); i < ARRAY_SIZE(script); i++)
                n_seen += feed(&place, &script[i]);
        ck_assert_uint_eq(n_seen, ARRAY_SIZE(script));
}
END_TEST

START_TEST(records_that_are_kept_no_more_do_not_hide_new_ones)
{
        const Step had = { 4, 3, RECORD_INPUT, 6 }, later = { 4, 9, RECORD_EXIT, 0 };
        StreamPlace place = {};

        stream_place_start(&place, 4);
        ck_assert(feed(&place, &had));
        stream_place_resume(&place);
        ck_assert(feed(&place, &later)); /* the one it had is gone */
}
END_TEST

static Suite *stream_place_suite(void) {
        Suite *suite = suite_create("stream-place");
        TCase *cuts = tcase_create("cuts");

        tcase_add_loop_test(cuts, cut_anywhere_each_record_is_seen_once, 0, ARRAY_SIZE(script) + 1);
        tcase_add_loop_test(cuts, cut_twice_at_the_same_place_it_is_the_same, 0, ARRAY_SIZE(script) + 1);
        tcase_add_test(cuts, records_that_are_kept_no_more_do_not_hide_new_ones);
        suite_add_tcase(suite, cuts);
        return suite;
}

CHECK_MAIN(stream_place_suite);
