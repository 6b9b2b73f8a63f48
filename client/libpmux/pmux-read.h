/* SPDX-License-Identifier: MIT */
#pragma once

/* Reading from and writing to a process in portions: lines, exactly n bytes, up to a pattern, until quiet; a
 * question and its answer; cursors; stdin for one writer alone.
 *
 * Each comes as a blocking function and as one that ends in _start, whose outcome comes through a callback
 * (see pmux.h). A request that meets with a broken connection is repeated with its key: nothing is written
 * twice, and no cursor moves twice. @target is a process's id as digits, or its name. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Pmux Pmux;
typedef struct PmuxCall PmuxCall;
typedef struct PmuxError PmuxError;

/* ---- what is read for ---- */

typedef enum PmuxFor {
        PMUX_FOR_BYTES = 0,     /* what is there, up to n (0: max_bytes), at least one byte */
        PMUX_FOR_EXACTLY = 1,   /* n bytes */
        PMUX_FOR_LINE = 2,      /* up to and with a newline */
        PMUX_FOR_SEPARATOR = 3, /* up to and with 'text' */
        PMUX_FOR_PATTERN = 4,   /* up to the end of a match of the PCRE2 pattern 'text' */
        PMUX_FOR_QUIET = 5,     /* until something and then nothing has come for quiet_usec, or the end */
        PMUX_FOR_EOF = 6,       /* all of the run */
} PmuxFor;

#define PMUX_READ_NO_CURSOR (1u << 0) /* no cursor is moved; needs PMUX_READ_FROM or run */
#define PMUX_READ_PEEK (1u << 1)      /* the cursor stays */
#define PMUX_READ_FROM (1u << 2)      /* begin at 'from', not at the cursor */
#define PMUX_READ_AT_ONCE (1u << 3)   /* do not wait: what is not there now is a timeout */
#define PMUX_READ_STDOUT (1u << 4)    /* those of the three that are given; none: stdout and stderr */
#define PMUX_READ_STDERR (1u << 5)
#define PMUX_READ_STDIN (1u << 6) /* what was written to it; only where there is a transcript */

/** Zero-initialise, then set 'size' to sizeof(PmuxReadOptions) and whatever is wanted. */
typedef struct PmuxReadOptions {
        size_t size;
        PmuxFor what;
        unsigned flags;   /* PMUX_READ_… */
        uint64_t n;       /* of bytes and exactly */
        const void *text; /* of separator and pattern */
        size_t text_size; /* of text; 0: it ends with a NUL */
        uint64_t quiet_usec;
        uint64_t timeout_usec; /* 0: none */
        uint64_t max_bytes;    /* give up beyond; 0: 1 MiB; at most 8 MiB */
        const char *cursor;    /* NULL: "default" */
        uint64_t from;         /* with PMUX_READ_FROM */
        uint32_t run;          /* begin at that run and end with it; 0: no */
        const char *lock;      /* of a question: the token of pmux_lock_stdin(); NULL: none */
} PmuxReadOptions;

/* ---- what came of it ---- */

typedef enum PmuxReason {
        PMUX_SATISFIED = 0,
        PMUX_ENDED = 1,     /* the output ended first; what there was is given and consumed */
        PMUX_TIMED_OUT = 2, /* what there is is given, and comes again: the cursor stays */
        PMUX_MISSING = 3,   /* bytes are lost behind what is given */
} PmuxReason;

typedef struct PmuxGroup {
        size_t from; /* positions in data */
        size_t to;
        int matched; /* 0: it took no part, or a lookahead saw it behind data; the others mean nothing then */
} PmuxGroup;

typedef struct PmuxRead {
        PmuxReason reason;
        char *data; /* owned; any bytes, with a NUL behind them that is not counted */
        size_t size;
        uint64_t from; /* offsets in the log */
        uint64_t next;
        uint32_t run;
        uint64_t missing;   /* of exactly: how many bytes more were wanted */
        uint64_t accepted;  /* of a question: the stdin offset behind it */
        uint64_t lost_from; /* bytes that nobody can have any more, before the data; equal: none */
        uint64_t lost_to;
        PmuxGroup *groups; /* owned; of a match: the whole of it, then its groups */
        size_t n_groups;
} PmuxRead;

/** pmux_read_deinit() - free what a PmuxRead holds; it is zero afterwards. */
void pmux_read_deinit(PmuxRead *read);

/** Gets what was read, or the error, or both: see pmux_read(). Both are borrowed; 'read' may be NULL. */
typedef void (*PmuxReadFn)(Pmux *pmux, const PmuxRead *read, const PmuxError *error, void *userdata);

