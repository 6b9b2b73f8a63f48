/* SPDX-License-Identifier: MIT */

#include "common/utf8.h"

#include <stdint.h>
#include <string.h>

static bool is_continuation(unsigned char c) {
        return (c & 0xc0) == 0x80;
}

size_t utf8_sequence(const unsigned char *p, size_t size) {
        if (size == 0)
                return 0;
        if (p[0] < 0x80)
                return 1;
        if (p[0] < 0xc2)
                return 0;
        if (p[0] < 0xe0)
                return size >= 2 && is_continuation(p[1]) ? 2 : 0;
        if (p[0] < 0xf0) {
                if (size < 3 || !is_continuation(p[1]) || !is_continuation(p[2]))
                        return 0;
                if (p[0] == 0xe0 && p[1] < 0xa0)
                        return 0; /* overlong */
                if (p[0] == 0xed && p[1] > 0x9f)
                        return 0; /* a surrogate */
                return 3;
        }
        if (p[0] > 0xf4 || size < 4 || !is_continuation(p[1]) || !is_continuation(p[2]) ||
            !is_continuation(p[3]))
                return 0;
        if (p[0] == 0xf0 && p[1] < 0x90)
                return 0; /* overlong */
        if (p[0] == 0xf4 && p[1] > 0x8f)
                return 0; /* above U+10FFFF */
        return 4;
}

bool utf8_valid(const void *data, size_t size) {
        const unsigned char *p = data;
        uint64_t word;
        size_t n;

        while (size > 0) {
                if (size >= sizeof(word)) { /* eight ASCII bytes at a time: nearly all there is */
                        memcpy(&word, p, sizeof(word));
                        if (!(word & UINT64_C(0x8080808080808080))) {
                                p += sizeof(word);
                                size -= sizeof(word);
                                continue;
                        }
                }
                n = utf8_sequence(p, size);
                if (n == 0)
                        return false;
                p += n;
                size -= n;
        }
        return true;
}

void utf8_sanitize(char *text) {
        unsigned char *p = (unsigned char *)text;
        size_t left = strlen(text), n;

        while (left > 0) {
                n = utf8_sequence(p, left);
                if (n == 0 || *p < 0x20 || *p == 0x7f) {
                        *p = '?';
                        n = 1;
                }
                p += n;
                left -= n;
        }
}
