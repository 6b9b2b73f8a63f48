/* SPDX-License-Identifier: MIT */

/* wait: for processes, in one way for all of them or by conditions, each with processes of its own. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "daemon/engine/limits.h"
#include "daemon/engine/request-read.h"
#include "daemon/engine/status-json.h"
#include "daemon/engine/wait-condition.h"
#include "daemon/engine/wait.h"

static bool wait_target_met(const WaitTarget *target, int condition) {
        const Process *process = target->process;
        const unsigned closed = RUN_STDOUT_CLOSED | RUN_STDERR_CLOSED;

        if (condition == WAIT_RUNNING || condition == WAIT_READY)
                return process && process->state == PROCESS_RUNNING;
        if (!process || process->run.run != target->run)
                return true; /* removed, or started again: the run that was waited for is over */
        switch (condition) {
        case WAIT_CLOSED:
                return process->state != PROCESS_STARTING && (process->run.ended & closed) == closed;
        case WAIT_EMPTY:
                return !process_is_alive(process) &&
                       (process->run.run == 0 || process->run.ended & RUN_EMPTY);
        default:
                return !process_is_alive(process);
        }
}

/* Keeps the status of a target in the answer: when its condition is met, when it goes away, at the end. */
static void wait_remember(Wait *wait, size_t i) {
        WaitTarget *target = &wait->targets[i];
        json_t *status;

        if (!target->process || target->flag)
                return;
        status = status_of_run_to_json(wait->host->supervisor->registry, target->process, target->run);
        if (status)
                (void)json_array_set_new(wait->context, i, status);
}

static int wait_check(Wait *wait) {
        Error error = {};
        size_t n_met = 0;
        bool satisfied;

        for (size_t i = 0; i < wait->n; i++) {
                WaitTarget *target = &wait->targets[i];

                if (!target->process && wait->condition >= WAIT_RUNNING) {
                        (void)error_set(&error, ERROR_NOT_FOUND, "process %" PRIu64 " was removed",
                                        target->id);
                        return wait_answer(wait, NULL, &error);
                }
                if (!target->flag && wait_target_met(target, wait->condition)) {
                        wait_remember(wait, i);
                        target->flag = true;
                }
                n_met += target->flag;
        }
        satisfied = wait->any ? n_met > 0 : n_met == wait->n;
        if (!satisfied && !wait->timed_out)
                return 0;
        for (size_t i = 0; i < wait->n; i++)
                wait_remember(wait, i);
        return wait_answer(wait,
                           json_pack("{s:s, s:O}", "reason", satisfied ? "satisfied" : "timeout", "processes",
                                     wait->context),
                           NULL);
}

static void wait_uncount(Wait *wait) {
        wait->host->n_wait_targets -= wait->n;
}

static int wait_simply(Request *request, Params *params, Error *reterr_error) {
        uint64_t timeout = USEC_INFINITY;
        int condition = WAIT_EXITED, r;
        Process **processes;
        bool any = false;
        Wait *wait;
        size_t n;

        if ((r = params_choice(params, "for", wait_words, &condition, reterr_error)) < 0 ||
            (r = params_bool(params, "any", &any, reterr_error)) < 0 ||
            (r = params_u64(params, "timeout_usec", 0, INT64_MAX / 4, &timeout, reterr_error)) < 0 ||
            (r = request_targets(request, params, &processes, &n, reterr_error)) < 0)
                return r;
        if (condition >= WAIT_STATE)
                r = error_set(reterr_error, ERROR_INVALID, "for: \"%s\" is for conditions",
                              wait_words[condition]);
        else if (n > LIMIT_ALL_WAIT_TARGETS - request->host->n_wait_targets)
                r = error_set(reterr_error, ERROR_LIMIT,
                              "all waits together are for %zu processes already, at most %d",
                              request->host->n_wait_targets, LIMIT_ALL_WAIT_TARGETS);
        if (r >= 0)
                r = wait_new(&wait, request->host, request, processes, n, wait_check, timeout, reterr_error);
        free(processes);
        if (r < 0)
                return r;
        request->host->n_wait_targets += n;
        wait->on_free = wait_uncount;
        wait->condition = condition;
        wait->any = any;
        wait->context = json_array();
        wait->on_removed = wait_remember;
        for (size_t i = 0; wait->context && i < n; i++)
                (void)json_array_append_new(wait->context, json_null());
        return r;
}

