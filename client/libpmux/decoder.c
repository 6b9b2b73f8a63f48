/* SPDX-License-Identifier: MIT */

/* Bytes of any encoding to UTF-8. UTF-8 itself is done here, one replacement for each maximal part of a
 * character as Unicode recommends, and latin-1, so that a static program has both without the modules of
 * iconv(3); all else by that. */

#include "client/libpmux/decoder.h"

#include <errno.h>
#include <iconv.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "client/libpmux/connection.h"
#include "client/libpmux/pmux-text.h"
#include "common/utf8.h"

#define CARRY_MAX 16 /* bytes that a character may be begun with */
#define NAME_SIZE 64

static const char replacement[] = "\xef\xbf\xbd";

struct PmuxDecoder {
        bool is_utf8;
        bool is_latin1;
        bool refuse;
        bool tells_offsets;
        size_t unit; /* bytes that are skipped where iconv finds none to be valid */
        iconv_t conversion;
        uint8_t carry[CARRY_MAX]; /* the beginning of a character */
        uint64_t carry_offsets[CARRY_MAX];
        size_t n_carry;
        uint64_t last_offset; /* of the last byte that was fed */
        char *text;           /* owned; the characters of this call */
        size_t text_size;
        size_t text_capacity;
        TextRun *runs; /* owned; where they stood */
        size_t n_runs;
        size_t runs_capacity;
        Locate locate;
        int failed;  /* -errno once something was refused */
        Error error; /* of that */
        char name[NAME_SIZE];
};

static int make_room(PmuxDecoder *decoder, size_t size) {
        size_t capacity = MAX(decoder->text_capacity, (size_t)256);
        char *text;

        if (decoder->text_capacity - decoder->text_size >= size)
                return 0;
        while (capacity - decoder->text_size < size)
                capacity *= 2;
        text = realloc(decoder->text, capacity);
        if (!text)
                return -ENOMEM;
        decoder->text = text;
        decoder->text_capacity = capacity;
        return 0;
}

static int add(PmuxDecoder *decoder, const void *data, size_t size) {
        int r;

        r = size > 0 ? make_room(decoder, size) : 0;
        if (r < 0 || size == 0)
                return r;
        memcpy(decoder->text + decoder->text_size, data, size);
        decoder->text_size += size;
        return 0;
}

/* The bytes that are decoded: those of a call lie in a row, those that were kept before it anywhere. */
typedef struct Raw {
        const uint8_t *bytes;
        size_t size;
        const uint64_t *offsets; /* NULL: in a row from 'offset' on */
        uint64_t offset;
} Raw;

static uint64_t raw_offset(const Raw *raw, size_t at) {
        return raw->offsets ? raw->offsets[at] : raw->offset + at;
}

/* The characters that are added next, of these sizes, stood from 'offset' on. */
static int note(PmuxDecoder *decoder, uint64_t offset, size_t text_step, size_t source_step) {
        TextRun *run = decoder->n_runs > 0 ? &decoder->runs[decoder->n_runs - 1] : NULL;
        size_t capacity = MAX(2 * decoder->runs_capacity, (size_t)16);
        TextRun *runs;

        if (!decoder->tells_offsets ||
            (run && run->text_step == text_step && run->source_step == source_step &&
             run->offset + (decoder->text_size - run->at) / text_step * source_step == offset))
                return 0;
        if (decoder->n_runs == decoder->runs_capacity) {
                runs = realloc(decoder->runs, capacity * sizeof(*runs));
                if (!runs)
                        return -ENOMEM;
                decoder->runs = runs;
                decoder->runs_capacity = capacity;
        }
        decoder->runs[decoder->n_runs++] = (TextRun){ .at = decoder->text_size,
                                                      .offset = offset,
                                                      .text_step = (uint32_t)text_step,
                                                      .source_step = (uint32_t)source_step };
        return 0;
}

/* So many bytes are no character: replaced, or the end. */
static int on_invalid(PmuxDecoder *decoder, const Raw *raw, size_t at, size_t size) {
        uint64_t offset = raw_offset(raw, at);
        int r;

        if (!decoder->refuse) {
                r = note(decoder, offset, sizeof(replacement) - 1, size);
                return r < 0 ? r : add(decoder, replacement, sizeof(replacement) - 1);
        }
        offset = locate(&decoder->locate, offset);
        (void)error_set(&decoder->error, ERROR_INVALID, "the byte 0x%02x at offset %llu is not valid %s",
                        raw->bytes[at], (unsigned long long)offset, decoder->name);
        decoder->error.errno_value = EILSEQ;
        return -EILSEQ;
}

/* ---- UTF-8 ---- */

