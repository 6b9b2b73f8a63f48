/* SPDX-License-Identifier: MIT */
#pragma once

/* The whole engine in one process, turn by turn: its keeper, the programs and their trees are made up
 * (engine-keeper.h), a client is one end of a socket pair. Included by one source of a program. */

#include <ftw.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/keeper-message.h"
#include "tests/support/engine-keeper.h"

/* The real composition root, but with our end of the link. */
#undef KEEPER_ENGINE_FD
#define KEEPER_ENGINE_FD fake_keeper.engine_fd
#include "daemon/engine/engine.c"

#define FIXTURE_IDLE_TURNS 3
#define FIXTURE_TURNS_MAX 400
#define FIXTURE_IDS 4096                /* requests of one client */
#define FIXTURE_ID UINT32_C(0x40000000) /* the first, such as no fuzzer comes upon */

/* The peer of one connection. */
typedef struct FixtureClient {
        int fd;      /* owned; -1: closed */
        uint8_t *in; /* owned; what was read and is not a whole frame yet */
        size_t n_in;
        bool eof;
        uint32_t next_id;
        uint8_t answered[FIXTURE_IDS]; /* requests by id: 1 once the answer has come */
        json_t *last;                  /* owned; the last CONTROL frame */
        uint64_t n_data;               /* bytes of kind data that came */
        uint64_t ack_limit;            /* that the last ACK told */
        void (*on_frame)(const FrameHeader *header, const uint8_t *payload); /* NULL: nobody looks */
} FixtureClient;

static Engine engine;
static char fixture_dir[64];

/* Programs are not to open what an input names, but for what is in the scratch directory: only
 * process-start.c opens with O_NOCTTY. */
int open(const char *path, int flags, ...);
int open(const char *path, int flags, ...) {
        mode_t mode = 0;
        va_list ap;

        if (flags & O_CREAT) {
                va_start(ap, flags);
                mode = va_arg(ap, mode_t);
                va_end(ap);
        }
        if (flags & O_NOCTTY && strcmp(path, "/dev/null") != 0 &&
            (strncmp(path, fixture_dir, strlen(fixture_dir)) != 0 || strstr(path, ".."))) {
                errno = EACCES;
                return -1;
        }
        return openat(AT_FDCWD, path, flags, mode);
}

static void fixture_start(void) {
        Error error = {};
        int r;

        fake_keeper_hand_over();
        engine = (Engine){};
        r = engine_start(&engine, "/socket", fixture_dir, &error);
        if (r < 0)
                (void)fprintf(stderr, "%s\n", error.text);
        assert(r >= 0);
}

/* The engine itself leaves this to the kernel. Nothing that follows from it is told to anyone. */
static void fixture_free_engine(void) {
        engine.quit = true;
        client_set_deinit(&engine.clients);
        for (size_t i = 0; i < LISTENERS_MAX; i++)
                (void)listener_free(engine.listeners[i]);
        supervisor_deinit(&engine.supervisor);
        reader_set_deinit(&engine.requests.readers);
        (void)tree_root_free(engine.tree_root);
        (void)keeper_link_free(engine.link);
        event_free(engine.chores);
        event_free(engine.rest);
        event_base_free(engine.base);
}

/* No program is late for the next engine: the real keeper knows of all that it was asked for. */
static void fixture_end_engine(void) {
        fake_keeper_receive();
        fake_keeper_wake();
        fixture_free_engine();
        fake_keeper_receive();
        fake_keeper.keeper_fd = fd_close(fake_keeper.keeper_fd);
}

/* The engine ends, and another takes over what the keeper holds. */
static void fixture_restart(void) {
        fixture_end_engine();
        fixture_start();
}

/* A registry without a past: ids begin at 1 again, and no event is left. Not while there are processes. */
static inline void fixture_forget(void) {
        static const char *const names[] = { "registry.db", "registry.db-wal", "registry.db-shm" };
        char path[128];

        fixture_end_engine();
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                (void)snprintf(path, sizeof(path), "%s/%s", fixture_dir, names[i]);
                (void)unlink(path);
        }
        fixture_start();
}

static inline int fixture_unlink(const char *path, const struct stat *st, int type, struct FTW *at) {
        (void)st;
        (void)type;
        (void)at;
        return remove(path);
}

