/* SPDX-License-Identifier: MIT */

#include "client/cli/filter.h"

#include <string.h>

int filter_option(FilterOptions *options, Cli *cli, int c, const char *value) {
        PmuxDecoder *decoder = NULL;
        PmuxError error;

        if (c == FILTER_OPTION) {
                if (pmux_decoder_new(&decoder, value, 0, &error) < 0)
                        return cli_usage(cli, "%s", error.message);
                (void)pmux_decoder_free(decoder);
                options->encoding = value;
        } else if (c == FILTER_OPTION + 1) {
                if (strcmp(value, "replace") != 0 && strcmp(value, "refuse") != 0)
                        return cli_usage(cli, "--invalid takes replace or refuse, not '%s'", value);
                options->refuse = strcmp(value, "refuse") == 0;
                options->has_invalid = true;
        } else {
                if (strcmp(value, "json") != 0 && strcmp(value, "bytes") != 0)
                        return cli_usage(cli, "--format takes bytes or json, not '%s'", value);
                options->as_json = strcmp(value, "json") == 0;
        }
        return 0;
}

int filter_options_check(FilterOptions *options, Cli *cli) {
        if (options->has_invalid && !options->encoding)
                options->encoding = "UTF-8";
        if (cli->json && filter_options_any(options))
                return cli_usage(cli, "--json prints records; --encoding and --format print what is in them");
        return 0;
}

bool filter_options_any(const FilterOptions *options) {
        return options->encoding || options->as_json;
}

/* A value becomes a line; the NUL behind it gives the place for the newline. */
static int on_value(const char *value, size_t size, uint64_t offset, void *userdata) {
        Filter *filter = userdata;
        int r;

        (void)offset;
        r = filter->fn(filter->userdata, value, size);
        if (r == 0)
                r = filter->fn(filter->userdata, "\n", 1);
        filter->fn_failed |= r < 0;
        return r;
}

int filter_init(Filter *filter, const FilterOptions *options, FilterFn fn, void *userdata,
                PmuxError *reterr_error) {
        int r = 0;

        *filter = (Filter){ .fn = fn, .userdata = userdata };
        if (options->encoding)
                r = pmux_decoder_new(&filter->decoder, options->encoding,
                                     (options->refuse ? PMUX_DECODE_REFUSE : 0) |
                                             (options->as_json ? PMUX_DECODE_OFFSETS : 0),
                                     reterr_error);
        if (r == 0 && options->as_json)
                r = pmux_json_new(&filter->json, 0, on_value, filter, reterr_error);
        return r;
}

void filter_locate(Filter *filter, LocateFn fn, void *userdata) {
        const Locate locate = { fn, userdata };

        if (filter->decoder)
                decoder_set_locate(filter->decoder, locate);
        if (filter->json)
                json_set_locate(filter->json, locate);
}

/* Whoever takes what comes out knows why that failed: to a person it would be told twice. */
static int answer(const Filter *filter, int r, PmuxError *reterr_error) {
        if (r == 0 || filter->fn_failed)
                memset(reterr_error, 0, sizeof(*reterr_error));
        return r;
}

/* What the decoder gave. */
static int hand_on(Filter *filter, const char *text, size_t size, PmuxError *reterr_error) {
        int r;

        if (filter->json)
                return pmux_json_feed_decoded(filter->json, filter->decoder, reterr_error);
        r = size > 0 ? filter->fn(filter->userdata, text, size) : 0;
        filter->fn_failed |= r < 0;
        return r;
}

static int add(Filter *filter, uint64_t offset, const void *data, size_t size, PmuxError *reterr_error) {
        size_t text_size;
        const char *text;
        int r, r_text;

        if (!filter->decoder && filter->json)
                return pmux_json_feed(filter->json, offset, data, size, reterr_error);
        if (!filter->decoder)
                return hand_on(filter, data, size, reterr_error);
        r = pmux_decoder_feed(filter->decoder, offset, data, size, &text, &text_size, reterr_error);
        if (r < 0) { /* what stood before it comes first, and so does what is wrong with that */
                PmuxError error = {};

                r_text = hand_on(filter, text, text_size, &error);
                if (r_text < 0)
                        *reterr_error = error;
                return r_text < 0 ? r_text : r;
        }
        return hand_on(filter, text, text_size, reterr_error);
}

int filter_add(Filter *filter, uint64_t offset, const void *data, size_t size, PmuxError *reterr_error) {
        return answer(filter, add(filter, offset, data, size, reterr_error), reterr_error);
}

/* No character goes on here. */
static int end_character(Filter *filter, PmuxError *reterr_error) {
        size_t text_size;
        const char *text;
        int r;

        r = pmux_decoder_end(filter->decoder, &text, &text_size, reterr_error);
        return r < 0 ? r : hand_on(filter, text, text_size, reterr_error);
}

size_t filter_begun(const Filter *filter, uint64_t *ret_offset) {
        return filter->decoder ? decoder_begun(filter->decoder, ret_offset) : 0;
}

void filter_drop(Filter *filter) {
        if (filter->decoder)
                decoder_drop(filter->decoder);
}

int filter_gap(Filter *filter, PmuxError *reterr_error) {
        int r = 0;

        if (filter_begun(filter, NULL) > 0)
                r = end_character(filter, reterr_error);
        if (r == 0 && filter->json)
                r = json_gap(filter->json, reterr_error);
        return answer(filter, r, reterr_error);
}

int filter_end(Filter *filter, PmuxError *reterr_error) {
        int r = 0;

        if (filter->decoder)
                r = end_character(filter, reterr_error);
        if (r == 0 && filter->json)
                r = pmux_json_end(filter->json, reterr_error);
        return answer(filter, r, reterr_error);
}

void filter_deinit(Filter *filter) {
        filter->decoder = pmux_decoder_free(filter->decoder);
        filter->json = pmux_json_free(filter->json);
}
