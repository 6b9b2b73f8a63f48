/* SPDX-License-Identifier: MIT */
#pragma once

/* The engine's life: started, handed what the keeper holds, told what happens, killed, started again. */

#include <signal.h>

#include "common/macro.h"

typedef struct Keeper Keeper;
typedef struct Answer Answer;

/** engine_slot_init() - no engine runs; one is due now. */
void engine_slot_init(Keeper *keeper);

/** engine_slot_start() - start an engine and begin the handover; on failure the next try is scheduled. */
void engine_slot_start(Keeper *keeper);

/**
 * engine_slot_flush() - send what the engine has still to be told, as far as its socket takes it
 *
 * First the handover (HELLO, FDS*, CHILD*, READY), then whatever is owed. Never blocks; what does not fit
 * stays state and is sent when the socket is writable.
 */
void engine_slot_flush(Keeper *keeper);

/**
 * engine_slot_answer() - owe the engine a SIGNALLED, HELD or SPAWNED (failed) that no child's entry remembers
 *
 * The engine may write much before it reads: so that neither waits for the other, we read on and remember. An
 * engine that has far too many of them unread is given up.
 */
void engine_slot_answer(Keeper *keeper, const Answer *answer);

/**
 * engine_slot_fail() - give the engine up: it is killed and, when it has been reaped, replaced
 * @format:  why, for people; NULL: its end says it all
 */
void engine_slot_fail(Keeper *keeper, const char *format, ...) PRINTF_LIKE(2, 3);

/** engine_slot_on_exit() - the engine was reaped: say why, schedule the next one. Its messages have been
 * read. */
void engine_slot_on_exit(Keeper *keeper, const siginfo_t *info);
