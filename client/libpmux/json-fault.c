/* SPDX-License-Identifier: MIT */

#include "client/libpmux/json-fault.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/macro.h"
#include "common/utf8.h"

#define DEPTH_MAX 2048 /* as jansson has it */

/* The text, and how far it has been read. Each function below goes on from 'at' and returns whether it may go
 * on behind what it read; if not, 'at' is the byte to blame, or the end. */
typedef struct Reading {
        const unsigned char *text;
        size_t size;
        size_t at;
        size_t depth;
        bool is_object[DEPTH_MAX]; /* of what is open */
} Reading;

static void skip_blanks(Reading *reading) {
        while (reading->at < reading->size && memchr(" \t\n\r", reading->text[reading->at], 4))
                reading->at++;
}

static bool read_byte(Reading *reading, char byte) {
        if (reading->at == reading->size || reading->text[reading->at] != (unsigned char)byte)
                return false;
        reading->at++;
        return true;
}

static bool read_digits(Reading *reading) {
        size_t begin = reading->at;

        while (reading->at < reading->size && reading->text[reading->at] >= '0' &&
               reading->text[reading->at] <= '9')
                reading->at++;
        return reading->at > begin;
}

static bool read_number(Reading *reading) {
        (void)read_byte(reading, '-');
        if (!read_byte(reading, '0') && !read_digits(reading))
                return false;
        if (read_byte(reading, '.') && !read_digits(reading))
                return false;
        if (!read_byte(reading, 'e') && !read_byte(reading, 'E'))
                return true;
        if (!read_byte(reading, '+'))
                (void)read_byte(reading, '-');
        return read_digits(reading);
}

static bool read_word(Reading *reading, const char *word) {
        while (*word)
                if (!read_byte(reading, *word++))
                        return false;
        return true;
}

/* Four hexadecimal digits, behind \u. */
static bool read_hex(Reading *reading, uint32_t *ret_unit) {
        static const char digits[] = "0123456789abcdef0123456789ABCDEF";
        const char *digit;

        *ret_unit = 0;
        for (unsigned i = 0; i < 4; i++) {
                if (reading->at == reading->size)
                        return false;
                digit = memchr(digits, reading->text[reading->at], sizeof(digits) - 1);
                if (!digit)
                        return false;
                *ret_unit = *ret_unit << 4 | (uint32_t)((digit - digits) % 16);
                reading->at++;
        }
        return true;
}

/* Behind the backslash, which is to blame for half of a pair of surrogates. */
static bool read_escape(Reading *reading) {
        size_t begin = reading->at - 1;
        uint32_t unit;

        if (reading->at == reading->size || !memchr("\"\\/bfnrtu", reading->text[reading->at], 9))
                return false;
        if (reading->text[reading->at++] != 'u')
                return true;
        if (!read_hex(reading, &unit))
                return false;
        if (unit >= 0xd800 && unit < 0xdc00) {
                if (reading->at == reading->size)
                        return false;
                if (read_byte(reading, '\\') && (reading->at == reading->size || read_byte(reading, 'u')) &&
                    !read_hex(reading, &unit))
                        return false;
                if (unit >= 0xdc00 && unit < 0xe000)
                        return true;
        } else if (unit < 0xd800 || unit >= 0xe000) {
                return true;
        }
        reading->at = begin;
        return false;
}

/* Behind the first quotation mark. */
static bool read_string(Reading *reading) {
        size_t n;

        while (reading->at < reading->size && reading->text[reading->at] >= 0x20) {
                if (read_byte(reading, '"'))
                        return true;
                if (read_byte(reading, '\\')) {
                        if (!read_escape(reading))
                                return false;
                        continue;
                }
                n = utf8_sequence(reading->text + reading->at, reading->size - reading->at);
                if (n == 0)
                        return false;
                reading->at += n;
        }
        return false;
}

static bool read_key(Reading *reading) {
        skip_blanks(reading);
        if (!read_byte(reading, '"') || !read_string(reading))
                return false;
        skip_blanks(reading);
        return read_byte(reading, ':');
}

/* Opens what is nested, as far as its first value. *ret_whole: it is empty. */
static bool read_opening(Reading *reading, bool is_object, bool *ret_whole) {
        if (reading->depth == DEPTH_MAX) {
                reading->at--;
                return false;
        }
        skip_blanks(reading);
        *ret_whole = read_byte(reading, is_object ? '}' : ']');
        if (*ret_whole)
                return true;
        reading->is_object[reading->depth++] = is_object;
        return !is_object || read_key(reading);
}

/* The beginning of a value: all of it, unless something is nested in it. */
static bool read_value(Reading *reading, bool *ret_whole) {
        skip_blanks(reading);
        *ret_whole = true;
        if (reading->at == reading->size)
                return false;
        switch (reading->text[reading->at]) {
        case '{':
        case '[':
                reading->at++;
                return read_opening(reading, reading->text[reading->at - 1] == '{', ret_whole);
        case '"':
                reading->at++;
                return read_string(reading);
        case 't':
                return read_word(reading, "true");
        case 'f':
                return read_word(reading, "false");
        case 'n':
                return read_word(reading, "null");
        default:
                return read_number(reading);
        }
}

/* Behind a value: what is open ends, or has another one. *ret_more: another one begins. */
static bool read_behind(Reading *reading, bool *ret_more) {
        bool is_object;

        for (*ret_more = false; reading->depth > 0 && !*ret_more;) {
                is_object = reading->is_object[reading->depth - 1];
                skip_blanks(reading);
                *ret_more = read_byte(reading, ',');
                if (*ret_more && is_object && !read_key(reading))
                        return false;
                if (*ret_more)
                        break;
                if (!read_byte(reading, is_object ? '}' : ']'))
                        return false;
                reading->depth--;
        }
        return true;
}

size_t json_fault(const char *text, size_t size) {
        Reading reading = { .text = (const unsigned char *)text, .size = size };
        bool whole, more;

        do {
                more = true;
                if (!read_value(&reading, &whole) || (whole && !read_behind(&reading, &more)))
                        return reading.at;
        } while (more);
        skip_blanks(&reading);
        return reading.at;
}
