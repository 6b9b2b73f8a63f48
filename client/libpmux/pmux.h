/* SPDX-License-Identifier: MIT */
#pragma once

/* The client library of pmux: one connection to the daemon, on which calls, output streams and input streams
 * run.
 *
 * A connection mends itself. When the daemon's engine is replaced the library connects again, repeats what
 * was in flight (with its keys, so nothing is done twice) and takes every stream up at the byte where it was.
 * The program sees nothing of it, unless it asks with on_notice.
 *
 * Blocking use: pmux_open(), pmux_call(), pmux_stream_open(), pmux_stream_next(), pmux_input_open(), …
 * In a program's own poll loop: watch pmux_fd() for reading, call pmux_dispatch() when it is readable, and
 * use the functions that end in _start, whose outcome comes through callbacks. Both may be mixed.
 *
 * Callbacks run inside pmux_dispatch() and the blocking functions, never on another thread. They may start
 * calls and streams and free their own object; they must not call blocking functions, pmux_dispatch(),
 * pmux_turn() or pmux_close(): what they are given may stand where the next answer is received. A Pmux
 * belongs to one thread at a time; different ones are independent.
 *
 * Parameters and results are JSON texts as docs/protocol.md describes them for each method. Strings that come
 * in are NUL-terminated and borrowed during the call. Functions that can fail return a negative errno and
 * fill in a PmuxError, which may be NULL. Spans of time are microseconds. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PMUX_INFINITY UINT64_MAX
#define PMUX_KEY_SIZE 33 /* bytes of a key made by pmux_key(), with the NUL */

typedef struct Pmux Pmux;
typedef struct PmuxCall PmuxCall;
typedef struct PmuxStream PmuxStream;
typedef struct PmuxInput PmuxInput;
typedef struct PmuxEvents PmuxEvents;
typedef struct PmuxBatch PmuxBatch;

/** What went wrong. 'code' is one of the names in docs/protocol.md ("not-found"); it is "" when nothing is
 * set. */
typedef struct PmuxError {
        char code[32];
        int errno_value;   /* positive */
        char step[32];     /* the step that failed ("exec"), may be empty */
        char message[512]; /* one sentence, UTF-8 */
} PmuxError;

/* ---- connection ---- */

#define PMUX_NO_AUTOSTART (1u << 0) /* do not start a daemon where none listens */
#define PMUX_NO_RECONNECT (1u << 1) /* a connection that breaks is an error at once */
#define PMUX_GREET_LATER                                                                                     \
        (1u << 2) /* the greeting goes with the first request, which wakes the daemon once less */

typedef enum PmuxNotice {
        PMUX_NOTICE_LOST = 1, /* the connection broke; the library tries to mend it */
        PMUX_NOTICE_BACK = 2, /* it is mended */
} PmuxNotice;

typedef void (*PmuxNoticeFn)(Pmux *pmux, PmuxNotice notice, void *userdata);

/** Zero-initialise, then set 'size' to sizeof(PmuxOptions) and whatever is wanted. */
typedef struct PmuxOptions {
        size_t size;
        const char *socket_path; /* NULL: $PMUX_SOCKET, $XDG_RUNTIME_DIR/pmux/socket, … */
        unsigned flags;          /* PMUX_NO_… */
        uint64_t retry_usec;     /* how long to try to mend a connection; 0: 30 s; at most 5 s
                                    of it once the daemon has removed its socket */
        PmuxNoticeFn on_notice;  /* may be NULL */
        int (*connect)(
                void *userdata); /* may be NULL; makes a connected stream socket, owned by the library, or
                                    -errno; then socket_path only serves messages and nothing is started */
        void *userdata;          /* for on_notice and connect */
} PmuxOptions;

/**
 * pmux_open() - connect to the daemon, starting it if need be
 * @ret_pmux:  the connection, to be freed with pmux_close()
 * @options:   may be NULL
 *
 * The daemon is the program $PMUX_DAEMON, else pmuxd beside the caller's executable, else found in PATH.
 *
 * Return: 0; -ECONNREFUSED ("unreachable") when no daemon answers, naming the socket; -EPERM ("denied") when
 * the socket is served by another user; -EINVAL for a path that is too long; -errno.
 */
int pmux_open(Pmux **ret_pmux, const PmuxOptions *options, PmuxError *reterr_error);

/** pmux_close() - close the connection; calls, streams and inputs on it are freed too, without callbacks.
 * Returns NULL. */
Pmux *pmux_close(Pmux *pmux);

/** pmux_fd() - a descriptor that becomes readable when pmux_dispatch() has work; the same for the life of the
 * connection, over reconnections. Borrowed. */
