/* SPDX-License-Identifier: MIT */

/* Two servers: whichever is ready first, then both, or a deadline that tells who is not. */

#include <errno.h>
#include <pmux-read.h>
#include <pmux.h>
#include <stdio.h>

int main(void) {
        const char *const first[] = { "sh", "-c", "echo starting; echo ready on port 80; exec sleep 1000",
                                      NULL };
        const char *const second[] = { "cat", NULL }, *const env[] = { "PATH=/usr/bin:/bin", NULL };
        const char *const both[] = { "first", "second", NULL };
        const PmuxCondition ready = { .size = sizeof(ready),
                                      .what = PMUX_UNTIL_PATTERN,
                                      .text = "ready on port (\\d+)" };
        PmuxError error;
        PmuxMet met;
        Pmux *pmux;

        if (pmux_open(&pmux, NULL, &error) < 0 ||
            pmux_run(pmux, first, env, NULL, "first", NULL, NULL, NULL, &error) < 0 ||
            pmux_run(pmux, second, env, NULL, "second", NULL, NULL, NULL, &error) < 0)
                return fprintf(stderr, "%s\n", error.message), 1;

        if (pmux_wait_for(pmux, both, &ready, 1, PMUX_WAIT_ANY, 10000000, &met, &error) == 0)
                printf("process %llu is ready, its port is %llu bytes long\n",
                       (unsigned long long)met.rows[0].id,
                       (unsigned long long)(met.rows[0].groups[1].to - met.rows[0].groups[1].from));
        pmux_met_deinit(&met);

        if (pmux_wait_for(pmux, both, &ready, 1, 0, 100000, &met, &error) == -ETIMEDOUT)
                printf("in time: %zu of them\n", met.n_rows);
        pmux_met_deinit(&met);

        pmux_write(pmux, "second", "ready on port 8080\n", 19, 0, NULL);
        if (pmux_wait_for(pmux, both, &ready, 1, 0, 10000000, &met, &error) == 0)
                printf("now %zu of them\n", met.n_rows);
        pmux_met_deinit(&met);
        pmux_stop(pmux, "first", 0, NULL, NULL);
        pmux_close(pmux);
        return 0;
}
