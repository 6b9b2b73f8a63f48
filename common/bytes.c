/* SPDX-License-Identifier: MIT */

#include "common/bytes.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/macro.h"
#include "common/utf8.h"

#define BASE64_INVALID 0xff
#define BASE64_SIZE_MAX (SIZE_MAX / 4 * 3 - 3) /* more cannot be encoded without overflow */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void bytes_deinit(Bytes *bytes) {
        free(bytes->data);
        *bytes = (Bytes){};
}

/* A block with room for 'size' bytes and the NUL that is not counted. */
static int bytes_new(Bytes *ret_bytes, size_t size) {
        char *data;

        if (size == SIZE_MAX)
                return -ENOMEM;
        data = malloc(size + 1);
        if (!data)
                return -ENOMEM;
        data[size] = '\0';
        *ret_bytes = (Bytes){ .data = data, .size = size };
        return 0;
}

char *base64_encode(const void *data, size_t size) {
        const unsigned char *p = data;
        char *text, *out;
        uint32_t group;

        if (size > BASE64_SIZE_MAX)
                return NULL;
        text = out = malloc((size + 2) / 3 * 4 + 1);
        if (!text)
                return NULL;
        for (; size >= 3; size -= 3, p += 3) {
                group = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
                *out++ = alphabet[group >> 18];
                *out++ = alphabet[group >> 12 & 63];
                *out++ = alphabet[group >> 6 & 63];
                *out++ = alphabet[group & 63];
        }
        if (size > 0) {
                group = (uint32_t)p[0] << 16 | (size > 1 ? (uint32_t)p[1] << 8 : 0);
                *out++ = alphabet[group >> 18];
                *out++ = alphabet[group >> 12 & 63];
                *out++ = size > 1 ? alphabet[group >> 6 & 63] : '=';
                *out++ = '=';
        }
        *out = '\0';
        return text;
}

static unsigned base64_value(char c) {
        if (c >= 'A' && c <= 'Z')
                return (unsigned)(c - 'A');
        if (c >= 'a' && c <= 'z')
                return (unsigned)(c - 'a') + 26;
        if (c >= '0' && c <= '9')
                return (unsigned)(c - '0') + 52;
        if (c == '+')
                return 62;
        return c == '/' ? 63 : BASE64_INVALID;
}

/* Four characters, of which the last n_padding are '='; the bits that padding leaves over must be zero. */
static int base64_decode_group(const char *text, size_t n_padding, unsigned char *ret_bytes) {
        uint32_t group = 0;
        unsigned value;

        for (size_t i = 0; i < 4; i++) {
                value = i < 4 - n_padding ? base64_value(text[i]) : 0;
                if (value == BASE64_INVALID)
                        return -EINVAL;
                group = group << 6 | value;
        }
        if (group & ((UINT32_C(1) << 8 * n_padding) - 1))
                return -EINVAL;
        for (size_t i = 0; i < 3 - n_padding; i++)
                ret_bytes[i] = (unsigned char)(group >> (16 - 8 * i));
        return 0;
}

int base64_decode(const char *text, size_t text_size, Bytes *ret_bytes) {
        CLEANUP(bytes_deinit) Bytes bytes = {};
        size_t n_padding = 0;
        unsigned char *out;
        int r;

        if (text_size % 4 != 0)
                return -EINVAL;
        if (text_size > 0 && text[text_size - 1] == '=')
                n_padding = text[text_size - 2] == '=' ? 2 : 1;
        r = bytes_new(&bytes, text_size / 4 * 3 - n_padding);
        if (r < 0)
                return r;
        out = (unsigned char *)bytes.data;
        for (size_t i = 0; i < text_size; i += 4, out += 3) {
                r = base64_decode_group(text + i, i + 4 == text_size ? n_padding : 0, out);
                if (r < 0)
                        return r;
        }
        *ret_bytes = bytes;
        bytes = (Bytes){};
        return 0;
}

json_t *bytes_to_json(const void *data, size_t size) {
        char *text;
        json_t *json;

        if (utf8_valid(data, size))
                return json_stringn_nocheck(size > 0 ? data : "", size);
        text = base64_encode(data, size);
        if (!text)
                return NULL;
        json = json_pack("{s:s}", "base64", text);
        free(text);
        return json;
}

json_t *bytes_string_to_json(const char *string) {
        return string ? bytes_to_json(string, strlen(string)) : json_null();
}

int bytes_from_json(const json_t *json, const char *what, Bytes *ret_bytes, Error *reterr_error) {
        const json_t *text;
        Bytes bytes;
        int r;

        if (json_is_string(json)) {
                r = bytes_new(&bytes, json_string_length(json));
                if (r == 0)
                        memcpy(bytes.data, json_string_value(json), bytes.size);
        } else {
                text = json_object_size(json) == 1 ? json_object_get(json, "base64") : NULL;
                if (!json_is_string(text))
                        return error_set(reterr_error, ERROR_INVALID,
                                         "'%s' must be a string or {\"base64\": …}", what);
                r = base64_decode(json_string_value(text), json_string_length(text), &bytes);
                if (r == -EINVAL)
                        return error_set(reterr_error, ERROR_INVALID, "'%s' is not valid base64", what);
        }
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot hold '%s'", what);
        *ret_bytes = bytes;
        return 0;
}

int bytes_string_from_json(const json_t *json, const char *what, char **ret_string, Error *reterr_error) {
        CLEANUP(bytes_deinit) Bytes bytes = {};
        int r;

        r = bytes_from_json(json, what, &bytes, reterr_error);
        if (r < 0)
                return r;
        if (memchr(bytes.data, '\0', bytes.size))
                return error_set(reterr_error, ERROR_INVALID, "'%s' contains a NUL character", what);
        *ret_string = TAKE(bytes.data);
        return 0;
}
