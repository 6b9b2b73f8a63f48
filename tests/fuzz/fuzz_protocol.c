/* SPDX-License-Identifier: MIT */

/* Headers of frames and records: what is accepted is laid out again as the very same bytes. */

#include "common/protocol.h"
#include "tests/fuzz/fuzz-target.h"

static void frame(const uint8_t *data, bool from_daemon) {
        uint8_t bytes[FRAME_HEADER_SIZE];
        FrameHeader header;
        Error error = {};
        int r;

        r = frame_header_decode(&header, data, from_daemon, &error);
        assert((r == 0) == (error.code == ERROR_NONE));
        if (r < 0)
                return;
        assert(header.size <= FRAME_CONTROL_FROM_DAEMON_MAX);
        frame_header_encode(bytes, &header);
        assert(memcmp(bytes, data, sizeof(bytes)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        uint8_t bytes[RECORD_HEADER_SIZE];
        RecordHeader header;

        if (size >= FRAME_HEADER_SIZE) {
                frame(data, true);
                frame(data, false);
        }
        if (size >= RECORD_HEADER_SIZE && record_header_decode(&header, data, NULL) == 0) {
                assert(strcmp(record_kind_name(header.kind), "unknown") != 0);
                assert(strcmp(source_name(header.source), "unknown") != 0);
                record_header_encode(bytes, &header);
                assert(memcmp(bytes, data, sizeof(bytes)) == 0);
        }
        return 0;
}