/* ---- conditions ---- */

/* One condition on one process. */
typedef struct Term {
        Wait *wait;     /* borrowed */
        Reader *reader; /* owned; of what is looked for in output, else NULL */
        uint32_t target;
        uint8_t condition;
        uint8_t what;  /* WaitFor */
        uint8_t state; /* of WAIT_STATE */
        bool met;
        bool lost;     /* it cannot be met any more: its process was removed, or the search failed */
        json_t *found; /* owned; where in the output it was met */
} Term;

/* What a wait by conditions has beyond any other. */
typedef struct Terms {
        size_t n;
        size_t n_counted; /* in host->n_wait_terms */
        bool refused;     /* one could not be looked for at all */
        Error error;      /* why the first that failed did */
        Term terms[];
} Terms;

typedef struct TermReader {
        Reader reader;
        Term *term; /* borrowed */
} TermReader;

static void terms_free(Wait *wait) {
        Terms *terms = wait->data;

        wait->host->n_wait_terms -= terms->n_counted;
        for (size_t i = 0; i < terms->n; i++) {
                if (terms->terms[i].reader) {
                        reader_stop(terms->terms[i].reader);
                        free(CONTAINER_OF(terms->terms[i].reader, TermReader, reader));
                }
                json_decref(terms->terms[i].found);
        }
}

/* Where it was met: the offset behind it, and of a pattern what matched, counted from where the search began.
 */
static json_t *term_found(const Reader *reader) {
        const Scan *scan = &reader->scan;
        uint64_t next = scan->at.offset;
        json_t *found;
        Log *log;

        if (process_log(reader->process, &log, NULL) >= 0 && match_kind(reader->match) != MATCH_QUIET)
                (void)scan_find_end(scan, log, &next);
        found = json_pack("{s:I}", "offset", (json_int_t)next);
        if (found && match_kind(reader->match) == MATCH_PATTERN)
                (void)json_object_set_new(found, "match", read_match_to_json(reader->match, &scan->result));
        return found;
}

static void term_on_end(Reader *reader, ReaderEnd end, const Error *error) {
        Term *term = CONTAINER_OF(reader, TermReader, reader)->term;
        Terms *terms = term->wait->data;
        LogCursor behind;

        switch (end) {
        case READER_GAP:
                behind = reader->scan.at; /* what is missing matches nothing; what comes behind it may */
                reader_move(reader, &behind);
                return;
        case READER_SATISFIED:
                term->found = term_found(reader);
                term->met = true;
                break;
        case READER_FAILED:
                if (terms->error.code == ERROR_NONE)
                        terms->error = *error;
                term->lost = true;
                break;
        default:
                term->lost = true;
        }
        reader_stop(reader);
        wait_due(term->wait);
}

static const ReaderOps term_reader_ops = { .on_end = term_on_end };

static bool term_met_now(const Term *term) {
        const WaitTarget *target = &term->wait->targets[term->target];

        if (term->what < WAIT_STATE)
                return wait_target_met(target, term->what);
        return term->what == WAIT_STATE && target->process && target->process->state == term->state;
}

static json_t *terms_satisfied(const Wait *wait) {
        const Terms *terms = wait->data;
        json_t *array = json_array();

        for (size_t i = 0; i < terms->n; i++) {
                const Term *term = &terms->terms[i];
                json_t *row;

                if (!term->met)
                        continue;
                row = json_pack("{s:I, s:i}", "id", (json_int_t)wait->targets[term->target].id, "condition",
                                (int)term->condition);
                if (row && term->found)
                        (void)json_object_update(row, term->found);
                (void)json_array_append_new(array, row);
        }
        return array;
}

static int terms_answer(Wait *wait, bool satisfied) {
        for (size_t i = 0; i < wait->n; i++)
                wait_remember(wait, i);
        return wait_answer(wait,
                           json_pack("{s:s, s:O, s:o}", "reason", satisfied ? "satisfied" : "timeout",
                                     "processes", wait->context, "satisfied", terms_satisfied(wait)),
                           NULL);
}

