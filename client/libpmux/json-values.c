/* SPDX-License-Identifier: MIT */

/* A stream of bytes cut into JSON values: a scanner finds where each ends, jansson says whether it is one. */

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "client/libpmux/connection.h"
#include "client/libpmux/decoder.h"
#include "client/libpmux/json-fault.h"
#include "client/libpmux/pmux-text.h"

#define MAX_BYTES_DEFAULT (16 * 1024 * 1024)

/* What the value that is being read is. */
typedef enum Shape {
        SHAPE_NONE,   /* between values */
        SHAPE_NESTED, /* an object or an array */
        SHAPE_STRING,
        SHAPE_WORD, /* a number, true, false, null: ends where something else begins */
} Shape;

/* Where something is in the source: at 'at' it stood at 'offset', and each so many bytes further on so many
 * further on. */
typedef struct Place {
        size_t at;
        uint64_t offset;
        uint32_t step;
        uint32_t source_step;
} Place;

struct PmuxJson {
        size_t max_bytes;
        PmuxJsonFn fn;
        void *userdata; /* borrowed */
        Shape shape;
        size_t depth;
        bool in_string;
        bool escaped;
        char *value; /* owned; what there is of the value */
        size_t size;
        size_t capacity;
        Place *pieces; /* owned; of the value */
        size_t n_pieces;
        size_t pieces_capacity;
        Locate locate;
        int failed; /* -errno for good */
        Error error;
};

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static uint64_t place_offset(const Place *place, size_t at) {
        return place->offset + (at - place->at) / place->step * place->source_step;
}

/* Where a byte of the value stood. */
static uint64_t offset_of(const PmuxJson *json, size_t at) {
        size_t i = json->n_pieces;

        while (i > 1 && json->pieces[i - 1].at > at)
                i--;
        return i > 0 ? place_offset(&json->pieces[i - 1], at) : 0;
}

static int refuse(PmuxJson *json, uint64_t offset, const char *why) {
        (void)error_set(&json->error, ERROR_INVALID, "what stands at offset %llu is not JSON: %s",
                        (unsigned long long)locate(&json->locate, offset), why);
        json->error.errno_value = EILSEQ;
        return -EILSEQ;
}

/* ---- keeping the value ---- */

static int keep(PmuxJson *json, const char *data, size_t size) {
        size_t capacity = MAX(json->capacity, (size_t)256);
        char *value;

        if (size > json->max_bytes - json->size)
                return error_set(&json->error, ERROR_TOO_LARGE,
                                 "the JSON value at offset %llu is larger than %zu bytes",
                                 (unsigned long long)locate(&json->locate, offset_of(json, 0)),
                                 json->max_bytes);
        while (capacity - json->size < size + 1)
                capacity *= 2;
        if (capacity != json->capacity) {
                value = realloc(json->value, capacity);
                if (!value)
                        return -ENOMEM;
                json->value = value;
                json->capacity = capacity;
        }
        memcpy(json->value + json->size, data, size);
        json->size += size;
        json->value[json->size] = '\0';
        return 0;
}

/* What is kept next stands at 'at' of these data. */
static int note_piece(PmuxJson *json, const Place *data, size_t at) {
        const Place *last = json->n_pieces > 0 ? &json->pieces[json->n_pieces - 1] : NULL;
        size_t capacity = MAX(2 * json->pieces_capacity, (size_t)4);
        uint64_t offset = place_offset(data, at);
        Place *pieces;

        if (last && last->step == data->step && last->source_step == data->source_step &&
            place_offset(last, json->size) == offset)
                return 0; /* it goes on behind the last one */
        if (json->n_pieces == json->pieces_capacity) {
                pieces = realloc(json->pieces, capacity * sizeof(*pieces));
                if (!pieces)
                        return -ENOMEM;
                json->pieces = pieces;
                json->pieces_capacity = capacity;
        }
        json->pieces[json->n_pieces++] = (Place){ json->size, offset, data->step, data->source_step };
        return 0;
}

/* ---- a value is whole ---- */

/* Takes the blanks out that stand between the parts of a valid value. */
static void compact(PmuxJson *json) {
        bool in_string = false, escaped = false;
        size_t n = 0;

        for (size_t i = 0; i < json->size; i++) {
                char c = json->value[i];

                if (!in_string && is_blank(c))
                        continue;
                if (c == '"' && !escaped)
                        in_string = !in_string;
                escaped = in_string && !escaped && c == '\\';
                json->value[n++] = c;
        }
        json->size = n;
        json->value[n] = '\0';
}

/* Whether it is JSON, as far as that was read, and only cannot be held: the value is handed on as it was
 * written. */
static bool too_much_for_jansson(const json_error_t *error) {
        return json_error_code(error) == json_error_numeric_overflow ||
               json_error_code(error) == json_error_null_byte_in_key;
}

static int finish_value(PmuxJson *json) {
        const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL;
        uint64_t offset = offset_of(json, 0);
        json_error_t error;
        json_t *parsed;
        size_t fault;
        bool held;
        int r;

        parsed = json_loadb(json->value, json->size, flags, &error);
        if (!parsed && json_error_code(&error) == json_error_out_of_memory)
                return -ENOMEM;
        if (!parsed) {
                fault = json_fault(json->value, json->size);
                held = !too_much_for_jansson(&error);
                if (held || fault < json->size)
                        return refuse(json, fault < json->size ? offset_of(json, fault) : offset,
                                      held ? error.text : "invalid token");
        }
        json_decref(parsed);
        compact(json);
        r = json->fn(json->value, json->size, offset, json->userdata);
        json->shape = SHAPE_NONE;
        json->size = 0;
        json->n_pieces = 0;
        return r < 0 ? r : 0;
}

