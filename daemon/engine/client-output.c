/* SPDX-License-Identifier: MIT */

/* What goes out on a connection: control frames that queue, data that does not; small frames of one turn go
 * together. */

#include <errno.h>
#include <event2/buffer.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "daemon/engine/client.h"
#include "daemon/engine/error-json.h"
#include "daemon/engine/limits.h"

#define LATE_DELAY_USEC 10000 /* until a greeting is sent by itself */

bool client_writable(const Client *client) {
        return client->greeted && !client->closing && !client->closed && !client->failed &&
               evbuffer_get_length(client->out) == 0;
}

size_t client_queued_bytes(const Client *client) {
        return evbuffer_get_length(client->out);
}

size_t client_data_room(const Client *client) {
        int n_queued;

        if (client->send_bytes == 0 || ioctl(client->fd, SIOCOUTQ, &n_queued) < 0 ||
            client->send_bytes < (uint32_t)n_queued + LIMIT_DATA_FRAME_SAFE_BYTES)
                return LIMIT_DATA_FRAME_SAFE_BYTES;
        return MIN((size_t)client->send_bytes - (size_t)n_queued, (size_t)LIMIT_DATA_FRAME_BYTES);
}

/* The client has read what filled its socket: let that hold more, so that there is always something to read
 * while the program and we have our turns. One that never reads is never given more. */
