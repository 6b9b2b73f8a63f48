/* SPDX-License-Identifier: MIT */
#pragma once

/* Requests in flight: sent, sent again after a reconnection, answered once. */

#include <jansson.h>
#include <stdint.h>

#include "client/libpmux/pmux.h"
#include "common/error.h"

/* Gets the result (borrowed) or the error; the other is NULL. */
typedef void (*CallFn)(Pmux *pmux, json_t *result, const Error *error, void *userdata);

/**
 * call_start() - send a request as soon as there is a socket
 * @params:    a JSON object; its reference is taken over, on failure too
 * @ret_call:  may be NULL; freed after fn
 *
 * Return: 0; -EMSGSIZE (TOO_LARGE); -ENOMEM; -errno once the connection was given up.
 */
int call_start(Pmux *pmux, const char *method, json_t *params, CallFn fn, void *userdata, PmuxCall **ret_call,
               Error *reterr_error);

/** call_start_owning() - the same; on success userdata is freed with free(3) after fn, or when the call is
 * forgotten. */
int call_start_owning(Pmux *pmux, const char *method, json_t *params, CallFn fn, void *userdata,
                      PmuxCall **ret_call, Error *reterr_error);

/** call_error_from_json() - the error object of an answer as an Error. Return: its negative errno. */
int call_error_from_json(const json_t *json, Error *reterr_error);

/** calls_on_control() - one CONTROL frame: an answer or a notification. Return: 0; -EPROTO. */
int calls_on_control(Pmux *pmux, uint8_t *payload, size_t size, Error *reterr_error);

void calls_lost(Pmux *pmux);                     /* the socket is gone: nothing counts as sent */
void calls_resend(Pmux *pmux);                   /* a new one is there: send what is not sent */
uint64_t calls_deadline(const Pmux *pmux);       /* monotonic: when calls_expire() has something to do */
void calls_expire(Pmux *pmux);                   /* there is no socket: answer those whose time is over */
void calls_fail(Pmux *pmux, const Error *error); /* given up: answer all with the error */

void calls_free(Pmux *pmux); /* the connection is closed: free all, tell nobody */

/** fds_close() - close descriptors, and forget them. */
void fds_close(int *fds, size_t *n_fds);

/** params_parse() - JSON text (NULL: {}) to an object. Return: 0; -EINVAL (INVALID). */
int params_parse(const char *text, json_t **ret_params, Error *reterr_error);

/** params_set_target() - "target": digits become an id, anything else a name. Return: 0; -ENOMEM. */
int params_set_target(json_t *params, const char *target);

/** target_to_json() - a target as the protocol takes it; NULL when out of memory. */
json_t *target_to_json(const char *target);

/** sources_to_json() - the streams that PMUX_READ_… flags choose; NULL when out of memory. */
json_t *sources_to_json(unsigned flags);
