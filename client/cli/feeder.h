/* SPDX-License-Identifier: MIT */
#pragma once

/* Our stdin, copied to a process's: any bytes, no faster than they are accepted, then an end of file. */

#include <poll.h>
#include <stdbool.h>

#include "client/libpmux/pmux.h"

typedef struct Feeder {
        Pmux *pmux;       /* borrowed */
        PmuxInput *input; /* owned; opened when there is something to send */
        char target[24];  /* the process's id */
        bool active;      /* there is more to come of our stdin */
        bool is_tty;
} Feeder;

/** feeder_stdin_is_empty() - whether our stdin is /dev/null or was closed: then the process gets an end of
 * file at once. */
bool feeder_stdin_is_empty(void);

void feeder_init(Feeder *feeder, Pmux *pmux);

/** feeder_start() - the process exists: begin. */
void feeder_start(Feeder *feeder, uint64_t id);

/** feeder_poll() - fill in what to wait for; fd -1: nothing. Return: how long to wait at most, milliseconds,
 * -1: no bound. */
int feeder_poll(Feeder *feeder, struct pollfd *ret_poll);

/** feeder_turn() - stdin is readable: read some and hand it on. */
void feeder_turn(Feeder *feeder);
void feeder_deinit(Feeder *feeder);

static inline void feeder_deinit_cleanup(Feeder *feeder) {
        feeder_deinit(feeder);
}
