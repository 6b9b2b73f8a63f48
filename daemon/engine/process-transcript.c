/* SPDX-License-Identifier: MIT */

/* Input that is kept in the log beside the output. Accepting is done by the stdin log; then the bytes are
 * copied from there into the log, each record of which says at which stdin offset it begins; then the stdin
 * log's last record is marked as noted. Killed in between, the next engine finds by the offset in the log how
 * far the copy came. Where the log cannot take it the copy stays behind, and delivery with it. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/process.h"

#define COPY_BYTES (64 * 1024)

int process_transcript_begin(Process *process, pid_t pid, Error *reterr_error) {
        LogChunk last;
        Log *log;
        int r;

        r = process_log(process, &log, reterr_error);
        if (r < 0)
                return r;
        if (process_transcribe(process) < 0) {
                /* It will be copied behind bytes that have their writer already: of another one, it is
                 * unknown where its own begin. */
                if (log_last_record(log, RECORD_WRITER, process->run.run, &last) > 0 &&
                    last.argument == (uint64_t)pid)
                        return 0;
                pid = 0;
        }
        return log_record(log, RECORD_WRITER, SOURCE_STDIN, process->run.run, (uint64_t)pid, reterr_error);
}

void process_transcript_start(Process *process) {
        LogChunk last;
        Log *log;

        if (process->transcript_from == UINT64_MAX || process_log(process, &log, NULL) < 0)
                return;
        if (log_last_record(log, RECORD_WRITER, process->run.run, &last) > 0)
                (void)process_record(process, RECORD_WRITER, SOURCE_STDIN, last.argument);
}

/* One piece. Return: 0 or -errno; transcript_from has moved by what was copied in either case. */
static int transcript_copy(Process *process, Log *log, StdinLog *stdin_log, void *buffer, uint64_t end,
                           Error *reterr_error) {
        size_t size = MIN(end - process->transcript_from, (uint64_t)COPY_BYTES);
        uint64_t before;
        int r;

        r = stdin_log_read(stdin_log, process->transcript_from, buffer, size, reterr_error);
        if (r < 0)
                return r;
        before = log_end(log);
        r = log_append_input(log, process->run.run, process->transcript_from, buffer, size, reterr_error);
        process->transcript_from += log_end(log) - before;
        return r;
}

static int transcript_copy_all(Process *process, Error *reterr_error) {
        StdinLog *stdin_log;
        void *buffer;
        uint64_t end;
        Log *log;
        int r;

        if ((r = process_log(process, &log, reterr_error)) < 0 ||
            (r = process_stdin_log(process, &stdin_log, reterr_error)) < 0)
                return r;
        buffer = malloc(COPY_BYTES);
        if (!buffer)
                return error_set_errno(reterr_error, ENOMEM, "cannot copy input");
        end = stdin_log_accepted(stdin_log);
        while (r >= 0 && process->transcript_from < end)
                r = transcript_copy(process, log, stdin_log, buffer, end, reterr_error);
        free(buffer);
        return r < 0 ? r : stdin_log_note(stdin_log, reterr_error);
}

int process_transcribe(Process *process) {
        Error error = {};
        int r;

        if (process->transcript_from == UINT64_MAX)
                return 0;
        if (!(process->run.ended & RUN_SPAWNED))
                return -EAGAIN; /* it is to stand behind the record of the start */
        r = transcript_copy_all(process, &error);
        process_grown(process);
        if (r >= 0) {
                process->transcript_from = UINT64_MAX;
                return 0;
        }
        if (error.code == ERROR_LIMIT)
                return r; /* a lossless reader is behind: when it moves, this is called again */
        if (process->disk_retry_usec == 0) {
                (void)fprintf(stderr, "<4>process %" PRIu64 ": its input waits for its log: %s\n",
                              process->id, error.text);
                process->disk_retry_usec = clock_monotonic_usec() + DISK_RETRY_USEC;
                process_arm_timer(process);
        }
        return r;
}

void process_transcript_recover(Process *process) {
        uint64_t begin = 0, end = 0, copied = 0;
        StdinLog *stdin_log;
        Log *log;
        int r;

        if (!process->config.transcript || process_log(process, &log, NULL) < 0 ||
            process_stdin_log(process, &stdin_log, NULL) < 0 ||
            stdin_log_unnoted(stdin_log, &begin, &end, NULL) <= 0)
                return;
        r = log_last_input(log, process->run.run, &copied);
        if (r < 0)
                return; /* how much of it the log has already is unknown: nothing is copied twice */
        if (r > 0 && copied > begin)
                begin = MIN(copied, end);
        process->transcript_from = begin;
        (void)process_transcribe(process);
}
