/* SPDX-License-Identifier: MIT */
#pragma once

/* Bytes to stdout or stderr without ever waiting in write(2): what does not go out now is kept. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/macro.h"

#define OUTPUT_PIECES 256

typedef enum OutputKind {
        OUTPUT_BLOCKING, /* files and the like: write(2) does not wait for anybody */
        OUTPUT_NONBLOCK, /* a pipe or terminal that was opened again as non-blocking */
        OUTPUT_SOCKET,   /* send(2) with MSG_DONTWAIT */
        OUTPUT_POLLED,   /* a pipe or terminal that could not be: small writes after poll(2) */
} OutputKind;

/* The flags of a descriptor that others share are left alone: that is what opening it again is for. */
typedef struct Output {
        int fd;       /* borrowed: 1 or 2 */
        int write_fd; /* owned if it is not fd */
        OutputKind kind;
        size_t n_pieces;
        uint8_t *kept; /* owned; of earlier turns, goes first: kept_begin to kept_end */
        size_t kept_size;
        size_t kept_begin;
        size_t kept_end;
        uint64_t pending; /* bytes in both */
        int failure;      /* -errno once writing has failed: everything is dropped from then on */
        struct iovec pieces[OUTPUT_PIECES]; /* borrowed; of this turn */
} Output;

void output_init(Output *output, int fd);
void output_deinit(Output *output);

static inline void output_deinit_cleanup(Output *output) {
        output_deinit(output);
}

/** output_same() - whether two descriptors lead to the same place, so that the order between them matters. */
bool output_same(int fd_a, int fd_b);

/** output_add() - append bytes, which must stay until output_settle(). Return: 0 or -errno of writing. */
int output_add(Output *output, const void *data, size_t size);

/** output_settle() - write what goes out now, copy the rest: the bytes that were added may go away. */
int output_settle(Output *output);

/** output_drain() - wait until everything is written. Return: 0 or -errno. */
int output_drain(Output *output);

/** output_poll_fd() - what to wait on for room while output->pending is not 0. */
int output_poll_fd(const Output *output);
