/* SPDX-License-Identifier: MIT */
#pragma once

/* systemd's watchdog: the keeper vouches for itself and for the engine, which it pings. */

#include <stdint.h>

typedef struct Keeper Keeper;

/** watchdog_init() - find out whether systemd expects to hear from us. */
void watchdog_init(Keeper *keeper);

/** watchdog_deadline() - when watchdog_tick() is next due, USEC_INFINITY: never. */
uint64_t watchdog_deadline(const Keeper *keeper);

/** watchdog_tick() - ping the engine, or end one that left the last ping unanswered. */
void watchdog_tick(Keeper *keeper, uint64_t now_usec);

/** watchdog_on_pong() - the engine is well, and so are we. */
void watchdog_on_pong(Keeper *keeper);
