/* SPDX-License-Identifier: MIT */

#include "daemon/engine/process-state.h"

#include <assert.h>

static const char *const names[PROCESS_STATE_N_] = {
#define STATE(name, wire_name) [PROCESS_##name] = (wire_name),
#include "daemon/engine/process-state-table.h"
#undef STATE
};

/* One more than the state, so that an unlisted pair, which is 0, is refused. */
#define ON(event, state) [PROCESS_EVENT_##event] = PROCESS_##state + 1

static const unsigned char next[PROCESS_STATE_N_][PROCESS_EVENT_N_] = {
        [PROCESS_EXITED] = { ON(START, STARTING) },
        [PROCESS_FAILED] = { ON(START, STARTING) },
        [PROCESS_STARTING] = { ON(SPAWNED, RUNNING), ON(SPAWN_FAILED, FAILED), ON(EXIT, EXITED) },
        [PROCESS_RUNNING] = { ON(PAUSE, PAUSED), ON(STOP, STOPPING), ON(EXIT, EXITED) },
        [PROCESS_PAUSED] = { ON(PAUSE, PAUSED), ON(RESUME, RUNNING), ON(STOP, STOPPING), ON(EXIT, EXITED) },
        [PROCESS_STOPPING] = { ON(STOP, STOPPING), ON(RESUME, STOPPING), ON(EXIT, EXITED) },
};

int process_state_next(ProcessState state, ProcessEvent event) {
        assert((unsigned)state < PROCESS_STATE_N_ && (unsigned)event < PROCESS_EVENT_N_);
        return (int)next[state][event] - 1;
}

const char *process_state_name(ProcessState state) {
        assert((unsigned)state < PROCESS_STATE_N_);
        return names[state];
}

int process_state_is_alive(ProcessState state) {
        return state == PROCESS_STARTING || state == PROCESS_RUNNING || state == PROCESS_PAUSED ||
               state == PROCESS_STOPPING;
}
