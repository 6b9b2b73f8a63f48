/* SPDX-License-Identifier: MIT */

#include "client/libpmux/link.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "common/macro.h"

#define IN_SIZE_MIN (256 * 1024)       /* of the receive buffer; a larger frame makes it grow */
#define IN_SIZE_KEEP (2 * 1024 * 1024) /* a buffer that had to grow beyond this is given back */
#define OUT_SIZE_MIN (16 * 1024)

void link_init(Link *link) {
        *link = (Link){ .fd = -1 };
}

void link_close(Link *link) {
        link->fd = fd_close(link->fd);
        link->in_begin = link->in_end = 0;
        link->out_begin = link->out_end = 0;
}

void link_deinit(Link *link) {
        link_close(link);
        free(link->in);
        free(link->out);
        link_init(link);
}

int link_attach(Link *link, int fd) {
        int r;

        assert(link->fd < 0);
        r = fd_set_nonblock(fd, 1);
        if (r < 0) {
                (void)fd_close(fd);
                return r;
        }
        link->fd = fd;
        return 0;
}

/* Room for what is missing of the frame that has begun to arrive, and for a good read at least. */
static int link_make_room(Link *link) {
        size_t have = link->in_end - link->in_begin, want = IN_SIZE_MIN;
        uint8_t *buffer;

        if (have > 0 && link->in_begin > 0)
                memmove(link->in, link->in + link->in_begin, have);
        link->in_begin = 0;
        link->in_end = have;
        if (have >= FRAME_HEADER_SIZE) /* link_next() has checked the size of this frame */
                want = MAX(want, FRAME_HEADER_SIZE + (size_t)le32_get(link->in) + FRAME_HEADER_SIZE);
        if (want <= link->in_size && (have > 0 || link->in_size <= IN_SIZE_KEEP))
                return 0;
        buffer = realloc(link->in, want);
        if (!buffer)
                return -ENOMEM;
        link->in = buffer;
        link->in_size = want;
        return 0;
}

int link_receive(Link *link) {
        ssize_t n;
        int r;

        r = link_make_room(link);
        if (r < 0)
                return r;
        do
                n = recv(link->fd, link->in + link->in_end, link->in_size - link->in_end, MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EWOULDBLOCK ? -EAGAIN : -errno;
        link->in_end += (size_t)n;
        return n > 0;
}

int link_next(Link *link, FrameHeader *ret_header, const uint8_t **ret_payload, Error *reterr_error) {
        size_t have = link->in_end - link->in_begin;
        FrameHeader header;
        int r;

        if (have < FRAME_HEADER_SIZE)
                return 0;
        r = frame_header_decode(&header, link->in + link->in_begin, true, reterr_error);
        if (r < 0)
                return r;
        if (have - FRAME_HEADER_SIZE < header.size)
                return 0;
        *ret_header = header;
        *ret_payload = link->in + link->in_begin + FRAME_HEADER_SIZE;
        link->in_begin += FRAME_HEADER_SIZE + header.size;
        return 1;
}

static int link_grow_out(Link *link, size_t size) {
        size_t have = link_pending(link), want = MAX(link->out_size, (size_t)OUT_SIZE_MIN);
        uint8_t *buffer;

        if (link->out_size - link->out_end >= size)
                return 0;
        if (have > 0)
                memmove(link->out, link->out + link->out_begin, have);
        link->out_begin = 0;
        link->out_end = have;
        while (want - have < size)
                want *= 2;
        if (want == link->out_size)
                return 0;
        buffer = realloc(link->out, want);
        if (!buffer)
                return -ENOMEM;
        link->out = buffer;
        link->out_size = want;
        return 0;
}

int link_queue(Link *link, const FrameHeader *header, const void *head, size_t head_size, const void *body,
               size_t body_size) {
        uint8_t *p;
        int r;

        assert(header->size == head_size + body_size);
        r = link_grow_out(link, FRAME_HEADER_SIZE + head_size + body_size);
        if (r < 0)
                return r;
        p = link->out + link->out_end;
        frame_header_encode(p, header);
        p += FRAME_HEADER_SIZE;
        if (head_size > 0)
                memcpy(p, head, head_size);
        if (body_size > 0)
                memcpy(p + head_size, body, body_size);
        link->out_end += FRAME_HEADER_SIZE + head_size + body_size;
        return 0;
}

int link_flush(Link *link) {
        ssize_t n;

        while (link_pending(link) > 0) {
                n = send(link->fd, link->out + link->out_begin, link_pending(link),
                         MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
                link->out_begin += (size_t)n;
        }
        link->out_begin = link->out_end = 0;
        return 0;
}

size_t link_pending(const Link *link) {
        return link->out_end - link->out_begin;
}