int pmux_fd(const Pmux *pmux);

/**
 * pmux_dispatch() - read and write what is possible now, without waiting, and run callbacks
 *
 * Return: 0; -errno once the connection is given up (then every call and stream has been told so, too).
 */
int pmux_dispatch(Pmux *pmux, PmuxError *reterr_error);

/** pmux_turn() - wait up to timeout_usec (PMUX_INFINITY: without bound) for pmux_fd(), then dispatch. Returns
 * as pmux_dispatch(); a signal handler that ran ends the wait early. */
int pmux_turn(Pmux *pmux, uint64_t timeout_usec, PmuxError *reterr_error);

/** pmux_socket_path() - where this connection goes to; borrowed. */
const char *pmux_socket_path(const Pmux *pmux);

/** pmux_engine_pid() - pid of the engine that answered last; 0 before its greeting has come. */
uint32_t pmux_engine_pid(const Pmux *pmux);

/** pmux_connected() - whether the connection stands now (1) or is being mended or given up (0). */
int pmux_connected(const Pmux *pmux);

/* ---- calls ---- */

/** pmux_key() - make up a random key of 32 letters for a request or a writer. Return: 0 or -errno. */
int pmux_key(char ret_key[PMUX_KEY_SIZE]);

/** Gets the result (JSON text) or the error; the other is NULL. Both are borrowed. The call is freed after
 * it. */
typedef void (*PmuxReplyFn)(Pmux *pmux, const char *result, const PmuxError *error, void *userdata);

/**
 * pmux_call_start() - send a request
 * @params:    a JSON object, or NULL for {}; run, start, restart and write get a random "key" if they have
 * none
 * @fn:        called exactly once, unless the call is forgotten
 * @ret_call:  may be NULL; valid until fn is called
 *
 * Return: 0; -EINVAL when params is not a JSON object; -EMSGSIZE when it is too large to send; -ENOMEM;
 * -errno when the connection was given up.
 */
int pmux_call_start(Pmux *pmux, const char *method, const char *params, PmuxReplyFn fn, void *userdata,
                    PmuxCall **ret_call, PmuxError *reterr_error);

/**
 * pmux_send_fds() - the next request of this connection takes descriptors along
 * @fds:    at most 3; duplicated, so that the caller may close them at once; n_fds 0: none after all
 *
 * For run with "stdin", "stdout" or "stderr" {"fd": i}, which is the i-th of them: the process then has the
 * caller's own stream. They are sent again with a request that is repeated after a reconnection.
 *
 * Return: 0; -EINVAL for more than 3; -EBADF and others of fcntl(2).
 */
int pmux_send_fds(Pmux *pmux, const int *fds, size_t n_fds, PmuxError *reterr_error);

/** pmux_call_forget() - its function is not called any more; the daemon carries the request out all the same.
 * Returns NULL. */
PmuxCall *pmux_call_forget(PmuxCall *call);

/**
 * pmux_call() - send a request and wait for its answer
 * @ret_result:  JSON text, to be freed with free(3); may be NULL
 *
 * Return: 0; the negative errno that belongs to the daemon's error.
 */
int pmux_call(Pmux *pmux, const char *method, const char *params, char **ret_result, PmuxError *reterr_error);

/* ---- output: streams of records ---- */

typedef enum PmuxKind {
        PMUX_DATA = 1,    /* bytes of the process */
        PMUX_GAP = 2,     /* value bytes from offset on are lost to this reader */
        PMUX_START = 3,   /* value: pid */
        PMUX_INPUT = 4,   /* value: the stdin offset up to which input has been accepted */
        PMUX_SIGNAL = 5,  /* value: signal number */
        PMUX_RESIZE = 6,  /* value: columns * 65536 + rows */
        PMUX_CLOSED = 7,  /* the source has been closed */
        PMUX_EXIT = 8,    /* value: see PMUX_EXIT_… */
        PMUX_EMPTY = 9,   /* no descendant is left */
        PMUX_WRITER = 10, /* of transcripts; value: pid of the client whose input follows, 0: not known */
        PMUX_END = 15,    /* the stream ends; value: why (PMUX_END_…) */
} PmuxKind;

typedef enum PmuxSource {
        PMUX_NONE = 0,
        PMUX_STDOUT = 1,
        PMUX_STDERR = 2,
        PMUX_STDIN = 3
} PmuxSource;

#define PMUX_EXIT_CODE(value) ((int)((value)&0xff))
#define PMUX_EXIT_SIGNAL(value) ((int)((value) >> 8 & 0xff)) /* 0: none */
#define PMUX_EXIT_CORE(value) ((int)((value) >> 16 & 1))
#define PMUX_EXIT_UNKNOWN(value) ((int)((value) >> 17 & 1))

