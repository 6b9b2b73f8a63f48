/* SPDX-License-Identifier: MIT */
#pragma once

/* A connection to pmux on a program's own libevent base. Everything that pmux.h and pmux-read.h can start
 * (calls, streams, inputs, events, reads and questions) then has its outcome by callbacks from that base's
 * loop, and broken connections are mended there. Link with libpmux-event (pkg-config libpmux-event); libpmux
 * alone needs no libevent.
 *
 * Callbacks run inside event_base_loop(). They may start calls and streams; they must not call blocking
 * functions, pmux_close() or pmux_event_free(). */

#ifdef __cplusplus
extern "C" {
#endif

struct event_base;
typedef struct Pmux Pmux;
typedef struct PmuxError PmuxError;
typedef struct PmuxEvent PmuxEvent;

/** The connection was given up: every call and stream on it has been told so before. Called once. */
typedef void (*PmuxEventFailedFn)(Pmux *pmux, const PmuxError *error, void *userdata);

/**
 * pmux_event_new() - let a libevent base do the work of a connection
 * @base:       borrowed; must live until pmux_event_free()
 * @pmux:       borrowed; as pmux_open() made it; must live until pmux_event_free()
 * @on_failed:  may be NULL
 *
 * The event counts as pending for ever: end the loop with event_base_loopbreak(), or free this.
 *
 * Return: 0; -ENOMEM.
 */
int pmux_event_new(PmuxEvent **ret_event, struct event_base *base, Pmux *pmux, PmuxEventFailedFn on_failed,
                   void *userdata);

/** pmux_event_free() - the base has nothing to do with the connection any more. Returns NULL. */
PmuxEvent *pmux_event_free(PmuxEvent *event);

#ifdef __cplusplus
}
#endif
