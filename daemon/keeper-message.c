/* SPDX-License-Identifier: MIT */

#include "daemon/keeper-message.h"

#include <errno.h>

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

int keeper_message_receive(int socket_fd, KeeperMessage *ret_message, int *ret_fds, size_t *ret_n_fds) {
        ssize_t n;

        *ret_message = (KeeperMessage){};
        n = fd_receive(socket_fd, ret_message, sizeof(*ret_message), ret_fds, ret_n_fds);
        ret_message->text[KEEPER_TEXT_MAX - 1] = '\0';
        if (n == -EMSGSIZE)
                return keeper_message_type_known(ret_message->type) ? -EMFILE : -EPROTO;
        if (n < 0)
                return (int)n;
        if (n == 0)
                return 0;
        if (n != sizeof(*ret_message) || !keeper_message_type_known(ret_message->type)) {
                while (*ret_n_fds > 0)
                        (void)fd_close(ret_fds[--*ret_n_fds]);
                return -EPROTO;
        }
        return 1;
}
