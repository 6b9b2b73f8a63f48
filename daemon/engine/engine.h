/* SPDX-License-Identifier: MIT */
#pragma once

/* The engine: everything but the keeper. May be killed at any instant; the next one goes on. */

/**
 * engine_run() - take up the keeper's handover at KEEPER_ENGINE_FD and serve until told to end
 * @socket_path:  for daemon-status; the listeners come from the keeper
 * @state_dir:    absolute; exists, ours, 0700
 *
 * Return: the exit status: 0 after a stop or an upgrade, 1 when the keeper is gone or the engine cannot go on
 * (the keeper starts another).
 */
int engine_run(const char *socket_path, const char *state_dir);
