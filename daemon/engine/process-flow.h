/* SPDX-License-Identifier: MIT */
#pragma once

/* Output that flows: its pipe is made larger, and left to fill for a moment instead of being emptied after
 * every write. For process-*.c alone. */

#include <stdbool.h>
#include <stddef.h>

typedef struct OutputFlow OutputFlow;
typedef struct OutputFlows OutputFlows;
typedef struct Process Process;
typedef struct ProcessHost ProcessHost;

/**
 * process_flow_turn() - a turn has moved output into the log: decide when the next one comes
 * @i:      which of the outputs; open, and not waiting for a disk or a reader
 * @total:  bytes that were moved
 *
 * What comes slower than FLOW_RATE stays watched, and is logged as soon as it is there.
 */
void process_flow_turn(Process *process, unsigned i, size_t total);
#define FLOW_RATE 16 /* bytes in a microsecond from which on output flows */

/** process_flow_is_on() - whether the output flows. */
bool process_flow_is_on(const Process *process, unsigned i);

/** process_flow_n_wide() - how many pipes are wide. */
unsigned process_flow_n_wide(const ProcessHost *host);

/** process_flow_adopt() - take note of a pipe that an engine before this one has widened. */
void process_flow_adopt(Process *process, unsigned i);

/** process_flow_pause() - do not look at the output until it is watched again. */
void process_flow_pause(Process *process, unsigned i);

/** process_flow_end() - the output is about to be closed, or to be watched by nobody any more. */
void process_flow_end(Process *process, unsigned i);
