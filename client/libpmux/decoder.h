/* SPDX-License-Identifier: MIT */
#pragma once

/* Where the characters that a decoder gave stood as bytes. */

#include <stddef.h>
#include <stdint.h>

typedef struct PmuxDecoder PmuxDecoder;

/* Characters in a row of one size, which was so many bytes of the source for each, without a byte between. */
typedef struct TextRun {
        size_t at;       /* in the text */
        uint64_t offset; /* of the first one in the source */
        uint32_t text_step;
        uint32_t source_step;
} TextRun;

/** decoder_text() - what the latest call gave, as runs; borrowed until the next. Only with
 * PMUX_DECODE_OFFSETS. */
const char *decoder_text(const PmuxDecoder *decoder, size_t *ret_size, const TextRun **ret_runs,
                         size_t *ret_n_runs);
