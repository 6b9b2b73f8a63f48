/* SPDX-License-Identifier: MIT */

#include "client/cli/record-json.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/exit-status.h"
#include "common/bytes.h"
#include "common/parse.h"
#include "common/protocol.h"
#include "common/utf8.h"

size_t record_cut(const uint8_t *data, size_t size) {
        size_t need;
        uint8_t c;

        for (size_t n = 1; n <= 3 && n <= size; n++) {
                c = data[size - n];
                if ((c & 0xc0) == 0x80)
                        continue;
                need = c >= 0xf0 && c <= 0xf4 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;
                return c <= 0xf4 && need > n ? n : 0;
        }
        return 0;
}

static void emit(const RecordJson *json, const PmuxRecord *record, const char *type, json_t *more) {
        json_t *line;

        line = json_pack("{s:s, s:I, s:I, s:i}", "type", type, "offset", (json_int_t)record->offset,
                         "time_usec", (json_int_t)record->time_usec, "run", (int)record->run);
        if (line && json->subject)
                (void)json_object_update_missing(line, json->subject);
        if (line && more)
                (void)json_object_update(line, more);
        json_decref(more);
        cli_emit(line);
}

static void emit_data(const RecordJson *json, const PmuxRecord *record) {
        emit(json, record, source_name(record->source),
             json_pack("{s:o}", "data", bytes_to_json(record->data, record->size)));
}

/* What is held back of a source and will not be completed goes out as it is. */
static void flush_carry(RecordJson *json, RecordCarry *carry) {
        PmuxRecord record = carry->record;

        if (carry->size == 0)
                return;
        record.data = carry->bytes;
        record.size = carry->size;
        carry->size = 0;
        emit_data(json, &record);
}

static void print_data(RecordJson *json, const PmuxRecord *record) {
        RecordCarry *carry = &json->carry[record->source & 3];
        PmuxRecord whole = *record;
        uint8_t *joined = NULL;
        size_t n_cut;

        if (carry->size > 0 && carry->record.run != record->run)
                flush_carry(json, carry);
        if (carry->size > 0) {
                joined = malloc(carry->size + record->size);
                if (!joined) {
                        (void)cli_out_of_memory();
                        return;
                }
                memcpy(joined, carry->bytes, carry->size);
                memcpy(joined + carry->size, record->data, record->size);
                whole.data = joined;
                whole.size = carry->size + record->size;
                whole.offset = carry->record.offset;
        }
        n_cut = record_cut(whole.data, whole.size);
        if (n_cut > 0 && !utf8_valid(whole.data, whole.size - n_cut))
                n_cut = 0; /* it is base64 anyway */
        carry->size = n_cut;
        if (n_cut > 0) {
                memcpy(carry->bytes, (const uint8_t *)whole.data + whole.size - n_cut, n_cut);
                carry->record = whole;
                carry->record.offset =
                        whole.size == n_cut ? whole.offset : record->offset + record->size - n_cut;
        }
        whole.size -= n_cut;
        if (whole.size > 0)
                emit_data(json, &whole);
        free(joined);
}

static json_t *value_of(const PmuxRecord *record) {
        int signal;

        switch (record->kind) {
        case PMUX_GAP:
                return json_pack("{s:I}", "bytes", (json_int_t)record->value);
        case PMUX_START:
                return json_pack("{s:I}", "pid", (json_int_t)record->value);
        case PMUX_WRITER:
                return json_pack("{s:o}", "pid",
                                 record->value > 0 ? json_integer((json_int_t)record->value) : json_null());
        case PMUX_INPUT:
                return json_pack("{s:I}", "accepted", (json_int_t)record->value);
        case PMUX_SIGNAL:
                return json_pack("{s:I, s:s}", "signal", (json_int_t)record->value, "signal_name",
                                 signal_name((int)(record->value & 0x7f)));
        case PMUX_RESIZE:
                return json_pack("{s:I, s:I}", "columns", (json_int_t)(record->value >> 16), "rows",
                                 (json_int_t)(record->value & 0xffff));
        case PMUX_CLOSED:
                return json_pack("{s:s}", "source", source_name(record->source));
        case PMUX_EXIT:
                signal = PMUX_EXIT_SIGNAL(record->value);
                return json_pack("{s:b, s:o, s:o, s:o, s:b}", "known", !PMUX_EXIT_UNKNOWN(record->value),
                                 "code",
                                 PMUX_EXIT_UNKNOWN(record->value) || signal
                                         ? json_null()
                                         : json_integer(PMUX_EXIT_CODE(record->value)),
                                 "signal", signal ? json_integer(signal) : json_null(), "signal_name",
                                 signal ? json_string(signal_name(signal)) : json_null(), "core",
                                 PMUX_EXIT_CORE(record->value));
        default:
                return NULL;
        }
}

void record_json_print(RecordJson *json, const PmuxRecord *record) {
        if (record->kind == PMUX_DATA) {
                print_data(json, record);
                return;
        }
        if (record->kind == PMUX_GAP || record->kind == PMUX_EXIT || record->kind == PMUX_END)
                for (size_t i = 0; i < ARRAY_SIZE(json->carry); i++)
                        flush_carry(json, &json->carry[i]);
        else if (record->kind == PMUX_CLOSED)
                flush_carry(json, &json->carry[record->source & 3]);
        if (record->kind != PMUX_END)
                emit(json, record, record_kind_name(record->kind), value_of(record));
}

void record_json_deinit(RecordJson *json) {
        json_decref(json->subject);
        *json = (RecordJson){};
}
