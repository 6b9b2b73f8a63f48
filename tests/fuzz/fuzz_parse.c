/* SPDX-License-Identifier: MIT */

/* What people type: every text is read or refused with a sentence, and what is shown can be read again. */

#include "common/macro.h"
#include "common/parse.h"
#include "common/utf8.h"
#include "tests/fuzz/fuzz-target.h"

#define NOW (UINT64_C(1769860800) * USEC_PER_SEC)

static void check(int r, const Error *error) {
        assert((r == 0) == (error->code == ERROR_NONE));
        assert(utf8_valid(error->text, strnlen(error->text, sizeof(error->text))));
}

static void spans(const char *text) {
        char buffer[32];
        uint64_t value, shown;
        Error error = {};
        int r;

        r = parse_duration(text, &value, &error);
        check(r, &error);
        if (r == 0)
                assert(parse_duration(format_duration(buffer, sizeof(buffer), value), &shown, NULL) == 0 &&
                       shown <= value);
        error = (Error){};
        r = parse_size(text, &value, &error);
        check(r, &error);
        if (r == 0)
                assert(parse_size(format_size(buffer, sizeof(buffer), value), &shown, NULL) == 0 &&
                       shown <= value);
}

static void numbers(const char *text) {
        int signal, again, r;
        uint64_t value;
        Error error = {};

        r = parse_u64(text, 1000, &value, &error);
        check(r, &error);
        assert(r < 0 || value <= 1000);
        error = (Error){};
        r = parse_signal(text, &signal, &error);
        check(r, &error);
        if (r == 0) {
                assert(signal >= 1 && signal <= 64);
                if (signal != 32 && signal != 33)
                        assert(parse_signal(signal_name(signal), &again, NULL) == 0 && again == signal);
        }
        error = (Error){};
        r = parse_timestamp(text, NOW, &value, &error);
        check(r, &error);
        assert(r < 0 || value <= INT64_MAX || text[0] == '+');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *text = fuzz_string(data, size);

        spans(text);
        numbers(text);
        free(text);
        return 0;
}
