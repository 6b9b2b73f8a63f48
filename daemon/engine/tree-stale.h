/* SPDX-License-Identifier: MIT */
#pragma once

/* The removal of the cgroups of daemons that were killed. */

/**
 * tree_stale_kill() - kill and remove the cgroups of dead daemons of this user
 * @own_fd:  directory in which they are, borrowed
 *
 * Waits up to half a second for all of them to be empty; what then still lives is left to the next daemon.
 * Return: how many processes were killed.
 */
int tree_stale_kill(int own_fd);
