/* SPDX-License-Identifier: MIT */

#include "common/json-text.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"

#define ALLOCATION_MIN 1024

void json_text_deinit(JsonText *text) {
        free(text->data);
        *text = (JsonText){};
}

/* Room for so many bytes more behind what is there; NULL when out of memory, now or before. */
static char *json_text_room(JsonText *text, size_t size) {
        size_t allocated = MAX(text->allocated, (size_t)ALLOCATION_MIN);
        char *data;

        if (text->failed)
                return NULL;
        if (text->allocated - text->size >= size)
                return text->data + text->size;
        while (allocated - text->size < size)
                allocated *= 2;
        data = realloc(text->data, allocated);
        if (!data) {
                text->failed = true;
                return NULL;
        }
        text->data = data;
        text->allocated = allocated;
        return data + text->size;
}

void json_text_raw(JsonText *text, const char *raw, size_t size) {
        char *room = json_text_room(text, size);

        if (!room)
                return;
        memcpy(room, raw, size);
        text->size += size;
}

void json_text_number(JsonText *text, uint64_t number) {
        char digits[20];
        size_t first = sizeof(digits);

        do
                digits[--first] = (char)('0' + number % 10);
        while ((number /= 10) > 0);
        json_text_raw(text, digits + first, sizeof(digits) - first);
}

void json_text_bool(JsonText *text, bool value) {
        if (value)
                json_text_literal(text, "true");
        else
                json_text_literal(text, "false");
}

static bool is_plain(const char *string, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (string[i] < 0x20 || string[i] > 0x7e || string[i] == '"' || string[i] == '\\')
                        return false;
        return true;
}

void json_text_bytes(JsonText *text, const char *string) {
        size_t size;
        char *room;

        if (!string) {
                json_text_literal(text, "null");
                return;
        }
        size = strlen(string);
        if (!is_plain(string, size)) {
                json_text_value(text, bytes_to_json(string, size));
                return;
        }
        room = json_text_room(text, size + 2);
        if (!room)
                return;
        room[0] = room[size + 1] = '"';
        memcpy(room + 1, string, size);
        text->size += size + 2;
}

void json_text_value(JsonText *text, json_t *value) {
        char *dumped;

        dumped = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
        json_decref(value);
        if (dumped)
                json_text_raw(text, dumped, strlen(dumped));
        else
                text->failed = true;
        free(dumped);
}
