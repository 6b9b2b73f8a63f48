/* SPDX-License-Identifier: MIT */

/* What is learned late: the sizes of the older segments. A log may have hundreds of them, a reader comes to
 * one or two, and to look at each takes two system calls. */

#include "daemon/engine/log-private.h"
#include "daemon/engine/log.h"

int log_look(Log *log, Segment *segment, Error *reterr_error) {
        int r;

        assert(segment < log_current(log)); /* which is known from the beginning */
        r = segment_look(log->path, segment, segment + 1, reterr_error);
        if (r < 0) {
                log->unreadable = segment->begin;
                return r;
        }
        log->n_unknown--;
        log->kept_bytes += segment->size;
        log->kept_records += log_kept_records(log, segment);
        return 0;
}

int log_know_all(Log *log, Error *reterr_error) {
        int r;

        for (uint32_t i = 0; log->n_unknown > 0; i++) {
                r = log_know(log, &log->segments[i], reterr_error);
                if (r < 0)
                        return r;
        }
        return 0;
}

int log_disk_bytes(Log *log, uint64_t *ret_bytes, Error *reterr_error) {
        int r;

        r = log_know_all(log, reterr_error);
        if (r >= 0)
                *ret_bytes = log->kept_bytes;
        return r;
}

int log_explain(Log *log, int r, const char *what, Error *reterr_error) {
        Segment *segment = &log->segments[log_find_segment(log, log->unreadable)];
        Error error = {};

        if (segment_is_known(segment) || log_look(log, segment, &error) != r)
                return error_set_errno(reterr_error, r, "%s", what);
        if (reterr_error)
                *reterr_error = error;
        return r;
}
