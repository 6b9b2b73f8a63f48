/* SPDX-License-Identifier: MIT */

#include "common/protocol.h"

#include <errno.h>
#include <string.h>

#include "tests/support/check-main.h"

START_TEST(numbers_are_little_endian_at_any_address)
{
        uint8_t p[9];

        le16_put(p + 1, 0x1234);
        ck_assert_mem_eq(p + 1, "\x34\x12", 2);
        ck_assert_uint_eq(le16_get(p + 1), 0x1234);
        le32_put(p + 1, 0x12345678);
        ck_assert_mem_eq(p + 1, "\x78\x56\x34\x12", 4);
        ck_assert_uint_eq(le32_get(p + 1), 0x12345678);
        le64_put(p + 1, UINT64_C(0x123456789abcdef0));
        ck_assert_mem_eq(p + 1, "\xf0\xde\xbc\x9a\x78\x56\x34\x12", 8);
        ck_assert_uint_eq(le64_get(p + 1), UINT64_C(0x123456789abcdef0));
}
END_TEST

START_TEST(a_header_is_laid_out_as_documented)
{
        static const uint8_t expected[FRAME_HEADER_SIZE] = { 4, 3, 2, 0, FRAME_INPUT, FRAME_FLAG_EOF,
                                                             0, 0, 8, 7, 6,           5 };
        FrameHeader header = {
                .size = 0x00020304, .type = FRAME_INPUT, .flags = FRAME_FLAG_EOF, .stream = 0x05060708
        };
        uint8_t bytes[FRAME_HEADER_SIZE];
        FrameHeader again;

        memset(bytes, 0xff, sizeof(bytes));
        frame_header_encode(bytes, &header);
        ck_assert_mem_eq(bytes, expected, sizeof(expected));
        ck_assert_int_eq(frame_header_decode(&again, bytes, false, NULL), 0);
        ck_assert_uint_eq(again.size, header.size);
        ck_assert_uint_eq(again.type, header.type);
        ck_assert_uint_eq(again.flags, header.flags);
        ck_assert_uint_eq(again.stream, header.stream);
}
END_TEST

typedef struct Bound {
        uint8_t type;
        bool from_daemon;
        bool on_stream;
        uint32_t max;
} Bound;

/* docs/protocol.md section 1 */
static const Bound bounds[] = {
        { FRAME_HELLO, false, false, 64 * 1024 },
        { FRAME_HELLO, true, false, 64 * 1024 },
        { FRAME_CONTROL, false, false, 8 * 1024 * 1024 },
        { FRAME_CONTROL, true, false, 64 * 1024 * 1024 },
        { FRAME_DATA, true, true, 1024 * 1024 + 24 },
        { FRAME_INPUT, false, true, 1024 * 1024 + 8 },
        { FRAME_CREDIT, false, true, 8 },
        { FRAME_ACK, true, true, 24 },
        { FRAME_GOODBYE, true, false, 64 * 1024 },
};

static int decode(uint32_t size, uint8_t type, uint8_t flags, uint32_t stream, bool from_daemon) {
        FrameHeader header = { .size = size, .type = type, .flags = flags, .stream = stream }, again;
        uint8_t bytes[FRAME_HEADER_SIZE];
        Error error = {};
        int r;

        frame_header_encode(bytes, &header);
        r = frame_header_decode(&again, bytes, from_daemon, &error);
        ck_assert_int_eq(error.code, r == 0 ? ERROR_NONE : ERROR_PROTOCOL);
        ck_assert_int_eq(frame_header_decode(&again, bytes, from_daemon, NULL), r);
        return r;
}

START_TEST(a_frame_has_its_bound_stream_and_flags)
{
        const Bound *b = &bounds[_i];
        uint32_t stream = b->on_stream ? 7 : 0;

        ck_assert_int_eq(decode(0, b->type, 0, stream, b->from_daemon), 0);
        ck_assert_int_eq(decode(b->max, b->type, 0, stream, b->from_daemon), 0);
        ck_assert_int_eq(decode(b->max + 1, b->type, 0, stream, b->from_daemon), -EPROTO);
        ck_assert_int_eq(decode(UINT32_MAX, b->type, 0, stream, b->from_daemon), -EPROTO);
        ck_assert_int_eq(decode(0, b->type, 0, b->on_stream ? 0 : 1, b->from_daemon), -EPROTO);
        for (unsigned bit = 0; bit < 8; bit++)
                ck_assert_int_eq(decode(0, b->type, (uint8_t)(1 << bit), stream, b->from_daemon),
                                 b->type == FRAME_INPUT && bit == 0 ? 0 : -EPROTO);
}
END_TEST

