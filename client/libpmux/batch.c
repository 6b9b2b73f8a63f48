/* SPDX-License-Identifier: MIT */

/* Batches: one run for each command, some at a time, all on one connection. Results are told in order. */

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/libpmux/batch-job.h"
#include "client/libpmux/call.h"
#include "client/libpmux/connection.h"

#define AHEAD_MAX 16                 /* commands that the daemon is told before their turn has come */
#define AHEAD_BYTES_MAX (256 * 1024) /* of one of them */
#define BUFFERED_MAX ((uint64_t)32 * 1024 * 1024) /* results that wait for an earlier one */

struct PmuxBatch {
        Pmux *pmux; /* borrowed */
        PmuxBatchOptions options;
        json_t *params; /* owned; of every run */
        List jobs;   /* BatchJob, in order: those that run, and those whose results wait for an earlier one */
        size_t next; /* the first command that was not asked for */
        size_t in_flight; /* asked for, and not over; the daemon begins so many of them as may run */
        size_t text_size; /* of the params of the latest command */
        char queue[PMUX_KEY_SIZE];
        PmuxBatchCounts counts;
        uint64_t buffered; /* bytes of memory of jobs that are over */
        bool no_more;      /* nothing more is begun */
        bool changed;      /* counts have, since they were told */
};

static bool result_is_good(const PmuxBatchResult *result) {
        return result->started && !result->error && !result->timed_out && result->exit == 0;
}

/* Begins nothing more, of what the daemon was asked for neither. */
static void batch_end(PmuxBatch *batch) {
        char params[PMUX_KEY_SIZE + 16];

        if (batch->no_more)
                return;
        batch->no_more = true;
        (void)snprintf(params, sizeof(params), "{\"queue\":\"%s\"}", batch->queue);
        if (batch->in_flight > 0)
                (void)pmux_call_start(batch->pmux, "cancel", params, NULL, NULL, NULL, NULL);
}

static void on_over(BatchJob *job, void *userdata) {
        PmuxBatch *batch = userdata;

        batch->in_flight--;
        batch->buffered += batch_job_memory(job);
        batch->changed = true;
        if (!batch_job_was_begun(job)) { /* another has failed */
                batch_end(batch);
                return;
        }
        batch->counts.ended++;
        if (result_is_good(batch_job_result(job)))
                return;
        batch->counts.failed++;
        if (!(batch->options.flags & PMUX_BATCH_KEEP_GOING))
                batch_end(batch);
}

static json_t *batch_params(const PmuxBatch *batch, Error *reterr_error) {
        const PmuxBatchOptions *options = &batch->options;
        json_t *params, *queue;

        if (params_parse(options->params, &params, reterr_error) < 0)
                return NULL;
        if (!json_object_get(params, "stdin"))
                (void)json_object_set_new(params, "stdin", json_string("null"));
        if (!json_object_get(params, "lease"))
                (void)json_object_set_new(params, "lease", json_string("client"));
        if (options->flags & PMUX_BATCH_REMOVE)
                (void)json_object_set_new(params, "rm", json_true());
        if (options->timeout_usec > 0)
                (void)json_object_set_new(
                        params, "timeout_usec",
                        json_integer((json_int_t)MIN(options->timeout_usec, (uint64_t)INT64_MAX / 4)));
        queue = json_pack("{s:s, s:I, s:b}", "name", batch->queue, "jobs", (json_int_t)options->jobs,
                          "stop_on_failure", !(options->flags & PMUX_BATCH_KEEP_GOING));
        if (!queue || json_object_set_new(params, "queue", queue) < 0) {
                json_decref(params);
                (void)error_set_errno(reterr_error, ENOMEM, "cannot hold a batch");
                return NULL;
        }
        return params;
}

int pmux_batch_new(PmuxBatch **ret_batch, Pmux *pmux, const PmuxBatchOptions *options,
                   PmuxError *reterr_error) {
        PmuxBatchOptions known = {};
        PmuxBatch *batch;
        Error error = {};
        int r;

        memcpy(&known, options, MIN(options->size, sizeof(known))); /* of a program that was built before */
        if (known.jobs > PMUX_BATCH_JOBS_MAX || !known.command) {
                (void)error_set(&error, ERROR_INVALID, "a batch runs 1 to %d commands at a time",
                                PMUX_BATCH_JOBS_MAX);
                return error_export(reterr_error, &error, -EINVAL);
        }
        batch = calloc(1, sizeof(*batch));
        if (!batch)
                return error_export(reterr_error, &error, -ENOMEM);
        batch->pmux = pmux;
        batch->options = known;
        batch->options.jobs = MAX(known.jobs, (size_t)1);
        batch->counts.n = known.n;
        list_init(&batch->jobs);
        r = pmux_key(batch->queue);
        batch->params = r < 0 ? NULL : batch_params(batch, &error);
        if (!batch->params) {
                free(batch);
                return error_export(reterr_error, &error, r < 0 ? r : -EINVAL);
        }
        *ret_batch = batch;
        return 0;
}

