/* SPDX-License-Identifier: MIT */

#include "daemon/keeper/report.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define REPORT_LINE_MAX 1024 /* bytes; below PIPE_BUF, so that a line is written whole or not at all */

static size_t report_prefix(char *line, const char *priority) {
        struct tm tm;
        time_t now;
        char date[32];

        if (getenv("JOURNAL_STREAM"))
                return (size_t)snprintf(line, REPORT_LINE_MAX, "%s", priority);
        now = time(NULL);
        if (!localtime_r(&now, &tm) || strftime(date, sizeof(date), "%F %T", &tm) == 0)
                date[0] = '\0';
        return (size_t)snprintf(line, REPORT_LINE_MAX, "%s pmuxd[%d]: ", date, getpid());
}

void report(const char *priority, const char *format, ...) {
        struct pollfd pollfd = { .fd = STDERR_FILENO, .events = POLLOUT };
        char line[REPORT_LINE_MAX];
        int saved = errno;
        size_t n;
        va_list ap;
        int r;

        n = report_prefix(line, priority);
        va_start(ap, format);
        r = vsnprintf(line + n, sizeof(line) - n, format, ap);
        va_end(ap);
        if (r >= 0) {
                n = MIN(n + (size_t)r, sizeof(line) - 2);
                line[n++] = '\n';
                if (poll(&pollfd, 1, 0) == 1 && (pollfd.revents & POLLOUT))
                        (void)!write(STDERR_FILENO, line, n);
        }
        errno = saved;
}