/* How many bytes from p on could begin a character; 1 for a byte that begins none. *ret_may_go_on: whether
 * more bytes could complete it. */
static size_t utf8_begun(const uint8_t *p, size_t size, bool *ret_may_go_on) {
        size_t need = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2, n = 1;
        uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
        uint8_t high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;

        *ret_may_go_on = false;
        if (p[0] < 0xc2 || p[0] > 0xf4)
                return 1;
        while (n < size && n < need && p[n] >= low && p[n] <= high) {
                n++;
                low = 0x80; /* the narrower bounds are the second byte's alone */
                high = 0xbf;
        }
        *ret_may_go_on = n == size;
        return n;
}

/* Adds bytes that are UTF-8 already. */
static int add_utf8(PmuxDecoder *decoder, const Raw *raw, size_t begin, size_t end) {
        size_t n = raw->offsets ? 1 : end - begin;
        int r = 0;

        for (; r == 0 && begin < end; begin += n) {
                r = note(decoder, raw_offset(raw, begin), 1, 1);
                if (r == 0)
                        r = add(decoder, raw->bytes + begin, n);
        }
        return r;
}

/* Decodes what is complete. Return: how many bytes are left over; -errno. */
static ssize_t decode_utf8(PmuxDecoder *decoder, const Raw *raw) {
        const uint8_t *p = raw->bytes;
        size_t at = 0, first = 0, n;
        bool may_go_on;
        int r = 0;

        while (at < raw->size) {
                n = utf8_sequence(p + at, raw->size - at);
                if (n > 0) {
                        at += n;
                        continue;
                }
                r = add_utf8(decoder, raw, first, at);
                n = utf8_begun(p + at, raw->size - at, &may_go_on);
                if (r < 0 || may_go_on)
                        return r < 0 ? r : (ssize_t)(raw->size - at);
                r = on_invalid(decoder, raw, at, n);
                if (r < 0)
                        return r;
                at += n;
                first = at;
        }
        return add_utf8(decoder, raw, first, at);
}

/* ---- latin-1 ---- */

/* Every byte is the character of its number. */
static ssize_t decode_latin1(PmuxDecoder *decoder, const Raw *raw) {
        const uint8_t *p = raw->bytes;
        char *out;
        int r;

        r = make_room(decoder, 2 * raw->size);
        for (size_t i = 0; r == 0 && i < raw->size; i++) {
                if (decoder->tells_offsets)
                        r = note(decoder, raw_offset(raw, i), p[i] < 0x80 ? 1 : 2, 1);
                out = decoder->text + decoder->text_size;
                if (p[i] >= 0x80)
                        *out++ = (char)(0xc0 | p[i] >> 6);
                *out++ = (char)(p[i] < 0x80 ? p[i] : 0x80 | (p[i] & 0x3f));
                decoder->text_size = (size_t)(out - decoder->text);
        }
        return r;
}

/* ---- everything else ---- */

/* What iconv(3) makes of 'size' bytes: as much as it can. Return: 0; EINVAL: they end in the middle of a
 * character; EILSEQ; -ENOMEM. */
static int convert(PmuxDecoder *decoder, const uint8_t *bytes, size_t size, size_t *ret_left) {
        char *in = (char *)bytes, *out;
        size_t out_left;
        int r = E2BIG;

        for (*ret_left = size; r == E2BIG;) {
                if (make_room(decoder, *ret_left + 16) < 0)
                        return -ENOMEM;
                out = decoder->text + decoder->text_size;
                out_left = decoder->text_capacity - decoder->text_size;
                r = iconv(decoder->conversion, &in, ret_left, &out, &out_left) == (size_t)-1 ? errno : 0;
                decoder->text_size = (size_t)(out - decoder->text);
                if (r == E2BIG &&
                    make_room(decoder, 2 * (decoder->text_capacity - decoder->text_size) + 64) < 0)
                        return -ENOMEM;
        }
        return r;
}

/* The same for one character, which is given byte after byte until it is whole, so that its place is known.
 */
static int convert_one(PmuxDecoder *decoder, const Raw *raw, size_t at, size_t *ret_left) {
        size_t before = decoder->text_size, begin = at, n = 0, left, size;
        int r = EINVAL;

        while (r == EINVAL && decoder->text_size == before && at + n < raw->size) {
                begin = at;
                r = convert(decoder, raw->bytes + at, ++n, &left);
                at += n - left; /* also what is no character: a mark of the byte order, a shift */
                n = left;
        }
        *ret_left = raw->size - at;
        if (decoder->text_size == before)
                return r;
        size = decoder->text_size - before;
        decoder->text_size = before;
        r = note(decoder, raw_offset(raw, begin), size, at - begin);
        decoder->text_size = before + size;
        return r;
}

