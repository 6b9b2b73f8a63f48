/* SPDX-License-Identifier: MIT */

#include "client/cli/exit-status.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "common/macro.h"

typedef struct StatusRow {
        const char *code;
        int status;
} StatusRow;

/* Errors that are not listed exit with 1. */
static const StatusRow rows[] = {
        { "invalid-argument", STATUS_USAGE },
        { "not-found", STATUS_NOT_FOUND },
        { "denied", STATUS_DENIED },
        { "not-running", STATUS_NOT_RUNNING },
        { "stdin-closed", STATUS_NOT_RUNNING },
        { "timeout", STATUS_DEADLINE },
        { "would-block", STATUS_DEADLINE }, /* of a write that may not wait */
        { "unreachable", STATUS_PMUX },
        { "version-mismatch", STATUS_PMUX },
        { "protocol-error", STATUS_PMUX },
        { "shutting-down", STATUS_PMUX },
        { "already-running", STATUS_PMUX },
};

/* Whether the verb's status is that of a process, or tells of its stream, so that small numbers are taken. */
static bool status_is_the_process_s(const char *verb) {
        static const char *const verbs[] = { "run", "wait", "read", "ask" };

        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                if (strcmp(verb, verbs[i]) == 0)
                        return true;
        return false;
}

int exit_status_of_error(const char *verb, const PmuxError *error) {
        int status = STATUS_FAILED;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (strcmp(error->code, rows[i].code) == 0)
                        status = rows[i].status;
        if (!status_is_the_process_s(verb))
                return status;
        if (strcmp(error->code, "spawn-failed") == 0 && strcmp(error->step, "exec") == 0)
                return error->errno_value == ENOENT ? STATUS_NO_COMMAND : STATUS_NOT_EXECUTABLE;
        return strcmp(error->code, "timeout") == 0 ? STATUS_DEADLINE : STATUS_PMUX;
}

int exit_status_of_usage(const char *verb) {
        return status_is_the_process_s(verb) ? STATUS_PMUX : STATUS_USAGE;
}

int exit_status_of_word(uint64_t word) {
        if (PMUX_EXIT_UNKNOWN(word))
                return STATUS_PMUX;
        return PMUX_EXIT_SIGNAL(word) ? STATUS_SIGNAL + PMUX_EXIT_SIGNAL(word) : PMUX_EXIT_CODE(word);
}

int exit_status_of_exit(const json_t *exit) {
        const char *cause = json_string_value(json_object_get(exit, "cause"));
        json_t *code = json_object_get(exit, "code");
        json_t *signal = json_object_get(exit, "signal");

        if (!json_is_true(json_object_get(exit, "known")))
                return STATUS_PMUX;
        if (cause && strcmp(cause, "timeout") == 0)
                return STATUS_DEADLINE;
        if (json_is_integer(signal) && json_integer_value(signal) > 0 && json_integer_value(signal) < 128)
                return STATUS_SIGNAL + (int)json_integer_value(signal);
        return json_is_integer(code) ? (int)(json_integer_value(code) & 0xff) : STATUS_PMUX;
}
