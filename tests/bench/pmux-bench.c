/* SPDX-License-Identifier: MIT */

/* The least client of pmuxd, for the benchmark: blocking, one connection, nothing but docs/protocol.md.
 *
 *   pmux-bench SOCKET spawn N           N times: run /bin/true, until its exit record has come
 *   pmux-bench SOCKET echo N            a 32-byte line to a running cat and back
 *   pmux-bench SOCKET ask N             the same by `ask`, with its answer; ask-cursor: moving a cursor
 *   pmux-bench SOCKET many N ARGV...    start N processes and leave them
 *
 * Latencies are printed as one nanosecond count per line. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/protocol.h"

#define NO_LIMIT "9223372036854775807"
#define MANY_IN_FLIGHT 64
#define TEXT_MAX 8192

typedef struct Connection {
        int fd;
        size_t size; /* bytes in 'buffer' */
        size_t used; /* of those, already handled */
        uint8_t buffer[256 * 1024];
} Connection;

typedef struct Frame {
        FrameHeader header;
        const uint8_t *payload; /* borrowed, until the next frame is read */
} Frame;

static Connection connection;

static void die(const char *what) {
        (void)fprintf(stderr, "pmux-bench: %s: %s\n", what, strerror(errno));
        exit(1);
}

static int64_t now_nsec(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void send_bytes(const void *data, size_t size) {
        const char *p = data;

        while (size > 0) {
                ssize_t n = send(connection.fd, p, size, MSG_NOSIGNAL);

                if (n < 0)
                        die("send");
                p += n;
                size -= (size_t)n;
        }
}

static void send_frame(FrameType type, uint32_t stream, const void *payload, size_t size) {
        uint8_t bytes[FRAME_HEADER_SIZE + TEXT_MAX];
        FrameHeader header = { .size = (uint32_t)size, .type = (uint8_t)type, .stream = stream };

        if (size > TEXT_MAX)
                die("a frame this large is not needed");
        frame_header_encode(bytes, &header);
        memcpy(bytes + FRAME_HEADER_SIZE, payload, size);
        send_bytes(bytes, FRAME_HEADER_SIZE + size);
}

/* Reads until 'size' bytes that were not handled yet are in the buffer. */
static const uint8_t *need(size_t size) {
        if (size > sizeof(connection.buffer))
                die("a frame is too large for this client");
        if (sizeof(connection.buffer) - connection.used < size) {
                connection.size -= connection.used;
                memmove(connection.buffer, connection.buffer + connection.used, connection.size);
                connection.used = 0;
        }
        while (connection.size - connection.used < size) {
                ssize_t n = recv(connection.fd, connection.buffer + connection.size,
                                 sizeof(connection.buffer) - connection.size, 0);

                if (n == 0)
                        errno = ECONNRESET;
                if (n <= 0)
                        die("recv");
                connection.size += (size_t)n;
        }
        return connection.buffer + connection.used;
}

/* Whether it is an error answer; a notification may carry an error as well. */
static bool is_refusal(const Frame *frame) {
        return frame->header.type == FRAME_CONTROL &&
               memmem(frame->payload, frame->header.size, "\"error\":", 8) &&
               !memmem(frame->payload, frame->header.size, "\"method\":", 9);
}

static Frame next_frame(void) {
        Error error = {};
        Frame frame;

        if (frame_header_decode(&frame.header, need(FRAME_HEADER_SIZE), true, &error) < 0) {
                (void)fprintf(stderr, "pmux-bench: %s\n", error.text);
                exit(1);
        }
        frame.payload = need(FRAME_HEADER_SIZE + frame.header.size) + FRAME_HEADER_SIZE;
        connection.used += FRAME_HEADER_SIZE + frame.header.size;
        if (frame.header.type == FRAME_GOODBYE || is_refusal(&frame)) {
                (void)fprintf(stderr, "pmux-bench: %.*s\n", (int)frame.header.size, frame.payload);
                exit(1);
        }
        return frame;
}

/* The next record of the stream and what follows its header; what comes in between is passed over. */
static RecordHeader next_record(uint32_t stream, const uint8_t **ret_bytes, size_t *ret_size) {
        Error error = {};
        RecordHeader record;
        Frame frame;

        do
                frame = next_frame();
        while (frame.header.type != FRAME_DATA || frame.header.stream != stream);
        if (record_header_decode(&record, frame.payload, &error) < 0) {
                (void)fprintf(stderr, "pmux-bench: %s\n", error.text);
                exit(1);
        }
        *ret_bytes = frame.payload + RECORD_HEADER_SIZE;
        *ret_size = frame.header.size - RECORD_HEADER_SIZE;
        return record;
}

static void wait_for_record(uint32_t stream, RecordKind kind) {
        const uint8_t *bytes;
        size_t size;

        while (next_record(stream, &bytes, &size).kind != kind)
                ;
        /* A start counts only if its end is the right one. */
        if (kind == RECORD_EXIT && (size != 8 || le64_get(bytes) != 0)) {
                (void)fprintf(stderr, "pmux-bench: a child did not exit with 0\n");
                exit(1);
        }
}

static void wait_for_reply(void) {
        while (next_frame().header.type != FRAME_CONTROL)
                ;
}

static void request(unsigned id, const char *method, const char *params) {
        char text[TEXT_MAX];
        int n;

        n = snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"%s\",\"params\":{%s}}",
                     id, method, params);
        send_frame(FRAME_CONTROL, 0, text, (size_t)n);
}

