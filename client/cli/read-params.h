/* SPDX-License-Identifier: MIT */
#pragma once

/* The options of read and ask, made into params of these methods, and their answers, printed. */

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/cli/cli.h"
#include "client/cli/filter.h"

#define READ_OPTION 320                    /* first value of those in READ_OPTIONS; a verb's own are below */
#define READ_PIECE_BYTES (8 * 1024 * 1024) /* most that one request may ask for */

/* Rows of the options' table that both verbs have. */
#define READ_OPTIONS                                                                                         \
        { "cursor", required_argument, NULL, READ_OPTION },                                                  \
                { "no-cursor", no_argument, NULL, READ_OPTION + 1 },                                         \
                { "line", no_argument, NULL, READ_OPTION + 2 },                                              \
                { "bytes", required_argument, NULL, READ_OPTION + 3 },                                       \
                { "exactly", required_argument, NULL, READ_OPTION + 4 },                                     \
                { "until", required_argument, NULL, READ_OPTION + 5 },                                       \
                { "expect", required_argument, NULL, READ_OPTION + 6 },                                      \
                { "quiet", required_argument, NULL, READ_OPTION + 7 },                                       \
                { "max", required_argument, NULL, READ_OPTION + 8 },                                         \
                { "timeout", required_argument, NULL, READ_OPTION + 9 },                                     \
                { "stdout", no_argument, NULL, READ_OPTION + 10 },                                           \
                { "stderr", no_argument, NULL, READ_OPTION + 11 }, {                                         \
                "stdin", no_argument, NULL, READ_OPTION + 12                                                 \
        }

/* What one answer had, for errors about what came of it. */
typedef struct ReadPiece {
        uint64_t begin; /* counted over all answers */
        uint64_t size;
        uint64_t from; /* in the log */
        bool apart;    /* there are bytes of others between */
} ReadPiece;

typedef struct ReadParams {
        Cli *cli;       /* borrowed */
        json_t *params; /* owned */
        FilterOptions filter_options;
        Filter filter;
        const char *what; /* static; "for", NULL: not said */
        uint64_t n;       /* of exactly */
        bool has_max;
        uint64_t timeout_usec;
        uint64_t deadline_usec; /* monotonic */
        ReadPiece *pieces;      /* owned; where there is a filter */
        size_t n_pieces;
} ReadParams;

/** read_params_init() - nothing is said yet. Return: 0, or the exit status after a complaint. */
int read_params_init(ReadParams *read, Cli *cli);

/** read_params_option() - one of READ_OPTIONS or FILTER_OPTIONS. Return as above. */
int read_params_option(ReadParams *read, int c, const char *value);

/** read_params_set() - another member; the value is taken over. Return as above. */
int read_params_set(ReadParams *read, const char *key, json_t *value);

/** read_params_to_the_end() - whether the end of the output satisfies it (eof, quiet). */
bool read_params_to_the_end(const ReadParams *read);

/** read_params_ready() - all options are read, the deadline begins. Return as above. */
int read_params_ready(ReadParams *read);

/** read_params_now() - a copy of the params with what is left of the time; NULL when out of memory. */
json_t *read_params_now(const ReadParams *read);

/** read_params_add_timeout() - what is left of the time, to other params; unless @wait: none. */
void read_params_add_timeout(const ReadParams *read, json_t *params, bool wait);

/** read_params_print() - the data of an answer. @more: others follow. Return as above. */
int read_params_print(ReadParams *read, json_t *result, bool more);

/** read_params_status() - the last answer is printed: the exit status that it comes to. */
int read_params_status(ReadParams *read, const json_t *result);
void read_params_deinit(ReadParams *read);

static inline void read_params_deinit_cleanup(ReadParams *read) {
        read_params_deinit(read);
}
