/* SPDX-License-Identifier: MIT */

/* Streams of input beside writes, in the whole engine of engine-fixture.h. */

#include "daemon/engine/writer.h"

#include "daemon/engine/limits.h"
#include "tests/support/engine-requests.h"

static FixtureClient client, other;
static Process *process;
static int n_fds_before;

static void turns(void) {
        fixture_settle(&client);
        while (fixture_read(&other))
                ;
}

/* Everything that may be accepted is, but so many bytes; the program reads nothing. */
static void fill(size_t leave) {
        static char block[LIMIT_STDIN_WINDOW];
        const InputFrom from = {};

        fake_child(process->id, 1)->frozen = true;
        while (process_input_room(process) > leave) {
                size_t size = MIN(sizeof(block), (size_t)process_input_room(process) - leave);

                ck_assert_int_eq(process_input(process, &from, 0, block, size, false, NULL, NULL, NULL), 0);
                turns(); /* the pipe takes some */
        }
}

static void setup(void) {
        n_fds_before = open_fds_count();
        other = (FixtureClient){ .fd = -1 };
        fixture_open();
        fixture_connect(&client);
        fixture_hello(&client);
        fixture_connect(&other);
        fixture_hello(&other);
        turns();
        (void)ask_by(&client, "run", "{\"argv\":[\"cat\"],\"name\":\"p\"}");
        turns();
        process = supervisor_find_name(&engine.supervisor, "p");
        ck_assert_ptr_nonnull(process);
}

static void teardown(void) {
        fixture_disconnect(&client);
        fixture_disconnect(&other);
        fixture_clean();
        fixture_close();
        ck_assert_int_eq(open_fds_count(), n_fds_before);
}

START_TEST(a_stream_is_promised_no_room_that_a_write_waits_for)
{
        json_t *limit;
        uint32_t id;

        fill(3);
        id = ask_by(&client, "write", "{\"target\":1,\"data\":\"four\",\"timeout_usec\":60000000}");
        turns();
        (void)ask_by(&other, "open-stdin", "{\"target\":1,\"stream\":1}");
        turns();
        limit = json_object_get(json_object_get(other.last, "result"), "limit");
        ck_assert(json_is_integer(limit) && json_integer_value(limit) == 0);
        ck_assert(!answered_by(&client, id));
        ck_assert_uint_eq(process->n_input_writes, 1);
        if (_i == 0)
                fake_child(process->id, 1)->frozen = false;
        else
                (void)ask_by(&client, "cancel", "{\"request\":%u}", id);
        for (unsigned i = 0; i < 100 && !answered_by(&client, id); i++)
                turns();
        ck_assert(answered_by(&client, id));
        ck_assert_uint_eq(process->n_input_writes, 0);
        for (uint64_t begin = clock_monotonic_usec();
             other.ack_limit == 0 && clock_monotonic_usec() - begin < 10 * USEC_PER_SEC;)
                turns();                       /* what nobody waits for is told a moment later */
        ck_assert_uint_ge(other.ack_limit, 3); /* it is told of what there is then */
        (void)ask_by(&other, "close-stream", "{\"stream\":1}");
        turns();
        ck_assert(list_empty(&process->input_places));
        ck_assert(list_empty(&process->watches));
}
END_TEST

static Suite *writer_suite(void) {
        Suite *suite = suite_create("writer");
        TCase *tcase = tcase_create("turns");

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_loop_test(tcase, a_stream_is_promised_no_room_that_a_write_waits_for, 0, 2);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(writer_suite);
