/* SPDX-License-Identifier: MIT */

#include "client/cli/signals.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/macro.h"

static const int forwarded[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };

int signals_open(int *ret_fd) {
        struct sigaction action;
        sigset_t set;
        int fd;

        (void)sigemptyset(&set);
        for (size_t i = 0; i < ARRAY_SIZE(forwarded); i++)
                if (sigaction(forwarded[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
                        (void)sigaddset(&set, forwarded[i]);
        fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fd < 0)
                return -errno;
        (void)sigprocmask(SIG_BLOCK, &set, NULL);
        *ret_fd = fd;
        return 0;
}

int signals_next(int fd) {
        struct signalfd_siginfo info;

        return read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info) ? (int)info.ssi_signo : 0;
}
