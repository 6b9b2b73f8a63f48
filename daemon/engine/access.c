/* SPDX-License-Identifier: MIT */

#include "daemon/engine/access.h"

#include <errno.h>
#include <unistd.h>

int access_check(int socket_fd, struct ucred *ret_cred, Error *reterr_error) {
        socklen_t size = sizeof(*ret_cred);

        if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, ret_cred, &size) < 0)
                return error_set_errno(reterr_error, errno, "cannot tell who connects");
        if (ret_cred->uid != 0 && ret_cred->uid != geteuid())
                return error_set(reterr_error, ERROR_DENIED, "user %u may not talk to the daemon of user %u",
                                 ret_cred->uid, geteuid());
        return 0;
}
