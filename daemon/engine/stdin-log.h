/* SPDX-License-Identifier: MIT */
#pragma once

/* Accepted input of one process: what clients wrote, in order, delivered to the pipe exactly once by
 * sendfile(2). No events, no clients.
 *
 * stdin.log holds the bytes at their stdin offsets (what has been delivered is punched out again, in large
 * pieces); stdin.idx holds fixed records of 64 bytes (stdin-index.h). A record is what accepts: bytes are
 * written first, then the record; bytes behind the last record's end were never accepted and are overwritten.
 * What has been delivered is the offset of the open file description 'position', of which the keeper holds a
 * duplicate: sendfile(2) with a NULL offset moves bytes and position in one system call. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define STDIN_WRITER_ID_SIZE 12 /* a writer's key, hashed (FNV-1a 128) to this many bytes */
#define STDIN_WRITER_SIZE 16    /* with the digest */

typedef struct StdinLog StdinLog;

typedef struct StdinWriter {
        uint8_t id[STDIN_WRITER_ID_SIZE]; /* who it is */
        uint8_t digest[4];                /* of all that one who writes once wrote; zero: it is not known */
} StdinWriter;

/** stdin_writer_hash() - the id of a key of any bytes, without a digest. */
StdinWriter stdin_writer_hash(const void *key, size_t size);
/** stdin_writer_is() - whether two are the same writer, whatever they wrote. */
bool stdin_writer_is(const StdinWriter *writer, const StdinWriter *other);

/**
 * stdin_log_open() - open or make the stdin log in the directory 'path'
 * @position_fd:  the keeper's duplicate, owned by the log if it could be opened, else still by the caller,
 * who needs it to try again: without it, what was delivered would be delivered once more; -1: none was handed
 * over, then position starts at the accepted end of the run before
 *
 * Completes what a kill interrupted (a cancellation recorded but not carried out). Holds no descriptor until
 * one is needed, unless position_fd is given. Makes no file: the first input does.
 *
 * Return: 0; -EUCLEAN (SYSTEM) when the position is beyond what the index has accepted, or the index has
 * nothing whole in it; -errno.
 */
int stdin_log_open(StdinLog **ret_log, const char *path, int position_fd, Error *reterr_error);
/** stdin_log_new() - the same for a directory that is known to have none. Return: 0; -ENOMEM. */
int stdin_log_new(StdinLog **ret_log, const char *path, Error *reterr_error);
StdinLog *stdin_log_free(StdinLog *log);
DEFINE_CLEANUP(StdinLog *, stdin_log_free);

/** stdin_log_begin_run() - a new run: what is left of earlier runs is dropped (recorded), stdin is open
 * again. Makes no file where there is none. Harmless to repeat for the same run. Return: 0 or -errno. */
int stdin_log_begin_run(StdinLog *log, uint32_t run, Error *reterr_error);

/**
 * stdin_log_position_fd() - the descriptor whose offset is the position, opened if need be
 * @ret_fd:   borrowed; where *ret_is_new was true, the keeper must hold a duplicate before the first
 * stdin_log_deliver()
 */
int stdin_log_position_fd(StdinLog *log, int *ret_fd, bool *ret_is_new, Error *reterr_error);

/** stdin_log_close_position() - close a descriptor that was new and has delivered nothing: as if it had not
 * been asked for. */
void stdin_log_close_position(StdinLog *log);

uint64_t stdin_log_accepted(const StdinLog *log); /* stdin offset up to which input is accepted */
uint64_t stdin_log_taken(const StdinLog *log);    /* up to which the pipe has it (or it was cancelled) */
uint64_t stdin_log_base(const StdinLog *log);     /* what is below was taken or dropped before the latest
                                                     run or cancellation */
bool stdin_log_eof(const StdinLog *log);          /* an end of file was accepted in this run */