static int terms_check(Wait *wait) {
        size_t n_met = 0, n_lost = 0;
        Terms *terms = wait->data;

        for (size_t i = 0; i < terms->n; i++) {
                Term *term = &terms->terms[i];

                if (!term->met && !term->reader) {
                        term->met = term_met_now(term);
                        term->lost = !term->met && !wait->targets[term->target].process;
                }
                n_met += term->met;
                n_lost += term->lost;
        }
        if (terms->refused)
                return wait_answer(wait, NULL, &terms->error);
        if (wait->any ? n_met > 0 : n_met == terms->n)
                return terms_answer(wait, true);
        if (wait->any ? n_lost == terms->n : n_lost > 0) {
                if (terms->error.code == ERROR_NONE)
                        (void)error_set(&terms->error, ERROR_NOT_FOUND,
                                        "a process that was waited for was removed");
                return wait_answer(wait, NULL, &terms->error);
        }
        return wait->timed_out ? terms_answer(wait, false) : 0;
}

/* ---- conditions: the question ---- */

/* Begins to look for it in the output. */
static int term_start(Term *term, const Condition *condition, Process *process, Error *reterr_error) {
        static const MatchKind kinds[] = {
                [WAIT_PATTERN] = MATCH_PATTERN, [WAIT_QUIET] = MATCH_QUIET, [WAIT_BYTES] = MATCH_EXACTLY
        };
        const MatchSpec spec = { .kind = kinds[condition->what],
                                 .n = MAX(condition->n, (uint64_t)1),
                                 .text = condition->pattern.data,
                                 .text_size = condition->pattern.size };
        ReaderOptions options = { .max = UINT64_MAX,
                                  .sources = condition->sources,
                                  .timeout_usec = USEC_INFINITY,
                                  .quiet_usec = condition->quiet_usec,
                                  .quiet_from_start = true,
                                  .any_run = true,
                                  .forgets = true };
        const Request *request = term->wait->request;
        TermReader *reader;
        Match *match;
        Log *log;
        int r;

        if ((r = process_log(process, &log, reterr_error)) < 0 ||
            (r = condition_seek(condition, process, log, &options.begin, reterr_error)) < 0 ||
            (r = match_new(&match, &spec, reterr_error)) < 0)
                return r;
        reader = calloc(1, sizeof(*reader));
        if (!reader) {
                (void)match_free(match);
                return error_set_errno(reterr_error, ENOMEM, "cannot wait");
        }
        reader->term = term;
        term->reader = &reader->reader;
        return reader_start(&reader->reader, &term->wait->host->readers, process, match, &options,
                            &term_reader_ops, request->client->pid, reterr_error);
}

static uint32_t wait_index(const Wait *wait, const Process *process) {
        uint32_t i = 0;

        while (wait->targets[i].process != process)
                i++;
        return i;
}

static int terms_start(Wait *wait, const Condition *conditions, size_t n, Error *reterr_error) {
        Terms *terms = wait->data;
        int r = 0;

        for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < conditions[i].n_processes; j++) {
                        Term *term = &terms->terms[terms->n++];

                        *term = (Term){ .wait = wait,
                                        .target = wait_index(wait, conditions[i].processes[j]),
                                        .condition = (uint8_t)i,
                                        .what = (uint8_t)conditions[i].what,
                                        .state = conditions[i].state };
                        if (term->what > WAIT_STATE)
                                r = term_start(term, &conditions[i], conditions[i].processes[j],
                                               reterr_error);
                        if (r < 0)
                                return condition_name_error(i, r, reterr_error);
                }
        return 0;
}

static size_t count_terms(const Condition *conditions, size_t n) {
        size_t n_terms = 0;

        for (size_t i = 0; i < n; i++)
                n_terms += conditions[i].n_processes;
        return n_terms;
}