static void client_widen(Client *client) {
        int size = LIMIT_SEND_BUFFER_BYTES;
        socklen_t length = sizeof(size);

        if (client->send_bytes > 0)
                return;
        if (client->set->n_wide < LIMIT_WIDE_CLIENTS) {
                size = LIMIT_WIDE_SEND_BUFFER_BYTES;
                client->is_wide = true;
                client->set->n_wide++;
        }
        /* beyond net.core.wmem_max for root alone */
        if (setsockopt(client->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
                (void)setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        if (getsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &size, &length) == 0 && size > 0)
                client->send_bytes = (uint32_t)size;
}

/* All that was queued is sent: those that waited for that go on. */
static void client_wake_streams(Client *client) {
        if (!client_writable(client))
                return;
        LIST_FOREACH(ClientStream, stream, &client->streams, link)
                if (stream->blocked) {
                        stream->blocked = false;
                        client_stream_ready(stream);
                }
}

static int client_write_out(Client *client) {
        int n;

        if (client->failed)
                return -ECONNRESET;
        client_drop_greeting(client);
        while (evbuffer_get_length(client->out) > 0) {
                n = evbuffer_write(client->out, client->fd);
                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return event_add(client->write_event, NULL) < 0 ? -ENOMEM : 0;
                if (n < 0)
                        return -errno;
        }
        client_wake_streams(client);
        return client->closing ? -ECONNRESET : 0;
}

static void client_resume(Client *client) {
        if (client->stalled && evbuffer_get_length(client->out) < LIMIT_REPLY_BYTES / 2) {
                client->stalled = false;
                (void)event_add(client->read_event, NULL);
                /* what was received before the stall waits in the buffer */
                event_active(client->read_event, EV_READ, 0);
        }
}

void client_on_writable(evutil_socket_t fd, short what, void *userdata) {
        Client *client = userdata;

        (void)fd;
        (void)what;
        if (client_write_out(client) < 0) {
                client_close(client);
                return;
        }
        client_widen(client);
        client_resume(client);
}

static void client_flush(Client *client) {
        list_remove(&client->flush_link);
        if (client_write_out(client) < 0)
                client_close(client);
        else
                client_resume(client);
}

void client_set_flush(ClientSet *set) {
        LIST_FOREACH(Client, client, &set->flush, flush_link)
                client_flush(client);
}

static void client_needs_flush(Client *client) {
        if (!client->closed && !list_linked(&client->flush_link))
                list_append(&client->set->flush, &client->flush_link);
}

void client_hold_greeting(Client *client) {
        const struct timeval delay = { .tv_usec = LATE_DELAY_USEC };
        ClientSet *set = client->set;

        if (client->closed || client->closing || client->failed ||
            evbuffer_get_length(client->out) != FRAME_HEADER_SIZE + sizeof(set->greeting) ||
            (!evtimer_pending(set->late_timer, NULL) && evtimer_add(set->late_timer, &delay) < 0))
                return;
        list_remove(&client->flush_link);
        list_append(&set->late, &client->late_link);
}

void client_drop_greeting(Client *client) {
        if (!list_linked(&client->late_link))
                return;
        list_remove(&client->late_link);
        if (list_empty(&client->set->late))
                (void)evtimer_del(client->set->late_timer);
}

void client_on_late_timer(evutil_socket_t fd, short what, void *userdata) {
        ClientSet *set = userdata;

        (void)fd;
        (void)what;
        LIST_FOREACH(Client, client, &set->late, late_link) {
                list_remove(&client->late_link);
                client_needs_flush(client);
        }
}

/* The connection can not be saved. Those who send are its streams and requests, which must not be freed under
 * their own feet: it is closed by the next flush. */
static void client_fail(Client *client) {
        client->failed = true;
        client_needs_flush(client);
}

/* Sends the frames that were put together; what the socket does not take is kept. */
static void client_batch_send(ClientSet *set) {
        Client *client = set->batch_client;
        size_t size = set->batch_bytes;
        ssize_t n;

        set->batch_client = NULL;
        set->batch_bytes = 0;
        if (!client || client->closed || client->failed)
                return;
        /* What the batch before it left over goes first, though the client may have made room meanwhile. */
        n = evbuffer_get_length(client->out) > 0 ? 0 : send(client->fd, set->batch, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
                client_fail(client);
                return;
        }
        n = MAX(n, 0);
        if ((size_t)n == size)
                return;
        if (evbuffer_add(client->out, set->batch + n, size - (size_t)n) < 0)
                client_fail(client);
        else
                (void)event_add(client->write_event, NULL);
}

/* The place of the next 'size' bytes, at most LIMIT_BATCH_BYTES, which must be filled. */
static uint8_t *client_batch_take(Client *client, size_t size) {
        ClientSet *set = client->set;
        uint8_t *place;

        assert(size <= LIMIT_BATCH_BYTES);
        if (set->batch_client && (set->batch_client != client || set->batch_bytes + size > LIMIT_BATCH_BYTES))
                client_batch_send(set);
        if (!set->batch_client && client->n_lazy > 0)
                LIST_FOREACH(ClientStream, stream, &client->streams, link)
                        if (list_linked(&stream->lazy_link))
                                client_stream_ready(stream);
        set->batch_client = client;
        place = set->batch + set->batch_bytes;
        set->batch_bytes += size;
        return place;
}

/* Sends what this client has in the batch. Return: whether the connection still stands. */
static bool client_batch_sent(Client *client) {
        if (client->set->batch_client == client)
                client_batch_send(client->set);
        return !client->failed;
}

/* A batch is open as long as streams are asked for what they have. */
static void client_batch_done(Client *client) {
        if (!client->set->pumping)
                client_batch_send(client->set);
}

/* Whether what is queued may go out in one write with what the client's streams have to say in this turn. */
static bool client_can_join(const Client *client) {
        size_t size = evbuffer_get_length(client->out);

        return size > 0 && size <= LIMIT_BATCH_BYTES / 2 && client->greeted && !client->closing &&
               !client->closed && !client->failed && !event_pending(client->write_event, EV_WRITE, NULL);
}

static bool client_has_ready_stream(const Client *client) {
        LIST_FOREACH(ClientStream, stream, &client->streams, link)
                if (list_linked(&stream->ready_link))
                        return true;
        return false;
}

/* The replies begin the batch: they were said before what its streams will say. */
static void client_join(Client *client) {
        size_t size = evbuffer_get_length(client->out);

        if (client->set->batch_client == client || !client_can_join(client))
                return;
        client_drop_greeting(client);
        (void)evbuffer_remove(client->out, client_batch_take(client, size), size);
}

void client_set_pump(ClientSet *set) {
        List again;

        LIST_FOREACH(Client, client, &set->flush, flush_link)
                if (!client_can_join(client) || !client_has_ready_stream(client))
                        client_flush(client);
        list_init(&again);
        set->pumping = true;
        while (!list_empty(&set->ready)) {
                ClientStream *stream = CONTAINER_OF(set->ready.next, ClientStream, ready_link);

                list_remove(&stream->ready_link);
                client_join(stream->client);
                if (!client_writable(stream->client))
                        stream->blocked = true;
                else if (stream->ops->on_pump(stream)) {
                        list_remove(&stream->ready_link); /* what it read may have let more come */
                        list_append(&again, &stream->ready_link);
                }
        }
        set->pumping = false;
        client_batch_send(set);
        while (!list_empty(&again)) {
                List *link = again.next;

                list_remove(link);
                list_append(&set->ready, link);
        }
}

int client_send_frame(Client *client, FrameType type, uint32_t stream, const void *payload, size_t size) {
        FrameHeader header = { .size = (uint32_t)size, .type = (uint8_t)type, .stream = stream };
        uint8_t bytes[FRAME_HEADER_SIZE];

        if (client->closed || client->failed)
                return 0;
        frame_header_encode(bytes, &header);
        if (client->set->pumping && evbuffer_get_length(client->out) == 0 &&
            FRAME_HEADER_SIZE + size <= LIMIT_BATCH_BYTES) {
                uint8_t *place = client_batch_take(client, FRAME_HEADER_SIZE + size);

                memcpy(place, bytes, sizeof(bytes));
                memcpy(place + sizeof(bytes), payload, size);
                client_needs_flush(client); /* it may be the last word */
                return 0;
        }
        (void)client_batch_sent(client); /* what was said before goes before */
        if (evbuffer_add(client->out, bytes, sizeof(bytes)) < 0 ||
            evbuffer_add(client->out, payload, size) < 0) {
                client_fail(client); /* half a frame may be queued */
                return -ENOMEM;
        }
        client_needs_flush(client);
        return 0;
}

int client_send_json(Client *client, const json_t *object) {
        char *text;
        int r;

        if (client->closed || client->failed)
                return 0;
        text = object ? json_dumps(object, JSON_COMPACT) : NULL;
        if (!text) {
                client_fail(client);
                return -ENOMEM;
        }
        r = client_send_frame(client, FRAME_CONTROL, 0, text, strlen(text));
        free(text);
        return r;
}

void client_finish(Client *client) {
        client->closing = true;
        (void)event_del(client->read_event);
        client_needs_flush(client);
}

void client_goodbye(Client *client, const Error *error) {
        json_t *object;
        char *text;

        if (client->closed || client->closing)
                return;
        object = error_to_json(error);
        text = object ? json_dumps(object, JSON_COMPACT) : NULL;
        json_decref(object);
        if (text)
                (void)client_send_frame(client, FRAME_GOODBYE, 0, text, strlen(text));
        free(text);
        client_finish(client);
}

int client_send_data(Client *client, uint32_t stream, const void *head, size_t head_size, const void *data,
                     size_t size) {
        FrameHeader header = { .size = (uint32_t)(head_size + size), .type = FRAME_DATA, .stream = stream };
        uint8_t bytes[FRAME_HEADER_SIZE];
        struct iovec iov[3] = {
                { .iov_base = bytes, .iov_len = sizeof(bytes) },
                { .iov_base = (void *)head, .iov_len = head_size },
                { .iov_base = (void *)data, .iov_len = size },
        };
        ssize_t n;
        size_t sent;

        frame_header_encode(bytes, &header);
        if (sizeof(bytes) + head_size + size <= LIMIT_BATCH_BYTES) {
                uint8_t *place = client_batch_take(client, sizeof(bytes) + head_size + size);

                memcpy(place, bytes, sizeof(bytes));
                memcpy(place + sizeof(bytes), head, head_size);
                if (size > 0)
                        memcpy(place + sizeof(bytes) + head_size, data, size);
                client_batch_done(client);
                return client->failed ? -ECONNRESET : 0;
        }
        if (!client_batch_sent(client))
                return -ECONNRESET;
        n = client_writable(client) ? writev(client->fd, iov, size > 0 ? 3 : 2) : 0;
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
                n = -errno;
                client_fail(client);
                return (int)n;
        }
        sent = n < 0 ? 0 : (size_t)n;
        for (size_t i = 0; i < ARRAY_SIZE(iov); i++) {
                size_t skip = MIN(sent, iov[i].iov_len);

                sent -= skip;
                if (skip < iov[i].iov_len &&
                    evbuffer_add(client->out, (char *)iov[i].iov_base + skip, iov[i].iov_len - skip) < 0) {
                        client_fail(client);
                        return -ENOMEM;
                }
        }
        if (evbuffer_get_length(client->out) > 0)
                (void)event_add(client->write_event, NULL);
        return 0;
}

