/* SPDX-License-Identifier: MIT */

#include "client/libpmux/batch-job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/libpmux/call.h"
#include "client/libpmux/connection.h"
#include "client/libpmux/stream.h"

/* The beginning of one output. */
typedef struct JobOutput {
        uint8_t *data; /* owned */
        size_t size;
        size_t capacity;
} JobOutput;

struct BatchJob {
        List link;  /* in the batch's list */
        Pmux *pmux; /* borrowed */
        BatchJobOptions options;
        PmuxStream *stream; /* owned; NULL once nothing more is wanted of it */
        PmuxCall *details;  /* borrowed; "wait" in flight, for how it ended */
        PmuxCall *stopping; /* borrowed; "stop" in flight */
        bool wants_stop;    /* stop it as soon as there is something to stop */
        bool stops_now;     /* by SIGKILL */
        bool stays;         /* the stream goes on until we leave it */
        bool exited;        /* the exit record has come */
        bool ended;         /* and the end of the stream, if it ends by itself */
        bool was_cancelled; /* before its turn came */
        bool is_over;
        JobOutput outputs[2];
        PmuxBatchResult result;
        PmuxError error; /* that result.error points to */
};

BatchJob *batch_job_new(Pmux *pmux, size_t index, const BatchJobOptions *options) {
        BatchJob *job = calloc(1, sizeof(*job));

        if (!job)
                return NULL;
        job->pmux = pmux;
        job->options = *options;
        job->result.index = index;
        return job;
}

static void job_end(BatchJob *job) {
        if (job->is_over)
                return;
        job->is_over = true;
        job->stream = pmux_stream_free(job->stream);
        job->details = pmux_call_forget(job->details);
        job->stopping = pmux_call_forget(job->stopping);
        for (size_t i = 0; i < ARRAY_SIZE(job->outputs); i++) {
                job->result.out[i] = job->outputs[i].data;
                job->result.out_size[i] = job->outputs[i].size;
        }
        job->options.on_over(job, job->options.userdata);
}

/* It is over when all that was asked has been answered. */
static void job_consider_end(BatchJob *job) {
        if (job->exited && (job->ended || job->stays) && !job->details && !job->stopping)
                job_end(job);
}

static void job_fail(BatchJob *job, const PmuxError *error) {
        job->error = *error;
        job->result.error = &job->error;
        job_end(job);
}

void batch_job_fail(BatchJob *job, const Error *error) {
        PmuxError exported;

        (void)error_export(&exported, error, -ENOMEM);
        job_fail(job, &exported);
}

/* ---- stopping ---- */

static void on_stopped(Pmux *pmux, const char *result, const PmuxError *error, void *userdata) {
        BatchJob *job = userdata;

        (void)pmux;
        (void)result;
        (void)error; /* what could not be stopped shows in its exit record, or in its absence */
        job->stopping = NULL;
        job_consider_end(job);
}

static void job_stop(BatchJob *job) {
        char params[80];

        (void)snprintf(params, sizeof(params), "{\"targets\":[%llu],\"now\":%s}",
                       (unsigned long long)job->result.id, job->stops_now ? "true" : "false");
        job->stopping = pmux_call_forget(job->stopping);
        (void)pmux_call_start(job->pmux, "stop", params, on_stopped, job, &job->stopping, NULL);
}

void batch_job_stop(BatchJob *job, bool now) {
        if (job->is_over || (job->wants_stop && (!now || job->stops_now)))
                return;
        job->wants_stop = true;
        job->stops_now = now;
        if (job->result.id > 0)
                job_stop(job);
}

/* ---- output ---- */

static int output_keep(JobOutput *output, const void *data, size_t size) {
        size_t capacity = MAX(output->capacity, (size_t)256);
        uint8_t *grown;

        while (capacity < output->size + size)
                capacity *= 2;
        if (capacity != output->capacity) {
                grown = realloc(output->data, capacity);
                if (!grown)
                        return -ENOMEM;
                output->data = grown;
                output->capacity = capacity;
        }
        memcpy(output->data + output->size, data, size);
        output->size += size;
        return 0;
}

/* What does not fit is counted. */
static void job_add_output(BatchJob *job, const PmuxRecord *record) {
        size_t i = record->source == PMUX_STDERR, room;

        job->result.out_total[i] += record->size;
        room = (size_t)(job->options.output_max - MIN(job->outputs[i].size, job->options.output_max));
        if (job->result.out_total[i] - record->size > job->outputs[i].size)
                return; /* something before it has been left out */
        (void)output_keep(&job->outputs[i], record->data, MIN(record->size, room));
}

/* ---- what comes from the daemon ---- */

