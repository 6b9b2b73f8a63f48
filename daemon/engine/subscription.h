/* SPDX-License-Identifier: MIT */
#pragma once

/* One client's view of one log: a cursor and a credit, no bytes of its own. */

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "daemon/engine/client.h"
#include "daemon/engine/params.h"
#include "daemon/engine/process.h"

typedef struct Subscription Subscription;

typedef enum SubscriptionUntil {
        SUBSCRIPTION_UNTIL_EXIT,
        SUBSCRIPTION_UNTIL_CLOSED,
        SUBSCRIPTION_UNTIL_FOREVER,
} SubscriptionUntil;

typedef struct SubscriptionOptions {
        uint64_t stream;
        bool has_from, from_end, has_since, has_lines, has_head;
        uint64_t from;
        uint64_t since_usec;
        uint64_t last_lines;
        uint64_t head_bytes;
        uint64_t run;       /* 0: all */
        uint64_t begin_run; /* not 0: begin with this run, and go on beyond it */
        unsigned sources;   /* bits 1 << Source */
        bool follow;
        bool lossless;
        int until; /* SubscriptionUntil */
        uint64_t credit;
} SubscriptionOptions;

/* The members of `subscribe`, without target. */
#define SUBSCRIPTION_MEMBERS                                                                                 \
        "stream from run since_usec last_lines sources follow until head_bytes lossless credit"

/** subscription_parse() - read them. */
int subscription_parse(SubscriptionOptions *ret_options, Params *params, Error *reterr_error);

/**
 * subscription_new() - begin to send a log on a stream of a connection; it frees itself when that or the
 * process ends
 * @ret_from, @ret_end:  where it begins, and where the log ends now
 */
int subscription_new(Client *client, Process *process, const SubscriptionOptions *options, uint64_t *ret_from,
                     uint64_t *ret_end, Error *reterr_error);
/** subscription_from_stream() - the subscription of a stream; NULL if the stream is something else. */
Subscription *subscription_from_stream(ClientStream *stream);
/** subscription_cancel() - end it with the reason "cancelled". */
void subscription_cancel(Subscription *subscription);
