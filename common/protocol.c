/* SPDX-License-Identifier: MIT */

#include "common/protocol.h"

#include <endian.h>
#include <string.h>

static const uint32_t payload_max[] = {
#define FRAME(name, number, max) [FRAME_##name] = (max),
#include "common/protocol-table.h"
#undef FRAME
};

static const char *const kind_names[] = {
#define RECORD(name, number, text) [RECORD_##name] = (text),
#include "common/protocol-table.h"
#undef RECORD
};

static const char *const source_names[] = {
#define SOURCE(name, number, text) [SOURCE_##name] = (text),
#include "common/protocol-table.h"
#undef SOURCE
};

void le16_put(uint8_t *p, uint16_t v) {
        v = htole16(v);
        memcpy(p, &v, sizeof(v));
}

void le32_put(uint8_t *p, uint32_t v) {
        v = htole32(v);
        memcpy(p, &v, sizeof(v));
}

void le64_put(uint8_t *p, uint64_t v) {
        v = htole64(v);
        memcpy(p, &v, sizeof(v));
}

uint16_t le16_get(const uint8_t *p) {
        uint16_t v;

        memcpy(&v, p, sizeof(v));
        return le16toh(v);
}

uint32_t le32_get(const uint8_t *p) {
        uint32_t v;

        memcpy(&v, p, sizeof(v));
        return le32toh(v);
}

uint64_t le64_get(const uint8_t *p) {
        uint64_t v;

        memcpy(&v, p, sizeof(v));
        return le64toh(v);
}

void frame_header_encode(uint8_t *ret_bytes, const FrameHeader *header) {
        le32_put(ret_bytes, header->size);
        ret_bytes[4] = header->type;
        ret_bytes[5] = header->flags;
        le16_put(ret_bytes + 6, 0);
        le32_put(ret_bytes + 8, header->stream);
}

static bool frame_type_allowed(uint8_t type, bool from_daemon) {
        switch (type) {
        case FRAME_HELLO:
        case FRAME_CONTROL:
                return true;
        case FRAME_INPUT:
        case FRAME_CREDIT:
                return !from_daemon;
        case FRAME_DATA:
        case FRAME_ACK:
        case FRAME_GOODBYE:
                return from_daemon;
        default:
                return false;
        }
}

int frame_header_decode(FrameHeader *ret_header, const uint8_t *bytes, bool from_daemon,
                        Error *reterr_error) {
        FrameHeader header = {
                .size = le32_get(bytes),
                .type = bytes[4],
                .flags = bytes[5],
                .stream = le32_get(bytes + 8),
        };
        bool on_stream;
        uint32_t max;

        if (!frame_type_allowed(header.type, from_daemon))
                return error_set(reterr_error, ERROR_PROTOCOL,
                                 "frame type %u is not one that may be sent here", header.type);
        max = payload_max[header.type];
        if (from_daemon && header.type == FRAME_CONTROL)
                max = FRAME_CONTROL_FROM_DAEMON_MAX;
        if (header.size > max)
                return error_set(reterr_error, ERROR_PROTOCOL,
                                 "a frame of type %u has %u bytes, at most %u are allowed", header.type,
                                 header.size, max);
        if (header.flags & ~(header.type == FRAME_INPUT ? FRAME_FLAG_EOF : 0))
                return error_set(reterr_error, ERROR_PROTOCOL, "a frame of type %u has unknown flags 0x%02x",
                                 header.type, header.flags);
        if (le16_get(bytes + 6) != 0)
                return error_set(reterr_error, ERROR_PROTOCOL, "the reserved field of a frame is not zero");
        on_stream = header.type == FRAME_DATA || header.type == FRAME_INPUT || header.type == FRAME_CREDIT ||
                    header.type == FRAME_ACK;
        if (on_stream != (header.stream != 0))
                return error_set(reterr_error, ERROR_PROTOCOL, "a frame of type %u can not be on stream %u",
                                 header.type, header.stream);
        *ret_header = header;
        return 0;
}

void record_header_encode(uint8_t *ret_bytes, const RecordHeader *header) {
        le64_put(ret_bytes, header->offset);
        le64_put(ret_bytes + 8, header->time_usec);
        le32_put(ret_bytes + 16, header->run);
        ret_bytes[20] = header->kind;
        ret_bytes[21] = header->source;
        le16_put(ret_bytes + 22, 0);
}

int record_header_decode(RecordHeader *ret_header, const uint8_t *bytes, Error *reterr_error) {
        RecordHeader header = {
                .offset = le64_get(bytes),
                .time_usec = le64_get(bytes + 8),
                .run = le32_get(bytes + 16),
                .kind = bytes[20],
                .source = bytes[21],
        };

        if (header.kind >= ARRAY_SIZE(kind_names) || !kind_names[header.kind])
                return error_set(reterr_error, ERROR_PROTOCOL, "record kind %u is not known", header.kind);
        if (header.source >= SOURCE_N_)
                return error_set(reterr_error, ERROR_PROTOCOL, "record source %u is not known",
                                 header.source);
        if (le16_get(bytes + 22) != 0)
                return error_set(reterr_error, ERROR_PROTOCOL, "the reserved field of a record is not zero");
        *ret_header = header;
        return 0;
}

const char *record_kind_name(unsigned kind) {
        return kind < ARRAY_SIZE(kind_names) && kind_names[kind] ? kind_names[kind] : "unknown";
}

const char *source_name(unsigned source) {
        return source < SOURCE_N_ ? source_names[source] : "unknown";
}
