/* SPDX-License-Identifier: MIT */
#pragma once

/* One command of a batch: from its request to its result. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/libpmux/pmux.h"
#include "common/error.h"
#include "common/list.h"

typedef struct BatchJob BatchJob;

typedef struct BatchJobOptions {
        uint64_t output_max; /* bytes kept of each output */
        bool wants_output;
        bool is_removed; /* its process is forgotten as soon as nobody reads it */
        bool has_timeout;
        void (*on_over)(BatchJob *job, void *userdata); /* once; it must not free the job */
        void *userdata;
} BatchJobOptions;

/** batch_job_new() - NULL when out of memory. */
BatchJob *batch_job_new(Pmux *pmux, size_t index, const BatchJobOptions *options);

/** batch_job_start() - ask for the run. @params: of "run", taken over. */
void batch_job_start(BatchJob *job, json_t *params);

/** batch_job_fail() - it is over, for this reason. */
void batch_job_fail(BatchJob *job, const Error *error);

/** batch_job_stop() - end its tree, if it is not over; it is over when the tree is empty. */
void batch_job_stop(BatchJob *job, bool now);

/** batch_job_is_over() - whether its result is known. */
bool batch_job_is_over(const BatchJob *job);

/** batch_job_was_begun() - of one that is over: whether it had its turn. */
bool batch_job_was_begun(const BatchJob *job);

/** batch_job_memory() - bytes that it holds; does not change once it is over. */
uint64_t batch_job_memory(const BatchJob *job);

/** batch_job_result() - what is known of it by now; borrowed. */
const PmuxBatchResult *batch_job_result(BatchJob *job);

/** batch_job_link() - its place in the batch's list. */
List *batch_job_link(BatchJob *job);
BatchJob *batch_job_from_link(List *link);

BatchJob *batch_job_free(BatchJob *job);
