/* SPDX-License-Identifier: MIT */

/* The reading side of the log: what a cursor gets, step by step. */

#include "tests/support/log-model.h"

START_TEST(readers_get_what_happened_in_order)
{
        enum {
                N_READERS = 4
        };
        ModelCursor readers[N_READERS] = {};
        static const unsigned sources[N_READERS] = { BOTH, BOTH, 1u << SOURCE_STDOUT, 1u << SOURCE_STDERR };

        model_init((unsigned)_i * 7919 + 1);
        for (int j = 0; j < N_READERS; j++)
                ck_assert_int_eq(log_seek_offset(test_log, &readers[j].real, 0), 0);
        for (int i = 0; i < 800; i++) {
                model_step();
                for (int j = 0; j < N_READERS; j++)
                        for (unsigned n = model_random(j == 1 ? 30 : 5); n > 0; n--)
                                if (!model_next(&readers[j], 1 + model_random(3000), sources[j]))
                                        break;
        }
        for (int j = 0; j < N_READERS; j++)
                while (model_next(&readers[j], 65536, sources[j]))
                        ;
        model_deinit();
}
END_TEST

static Suite *log_read_suite(void) {
        Suite *suite = suite_create("log-read");
        TCase *tcase = tcase_create("model");

        tcase_add_checked_fixture(tcase, log_test_setup, log_test_teardown);
        tcase_set_timeout(tcase, 60);
        tcase_add_loop_test(tcase, readers_get_what_happened_in_order, 0, 30);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(log_read_suite);