static json_t *command_params(PmuxBatch *batch, size_t index, Error *reterr_error) {
        json_t *params = json_copy(batch->params), *own = NULL;
        char *text = NULL;
        int r;

        r = batch->options.command(index, &text, batch->options.userdata);
        if (r < 0)
                (void)error_set_errno(reterr_error, r, "command %zu cannot be read", index + 1);
        else
                r = params_parse(text, &own, reterr_error);
        batch->text_size = text ? strlen(text) : 0;
        free(text);
        if (r >= 0 && (!params || json_object_update(params, own) < 0))
                r = error_set_errno(reterr_error, ENOMEM, "cannot hold a command");
        json_decref(own);
        if (r >= 0)
                return params;
        json_decref(params);
        return NULL;
}

/* Asks for the next command. Only -ENOMEM fails: whatever else there is to say is in the result. */
static int batch_begin(PmuxBatch *batch) {
        const BatchJobOptions options = {
                .output_max = batch->options.output_max > 0 ? batch->options.output_max : 1024 * 1024,
                .wants_output = batch->options.flags & PMUX_BATCH_OUTPUT,
                .is_removed = batch->options.flags & PMUX_BATCH_REMOVE,
                .has_timeout = batch->options.timeout_usec > 0,
                .on_over = on_over,
                .userdata = batch,
        };
        Error error = {};
        BatchJob *job;
        json_t *params;

        job = batch_job_new(batch->pmux, batch->next, &options);
        if (!job)
                return -ENOMEM;
        list_append(&batch->jobs, batch_job_link(job));
        batch->next++;
        batch->in_flight++;
        batch->changed = true;
        params = command_params(batch, batch->next - 1, &error);
        if (params)
                batch_job_start(job, params);
        else
                batch_job_fail(job, &error);
        return 0;
}

/* How many commands may be on their way: more than may run, so that the daemon need not ask for the next when
 * one ends; but not if they are large, as the daemon would have to hold them. */
static size_t batch_width(const PmuxBatch *batch) {
        size_t jobs = batch->options.jobs,
               size = batch->text_size + (batch->options.params ? strlen(batch->options.params) : 0);

        return size > AHEAD_BYTES_MAX ? jobs : jobs + MIN(jobs + 1, (size_t)AHEAD_MAX);
}

static int batch_fill(PmuxBatch *batch) {
        int r = 0;

        if (batch->pmux->state == CONNECTION_FAILED)
                batch->no_more = true;
        while (r == 0 && !batch->no_more && batch->next < batch->options.n &&
               batch->in_flight < batch_width(batch) &&
               (batch->buffered < BUFFERED_MAX || list_empty(&batch->jobs)))
                r = batch_begin(batch);
        return r;
}

static void batch_tell(PmuxBatch *batch, const PmuxBatchResult *result) {
        if (batch->options.on_result)
                batch->options.on_result(batch, result, batch->options.userdata);
}

/* Tells the results whose turn it is. */
static void batch_emit(PmuxBatch *batch) {
        while (!list_empty(&batch->jobs)) {
                BatchJob *job = batch_job_from_link(batch->jobs.next);

                if (!batch_job_is_over(job))
                        break;
                batch_tell(batch, batch_job_result(job));
                batch->buffered -= batch_job_memory(job);
                (void)batch_job_free(job);
        }
        batch->counts.running = MIN(batch->in_flight, batch->options.jobs);
        if (batch->changed && batch->options.on_progress)
                batch->options.on_progress(batch, &batch->counts, batch->options.userdata);
        batch->changed = false;
}

static void batch_turn(PmuxBatch *batch) {
        struct pollfd fds[] = {
                { .fd = pmux_fd(batch->pmux), .events = POLLIN },
                { .fd = batch->options.on_fd ? batch->options.fd : -1, .events = POLLIN },
        };

        (void)poll(fds, ARRAY_SIZE(fds), -1);
        if (fds[1].revents)
                batch->options.on_fd(batch, batch->options.userdata);
        (void)pmux_dispatch(batch->pmux, NULL); /* giving up the connection fails every job */
}

int pmux_batch_run(PmuxBatch *batch, PmuxError *reterr_error) {
        PmuxBatchResult rest = {};
        int r;

        while ((r = batch_fill(batch)) == 0) {
                batch_emit(batch);
                if (batch->in_flight > 0)
                        batch_turn(batch);
                else if (batch->no_more || batch->next == batch->options.n)
                        break;
        }
        batch->no_more = true; /* out of memory: what runs is waited for */
        while (batch->in_flight > 0)
                batch_turn(batch);
        batch_emit(batch);
        for (rest.index = batch->next; rest.index < batch->options.n; rest.index++)
                batch_tell(batch, &rest);
        if (batch->pmux->state == CONNECTION_FAILED)
                return error_export(reterr_error, &batch->pmux->failure, -batch->pmux->failure.errno_value);
        return r < 0 ? error_export(reterr_error, &(Error){}, r) : 0;
}

void pmux_batch_stop(PmuxBatch *batch, int now) {
        batch_end(batch);
        for (List *link = batch->jobs.next; link != &batch->jobs; link = link->next)
                batch_job_stop(batch_job_from_link(link), now);
}

PmuxBatch *pmux_batch_free(PmuxBatch *batch) {
        if (!batch)
                return NULL;
        while (!list_empty(&batch->jobs))
                (void)batch_job_free(batch_job_from_link(batch->jobs.next));
        json_decref(batch->params);
        free(batch);
        return NULL;
}
