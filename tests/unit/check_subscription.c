/* SPDX-License-Identifier: MIT */

/* Subscriptions and what waits on a connection, against the whole engine of engine-fixture.h. */

#include <check.h>

#include "tests/support/engine-fixture.h"

#include "tests/support/check-main.h"

static FixtureClient client;
static uint64_t n_payload; /* of DATA frames, the end not included */
static unsigned n_ends;
static unsigned n_pieces; /* of those that write_pieces() has written, as they should be */

#define PIECE_SIZE 20

static void on_frame(const FrameHeader *header, const uint8_t *payload) {
        char piece[PIECE_SIZE + 1];
        RecordHeader record;

        if (header->type != FRAME_DATA)
                return;
        ck_assert_int_eq(record_header_decode(&record, payload, NULL), 0);
        if (record.kind == RECORD_END)
                n_ends++;
        else
                n_payload += header->size;
        (void)snprintf(piece, sizeof(piece), "%0*u", PIECE_SIZE, n_pieces);
        if (header->size == RECORD_HEADER_SIZE + PIECE_SIZE &&
            memcmp(payload + RECORD_HEADER_SIZE, piece, PIECE_SIZE) == 0 &&
            record.source == (n_pieces % 2 == 0 ? SOURCE_STDOUT : SOURCE_STDERR))
                n_pieces++;
}

static void setup(void) {
        fixture_open();
        fixture_connect(&client);
        client.on_frame = on_frame;
        fixture_hello(&client);
        (void)fixture_request(&client, "run", "{\"argv\":[\"full\"],\"name\":\"f\"}");
        fixture_settle(&client);
        n_payload = n_ends = n_pieces = 0;
        client.n_data = 0;
}

static void teardown(void) {
        fixture_disconnect(&client);
        fixture_clean();
        fixture_close();
}

/* To both streams in turn. */
static void write_pieces(unsigned n) {
        char piece[PIECE_SIZE + 1];
        Log *log;

        ck_assert_int_eq(process_log(supervisor_find_name(&engine.supervisor, "f"), &log, NULL), 0);
        for (unsigned i = 0; i < n; i++) {
                (void)snprintf(piece, sizeof(piece), "%0*u", PIECE_SIZE, i);
                ck_assert_int_eq(log_append(log, i % 2 == 0 ? SOURCE_STDOUT : SOURCE_STDERR, 1, piece,
                                            PIECE_SIZE, NULL),
                                 0);
        }
}

static void subscribe(unsigned stream, const char *rest) {
        char params[200];

        (void)snprintf(params, sizeof(params), "{\"target\":\"f\",\"stream\":%u%s}", stream, rest);
        (void)fixture_request(&client, "subscribe", params);
        fixture_settle(&client);
}

START_TEST(credit_is_kept_to_the_byte_and_used)
{
        uint8_t limit[8];
        char rest[32];

        subscribe(1, ",\"credit\":0");
        ck_assert_uint_eq(n_payload, 0);
        for (uint64_t credit = 1; credit < 160; credit++) {
                le64_put(limit, credit);
                fixture_send_frame(&client, FRAME_CREDIT, 0, 1, limit, sizeof(limit));
                fixture_settle(&client);
                ck_assert_uint_le(n_payload, credit);
                ck_assert_uint_lt(credit - n_payload, RECORD_HEADER_SIZE + 8);
        }
        for (unsigned credit = 32; credit < 36; credit++) {
                n_payload = 0;
                (void)snprintf(rest, sizeof(rest), ",\"credit\":%u", credit);
                subscribe(credit, rest);
                ck_assert_uint_eq(n_payload, 32); /* the start record */
        }
        ck_assert_uint_eq(n_ends, 0);
}
END_TEST

START_TEST(a_lower_credit_is_ignored)
{
        uint8_t limit[8];

        subscribe(1, ",\"credit\":64");
        n_payload = 0;
        le64_put(limit, 10);
        fixture_send_frame(&client, FRAME_CREDIT, 0, 1, limit, sizeof(limit));
        fixture_settle(&client);
        ck_assert_uint_eq(n_payload, 0);
}
END_TEST

START_TEST(head_bytes_are_counted_to_the_byte)
{
        static const unsigned heads[] = { 0, 1, 100, 65535, 65536 };
        char rest[48];

        (void)snprintf(rest, sizeof(rest), ",\"head_bytes\":%u", heads[_i]);
        subscribe(1, rest);
        ck_assert_uint_eq(client.n_data, heads[_i]);
        ck_assert_uint_eq(n_ends, 1);
}
END_TEST

START_TEST(without_follow_it_ends_where_the_log_ends)
{
        subscribe(1, ",\"follow\":false");
        ck_assert_uint_eq(client.n_data, 65536);
        ck_assert_uint_eq(n_ends, 1);
        subscribe(1, ",\"follow\":false,\"from\":\"end\"");
        ck_assert_uint_eq(client.n_data, 65536);
        ck_assert_uint_eq(n_ends, 2);
}
END_TEST

START_TEST(small_pieces_come_as_they_were_written)
{
        write_pieces(5000);
        subscribe(1, ",\"follow\":false");
        ck_assert_uint_eq(n_pieces, 5000);
        ck_assert_uint_eq(client.n_data, 65536 + 5000 * PIECE_SIZE);
        ck_assert_uint_eq(n_ends, 1);
}
END_TEST

START_TEST(a_run_that_could_not_wait_is_not_begun)
{
        const char *code;

        for (unsigned i = 0; i < 256; i++) {
                (void)fixture_request(&client, "wait", "{\"targets\":[\"f\"]}");
                fixture_settle(&client);
        }
        (void)fixture_request(&client, "run", "{\"argv\":[\"cat\"],\"name\":\"c\"}");
        fixture_settle(&client);
        code = json_string_value(
                json_object_get(json_object_get(json_object_get(client.last, "error"), "data"), "code"));
        ck_assert_str_eq(code, "limit");
        ck_assert_ptr_null(supervisor_find_name(&engine.supervisor, "c"));
        (void)fixture_request(&client, "write", "{\"target\":\"f\",\"data\":\"x\",\"drain\":true}");
        fixture_settle(&client);
        ck_assert_ptr_nonnull(json_object_get(client.last, "error"));
        (void)fixture_request(&client, "close-stdin", "{\"target\":\"f\"}");
        fixture_turn();
        fixture_read(&client);
        ck_assert_int_eq(
                json_integer_value(json_object_get(json_object_get(client.last, "result"), "accepted")), 0);
}
END_TEST

static Suite *subscription_suite(void) {
        Suite *suite = suite_create("subscription");
        TCase *tcase = tcase_create("subscription");

        tcase_set_timeout(tcase, 60);
        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, credit_is_kept_to_the_byte_and_used);
        tcase_add_test(tcase, a_lower_credit_is_ignored);
        tcase_add_loop_test(tcase, head_bytes_are_counted_to_the_byte, 0, 5);
        tcase_add_test(tcase, without_follow_it_ends_where_the_log_ends);
        tcase_add_test(tcase, small_pieces_come_as_they_were_written);
        tcase_add_test(tcase, a_run_that_could_not_wait_is_not_begun);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(subscription_suite);
