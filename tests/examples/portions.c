/* SPDX-License-Identifier: MIT */

/* Lines, exactly n bytes, up to a pattern; and what an end before its time looks like. */

#include <errno.h>
#include <pmux-read.h>
#include <pmux.h>
#include <stdio.h>

#define WAIT_USEC 10000000

int main(void) {
        const char *const argv[] = { "printf", "one\\n0123456789status: 200 OK\\nrest", NULL };
        const char *const env[] = { "PATH=/usr/bin:/bin", NULL };
        PmuxError error = { .code = "" };
        uint64_t offset = 0;
        PmuxRead part;
        Pmux *pmux;

        if (pmux_open(&pmux, NULL, &error) < 0 ||
            pmux_run(pmux, argv, env, NULL, "writer", NULL, NULL, NULL, &error) < 0)
                return fprintf(stderr, "%s\n", error.message), 1;

        if (pmux_read_line(pmux, "writer", WAIT_USEC, &part, &error) == 0)
                printf("line: %s", part.data);
        pmux_read_deinit(&part);

        if (pmux_read_exactly(pmux, "writer", 10, WAIT_USEC, &part, &error) == 0)
                printf("ten bytes: %s\n", part.data);
        pmux_read_deinit(&part);

        if (pmux_read_pattern(pmux, "writer", "status: (\\d+)", WAIT_USEC, &part, &error) == 0)
                printf("status: %.3s\n", part.data + part.groups[1].from);
        pmux_read_deinit(&part);

        /* The place is kept by the daemon: another program would go on here. */
        if (pmux_cursor_get(pmux, "writer", "default", &offset, &error) == 0)
                printf("the cursor is at %llu\n", (unsigned long long)offset);

        if (pmux_read_exactly(pmux, "writer", 100, WAIT_USEC, &part, &error) == -ENODATA)
                printf("%s: %llu bytes are missing behind '%s'\n", error.code,
                       (unsigned long long)part.missing, part.data + part.size - 4);
        pmux_read_deinit(&part);
        pmux_close(pmux);
        return 0;
}
