/* SPDX-License-Identifier: MIT */

#include "client/libpmux/connection.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "client/libpmux/call.h"
#include "client/libpmux/dial.h"
#include "client/libpmux/events.h"
#include "client/libpmux/input.h"
#include "client/libpmux/stream.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/paths.h"

#define RETRY_DEFAULT_USEC (30 * USEC_PER_SEC)
#define RETRY_DELAY_FIRST_USEC (5 * USEC_PER_MSEC)
#define RETRY_DELAY_MAX_USEC (250 * USEC_PER_MSEC)
#define GONE_USEC                                                                                            \
        (5 * USEC_PER_SEC) /* after which a socket that was removed is taken for a daemon that was stopped   \
                            */
#define PROVEN_USEC USEC_PER_SEC /* a connection that stood this long earns a new deadline when it breaks */

int error_export(PmuxError *ret, const Error *error, int r) {
        if (!ret)
                return r;
        memset(ret, 0, sizeof(*ret));
        if (error->code == ERROR_NONE) { /* out of memory, mostly: nobody could say more */
                (void)snprintf(ret->code, sizeof(ret->code), "%s",
                               error_wire_name(r == -ENOMEM ? ERROR_NO_MEMORY : ERROR_SYSTEM));
                (void)snprintf(ret->message, sizeof(ret->message), "%s", strerror(-r));
                ret->errno_value = -r;
                return r;
        }
        (void)snprintf(ret->code, sizeof(ret->code), "%s", error_wire_name(error->code));
        (void)snprintf(ret->step, sizeof(ret->step), "%s", error->step);
        (void)snprintf(ret->message, sizeof(ret->message), "%s", error->text);
        ret->errno_value = error->errno_value;
        return r;
}

bool connection_up(const Pmux *pmux) {
        return pmux->state == CONNECTION_GREETING || pmux->state == CONNECTION_READY;
}

uint32_t connection_stream_number(Pmux *pmux) {
        if (++pmux->next_stream == 0)
                pmux->next_stream = 1;
        return pmux->next_stream;
}

static void set_timer(Pmux *pmux, uint64_t at_usec) {
        struct itimerspec spec = { .it_value = { (time_t)(at_usec / USEC_PER_SEC),
                                                 (long)(at_usec % USEC_PER_SEC) * 1000 } };

        (void)timerfd_settime(pmux->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL); /* all zero: disarmed */
}

static void watch_socket(Pmux *pmux, int operation) {
        struct epoll_event event = { .events = EPOLLIN | (pmux->want_write ? EPOLLOUT : 0) };

        (void)epoll_ctl(pmux->epoll_fd, operation, pmux->link.fd, &event);
}

int connection_send(Pmux *pmux, FrameType type, uint32_t stream, uint8_t flags, const void *head,
                    size_t head_size, const void *body, size_t body_size) {
        const FrameHeader header = {
                .size = (uint32_t)(head_size + body_size), .type = type, .flags = flags, .stream = stream
        };

        if (!connection_up(pmux))
                return 0;
        return link_queue(&pmux->link, &header, head, head_size, body, body_size);
}

void connection_flush(Pmux *pmux) {
        bool want_write;

        if (!connection_up(pmux))
                return;
        want_write = link_flush(&pmux->link) == -EAGAIN; /* other failures: reading will say the same */
        if (want_write == pmux->want_write)
                return;
        pmux->want_write = want_write;
        watch_socket(pmux, EPOLL_CTL_MOD);
}

void connection_kick(Pmux *pmux) {
        if (!pmux->dispatching)
                connection_flush(pmux);
}

