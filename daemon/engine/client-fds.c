/* SPDX-License-Identifier: MIT */

/* The kernel gives descriptors together with the first byte that was sent with them and ends a read behind
 * those bytes, so that a read has at most one set. It does not tell at which of the bytes that begins, as
 * what was sent before may have come in the same read. But nothing is sent with them beyond their frame: it
 * is the last that begins in the read. */

#include "daemon/engine/client-fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"

typedef struct ClientFds {
        List link;            /* in client->fds */
        uint64_t begin, end;  /* they came with the bytes between, counted over the connection */
        int fds[FD_PASS_MAX]; /* owned */
        size_t n;
        bool cut; /* there were more than we take, or there was no room for them */
} ClientFds;

static void client_fds_free(ClientFds *set) {
        list_remove(&set->link);
        for (size_t i = 0; i < set->n; i++)
                (void)fd_close(set->fds[i]);
        free(set);
}

static void client_fds_add(Client *client, const ClientFds *set) {
        ClientFds *kept = NULL;
        size_t n = 0;

        LIST_FOREACH(ClientFds, other, &client->fds, link)
                n++;
        if (n < CLIENT_FD_SETS_MAX)
                kept = malloc(sizeof(*kept));
        if (!kept) { /* whoever asks for them is told that there are none */
                for (size_t i = 0; i < set->n; i++)
                        (void)fd_close(set->fds[i]);
                return;
        }
        *kept = *set;
        kept->link = (List){};
        list_append(&client->fds, &kept->link);
}

ssize_t client_fds_receive(Client *client, void *bytes, size_t size) {
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
        struct iovec iov = { .iov_base = bytes, .iov_len = size };
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control,
                              .msg_controllen = CMSG_LEN(sizeof(int) * CLIENT_FDS_MAX) };
        ClientFds set = { .begin = client->n_received };
        struct cmsghdr *cmsg;
        ssize_t n;

        n = recvmsg(client->fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (n < 0)
                return -errno;
        client->n_received += (uint64_t)n;
        if (msg.msg_controllen == 0 && !(msg.msg_flags & MSG_CTRUNC))
                return n;
        for (cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg))
                if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS) {
                        set.n = MIN((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int), (size_t)FD_PASS_MAX);
                        memcpy(set.fds, CMSG_DATA(cmsg), set.n * sizeof(int));
                }
        set.end = client->n_received;
        if (msg.msg_flags & MSG_CTRUNC) {
                set.cut = true;
                while (set.n > 0)
                        (void)fd_close(set.fds[--set.n]);
        }
        if (set.n > 0 || set.cut)
                client_fds_add(client, &set);
        return n;
}

void client_fds_pass(Client *client) {
        LIST_FOREACH(ClientFds, set, &client->fds, link)
                if (set->end <= client->n_handled)
                        client_fds_free(set);
}

void client_fds_drop(Client *client) {
        LIST_FOREACH(ClientFds, set, &client->fds, link)
                client_fds_free(set);
}

int client_fds_take(Client *client, unsigned number, int *ret_fd, Error *reterr_error) {
        uint64_t at = client->n_handled;
        int fd;

        LIST_FOREACH(ClientFds, set, &client->fds, link) {
                if (at < set->begin || at >= set->end || at + client->n_handling < set->end)
                        continue;
                if (set->cut)
                        return error_set(reterr_error, ERROR_LIMIT,
                                         "the descriptors of this request could not be taken up: at most %d "
                                         "come with one, and the daemon may be out of them",
                                         CLIENT_FDS_MAX);
                if (number >= set->n)
                        break;
                fd = fcntl(set->fds[number], F_DUPFD_CLOEXEC, 3);
                if (fd < 0)
                        return error_set_errno(reterr_error, errno, "cannot take up a descriptor");
                *ret_fd = fd;
                return 0;
        }
        return error_set(reterr_error, ERROR_INVALID, "fd: no descriptor %u came with this request", number);
}
