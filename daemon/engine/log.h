/* SPDX-License-Identifier: MIT */
#pragma once

/* The log of one process: its only buffer. Bytes come in by splice(2), readers are cursors. Knows no process
 * and no client.
 *
 * The index record goes before its bytes, and the data file's size is the truth: a DATA record without bytes
 * behind it means nothing, bytes belong to the last DATA record before them. Where a record or a segment
 * stands above the end of what is before it, the bytes between are lost, and readers get a gap. Records
 * without bytes are kept as long as the segment that they stand in; a segment's index holds LOG_INDEX_FACTOR
 * times the room of its data, then another one is begun, or, where it has no bytes, its oldest records go.
 *
 * Times are those of the real-time clock, but never below the time of the record before: where the clock is
 * set back, the log's time stands still. The bytes of one record have the time of the first. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "common/protocol.h"

typedef struct Log Log;

typedef struct LogOptions {
        uint64_t retention_bytes; /* data bytes to keep, at least, unless records are shorter than
                                     32 / LOG_INDEX_FACTOR bytes; whole segments go, oldest first */
        uint64_t segment_bytes;   /* 0: retention / 8, within 64 KiB to 8 MiB */
} LogOptions;

#define LOG_INDEX_FACTOR 4 /* the index may take so many times the room of the data */

/* One step of a reader: a piece of data of one source and run, a gap, or a record without bytes. Read the
 * bytes with pread(2) or sendfile(2), never by mapping: should somebody else cut the file, there are fewer
 * than it says. */
typedef struct LogChunk {
        RecordHeader header; /* offset of its first byte, time, run, kind, source */
        uint64_t argument;   /* of a record without bytes; of a gap: the bytes lost */
        size_t size;         /* of data: how many bytes */
        int fd; /* of data: the segment's file, borrowed, good until the next call with this log that moves a
                   cursor, changes the log or idles it; -1 otherwise */
        uint64_t file_offset;
} LogChunk;

/* A reader's place. Plain data: copy it, keep it as long as the log lives. Zero-initialised it is at the
 * log's begin. Retention makes no cursor invalid: one that was passed by gets a gap. Holds no file and no
 * memory. */
typedef struct LogCursor {
        uint64_t offset;  /* of the next byte */
        uint64_t segment; /* private: begin of the segment */
        uint32_t record;  /* private: number of the next record in the segment's index */
        uint32_t flags;   /* private */
} LogCursor;

/**
 * log_open() - open a log, making it if it is not there
 * @path:     absolute path of the directory of the process (exists, 0700); it is kept, and other files in it
 * are left alone
 * @options:  copied; they may differ from those of the time before
 *
 * Recovers from a kill at any instant, and from what a power loss does to the end of files; what is damaged
 * elsewhere becomes a gap. Names: SEGMENT is the offset in 20 digits; SEGMENT.log holds bytes only,
 * SEGMENT.idx records of 32 bytes; the former comes with the first byte. A log that is there holds no
 * descriptor after this; a new one holds one until log_idle().
 *
 * The sizes of all segments but the last are learned when somebody comes to them, or when the log is written
 * to: so this costs the same whether a log has two or two hundred.
 *
 * Return: 0; -EUCLEAN (SYSTEM) with the file's name when the files contradict each other in a way that a kill
 * cannot explain: of older segments, this is what whoever comes to them gets, and whoever writes; -ENOSPC
 * (NO_SPACE) when a new one does not fit; -errno.
 */
int log_open(Log **ret_log, const char *path, const LogOptions *options, Error *reterr_error);
/** log_new() - likewise, where it is known that no log is there. */
int log_new(Log **ret_log, const char *path, const LogOptions *options, Error *reterr_error);
Log *log_free(Log *log);
DEFINE_CLEANUP(Log *, log_free);

/** log_set_options() - from now on; what is longer than they allow goes when more comes. */
void log_set_options(Log *log, const LogOptions *options);

/** log_move() - give the log's directory another name; one that is there and is not empty refuses it. Return:
 * 0 or -errno: nothing has changed. */
