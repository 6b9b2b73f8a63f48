/* SPDX-License-Identifier: MIT */
#pragma once

/* Signals to this program that are meant for the process it runs, as a descriptor. */

/**
 * signals_open() - block the signals that run forwards and get them by a descriptor
 * @ret_fd:  owned by the caller; non-blocking
 *
 * Signals that were ignored when this program was started stay so: nohup and & mean what they say. SIGTSTP
 * and SIGCONT are not among them: they stop and continue this program alone. Return: 0 or -errno.
 */
int signals_open(int *ret_fd);

/** signals_next() - the number of the next signal that has come; 0: none. */
int signals_next(int fd);
