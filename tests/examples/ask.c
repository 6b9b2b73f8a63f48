/* SPDX-License-Identifier: MIT */

/* A dialogue with bc: each question is answered by one line. */

#include <pmux-read.h>
#include <pmux.h>
#include <stdio.h>
#include <string.h>

int main(void) {
        const char *const argv[] = { "bc", "-q", NULL }, *const env[] = { "PATH=/usr/bin:/bin", NULL };
        const PmuxReadOptions line = { .size = sizeof(line),
                                       .what = PMUX_FOR_LINE,
                                       .timeout_usec = 10000000 };
        const char *const questions[] = { "6 * 7\n", "2 ^ 100\n" };
        PmuxError error;
        PmuxRead answer;
        Pmux *pmux;
        int i, r;

        r = pmux_open(&pmux, NULL, &error);
        if (r == 0)
                r = pmux_run(pmux, argv, env, NULL, "calculator", NULL, NULL, NULL, &error);
        for (i = 0; r == 0 && i < 2; i++) {
                r = pmux_ask(pmux, "calculator", questions[i], strlen(questions[i]), &line, &answer, &error);
                if (r == 0)
                        printf("%s", answer.data);
                pmux_read_deinit(&answer);
        }
        if (r < 0) {
                fprintf(stderr, "%s: %s\n", error.code, error.message);
                return 1;
        }
        pmux_stop(pmux, "calculator", PMUX_INFINITY, NULL, NULL);
        pmux_close(pmux);
        return 0;
}
