/* SPDX-License-Identifier: MIT */

/* The process that accepts and delivers is killed at random instants, again and again, while clients write,
 * retry and cancel: what comes out of the pipe is what was accepted, once and in order. This process is the
 * clients, the child that reads, and the keeper, which holds the pipe and the position. */

#include "daemon/engine/stdin-log.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "common/fd.h"
#include "daemon/engine/stdin-index.h"
#include "tests/support/check-main.h"
#include "tests/support/scratch.h"

#define N_KILLS KILLS(250)
#define WORTH_BYTES (256 * 1024) /* to be received, at the least */
#define N_WRITERS 3
#define LIFE_MAX_USEC 4000
#define LIFE_DOUBLED_MAX 8 /* times, once after every N_KILLS lives */
#define FRAME_MAX (32 * 1024)
#define WINDOW (256 * 1024) /* of a writer, sent and not taken */
#define MESSAGE_SIZE 64     /* what the clients write comes in such pieces: writer, number, filling */
#define DEADLINE_USEC (120 * USEC_PER_SEC)

typedef enum Verb {
        HELLO,
        ACCEPT,
        CANCEL,
        POSITION
} Verb;

typedef struct Request {
        Verb verb;
        unsigned writer;
        uint64_t position;
        uint64_t taken;   /* replies: of the writer */
        uint64_t dropped; /* replies to CANCEL */
        bool eof;
        uint32_t size;
        uint8_t data[];
} Request;

typedef struct Client {
        uint64_t sent;     /* by position */
        uint64_t accepted; /* as far as it was told */
        uint64_t taken;
        uint64_t received; /* what came out of the pipe */
        bool is_greeted;   /* since the last kill */
} Client;

static char dir[SCRATCH_MAX];
static int pipe_fds[2], socket_fd, position_fd;
static Client clients[N_WRITERS];
static unsigned n_clients;
static uint64_t n_cancelled; /* bytes, as far as it was told */
static uint8_t *received;    /* owned: everything that came out of the pipe */
static size_t n_received;
static uint64_t seed = 1;
static uint64_t deadline_usec;

static uint64_t random_below(uint64_t n) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        return seed % n;
}

static void make_message(uint8_t *ret_bytes, uint32_t writer, uint32_t number) {
        uint64_t word = ((uint64_t)writer << 32 | number) * UINT64_C(0x9e3779b97f4a7c15);

        memcpy(ret_bytes, &writer, 4);
        memcpy(ret_bytes + 4, &number, 4);
        for (unsigned i = 8; i < MESSAGE_SIZE; i += 8, word = word * 5 + 1)
                memcpy(ret_bytes + i, &word, 8);
}

/* --- the engine: everything it needs to know, it finds --- */

static void engine_check(int r, const char *what, const Error *error) {
        if (r >= 0)
                return;
        (void)fprintf(stderr, "engine: %s: %s (%s)\n", what, strerror(-r), error->text);
        _exit(1);
}

static void engine_serve(StdinLog *log, int fd, Request *request) {
        StdinWriter writer = stdin_writer_hash(&request->writer, sizeof(request->writer));
        Error error = {};
        int r = 0;

        if (request->verb == ACCEPT)
                r = stdin_log_accept(log, &writer, request->position, request->data, request->size,
                                     request->eof, NULL, NULL, &error);
        else if (request->verb == CANCEL)
                r = stdin_log_cancel(log, &request->dropped, &error);
        engine_check(r, "request", &error);
        engine_check(stdin_log_writer(log, &writer, &request->position, &request->taken, NULL, NULL),
                     "writer", &error);
        (void)!send(fd, request, sizeof(*request), MSG_NOSIGNAL);
}

static int engine_deliver(StdinLog *log, int fd) {
        Request put = { .verb = POSITION };
        Error error = {};
        bool is_new;
        int position, r;

        r = stdin_log_position_fd(log, &position, &is_new, &error);
        engine_check(r, "position", &error);
        if (is_new && fd_send(fd, &put, sizeof(put), &position, 1) < 0)
                _exit(2);
        r = stdin_log_deliver(log, pipe_fds[1], NULL, &error);
        engine_check(r == -EAGAIN ? 0 : r, "deliver", &error);
        return r;
}