static void fixture_open(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd, r;

        (void)signal(SIGPIPE, SIG_IGN);
        (void)snprintf(fixture_dir, sizeof(fixture_dir), "%s/pmux-engine-XXXXXX",
                       access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        assert(mkdtemp(fixture_dir));
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", fixture_dir);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert(fd >= 0);
        r = bind(fd, (struct sockaddr *)&address, sizeof(address));
        assert(r == 0);
        r = listen(fd, 1);
        assert(r == 0);
        fake_bag_put(KEEPER_LABEL_LISTENER, 0, 0, fd);
        fixture_start();
}

static void fixture_close(void) {
        fixture_free_engine();
        fake_keeper_free();
        (void)nftw(fixture_dir, fixture_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

static void fixture_connect(FixtureClient *client) {
        int fds[2], r;
        Error error = {};
        Client *theirs;

        *client = (FixtureClient){ .fd = -1, .next_id = FIXTURE_ID };
        r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds);
        assert(r == 0);
        r = client_new(&theirs, &engine.clients, fds[1], &error);
        if (r < 0) {
                (void)fd_close(fds[0]);
                (void)fd_close(fds[1]);
                return;
        }
        client->fd = fds[0];
}

static void fixture_control(FixtureClient *client, const uint8_t *payload, size_t size) {
        json_error_t error;
        json_t *id;

        json_decref(client->last);
        client->last = json_loadb((const char *)payload, size, JSON_ALLOW_NUL, &error);
        if (!json_is_object(client->last))
                (void)fprintf(stderr, "not an object: '%.*s': %s\n", (int)size, (const char *)payload,
                              error.text);
        assert(json_is_object(client->last));
        assert(json_is_string(json_object_get(client->last, "jsonrpc")));
        id = json_object_get(client->last, "id");
        if (!id) {
                assert(json_is_string(json_object_get(client->last, "method")));
                return;
        }
        assert(!json_object_get(client->last, "result") != !json_object_get(client->last, "error"));
        if (json_is_integer(id) && json_integer_value(id) >= FIXTURE_ID &&
            json_integer_value(id) < FIXTURE_ID + FIXTURE_IDS)
                client->answered[json_integer_value(id) - FIXTURE_ID]++;
}

static void fixture_frame(FixtureClient *client, const FrameHeader *header, const uint8_t *payload) {
        RecordHeader record;
        Error error = {};
        int r;

        if (header->type == FRAME_CONTROL)
                fixture_control(client, payload, header->size);
        if (header->type == FRAME_ACK)
                client->ack_limit = le64_get(payload + 16);
        if (header->type == FRAME_DATA) {
                assert(header->stream != 0 && header->size > RECORD_HEADER_SIZE);
                r = record_header_decode(&record, payload, &error);
                assert(r == 0);
                if (record.kind == RECORD_DATA)
                        client->n_data += header->size - RECORD_HEADER_SIZE;
                else
                        assert(header->size == RECORD_HEADER_SIZE + 8);
        }
        if (client->on_frame)
                client->on_frame(header, payload);
}

/* Reads what the engine has sent; every frame must be whole and well-formed. Return: whether anything came.
 */
static bool fixture_read(FixtureClient *client) {
        static uint8_t bytes[256 * 1024];
        FrameHeader header;
        size_t used = 0;
        ssize_t n;
        int r;

        if (client->fd < 0 || client->eof)
                return false;
        n = read(client->fd, bytes, sizeof(bytes));
        if (n <= 0) {
                client->eof = n == 0 || errno == ECONNRESET;
                return client->eof;
        }
        client->in = realloc(client->in, client->n_in + (size_t)n);
        assert(client->in);
        memcpy(client->in + client->n_in, bytes, (size_t)n);
        client->n_in += (size_t)n;
        while (client->n_in - used >= FRAME_HEADER_SIZE) {
                Error error = {};

                r = frame_header_decode(&header, client->in + used, true, &error);
                assert(r == 0);
                if (client->n_in - used < FRAME_HEADER_SIZE + header.size)
                        break;
                fixture_frame(client, &header, client->in + used + FRAME_HEADER_SIZE);
                used += FRAME_HEADER_SIZE + header.size;
        }
        client->n_in -= used;
        memmove(client->in, client->in + used, client->n_in);
        return true;
}

/* One turn of the engine, and one of its keeper. Return: whether anything happened. */
static bool fixture_turn(void) {
        bool busy;

        (void)event_base_loop(engine.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        busy = engine_finish_turn(&engine);
        return fake_keeper_turn() || busy;
}

/* Turns until nothing happens any more; what is sent is read from 'client', unless it is NULL. */
static void fixture_settle(FixtureClient *client) {
        unsigned idle = 0;

        for (unsigned i = 0; i < FIXTURE_TURNS_MAX && idle < FIXTURE_IDLE_TURNS; i++) {
                bool busy = fixture_turn();

                if (client && fixture_read(client))
                        busy = true;
                idle = busy ? 0 : idle + 1;
        }
}

static void fixture_send(FixtureClient *client, const void *bytes, size_t size) {
        if (client->fd >= 0 && size > 0)
                (void)!send(client->fd, bytes, size, MSG_NOSIGNAL);
}

static inline void fixture_send_frame(FixtureClient *client, FrameType type, uint8_t flags, uint32_t stream,
                                      const void *payload, size_t size) {
        FrameHeader header = { .size = (uint32_t)size, .type = type, .flags = flags, .stream = stream };
        uint8_t bytes[FRAME_HEADER_SIZE];

        frame_header_encode(bytes, &header);
        fixture_send(client, bytes, sizeof(bytes));
        fixture_send(client, payload, size);
}

static inline void fixture_hello(FixtureClient *client) {
        static const uint8_t hello[FRAME_HELLO_CLIENT_SIZE] = { 'P', 'M', 'U', 'X', 1, 0, 1, 0 };

        fixture_send_frame(client, FRAME_HELLO, 0, 0, hello, sizeof(hello));
}

/* Sends a request, 'params' being JSON. Return: its id. */
static inline uint32_t fixture_request(FixtureClient *client, const char *method, const char *params) {
        char *text;
        int n;

        n = asprintf(&text, "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"%s\",\"params\":%s}",
                     ++client->next_id, method, params);
        assert(n > 0);
        fixture_send_frame(client, FRAME_CONTROL, 0, 0, text, (size_t)n);
        free(text);
        return client->next_id;
}

static void fixture_disconnect(FixtureClient *client) {
        client->fd = fd_close(client->fd);
        free(client->in);
        json_decref(client->last);
        client->in = NULL;
        client->last = NULL;
        for (size_t i = 0; i < FIXTURE_IDS; i++)
                assert(client->answered[i] <= 1);
}

/* Whether every run has ended, as far as it can. */
static bool fixture_is_over(void) {
        LIST_FOREACH(Process, process, &engine.supervisor.processes, link)
                if (process_is_alive(process) ||
                    !(process_is_over(process) || process->waits_for_reader || process->waits_for_disk))
                        return false;
        return true;
}

/* Ends every program and removes every process; none may have been lost on the way. */
static void fixture_clean(void) {
        uint64_t begin = clock_monotonic_usec();

        fixture_settle(NULL);
        fake_keeper_end_all();
        do /* output that flows is moved when its time has come */
                fixture_settle(NULL);
        while (!fixture_is_over() && clock_monotonic_usec() - begin < 10 * USEC_PER_SEC);
        LIST_FOREACH(Process, process, &engine.supervisor.processes, link) {
                assert(!process_is_alive(process));
                assert(process_is_over(process) || process->waits_for_reader || process->waits_for_disk);
                supervisor_remove(&engine.supervisor, process);
        }
        fixture_settle(NULL);
        assert(engine.supervisor.n_processes == 0);
        assert(fake_keeper_n_children() == 0);
        for (size_t i = 0; i < fake_keeper.n_bag; i++)
                assert(fake_keeper.bag[i].label == KEEPER_LABEL_LISTENER);
        assert(engine.clients.n_clients == 0 && engine.clients.frame_bytes == 0);
        assert(list_empty(&engine.requests.due) && list_empty(&engine.events.followers));
        if (engine.requests.stopping || engine.requests.upgrading || engine.supervisor.shutting_down ||
            engine.quit)
                fixture_restart();
}
