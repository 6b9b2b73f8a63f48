/* SPDX-License-Identifier: MIT */

/* Bytes in JSON: any bytes come back, any JSON is taken or refused, base64 has one spelling only. */

#include "common/bytes.h"
#include "common/macro.h"
#include "tests/fuzz/fuzz-target.h"

static void base64(const char *text, size_t size) {
        Bytes bytes;
        char *again;

        if (base64_decode(text, size, &bytes) < 0)
                return;
        assert(bytes.data[bytes.size] == '\0');
        again = base64_encode(bytes.data, bytes.size);
        assert(again && strlen(again) == size && memcmp(again, text, size) == 0);
        free(again);
        bytes_deinit(&bytes);
}

static void round_trip(const void *data, size_t size) {
        json_t *json = bytes_to_json(data, size), *again;
        Bytes bytes;
        char *text;

        assert(json);
        text = json_dumps(json, JSON_ENCODE_ANY);
        assert(text);
        again = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert(again);
        assert(bytes_from_json(again, "data", &bytes, NULL) == 0);
        assert(bytes.size == size && (size == 0 || memcmp(bytes.data, data, size) == 0));
        bytes_deinit(&bytes);
        free(text);
        json_decref(again);
        json_decref(json);
}

static void from_json(const char *text, size_t size) {
        json_t *json = json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        Error error = {};
        char *string;
        Bytes bytes;
        int r;

        if (!json)
                return;
        r = bytes_from_json(json, "data", &bytes, &error);
        assert((r == 0) == (error.code == ERROR_NONE));
        if (r == 0) {
                r = bytes_string_from_json(json, "data", &string, NULL);
                assert((r == 0) == !memchr(bytes.data, '\0', bytes.size));
                if (r == 0) {
                        assert(strlen(string) == bytes.size);
                        free(string);
                }
                round_trip(bytes.data, bytes.size);
                bytes_deinit(&bytes);
        }
        json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        base64((const char *)data, size);
        round_trip(data, size);
        from_json((const char *)data, size);
        return 0;
}