/* The processes of all conditions, each once; owned. */
static Process **conditions_processes(const Condition *conditions, size_t n, size_t n_terms, size_t *ret_n) {
        Process **all;
        size_t n_all = 0;

        all = calloc(n_terms, sizeof(Process *));
        for (size_t i = 0; all && i < n; i++)
                for (size_t j = 0; j < conditions[i].n_processes; j++) {
                        size_t k = 0;

                        while (k < n_all && all[k] != conditions[i].processes[j])
                                k++;
                        all[k] = conditions[i].processes[j];
                        n_all = MAX(n_all, k + 1);
                }
        *ret_n = n_all;
        return all;
}

static int conditions_wait(Request *request, const Condition *conditions, size_t n, bool any,
                           uint64_t timeout, Error *reterr_error) {
        size_t n_processes = 0, n_terms = count_terms(conditions, n);
        Process **processes;
        Terms *terms;
        Error error = {};
        Wait *wait;
        int r;

        if (n_terms > LIMIT_WAIT_TERMS) /* before anything that takes its square */
                return error_set(reterr_error, ERROR_LIMIT, "conditions: %zu on processes are more than %d",
                                 n_terms, LIMIT_WAIT_TERMS);
        if (n_terms > LIMIT_ALL_WAIT_TERMS - request->host->n_wait_terms)
                return error_set(reterr_error, ERROR_LIMIT,
                                 "conditions: all waits together have %zu on processes already, at most %d",
                                 request->host->n_wait_terms, LIMIT_ALL_WAIT_TERMS);
        processes = conditions_processes(conditions, n, n_terms, &n_processes);
        terms = calloc(1, sizeof(*terms) + n_terms * sizeof(*terms->terms));
        r = processes && terms ? wait_new(&wait, request->host, request, processes, n_processes, terms_check,
                                          timeout, reterr_error)
                               : error_set_errno(reterr_error, ENOMEM, "cannot wait");
        free(processes);
        if (r < 0) {
                free(terms);
                return r;
        }
        request->host->n_wait_terms += n_terms;
        terms->n_counted = n_terms;
        wait->any = any;
        wait->data = terms;
        wait->on_free = terms_free;
        wait->on_removed = wait_remember;
        wait->context = json_array();
        for (size_t i = 0; wait->context && i < n_processes; i++)
                (void)json_array_append_new(wait->context, json_null());
        if (terms_start(wait, conditions, n, &error) < 0) {
                terms->refused = true; /* answered at the end of this turn */
                terms->error = error;
        }
        return REQUEST_WAITS;
}

static int wait_by_conditions(Request *request, Params *params, const json_t *array, Error *reterr_error) {
        size_t n = json_array_size(array);
        uint64_t timeout = USEC_INFINITY;
        Condition *conditions;
        bool any = false;
        int r;

        if (!json_is_array(array) || n == 0 || n > LIMIT_WAIT_CONDITIONS)
                return error_set(reterr_error, ERROR_INVALID, "conditions: not an array of 1 to %d",
                                 LIMIT_WAIT_CONDITIONS);
        if (params_get(params, "for"))
                return error_set(reterr_error, ERROR_INVALID, "for: not together with conditions");
        if ((r = params_bool(params, "any", &any, reterr_error)) < 0 ||
            (r = params_u64(params, "timeout_usec", 0, INT64_MAX / 4, &timeout, reterr_error)) < 0)
                return r;
        conditions = calloc(n, sizeof(*conditions));
        if (!conditions)
                return error_set_errno(reterr_error, ENOMEM, "cannot wait");
        for (size_t i = 0; i < n && r >= 0; i++)
                r = condition_name_error(i,
                                         condition_parse(&conditions[i], request, params,
                                                         json_array_get(array, i), reterr_error),
                                         reterr_error);
        if (r >= 0)
                r = conditions_wait(request, conditions, n, any, timeout, reterr_error);
        conditions_free(conditions, n);
        return r;
}

int request_wait(Request *request, Params *params, json_t **ret_result, Error *reterr_error) {
        const json_t *conditions = params_get(params, "conditions");

        (void)ret_result;
        return conditions ? wait_by_conditions(request, params, conditions, reterr_error)
                          : wait_simply(request, params, reterr_error);
}
