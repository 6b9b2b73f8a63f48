/* SPDX-License-Identifier: MIT */

#include "daemon/engine/wait-condition.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/request-read.h"

const char *const wait_words[] = { "exited", "closed",  "empty", "running", "ready",
                                   "state",  "pattern", "quiet", "bytes",   NULL };

void conditions_free(Condition *conditions, size_t n) {
        for (size_t i = 0; i < n; i++) {
                bytes_deinit(&conditions[i].pattern);
                free(conditions[i].processes);
        }
        free(conditions);
}

static int condition_parse_state(Condition *condition, Error *reterr_error) {
        static const char *words[PROCESS_STATE_N_ + 1];
        int state = -1, r;

        for (ProcessState s = 0; s < PROCESS_STATE_N_; s++)
                words[s] = process_state_name(s);
        r = params_choice(&condition->params, "state", words, &state, reterr_error);
        if (r == 0)
                return error_set(reterr_error, ERROR_INVALID, "state: it is needed");
        condition->state = (uint8_t)state;
        return r;
}

/* What this kind of condition needs. */
static int condition_parse_own(Condition *condition, Error *reterr_error) {
        const json_t *pattern = params_get(&condition->params, "pattern");
        const char *needed = NULL;
        int r = 1;

        switch (condition->what) {
        case WAIT_STATE:
                return condition_parse_state(condition, reterr_error);
        case WAIT_PATTERN:
                needed = "pattern";
                r = pattern ? bytes_from_json(pattern, "pattern", &condition->pattern, reterr_error) : 0;
                if (r == 0 && pattern &&
                    (condition->pattern.size < 1 || condition->pattern.size > MATCH_PATTERN_MAX))
                        return error_set(reterr_error, ERROR_INVALID, "pattern: not 1 to %d bytes",
                                         MATCH_PATTERN_MAX);
                r = r == 0 && pattern ? 1 : r;
                break;
        case WAIT_QUIET:
                needed = "quiet_usec";
                r = params_u64(&condition->params, needed, 1, INT64_MAX / 4, &condition->quiet_usec,
                               reterr_error);
                break;
        case WAIT_BYTES:
                needed = "n";
                r = params_u64(&condition->params, needed, 1, INT64_MAX, &condition->n, reterr_error);
                break;
        default:
                return 0;
        }
        if (r == 0)
                return error_set(reterr_error, ERROR_INVALID, "%s: it is needed for \"%s\"", needed,
                                 wait_words[condition->what]);
        return r;
}

/* A member that says nothing to this kind was meant for another. */
static int condition_refuse_others(const Condition *condition, Error *reterr_error) {
        static const struct {
                const char *name;
                unsigned kinds;
        } members[] = {
                { "state", 1u << WAIT_STATE },
                { "pattern", 1u << WAIT_PATTERN },
                { "quiet_usec", 1u << WAIT_QUIET },
                { "n", 1u << WAIT_BYTES },
                { "sources", 1u << WAIT_PATTERN | 1u << WAIT_QUIET | 1u << WAIT_BYTES },
                { "from", 1u << WAIT_PATTERN | 1u << WAIT_BYTES },
        };
        Params params = condition->params;

        for (size_t i = 0; i < ARRAY_SIZE(members); i++)
                if (params_get(&params, members[i].name) && !(members[i].kinds & 1u << condition->what))
                        return error_set(reterr_error, ERROR_INVALID, "%s: of no use to \"%s\"",
                                         members[i].name, wait_words[condition->what]);
        return 0;
}

int condition_parse(Condition *condition, Request *request, Params *outer, const json_t *object,
                    Error *reterr_error) {
        Params *params = &condition->params;
        int r;

        if (!json_is_object(object))
                return error_set(reterr_error, ERROR_INVALID, "not an object");
        if ((r = params_init(params, object, reterr_error)) < 0 ||
            (r = params_allow(params, "for state pattern quiet_usec n sources from targets", reterr_error)) <
                    0 ||
            (r = params_choice(params, "for", wait_words, &condition->what, reterr_error)) < 0)
                return r;
        if (r == 0)
                return error_set(reterr_error, ERROR_INVALID, "for: it is needed");
        if ((r = condition_refuse_others(condition, reterr_error)) < 0 ||
            (r = params_sources(params, &condition->sources, reterr_error)) < 0 ||
            (r = condition_parse_own(condition, reterr_error)) < 0)
                return r;
        if (condition->sources == 0)
                return error_set(reterr_error, ERROR_INVALID, "sources: at least one is needed");
        r = request_targets(request, params_get(params, "targets") ? params : outer, &condition->processes,
                            &condition->n_processes, reterr_error);
        for (size_t i = 0; r >= 0 && i < condition->n_processes; i++)
                r = read_check_sources(condition->processes[i], condition->sources, reterr_error);
        return r;
}

int condition_seek(const Condition *condition, const Process *process, Log *log, LogCursor *ret_cursor,
                   Error *reterr_error) {
        const json_t *from = json_object_get(condition->params.object, "from");
        const char *word = json_string_value(from);
        uint64_t offset = log_begin(log);
        int r;

        if (condition->what == WAIT_QUIET || (word && strcmp(word, "end") == 0)) {
                log_seek_end(log, ret_cursor);
                return 0;
        }
        if (!from || json_is_null(from)) {
                r = process->run.run > 0 ? log_seek_run(log, ret_cursor, process->run.run) : -ENOENT;
                if (r != -ENOENT)
                        return r < 0 ? log_explain(log, r, "cannot find the place in the log", reterr_error)
                                     : 0;
        } else if (json_is_integer(from) && json_integer_value(from) >= 0)
                offset = (uint64_t)json_integer_value(from);
        else if (!word || strcmp(word, "start") != 0)
                return error_set(reterr_error, ERROR_INVALID, "from: not an offset, \"start\" or \"end\"");
        if (offset > log_end(log))
                return error_set(reterr_error, ERROR_INVALID, "from: %" PRIu64 " is beyond the end, %" PRIu64,
                                 offset, log_end(log));
        r = log_seek_offset(log, ret_cursor, offset);
        return r < 0 ? log_explain(log, r, "cannot find the place in the log", reterr_error) : 0;
}

int condition_name_error(size_t position, int r, Error *reterr_error) {
        Error error;

        if (r >= 0 || !reterr_error || reterr_error->code == ERROR_NONE)
                return r;
        error = *reterr_error;
        (void)error_set(reterr_error, error.code, "conditions[%zu]: %s", position, error.text);
        reterr_error->errno_value = error.errno_value;
        return r;
}