int log_move(Log *log, const char *path, Error *reterr_error);

/** log_remove() - delete all files of a log that is not open; the directory stays. Return: 0 or -errno. */
int log_remove(const char *path);

uint64_t log_begin(const Log *log); /* the lowest offset that is kept */
uint64_t log_end(const Log *log);   /* the offset that the next byte will have */
uint64_t log_lost(const Log *log);  /* bytes lost between segments (full disk; not by retention), ever */
uint64_t log_time(const Log *log);  /* of the latest record; its data may have come LOG_RECORD_USEC later */

/** log_know_all() - look at the files of all segments that nobody came to yet, as whoever writes must. Who is
 * about to begin something that will be written asks this first: what cannot be recorded is not begun.
 * Return: 0; -EUCLEAN (SYSTEM) with a file's name; -errno. */
int log_know_all(Log *log, Error *reterr_error);

/** log_disk_bytes() - the data bytes kept. Return: as log_know_all(), which it calls. */
int log_disk_bytes(Log *log, uint64_t *ret_bytes, Error *reterr_error);

/**
 * log_explain() - say why a reader cannot go on
 * @r:     the negative value that a function below returned
 * @what:  what failed: "cannot read the log"
 *
 * Where the files of an older segment contradict each other, as this is found by whoever comes to it, the
 * sentence names the file. Return: r.
 */
int log_explain(Log *log, int r, const char *what, Error *reterr_error);

/**
 * log_splice() - move what a pipe holds into the log, once
 * @source:     SOURCE_STDOUT or SOURCE_STDERR
 * @pipe_fd:    non-blocking read end
 * @max:        at most so many bytes
 * @ret_n:      bytes moved; 0 with return 0 means end of file
 *
 * Writes an index record first where one is needed (another source or run than the last, or more than
 * LOG_RECORD_USEC since, or a new segment), then moves the bytes by splice(2) at the offset equal to the
 * file's size: a kill at any instant loses, doubles and moves nothing. Rotates and applies retention itself,
 * but keeps everything at or above the floor (log_set_floor()).
 *
 * Return: 0; -EAGAIN: the pipe is empty; -ENOSPC: the disk is full even after the oldest segments went
 * (nothing was moved), or the log is being discarded; -EDQUOT (LIMIT): the log exceeds retention by a segment
 * because of the floor: the caller lets the process wait until that has moved; -errno. An empty or ended pipe
 * is told as such also where nothing could be written.
 */
int log_splice(Log *log, Source source, uint32_t run, int pipe_fd, size_t max, size_t *ret_n,
               Error *reterr_error);
#define LOG_RECORD_USEC 1000 /* data of one source and run within this time may share a record */

/** log_set_floor() - nothing at or above this offset may be dropped (UINT64_MAX: no such bound, the default);
 * a segment that ends at the floor is kept, too, for the records at its end. */
void log_set_floor(Log *log, uint64_t offset);

/**
 * log_append() - append bytes from memory instead of a pipe (tests, and what is not splicable); same order,
 * not exact under kill
 *
 * Return: as log_splice(), but never -EAGAIN. After a failure log_end() tells how much was appended.
 */
int log_append(Log *log, Source source, uint32_t run, const void *data, size_t size, Error *reterr_error);

/**
 * log_append_input() - append input as data of SOURCE_STDIN
 * @stdin_offset:  of the first byte: it is kept with the bytes, so that after a kill log_last_input() tells
 * how far they came
 *
 * Return: as log_append().
 */
int log_append_input(Log *log, uint32_t run, uint64_t stdin_offset, const void *data, size_t size,
                     Error *reterr_error);
/** log_last_input() - the stdin offset behind the last of a run's input in the log. Return: 1; 0: none is
 * kept; -errno. */
int log_last_input(Log *log, uint32_t run, uint64_t *ret_stdin_end);

/**
 * log_record() - append a record without bytes
 * Space for at least 64 of them is reserved ahead, so that a full disk does not refuse the record of an exit.
 * The floor does not either. Return: 0; -ENOSPC; -errno.
 */
