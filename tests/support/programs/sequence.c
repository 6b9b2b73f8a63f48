/* SPDX-License-Identifier: MIT */

/* sequence [-o BYTES|inf] [-e BYTES|inf] [-b BEGIN] [-s SEED] [-c CHUNK] [-x CODE] [-p FILE]: write known
 * sequences to stdout (seed SEED) and stderr (seed SEED + 1) at full speed, then exit with CODE. Two threads,
 * one a stream. "inf" ends at SIGUSR1 after the chunk under way. With -p the totals "OUT ERR\n" are left in
 * FILE at the end. */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 4096

typedef struct Stream {
        int fd;
        uint32_t seed;
        uint64_t size; /* UINT64_MAX: until told to end */
        uint64_t written;
        size_t chunk;
} Stream;

static volatile sig_atomic_t ending;

static void on_signal(int number) {
        (void)number;
        ending = 1;
}

static void fill(unsigned char *block, uint32_t seed) {
        uint32_t x = seed;
        char prefix[16];

        snprintf(prefix, sizeof(prefix), "SEQ%05u", seed % 100000);
        memcpy(block, prefix, 8);
        for (int i = 16; i < BLOCK; i++) {
                x = x * 1664525u + 1013904223u;
                block[i] = (unsigned char)(x >> 24);
        }
}

static void *stream_write(void *arg) {
        Stream *stream = arg;
        size_t n_blocks = (stream->chunk + BLOCK - 1) / BLOCK + 1;
        unsigned char *buffer = malloc(n_blocks * BLOCK);

        for (size_t i = 0; i < n_blocks; i++)
                fill(buffer + i * BLOCK, stream->seed);
        while (stream->written < stream->size && !(stream->size == UINT64_MAX && ending)) {
                uint64_t number = stream->written / BLOCK;
                size_t skip = stream->written % BLOCK, size = stream->chunk, done = 0;

                if (size > stream->size - stream->written)
                        size = (size_t)(stream->size - stream->written);
                for (size_t i = 0; i < n_blocks; i++) {
                        uint64_t n = number + i;

                        memcpy(buffer + i * BLOCK + 8, &n, 8);
                }
                while (done < size) {
                        ssize_t n = write(stream->fd, buffer + skip + done, size - done);

                        if (n < 0 && errno == EINTR)
                                continue;
                        if (n < 0) {
                                fprintf(stderr, "sequence: write to %d: %s\n", stream->fd, strerror(errno));
                                _exit(99);
                        }
                        done += (size_t)n;
                }
                stream->written += size;
        }
        free(buffer);
        return NULL;
}

static uint64_t parse_size(const char *text) {
        return strcmp(text, "inf") == 0 ? UINT64_MAX : strtoull(text, NULL, 10);
}

int main(int argc, char **argv) {
        Stream out = { .fd = 1, .chunk = 65536 }, err = { .fd = 2, .chunk = 65536 };
        uint32_t seed = 1;
        int option, code = 0;
        const char *path = NULL;
        FILE *file;
        pthread_t thread;

        while ((option = getopt(argc, argv, "o:e:b:s:c:x:p:")) >= 0)
                switch (option) {
                case 'o':
                        out.size = parse_size(optarg);
                        break;
                case 'e':
                        err.size = parse_size(optarg);
                        break;
                case 'b':
                        out.written = err.written = strtoull(optarg, NULL, 10);
                        break;
                case 's':
                        seed = (uint32_t)strtoul(optarg, NULL, 10);
                        break;
                case 'c':
                        out.chunk = err.chunk = strtoul(optarg, NULL, 10);
                        break;
                case 'x':
                        code = atoi(optarg);
                        break;
                case 'p':
                        path = optarg;
                        break;
                default:
                        return 98;
                }
        signal(SIGUSR1, on_signal);
        out.seed = seed;
        err.seed = seed + 1;
        if (err.size > 0 && out.size > 0) {
                if (pthread_create(&thread, NULL, stream_write, &err) != 0)
                        return 97;
                stream_write(&out);
                pthread_join(thread, NULL);
        } else {
                stream_write(&out);
                stream_write(&err);
        }
        if (path) {
                file = fopen(path, "w");
                if (!file)
                        return 96;
                fprintf(file, "%llu %llu\n", (unsigned long long)out.written,
                        (unsigned long long)err.written);
                if (fclose(file) != 0)
                        return 96;
        }
        return code;
}
