/* SPDX-License-Identifier: MIT */

/* close-stdin, cancel-input, lock-stdin, unlock-stdin. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/engine/request-write.h"

#define TOKEN_BYTES 16 /* of one that we make up */

static int parse_lock(Request *request, Params *params, Process **ret_process, const char **ret_lock,
                      Error *reterr_error) {
        int r;

        r = request_target(request, params, ret_process, reterr_error);
        return r < 0 ? r : params_string(params, "lock", STDIN_LOCK_TOKEN_MAX, ret_lock, reterr_error);
}

int request_close_stdin(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        InputFrom from = { .pid = request->client->pid };
        Process *process;
        StdinLog *log;
        int r;

        if ((r = parse_lock(request, params, &process, &from.lock, reterr_error)) < 0 ||
            (r = process_stdin_log(process, &log, reterr_error)) < 0)
                return r;
        if (!process_is_alive(process))
                return error_set(reterr_error, ERROR_NOT_RUNNING, "process %" PRIu64 " is not running",
                                 process->id);
        if (process->stdin_fd >= 0 && !stdin_log_eof(log)) {
                r = process_input(process, &from, 0, NULL, 0, true, NULL, NULL, reterr_error);
                if (r < 0)
                        return r;
        }
        *ret_result = json_pack("{s:I}", "accepted", (json_int_t)stdin_log_accepted(log));
        return 0;
}

int request_cancel_input(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        uint64_t dropped = 0, taken;
        const char *lock = NULL;
        Process *process;
        StdinLog *log;
        int r;

        if ((r = parse_lock(request, params, &process, &lock, reterr_error)) < 0 ||
            (r = process_check_lock(process, lock, reterr_error)) < 0 ||
            (r = process_stdin_log(process, &log, reterr_error)) < 0)
                return r;
        taken = stdin_log_taken(log);
        r = process_cancel_input(process, &dropped, reterr_error);
        if (r < 0)
                return r;
        if (dropped > 0)
                write_cancelled(process, taken);
        *ret_result = json_pack("{s:I, s:I, s:I}", "dropped", (json_int_t)dropped, "accepted",
                                (json_int_t)stdin_log_accepted(log), "taken", (json_int_t)taken);
        return 0;
}

/* Whom to name to others: one line of text. */
static int parse_holder(Params *params, StdinLock *lock, Error *reterr_error) {
        const char *holder = NULL;
        int r;

        r = params_string(params, "holder", STDIN_LOCK_HOLDER_MAX, &holder, reterr_error);
        if (r < 0)
                return r;
        for (const char *p = holder; p && *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        r = -EINVAL;
        if (!holder || r < 0)
                return error_set(reterr_error, ERROR_INVALID,
                                 "holder: 1 to %d bytes of text without control characters are needed",
                                 STDIN_LOCK_HOLDER_MAX);
        (void)strcpy(lock->holder, holder);
        return 0;
}

static int make_token(StdinLock *lock, Error *reterr_error) {
        uint8_t bytes[TOKEN_BYTES];

        if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
                return error_set_errno(reterr_error, errno, "cannot make up a token");
        for (size_t i = 0; i < sizeof(bytes); i++)
                (void)snprintf(lock->token + 2 * i, 3, "%02x", bytes[i]);
        return 0;
}

int request_lock_stdin(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        StdinLock lock = { .pid = request->client->pid };
        const char *token = NULL;
        uint64_t ttl = 0;
        Process *process;
        bool renewed;
        int r;

        if ((r = parse_lock(request, params, &process, &token, reterr_error)) < 0 ||
            (r = parse_holder(params, &lock, reterr_error)) < 0 ||
            (r = params_u64(params, "ttl_usec", STDIN_LOCK_TTL_MIN_USEC, STDIN_LOCK_TTL_MAX_USEC, &ttl,
                            reterr_error)) < 0)
                return r;
        if (ttl == 0)
                return error_set(reterr_error, ERROR_INVALID, "ttl_usec: how long the lock lasts is needed");
        if (process->config.stdin_config.kind != STDIO_PIPE)
                return error_set(reterr_error, ERROR_STDIN_CLOSED,
                                 "the stdin of process %" PRIu64 " takes no input", process->id);
        renewed = stdin_lock_left(process->stdin_lock) > 0;
        if (renewed && (r = process_check_lock(process, token, reterr_error)) < 0)
                return r;
        if (token)
                (void)strcpy(lock.token, token);
        else if ((r = make_token(&lock, reterr_error)) < 0)
                return r;
        stdin_lock_begin(&lock, ttl);
        r = supervisor_set_lock(request->host->supervisor, process, &lock, reterr_error);
        if (r < 0)
                return r;
        *ret_result = json_pack("{s:s, s:I, s:b}", "lock", lock.token, "expires_usec",
                                (json_int_t)lock.expires_usec, "renewed", (int)renewed);
        return 0;
}

int request_unlock_stdin(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        const char *token = NULL;
        Process *process;
        int r;

        (void)ret_result;
        if ((r = parse_lock(request, params, &process, &token, reterr_error)) < 0)
                return r;
        if (!token)
                return error_set(reterr_error, ERROR_INVALID, "lock: the token of lock-stdin is needed");
        if (stdin_lock_left(process->stdin_lock) > 0 &&
            (r = process_check_lock(process, token, reterr_error)) < 0)
                return r;
        if (!process->stdin_lock)
                return 0;
        return supervisor_set_lock(request->host->supervisor, process, NULL, reterr_error);
}
