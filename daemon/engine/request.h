/* SPDX-License-Identifier: MIT */
#pragma once

/* Requests: from a CONTROL frame to a handler, and exactly one answer to each. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/json-text.h"
#include "daemon/engine/client.h"
#include "daemon/engine/event-feed.h"
#include "daemon/engine/params.h"
#include "daemon/engine/queue.h"
#include "daemon/engine/reader.h"
#include "daemon/engine/supervise.h"

typedef struct Request Request;
typedef struct RequestHost RequestHost;

/* What all handlers share. */
struct RequestHost {
        ReaderSet readers;          /* those that read or wait for output */
        QueueSet queues;            /* runs that wait for their turn */
        Supervisor *supervisor;     /* borrowed */
        ClientSet *clients;         /* borrowed */
        EventFeed *events;          /* borrowed */
        List due;                   /* waits to be looked at at the end of the turn */
        const char *socket_path;    /* borrowed */
        const char *state_dir;      /* borrowed */
        KeeperMessage hello;        /* the keeper's greeting */
        uint64_t start_usec;        /* real time of the engine's start */
        size_t waiting_write_bytes; /* of writes that wait for room */
        size_t n_wait_terms;        /* conditions of all waits, times their processes */
        size_t n_wait_targets;      /* processes of the waits without conditions */
        size_t n_reads;             /* reads that wait */
        bool stopping;              /* daemon-stop was asked for */
        bool upgrading;
};

struct Request {
        List link;         /* in client->requests while it waits */
        Client *client;    /* borrowed */
        RequestHost *host; /* borrowed */
        json_t *id;        /* owned */
        void (*on_cancel)(
                Request *request); /* of one that waits: drop what waits; the answer is not its business */
        void *waiter;              /* borrowed; what waits */
};

/* A handler returns 0 with *ret_result (new; NULL stands for {}), REQUEST_WAITS after request_defer(),
 * REQUEST_ANSWERED after request_answer_text(), or <0 with the error. */
#define REQUEST_WAITS 1
#define REQUEST_ANSWERED 2
typedef int (*RequestHandler)(Request *request, Params *params, json_t **ret_result, Error *reterr_error);

/** request_dispatch() - handle one CONTROL frame. Return: 0; <0 closes the connection. */
int request_dispatch(RequestHost *host, Client *client, const char *text, size_t size);
/** request_may_wait() - whether one more may wait on this connection: asked before anything is begun. Return:
 * 0; -errno (LIMIT). */
int request_may_wait(const Request *request, Error *reterr_error);
/** request_defer() - a handler's request will be answered later. @on_cancel: see Request. Return:
 * REQUEST_WAITS or -errno. */
int request_defer(Request *request, void (*on_cancel)(Request *request), void *waiter, Error *reterr_error);
/** request_undefer() - what a deferred request waited for has come: its handler goes on, and answers or
 * defers it again. */
void request_undefer(Request *request);
/** request_answer() - answer a deferred request and free it. @result: taken over; NULL: @error is sent;
 * without one, memory ran out: the connection is closed at the end of the turn. */
void request_answer(Request *request, json_t *result, const Error *error);
/** request_answer_text() - answer with a result that is text already, and free the request. Return:
 * REQUEST_ANSWERED; -ENOMEM: nothing was answered. */
int request_answer_text(Request *request, const JsonText *result);
/** requests_drop() - the connection is gone: drop what waits for it. */
void requests_drop(Client *client);

/* What `read` and `ask` have in common. */
#define READ_MEMBERS "cursor sources for n separator pattern quiet_usec max_bytes timeout_usec key"

/* For handlers. */
/** request_target() - the process that `target` names. */
int request_target(Request *request, Params *params, Process **ret_process, Error *reterr_error);
/** request_targets() - those that `targets` names, each once; *ret_processes is owned (free(3)). */
int request_targets(Request *request, Params *params, Process ***ret_processes, size_t *ret_n,
                    Error *reterr_error);

#define METHOD(name, handler, members)                                                                       \
        int handler(Request *request, Params *params, json_t **ret_result, Error *reterr_error);
#include "daemon/engine/request-table.h"
#undef METHOD
