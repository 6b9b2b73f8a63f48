/* SPDX-License-Identifier: MIT */
#pragma once

/* What every fuzz target has: the function that libFuzzer, or corpus-main.c, calls with one input. */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input as a string, owned by the caller; bytes behind a NUL are not looked at. */
static inline char *fuzz_string(const uint8_t *data, size_t size) {
        char *text = malloc(size + 1);

        assert(text);
        if (size > 0)
                memcpy(text, data, size);
        text[size] = '\0';
        return text;
}
