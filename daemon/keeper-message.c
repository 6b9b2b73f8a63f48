/* SPDX-License-Identifier: MIT */

#include "daemon/keeper-message.h"

#include <errno.h>
#include <string.h>

#include "common/fd.h"

static bool keeper_message_type_known(uint32_t type) {
        switch (type) {
#define X(name, number) case KEEPER_##name:
                KEEPER_MESSAGES(X)
#undef X
                return true;
        default:
                return false;
        }
}

int keeper_message_send(int socket_fd, const KeeperMessage *message, const int *fds, size_t n_fds) {
        ssize_t n;

        assert(keeper_message_type_known(message->type));
        n = fd_send(socket_fd, message, sizeof(*message), fds, n_fds);
        return n < 0 ? (int)n : 0;
}

int keeper_packet_send(int socket_fd, const KeeperMessage *message, const void *spec, size_t spec_size,
                       const int *fds, size_t n_fds) {
        KeeperPacket packet;
        ssize_t n;

        assert(message->type == KEEPER_SPAWN && message->flags & KEEPER_SPAWN_INLINE);
        assert(spec_size > 0 && spec_size <= sizeof(packet.spec));
        packet.message = *message;
        memcpy(packet.spec, spec, spec_size);
        n = fd_send(socket_fd, &packet, sizeof(*message) + spec_size, fds, n_fds);
        return n < 0 ? (int)n : 0;
}

/* Whether so many bytes behind it are right for the message. */
static bool spec_size_fits(const KeeperMessage *message, size_t size) {
        return (size > 0) == (message->type == KEEPER_SPAWN && message->flags & KEEPER_SPAWN_INLINE);
}

static int packet_receive(int socket_fd, KeeperMessage *ret_message, size_t size, size_t *ret_spec_size,
                          int *ret_fds, size_t *ret_n_fds) {
        ssize_t n;

        memset(ret_message, 0, sizeof(*ret_message));
        *ret_spec_size = 0;
        n = fd_receive(socket_fd, ret_message, size, ret_fds, ret_n_fds);
        ret_message->text[KEEPER_TEXT_MAX - 1] = '\0';
        if (n == -EMSGSIZE)
                return keeper_message_type_known(ret_message->type) ? -EMFILE : -EPROTO;
        if (n < 0)
                return (int)n;
        if (n == 0)
                return 0;
        if ((size_t)n < sizeof(*ret_message) || !keeper_message_type_known(ret_message->type) ||
            !spec_size_fits(ret_message, (size_t)n - sizeof(*ret_message))) {
                while (*ret_n_fds > 0)
                        (void)fd_close(ret_fds[--*ret_n_fds]);
                return -EPROTO;
        }
        *ret_spec_size = (size_t)n - sizeof(*ret_message);
        return 1;
}

int keeper_packet_receive(int socket_fd, KeeperPacket *ret_packet, size_t *ret_spec_size, int *ret_fds,
                          size_t *ret_n_fds) {
        return packet_receive(socket_fd, &ret_packet->message, sizeof(*ret_packet), ret_spec_size, ret_fds,
                              ret_n_fds);
}

int keeper_message_receive(int socket_fd, KeeperMessage *ret_message, int *ret_fds, size_t *ret_n_fds) {
        size_t spec_size;

        return packet_receive(socket_fd, ret_message, sizeof(*ret_message), &spec_size, ret_fds, ret_n_fds);
}