static ssize_t decode_other(PmuxDecoder *decoder, const Raw *raw) {
        size_t left = raw->size, at, skipped;
        int r;

        while (left > 0) {
                at = raw->size - left;
                r = decoder->tells_offsets ? convert_one(decoder, raw, at, &left)
                                           : convert(decoder, raw->bytes + at, left, &left);
                if (r < 0)
                        return r;
                if (r == EINVAL)
                        return (ssize_t)left;
                if (r == 0)
                        continue;
                left = MAX(left, (size_t)1); /* some converters have gone on behind what they refuse */
                skipped = MIN(decoder->unit, left);
                r = on_invalid(decoder, raw, raw->size - left, skipped);
                if (r < 0)
                        return r;
                left -= skipped;
        }
        return 0;
}

static ssize_t decode(PmuxDecoder *decoder, const Raw *raw) {
        if (decoder->is_latin1)
                return decode_latin1(decoder, raw);
        return decoder->is_utf8 ? decode_utf8(decoder, raw) : decode_other(decoder, raw);
}

/* ---- the pieces ---- */

/* Bytes are added to the carry one by one until it is empty: few are needed to complete a character. */
static int feed_carry(PmuxDecoder *decoder, uint64_t offset, const uint8_t *p, size_t size,
                      size_t *ret_used) {
        size_t used = 0;
        ssize_t left;

        while (decoder->n_carry > 0 && used < size) {
                decoder->carry[decoder->n_carry] = p[used];
                decoder->carry_offsets[decoder->n_carry++] = offset + used;
                used++;
                left = decode(decoder, &(Raw){ .bytes = decoder->carry,
                                               .size = decoder->n_carry,
                                               .offsets = decoder->carry_offsets });
                if (left < 0)
                        return (int)left;
                if (left == CARRY_MAX)
                        return -EILSEQ; /* no encoding has such characters */
                memmove(decoder->carry, decoder->carry + decoder->n_carry - left, (size_t)left);
                memmove(decoder->carry_offsets, decoder->carry_offsets + decoder->n_carry - left,
                        (size_t)left * sizeof(*decoder->carry_offsets));
                decoder->n_carry = (size_t)left;
        }
        *ret_used = used;
        return 0;
}

static int feed(PmuxDecoder *decoder, uint64_t offset, const uint8_t *p, size_t size) {
        size_t used = 0;
        ssize_t left;
        int r;

        if (size > 0)
                decoder->last_offset = offset + size - 1;
        r = feed_carry(decoder, offset, p, size, &used);
        if (r < 0 || used == size)
                return r;
        left = decode(decoder, &(Raw){ .bytes = p + used, .size = size - used, .offset = offset + used });
        if (left < 0)
                return (int)left;
        if (left >= CARRY_MAX)
                return -EILSEQ;
        memcpy(decoder->carry, p + size - left, (size_t)left);
        for (size_t i = 0; i < (size_t)left; i++)
                decoder->carry_offsets[i] = offset + size - (size_t)left + i;
        decoder->n_carry = (size_t)left;
        return 0;
}

/* Some encodings keep a letter back until they know that no accent follows. */
static int finish(PmuxDecoder *decoder) {
        Raw raw = { .bytes = decoder->carry, .offsets = decoder->carry_offsets };
        size_t before = decoder->text_size, left;
        char *out;
        int r;

        if (decoder->n_carry > 0) {
                raw.size = decoder->n_carry;
                decoder->n_carry = 0;
                return on_invalid(decoder, &raw, 0, raw.size);
        }
        if (decoder->is_utf8 || decoder->is_latin1)
                return 0;
        r = make_room(decoder, 64);
        if (r < 0)
                return r;
        out = decoder->text + decoder->text_size;
        left = decoder->text_capacity - decoder->text_size;
        (void)iconv(decoder->conversion, NULL, NULL, &out, &left);
        left = (size_t)(out - decoder->text) - before;
        r = left > 0 ? note(decoder, decoder->last_offset, left, 1) : 0;
        decoder->text_size = before + left;
        return r;
}

/* What a call gives back; a failure stays. */
static int answer(PmuxDecoder *decoder, int r, const char **ret_text, size_t *ret_size,
                  PmuxError *reterr_error) {
        decoder->failed = r;
        *ret_text = decoder->text ? decoder->text : "";
        *ret_size = decoder->text_size;
        return r < 0 ? error_export(reterr_error, &decoder->error, r) : 0;
}

