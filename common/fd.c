/* SPDX-License-Identifier: MIT */

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int fd_close(int fd) {
        int saved = errno;

        if (fd >= 0)
                (void)close(fd);
        errno = saved;
        return -1;
}

int fd_write_all(int fd, const void *data, size_t size) {
        const char *p = data;
        ssize_t n;

        while (size > 0) {
                n = write(fd, p, size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                p += n;
                size -= (size_t)n;
        }
        return 0;
}

ssize_t fd_read_full(int fd, void *data, size_t size) {
        size_t done = 0;
        ssize_t n;

        while (done < size) {
                n = read(fd, (char *)data + done, size - done);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                done += (size_t)n;
        }
        return (ssize_t)done;
}

int fd_set_nonblock(int fd, int enable) {
        int flags;

        flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return -errno;
        flags = enable ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
        if (fcntl(fd, F_SETFL, flags) < 0)
                return -errno;
        return 0;
}

ssize_t fd_send(int socket_fd, const void *data, size_t size, const int *fds, size_t n_fds) {
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
        struct iovec iov = { .iov_base = (void *)data, .iov_len = size };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        struct cmsghdr *cmsg;
        ssize_t n;

        assert(n_fds <= FD_PASS_MAX);
        if (n_fds > 0) {
                memset(control, 0, sizeof(control));
                msg.msg_control = control;
                msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                cmsg = CMSG_FIRSTHDR(&msg);
                cmsg->cmsg_level = SOL_SOCKET;
                cmsg->cmsg_type = SCM_RIGHTS;
                cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
        }
        do
                n = sendmsg(socket_fd, &msg, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

static size_t fd_take_rights(struct msghdr *msg, int *ret_fds) {
        size_t n_fds = 0, n;

        for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
                if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
                        continue;
                n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
                        if (n_fds < FD_PASS_MAX)
                                ret_fds[n_fds++] = fd;
                        else
                                (void)fd_close(fd);
                }
        }
        return n_fds;
}

/* A peer that ends and has not read all that we sent leaves an ECONNRESET here, which the kernel tells once,
 * and before what the peer had sent (unix_release_sock() and __skb_try_recv_datagram() of Linux): behind it
 * stands all that there is. */
static ssize_t fd_receive_msg(int socket_fd, struct msghdr *msg) {
        bool was_reset = false;
        ssize_t n;

        for (;;) {
                n = recvmsg(socket_fd, msg, MSG_CMSG_CLOEXEC);
                if (n >= 0 || (errno != EINTR && (errno != ECONNRESET || was_reset)))
                        return n;
                was_reset = was_reset || errno == ECONNRESET;
        }
}

ssize_t fd_receive(int socket_fd, void *data, size_t size, int *ret_fds, size_t *ret_n_fds) {
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
        struct iovec iov = { .iov_base = data, .iov_len = size };
        struct msghdr msg = {
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = control,
                .msg_controllen = sizeof(control),
        };
        ssize_t n;

        *ret_n_fds = 0;
        n = fd_receive_msg(socket_fd, &msg);
        if (n < 0)
                return -errno;
        *ret_n_fds = fd_take_rights(&msg, ret_fds);
        if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
                while (*ret_n_fds > 0)
                        (void)fd_close(ret_fds[--*ret_n_fds]);
                return -EMSGSIZE;
        }
        return n;
}
