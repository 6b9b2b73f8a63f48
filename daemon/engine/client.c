/* SPDX-License-Identifier: MIT */

#include "daemon/engine/client.h"

#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/engine/access.h"
#include "daemon/engine/client-fds.h"
#include "daemon/engine/limits.h"

#define CLIENT_READ_BYTES (256 * 1024)
#define LAZY_DELAY_USEC 1000
#define CLIENT_LARGE_FRAME (64 * 1024)

int client_set_init(ClientSet *set, struct event_base *base, const ClientOps *ops, void *userdata) {
        *set = (ClientSet){ .base = base, .ops = ops, .userdata = userdata };
        list_init(&set->clients);
        list_init(&set->flush);
        list_init(&set->ready);
        list_init(&set->lazy);
        list_init(&set->late);
        list_init(&set->dead);
        set->scratch = malloc(LIMIT_DATA_FRAME_BYTES);
        set->read_buffer = malloc(CLIENT_READ_BYTES);
        set->batch = malloc(LIMIT_BATCH_BYTES);
        set->lazy_timer = evtimer_new(base, client_on_lazy_timer, set);
        set->late_timer = evtimer_new(base, client_on_late_timer, set);
        return set->scratch && set->read_buffer && set->batch && set->lazy_timer && set->late_timer ? 0
                                                                                                    : -ENOMEM;
}

static Client *client_free(Client *client) {
        if (!client)
                return NULL;
        list_remove(&client->link);
        list_remove(&client->flush_link);
        list_remove(&client->late_link);
        if (client->fds.next)
                client_fds_drop(client);
        if (client->read_event)
                event_free(client->read_event);
        if (client->write_event)
                event_free(client->write_event);
        if (client->in)
                evbuffer_free(client->in);
        if (client->out)
                evbuffer_free(client->out);
        (void)fd_close(client->fd);
        free(client);
        return NULL;
}
DEFINE_CLEANUP(Client *, client_free);

void client_set_deinit(ClientSet *set) {
        LIST_FOREACH(Client, client, &set->clients, link)
                client_close(client);
        client_set_reap(set);
        if (set->lazy_timer)
                event_free(set->lazy_timer);
        if (set->late_timer)
                event_free(set->late_timer);
        set->lazy_timer = set->late_timer = NULL;
        free(set->scratch);
        free(set->read_buffer);
        free(set->batch);
        set->scratch = set->read_buffer = set->batch = NULL;
}

void client_set_reap(ClientSet *set) {
        LIST_FOREACH(Client, client, &set->dead, link)
                (void)client_free(client);
}

static void client_release(Client *client) {
        client->set->frame_bytes -= client->large;
        client->large = 0;
}

void client_close(Client *client) {
        if (client->closed)
                return;
        client->closed = true;
        client->set->n_clients--;
        client->set->n_wide -= client->is_wide;
        client_release(client);
        client_fds_drop(client);
        (void)event_del(client->read_event);
        (void)event_del(client->write_event);
        client->set->ops->on_close(client, client->set->userdata);
        while (!list_empty(&client->streams)) {
                ClientStream *stream = CONTAINER_OF(client->streams.next, ClientStream, link);
                const ClientStreamOps *ops = stream->ops;

                client_stream_detach(stream);
                ops->on_close(stream);
        }
        list_remove(&client->flush_link);
        client_drop_greeting(client);
        list_remove(&client->link);
        list_append(&client->set->dead, &client->link);
}

static int client_handle_hello(Client *client, const FrameHeader *header, const uint8_t *payload,
                               Error *reterr_error) {
        uint16_t low, high;

        if (header->type != FRAME_HELLO || header->size < FRAME_HELLO_CLIENT_SIZE ||
            memcmp(payload, PROTOCOL_MAGIC, 4) != 0)
                return error_set(reterr_error, ERROR_PROTOCOL, "the first frame is not a HELLO of pmux");
        low = le16_get(payload + 4);
        high = le16_get(payload + 6);
        if (low > PROTOCOL_VERSION || high < PROTOCOL_VERSION)
                return error_set(
                        reterr_error, ERROR_VERSION,
                        "the client speaks protocol versions %u to %u, this daemon (%s) speaks %d to %d", low,
                        high, PMUX_VERSION, PROTOCOL_VERSION, PROTOCOL_VERSION);
        client->greeted = client->is_new = true;
        return client_send_frame(client, FRAME_HELLO, 0, client->set->greeting,
                                 sizeof(client->set->greeting));
}