static void engine_main(int fd) {
        Request *request = malloc(sizeof(*request) + FRAME_MAX);
        struct pollfd polls[2] = { { .fd = fd, .events = POLLIN }, { .fd = pipe_fds[1] } };
        Error error = {};
        StdinLog *log;

        engine_check(stdin_log_open(&log, dir, position_fd, &error), "open", &error);
        engine_check(stdin_log_begin_run(log, 1, &error), "run", &error);
        for (;;) {
                polls[1].events = engine_deliver(log, fd) == -EAGAIN ? POLLOUT : 0;
                if (poll(polls, 2, -1) < 0)
                        _exit(3);
                if (polls[0].revents && recv(fd, request, sizeof(*request) + FRAME_MAX, MSG_DONTWAIT) > 0)
                        engine_serve(log, fd, request);
        }
}

static pid_t engine_start(void) {
        int fds[2];
        pid_t pid;

        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
        pid = fork();
        if (pid == 0) {
                close(fds[0]);
                engine_main(fds[1]);
        }
        ck_assert_int_ge(pid, 0);
        close(fds[1]);
        socket_fd = fds[0];
        for (unsigned i = 0; i < n_clients; i++)
                clients[i].is_greeted = false;
        return pid;
}

/* --- the clients and the keeper --- */

static void clients_hear(void) {
        int fds[FD_PASS_MAX];
        Request reply;
        Client *client;
        size_t n_fds;

        /* also after its death: what it had said, it had said */
        while (poll(&(struct pollfd){ .fd = socket_fd, .events = POLLIN }, 1, 0) > 0 &&
               fd_receive(socket_fd, &reply, sizeof(reply), fds, &n_fds) > 0) {
                client = &clients[reply.writer];
                if (reply.verb == POSITION) {
                        ck_assert_uint_eq(n_fds, 1);
                        ck_assert_int_lt(position_fd, 0);
                        position_fd = fds[0];
                        continue;
                }
                ck_assert_uint_le(reply.taken, reply.position);
                ck_assert_uint_ge(reply.position, client->accepted);
                ck_assert_uint_ge(reply.taken, client->taken);
                client->accepted = reply.position;
                client->taken = reply.taken;
                n_cancelled += reply.dropped;
                if (reply.verb == HELLO)
                        client->sent = reply.position;
                client->sent = MAX(client->sent, client->accepted);
                client->is_greeted = true;
        }
}

