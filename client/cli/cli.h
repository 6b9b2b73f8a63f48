/* SPDX-License-Identifier: MIT */
#pragma once

/* What every verb of the command line shares: the global options, the connection, and how to complain. */

#include <jansson.h>
#include <stdbool.h>

#include "client/libpmux/pmux.h"
#include "common/error.h"
#include "common/macro.h"

typedef struct Cli Cli;

typedef struct Verb {
        const char *name;
        const char *alias;                           /* may be NULL */
        int (*run)(Cli *cli, int argc, char **argv); /* argv[0] is the verb; returns the exit status */
        const char *usage;
        const char *summary;
} Verb;

struct Cli {
        const char *socket_path; /* borrowed; --socket */
        bool json;
        bool quiet;
        bool no_autostart;
        Pmux *pmux;       /* owned, once cli_connect() has run */
        const Verb *verb; /* borrowed */
};

#define VERB(name, alias, function, usage, summary) int function(Cli *cli, int argc, char **argv);
#include "client/cli/verb-table.h"
#undef VERB

/** verb_find() - the verb of that name or alias, NULL if there is none. */
const Verb *verb_find(const char *name);

/** verb_nearest() - the verb whose name is most like a mistyped one; NULL if none is near. */
const Verb *verb_nearest(const char *name);

/** verb_print_help() - the help of one verb, on stdout. */
void verb_print_help(const Verb *verb);

/** cli_connect() - open the connection. Return: 0, or the exit status after a complaint. */
int cli_connect(Cli *cli);

/**
 * cli_call() - one request on the connection, which is opened if need be
 * @params:      its reference is taken over; NULL: out of memory before
 * @ret_result:  new reference; may be NULL
 *
 * Return: 0, or the exit status after a complaint.
 */
int cli_call(Cli *cli, const char *method, json_t *params, json_t **ret_result);

/** Gets a result as it came, which is borrowed. Returns the exit status. */
typedef int (*CliTextFn)(Cli *cli, const char *result, void *userdata);

/** cli_call_text() - the same for a long result, which is looked at where it was received: 'fn' asks the
 * daemon nothing. Return: what it returns, or the exit status after a complaint. */
int cli_call_text(Cli *cli, const char *method, json_t *params, CliTextFn fn, void *userdata);

/** cli_call_quietly() - the same without the complaint: returns 0 or -errno. */
int cli_call_quietly(Cli *cli, const char *method, json_t *params, json_t **ret_result,
                     PmuxError *reterr_error);

/** cli_fail() - complain of an error on stderr (and on stdout with --json). Returns the exit status. */
int cli_fail(Cli *cli, const PmuxError *error);

/** cli_fail_error() - the same for an Error of our own code. */
int cli_fail_error(Cli *cli, const Error *error);

/** cli_usage() - complain of wrong usage, with the usage line. Returns the exit status. */
int cli_usage(Cli *cli, const char *format, ...) PRINTF_LIKE(2, 3);

/** cli_complain() - "pmux: …" on stderr. cli_inform() - the same, unless -q. */
void cli_complain(const char *format, ...) PRINTF_LIKE(1, 2);
void cli_inform(const Cli *cli, const char *format, ...) PRINTF_LIKE(2, 3);

/** cli_emit() - one line of JSON on stdout, with "schema": 1 first; the reference is taken over. */
void cli_emit(json_t *object);

/** cli_emit_result() - a result: a line for each of its "processes", or one line. */
void cli_emit_result(const json_t *result);

/** cli_flush() - flush stdout. Return: 0, or -errno of the first time that writing failed. */
int cli_flush(void);

/** cli_finish() - flush stdout. Returns 'status', or 1 after a complaint when writing failed; EPIPE ends the
 * program as SIGPIPE would. */
int cli_finish(int status);

/** cli_out_of_memory() - complain. Returns the exit status. */
int cli_out_of_memory(void);

/** die_of_sigpipe() - end this program as a write to a pipe without readers does. */
void die_of_sigpipe(void) __attribute__((noreturn));
