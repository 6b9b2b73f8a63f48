/* SPDX-License-Identifier: MIT */

#include "client/cli/feeder.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "common/macro.h"

#define READ_BYTES (64 * 1024)
#define AWAY_MSEC 250 /* how often a terminal that is not ours is looked at */

bool feeder_stdin_is_empty(void) {
        struct stat st;

        if (fstat(STDIN_FILENO, &st) < 0)
                return true;
        return S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

void feeder_init(Feeder *feeder, Pmux *pmux) {
        *feeder = (Feeder){ .pmux = pmux, .is_tty = isatty(STDIN_FILENO) };
        /* Reading a terminal in the background must not stop us: the process may not want its stdin at all.
         */
        (void)signal(SIGTTIN, SIG_IGN);
}

void feeder_start(Feeder *feeder, uint64_t id) {
        (void)snprintf(feeder->target, sizeof(feeder->target), "%llu", (unsigned long long)id);
        feeder->active = true;
}

/* The process ended or its stdin is closed: what else comes of ours has nowhere to go. */
static void on_closed(PmuxInput *input, const PmuxError *error, void *userdata) {
        Feeder *feeder = userdata;

        (void)input;
        (void)error;
        feeder->active = false;
}

static bool open_input(Feeder *feeder) {
        const PmuxInputOptions options = { .size = sizeof(options),
                                           .on_closed = on_closed,
                                           .userdata = feeder };

        if (!feeder->input &&
            pmux_input_start(feeder->pmux, feeder->target, &options, &feeder->input, NULL) < 0)
                feeder->active = false;
        return feeder->active;
}

int feeder_poll(Feeder *feeder, struct pollfd *ret_poll) {
        *ret_poll = (struct pollfd){ .fd = -1, .events = POLLIN };
        if (!feeder->active)
                return -1;
        if (feeder->is_tty && tcgetpgrp(STDIN_FILENO) != getpgrp())
                return AWAY_MSEC;
        if (!feeder->input || pmux_input_room(feeder->input) > 0)
                ret_poll->fd = STDIN_FILENO;
        return -1;
}

void feeder_turn(Feeder *feeder) {
        size_t room = READ_BYTES;
        uint8_t buffer[READ_BYTES];
        ssize_t n;

        if (!feeder->active || !open_input(feeder))
                return;
        room = MIN(room, pmux_input_room(feeder->input));
        if (room == 0)
                return;
        n = read(STDIN_FILENO, buffer, room);
        if (n < 0 && (errno == EAGAIN || errno == EINTR ||
                      (errno == EIO && feeder->is_tty && tcgetpgrp(STDIN_FILENO) != getpgrp())))
                return;
        if (n > 0) {
                (void)pmux_input_write(feeder->input, buffer, (size_t)n,
                                       NULL); /* a failure comes to on_closed() */
                return;
        }
        if (n < 0)
                cli_complain("cannot read stdin: %m");
        feeder->active = false;
        (void)pmux_input_eof(feeder->input, NULL);
}

void feeder_deinit(Feeder *feeder) {
        feeder->input = pmux_input_free(feeder->input);
}