static bool client_send(Request *request) {
        return send(socket_fd, request, sizeof(*request) + request->size, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
}

/* A new engine is asked how far it got, or simply sent everything again that it has not confirmed. */
static void client_greet(Client *client, unsigned number) {
        client->sent = client->accepted;
        if (random_below(2) == 0)
                client->is_greeted = true;
        else
                (void)client_send(&(Request){ .verb = HELLO, .writer = number });
}

static void client_write(unsigned number, bool eof) {
        static union {
                Request request;
                uint8_t bytes[sizeof(Request) + FRAME_MAX];
        } frame;
        Client *client = &clients[number];

        frame.request = (Request){ .verb = ACCEPT, .writer = number, .position = client->sent, .eof = eof };
        if (!eof)
                frame.request.size = (uint32_t)(1 + random_below(FRAME_MAX / MESSAGE_SIZE)) * MESSAGE_SIZE;
        for (uint32_t i = 0; i < frame.request.size; i += MESSAGE_SIZE)
                make_message(frame.request.data + i, number, (uint32_t)((client->sent + i) / MESSAGE_SIZE));
        if (client_send(&frame.request))
                client->sent += frame.request.size;
}

/* The index forgets the oldest of what is over when it has very many records; who reads in it what was
 * cancelled stops before. */
static bool index_is_full(void) {
        struct stat st;
        char path[SCRATCH_MAX + 16];

        (void)snprintf(path, sizeof(path), "%s/stdin.idx", dir);
        return stat(path, &st) == 0 && (uint64_t)st.st_size / sizeof(StdinRecord) > STDIN_INDEX_MAX - N_KILLS;
}

static void clients_speak(bool may_cancel) {
        if (may_cancel && index_is_full())
                return;
        for (unsigned i = 0; i < n_clients; i++) {
                if (!clients[i].is_greeted)
                        client_greet(&clients[i], i);
                else if (clients[i].sent - clients[i].taken < WINDOW)
                        client_write(i, false);
        }
        if (may_cancel && random_below(3) == 0)
                (void)client_send(&(Request){ .verb = CANCEL });
}

/* What the child reads. */
static void child_read(void) {
        ssize_t n;

        received = realloc(received, n_received + FRAME_MAX);
        ck_assert_ptr_nonnull(received);
        n = read(pipe_fds[0], received + n_received, 1 + random_below(FRAME_MAX));
        if (n > 0)
                n_received += (size_t)n;
}

static bool turn(uint64_t until_usec, bool is_reading) {
        struct pollfd polls[2] = { { .fd = socket_fd, .events = POLLIN },
                                   { .fd = is_reading ? pipe_fds[0] : -1, .events = POLLIN } };
        uint64_t now = clock_monotonic_usec();
        struct timespec timeout;

        ck_assert_msg(now < deadline_usec, "nothing more comes");
        if (now >= until_usec)
                return false;
        until_usec = MIN(until_usec, now + 200); /* there is always something to say */
        timeout = (struct timespec){ .tv_nsec = (long)(until_usec - now) * 1000 };
        ck_assert_int_ge(ppoll(polls, 2, &timeout, NULL), 0);
        if (polls[0].revents & POLLIN)
                clients_hear();
        if (polls[1].revents)
                child_read();
        return true;
}

static void engine_kill(pid_t pid) {
        int status;

        ck_assert_int_eq(kill(pid, SIGKILL), 0);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFSIGNALED(status), "the engine ended by itself, status %#x", (unsigned)status);
        clients_hear();
        socket_fd = fd_close(socket_fd);
}

/* Whether enough has happened; on a busy machine it takes more lives, and longer ones. */
static bool is_worth_it(bool may_cancel) {
        return may_cancel ? n_cancelled > 0 || index_is_full() : n_received > WORTH_BYTES;
}

static void live_and_be_killed(bool may_cancel) {
        uint64_t end_usec;
        bool is_reading;
        pid_t pid;

        for (unsigned i = 0; i < N_KILLS || !is_worth_it(may_cancel); i++) {
                is_reading = random_below(4) != 0;
                pid = engine_start();
                end_usec = clock_monotonic_usec() +
                           random_below((uint64_t)LIFE_MAX_USEC << MIN(i / N_KILLS, LIFE_DOUBLED_MAX));
                while (turn(end_usec, is_reading))
                        clients_speak(may_cancel);
                engine_kill(pid);
        }
        /* and one that lives until everything is out */
        pid = engine_start();
        for (unsigned i = 0; i < n_clients; i++)
                do {
                        (void)client_send(&(Request){ .verb = HELLO, .writer = i });
                        (void)turn(UINT64_MAX, true);
                        child_read();
                } while (!clients[i].is_greeted || clients[i].taken < clients[i].accepted);
        while (poll(&(struct pollfd){ .fd = pipe_fds[0], .events = POLLIN }, 1, 0) > 0)
                child_read();
        engine_kill(pid);
}

static void set_up(const char *below) {
        deadline_usec = clock_monotonic_usec() + DEADLINE_USEC;
        signal(SIGPIPE, SIG_IGN);
        scratch_make(dir, below);
        ck_assert_int_eq(pipe2(pipe_fds, O_NONBLOCK | O_CLOEXEC), 0);
        position_fd = -1;
        memset(clients, 0, sizeof(clients));
        seed = clock_realtime_usec() | 1;
        received = NULL;
        n_received = 0;
        n_cancelled = 0;
}

static void setup_on_disk(void) {
        set_up("/tmp");
}

