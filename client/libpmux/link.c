/* SPDX-License-Identifier: MIT */

#include "client/libpmux/link.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "common/macro.h"

#define IN_SIZE_FIRST (16 * 1024)      /* of the receive buffer, until it was full */
#define IN_SIZE_MIN (256 * 1024)       /* from then on; a larger frame makes it grow */
#define IN_SIZE_KEEP (2 * 1024 * 1024) /* a buffer that had to grow beyond this is given back */
#define OUT_SIZE_MIN (16 * 1024)

static void fds_free(LinkFds *fds) {
        while (fds->n > 0)
                (void)fd_close(fds->fds[--fds->n]);
        list_remove(&fds->link);
        free(fds);
}

void link_init(Link *link) {
        *link = (Link){ .fd = -1 };
        list_init(&link->fds);
}

void link_close(Link *link) {
        link->fd = fd_close(link->fd);
        link->in_begin = link->in_end = 0;
        link->out_begin = link->out_end = 0;
        link->n_sent = 0;
        LIST_FOREACH(LinkFds, fds, &link->fds, link)
                fds_free(fds);
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

/* Room for what is missing of the frame that has begun to arrive, and for a good read at least: most programs
 * are told little, and to touch new memory takes longer than to be told it. */
static int link_make_room(Link *link) {
        size_t have = link->in_end - link->in_begin, want = link->in_is_wide ? IN_SIZE_MIN : IN_SIZE_FIRST;
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
        link->in_is_wide |= link->in_end == link->in_size;
        return n > 0;
}

int link_next(Link *link, FrameHeader *ret_header, uint8_t **ret_payload, Error *reterr_error) {
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

uint64_t link_position(const Link *link) {
        return link->n_sent + link_pending(link);
}

int link_queue_fds(Link *link, uint64_t position, const int *fds, size_t n_fds) {
        LinkFds *added;
        int r;

        assert(n_fds <= LINK_FDS_MAX);
        added = calloc(1, sizeof(*added));
        if (!added)
                return -ENOMEM;
        added->position = position;
        added->end = link_position(link);
        while (added->n < n_fds) {
                added->fds[added->n] = fcntl(fds[added->n], F_DUPFD_CLOEXEC, 3);
                if (added->fds[added->n] < 0) {
                        r = -errno;
                        fds_free(added);
                        return r;
                }
                added->n++;
        }
        list_append(&link->fds, &added->link);
        return 0;
}

/* Sends what is queued up to the next descriptors; these go with the frame that they belong to, and nothing
 * behind it: the daemon takes the last frame for theirs. */
static ssize_t send_some(Link *link) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(LINK_FDS_MAX * sizeof(int))];
        } control = {};
        struct iovec piece = { link->out + link->out_begin, link_pending(link) };
        struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
        LinkFds *fds = NULL;
        ssize_t n;

        if (!list_empty(&link->fds))
                fds = CONTAINER_OF(link->fds.next, LinkFds, link);
        if (fds && fds->position > link->n_sent) {
                piece.iov_len = MIN(piece.iov_len, fds->position - link->n_sent);
                fds = NULL;
        } else if (fds) {
                piece.iov_len = MIN(piece.iov_len, fds->end - link->n_sent);
                message.msg_control = &control;
                message.msg_controllen = CMSG_SPACE(fds->n * sizeof(int));
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(fds->n * sizeof(int));
                memcpy(CMSG_DATA(&control.header), fds->fds, fds->n * sizeof(int));
        }
        n = sendmsg(link->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0 && fds)
                fds_free(fds);
        return n;
}

int link_flush(Link *link) {
        ssize_t n;

        while (link_pending(link) > 0) {
                n = send_some(link);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
                link->out_begin += (size_t)n;
                link->n_sent += (uint64_t)n;
        }
        link->out_begin = link->out_end = 0;
        return 0;
}

size_t link_pending(const Link *link) {
        return link->out_end - link->out_begin;
}