int log_record(Log *log, RecordKind kind, Source source, uint32_t run, uint64_t argument,
               Error *reterr_error);

/**
 * log_last_record() - the latest record of a kind in the log (searched backwards within what is kept)
 * @run:  of this run only; 0: any
 * Return: 1 and *ret_chunk; 0 if there is none; -errno.
 */
int log_last_record(Log *log, RecordKind kind, uint32_t run, LogChunk *ret_chunk);

/**
 * log_discard_begin() - start to discard, as the disk is full
 * @ret_fd:  a memfd, owned by the caller, who hands a duplicate to the keeper BEFORE the first log_discard():
 * its size counts what was discarded, its pages are punched out again
 */
int log_discard_begin(Log *log, uint32_t run, int *ret_fd, Error *reterr_error);
/** log_discard_resume() - after log_open() by a new engine: go on discarding with the keeper's memfd. One
 * that had already served its purpose when the engine was killed counts nothing twice. Return: 0 or -errno.
 */
int log_discard_resume(Log *log, uint32_t run, int fd, Error *reterr_error);
/** log_discard() - move what a pipe holds into nothing, counted by the memfd; log_end() advances. Return as
 * log_splice(). */
int log_discard(Log *log, int fd, int pipe_fd, size_t max, size_t *ret_n, Error *reterr_error);
/** log_discard_cancel() - as if it had not been begun: nothing has been discarded. */
void log_discard_cancel(Log *log);
/** log_discard_end() - try to log again: records the gap in a new segment. Return: 0 (the caller drops the
 * memfd); -ENOSPC: not yet, as not even a little more than the segment's files would fit; -errno. */
int log_discard_end(Log *log, int fd, Error *reterr_error);

/** log_seek_offset() - to an offset; a record without bytes that stands at it comes first. Beyond the end:
 * -EINVAL. Below the begin: the first step is a gap. */
int log_seek_offset(Log *log, LogCursor *ret_cursor, uint64_t offset);
/** log_seek_end() - behind the last record. */
void log_seek_end(Log *log, LogCursor *ret_cursor);
/** log_seek_time() - to the first record at or after a time (logarithmic in records); the end if there is
 * none. Bytes that were found lost at or after that time are told first. */
int log_seek_time(Log *log, LogCursor *ret_cursor, uint64_t time_usec);
/** log_seek_run() - to the START record of a run, or the first record of it that is kept. Return: 0; -ENOENT:
 * nothing of it is kept. */
int log_seek_run(Log *log, LogCursor *ret_cursor, uint32_t run);
/** log_seek_lines() - so that 'n' lines of the chosen sources (bit 1 << Source) follow up to the end; an
 * unfinished last line counts as one. */
int log_seek_lines(Log *log, LogCursor *ret_cursor, uint64_t n, unsigned sources);

/**
 * log_next() - the next step of a reader
 * @cursor:   moved behind what is returned; data that is cut to 'max' goes on with the next call
 * @max:      most data bytes in one chunk, at least 1
 * @sources:  bits 1 << SOURCE_STDOUT, 1 << SOURCE_STDERR, 1 << SOURCE_STDIN: data of other sources is passed
 * over without being read
 *
 * Gaps come whatever the sources. While output is discarded, a reader at the end gets a gap as far as that
 * has come. Data of several records that follow on is joined up to 'max'; the time is that of the first.
 *
 * Return: 1 and *ret_chunk; 0 at the end (try again when the log has grown); -errno, with the cursor where it
 * was or further on, but not beyond anything that was not returned.
 */
int log_next(Log *log, LogCursor *cursor, size_t max, unsigned sources, LogChunk *ret_chunk);

/** log_idle() - close every descriptor; they are opened again when needed. For a process that has nothing to
 * say. */
void log_idle(Log *log);

/** log_sync() - fdatasync(2) what is open; used at the end of a run. Return: 0 or -errno. */
int log_sync(Log *log);
