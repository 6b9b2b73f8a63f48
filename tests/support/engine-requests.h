/* SPDX-License-Identifier: MIT */
#pragma once

/* Requests of a client of engine-fixture.h, and looking at what is answered. */

#include <check.h>
#include <stdarg.h>

#include "tests/support/engine-fixture.h"

#include "tests/support/check-main.h"

/** ask_by() - send a request without waiting for what comes of it. Return: its id. */
static inline uint32_t ask_by(FixtureClient *who, const char *method, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
static inline uint32_t ask_by(FixtureClient *who, const char *method, const char *format, ...) {
        static char params[64 * 1024];
        va_list ap;
        int n;

        va_start(ap, format);
        n = vsnprintf(params, sizeof(params), format, ap);
        va_end(ap);
        ck_assert_int_lt(n, (int)sizeof(params));
        return fixture_request(who, method, params);
}

/** answered_by() - whether the answer has come. */
static inline bool answered_by(const FixtureClient *who, uint32_t id) {
        return who->answered[id - FIXTURE_ID] > 0;
}

/** code_of() - of the error that came last; NULL: it was none. */
static inline const char *code_of(const FixtureClient *who) {
        json_t *data = json_object_get(json_object_get(who->last, "error"), "data");

        return json_string_value(json_object_get(data, "code"));
}

/** ck_refused_by() - what came last is the error of that name. @step: of it; NULL: none. */
static inline void ck_refused_by(const FixtureClient *who, const char *wanted, const char *step) {
        json_t *data = json_object_get(json_object_get(who->last, "error"), "data");
        const char *code = code_of(who);

        ck_assert_msg(code && strcmp(code, wanted) == 0, "not %s but %s", wanted, json_dumps(who->last, 0));
        ck_assert_pstr_eq(json_string_value(json_object_get(data, "step")), step);
}
