/* SPDX-License-Identifier: MIT */
#pragma once

/* Where the characters that a decoder gave stood as bytes, and where these stood elsewhere. */

#include <stddef.h>
#include <stdint.h>

typedef struct PmuxError PmuxError;
typedef struct PmuxDecoder PmuxDecoder;
typedef struct PmuxJson PmuxJson;

/* What an error is to name instead of the offset that the bytes were fed with. */
typedef uint64_t (*LocateFn)(uint64_t offset, void *userdata);

/* Whom to ask; fn NULL: nobody. */
typedef struct Locate {
        LocateFn fn;
        void *userdata; /* borrowed */
} Locate;

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

/** decoder_begun() - how many bytes it keeps of a character whose end has not come. @ret_offset: of the first
 * of them, unless there is none; may be NULL. */
size_t decoder_begun(const PmuxDecoder *decoder, uint64_t *ret_offset);

/** decoder_drop() - forget the beginning of a character: its bytes will be fed again. */
void decoder_drop(PmuxDecoder *decoder);

/** json_gap() - bytes are lost here: a value that was begun does not go on behind them. As pmux_json_end().
 */
int json_gap(PmuxJson *json, PmuxError *reterr_error);

/** decoder_set_locate(), json_set_locate() - have the offsets in errors be others. */
void decoder_set_locate(PmuxDecoder *decoder, Locate locate);
void json_set_locate(PmuxJson *json, Locate locate);

/** locate() - the offset to name. */
static inline uint64_t locate(const Locate *whom, uint64_t offset) {
        return whom->fn ? whom->fn(offset, whom->userdata) : offset;
}
