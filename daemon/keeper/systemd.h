/* SPDX-License-Identifier: MIT */
#pragma once

/* What we say to systemd and hear from it. libsystemd is loaded only where the environment says that it is
 * there: with what it needs in turn, it would be most of the libraries of both processes. */

#include <stdint.h>

/** systemd_notify() - tell the manager something (sd_notify(3)); nothing where there is none. */
void systemd_notify(const char *state);
/** systemd_watchdog_usec() - how often it wants to hear from us; 0: it does not. */
uint64_t systemd_watchdog_usec(void);
/** systemd_listen_fds() - how many sockets it hands to us, from SD_LISTEN_FDS_START on; they are
 * close-on-exec then, and the environment does not tell of them any more. Return: the number; -errno;
 * -ENOSYS: there are some, but libsystemd is not installed. */
int systemd_listen_fds(void);
