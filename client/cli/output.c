/* SPDX-License-Identifier: MIT */

#include "client/cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

#define POLLED_BYTES PIPE_BUF /* what a pipe that poll(2) calls writable takes without waiting */

/* Memory that is not touched costs nothing: the pieces are left as they are. */
static void output_clear(Output *output, int fd) {
        memset(output, 0, offsetof(Output, pieces));
        output->fd = output->write_fd = fd;
        output->kind = OUTPUT_BLOCKING;
}

void output_init(Output *output, int fd) {
        char path[32];
        struct stat st;

        output_clear(output, fd);
        if (fstat(fd, &st) < 0)
                return; /* writing will say what is wrong */
        if (S_ISSOCK(st.st_mode)) {
                output->kind = OUTPUT_SOCKET;
        } else if (S_ISFIFO(st.st_mode) || isatty(fd)) {
                (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
                output->write_fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
                output->kind = output->write_fd < 0 ? OUTPUT_POLLED : OUTPUT_NONBLOCK;
                if (output->write_fd < 0)
                        output->write_fd = fd;
        }
}

void output_deinit(Output *output) {
        if (output->write_fd != output->fd)
                (void)fd_close(output->write_fd);
        free(output->kept);
        output_clear(output, -1);
}

bool output_same(int fd_a, int fd_b) {
        struct stat a, b;

        return fstat(fd_a, &a) == 0 && fstat(fd_b, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino &&
               a.st_rdev == b.st_rdev;
}

int output_poll_fd(const Output *output) {
        return output->write_fd;
}

/* Writes some of the pieces. Return: bytes; -EAGAIN; -errno. */
static ssize_t write_pieces(Output *output, const struct iovec *pieces, size_t n_pieces) {
        const struct msghdr message = { .msg_iov = (struct iovec *)pieces, .msg_iovlen = n_pieces };
        struct pollfd poll_fd = { .fd = output->write_fd, .events = POLLOUT };
        ssize_t n;

        do {
                if (output->kind == OUTPUT_SOCKET) {
                        n = sendmsg(output->write_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
                } else if (output->kind == OUTPUT_POLLED) {
                        if (poll(&poll_fd, 1, 0) == 0)
                                return -EAGAIN;
                        n = write(output->write_fd, pieces[0].iov_base,
                                  MIN(pieces[0].iov_len, (size_t)POLLED_BYTES));
                } else {
                        n = writev(output->write_fd, pieces, (int)n_pieces);
                }
        } while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

static int output_failed(Output *output, int r) {
        output->failure = r;
        output->pending = 0;
        output->n_pieces = 0;
        output->kept_begin = output->kept_end = 0;
        return r;
}

/* Drops the first n bytes of the pieces. */
static void skip_pieces(struct iovec **pieces, size_t *n_pieces, size_t n) {
        while (*n_pieces > 0 && n >= (*pieces)->iov_len) {
                n -= (*pieces)->iov_len;
                (*pieces)++;
                (*n_pieces)--;
        }
        if (n > 0) {
                (*pieces)->iov_base = (uint8_t *)(*pieces)->iov_base + n;
                (*pieces)->iov_len -= n;
        }
}

/* What was kept goes first. Return: 0: nothing is kept any more; -EAGAIN; -errno. */
static int write_kept(Output *output) {
        struct iovec piece;
        ssize_t n;

        while (output->kept_begin < output->kept_end) {
                piece.iov_base = output->kept + output->kept_begin;
                piece.iov_len = output->kept_end - output->kept_begin;
                n = write_pieces(output, &piece, 1);
                if (n < 0)
                        return (int)n;
                output->kept_begin += (size_t)n;
                output->pending -= (uint64_t)n;
        }
        output->kept_begin = output->kept_end = 0;
        return 0;
}

static int keep(Output *output, const struct iovec *pieces, size_t n_pieces) {
        size_t have = output->kept_end - output->kept_begin, size = have;
        uint8_t *buffer;

        for (size_t i = 0; i < n_pieces; i++)
                size += pieces[i].iov_len;
        if (output->kept_begin > 0)
                memmove(output->kept, output->kept + output->kept_begin, have);
        output->kept_begin = 0;
        output->kept_end = have;
        if (size > output->kept_size) {
                buffer = realloc(output->kept, MAX(size, output->kept_size * 2));
                if (!buffer)
                        return -ENOMEM;
                output->kept_size = MAX(size, output->kept_size * 2);
                output->kept = buffer;
        }
        for (size_t i = 0; i < n_pieces; i++) {
                memcpy(output->kept + output->kept_end, pieces[i].iov_base, pieces[i].iov_len);
                output->kept_end += pieces[i].iov_len;
        }
        return 0;
}

int output_settle(Output *output) {
        struct iovec *pieces = output->pieces;
        size_t n_pieces = output->n_pieces;
        ssize_t n = 0;
        int r;

        if (output->failure != 0)
                return output->failure;
        r = write_kept(output);
        while (r == 0 && n_pieces > 0) {
                n = write_pieces(output, pieces, n_pieces);
                if (n < 0) {
                        r = (int)n;
                        break;
                }
                output->pending -= (uint64_t)n;
                skip_pieces(&pieces, &n_pieces, (size_t)n);
        }
        if (r < 0 && r != -EAGAIN)
                return output_failed(output, r);
        r = keep(output, pieces, n_pieces);
        output->n_pieces = 0;
        return r < 0 ? output_failed(output, r) : 0;
}

int output_add(Output *output, const void *data, size_t size) {
        int r;

        if (output->failure != 0)
                return output->failure;
        if (output->n_pieces == OUTPUT_PIECES) {
                r = output_settle(output);
                if (r < 0)
                        return r;
        }
        output->pieces[output->n_pieces++] = (struct iovec){ .iov_base = (void *)data, .iov_len = size };
        output->pending += size;
        return 0;
}

int output_drain(Output *output) {
        struct pollfd poll_fd = { .fd = output->write_fd, .events = POLLOUT };
        int r;

        for (;;) {
                r = output_settle(output);
                if (r < 0 || output->pending == 0)
                        return r;
                (void)poll(&poll_fd, 1, -1);
        }
}
