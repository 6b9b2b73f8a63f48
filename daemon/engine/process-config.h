/* SPDX-License-Identifier: MIT */
#pragma once

/* What a process was asked to be: from the params of `run`, to the JSON that the registry keeps, to the
 * keeper's spec. Pure but for the memfd. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "daemon/engine/params.h"

typedef enum StdioKind {
        STDIO_PIPE, /* "open" or "log" */
        STDIO_NULL,
        STDIO_FILE,
        STDIO_JOIN,   /* stderr: the same as stdout */
        STDIO_CALLER, /* a descriptor of the caller's; good for one run */
} StdioKind;

typedef struct StdioConfig {
        StdioKind kind;
        int fd;     /* of STDIO_CALLER: owned; -1: gone; below: not taken yet, see STDIO_CALLER_NUMBER */
        char *path; /* owned; of STDIO_FILE; of STDIO_CALLER: what it is */
} StdioConfig;

/* The number by which the request names a descriptor, while fd is below -1; and back. */
#define STDIO_CALLER_NUMBER(fd) (-2 - (fd))
#define STDIO_CALLER_NUMBERS 3

typedef enum LeaseKind {
        LEASE_NONE,
        LEASE_CLIENT,
        LEASE_TIME,
} LeaseKind;

#define QUEUE_NAME_MAX 64
#define QUEUE_JOBS_MAX 1000

/* In whose company a process may begin its first run; see queue.h. */
typedef struct QueueConfig {
        unsigned jobs; /* how many may go at a time */
        bool stop_on_failure;
        char name[QUEUE_NAME_MAX + 1];
} QueueConfig;

typedef struct ProcessConfig {
        char *name;  /* owned, may be NULL */
        char **argv; /* owned, NULL-terminated */
        char **env;  /* owned, NULL-terminated */
        size_t n_argv;
        size_t n_env;
        char *cwd; /* owned */
        StdioConfig stdin_config;
        StdioConfig stdout_config;
        StdioConfig stderr_config;
        uint64_t timeout_usec; /* 0: none */
        uint64_t kill_after_usec;
        uint64_t lease_grace_usec; /* the same when the lease is over */
        uint64_t retention_bytes;
        uint64_t lease_usec;
        LeaseKind lease;
        int stop_signal;
        mode_t umask;
        bool remove_when_ended;
        bool wait_on_full_disk;
        bool transcript;    /* input is kept in the log */
        QueueConfig *queue; /* owned; NULL: it waits for nobody */
} ProcessConfig;

/**
 * process_config_parse() - read the members that describe a process
 * @params:      of `run`; members that belong to the request itself (key, subscribe, data, eof) are the
 * caller's
 * @ret_config:  owned by the caller on success
 */
int process_config_parse(ProcessConfig *ret_config, Params *params, Error *reterr_error);
void process_config_deinit(ProcessConfig *config);
/** process_config_drop_env() - free what only a start needs; process_config_from_text() brings it back. */
void process_config_drop_env(ProcessConfig *config);

/** process_config_has_caller() - whether any of the three streams is the caller's own. */
bool process_config_has_caller(const ProcessConfig *config);
/** process_config_give_fd() - have a stream of STDIO_CALLER use this descriptor (taken over on success).
 * Return: 0 or -ENOMEM. */
int process_config_give_fd(StdioConfig *stdio, int fd);

/** process_config_to_json() - as the registry keeps it and `show` gives it; a new object, NULL when out of
 * memory. */
json_t *process_config_to_json(const ProcessConfig *config);
/** process_config_from_text() - read it back. */
int process_config_from_text(ProcessConfig *ret_config, const char *text, Error *reterr_error);

/**
 * process_config_spec() - the keeper's spec (keeper-message.h)
 * @mark:      "NAME=VALUE" that marks the descendants
 * @ret_spec:  owned by the caller
 */
int process_config_spec(const ProcessConfig *config, const char *mark, char **ret_spec, size_t *ret_size,
                        Error *reterr_error);