/* What the socket does not take now is kept: from 'offset' on, 'size' bytes of the frame's data. */
static int client_keep_rest(Client *client, int fd, off_t offset, size_t size) {
        if (pread(fd, client->set->scratch, size, offset) != (ssize_t)size ||
            evbuffer_add(client->out, client->set->scratch, size) < 0) {
                client_fail(client); /* half a frame has been sent */
                return -ECONNRESET;
        }
        (void)event_add(client->write_event, NULL);
        return 0;
}

int client_send_file(Client *client, uint32_t stream, const void *head, size_t head_size, int fd,
                     uint64_t offset, size_t size) {
        FrameHeader header = { .size = (uint32_t)(head_size + size), .type = FRAME_DATA, .stream = stream };
        uint8_t bytes[FRAME_HEADER_SIZE + RECORD_HEADER_SIZE];
        off_t position = (off_t)offset;
        ssize_t n;

        assert(size <= LIMIT_DATA_FRAME_BYTES && head_size == RECORD_HEADER_SIZE);
        frame_header_encode(bytes, &header);
        memcpy(bytes + FRAME_HEADER_SIZE, head, head_size);
        if (!client_batch_sent(client))
                return -ECONNRESET;
        n = client_writable(client) ? send(client->fd, bytes, sizeof(bytes), MSG_MORE | MSG_NOSIGNAL) : 0;
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
                n = -errno;
                client_fail(client);
                return (int)n;
        }
        n = MAX(n, 0);
        if ((size_t)n < sizeof(bytes)) { /* the socket is full */
                if (evbuffer_add(client->out, bytes + n, sizeof(bytes) - (size_t)n) < 0) {
                        client_fail(client);
                        return -ENOMEM;
                }
                return client_keep_rest(client, fd, position, size);
        }
        while (size > 0) {
                n = sendfile(client->fd, fd, &position, size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return client_keep_rest(client, fd, position, size);
                size -= (size_t)n;
        }
        return 0;
}