static int client_handle_frame(Client *client, const FrameHeader *header, const uint8_t *payload,
                               Error *reterr_error) {
        ClientStream *stream;

        if (!client->greeted)
                return client_handle_hello(client, header, payload, reterr_error);
        switch (header->type) {
        case FRAME_CONTROL:
                return client->set->ops->on_control(client, (const char *)payload, header->size,
                                                    client->set->userdata);
        case FRAME_INPUT:
        case FRAME_CREDIT:
                if (header->size < 8 || (header->type == FRAME_CREDIT && header->size != 8))
                        return error_set(reterr_error, ERROR_PROTOCOL, "a frame of type %u is too short",
                                         header->type);
                stream = client_stream_find(client, header->stream);
                if (!stream)
                        return 0; /* it may have ended while the frame was under way */
                return stream->ops->on_frame(stream, header, payload, reterr_error);
        default:
                return error_set(reterr_error, ERROR_PROTOCOL, "a second HELLO");
        }
}

/* A large frame has been announced: hold its size against what all connections may have under way. */
static int client_reserve(Client *client, uint32_t size, Error *reterr_error) {
        if (size <= CLIENT_LARGE_FRAME || client->large != 0)
                return 0;
        if (client->set->frame_bytes + size > LIMIT_FRAME_BYTES)
                return error_set(reterr_error, ERROR_LIMIT, "too many large frames are under way");
        client->large = size;
        client->set->frame_bytes += size;
        return 0;
}

/* Checks the header of a frame of which 'available' bytes are there. Return: 1 it is complete, 0 not, <0
 * close. */
static int client_check_frame(Client *client, const uint8_t *bytes, size_t available, FrameHeader *ret_header,
                              Error *reterr_error) {
        int r;

        if (available < FRAME_HEADER_SIZE)
                return 0;
        r = frame_header_decode(ret_header, bytes, false, reterr_error);
        if (r < 0)
                return r;
        if (!client->greeted && ret_header->type != FRAME_HELLO)
                return error_set(reterr_error, ERROR_PROTOCOL, "the first frame is not a HELLO of pmux");
        if (available >= FRAME_HEADER_SIZE + ret_header->size)
                return 1;
        return client_reserve(client, ret_header->size, reterr_error);
}

static bool client_goes_on(Client *client) {
        if (client->closed || client->closing || client->failed)
                return false;
        if (evbuffer_get_length(client->out) > LIMIT_REPLY_BYTES) {
                client->stalled = true;
                (void)event_del(client->read_event);
        }
        return !client->stalled;
}

/* Handles the complete frames at the front of what was read; *ret_used: their bytes. */
static int client_handle_bytes(Client *client, const uint8_t *bytes, size_t size, size_t *ret_used,
                               Error *reterr_error) {
        FrameHeader header;
        size_t used = 0;
        int r = 1;

        while (r > 0 && client_goes_on(client)) {
                r = client_check_frame(client, bytes + used, size - used, &header, reterr_error);
                if (r <= 0)
                        break;
                client->n_handling = FRAME_HEADER_SIZE + header.size;
                r = client_handle_frame(client, &header, bytes + used + FRAME_HEADER_SIZE, reterr_error);
                used += FRAME_HEADER_SIZE + header.size;
                client->n_handled += FRAME_HEADER_SIZE + header.size;
                r = r < 0 ? r : 1;
        }
        *ret_used = used;
        return r < 0 ? r : 0;
}

/* Handles what had to wait for the rest of a frame, or for the client to read its replies. */
static int client_handle_buffer(Client *client, Error *reterr_error) {
        uint8_t bytes[FRAME_HEADER_SIZE], *frame;
        FrameHeader header;
        ssize_t n;
        int r;

        while (client_goes_on(client)) {
                n = evbuffer_copyout(client->in, bytes, sizeof(bytes));
                if (n < (ssize_t)sizeof(bytes))
                        return 0;
                r = client_check_frame(client, bytes, evbuffer_get_length(client->in), &header, reterr_error);
                if (r <= 0)
                        return r;
                client_release(client);
                frame = evbuffer_pullup(client->in, (ssize_t)(sizeof(bytes) + header.size));
                if (!frame)
                        return error_set(reterr_error, ERROR_NO_MEMORY, "no memory for a frame of %u bytes",
                                         header.size);
                client->n_handling = sizeof(bytes) + header.size;
                r = client_handle_frame(client, &header, frame + sizeof(bytes), reterr_error);
                if (r < 0)
                        return r;
                (void)evbuffer_drain(client->in, sizeof(bytes) + header.size);
                client->n_handled += sizeof(bytes) + header.size;
        }
        return 0;
}

static int client_read(Client *client, Error *reterr_error) {
        uint8_t *bytes = client->set->read_buffer;
        size_t used = 0;
        ssize_t n;
        int r;

        n = client_fds_receive(client, bytes, CLIENT_READ_BYTES);
        if (n < 0 && n != -EAGAIN && n != -EINTR)
                return (int)n;
        if (n == 0) { /* maybe in the turn of its last requests: they are answered first */
                client_finish(client);
                return 0;
        }
        n = MAX(n, 0);
        if (evbuffer_get_length(client->in) == 0) {
                r = client_handle_bytes(client, bytes, (size_t)n, &used, reterr_error);
                if (r < 0)
                        return r;
        }
        if (used < (size_t)n && evbuffer_add(client->in, bytes + used, (size_t)n - used) < 0)
                return error_set(reterr_error, ERROR_NO_MEMORY, "no memory for what was received");
        r = client_handle_buffer(client, reterr_error);
        if (!list_empty(&client->fds))
                client_fds_pass(client);
        if (client->is_new && client->n_requests > 0)
                client_hold_greeting(client);
        client->is_new = false;
        return r;
}