#define PMUX_END_COMPLETE 0
#define PMUX_END_REMOVED 1
#define PMUX_END_CANCELLED 2
#define PMUX_END_UNREADABLE 3

typedef struct PmuxRecord {
        uint64_t offset;
        uint64_t time_usec; /* since 1970 */
        uint64_t value;     /* of records other than data */
        const void *data;   /* of data; borrowed: until the next call of a pmux function on this connection */
        size_t size;        /* of data */
        uint32_t run;
        uint8_t kind;   /* PmuxKind */
        uint8_t source; /* PmuxSource */
} PmuxRecord;

#define PMUX_STREAM_MANUAL_CREDIT (1u << 0) /* the window opens again only by pmux_stream_consumed() */

/** Zero-initialise, set 'size' to sizeof(PmuxStreamOptions). Without on_record, records are kept for
 * pmux_stream_next(). */
typedef struct PmuxStreamOptions {
        size_t size;
        uint64_t window_bytes; /* most bytes under way and not consumed; 0: 1 MiB; PMUX_INFINITY: no bound */
        unsigned flags;        /* PMUX_STREAM_… */
        void (*on_open)(PmuxStream *stream, const char *result, void *userdata); /* result: of the method */
        void (*on_record)(PmuxStream *stream, const PmuxRecord *record, void *userdata);
        void (*on_failed)(PmuxStream *stream, const PmuxError *error,
                          void *userdata); /* nothing comes after it */
        void *userdata;
} PmuxStreamOptions;

/**
 * pmux_stream_start() - open a stream of records of one process
 * @method:  "subscribe"; or "run", "start", "restart": then the stream begins with the first byte of the new
 * run
 * @params:  of the method; for the latter three "subscribe" holds what the stream should be like (may be left
 *           out); "stream" and "credit" are set by the library
 *
 * The last record is PMUX_END, unless on_failed is called. Records arrive exactly once and in order, over any
 * number of reconnections.
 */
int pmux_stream_start(Pmux *pmux, const char *method, const char *params, const PmuxStreamOptions *options,
                      PmuxStream **ret_stream, PmuxError *reterr_error);

/** pmux_stream_open() - the same, and wait for the answer. @ret_result: as pmux_call(). */
int pmux_stream_open(Pmux *pmux, const char *method, const char *params, const PmuxStreamOptions *options,
                     PmuxStream **ret_stream, char **ret_result, PmuxError *reterr_error);

/**
 * pmux_stream_next() - wait for the next record of a stream that has no on_record
 * @ret_record:    borrowed, until the next call for this stream
 * @timeout_usec:  0: does not wait, but takes what has come; PMUX_INFINITY: no bound
 *
 * Return: 1: a record; 0: the stream has ended (after PMUX_END); -ETIMEDOUT; -errno.
 */
int pmux_stream_next(PmuxStream *stream, const PmuxRecord **ret_record, uint64_t timeout_usec,
                     PmuxError *reterr_error);

/** pmux_stream_consumed() - 'size' bytes of window are free again: of each record, pmux_record_cost(). */
void pmux_stream_consumed(PmuxStream *stream, uint64_t size);
uint64_t pmux_record_cost(const PmuxRecord *record);

/** pmux_stream_free() - stop listening; the process is not disturbed. Returns NULL. */
PmuxStream *pmux_stream_free(PmuxStream *stream);

/* ---- input: a process's stdin ---- */

typedef struct PmuxInputOptions {
        size_t size;
        void (*on_progress)(PmuxInput *input, void *userdata); /* room, accepted or taken has changed */
        void (*on_closed)(PmuxInput *input, const PmuxError *error, void *userdata); /* no more can be sent */
        void *userdata;
        const char *lock; /* the token of pmux_lock_stdin(); NULL: none */
} PmuxInputOptions;

/**
 * pmux_input_start() - open a stream to a process's stdin
 * @target:  a process's id as digits, or its name
 *
 * The library keeps what the daemon has not accepted yet (at most 1 MiB) and sends it again after a
 * reconnection; each byte arrives exactly once. Bytes may be written before the daemon has answered.
 */
int pmux_input_start(Pmux *pmux, const char *target, const PmuxInputOptions *options, PmuxInput **ret_input,
                     PmuxError *reterr_error);

/** pmux_input_open() - the same, and wait for the answer. */
int pmux_input_open(Pmux *pmux, const char *target, const PmuxInputOptions *options, PmuxInput **ret_input,
                    PmuxError *reterr_error);

