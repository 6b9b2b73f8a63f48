/* SPDX-License-Identifier: MIT */

#include "daemon/keeper/systemd.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>

#include "daemon/keeper/report.h"

/* A function of libsystemd; NULL when it is not installed, which is said once. */
static void *systemd_function(const char *name) {
        static void *library; /* shared; as long as we live */
        static int is_missing;

        if (!library && !is_missing) {
                library = dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL);
                is_missing = !library;
                if (is_missing)
                        report(SD_WARNING, "cannot talk to systemd: %s", dlerror());
        }
        return library ? dlsym(library, name) : NULL;
}

void systemd_notify(const char *state) {
        int (*notify)(int unset_environment, const char *state);

        if (!getenv("NOTIFY_SOCKET"))
                return;
        *(void **)&notify = systemd_function("sd_notify");
        if (notify)
                (void)notify(0, state);
}

uint64_t systemd_watchdog_usec(void) {
        int (*enabled)(int unset_environment, uint64_t *ret_usec);
        uint64_t usec = 0;

        if (!getenv("WATCHDOG_USEC"))
                return 0;
        *(void **)&enabled = systemd_function("sd_watchdog_enabled");
        return enabled && enabled(0, &usec) > 0 ? usec : 0;
}

int systemd_listen_fds(void) {
        int (*listen_fds)(int unset_environment);

        if (!getenv("LISTEN_FDS"))
                return 0;
        *(void **)&listen_fds = systemd_function("sd_listen_fds");
        return listen_fds ? listen_fds(1) : -ENOSYS;
}