/**
 * pmux_read() - read the next portion of what a process wrote
 * @options:   NULL: what is there
 * @ret_read:  to be freed with pmux_read_deinit(), whatever is returned
 *
 * Return: 0: satisfied; -ENODATA ("incomplete"): the output ended, or bytes are lost, before that: *ret_read
 * has the part that there was, and 'missing'; -ETIMEDOUT ("timeout"): *ret_read has what there is; -EMSGSIZE
 * ("too-large"): more than max_bytes, nothing is consumed; the negative errno of other errors.
 */
int pmux_read(Pmux *pmux, const char *target, const PmuxReadOptions *options, PmuxRead *ret_read,
              PmuxError *reterr_error);
int pmux_read_start(Pmux *pmux, const char *target, const PmuxReadOptions *options, PmuxReadFn fn,
                    void *userdata, PmuxCall **ret_call, PmuxError *reterr_error);

/** pmux_ask() - write a piece of input, and read what comes of it; nothing that was written before is read.
 * @options: NULL: until nothing has come for 300 ms. Return as pmux_read(). */
int pmux_ask(Pmux *pmux, const char *target, const void *data, size_t size, const PmuxReadOptions *options,
             PmuxRead *ret_read, PmuxError *reterr_error);
int pmux_ask_start(Pmux *pmux, const char *target, const void *data, size_t size,
                   const PmuxReadOptions *options, PmuxReadFn fn, void *userdata, PmuxCall **ret_call,
                   PmuxError *reterr_error);

/** pmux_read_line() and the others: pmux_read() for one thing, at the cursor "default". @timeout_usec: 0:
 * none. */
int pmux_read_line(Pmux *pmux, const char *target, uint64_t timeout_usec, PmuxRead *ret_read,
                   PmuxError *reterr_error);
int pmux_read_exactly(Pmux *pmux, const char *target, uint64_t n, uint64_t timeout_usec, PmuxRead *ret_read,
                      PmuxError *reterr_error);
int pmux_read_until(Pmux *pmux, const char *target, const char *separator, uint64_t timeout_usec,
                    PmuxRead *ret_read, PmuxError *reterr_error);
int pmux_read_pattern(Pmux *pmux, const char *target, const char *pattern, uint64_t timeout_usec,
                      PmuxRead *ret_read, PmuxError *reterr_error);
int pmux_read_quiet(Pmux *pmux, const char *target, uint64_t quiet_usec, uint64_t timeout_usec,
                    PmuxRead *ret_read, PmuxError *reterr_error);
int pmux_read_eof(Pmux *pmux, const char *target, uint64_t timeout_usec, PmuxRead *ret_read,
                  PmuxError *reterr_error);

/* ---- cursors ---- */

#define PMUX_CURSOR_END UINT64_MAX

/** pmux_cursor_get() - where a cursor is. Return: 0; -ENOENT ("not-found") when there is none of that name.
 */
int pmux_cursor_get(Pmux *pmux, const char *target, const char *name, uint64_t *ret_offset,
                    PmuxError *reterr_error);

/** pmux_cursor_set() - make or move one; PMUX_CURSOR_END: behind all there is. @ret_offset may be NULL. */
int pmux_cursor_set(Pmux *pmux, const char *target, const char *name, uint64_t offset, uint64_t *ret_offset,
                    PmuxError *reterr_error);
int pmux_cursor_delete(Pmux *pmux, const char *target, const char *name, PmuxError *reterr_error);

/* ---- writing ---- */

#define PMUX_WRITE_EOF (1u << 0)      /* end of file after it */
#define PMUX_WRITE_DRAIN (1u << 1)    /* wait until the process's pipe has it */
#define PMUX_WRITE_CONSUMED (1u << 2) /* wait until the process has read it */

/**
 * pmux_write_drain() - write one piece of input, at most 1 MiB, and wait as 'flags' say
 * @timeout_usec:  0: none; also waits so long for room
 * @lock:          the token of pmux_lock_stdin(); NULL: none
 *
 * Return: 0; -ETIMEDOUT ("timeout", its step says what was waited for); -EBUSY ("locked"); -EPIPE; -errno.
 */
int pmux_write_drain(Pmux *pmux, const char *target, const void *data, size_t size, unsigned flags,
                     uint64_t timeout_usec, const char *lock, PmuxError *reterr_error);

/** pmux_lock_stdin() - hold a process's stdin. @holder: what others are told; @token: of PMUX_KEY_SIZE bytes;
 * "" to take it, which fills it in, and as it is to renew. Return: 0; -EBUSY ("locked"). */
