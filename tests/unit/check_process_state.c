/* SPDX-License-Identifier: MIT */

/* Every pair of state and event, held against the table of docs/states.md. */

#include "daemon/engine/process-state.h"

#include <string.h>

#include "tests/support/check-main.h"

#define REFUSED (-1)

/*                              START             SPAWNED           SPAWN_FAILED    PAUSE           RESUME
 * STOP              EXIT */
/* clang-format off */
static const int expected[PROCESS_STATE_N_][PROCESS_EVENT_N_] = {
        [PROCESS_EXITED]   = { PROCESS_STARTING, REFUSED,         REFUSED,        REFUSED,        REFUSED,          REFUSED,          REFUSED },
        [PROCESS_FAILED]   = { PROCESS_STARTING, REFUSED,         REFUSED,        REFUSED,        REFUSED,          REFUSED,          REFUSED },
        [PROCESS_STARTING] = { REFUSED,          PROCESS_RUNNING, PROCESS_FAILED, REFUSED,        REFUSED,          REFUSED,          PROCESS_EXITED },
        [PROCESS_RUNNING]  = { REFUSED,          REFUSED,         REFUSED,        PROCESS_PAUSED, REFUSED,          PROCESS_STOPPING, PROCESS_EXITED },
        [PROCESS_PAUSED]   = { REFUSED,          REFUSED,         REFUSED,        PROCESS_PAUSED, PROCESS_RUNNING,  PROCESS_STOPPING, PROCESS_EXITED },
        [PROCESS_STOPPING] = { REFUSED,          REFUSED,         REFUSED,        REFUSED,        PROCESS_STOPPING, PROCESS_STOPPING, PROCESS_EXITED },
};
/* clang-format on */

START_TEST(every_pair_is_as_documented)
{
        ProcessState state = (ProcessState)(_i / PROCESS_EVENT_N_);
        ProcessEvent event = (ProcessEvent)(_i % PROCESS_EVENT_N_);

        ck_assert_int_eq(process_state_next(state, event), expected[state][event]);
}
END_TEST

START_TEST(names_are_those_of_the_protocol)
{
        static const char *const names[PROCESS_STATE_N_] = {
                [PROCESS_EXITED] = "exited", [PROCESS_STARTING] = "starting", [PROCESS_RUNNING] = "running",
                [PROCESS_PAUSED] = "paused", [PROCESS_STOPPING] = "stopping", [PROCESS_FAILED] = "failed",
        };

        ck_assert_str_eq(process_state_name((ProcessState)_i), names[_i]);
        ck_assert_int_eq(process_state_is_alive((ProcessState)_i),
                         strcmp(names[_i], "exited") != 0 && strcmp(names[_i], "failed") != 0);
}
END_TEST

static Suite *process_state_suite(void) {
        Suite *suite = suite_create("process-state");
        TCase *tcase = tcase_create("table");

        tcase_add_loop_test(tcase, every_pair_is_as_documented, 0, PROCESS_STATE_N_ * PROCESS_EVENT_N_);
        tcase_add_loop_test(tcase, names_are_those_of_the_protocol, 0, PROCESS_STATE_N_);
        suite_add_tcase(suite, tcase);
        return suite;
}

CHECK_MAIN(process_state_suite);
