/* SPDX-License-Identifier: MIT */

/* A process that writes straight into our pipe: its end and its status are still the daemon's to tell. */

#include <pmux-read.h>
#include <pmux.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
        const char *const argv[] = { "sh", "-c", "echo straight; exit 3", NULL };
        const char *const env[] = { "PATH=/usr/bin:/bin", NULL };
        PmuxError error;
        Pmux *pmux;
        int fds[2];
        char text[64];
        ssize_t n;

        if (pipe(fds) < 0 || pmux_open(&pmux, NULL, &error) < 0)
                return 1;
        if (pmux_run_fds(pmux, argv, env, NULL, "straight", (int[]){ -1, fds[1], -1 }, NULL, &error) < 0)
                return fprintf(stderr, "%s\n", error.message), 1;
        close(fds[1]);
        while ((n = read(fds[0], text, sizeof(text))) > 0)
                fwrite(text, 1, (size_t)n, stdout);
        if (pmux_wait(pmux, "straight", "exited", PMUX_INFINITY, NULL, &error) == 0)
                printf("it has exited\n");
        pmux_close(pmux);
        return 0;
}