/* Nothing more will come: everybody who waits is told, once. */
static void connection_fail(Pmux *pmux, const Error *why) {
        if (pmux->state == CONNECTION_FAILED)
                return;
        pmux->failure = *why;
        if (pmux->failure.code == ERROR_NONE)
                (void)error_set(&pmux->failure, ERROR_UNREACHABLE,
                                "the connection to the daemon was given up");
        link_close(&pmux->link);
        pmux->state = CONNECTION_FAILED;
        set_timer(pmux, 1); /* long past: the caller's poll wakes up and finds out */
        calls_fail(pmux, &pmux->failure);
        streams_fail(pmux, &pmux->failure);
        inputs_fail(pmux, &pmux->failure);
        events_fail(pmux, &pmux->failure);
}

int connection_protocol_error(Pmux *pmux, const Error *error, int r) {
        connection_fail(pmux, error);
        return r;
}

static int send_hello(Pmux *pmux) {
        uint8_t hello[FRAME_HELLO_CLIENT_SIZE];

        memcpy(hello, PROTOCOL_MAGIC, 4);
        le16_put(hello + 4, PROTOCOL_VERSION);
        le16_put(hello + 6, PROTOCOL_VERSION);
        le32_put(hello + 8, 0);
        return connection_send(pmux, FRAME_HELLO, 0, 0, hello, sizeof(hello), NULL, 0);
}

/* A socket is there: greet, and take everything up again. */
static int connection_attach(Pmux *pmux, int fd, Error *reterr_error) {
        int r;

        r = link_attach(&pmux->link, fd);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot use the socket");
        pmux->state = CONNECTION_GREETING;
        pmux->want_write = true;
        watch_socket(pmux, EPOLL_CTL_ADD);
        r = send_hello(pmux);
        if (r < 0)
                return r;
        streams_resume(pmux);
        inputs_resume(pmux);
        events_resume(pmux);
        calls_resend(pmux);
        set_timer(pmux, pmux->deadline_usec);
        if (!(pmux->flags & PMUX_GREET_LATER))
                connection_flush(pmux);
        return 0;
}

static int dial(Pmux *pmux, int *ret_fd, Error *reterr_error) {
        int r;

        if (!pmux->dial)
                return dial_socket(pmux->socket_path, ret_fd, reterr_error);
        r = pmux->dial(pmux->userdata);
        if (r < 0) {
                (void)error_set(reterr_error, ERROR_UNREACHABLE, "cannot connect to %s: %s",
                                pmux->socket_path, strerror(-r));
                return r;
        }
        *ret_fd = r;
        return 0;
}

static bool worth_retrying(int r) {
        return r == -ECONNREFUSED || r == -ENOENT || r == -EAGAIN || r == -ECONNRESET || r == -EPIPE;
}

/* A first connection that was taken by a daemon on its way out is owed another daemon. */
static bool may_autostart(const Pmux *pmux, int r) {
        return (r == -ECONNREFUSED || r == -ENOENT) && !pmux->dial && !(pmux->flags & PMUX_NO_AUTOSTART) &&
               pmux->engine_pid == 0;
}

/* When mending is given up. A daemon removes its socket only when it is stopped on purpose. */
static uint64_t give_up_usec(const Pmux *pmux, int r) {
        uint64_t lost_usec = pmux->deadline_usec - pmux->retry_usec;

        return r == -ENOENT && pmux->engine_pid > 0 ? lost_usec + MIN(pmux->retry_usec, GONE_USEC)
                                                    : pmux->deadline_usec;
}

/* Sets the timer for the next attempt, or for a call whose time is over before. */
static void connection_try_later(Pmux *pmux, uint64_t now) {
        set_timer(pmux, MIN(now + pmux->delay_usec, MAX(calls_deadline(pmux), now + 1)));
        pmux->delay_usec = MIN(pmux->delay_usec * 2, RETRY_DELAY_MAX_USEC);
}

