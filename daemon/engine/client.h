/* SPDX-License-Identifier: MIT */
#pragma once

/* One connection: frames in, frames out, its streams. Knows frames, not what they ask for: that goes up by
 * ClientOps. */

#include <event2/event.h>
#include <event2/util.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "common/list.h"
#include "common/protocol.h"

typedef struct Client Client;
typedef struct ClientStream ClientStream;
typedef struct ClientSet ClientSet;
struct evbuffer;

typedef struct ClientOps {
        /* A CONTROL frame. Return: 0; <0 closes the connection (a GOODBYE has been queued by the callee or
         * follows from r). */
        int (*on_control)(Client *client, const char *text, size_t size, void *userdata);
        void (*on_close)(Client *client, void *userdata); /* before its streams are closed */
} ClientOps;

/* What all streams have in common; embedded in a subscription or a writer. */
typedef struct ClientStreamOps {
        /* A frame of the client's on this stream. Return: 0; <0 closes the connection. */
        int (*on_frame)(ClientStream *stream, const FrameHeader *header, const uint8_t *payload,
                        Error *reterr_error);
        /* Called at the end of a turn in which the stream was ready and the connection writable: send what
         * there is, as long as it is. Return: true if there is more to do at once. */
        bool (*on_pump)(ClientStream *stream);
        void (*on_close)(ClientStream *stream); /* the connection goes away: free the stream */
} ClientStreamOps;

struct ClientStream {
        List link;       /* in client->streams */
        List ready_link; /* in set->ready while it has something to do */
        List lazy_link;  /* in set->lazy while what it has to do may wait */
        Client *client;  /* borrowed; NULL when not attached */
        uint32_t id;
        bool blocked;               /* waits until the connection is writable again */
        const ClientStreamOps *ops; /* static */
};

struct ClientSet {
        struct event_base *base; /* borrowed */
        const ClientOps *ops;    /* static */
        void *userdata;          /* borrowed */
        List clients;
        List flush; /* clients with control frames to send */
        List ready; /* streams with something to do */
        List lazy;  /* streams that may wait for company, or for lazy_timer */
        List late;  /* clients whose greeting waits for the first reply, or for late_timer */
        List dead;  /* clients to free at the end of the turn */
        size_t n_clients;
        size_t n_wide;        /* of those, with is_wide */
        size_t frame_bytes;   /* announced sizes of large frames that are not complete */
        uint8_t *scratch;     /* owned; one data frame */
        uint8_t *read_buffer; /* owned; what was just read, of whichever client */
        uint8_t *batch;       /* owned; small frames of one client, sent together */
        size_t batch_bytes;
        Client *batch_client;     /* borrowed; NULL: the batch is empty */
        bool pumping;             /* a batch may stay open */
        struct event *lazy_timer; /* owned */
        struct event *late_timer; /* owned */
        uint8_t greeting[FRAME_HELLO_DAEMON_SIZE];
};

struct Client {
        List link;       /* in set->clients or set->dead */
        List flush_link; /* in set->flush */
        List late_link;  /* in set->late */
        List streams;    /* ClientStream.link */
        List requests;   /* Request.link of those that wait; the request layer's */
        ClientSet *set;  /* borrowed */
        int fd;          /* owned */
        pid_t pid;
        uid_t uid;
        List fds;            /* descriptors that came, of frames not yet handled; client-fds.c */
        uint64_t n_received; /* bytes, over the connection */
        uint64_t n_handled;  /* bytes of the frames before the one that is being handled */
        uint64_t n_handling; /* and those of this one */
        uint32_t n_streams;
        uint32_t n_lazy; /* of those, in set->lazy */
        uint32_t n_requests;
        size_t large; /* what this client has in set->frame_bytes */
        struct evbuffer *in;
        struct evbuffer *out;      /* owned; control frames and the rest of a cut data frame */
        struct event *read_event;  /* owned */
        struct event *write_event; /* owned */
        uint32_t send_bytes;       /* room of the socket, as far as known; 0: it has not been full yet */
        bool is_wide;              /* its socket holds WIDE_SEND_BUFFER_BYTES */
        bool greeted;
        bool is_new;  /* its HELLO is among what was just read */
        bool closing; /* flush, then close */
        bool closed;  /* to be freed at the end of the turn */
        bool failed;  /* something could not be sent: the next flush closes it */
        bool stalled; /* not read from, as it does not read its replies */
};

/** client_set_init() - an empty set. Return: 0; -ENOMEM. */
int client_set_init(ClientSet *set, struct event_base *base, const ClientOps *ops, void *userdata);
void client_set_deinit(ClientSet *set);

/** client_set_flush() - send the control frames that were queued in this turn: after the registry's commit.
 */
