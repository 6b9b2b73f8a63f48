/* SPDX-License-Identifier: MIT */

#include "daemon/engine/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/engine/error-json.h"
#include "daemon/engine/fd-room.h"

#define ACCEPT_AT_ONCE 64
#define PAUSE_USEC (100 * 1000)

struct Listener {
        struct event *event; /* owned */
        struct event *timer; /* owned; ends a pause */
        ClientSet *clients;  /* borrowed */
        int fd;              /* owned */
        int spare_fd;        /* owned; given up to turn one away when descriptors have run out */
};

/* Says why in a GOODBYE, without waiting, and closes. */
static void listener_refuse(int fd, const Error *error) {
        uint8_t bytes[FRAME_HEADER_SIZE + 2048];
        FrameHeader header = { .type = FRAME_GOODBYE };
        json_t *object = error_to_json(error);
        char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

        json_decref(object);
        if (text && strlen(text) < sizeof(bytes) - FRAME_HEADER_SIZE) {
                header.size = (uint32_t)strlen(text);
                frame_header_encode(bytes, &header);
                memcpy(bytes + FRAME_HEADER_SIZE, text, header.size);
                (void)send(fd, bytes, FRAME_HEADER_SIZE + header.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        free(text);
        (void)fd_close(fd);
}

/* No descriptor is left: use the spare one to tell a client so, then rest for a moment instead of spinning.
 */
static void listener_on_exhaustion(Listener *listener) {
        struct timeval tv = { .tv_usec = PAUSE_USEC };
        Error error;
        int fd;

        (void)error_set(&error, ERROR_LIMIT, "the daemon has no descriptor left for another connection");
        listener->spare_fd = fd_close(listener->spare_fd);
        fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
                listener_refuse(fd, &error);
        listener->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        (void)event_del(listener->event);
        (void)evtimer_add(listener->timer, &tv);
}

static void listener_on_timer(evutil_socket_t fd, short what, void *userdata) {
        Listener *listener = userdata;

        (void)fd;
        (void)what;
        (void)event_add(listener->event, NULL);
}

static void listener_on_readable(evutil_socket_t listen_fd, short what, void *userdata) {
        Listener *listener = userdata;
        Client *client;
        int fd;

        (void)what;
        for (unsigned i = 0; i < ACCEPT_AT_ONCE; i++) {
                Error error = {};

                fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd < 0) {
                        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                                listener_on_exhaustion(listener);
                        return;
                }
                if (fd_room_check(FD_USE_CLIENT, fd, &error) < 0 ||
                    client_new(&client, listener->clients, fd, &error) < 0)
                        listener_refuse(fd, &error);
        }
}

Listener *listener_free(Listener *listener) {
        if (!listener)
                return NULL;
        if (listener->event)
                event_free(listener->event);
        if (listener->timer)
                event_free(listener->timer);
        (void)fd_close(listener->fd);
        (void)fd_close(listener->spare_fd);
        free(listener);
        return NULL;
}

int listener_new(Listener **ret_listener, ClientSet *clients, int fd, Error *reterr_error) {
        CLEANUP(listener_free) Listener *listener = NULL;

        listener = calloc(1, sizeof(*listener));
        if (!listener) {
                (void)fd_close(fd);
                return error_set_errno(reterr_error, ENOMEM, "cannot listen");
        }
        listener->fd = fd;
        listener->clients = clients;
        listener->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        listener->event = event_new(clients->base, fd, EV_READ | EV_PERSIST, listener_on_readable, listener);
        listener->timer = evtimer_new(clients->base, listener_on_timer, listener);
        if (!listener->event || !listener->timer || event_add(listener->event, NULL) < 0)
                return error_set_errno(reterr_error, ENOMEM, "cannot listen");
        *ret_listener = TAKE(listener);
        return 0;
}
