/* SPDX-License-Identifier: MIT */

#include "daemon/engine/request-key.h"

#include <string.h>

#include "common/bytes.h"

#define SEED UINT64_C(0x9e3779b97f4a7c15)
#define BYTES 0x100 /* unlike any json_type */

static uint64_t mix(uint64_t hash, uint64_t word) {
        hash = (hash ^ word) * UINT64_C(0xff51afd7ed558ccd);
        return hash ^ hash >> 32;
}

uint64_t request_digest_data(uint64_t hash, const void *data, size_t size) {
        const uint8_t *p = data;
        uint64_t word;

        for (hash = mix(hash, size); size >= sizeof(word); p += sizeof(word), size -= sizeof(word)) {
                memcpy(&word, p, sizeof(word));
                hash = mix(hash, word);
        }
        word = 0;
        memcpy(&word, p, size);
        return mix(hash, word);
}

/* Bytes are the same in both of their forms. Return: whether it is bytes. */
static bool digest_bytes(uint64_t *hash, const json_t *value) {
        CLEANUP(bytes_deinit) Bytes bytes = {};

        if (json_is_string(value)) {
                *hash = request_digest_data(mix(*hash, BYTES), json_string_value(value),
                                            json_string_length(value));
                return true;
        }
        if (json_object_size(value) != 1 || !json_object_get(value, "base64") ||
            bytes_from_json(value, "", &bytes, NULL) < 0)
                return false;
        *hash = request_digest_data(mix(*hash, BYTES), bytes.data, bytes.size);
        return true;
}

static uint64_t digest_value(uint64_t hash, const json_t *value, const char *except) {
        const char *name;
        uint64_t sum = 0;
        json_t *member;
        size_t i;

        if (digest_bytes(&hash, value))
                return hash;
        hash = mix(hash, (uint64_t)json_typeof(value));
        switch (json_typeof(value)) {
        case JSON_INTEGER:
                return mix(hash, (uint64_t)json_integer_value(value));
        case JSON_REAL: {
                double real = json_real_value(value);

                return request_digest_data(hash, &real, sizeof(real));
        }
        case JSON_ARRAY:
                json_array_foreach((json_t *)value, i, member) hash = digest_value(hash, member, "");
                return mix(hash, json_array_size(value));
        case JSON_OBJECT: /* a sum, as members have no order */
                json_object_foreach((json_t *)value, name, member) {
                        if (!params_is_among(except, name))
                                sum += digest_value(request_digest_data(SEED, name, strlen(name)), member,
                                                    "");
                }
                return mix(hash, sum);
        default:
                return hash;
        }
}

uint64_t request_digest(const char *method, const Params *params, const char *except) {
        uint64_t hash = request_digest_data(SEED, method, strlen(method));

        if (params->object)
                hash = digest_value(hash, params->object, except);
        return hash != 0 ? hash : 1;
}

int request_key_taken(const char *key, Error *reterr_error) {
        return error_set(reterr_error, ERROR_INVALID, "key: '%s' was used by another request before", key);
}
