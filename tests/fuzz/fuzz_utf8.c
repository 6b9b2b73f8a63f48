/* SPDX-License-Identifier: MIT */

/* Text: valid as a whole exactly if it is sequence by sequence; sanitized it is always valid. */

#include "common/error.h"
#include "common/utf8.h"
#include "tests/fuzz/fuzz-target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *text = fuzz_string(data, size);
        Error error = {};
        size_t n = 0, step;

        while (n < size) {
                step = utf8_sequence(data + n, size - n);
                if (step == 0)
                        break;
                assert(step <= size - n);
                n += step;
        }
        assert(utf8_valid(data, size) == (n == size));
        (void)error_set(&error, ERROR_INVALID, "'%s'", text);
        assert(utf8_valid(error.text, strlen(error.text)));
        assert(!strchr(error.text, '\n'));
        n = strlen(text);
        utf8_sanitize(text);
        assert(strlen(text) == n && utf8_valid(text, n));
        free(text);
        return 0;
}
