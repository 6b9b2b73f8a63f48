/* SPDX-License-Identifier: MIT */

#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

typedef struct ErrorRow {
        int errno_value;
        const char *wire_name;
        const char *sentence;
} ErrorRow;

static const ErrorRow rows[ERROR_N_] = {
        [ERROR_NONE] = { 0, "none", "no error" },
#define ERROR(name, errno_value, wire_name, sentence) [ERROR_##name] = { errno_value, wire_name, sentence },
#include "common/error-table.h"
#undef ERROR
};

static void error_fill(Error *error, ErrorCode code, int errno_value, const char *format, va_list ap)
        PRINTF_LIKE(4, 0);

static void error_fill(Error *error, ErrorCode code, int errno_value, const char *format, va_list ap) {
        int n;

        error->code = code;
        error->errno_value = errno_value;
        error->step[0] = '\0';
        n = vsnprintf(error->text, sizeof(error->text), format, ap);
        if (n < 0)
                error->text[0] = '\0';
        utf8_sanitize(error->text);
}

int error_set(Error *reterr_error, ErrorCode code, const char *format, ...) {
        va_list ap;

        assert(code > ERROR_NONE && code < ERROR_N_);
        if (reterr_error) {
                va_start(ap, format);
                error_fill(reterr_error, code, rows[code].errno_value, format, ap);
                va_end(ap);
        }
        return -rows[code].errno_value;
}

int error_set_errno(Error *reterr_error, int errno_value, const char *format, ...) {
        ErrorCode code = ERROR_SYSTEM;
        va_list ap;
        size_t n;

        errno_value = abs(errno_value);
        if (errno_value == ENOMEM)
                code = ERROR_NO_MEMORY;
        else if (errno_value == ENOSPC || errno_value == EDQUOT)
                code = ERROR_NO_SPACE;
        if (reterr_error) {
                va_start(ap, format);
                error_fill(reterr_error, code, errno_value, format, ap);
                va_end(ap);
                n = strlen(reterr_error->text);
                (void)snprintf(reterr_error->text + n, sizeof(reterr_error->text) - n, ": %s",
                               strerror(errno_value));
        }
        return -errno_value;
}

int error_set_step(Error *reterr_error, int r, const char *step) {
        if (reterr_error)
                (void)snprintf(reterr_error->step, sizeof(reterr_error->step), "%s", step);
        return r;
}

const char *error_wire_name(ErrorCode code) {
        assert(code >= ERROR_NONE && code < ERROR_N_);
        return rows[code].wire_name;
}

ErrorCode error_from_wire_name(const char *name) {
        for (ErrorCode code = ERROR_NONE + 1; code < ERROR_N_; code++)
                if (strcmp(rows[code].wire_name, name) == 0)
                        return code;
        return ERROR_SYSTEM;
}

const char *error_sentence(ErrorCode code) {
        assert(code >= ERROR_NONE && code < ERROR_N_);
        return rows[code].sentence;
}

int error_errno(ErrorCode code) {
        assert(code >= ERROR_NONE && code < ERROR_N_);
        return rows[code].errno_value;
}