/** pmux_input_room() - how many bytes pmux_input_write() would take now. */
size_t pmux_input_room(const PmuxInput *input);

/** pmux_input_write() - hand over bytes, without waiting. Return: how many were taken, maybe 0; -EPIPE after
 * pmux_input_eof(); -errno once the input is closed. */
ssize_t pmux_input_write(PmuxInput *input, const void *data, size_t size, PmuxError *reterr_error);

/** pmux_input_eof() - end of file, in order, after what was written. */
int pmux_input_eof(PmuxInput *input, PmuxError *reterr_error);

/** pmux_input_written(), _accepted(), _taken() - bytes handed over; in the daemon's log, not to be lost; in
 * the process's pipe. */
uint64_t pmux_input_written(const PmuxInput *input);
uint64_t pmux_input_accepted(const PmuxInput *input);
uint64_t pmux_input_taken(const PmuxInput *input);

/** pmux_input_finished() - whether all that was written, and the end of file if there was one, is accepted.
 */
int pmux_input_finished(const PmuxInput *input);

/**
 * pmux_input_flush() - wait until everything written (and an end of file) is accepted
 * @drain:  not 0: until the process's pipe has it, too
 *
 * Return: 0; -ETIMEDOUT ("timeout"): it stays on its way; -errno once the input is closed before that.
 */
int pmux_input_flush(PmuxInput *input, int drain, uint64_t timeout_usec, PmuxError *reterr_error);

/** pmux_input_free() - leave the stream; stdin stays open unless pmux_input_eof() was accepted. Bytes not yet
 * accepted may be lost: flush first. Returns NULL. */
PmuxInput *pmux_input_free(PmuxInput *input);

/* ---- events ---- */

/**
 * pmux_events_start() - follow what happens to all processes
 * @since:     events after this sequence number; PMUX_INFINITY: from now on
 * @follow:    0: end with the latest
 * @on_event:  the params of one "event" notification as JSON text; NULL with an error when it fails
 */
int pmux_events_start(Pmux *pmux, uint64_t since, int follow,
                      void (*on_event)(PmuxEvents *events, const char *event, const PmuxError *error,
                                       void *userdata),
                      void *userdata, PmuxEvents **ret_events, PmuxError *reterr_error);
PmuxEvents *pmux_events_free(PmuxEvents *events);

/* ---- batches: many commands, one after the other or some at a time ---- */

#define PMUX_BATCH_JOBS_MAX 200
#define PMUX_BATCH_KEEP_GOING (1u << 0) /* a command that fails does not keep others from being started */
#define PMUX_BATCH_OUTPUT (1u << 1)     /* results carry what the commands wrote */
#define PMUX_BATCH_REMOVE (1u << 2)     /* the daemon forgets each process once its result is known */

/** How it went with one command. It has succeeded if 'started' is not 0, 'error' NULL, 'timed_out' 0 and
 * 'exit' 0. */
typedef struct PmuxBatchResult {
        size_t index;
        int started; /* 0: it was not begun; 'error' says why it could not be, if that is the reason */
        const PmuxError *error; /* borrowed; or why nothing is known of its end; else NULL */
        uint64_t exit;          /* PMUX_EXIT_… */
        int timed_out;          /* it was stopped at the deadline */
        uint64_t id;            /* of its process; 0: none was made */
        uint32_t run;
        uint64_t start_usec; /* since 1970 */
        uint64_t end_usec;
        uint64_t from; /* what it wrote stands between these offsets of its log */
        uint64_t to;
        const void *out[2];    /* borrowed; with OUTPUT: the beginning of its stdout and stderr */
        size_t out_size[2];    /* how much of them there is here */
        uint64_t out_total[2]; /* with OUTPUT: how much it wrote */
        uint64_t lost;         /* with OUTPUT: bytes that a full disk or retention has taken */
} PmuxBatchResult;

typedef struct PmuxBatchCounts {
        size_t n;       /* commands in all */
        size_t running; /* or about to */
        size_t ended;   /* those that failed among them */
        size_t failed;
} PmuxBatchCounts;