/* One attempt; if it fails for a reason that may pass, the timer is set for the next. */
static void connection_try(Pmux *pmux) {
        uint64_t now = clock_monotonic_usec();
        Error error = {};
        int fd = -1, r;

        r = dial(pmux, &fd, &error);
        if (may_autostart(pmux, r)) {
                r = dial_autostart(pmux->socket_path, pmux->deadline_usec, &error);
                if (r == 0)
                        r = dial(pmux, &fd, &error);
        }
        if (r == 0)
                r = connection_attach(pmux, fd, &error);
        if (r == 0)
                return;
        link_close(&pmux->link);
        if (!worth_retrying(r) || now >= give_up_usec(pmux, r)) {
                connection_fail(pmux, &error);
                return;
        }
        pmux->state = CONNECTION_WAITING;
        connection_try_later(pmux, now);
}

/* The socket broke. The engine may have been replaced: dial again, until the deadline. */
static void connection_lost(Pmux *pmux) {
        uint64_t now = clock_monotonic_usec();
        Error error = {};
        bool stood = pmux->state == CONNECTION_READY && now - pmux->ready_usec >= PROVEN_USEC;

        link_close(&pmux->link); /* closing takes it out of the epoll as well */
        pmux->state = CONNECTION_WAITING;
        if (stood || pmux->deadline_usec == 0) {
                pmux->deadline_usec = now + pmux->retry_usec;
                pmux->delay_usec = RETRY_DELAY_FIRST_USEC;
        }
        if (pmux->flags & PMUX_NO_RECONNECT || now >= pmux->deadline_usec) {
                (void)error_set(&error, ERROR_UNREACHABLE, "the daemon at %s has closed the connection",
                                pmux->socket_path);
                connection_fail(pmux, &error);
                return;
        }
        calls_lost(pmux);
        streams_lost(pmux);
        inputs_lost(pmux);
        events_lost(pmux);
        connection_try_later(pmux, now);
        if (!pmux->lost_told && pmux->on_notice)
                pmux->on_notice(pmux, PMUX_NOTICE_LOST, pmux->userdata);
        pmux->lost_told = true;
}

static int on_hello(Pmux *pmux, const FrameHeader *header, const uint8_t *payload, Error *reterr_error) {
        if (pmux->state != CONNECTION_GREETING)
                return error_set(reterr_error, ERROR_PROTOCOL, "the daemon greets twice");
        if (header->size < FRAME_HELLO_DAEMON_SIZE || memcmp(payload, PROTOCOL_MAGIC, 4) != 0)
                return error_set(reterr_error, ERROR_PROTOCOL, "what answers at %s is no pmuxd",
                                 pmux->socket_path);
        if (le16_get(payload + 4) != PROTOCOL_VERSION)
                return error_set(reterr_error, ERROR_VERSION, "the daemon speaks version %u, this client %u",
                                 (unsigned)le16_get(payload + 4), PROTOCOL_VERSION);
        pmux->engine_pid = le32_get(payload + 12);
        pmux->ready_usec = clock_monotonic_usec();
        pmux->state = CONNECTION_READY;
        set_timer(pmux, 0);
        if (pmux->lost_told && pmux->on_notice)
                pmux->on_notice(pmux, PMUX_NOTICE_BACK, pmux->userdata);
        pmux->lost_told = false;
        return 0;
}

/* GOODBYE: the daemon says why it will not go on with us; coming back would meet with the same. */
static int on_goodbye(const FrameHeader *header, const uint8_t *payload, Error *reterr_error) {
        json_auto_t *error = NULL;

        error = json_loadb((const char *)payload, header->size, JSON_ALLOW_NUL, NULL);
        if (!json_is_object(error))
                return error_set(reterr_error, ERROR_PROTOCOL, "the daemon said goodbye without a reason");
        return call_error_from_json(error, reterr_error);
}

