/* SPDX-License-Identifier: MIT */
#pragma once

/* The life of a connection: dialling, greeting, losing and mending it, and who gets which frame. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/libpmux/link.h"
#include "client/libpmux/pmux.h"
#include "common/error.h"
#include "common/list.h"
#include "common/protocol.h"

typedef enum ConnectionState {
        CONNECTION_WAITING,  /* no socket: the timer says when to dial again */
        CONNECTION_GREETING, /* our HELLO is sent; requests are sent already */
        CONNECTION_READY,    /* theirs has come */
        CONNECTION_FAILED,   /* given up: 'failure' says why */
} ConnectionState;

struct Pmux {
        ConnectionState state;
        Link link;
        int epoll_fd;     /* owned; what the caller polls */
        int timer_fd;     /* owned; armed while a deadline or a new attempt is due */
        bool dispatching; /* pmux_dispatch() is under way: what is queued goes out at its end */
        bool want_write;  /* whether the epoll waits for room in the socket */

        char *socket_path; /* owned */
        unsigned flags;
        uint64_t retry_usec;
        int (*dial)(void *userdata);
        PmuxNoticeFn on_notice;
        void *userdata;

        uint64_t deadline_usec; /* monotonic: when mending is given up; 0: the connection has proved itself */
        uint64_t ready_usec;    /* monotonic: when the daemon's greeting came */
        uint64_t delay_usec;    /* before the next attempt */
        bool lost_told;         /* PMUX_NOTICE_LOST was given, BACK not yet */
        uint32_t engine_pid;
        Error failure;

        int next_fds[LINK_FDS_MAX]; /* owned; of pmux_send_fds(), for the next request */
        size_t n_next_fds;
        uint64_t next_request;
        uint32_t next_stream;
        List calls;   /* PmuxCall, in the order in which they were made */
        List streams; /* PmuxStream */
        List inputs;  /* PmuxInput */
        List events;  /* PmuxEvents */
};

/** error_export() - an Error as a program is given it; 'ret' may be NULL. Returns r. */
int error_export(PmuxError *ret, const Error *error, int r);

/** connection_send() - queue a frame, if there is a socket. Only -ENOMEM fails; a broken socket shows later.
 */
int connection_send(Pmux *pmux, FrameType type, uint32_t stream, uint8_t flags, const void *head,
                    size_t head_size, const void *body, size_t body_size);

/** connection_flush() - send what is queued, as far as it goes now. */
void connection_flush(Pmux *pmux);

/** connection_kick() - the same, unless a pmux_dispatch() is under way, which does it at its end. */
void connection_kick(Pmux *pmux);

/** connection_up() - whether there is a socket that requests can be sent on. */
bool connection_up(const Pmux *pmux);

/** connection_stream_number() - a number for a stream that is not in use. */
uint32_t connection_stream_number(Pmux *pmux);

/** connection_protocol_error() - the daemon broke the protocol: give the connection up. Returns r. */
int connection_protocol_error(Pmux *pmux, const Error *error, int r);
