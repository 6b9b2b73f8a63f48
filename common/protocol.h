/* SPDX-License-Identifier: MIT */
#pragma once

/* Frames and records of docs/protocol.md: their numbers, sizes and how they are laid out in bytes. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define PROTOCOL_VERSION 1
#define PROTOCOL_MAGIC "PMUX"
#define PROTOCOL_INSTANCE_SIZE 16

#define FRAME_HEADER_SIZE 12
#define FRAME_CONTROL_FROM_DAEMON_MAX (64 * 1024 * 1024)
#define FRAME_HELLO_CLIENT_SIZE 12
#define FRAME_HELLO_DAEMON_SIZE 32
#define FRAME_FLAG_EOF 1 /* INPUT: end of file after these bytes */

#define RECORD_HEADER_SIZE 24
#define RECORD_DATA_MAX (1024 * 1024)
#define INPUT_HEADER_SIZE 8
#define INPUT_DATA_MAX (1024 * 1024)

#define EXIT_WORD_CORE (UINT64_C(1) << 16)
#define EXIT_WORD_UNKNOWN (UINT64_C(1) << 17)

typedef enum FrameType {
#define FRAME(name, number, payload_max) FRAME_##name = number,
#include "common/protocol-table.h"
#undef FRAME
} FrameType;

typedef enum RecordKind {
#define RECORD(name, number, text) RECORD_##name = number,
#include "common/protocol-table.h"
#undef RECORD
} RecordKind;

typedef enum Source {
#define SOURCE(name, number, text) SOURCE_##name = number,
#include "common/protocol-table.h"
#undef SOURCE
        SOURCE_N_,
} Source;

typedef struct FrameHeader {
        uint32_t size; /* payload bytes */
        uint8_t type;  /* FrameType */
        uint8_t flags;
        uint32_t stream;
} FrameHeader;

typedef struct RecordHeader {
        uint64_t offset;
        uint64_t time_usec;
        uint32_t run;
        uint8_t kind;   /* RecordKind */
        uint8_t source; /* Source */
} RecordHeader;

/** frame_header_encode() - lay a header out in FRAME_HEADER_SIZE bytes. */
void frame_header_encode(uint8_t *ret_bytes, const FrameHeader *header);

/**
 * frame_header_decode() - read and check a header
 * @bytes:        FRAME_HEADER_SIZE bytes from the wire
 * @from_daemon:  whether the frame comes from the daemon: that decides which types and sizes are allowed
 *
 * Return: 0; -EPROTO (PROTOCOL) with a sentence that names the field. Source: docs/protocol.md §1.
 */
int frame_header_decode(FrameHeader *ret_header, const uint8_t *bytes, bool from_daemon, Error *reterr_error);

/** record_header_encode() - lay a record header out in RECORD_HEADER_SIZE bytes. */
void record_header_encode(uint8_t *ret_bytes, const RecordHeader *header);

/** record_header_decode() - read a record header. Return: 0; -EPROTO when kind, source or the zero field is
 * not known. */
int record_header_decode(RecordHeader *ret_header, const uint8_t *bytes, Error *reterr_error);

/** record_kind_name() - "data", "gap", …; "unknown" for other numbers. */
const char *record_kind_name(unsigned kind);

/** source_name() - "none", "stdout", "stderr", "stdin"; "unknown" for other numbers. */
const char *source_name(unsigned source);

void le16_put(uint8_t *p, uint16_t v);
void le32_put(uint8_t *p, uint32_t v);
void le64_put(uint8_t *p, uint64_t v);
uint16_t le16_get(const uint8_t *p);
uint32_t le32_get(const uint8_t *p);
uint64_t le64_get(const uint8_t *p);
