/* SPDX-License-Identifier: MIT */
#pragma once

/* One socket to the daemon: whole frames in, whole frames out, never waiting. Knows no request and no stream.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/list.h"
#include "common/protocol.h"

#define LINK_FDS_MAX 3 /* that one frame takes along */

/* Descriptors that leave with the first byte of a frame that is queued. */
typedef struct LinkFds {
        List link;         /* in Link.fds */
        uint64_t position; /* of that byte, counted since the socket was attached */
        uint64_t end;      /* behind the frame */
        size_t n;
        int fds[LINK_FDS_MAX]; /* owned */
} LinkFds;

typedef struct Link {
        int fd;      /* owned; -1: not connected */
        uint8_t *in; /* owned; what was received lies at in_begin to in_end */
        size_t in_size;
        size_t in_begin;
        size_t in_end;
        bool in_is_wide; /* it was full once */
        uint8_t *out;    /* owned; what is to be sent lies at out_begin to out_end */
        size_t out_size;
        size_t out_begin;
        size_t out_end;
        uint64_t n_sent; /* bytes since the socket was attached */
        List fds;        /* LinkFds, in the order of their positions */
} Link;

void link_init(Link *link);

/** link_close() - close the socket and forget what is buffered; the buffers stay for the next link_attach().
 */
void link_close(Link *link);
void link_deinit(Link *link);

/** link_attach() - take over a connected socket, which is made non-blocking. Return: 0 or -errno (then it is
 * closed). */
int link_attach(Link *link, int fd);

/**
 * link_receive() - one recv(2) into the buffer
 *
 * Frames that link_next() returned before are gone. Return: 1: bytes came; 0: the other side has closed;
 * -EAGAIN; -ENOMEM; -errno.
 */
int link_receive(Link *link);

/**
 * link_next() - the next whole frame that has been received
 * @ret_payload:  borrowed until link_receive() or link_close(); may be written to
 *
 * Return: 1; 0: none; -EPROTO (PROTOCOL) for a frame that the daemon may not send.
 */
int link_next(Link *link, FrameHeader *ret_header, uint8_t **ret_payload, Error *reterr_error);

/** link_queue() - append a frame whose payload is in two parts, either may be empty. Return: 0; -ENOMEM. */
int link_queue(Link *link, const FrameHeader *header, const void *head, size_t head_size, const void *body,
               size_t body_size);

/** link_position() - how many bytes stand before a frame that is queued now. */
uint64_t link_position(const Link *link);

/** link_queue_fds() - the frame that was queued last, at a position, takes duplicates of descriptors along.
 * Return: 0; -errno. */
int link_queue_fds(Link *link, uint64_t position, const int *fds, size_t n_fds);

/** link_flush() - send what is queued. Return: 0: all of it; -EAGAIN: the socket is full; -errno. */
int link_flush(Link *link);

/** link_pending() - bytes queued and not sent. */
size_t link_pending(const Link *link);
