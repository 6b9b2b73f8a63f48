/* SPDX-License-Identifier: MIT */
#pragma once

/* The end of an output, told a moment later. */

#include <stdbool.h>

typedef struct Process Process;
typedef struct ProcessHost ProcessHost;

/**
 * process_ending_begin() - output 'i' is at its end, which need not be told at once
 * Either process_ending_finish() is called or, after a millisecond, all that is told comes about by itself.
 * Harmless to repeat.
 *
 * Return: true; false: nothing comes by itself, tell it now: the main process does not live, or there is no
 * memory.
 */
bool process_ending_begin(Process *process, unsigned i);
/** process_ending_finish() - tell now what was put off. */
void process_ending_finish(Process *process);
/** process_ending_forget() - output 'i' is gone, or its end was told. */
void process_ending_forget(Process *process, unsigned i);
/** process_ending_deinit() - nothing is put off any more in any process of this host. */
void process_ending_deinit(ProcessHost *host);