int pmux_decoder_feed(PmuxDecoder *decoder, uint64_t offset, const void *data, size_t size,
                      const char **ret_text, size_t *ret_size, PmuxError *reterr_error) {
        decoder->text_size = decoder->n_runs = 0;
        return answer(decoder, decoder->failed < 0 ? decoder->failed : feed(decoder, offset, data, size),
                      ret_text, ret_size, reterr_error);
}

int pmux_decoder_end(PmuxDecoder *decoder, const char **ret_text, size_t *ret_size, PmuxError *reterr_error) {
        decoder->text_size = decoder->n_runs = 0;
        return answer(decoder, decoder->failed < 0 ? decoder->failed : finish(decoder), ret_text, ret_size,
                      reterr_error);
}

const char *decoder_text(const PmuxDecoder *decoder, size_t *ret_size, const TextRun **ret_runs,
                         size_t *ret_n_runs) {
        *ret_size = decoder->text_size;
        *ret_runs = decoder->runs;
        *ret_n_runs = decoder->n_runs;
        return decoder->text;
}

size_t decoder_begun(const PmuxDecoder *decoder, uint64_t *ret_offset) {
        if (decoder->n_carry > 0 && ret_offset)
                *ret_offset = locate(&decoder->locate, decoder->carry_offsets[0]);
        return decoder->n_carry;
}

void decoder_drop(PmuxDecoder *decoder) {
        decoder->n_carry = 0;
}

void decoder_set_locate(PmuxDecoder *decoder, Locate locate) {
        decoder->locate = locate;
}

/* ---- making one ---- */

/* Names as people write them: iconv(3) knows LATIN1 and not latin-1. */
static const char *known_name(const char *encoding, char *buffer, size_t size) {
        size_t length = strlen(encoding);

        if (length == 0 || length >= size || strchr(encoding, '/'))
                return NULL;
        memcpy(buffer, encoding, length + 1);
        if (strncasecmp(buffer, "latin-", 6) == 0)
                memmove(buffer + 5, buffer + 6, length - 5);
        return buffer;
}

static bool is_one_of(const char *name, const char *const *names) {
        while (name && *names)
                if (strcasecmp(name, *names++) == 0)
                        return true;
        return false;
}

/* How many bytes its smallest character has, whatever it is called: those of the second one, as something may
 * stand before the first. */
static size_t unit_of(const char *name) {
        iconv_t encode = iconv_open(name, "UTF-8");
        char in[] = "00", out[64], *from = in, *to = out, *first;
        size_t n = 1, room = sizeof(out);

        if (encode == (iconv_t)-1)
                return 1;
        (void)iconv(encode, &from, &n, &to, &room);
        first = to;
        n = 1;
        (void)iconv(encode, &from, &n, &to, &room);
        (void)iconv_close(encode);
        return MAX((size_t)(to - first), (size_t)1);
}

int pmux_decoder_new(PmuxDecoder **ret_decoder, const char *encoding, unsigned flags,
                     PmuxError *reterr_error) {
        static const char *const utf8[] = { "UTF-8", "UTF8", NULL };
        static const char *const latin1[] = { "latin1",     "l1",       "ISO-8859-1", "ISO8859-1",
                                              "ISO_8859-1", "ISO88591", "8859_1",     NULL };
        PmuxDecoder *decoder;
        Error error = {};
        const char *name;

        decoder = calloc(1, sizeof(*decoder));
        if (!decoder)
                return error_export(reterr_error, &error, -ENOMEM);
        decoder->conversion = (iconv_t)-1;
        name = known_name(encoding, decoder->name, sizeof(decoder->name));
        decoder->is_utf8 = is_one_of(name, utf8);
        decoder->is_latin1 = is_one_of(name, latin1);
        decoder->refuse = flags & PMUX_DECODE_REFUSE;
        decoder->tells_offsets = flags & PMUX_DECODE_OFFSETS;
        if (name && !decoder->is_utf8 && !decoder->is_latin1)
                decoder->conversion = iconv_open("UTF-8", name);
        if (decoder->conversion != (iconv_t)-1)
                decoder->unit = unit_of(name);
        if (!decoder->is_utf8 && !decoder->is_latin1 && decoder->conversion == (iconv_t)-1) {
                (void)pmux_decoder_free(decoder);
                return error_export(
                        reterr_error, &error,
                        error_set(&error, ERROR_INVALID, "the encoding '%s' is not known", encoding));
        }
        *ret_decoder = decoder;
        return 0;
}

PmuxDecoder *pmux_decoder_free(PmuxDecoder *decoder) {
        if (!decoder)
                return NULL;
        if (decoder->conversion != (iconv_t)-1)
                (void)iconv_close(decoder->conversion);
        free(decoder->text);
        free(decoder->runs);
        free(decoder);
        return NULL;
}