/* ---- the scanner ---- */

static int begin(PmuxJson *json, const Place *data, size_t at, char c) {
        switch (c) {
        case '{':
        case '[':
                json->shape = SHAPE_NESTED;
                json->depth = 0;
                json->in_string = false;
                break;
        case '"':
                json->shape = SHAPE_STRING;
                json->in_string = false;
                break;
        case '}':
        case ']':
        case ',':
        case ':':
                return refuse(json, place_offset(data, at), "no value begins like this");
        default:
                json->shape = SHAPE_WORD;
                break;
        }
        json->escaped = false;
        return note_piece(json, data, at);
}

/* Looks at one byte of a string or of something nested. Return: whether it is the value's last. */
static bool scan_byte(PmuxJson *json, char c) {
        if (json->in_string) {
                if (json->escaped)
                        json->escaped = false;
                else if (c == '\\')
                        json->escaped = true;
                else if (c == '"')
                        json->in_string = false;
                return !json->in_string && json->shape == SHAPE_STRING;
        }
        if (c == '"')
                json->in_string = true;
        else if (c == '{' || c == '[')
                json->depth++;
        else if (c == '}' || c == ']')
                json->depth--;
        return json->shape == SHAPE_NESTED && json->depth == 0;
}

/* How far the value goes in these bytes. *ret_whole: whether it ends there. */
static size_t scan(PmuxJson *json, const char *data, size_t size, bool *ret_whole) {
        size_t n = 0;

        *ret_whole = false;
        if (json->shape == SHAPE_WORD) {
                while (n < size && !is_blank(data[n]) && !strchr("{}[],:\"", data[n] ? data[n] : '.'))
                        n++;
                *ret_whole = n < size;
                return n;
        }
        while (n < size && !*ret_whole)
                *ret_whole = scan_byte(json, data[n++]);
        return n;
}

/* 'place' tells where the first of these bytes stood, and those behind it. */
static int feed(PmuxJson *json, const Place *place, const char *data, size_t size) {
        size_t at = 0, n;
        bool whole;
        int r;

        if (size > 0 && json->shape != SHAPE_NONE && note_piece(json, place, 0) < 0)
                return -ENOMEM;
        while (at < size) {
                if (json->shape == SHAPE_NONE) {
                        if (is_blank(data[at])) {
                                at++;
                                continue;
                        }
                        r = begin(json, place, at, data[at]);
                        if (r < 0)
                                return r;
                }
                n = scan(json, data + at, size - at, &whole);
                r = keep(json, data + at, n);
                if (r == 0 && whole)
                        r = finish_value(json);
                if (r < 0)
                        return r;
                at += n;
        }
        return 0;
}

static int answer(PmuxJson *json, int r, PmuxError *reterr_error) {
        json->failed = r;
        return r < 0 ? error_export(reterr_error, &json->error, r) : 0;
}

int pmux_json_feed(PmuxJson *json, uint64_t offset, const void *data, size_t size, PmuxError *reterr_error) {
        const Place place = { .offset = offset, .step = 1, .source_step = 1 };

        return answer(json, json->failed < 0 ? json->failed : feed(json, &place, data, size), reterr_error);
}

int pmux_json_feed_decoded(PmuxJson *json, const PmuxDecoder *decoder, PmuxError *reterr_error) {
        const TextRun *runs;
        size_t size, n, end;
        int r = json->failed;
        const char *text;

        text = decoder_text(decoder, &size, &runs, &n);
        for (size_t i = 0; r == 0 && i < n; i++) {
                const Place place = { .offset = runs[i].offset,
                                      .step = runs[i].text_step,
                                      .source_step = runs[i].source_step };

                end = i + 1 < n ? runs[i + 1].at : size;
                r = feed(json, &place, text + runs[i].at, end - runs[i].at);
        }
        return answer(json, r, reterr_error);
}

int pmux_json_end(PmuxJson *json, PmuxError *reterr_error) {
        int r = json->failed;

        if (r == 0 && json->shape != SHAPE_NONE)
                r = finish_value(json);
        return answer(json, r, reterr_error);
}

int json_gap(PmuxJson *json, PmuxError *reterr_error) {
        int r = json->failed;

        if (r == 0 && json->shape != SHAPE_NONE)
                r = refuse(json, offset_of(json, 0), "bytes of it are lost");
        return answer(json, r, reterr_error);
}

void json_set_locate(PmuxJson *json, Locate locate) {
        json->locate = locate;
}

int pmux_json_new(PmuxJson **ret_json, size_t max_bytes, PmuxJsonFn fn, void *userdata,
                  PmuxError *reterr_error) {
        PmuxJson *json;

        json = calloc(1, sizeof(*json));
        if (!json)
                return error_export(reterr_error, &(Error){}, -ENOMEM);
        json->max_bytes = max_bytes > 0 ? MIN(max_bytes, SIZE_MAX / 4) : MAX_BYTES_DEFAULT;
        json->fn = fn;
        json->userdata = userdata;
        *ret_json = json;
        return 0;
}

PmuxJson *pmux_json_free(PmuxJson *json) {
        if (!json)
                return NULL;
        free(json->value);
        free(json->pieces);
        free(json);
        return NULL;
}
