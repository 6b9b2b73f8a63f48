/* SPDX-License-Identifier: MIT */
#pragma once

/* What the engine asks of the keeper: its messages, each carried out at once. */

typedef struct Keeper Keeper;

/**
 * request_read() - read and carry out messages of the engine
 * @n_max:  at most so many, so that nobody else waits for long
 *
 * A message that makes no sense ends the engine, never the
 * keeper.
 */
void request_read(Keeper *keeper, unsigned n_max);

/** request_drain() - carry out what an engine that has died said before; nobody is there for the answers. */
void request_drain(Keeper *keeper);