static void client_on_readable(evutil_socket_t fd, short what, void *userdata) {
        Client *client = userdata;
        Error error = {};

        (void)fd;
        (void)what;
        if (client_read(client, &error) >= 0)
                return;
        if (error.code != ERROR_NONE)
                client_goodbye(client, &error);
        else
                client_close(client);
}

int client_new(Client **ret_client, ClientSet *set, int fd, Error *reterr_error) {
        CLEANUP(client_free) Client *client = NULL;
        struct ucred cred;
        int r;

        r = access_check(fd, &cred, reterr_error);
        if (r < 0)
                return r;
        if (set->n_clients >= LIMIT_CLIENTS)
                return error_set(reterr_error, ERROR_LIMIT, "%d clients are connected already",
                                 LIMIT_CLIENTS);
        client = calloc(1, sizeof(*client));
        if (!client)
                return error_set_errno(reterr_error, ENOMEM, "cannot take up a connection");
        client->fd = -1;
        client->set = set;
        client->pid = cred.pid;
        client->uid = cred.uid;
        list_init(&client->streams);
        list_init(&client->requests);
        list_init(&client->fds);
        client->in = evbuffer_new();
        client->out = evbuffer_new();
        client->read_event = event_new(set->base, fd, EV_READ | EV_PERSIST, client_on_readable, client);
        client->write_event = event_new(set->base, fd, EV_WRITE, client_on_writable, client);
        if (!client->in || !client->out || !client->read_event || !client->write_event ||
            event_add(client->read_event, NULL) < 0)
                return error_set_errno(reterr_error, ENOMEM, "cannot take up a connection");
        client->fd = fd;
        list_append(&set->clients, &client->link);
        set->n_clients++;
        *ret_client = TAKE(client);
        return 0;
}

static void client_stream_unlazy(ClientStream *stream) {
        if (!list_linked(&stream->lazy_link))
                return;
        list_remove(&stream->lazy_link);
        stream->client->n_lazy--;
}

int client_stream_attach(ClientStream *stream, Client *client, uint32_t id, const ClientStreamOps *ops,
                         Error *reterr_error) {
        if (id == 0)
                return error_set(reterr_error, ERROR_INVALID, "stream: 0 is not a stream");
        if (client_stream_find(client, id))
                return error_set(reterr_error, ERROR_INVALID, "stream: %u is in use on this connection", id);
        if (client->n_streams >= LIMIT_STREAMS_PER_CLIENT)
                return error_set(reterr_error, ERROR_LIMIT, "this connection has %d streams already",
                                 LIMIT_STREAMS_PER_CLIENT);
        stream->client = client;
        stream->id = id;
        stream->ops = ops;
        list_append(&client->streams, &stream->link);
        client->n_streams++;
        return 0;
}

void client_stream_detach(ClientStream *stream) {
        if (!stream->client)
                return;
        list_remove(&stream->link);
        list_remove(&stream->ready_link);
        client_stream_unlazy(stream);
        stream->client->n_streams--;
        stream->client = NULL;
}

ClientStream *client_stream_find(Client *client, uint32_t id) {
        LIST_FOREACH(ClientStream, stream, &client->streams, link)
                if (stream->id == id)
                        return stream;
        return NULL;
}

void client_stream_ready(ClientStream *stream) {
        if (!stream->client || stream->client->closed)
                return;
        client_stream_unlazy(stream);
        if (!list_linked(&stream->ready_link))
                list_append(&stream->client->set->ready, &stream->ready_link);
}

void client_stream_lazily(ClientStream *stream) {
        const struct timeval delay = { .tv_usec = LAZY_DELAY_USEC };
        ClientSet *set;

        if (!stream->client || stream->client->closed || list_linked(&stream->ready_link) ||
            list_linked(&stream->lazy_link))
                return;
        set = stream->client->set;
        if (!event_pending(set->lazy_timer, EV_TIMEOUT, NULL) && event_add(set->lazy_timer, &delay) < 0) {
                client_stream_ready(stream);
                return;
        }
        list_append(&set->lazy, &stream->lazy_link);
        stream->client->n_lazy++;
}

void client_on_lazy_timer(evutil_socket_t fd, short what, void *userdata) {
        ClientSet *set = userdata;

        (void)fd;
        (void)what;
        LIST_FOREACH(ClientStream, stream, &set->lazy, lazy_link)
                client_stream_ready(stream);
}
