/* SPDX-License-Identifier: MIT */

#include "daemon/engine/error-json.h"

#include <string.h>

static int error_rpc_code(ErrorCode code) {
        switch (code) {
        case ERROR_UNKNOWN_METHOD:
                return -32601;
        case ERROR_INVALID:
                return -32602;
        default:
                return -32000;
        }
}

json_t *error_to_json(const Error *error) {
        const char *text = error->text[0] ? error->text : error_sentence(error->code);

        return json_pack("{s:i, s:s, s:{s:s, s:i, s:s?, s:s?}}", "code", error_rpc_code(error->code),
                         "message", text, "data", "code", error_wire_name(error->code), "errno",
                         error->errno_value, "errno_name",
                         error->errno_value ? strerrorname_np(error->errno_value) : NULL, "step",
                         error->step[0] ? error->step : NULL);
}