static void setup_in_memory(void) {
        set_up(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
}

static void teardown(void) {
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        (void)fd_close(position_fd);
        free(received);
        scratch_remove(dir);
}

START_TEST(everything_accepted_comes_once_and_in_order)
{
        uint8_t expected[MESSAGE_SIZE];
        uint64_t n_accepted = 0;
        uint32_t writer;

        n_clients = N_WRITERS;
        live_and_be_killed(false);
        for (size_t at = 0; at < n_received; at += MESSAGE_SIZE) {
                memcpy(&writer, received + at, 4);
                if (writer >= N_WRITERS) /* no ck_assert() here: each writes to a pipe of its own */
                        ck_abort_msg("no message begins at %zu of %zu", at, n_received);
                make_message(expected, writer, (uint32_t)(clients[writer].received / MESSAGE_SIZE));
                if (memcmp(expected, received + at, MESSAGE_SIZE) != 0)
                        ck_abort_msg("at %zu of %zu writer %u should have its message %llu", at, n_received,
                                     writer, (unsigned long long)(clients[writer].received / MESSAGE_SIZE));
                clients[writer].received += MESSAGE_SIZE;
        }
        for (unsigned i = 0; i < N_WRITERS; i++) {
                ck_assert_uint_eq(clients[i].received, clients[i].accepted);
                n_accepted += clients[i].accepted;
        }
        ck_assert_uint_eq(n_accepted, n_received);
        ck_assert_uint_gt(n_received, WORTH_BYTES);
}
END_TEST

/* What the index says was cancelled is missing, and nothing else is. With one writer, its count is the stdin
 * offset. */
START_TEST(what_is_cancelled_is_what_is_missing)
{
        uint8_t message[MESSAGE_SIZE];
        uint64_t begin = 0, end, n_dropped = 0;
        StdinRecord record;
        StdinIndex index;
        size_t at = 0;

        n_clients = 1;
        live_and_be_killed(true);
        ck_assert_int_eq(stdin_index_load(&index, dir, &record, NULL), 1);
        end = record.offset + record.length;
        ck_assert_uint_eq(end, clients[0].accepted);
        for (uint32_t i = 0; i <= index.n_records; i++) {
                if (i < index.n_records)
                        ck_assert_int_eq(stdin_index_read(&index, dir, i, 1, &record, NULL), 0);
                else
                        record = (StdinRecord){ .kind = STDIN_KIND_CANCEL, .offset = end };
                if (record.kind != STDIN_KIND_CANCEL)
                        continue;
                for (; begin < record.offset; begin++, at++) {
                        if (begin % MESSAGE_SIZE == 0)
                                make_message(message, 0, (uint32_t)(begin / MESSAGE_SIZE));
                        if (at >= n_received || received[at] != message[begin % MESSAGE_SIZE])
                                ck_abort_msg("byte %zu of %zu is not the one at %llu", at, n_received,
                                             (unsigned long long)begin);
                }
                begin += record.length;
                make_message(message, 0, (uint32_t)(begin / MESSAGE_SIZE));
                n_dropped += record.length;
        }
        stdin_index_deinit(&index);
        ck_assert_uint_eq(at, n_received);
        ck_assert_uint_ge(n_dropped, n_cancelled);
        ck_assert_uint_gt(n_cancelled, 0);
}
END_TEST

static TCase *kill_tcase(const char *name, SFun setup) {
        TCase *tcase = tcase_create(name);

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_set_timeout(tcase, 2 * DEADLINE_USEC / USEC_PER_SEC);
        tcase_add_test(tcase, everything_accepted_comes_once_and_in_order);
        tcase_add_test(tcase, what_is_cancelled_is_what_is_missing);
        return tcase;
}

static Suite *stdin_log_kill_suite(void) {
        Suite *suite = suite_create("stdin-log-kill");

        suite_add_tcase(suite, kill_tcase("disk", setup_on_disk));
        suite_add_tcase(suite, kill_tcase("memory", setup_in_memory));
        return suite;
}

CHECK_MAIN(stdin_log_kill_suite);
