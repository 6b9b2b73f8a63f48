/* SPDX-License-Identifier: MIT */
#pragma once

/* Bytes as text and as JSON values, piece by piece as they come: no character and no value is ever cut.
 *
 * Nothing here needs a connection. Each piece comes with the offset at which it stands, in a process's log or
 * wherever the caller counts; an error names the offset of the byte that is to blame. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct PmuxError PmuxError;
typedef struct PmuxDecoder PmuxDecoder;
typedef struct PmuxJson PmuxJson;

/* ---- characters ---- */

#define PMUX_DECODE_REFUSE (1u << 0) /* invalid bytes are an error; else each becomes U+FFFD */
#define PMUX_DECODE_OFFSETS                                                                                  \
        (1u << 1) /* remember where each character stood, for pmux_json_feed_decoded()                       \
                   */

/**
 * pmux_decoder_new() - decode a stream of bytes to UTF-8
 * @encoding:     "UTF-8", "latin-1" or any other name that iconv(3) knows
 * @flags:        PMUX_DECODE_…
 * @ret_decoder:  to be freed with pmux_decoder_free()
 *
 * Return: 0; -EINVAL ("invalid-argument") for an encoding that is not known; -ENOMEM.
 */
int pmux_decoder_new(PmuxDecoder **ret_decoder, const char *encoding, unsigned flags,
                     PmuxError *reterr_error);

/**
 * pmux_decoder_feed() - the next bytes
 * @offset:    where they stand; only for errors
 * @ret_text:  the characters that are complete; valid UTF-8, not NUL-terminated, borrowed until the next call
 *
 * A character whose end has not come is kept for the next call.
 *
 * Return: 0; -EILSEQ ("invalid-argument") for invalid bytes that are refused, naming the offset; *ret_text
 * then holds what stood before them, and nothing more can be decoded; -ENOMEM.
 */
int pmux_decoder_feed(PmuxDecoder *decoder, uint64_t offset, const void *data, size_t size,
                      const char **ret_text, size_t *ret_size, PmuxError *reterr_error);

/** pmux_decoder_end() - nothing more comes: a character that was begun is invalid. As pmux_decoder_feed(). */
int pmux_decoder_end(PmuxDecoder *decoder, const char **ret_text, size_t *ret_size, PmuxError *reterr_error);
PmuxDecoder *pmux_decoder_free(PmuxDecoder *decoder);

/* ---- JSON values ---- */

/** One value: on one line, without blanks between its parts, its numbers as they were written, with a NUL
 * behind it. @offset: of its first byte. A negative errno ends the feeding and is what it returns. */
typedef int (*PmuxJsonFn)(const char *value, size_t size, uint64_t offset, void *userdata);

/**
 * pmux_json_new() - split a stream of bytes into JSON values
 * @max_bytes:  of one value; 0: 16 MiB
 * @fn:         called for each value, within pmux_json_feed() and pmux_json_end()
 * @ret_json:   to be freed with pmux_json_free()
 *
 * Values stand on lines of their own, or one behind the other with or without blanks. Numbers may have any
 * size; at most 2048 levels are nested.
 */
int pmux_json_new(PmuxJson **ret_json, size_t max_bytes, PmuxJsonFn fn, void *userdata,
                  PmuxError *reterr_error);

/**
 * pmux_json_feed() - the next bytes
 *
 * Return: 0; -EILSEQ ("invalid-argument") for what is not JSON, naming the offset of the first byte that
 * cannot go on with the value, or of the value's own first byte where it ends too early; -EMSGSIZE
 * ("too-large"); what fn returned; -ENOMEM. After a failure every call fails in the same way.
 */
int pmux_json_feed(PmuxJson *json, uint64_t offset, const void *data, size_t size, PmuxError *reterr_error);

/** pmux_json_feed_decoded() - the text of a decoder's latest call, which had PMUX_DECODE_OFFSETS: values and
 * errors have the offsets of the bytes that it decoded. As pmux_json_feed(). */
int pmux_json_feed_decoded(PmuxJson *json, const PmuxDecoder *decoder, PmuxError *reterr_error);

/** pmux_json_end() - nothing more comes: a number or a word is complete, anything else that was begun is an
 * error. As pmux_json_feed(). */
int pmux_json_end(PmuxJson *json, PmuxError *reterr_error);
PmuxJson *pmux_json_free(PmuxJson *json);

#ifdef __cplusplus
}
#endif