/** Zero-initialise, set 'size' to sizeof(PmuxBatchOptions). */
typedef struct PmuxBatchOptions {
        size_t size;
        size_t n;    /* how many commands there are */
        size_t jobs; /* how many may run at a time: 0 is 1, at most PMUX_BATCH_JOBS_MAX */
        unsigned flags;
        uint64_t timeout_usec; /* for each command; 0: none */
        uint64_t output_max; /* bytes kept of each output; 0: 1 MiB. The rest is counted and can be read from
                                the log, unless the process is removed */
        const char *params;  /* members of "run" for all commands, a JSON object; may be NULL. What is not
                                said: "stdin" is "null", "lease" is "client" */
        /* Makes the params of "run" for one command: a JSON object with "argv" at least, in memory that
         * free(3) takes. Called when its turn is near, in order. Return: 0 or -errno. */
        int (*command)(size_t index, char **ret_params, void *userdata);
        /* A result; called for each command exactly once, in order. May be NULL. */
        void (*on_result)(PmuxBatch *batch, const PmuxBatchResult *result, void *userdata);
        void (*on_progress)(PmuxBatch *batch, const PmuxBatchCounts *counts,
                            void *userdata); /* may be NULL */
        int fd; /* with on_fd: watched for reading while the batch runs; borrowed */
        void (*on_fd)(PmuxBatch *batch, void *userdata); /* 'fd' is readable: read it; may be NULL */
        void *userdata;
} PmuxBatchOptions;

/**
 * pmux_batch_new() - prepare a batch; nothing is started yet
 * @options:  copied, but for params, which must stay until pmux_batch_free()
 *
 * Each command is one "run" with a key of its own, so that an engine that is replaced does nothing twice. All
 * go over this connection, some more than may run: the daemon begins the next as soon as one has ended.
 * Memory does not grow with the number of commands: results that wait for an earlier one take up to 32 MiB,
 * then nothing more is begun until that one has ended.
 */
int pmux_batch_new(PmuxBatch **ret_batch, Pmux *pmux, const PmuxBatchOptions *options,
                   PmuxError *reterr_error);

/**
 * pmux_batch_run() - run the commands; returns when all have ended and every result was told
 *
 * After a failure, unless KEEP_GOING, what runs is waited for and nothing more is begun.
 *
 * Return: 0, however the commands ended; -errno when the connection was given up.
 */
int pmux_batch_run(PmuxBatch *batch, PmuxError *reterr_error);

/** pmux_batch_stop() - begin nothing more and stop what runs, trees and all; may be called from callbacks.
 * @now: not 0: by SIGKILL at once. pmux_batch_run() returns when no descendant is left. */
void pmux_batch_stop(PmuxBatch *batch, int now);

/** pmux_batch_free() - with processes still running: they are left to their lease. Returns NULL. */
PmuxBatch *pmux_batch_free(PmuxBatch *batch);

/* ---- helpers: one method each, waiting for the answer ----
 *
 * @target is a process's id as digits, or its name; @ret_result is JSON text to be freed with free(3), may be
 * NULL. */

/**
 * pmux_run() - make a process and start it
 * @argv, @env:    NULL-terminated; env may be NULL: empty
 * @cwd, @name:    may be NULL
 * @ret_id:        the process's id
 * @ret_stream:    if not NULL: its output from the first byte, as pmux_stream_open() with 'options' (may be
 * NULL)
 */
int pmux_run(Pmux *pmux, const char *const *argv, const char *const *env, const char *cwd, const char *name,
             uint64_t *ret_id, PmuxStream **ret_stream, const PmuxStreamOptions *options,
             PmuxError *reterr_error);

/** pmux_stop() - end a process with all of its descendants; returns when none is left. @grace_usec: before
 * SIGKILL; PMUX_INFINITY: the process's own setting. */
int pmux_stop(Pmux *pmux, const char *target, uint64_t grace_usec, char **ret_result,
              PmuxError *reterr_error);

/** pmux_signal() - send a signal. @scope: "main", "group" or "tree". */
int pmux_signal(Pmux *pmux, const char *target, int signal, const char *scope, PmuxError *reterr_error);

/** pmux_wait() - wait for a process. @what: "exited", "closed", "empty" or "running"; pmux_wait_for() of
 * pmux-read.h knows more. Return: 0; -ETIMEDOUT. */
int pmux_wait(Pmux *pmux, const char *target, const char *what, uint64_t timeout_usec, char **ret_result,
              PmuxError *reterr_error);

/** pmux_show() - everything known of a process. pmux_list() - the status of all (all: 0 only those that run).
 */
int pmux_show(Pmux *pmux, const char *target, char **ret_result, PmuxError *reterr_error);
int pmux_list(Pmux *pmux, int all, char **ret_result, PmuxError *reterr_error);

/** pmux_write() - write one piece of input, at most 1 MiB, whole or not at all. @eof: not 0: end of file
 * after it. */
int pmux_write(Pmux *pmux, const char *target, const void *data, size_t size, int eof,
               PmuxError *reterr_error);

#ifdef __cplusplus
}
#endif