static void on_details(Pmux *pmux, const char *result, const PmuxError *error, void *userdata) {
        json_auto_t *object = NULL;
        BatchJob *job = userdata;
        const char *cause;

        (void)pmux;
        job->details = NULL;
        if (!result) {
                job_fail(job, error);
                return;
        }
        object = json_loads(result, JSON_ALLOW_NUL, NULL);
        cause = json_string_value(json_object_get(
                json_object_get(json_array_get(json_object_get(object, "processes"), 0), "exit"), "cause"));
        job->result.timed_out = cause && strcmp(cause, "timeout") == 0;
        job_consider_end(job);
}

/* The record says how it ended, but not whether it was the deadline. */
static void job_ask_details(BatchJob *job) {
        char params[48];
        PmuxError error;

        (void)snprintf(params, sizeof(params), "{\"targets\":[%llu]}", (unsigned long long)job->result.id);
        if (pmux_call_start(job->pmux, "wait", params, on_details, job, &job->details, &error) < 0)
                job_fail(job, &error);
}

static void on_record(PmuxStream *stream, const PmuxRecord *record, void *userdata) {
        BatchJob *job = userdata;
        Error error = {};

        (void)stream;
        if (job->exited) {
                job->ended |= record->kind == PMUX_END;
                job_consider_end(job);
                return;
        }
        switch (record->kind) {
        case PMUX_DATA:
                job_add_output(job, record);
                return;
        case PMUX_GAP:
                job->result.lost += job->options.wants_output ? record->value : 0;
                return;
        case PMUX_START:
                job->result.start_usec = record->time_usec;
                return;
        case PMUX_EXIT:
                job->exited = true;
                job->result.exit = record->value;
                job->result.end_usec = record->time_usec;
                job->result.to = record->offset;
                if (job->options.has_timeout)
                        job_ask_details(job);
                job_consider_end(job);
                return;
        case PMUX_END:
                (void)error_set(&error, record->value == PMUX_END_REMOVED ? ERROR_NOT_FOUND : ERROR_SYSTEM,
                                record->value == PMUX_END_REMOVED ? "it was removed before its end was seen"
                                                                  : "its log cannot be read");
                batch_job_fail(job, &error);
                return;
        default:
                return;
        }
}

static void on_open(PmuxStream *stream, const char *result, void *userdata) {
        json_auto_t *object = json_loads(result, JSON_ALLOW_NUL, NULL);
        BatchJob *job = userdata;

        (void)stream;
        job->result.started = 1;
        job->result.id = (uint64_t)json_integer_value(json_object_get(object, "id"));
        job->result.run = (uint32_t)json_integer_value(json_object_get(object, "run"));
        job->result.from = job->result.to = (uint64_t)json_integer_value(json_object_get(object, "offset"));
        if (job->wants_stop)
                job_stop(job);
}

static void on_failed(PmuxStream *stream, const PmuxError *error, void *userdata) {
        BatchJob *job = userdata;

        (void)stream;
        job->was_cancelled =
                !job->result.started && strcmp(error->code, error_wire_name(ERROR_CANCELLED)) == 0;
        if (job->was_cancelled)
                job_end(job);
        else
                job_fail(job, error);
}

void batch_job_start(BatchJob *job, json_t *params) {
        const PmuxStreamOptions options = {
                .size = sizeof(options),
                .on_open = on_open,
                .on_record = on_record,
                .on_failed = on_failed,
                .userdata = job,
        };
        json_t *subscribe;
        Error error = {};

        job->stays = job->options.is_removed || job->options.has_timeout;
        subscribe = json_pack("{s:s, s:b}", "until", job->stays ? "forever" : "exit", "lossless",
                              (int)job->options.wants_output);
        if (subscribe && !job->options.wants_output)
                (void)json_object_set_new(subscribe, "sources", json_array());
        if (!subscribe || json_object_set_new(params, "subscribe", subscribe) < 0) {
                json_decref(params);
                (void)error_set_errno(&error, ENOMEM, "cannot start a command");
                batch_job_fail(job, &error);
                return;
        }
        if (stream_start(job->pmux, "run", params, &options, &job->stream, &error) < 0)
                batch_job_fail(job, &error);
}

bool batch_job_is_over(const BatchJob *job) {
        return job->is_over;
}

bool batch_job_was_begun(const BatchJob *job) {
        return !job->was_cancelled;
}

uint64_t batch_job_memory(const BatchJob *job) {
        return sizeof(*job) + job->outputs[0].capacity + job->outputs[1].capacity;
}

const PmuxBatchResult *batch_job_result(BatchJob *job) {
        return &job->result;
}

List *batch_job_link(BatchJob *job) {
        return &job->link;
}

BatchJob *batch_job_from_link(List *link) {
        return CONTAINER_OF(link, BatchJob, link);
}

BatchJob *batch_job_free(BatchJob *job) {
        if (!job)
                return NULL;
        (void)pmux_stream_free(job->stream);
        (void)pmux_call_forget(job->details);
        (void)pmux_call_forget(job->stopping);
        list_remove(&job->link);
        for (size_t i = 0; i < ARRAY_SIZE(job->outputs); i++)
                free(job->outputs[i].data);
        free(job);
        return NULL;
}