int pmux_lock_stdin(Pmux *pmux, const char *target, const char *holder, uint64_t ttl_usec, char *token,
                    PmuxError *reterr_error);
int pmux_unlock_stdin(Pmux *pmux, const char *target, const char *token, PmuxError *reterr_error);

/* ---- waiting, without reading ---- */

typedef enum PmuxUntil {
        PMUX_UNTIL_EXITED = 0,
        PMUX_UNTIL_CLOSED = 1, /* nobody holds its output open any more */
        PMUX_UNTIL_EMPTY = 2,  /* no descendant is left */
        PMUX_UNTIL_RUNNING = 3,
        PMUX_UNTIL_READY = 4,
        PMUX_UNTIL_STATE = 5,   /* the state is 'text' */
        PMUX_UNTIL_PATTERN = 6, /* the PCRE2 pattern 'text' matches what it writes */
        PMUX_UNTIL_QUIET = 7,   /* nothing has come for quiet_usec */
        PMUX_UNTIL_BYTES = 8,   /* n bytes have come */
} PmuxUntil;

/** Zero-initialise, then set 'size' to sizeof(PmuxCondition), in each, and whatever is wanted. */
typedef struct PmuxCondition {
        size_t size;
        PmuxUntil what;
        unsigned flags;             /* PMUX_READ_FROM, PMUX_READ_STDOUT, PMUX_READ_STDERR */
        const char *const *targets; /* up to a NULL; NULL: those of the call */
        const void *text;           /* of state and pattern */
        size_t text_size;           /* of text; 0: it ends with a NUL */
        uint64_t n;
        uint64_t quiet_usec;
        uint64_t from; /* with PMUX_READ_FROM: of the log, or PMUX_CURSOR_END; else where its latest run began
                        */
} PmuxCondition;

#define PMUX_WAIT_ANY (1u << 0)     /* one condition of one process is enough; else all of all */
#define PMUX_WAIT_AT_ONCE (1u << 1) /* do not wait: only look */

typedef struct PmuxSpan {
        uint64_t from; /* bytes of the sources since the search began */
        uint64_t to;
        int matched; /* 0: it took no part; the others mean nothing then */
} PmuxSpan;

typedef struct PmuxMetRow {
        uint64_t id;
        size_t condition; /* its place among those of the call */
        uint64_t offset;  /* of pattern and bytes: behind what was waited for */
        PmuxSpan *groups; /* owned; of a match: the whole of it, then its groups */
        size_t n_groups;
} PmuxMetRow;

/** What has come about. */
typedef struct PmuxMet {
        PmuxMetRow *rows; /* owned */
        size_t n_rows;
} PmuxMet;

/** pmux_met_deinit() - free what a PmuxMet holds; it is zero afterwards. */
void pmux_met_deinit(PmuxMet *met);

/** Gets what has come about, or the error, or both: see pmux_wait_for(). Both are borrowed; 'met' may be
 * NULL.
 */
typedef void (*PmuxMetFn)(Pmux *pmux, const PmuxMet *met, const PmuxError *error, void *userdata);

/**
 * pmux_wait_for() - wait for processes by conditions; moves no cursor
 * @targets:       up to a NULL; NULL when each condition has its own
 * @n_conditions:  1 to 64
 * @flags:         PMUX_WAIT_…
 * @timeout_usec:  0: none
 * @ret_met:       to be freed with pmux_met_deinit(), whatever is returned; may be NULL
 *
 * Return: 0; -ETIMEDOUT ("timeout"): *ret_met has what has come about; the negative errno of other errors.
 */
int pmux_wait_for(Pmux *pmux, const char *const *targets, const PmuxCondition *conditions,
                  size_t n_conditions, unsigned flags, uint64_t timeout_usec, PmuxMet *ret_met,
                  PmuxError *reterr_error);
int pmux_wait_for_start(Pmux *pmux, const char *const *targets, const PmuxCondition *conditions,
                        size_t n_conditions, unsigned flags, uint64_t timeout_usec, PmuxMetFn fn,
                        void *userdata, PmuxCall **ret_call, PmuxError *reterr_error);

/* ---- running with the caller's own streams ---- */

/**
 * pmux_run_fds() - pmux_run(), with descriptors of the caller as stdin, stdout and stderr
 * @fds:  each -1 for what the process would have otherwise; they stay the caller's
 */
int pmux_run_fds(Pmux *pmux, const char *const *argv, const char *const *env, const char *cwd,
                 const char *name, const int fds[3], uint64_t *ret_id, PmuxError *reterr_error);

#ifdef __cplusplus
}
#endif