static int on_frame(Pmux *pmux, const FrameHeader *header, uint8_t *payload, Error *reterr_error) {
        if (header->type == FRAME_HELLO)
                return on_hello(pmux, header, payload, reterr_error);
        if (header->type == FRAME_GOODBYE)
                return on_goodbye(header, payload, reterr_error);
        if (pmux->state != CONNECTION_READY)
                return error_set(reterr_error, ERROR_PROTOCOL, "the daemon at %s does not greet",
                                 pmux->socket_path);
        pmux->deadline_usec = 0;
        switch ((FrameType)header->type) {
        case FRAME_CONTROL:
                return calls_on_control(pmux, payload, header->size, reterr_error);
        case FRAME_DATA:
                return streams_on_data(pmux, header->stream, payload, header->size, reterr_error);
        case FRAME_ACK:
                return inputs_on_ack(pmux, header->stream, payload, header->size, reterr_error);
        default:
                return error_set(reterr_error, ERROR_PROTOCOL, "the daemon sent a frame of type %u",
                                 (unsigned)header->type);
        }
}

/* Whole frames, until none is left or a callback's doing has ended the connection. Return: 0; -errno: failed.
 */
static int handle_frames(Pmux *pmux) {
        FrameHeader header;
        uint8_t *payload;
        Error error = {};
        int r = 0;

        while (connection_up(pmux)) {
                r = link_next(&pmux->link, &header, &payload, &error);
                if (r == 0)
                        return 0;
                if (r > 0)
                        r = on_frame(pmux, &header, payload, &error);
                if (r < 0) {
                        connection_fail(pmux, &error);
                        return r;
                }
        }
        return r;
}

static void on_timer(Pmux *pmux) {
        uint64_t now = clock_monotonic_usec(), ignored;
        Error error = {};

        if (read(pmux->timer_fd, &ignored, sizeof(ignored)) < 0)
                return;
        if (pmux->state == CONNECTION_WAITING) {
                connection_try(pmux); /* first: who comes back in time is asked */
                if (pmux->state == CONNECTION_WAITING)
                        calls_expire(pmux);
        } else if (pmux->state == CONNECTION_GREETING && now >= pmux->deadline_usec) {
                (void)error_set(&error, ERROR_UNREACHABLE,
                                "the daemon at %s takes connections but does not answer", pmux->socket_path);
                connection_fail(pmux, &error);
        }
}

/* One read, the frames in it, and one write of all that these have led to. */
static int connection_work(Pmux *pmux) {
        int r;

        if (!connection_up(pmux) || pmux->state == CONNECTION_GREETING)
                on_timer(pmux);
        if (!connection_up(pmux))
                return 0;
        r = link_receive(&pmux->link);
        if (r == -ENOMEM)
                return r;
        if (r > 0)
                (void)handle_frames(pmux);
        else if (r != -EAGAIN)
                connection_lost(pmux);
        inputs_pump(pmux);
        connection_flush(pmux);
        return 0;
}

int pmux_dispatch(Pmux *pmux, PmuxError *reterr_error) {
        int r;

        pmux->dispatching = true;
        r = connection_work(pmux);
        pmux->dispatching = false;
        if (pmux->state == CONNECTION_FAILED)
                return error_export(reterr_error, &pmux->failure, -abs(pmux->failure.errno_value));
        return r < 0 ? error_export(reterr_error, &(Error){}, r) : 0;
}

