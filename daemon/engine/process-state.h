/* SPDX-License-Identifier: MIT */
#pragma once

/* State × event → state, and nothing else. Pure. */

typedef enum ProcessState {
#define STATE(name, wire_name) PROCESS_##name,
#include "daemon/engine/process-state-table.h"
#undef STATE
        PROCESS_STATE_N_,
} ProcessState;

typedef enum ProcessEvent {
#define EVENT(name) PROCESS_EVENT_##name,
#include "daemon/engine/process-state-table.h"
#undef EVENT
        PROCESS_EVENT_N_,
} ProcessEvent;

/** process_state_next() - the state after an event. Return: it, or -1: the event is refused in this state. */
int process_state_next(ProcessState state, ProcessEvent event);
/** process_state_name() - the wire name. */
const char *process_state_name(ProcessState state);
/** process_state_is_alive() - whether the main process exists in this state (as far as is known). */
int process_state_is_alive(ProcessState state);