/**
 * stdin_log_accept() - accept bytes and, with eof, the end of file after them; atomic
 * @writer:    who; may be NULL (no retry detection)
 * @position:  where the bytes stand in the writer's own count; those below what is already accepted of the
 * writer are skipped, and a position above it is -EINVAL
 * @ret_accepted:  the writer's count afterwards (may be NULL)
 * @ret_end:       the stdin offset behind the bytes, also when they had been accepted before (may be NULL)
 *
 * Return: 0; -EPIPE (STDIN_CLOSED) after an end of file, unless all of it had been accepted before; -ENOSPC;
 * -errno. On failure nothing is accepted.
 */
int stdin_log_accept(StdinLog *log, const StdinWriter *writer, uint64_t position, const void *data,
                     size_t size, bool eof, uint64_t *ret_accepted, uint64_t *ret_end, Error *reterr_error);

/** stdin_log_unnoted() - the bytes that were accepted since stdin_log_note() or a cancellation. Return: 1 and
 * their stdin offsets; 0: there are none; -errno. */
int stdin_log_unnoted(StdinLog *log, uint64_t *ret_begin, uint64_t *ret_end, Error *reterr_error);
/** stdin_log_note() - remember, over kills, that something has been done with all that is accepted. */
int stdin_log_note(StdinLog *log, Error *reterr_error);
/** stdin_log_read() - read accepted bytes that are not yet delivered. Return: 0; -EUCLEAN: they are not all
 * there; -errno. */
int stdin_log_read(StdinLog *log, uint64_t offset, void *ret_data, size_t size, Error *reterr_error);

/**
 * stdin_log_writer() - how much of a writer has been accepted and taken, in the writer's own count (0, 0 if
 * it is not known)
 * @ret_end: stdin offset behind its last accepted byte; @ret_eof: whether this writer sent the end of file.
 * Looks back over what is kept of the index of this and earlier runs (at least 4,096 records). Each of the
 * four may be NULL. Bytes that were cancelled or dropped count as taken. Return: 0 or -errno.
 */
int stdin_log_writer(StdinLog *log, const StdinWriter *writer, uint64_t *ret_accepted, uint64_t *ret_taken,
                     uint64_t *ret_end, bool *ret_eof);

/** stdin_log_wrote_this() - whether a writer of whom something was accepted wrote it with the same digest as
 * now; true where none is known. */
bool stdin_log_wrote_this(StdinLog *log, const StdinWriter *writer);

/**
 * stdin_log_deliver() - move accepted bytes into the pipe, as many as it takes now
 * @pipe_fd:  non-blocking write end
 * @ret_n:    bytes moved
 *
 * stdin_log_position_fd() must have been called since the log was opened, where there is anything to deliver.
 *
 * Return: 0: all accepted bytes are delivered; -EAGAIN (no Error is set): the pipe is full; -EPIPE: nobody
 * reads any more (SIGPIPE must be ignored); -EUCLEAN: accepted bytes are not in the file; -errno.
 */
int stdin_log_deliver(StdinLog *log, int pipe_fd, size_t *ret_n, Error *reterr_error);

/** stdin_log_cancel() - drop what is accepted and not taken. A pending end of file is kept. @ret_dropped:
 * bytes. */
int stdin_log_cancel(StdinLog *log, uint64_t *ret_dropped, Error *reterr_error);

/**
 * stdin_log_end_run() - the run is over and nothing more will be delivered
 * @ret_dropped:  bytes that were accepted and not taken (may be NULL)
 *
 * Drops them (recorded) and closes the position descriptor; the caller lets the keeper DROP its duplicate
 * afterwards. Without it the descriptor stays open until stdin_log_free(), and a later engine that gets none
 * from the keeper takes all of the run's input for not taken. Return: 0 or -errno: nothing has changed.
 */
int stdin_log_end_run(StdinLog *log, uint64_t *ret_dropped, Error *reterr_error);

/** stdin_log_idle() - close what is open but the position descriptor, and free what only speeds things up. */
void stdin_log_idle(StdinLog *log);

/** stdin_log_remove() - delete all files of a stdin log that is not open; the directory stays. Return: 0 or
 * -errno. */
int stdin_log_remove(const char *path);