START_TEST(who_may_send_what_is_closed)
{
        for (unsigned type = 0; type < 256; type++)
                for (int from_daemon = 0; from_daemon < 2; from_daemon++) {
                        bool known = false, on_stream = false;

                        for (size_t i = 0; i < ARRAY_SIZE(bounds); i++)
                                if (bounds[i].type == type && bounds[i].from_daemon == from_daemon) {
                                        known = true;
                                        on_stream = bounds[i].on_stream;
                                }
                        ck_assert_int_eq(decode(0, (uint8_t)type, 0, on_stream, from_daemon),
                                         known ? 0 : -EPROTO);
                }
}
END_TEST

START_TEST(the_reserved_field_is_zero)
{
        uint8_t bytes[FRAME_HEADER_SIZE] = { 0, 0, 0, 0, FRAME_CONTROL };
        FrameHeader header = { .size = 77 };

        for (size_t i = 6; i < 8; i++) {
                bytes[i] = 1;
                ck_assert_int_eq(frame_header_decode(&header, bytes, false, NULL), -EPROTO);
                bytes[i] = 0;
        }
        ck_assert_uint_eq(header.size, 77);
        ck_assert_int_eq(frame_header_decode(&header, bytes, false, NULL), 0);
}
END_TEST

START_TEST(a_record_is_laid_out_as_documented)
{
        static const uint8_t expected[RECORD_HEADER_SIZE] = { 1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12,
                                                              13, 14, 15, 16, 17, 18, 19, 20, 1, 2,  0,  0 };
        RecordHeader header = {
                .offset = UINT64_C(0x0807060504030201),
                .time_usec = UINT64_C(0x100f0e0d0c0b0a09),
                .run = 0x14131211,
                .kind = RECORD_DATA,
                .source = SOURCE_STDERR,
        };
        uint8_t bytes[RECORD_HEADER_SIZE];
        RecordHeader again;

        memset(bytes, 0xff, sizeof(bytes));
        record_header_encode(bytes, &header);
        ck_assert_mem_eq(bytes, expected, sizeof(expected));
        ck_assert_int_eq(record_header_decode(&again, bytes, NULL), 0);
        ck_assert_uint_eq(again.offset, header.offset);
        ck_assert_uint_eq(again.time_usec, header.time_usec);
        ck_assert_uint_eq(again.run, header.run);
        ck_assert_uint_eq(again.kind, header.kind);
        ck_assert_uint_eq(again.source, header.source);
}
END_TEST

START_TEST(kinds_and_sources_are_closed_sets)
{
        static const char *const kinds[] = {
                [1] = "data",   [2] = "gap",  [3] = "start", [4] = "input",   [5] = "signal", [6] = "resize",
                [7] = "closed", [8] = "exit", [9] = "empty", [10] = "writer", [15] = "end"
        };
        uint8_t bytes[RECORD_HEADER_SIZE] = { 0 };
        RecordHeader header;
        Error error;

        for (unsigned kind = 0; kind < 256; kind++)
                for (unsigned source = 0; source < 256; source++) {
                        bool known = kind < ARRAY_SIZE(kinds) && kinds[kind] && source < 4;

                        bytes[20] = (uint8_t)kind;
                        bytes[21] = (uint8_t)source;
                        error = (Error){};
                        ck_assert_int_eq(record_header_decode(&header, bytes, &error), known ? 0 : -EPROTO);
                        ck_assert_int_eq(error.code, known ? ERROR_NONE : ERROR_PROTOCOL);
                }
        for (unsigned kind = 0; kind < 300; kind++)
                ck_assert_str_eq(record_kind_name(kind),
                                 kind < ARRAY_SIZE(kinds) && kinds[kind] ? kinds[kind] : "unknown");
        ck_assert_str_eq(source_name(0), "none");
        ck_assert_str_eq(source_name(1), "stdout");
        ck_assert_str_eq(source_name(2), "stderr");
        ck_assert_str_eq(source_name(3), "stdin");
        ck_assert_str_eq(source_name(4), "unknown");
        bytes[20] = RECORD_DATA;
        bytes[21] = SOURCE_STDOUT;
        bytes[22] = 1;
        ck_assert_int_eq(record_header_decode(&header, bytes, NULL), -EPROTO);
        bytes[22] = 0;
        bytes[23] = 0x80;
        ck_assert_int_eq(record_header_decode(&header, bytes, NULL), -EPROTO);
}
END_TEST

static Suite *protocol_suite(void) {
        Suite *suite = suite_create("protocol");
        TCase *frame = tcase_create("frame"), *record = tcase_create("record");

        tcase_add_test(frame, numbers_are_little_endian_at_any_address);
        tcase_add_test(frame, a_header_is_laid_out_as_documented);
        tcase_add_loop_test(frame, a_frame_has_its_bound_stream_and_flags, 0, ARRAY_SIZE(bounds));
        tcase_add_test(frame, who_may_send_what_is_closed);
        tcase_add_test(frame, the_reserved_field_is_zero);
        tcase_add_test(record, a_record_is_laid_out_as_documented);
        tcase_add_test(record, kinds_and_sources_are_closed_sets);
        suite_add_tcase(suite, frame);
        suite_add_tcase(suite, record);
        return suite;
}

CHECK_MAIN(protocol_suite);
