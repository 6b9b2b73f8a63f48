/* SPDX-License-Identifier: MIT */

/* What a client sends, to the whole engine. The first byte of an input says how it is sent:
 *
 *     bits 0 and 1  in how large pieces      bit 2  all of it raw, else line by line as below
 *     bit 3         the client reads nothing until the end      bit 4  (raw) without a HELLO before it
 *
 * Lines: "METHOD PARAMS" is a request; "{…" a CONTROL frame as it is; "i STREAM POSITION FLAGS BYTES" an
 * INPUT frame; "c STREAM LIMIT" CREDIT; "!w" the keeper answers for programs that are late; "!e" every
 * program ends; "!k" the engine is replaced; "!t" some turns without reading. */

#include "tests/fuzz/fuzz-target.h"
#include "tests/support/engine-fixture.h"

#define FORGET_EVERY 32 /* inputs; a growing list of events makes all slow */
#define GROWTHS_MAX 4   /* so often may there be more descriptors than before */

static FixtureClient client;

/* Says what is open, for when it is more than before. */
static void print_fds(void) {
        char path[64], target[256];
        ssize_t n;

        for (int fd = 0; fd < 1024; fd++) {
                (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
                n = readlink(path, target, sizeof(target));
                if (n > 0)
                        (void)fprintf(stderr, "%d -> %.*s\n", fd, (int)n, target);
        }
}

static int count_fds(void) {
        int n = 0;

        for (int fd = 0; fd < 1024; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void set_up(void) {
        static bool done;

        if (done)
                return;
        done = true;
        fixture_open();
        (void)atexit(fixture_close);
}

/* Sends bytes in pieces, with a turn after each. */
static void feed(const uint8_t *bytes, size_t size, unsigned how) {
        static const size_t pieces[] = { 4096, 509, 61, 13 };
        size_t piece = pieces[how & 3];

        for (size_t at = 0; at < size; at += piece) {
                fixture_send(&client, bytes + at, MIN(piece, size - at));
                (void)fixture_turn();
                if (!(how & 8))
                        (void)fixture_read(&client);
        }
}

static void feed_frame(FrameType type, uint8_t flags, uint32_t stream, const void *payload, size_t size,
                       unsigned how) {
        FrameHeader header = { .size = (uint32_t)size, .type = type, .flags = flags, .stream = stream };
        uint8_t *bytes = malloc(FRAME_HEADER_SIZE + size);

        assert(bytes);
        frame_header_encode(bytes, &header);
        memcpy(bytes + FRAME_HEADER_SIZE, payload, size);
        feed(bytes, FRAME_HEADER_SIZE + size, how);
        free(bytes);
}

static void feed_input(const char *line, size_t size, unsigned how) {
        uint8_t payload[4096];
        char *end = (char *)line + 1;
        uint32_t stream = (uint32_t)strtoull(end, &end, 10);
        uint64_t position = strtoull(end, &end, 10);
        uint8_t flags = (uint8_t)strtoull(end, &end, 10);
        size_t n;

        if (*end == ' ')
                end++;
        n = MIN(size - (size_t)(end - line), sizeof(payload) - 8);
        le64_put(payload, position);
        memcpy(payload + 8, end, n);
        feed_frame(FRAME_INPUT, flags, stream, payload, n + 8, how);
}

static void feed_credit(const char *line, unsigned how) {
        uint8_t payload[8];
        char *end = (char *)line + 1;
        uint32_t stream = (uint32_t)strtoull(end, &end, 10);

        le64_put(payload, strtoull(end, &end, 10));
        feed_frame(FRAME_CREDIT, 0, stream, payload, sizeof(payload), how);
}

static void feed_request(const char *line, size_t size, unsigned how) {
        const char *space = memchr(line, ' ', size);
        size_t n_method = space ? (size_t)(space - line) : size, n_params = space ? size - n_method - 1 : 0;
        char *text;
        int n;

        n = asprintf(&text, "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"%.*s\",\"params\":%.*s}",
                     ++client.next_id, (int)n_method, line, (int)(n_params ? n_params : 4),
                     n_params ? space + 1 : "null");
        assert(n > 0);
        feed_frame(FRAME_CONTROL, 0, 0, text, (size_t)n, how);
        free(text);
}

static void reconnect(void) {
        fixture_disconnect(&client);
        fixture_connect(&client);
        fixture_hello(&client);
}

static void command(char what, unsigned how) {
        fixture_settle(how & 8 ? NULL : &client);
        switch (what) {
        case 'w':
                fake_keeper_wake();
                break;
        case 'e':
                fake_keeper_end_all();
                break;
        case 'k':
                fixture_restart();
                reconnect();
                break;
        case 'r':
                reconnect();
                break;
        default:
                break;
        }
        fixture_settle(how & 8 ? NULL : &client);
}

static void feed_line(const char *line, size_t size, unsigned how) {
        if (size == 0)
                return;
        if (line[0] == '{')
                feed_frame(FRAME_CONTROL, 0, 0, line, size, how);
        else if (line[0] == 'i' && size > 1 && line[1] == ' ')
                feed_input(line, size, how);
        else if (line[0] == 'c' && size > 1 && line[1] == ' ')
                feed_credit(line, how);
        else if (line[0] == '!')
                command(size > 1 ? line[1] : 't', how);
        else
                feed_request(line, size, how);
}

static void feed_lines(char *text, size_t size, unsigned how) {
        char *line = text, *end;

        while (line < text + size) {
                end = memchr(line, '\n', size - (size_t)(line - text));
                if (!end)
                        end = text + size;
                *end = '\0';
                feed_line(line, (size_t)(end - line), how);
                line = end + 1;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static unsigned n_inputs;
        static int n_fds, n_grown;
        unsigned how = size > 0 ? data[0] : 0;
        char *text;

        set_up();
        fixture_connect(&client);
        assert(client.fd >= 0);
        if (!(how & 4 && how & 16))
                fixture_hello(&client);
        if (size > 1 && how & 4)
                feed(data + 1, size - 1, how);
        else if (size > 1) {
                text = fuzz_string(data + 1, size - 1);
                feed_lines(text, size - 1, how);
                free(text);
        }
        fixture_settle(&client);
        fixture_disconnect(&client);
        fixture_clean();
        if (++n_inputs % FORGET_EVERY == 0) {
                fixture_forget();
                fixture_settle(NULL);
                /* the sanitizer opens two pipes to its symbolizer when it first needs it; a leak goes on
                 * growing */
                if (n_fds != 0 && count_fds() > n_fds && ++n_grown >= GROWTHS_MAX) {
                        print_fds();
                        assert(n_grown < GROWTHS_MAX);
                }
                n_fds = count_fds();
        }
        return 0;
}