static void connect_to(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        uint8_t hello[FRAME_HELLO_CLIENT_SIZE] = {};

        if (strlen(path) >= sizeof(address.sun_path))
                die("the socket's path is too long");
        strcpy(address.sun_path, path);
        connection.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connection.fd < 0 || connect(connection.fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                die(path);
        memcpy(hello, PROTOCOL_MAGIC, 4);
        le16_put(hello + 4, PROTOCOL_VERSION);
        le16_put(hello + 6, PROTOCOL_VERSION);
        send_frame(FRAME_HELLO, 0, hello, sizeof(hello));
        if (next_frame().header.type != FRAME_HELLO)
                die("no greeting");
}

static void spawn(unsigned n) {
        char params[TEXT_MAX];

        for (unsigned i = 1; i <= n; i++) {
                int64_t start = now_nsec();

                (void)snprintf(
                        params, sizeof(params),
                        "\"argv\":[\"/bin/true\"],\"subscribe\":{\"stream\":%u,\"credit\":" NO_LIMIT "}", i);
                request(i, "run", params);
                wait_for_record(i, RECORD_EXIT);
                printf("%lld\n", (long long)(now_nsec() - start));
                wait_for_record(i, RECORD_END);
        }
}

/* Begins a cat; what it writes comes on stream 1, if 'more' asks for that. */
static void run_cat(const char *more, char ret_id[static 32]) {
        char params[TEXT_MAX];
        Frame frame;
        const char *at;

        (void)snprintf(params, sizeof(params), "\"argv\":[\"/bin/cat\"]%s", more);
        request(1, "run", params);
        do
                frame = next_frame();
        while (frame.header.type != FRAME_CONTROL);
        at = memmem(frame.payload, frame.header.size, "\"result\":", 9);
        at = at ? memmem(at, frame.header.size - (size_t)(at - (const char *)frame.payload), "\"id\":", 5)
                : NULL;
        if (!at || sscanf(at + 5, " %31[0-9]", ret_id) != 1)
                die("no id in the reply");
}

static void echo(unsigned n) {
        char params[TEXT_MAX], id[32] = {};
        uint8_t input[INPUT_HEADER_SIZE + 32];
        const uint8_t *bytes;

        run_cat(",\"subscribe\":{\"stream\":1,\"credit\":" NO_LIMIT "}", id);
        (void)snprintf(params, sizeof(params), "\"target\":%s,\"stream\":2", id);
        request(2, "open-stdin", params);
        wait_for_reply();

        memset(input + INPUT_HEADER_SIZE, 'a', 31);
        input[sizeof(input) - 1] = '\n';
        for (unsigned i = 0; i < n; i++) {
                int64_t start = now_nsec();

                le64_put(input, UINT64_C(32) * i);
                send_frame(FRAME_INPUT, 2, input, sizeof(input));
                for (size_t got = 0, size = 0; got < 32;)
                        if (next_record(1, &bytes, &size).kind == RECORD_DATA)
                                got += size;
                printf("%lld\n", (long long)(now_nsec() - start));
        }
        (void)snprintf(params, sizeof(params), "\"target\":%s", id);
        request(3, "close-stdin", params);
        wait_for_record(1, RECORD_END);
}

static void ask(unsigned n, bool moves_cursor) {
        static const char line[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\\n"; /* 32 bytes to the cat */
        char params[TEXT_MAX], id[32] = {};
        Frame frame;

        run_cat("", id);
        (void)snprintf(params, sizeof(params), "\"target\":%s,\"for\":\"line\",\"data\":\"%s\"%s", id, line,
                       moves_cursor ? "" : ",\"cursor\":null");
        for (unsigned i = 0; i < n; i++) {
                int64_t start = now_nsec();

                request(i + 2, "ask", params);
                do
                        frame = next_frame();
                while (frame.header.type != FRAME_CONTROL);
                if (!memmem(frame.payload, frame.header.size, line, sizeof(line) - 1))
                        die("not the answer");
                printf("%lld\n", (long long)(now_nsec() - start));
        }
}

static void many(unsigned n, char **argv) {
        char params[TEXT_MAX];
        size_t used;

        used = (size_t)snprintf(params, sizeof(params), "\"argv\":[");
        for (; *argv && used < sizeof(params); argv++)
                used += (size_t)snprintf(params + used, sizeof(params) - used, "\"%s\"%s", *argv,
                                         argv[1] ? "," : "]");
        if (used >= sizeof(params))
                die("arguments this long are not needed");
        for (unsigned sent = 0, answered = 0; answered < n;)
                if (sent < n && sent - answered < MANY_IN_FLIGHT) {
                        request(++sent, "run", params);
                } else {
                        wait_for_reply();
                        answered++;
                }
}

int main(int argc, char **argv) {
        unsigned n = argc >= 4 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;

        if (n == 0) {
                (void)fprintf(stderr, "pmux-bench SOCKET spawn|echo|ask|ask-cursor|many N [ARGV...]\n");
                return 2;
        }
        connect_to(argv[1]);
        if (strcmp(argv[2], "spawn") == 0)
                spawn(n);
        else if (strcmp(argv[2], "echo") == 0)
                echo(n);
        else if (strcmp(argv[2], "ask") == 0 || strcmp(argv[2], "ask-cursor") == 0)
                ask(n, argv[2][3] == '-');
        else if (strcmp(argv[2], "many") == 0 && argc >= 5)
                many(n, argv + 4);
        else
                die(argv[2]);
        return 0;
}
