/* SPDX-License-Identifier: MIT */
#pragma once

/* What is done to a process's bytes before they are printed: characters of another encoding to UTF-8, JSON
 * values to lines. Without options nothing is. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/cli/cli.h"
#include "client/libpmux/decoder.h"
#include "client/libpmux/pmux-text.h"

/* The rows of the options' table and the first of their values, which a verb's own begin behind. */
#define FILTER_OPTION 384
#define FILTER_OPTIONS                                                                                       \
        { "encoding", required_argument, NULL, FILTER_OPTION },                                              \
                { "invalid", required_argument, NULL, FILTER_OPTION + 1 }, {                                 \
                "format", required_argument, NULL, FILTER_OPTION + 2                                         \
        }

typedef struct FilterOptions {
        const char *encoding; /* borrowed; NULL: bytes as they are */
        bool refuse;          /* invalid bytes; else they are replaced */
        bool has_invalid;
        bool as_json;
} FilterOptions;

/* Takes bytes that are borrowed for the call. Return: 0 or -errno. */
typedef int (*FilterFn)(void *userdata, const void *data, size_t size);

/* One stream of bytes. */
typedef struct Filter {
        PmuxDecoder *decoder; /* owned; NULL: none */
        PmuxJson *json;       /* owned; NULL: none */
        FilterFn fn;
        void *userdata; /* borrowed */
        bool fn_failed;
} Filter;

/** filter_option() - one of FILTER_OPTIONS. Return: 0, or the exit status after a complaint. */
int filter_option(FilterOptions *options, Cli *cli, int c, const char *value);

/** filter_options_check() - once all are read, that they fit together. Return as above. */
int filter_options_check(FilterOptions *options, Cli *cli);

/** filter_options_any() - whether anything is to be done. */
bool filter_options_any(const FilterOptions *options);

/** filter_init() - @fn gets what comes out. Return: 0 or -errno. */
int filter_init(Filter *filter, const FilterOptions *options, FilterFn fn, void *userdata,
                PmuxError *reterr_error);

/** filter_locate() - have errors name other offsets than those of filter_add(). */
void filter_locate(Filter *filter, LocateFn fn, void *userdata);

/** filter_add() - bytes that stand at 'offset'. Return: 0; -EILSEQ and others with an error; what fn
 * returned, with an error that has no code. */
int filter_add(Filter *filter, uint64_t offset, const void *data, size_t size, PmuxError *reterr_error);

/** filter_begun() - how many bytes there are of a character whose end is missing. @ret_offset: as
 * filter_add() was told, or what filter_locate() makes of it; may be NULL. */
size_t filter_begun(const Filter *filter, uint64_t *ret_offset);

/** filter_drop() - forget what there is of that character: it comes again. */
void filter_drop(Filter *filter);

/** filter_gap() - bytes are lost here: what was begun does not go on behind them. Return as filter_add(). */
int filter_gap(Filter *filter, PmuxError *reterr_error);

/** filter_end() - nothing more comes. Return as filter_add(). */
int filter_end(Filter *filter, PmuxError *reterr_error);
void filter_deinit(Filter *filter);
