/* SPDX-License-Identifier: MIT */

/* The method "wait" with conditions, as types. */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "client/libpmux/call.h"
#include "client/libpmux/connection.h"
#include "client/libpmux/pmux-read.h"
#include "common/bytes.h"

void pmux_met_deinit(PmuxMet *met) {
        for (size_t i = 0; i < met->n_rows; i++)
                free(met->rows[i].groups);
        free(met->rows);
        *met = (PmuxMet){};
}

/* ---- the request ---- */

static json_t *targets_to_json(const char *const *targets) {
        json_t *array = json_array();

        for (size_t i = 0; array && targets[i]; i++)
                if (json_array_append_new(array, target_to_json(targets[i])) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

static int set_new(json_t *object, const char *key, json_t *value) {
        return json_object_set_new(object, key, value) < 0 ? -ENOMEM : 0;
}

static int set_number(json_t *object, const char *key, uint64_t value) {
        return set_new(object, key, json_integer((json_int_t)MIN(value, (uint64_t)INT64_MAX / 8)));
}

static int set_what(json_t *object, const PmuxCondition *condition, Error *reterr_error) {
        static const char *const words[] = { "exited", "closed",  "empty", "running", "ready",
                                             "state",  "pattern", "quiet", "bytes" };
        const char *text = condition->text ? condition->text : "";
        size_t text_size = condition->text_size > 0 ? condition->text_size : strlen(text);
        int r;

        if ((unsigned)condition->what >= ARRAY_SIZE(words))
                return error_set(reterr_error, ERROR_INVALID, "it is not known what is to be waited for");
        r = set_new(object, "for", json_string(words[condition->what]));
        if (r < 0)
                return r;
        switch (condition->what) {
        case PMUX_UNTIL_STATE:
        case PMUX_UNTIL_PATTERN:
                return set_new(object, words[condition->what], bytes_to_json(text, text_size));
        case PMUX_UNTIL_QUIET:
                return set_number(object, "quiet_usec", condition->quiet_usec);
        case PMUX_UNTIL_BYTES:
                return set_number(object, "n", condition->n);
        default:
                return 0;
        }
}

static int set_where(json_t *object, const PmuxCondition *condition) {
        unsigned sources = condition->flags & (PMUX_READ_STDOUT | PMUX_READ_STDERR | PMUX_READ_STDIN);
        int r = 0;

        if (condition->targets)
                r = set_new(object, "targets", targets_to_json(condition->targets));
        if (r == 0 && condition->flags & PMUX_READ_FROM)
                r = condition->from == PMUX_CURSOR_END ? set_new(object, "from", json_string("end"))
                                                       : set_number(object, "from", condition->from);
        if (r == 0 && sources != 0 && sources != (PMUX_READ_STDOUT | PMUX_READ_STDERR))
                r = set_new(object, "sources", sources_to_json(sources));
        return r;
}

/* The conditions of a program that was built with another version may be of another size. */
static int conditions_to_json(json_t *array, const PmuxCondition *conditions, size_t n, Error *reterr_error) {
        size_t stride = n > 0 ? conditions->size : 0;
        PmuxCondition condition;
        json_t *object;
        int r;

        for (size_t i = 0; i < n; i++) {
                condition = (PmuxCondition){};
                memcpy(&condition, (const char *)conditions + i * stride, MIN(stride, sizeof(condition)));
                if (stride == 0 || condition.size != stride)
                        return error_set(reterr_error, ERROR_INVALID, "condition %zu has no size", i);
                object = json_object();
                if (!object || json_array_append_new(array, object) < 0)
                        return -ENOMEM;
                r = set_what(object, &condition, reterr_error);
                if (r == 0)
                        r = set_where(object, &condition);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int wait_params(const char *const *targets, const PmuxCondition *conditions, size_t n, unsigned flags,
                       uint64_t timeout_usec, json_t **ret_params, Error *reterr_error) {
        json_auto_t *params = json_object();
        json_t *array = json_array();
        int r = -ENOMEM;

        if (params && array)
                r = conditions_to_json(array, conditions, n, reterr_error);
        if (r < 0) {
                json_decref(array);
                return r;
        }
        r = set_new(params, "conditions", array);
        if (r == 0 && targets)
                r = set_new(params, "targets", targets_to_json(targets));
        if (r == 0 && flags & PMUX_WAIT_ANY)
                r = set_new(params, "any", json_true());
        if (r == 0 && (timeout_usec > 0 || flags & PMUX_WAIT_AT_ONCE))
                r = set_number(params, "timeout_usec", flags & PMUX_WAIT_AT_ONCE ? 0 : timeout_usec);
        if (r == 0)
                *ret_params = TAKE(params);
        return r;
}

/* ---- the answer ---- */

static uint64_t number_of(const json_t *object, const char *key) {
        return (uint64_t)json_integer_value(json_object_get(object, key));
}

static int row_from_json(PmuxMetRow *row, const json_t *object) {
        json_t *groups = json_object_get(json_object_get(object, "match"), "groups"), *group;
        size_t i;

        row->id = number_of(object, "id");
        row->condition = number_of(object, "condition");
        row->offset = number_of(object, "offset");
        if (json_array_size(groups) == 0)
                return 0;
        row->groups = calloc(json_array_size(groups), sizeof(*row->groups));
        if (!row->groups)
                return -ENOMEM;
        row->n_groups = json_array_size(groups);
        json_array_foreach(groups, i, group) row->groups[i] =
                (PmuxSpan){ number_of(group, "from"), number_of(group, "to"), json_is_object(group) };
        return 0;
}

static int met_from_json(PmuxMet *met, const json_t *result) {
        json_t *rows = json_object_get(result, "satisfied"), *row;
        size_t i;
        int r;

        if (json_array_size(rows) == 0)
                return 0;
        met->rows = calloc(json_array_size(rows), sizeof(*met->rows));
        if (!met->rows)
                return -ENOMEM;
        met->n_rows = json_array_size(rows);
        json_array_foreach(rows, i, row) {
                r = row_from_json(&met->rows[i], row);
                if (r < 0)
                        return r;
        }
        return 0;
}

typedef struct WaitCall {
        PmuxMetFn fn;
        void *userdata; /* borrowed */
} WaitCall;

static void on_answer(Pmux *pmux, json_t *result, const Error *error, void *userdata) {
        WaitCall call = *(WaitCall *)userdata;
        const char *reason = json_string_value(json_object_get(result, "reason"));
        PmuxError exported;
        PmuxMet met = {};
        Error own = {};
        int r;

        if (error) {
                (void)error_export(&exported, error, -error->errno_value);
                call.fn(pmux, NULL, &exported, call.userdata);
                return;
        }
        r = met_from_json(&met, result);
        if (r == 0 && reason && strcmp(reason, "timeout") == 0)
                r = error_set(&own, ERROR_TIMEOUT, "what was waited for has not come about in time");
        if (r < 0)
                (void)error_export(&exported, &own, r);
        call.fn(pmux, &met, r < 0 ? &exported : NULL, call.userdata);
        pmux_met_deinit(&met);
}

int pmux_wait_for_start(Pmux *pmux, const char *const *targets, const PmuxCondition *conditions,
                        size_t n_conditions, unsigned flags, uint64_t timeout_usec, PmuxMetFn fn,
                        void *userdata, PmuxCall **ret_call, PmuxError *reterr_error) {
        WaitCall *call = calloc(1, sizeof(*call));
        json_t *params = NULL;
        Error error = {};
        int r = -ENOMEM;

        if (call) {
                *call = (WaitCall){ fn, userdata };
                r = wait_params(targets, conditions, n_conditions, flags, timeout_usec, &params, &error);
        }
        if (r == 0)
                r = call_start_owning(pmux, "wait", params, on_answer, call, ret_call, &error);
        if (r == 0)
                return 0;
        free(call);
        return error_export(reterr_error, &error, r);
}

/* ---- by waiting ---- */

typedef struct Outcome {
        bool done;
        int r;
        PmuxMet *met; /* borrowed; NULL: nobody wants it */
        PmuxError error;
} Outcome;

/* What is borrowed is taken over: it is about to be freed. */
static void on_blocking(Pmux *pmux, const PmuxMet *met, const PmuxError *error, void *userdata) {
        Outcome *outcome = userdata;

        (void)pmux;
        outcome->done = true;
        if (met && outcome->met) {
                *outcome->met = *met;
                *(PmuxMet *)met = (PmuxMet){};
        }
        if (!error)
                return;
        outcome->error = *error;
        outcome->r = -error->errno_value;
}

int pmux_wait_for(Pmux *pmux, const char *const *targets, const PmuxCondition *conditions,
                  size_t n_conditions, unsigned flags, uint64_t timeout_usec, PmuxMet *ret_met,
                  PmuxError *reterr_error) {
        Outcome outcome = { .met = ret_met };
        int r;

        if (ret_met)
                *ret_met = (PmuxMet){};
        r = pmux_wait_for_start(pmux, targets, conditions, n_conditions, flags, timeout_usec, on_blocking,
                                &outcome, NULL, reterr_error);
        if (r < 0)
                return r;
        while (!outcome.done)
                (void)pmux_turn(pmux, PMUX_INFINITY, NULL); /* giving up the connection answers, too */
        if (outcome.r < 0 && reterr_error)
                *reterr_error = outcome.error;
        return outcome.r;
}
