/* SPDX-License-Identifier: MIT */
#pragma once

/* One client's exclusive right to a process's stdin: a token, who holds it, until when. Pure. */

#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

#define STDIN_LOCK_TOKEN_MAX 64
#define STDIN_LOCK_HOLDER_MAX 64
#define STDIN_LOCK_TTL_MIN_USEC (UINT64_C(100) * 1000)
#define STDIN_LOCK_TTL_MAX_USEC (UINT64_C(3600) * 1000000)

typedef struct StdinLock {
        char token[STDIN_LOCK_TOKEN_MAX + 1];
        char holder[STDIN_LOCK_HOLDER_MAX + 1]; /* text for people */
        pid_t pid;                              /* of the client that took or renewed it */
        uint64_t expires_usec;                  /* real time: what is told and stored */
        uint64_t deadline_usec;                 /* monotonic: what counts as long as this engine lives */
} StdinLock;

/** stdin_lock_begin() - set both times to 'ttl_usec' from now. */
void stdin_lock_begin(StdinLock *lock, uint64_t ttl_usec);
/** stdin_lock_resume() - set the deadline of one that an earlier engine stored. */
void stdin_lock_resume(StdinLock *lock);
/** stdin_lock_left() - how long it stays in force, 0: it does not. @lock: may be NULL. */
uint64_t stdin_lock_left(const StdinLock *lock);

/**
 * stdin_lock_check() - whether one who shows a token may use stdin
 * @lock:   NULL: there is none
 * @token:  NULL: shows none
 * @id:     of the process, for the sentence
 *
 * Return: 0; -EBUSY (LOCKED): another holds it, or the lock that the token stood for is over.
 */
int stdin_lock_check(const StdinLock *lock, const char *token, uint64_t id, Error *reterr_error);
