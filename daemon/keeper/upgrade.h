/* SPDX-License-Identifier: MIT */
#pragma once

/* Upgrade in place: the keeper executes the program now installed; its pid, children and descriptors stay. */

#include "common/error.h"

typedef struct Keeper Keeper;

/**
 * upgrade_execute() - put another program in our place
 * @path:  what to execute; empty: the path of the program that runs now
 *
 * No engine may run. The program is first asked whether it understands our state. Returns only on failure,
 * which has been reported, with everything as it was.
 */
void upgrade_execute(Keeper *keeper, const char *path);

/**
 * upgrade_load() - take over the state that the program before us left
 * @fd:      of --keeper-state, owned; closed
 * @keeper:  after keeper_init(), without children
 */
int upgrade_load(int fd, Keeper *keeper, Error *reterr_error);

/**
 * upgrade_check() - whether upgrade_load() would understand a state
 * @fd:  borrowed; the answer yes is written behind the state
 *
 * Return: 0; -EPROTO (PROTOCOL).
 */
int upgrade_check(int fd, Error *reterr_error);