void client_set_flush(ClientSet *set);
/** client_set_pump() - let the streams that are ready send, behind the control frames of their clients; those
 * with more to do at once stay in set->ready. */
void client_set_pump(ClientSet *set);
/** client_set_reap() - free the connections that were closed in this turn. */
void client_set_reap(ClientSet *set);

/**
 * client_new() - take up a connection
 * @fd:  connected, non-blocking; owned by the client on success
 *
 * Return: 0; -EPERM (DENIED) when the peer may not talk to this daemon; -EDQUOT (LIMIT); -ENOMEM; the caller
 * tells the peer and closes.
 */
int client_new(Client **ret_client, ClientSet *set, int fd, Error *reterr_error);

/** client_close() - close at once; the object lives until the end of the turn. */
void client_close(Client *client);
/** client_goodbye() - say why (GOODBYE), then close when that is sent. */
void client_goodbye(Client *client, const Error *error);
/** client_finish() - read no more, and close when all that this turn answers is sent. */
void client_finish(Client *client);
/** client_send_json() - queue a CONTROL frame. 'object' is borrowed; NULL: memory ran out before. Return: 0;
 * -ENOMEM: the next flush closes the connection, not before, so that a sender outlives what it sends. */
int client_send_json(Client *client, const json_t *object);
/** client_send_frame() - queue a small frame on a stream (ACK, the end of a subscription). */
int client_send_frame(Client *client, FrameType type, uint32_t stream, const void *payload, size_t size);
/**
 * client_send_data() - send a DATA frame in this turn, small ones together, as far as the socket takes it;
 * what is left is kept (at most one frame, or a batch of small ones)
 * @head:  RECORD_HEADER_SIZE bytes and what belongs to a record without bytes
 * @data:  size bytes or NULL
 *
 * Only when client_writable(). Return: 0 or -errno (the next flush closes the connection).
 */
int client_send_data(Client *client, uint32_t stream, const void *head, size_t head_size, const void *data,
                     size_t size);
#define CLIENT_FILE_MIN (16 * 1024) /* below, a copy is cheaper than a second system call */

/**
 * client_send_file() - the same for a large piece of data that is in a file: it goes by sendfile(2), without
 * a copy through the engine
 * @fd:  borrowed; 'size' bytes at 'offset' must be there
 *
 * Return: 0 or -errno (the next flush closes the connection).
 */
int client_send_file(Client *client, uint32_t stream, const void *head, size_t head_size, int fd,
                     uint64_t offset, size_t size);
/** client_data_room() - how many bytes of data the next frame may have, so that the socket takes about all.
 */
size_t client_data_room(const Client *client);
/** client_writable() - whether a data frame may be sent: nothing is queued before it. */
bool client_writable(const Client *client);

/** client_queued_bytes() - bytes that wait for the client to read. */
size_t client_queued_bytes(const Client *client);

/** client_stream_attach() - put a stream on a connection. Return: 0; -EINVAL (INVALID) id 0 or in use;
 * -EDQUOT (LIMIT). */
int client_stream_attach(ClientStream *stream, Client *client, uint32_t id, const ClientStreamOps *ops,
                         Error *reterr_error);
/** client_stream_detach() - take it off; harmless to repeat. */
void client_stream_detach(ClientStream *stream);
/** client_stream_find() - by id; NULL if there is none. */
ClientStream *client_stream_find(Client *client, uint32_t id);
/** client_stream_ready() - on_pump() is called at the end of this turn. */
void client_stream_ready(ClientStream *stream);

/** client_stream_lazily() - on_pump() is called when something else is sent to this client, or a millisecond
 * later: for what is worth no write of its own. */
void client_stream_lazily(ClientStream *stream);

/**
 * client_hold_greeting() - let the greeting wait for a reply, if it is all that there is to be sent
 *
 * A client that sent its first request with its HELLO waits for the reply, and need not be woken before it by
 * an answer to the HELLO alone. If none comes, the greeting goes after some milliseconds.
 */
void client_hold_greeting(Client *client);
/** client_drop_greeting() - nothing is held any more: it is on its way, or the client is gone. */
void client_drop_greeting(Client *client);
/** client_on_late_timer() - the trampoline of set->late_timer; private to client*.c. */
void client_on_late_timer(evutil_socket_t fd, short what, void *userdata);
/** client_on_lazy_timer() - the trampoline of set->lazy_timer; private to client*.c. */
void client_on_lazy_timer(evutil_socket_t fd, short what, void *userdata);
/** client_on_writable() - the trampoline of write_event; private to client*.c. */
void client_on_writable(evutil_socket_t fd, short what, void *userdata);
