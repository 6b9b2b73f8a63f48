/* SPDX-License-Identifier: MIT */

#include "daemon/engine/params.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "common/protocol.h"

int params_init(Params *params, const json_t *object, Error *reterr_error) {
        *params = (Params){ .object = object };
        if (object && !json_is_object(object))
                return error_set(reterr_error, ERROR_INVALID, "params is not an object");
        return 0;
}

bool params_is_among(const char *names, const char *name) {
        size_t size = strlen(name);
        const char *p = names;

        if (size == 0 || strchr(name, ' '))
                return false;
        while ((p = strstr(p, name))) {
                if ((p == names || p[-1] == ' ') && (p[size] == ' ' || p[size] == '\0'))
                        return true;
                p += size;
        }
        return false;
}

int params_allow(const Params *params, const char *names, Error *reterr_error) {
        const char *key;
        json_t *value;

        if (!params->object)
                return 0;
        json_object_foreach((json_t *)params->object, key, value) {
                if (!params_is_among(names, key))
                        return error_set(reterr_error, ERROR_INVALID,
                                         "'%.64s' is not a member of this request's params", key);
        }
        return 0;
}

const json_t *params_get(Params *params, const char *name) {
        const json_t *value;

        value = params->object ? json_object_get(params->object, name) : NULL;
        return json_is_null(value) ? NULL : value;
}

int params_bool(Params *params, const char *name, bool *ret_value, Error *reterr_error) {
        const json_t *value = params_get(params, name);

        if (!value)
                return 0;
        if (!json_is_boolean(value))
                return error_set(reterr_error, ERROR_INVALID, "%s: not true or false", name);
        *ret_value = json_is_true(value);
        return 1;
}

int params_u64(Params *params, const char *name, uint64_t min, uint64_t max, uint64_t *ret_value,
               Error *reterr_error) {
        const json_t *value = params_get(params, name);

        if (!value)
                return 0;
        if (!json_is_integer(value) || json_integer_value(value) < 0 ||
            (uint64_t)json_integer_value(value) < min || (uint64_t)json_integer_value(value) > max)
                return error_set(reterr_error, ERROR_INVALID,
                                 "%s: not an integer from %" PRIu64 " to %" PRIu64, name, min, max);
        *ret_value = (uint64_t)json_integer_value(value);
        return 1;
}

int params_string(Params *params, const char *name, size_t max, const char **ret_value, Error *reterr_error) {
        const json_t *value = params_get(params, name);
        size_t size;

        if (!value)
                return 0;
        size = json_is_string(value) ? json_string_length(value) : 0;
        if (size == 0 || size > max || strlen(json_string_value(value)) != size)
                return error_set(reterr_error, ERROR_INVALID, "%s: not a string of 1 to %zu bytes", name,
                                 max);
        *ret_value = json_string_value(value);
        return 1;
}

int params_choice(Params *params, const char *name, const char *const *words, int *ret_value,
                  Error *reterr_error) {
        const json_t *value = params_get(params, name);

        if (!value)
                return 0;
        if (json_is_string(value))
                for (int i = 0; words[i]; i++)
                        if (strcmp(words[i], json_string_value(value)) == 0) {
                                *ret_value = i;
                                return 1;
                        }
        return error_set(reterr_error, ERROR_INVALID, "%s: not one of the words it can be (%s, %s…)", name,
                         words[0], words[1] ? words[1] : "");
}

int params_sources(Params *params, unsigned *ret_sources, Error *reterr_error) {
        const json_t *array = params_get(params, "sources");
        unsigned sources = 0;

        *ret_sources = 1u << SOURCE_STDOUT | 1u << SOURCE_STDERR;
        if (!array)
                return 0;
        for (size_t i = 0; i < json_array_size(array); i++) {
                const char *word = json_string_value(json_array_get(array, i));

                for (Source s = SOURCE_STDOUT; s <= SOURCE_STDIN; s++)
                        if (word && strcmp(word, source_name(s)) == 0)
                                sources |= 1u << s;
        }
        if (!json_is_array(array) || (size_t)__builtin_popcount(sources) != json_array_size(array))
                return error_set(reterr_error, ERROR_INVALID,
                                 "sources: not an array of \"stdout\", \"stderr\", \"stdin\"");
        *ret_sources = sources;
        return 0;
}