int pmux_turn(Pmux *pmux, uint64_t timeout_usec, PmuxError *reterr_error) {
        struct pollfd poll_fd = { .fd = pmux->epoll_fd, .events = POLLIN };
        int timeout_msec = -1;

        if (timeout_usec < (uint64_t)INT_MAX * USEC_PER_MSEC)
                timeout_msec = (int)((timeout_usec + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
        if (pmux->state != CONNECTION_FAILED) /* nothing would end the wait */
                (void)poll(&poll_fd, 1, timeout_msec);
        return pmux_dispatch(pmux, reterr_error);
}

static int connection_init(Pmux *pmux, const PmuxOptions *options, Error *reterr_error) {
        struct epoll_event event = { .events = EPOLLIN };
        int r;

        r = paths_socket(options->socket_path, &pmux->socket_path, reterr_error);
        if (r < 0)
                return r;
        pmux->flags = options->flags;
        pmux->retry_usec = options->retry_usec > 0 ? options->retry_usec : RETRY_DEFAULT_USEC;
        pmux->retry_usec = MIN(pmux->retry_usec, UINT64_C(1) << 50);
        pmux->dial = options->connect;
        pmux->on_notice = options->on_notice;
        pmux->userdata = options->userdata;
        pmux->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        pmux->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (pmux->epoll_fd < 0 || pmux->timer_fd < 0 ||
            epoll_ctl(pmux->epoll_fd, EPOLL_CTL_ADD, pmux->timer_fd, &event) < 0)
                return error_set_errno(reterr_error, errno, "cannot watch a connection");
        return 0;
}

/* The first connection: where nothing listens, a daemon is started; a daemon that comes up is waited for. */
static int connection_begin(Pmux *pmux, Error *reterr_error) {
        bool started = false;
        int fd = -1, r;

        pmux->deadline_usec = clock_monotonic_usec() + pmux->retry_usec;
        pmux->delay_usec = RETRY_DELAY_FIRST_USEC;
        for (;;) {
                r = dial(pmux, &fd, reterr_error);
                if (r == 0)
                        return connection_attach(pmux, fd, reterr_error);
                if (!worth_retrying(r) || pmux->dial)
                        return r;
                if (r != -EAGAIN && pmux->flags & PMUX_NO_AUTOSTART)
                        return error_set(
                                reterr_error, ERROR_UNREACHABLE,
                                "no daemon listens at %s (start one with: pmuxd --daemonize --socket %s)",
                                pmux->socket_path, pmux->socket_path);
                if (r != -EAGAIN && !started) {
                        r = dial_autostart(pmux->socket_path, pmux->deadline_usec, reterr_error);
                        if (r < 0)
                                return r;
                        started = true;
                        continue;
                }
                if (clock_monotonic_usec() >= pmux->deadline_usec)
                        return r;
                (void)poll(NULL, 0, (int)(pmux->delay_usec / USEC_PER_MSEC));
                pmux->delay_usec = MIN(pmux->delay_usec * 2, RETRY_DELAY_MAX_USEC);
        }
}

int pmux_open(Pmux **ret_pmux, const PmuxOptions *options, PmuxError *reterr_error) {
        PmuxOptions known = {};
        Error error = {};
        Pmux *pmux;
        int r;

        if (options) /* of a program that was built before there was all of this */
                memcpy(&known, options, MIN(options->size, sizeof(known)));
        pmux = calloc(1, sizeof(*pmux));
        if (!pmux)
                return error_export(reterr_error, &error, -ENOMEM);
        link_init(&pmux->link);
        pmux->epoll_fd = pmux->timer_fd = -1;
        list_init(&pmux->calls);
        list_init(&pmux->streams);
        list_init(&pmux->inputs);
        list_init(&pmux->events);
        r = connection_init(pmux, &known, &error);
        if (r == 0)
                r = connection_begin(pmux, &error);
        if (r < 0) {
                (void)pmux_close(pmux);
                return error_export(reterr_error, &error, r);
        }
        *ret_pmux = pmux;
        return 0;
}

Pmux *pmux_close(Pmux *pmux) {
        if (!pmux)
                return NULL;
        connection_flush(pmux); /* a last request that nobody waits for gets out */
        pmux->state = CONNECTION_FAILED;
        streams_free(pmux);
        inputs_free(pmux);
        events_free(pmux);
        calls_free(pmux);
        fds_close(pmux->next_fds, &pmux->n_next_fds);
        link_deinit(&pmux->link);
        (void)fd_close(pmux->timer_fd);
        (void)fd_close(pmux->epoll_fd);
        free(pmux->socket_path);
        free(pmux);
        return NULL;
}

int pmux_fd(const Pmux *pmux) {
        return pmux->epoll_fd;
}

const char *pmux_socket_path(const Pmux *pmux) {
        return pmux->socket_path;
}

uint32_t pmux_engine_pid(const Pmux *pmux) {
        return pmux->engine_pid;
}

int pmux_connected(const Pmux *pmux) {
        return connection_up(pmux);
}
