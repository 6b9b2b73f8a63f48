/* SPDX-License-Identifier: MIT */

/* Preloaded into a program, it moves the real time by as many microseconds as the file $CLOCK_SHIM holds (8
 * bytes, mapped: a change is seen at once). Spans (CLOCK_MONOTONIC) are left alone. */

#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset_usec;

__attribute__((constructor)) static void clock_shim_open(void) {
        const char *path = getenv("CLOCK_SHIM");
        void *map;
        int fd;

        fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (fd < 0)
                return;
        map = mmap(NULL, sizeof(*offset_usec), PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
        if (map != MAP_FAILED)
                offset_usec = map;
}

static void shift(struct timespec *time) {
        int64_t nsec =
                (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + (offset_usec ? *offset_usec * 1000 : 0);

        time->tv_sec = nsec / 1000000000;
        time->tv_nsec = nsec % 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
        static int (*real)(clockid_t, struct timespec *);
        int r;

        if (!real)
                real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
        r = real(clock, time);
        if (r == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
                shift(time);
        return r;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
        struct timespec now;
        int r;

        (void)zone;
        r = clock_gettime(CLOCK_REALTIME, &now);
        time->tv_sec = now.tv_sec;
        time->tv_usec = now.tv_nsec / 1000;
        return r;
}

time_t time(time_t *ret_time) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        if (ret_time)
                *ret_time = now.tv_sec;
        return now.tv_sec;
}
