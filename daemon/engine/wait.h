/* SPDX-License-Identifier: MIT */
#pragma once

/* A request that waits for processes: looked at again, at the end of the turn, whenever one of them has
 * changed. */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine/request.h"

typedef struct Wait Wait;

typedef struct WaitTarget {
        ProcessWatch watch;
        Wait *wait;       /* borrowed */
        Process *process; /* borrowed; NULL when it was removed */
        uint64_t id;
        uint32_t run; /* the latest when the wait began: one that was restarted since has ended it */
        bool flag;    /* for whoever waits */
} WaitTarget;

struct Wait {
        List due_link;       /* in host->due */
        Request *request;    /* owned until it is answered; NULL: nobody is answered */
        RequestHost *host;   /* borrowed */
        struct event *timer; /* owned */
        bool timed_out;
        bool goes_on;                             /* when nobody waits for the answer any more, too */
        int condition;                            /* for whoever waits */
        bool any;                                 /* likewise */
        uint64_t offset;                          /* likewise */
        json_t *context;                          /* owned; likewise */
        void *data;                               /* owned, free(3); likewise */
        void (*on_removed)(Wait *wait, size_t i); /* a process goes away: the last look at it; may be NULL */
        void (*on_free)(Wait *wait);              /* lets go of what 'data' holds; may be NULL */
        /* Looks whether the wait is over. Return: 1 after wait_answer(); 0: not yet. */
        int (*check)(Wait *wait);
        size_t n;
        WaitTarget targets[];
};

/** wait_new() - wait for 'n' processes. @request: deferred, may be NULL; @timeout_usec: USEC_INFINITY for
 * none. It is looked at for the first time at the end of this turn. */
int wait_new(Wait **ret_wait, RequestHost *host, Request *request, Process *const *processes, size_t n,
             int (*check)(Wait *wait), uint64_t timeout_usec, Error *reterr_error);
/** wait_answer() - answer the request (see request_answer()) and free the wait. Return: 1. */
int wait_answer(Wait *wait, json_t *result, const Error *error);
/** wait_due() - it is looked at at the end of this turn. */
void wait_due(Wait *wait);
/** waits_finish_turn() - look at all that are due. */
void waits_finish_turn(RequestHost *host);
