/* SPDX-License-Identifier: MIT */
#pragma once

/* What must outlive the engine besides bytes: processes, runs, exits, events, request keys. SQLite behind one
 * header.
 *
 * All changes of one turn of the loop are one transaction: the first change begins it, registry_commit() ends
 * it, and nothing that a client or the keeper is told may leave before that. */

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "daemon/engine/stdin-lock.h"
#include "daemon/keeper-message.h"

typedef struct Registry Registry;

/* What a run came to. known: false until an exit status is known; state tells whether it is over. */
typedef struct ExitRecord {
        bool known;
        bool core;
        int code;       /* exit code, -1: none */
        int signal;     /* signal that ended it, 0: none */
        int oom;        /* 1 yes, 0 no, -1 cannot be known here */
        char cause[16]; /* "self", "stop", "signal", "timeout", "lease", "remove", "shutdown", "unknown" */
        bool has_usage;
        KeeperUsage usage;
} ExitRecord;

/* Bits of RegistryRun.ended: the three ends, and what was written to the log about them. */
#define RUN_EXITED (1u << 0)
#define RUN_STDOUT_CLOSED (1u << 1)
#define RUN_STDERR_CLOSED (1u << 2)
#define RUN_EMPTY (1u << 3)
#define RUN_FAILED (1u << 4)  /* never executed */
#define RUN_SPAWNED (1u << 5) /* the keeper said that it runs or ran */
#define RUN_LOGGED_EXIT (1u << 6)
#define RUN_FULL_DISK (1u << 7) /* the event full-disk came, full-disk-over did not yet */
#define RUN_ENDS (RUN_EXITED | RUN_STDOUT_CLOSED | RUN_STDERR_CLOSED | RUN_EMPTY | RUN_LOGGED_EXIT)
/* Bits 8 to 15: how many lossless readers there are, who come back after the engine was replaced. */
#define RUN_CLAIMS_SHIFT 8
#define RUN_CLAIMS_MAX 255u

typedef struct RegistryRun {
        uint64_t process;
        uint32_t run;
        uint32_t ended;      /* RUN_* */
        int pid;             /* 0: none yet */
        uint64_t start_usec; /* real time */
        uint64_t start_monotonic_usec;
        uint64_t end_usec;     /* real time, 0: not over */
        uint64_t start_offset; /* in the log */
        uint64_t start_stdin_offset;
        char stop_cause[16];                   /* why a stop is under way or was asked for; "" if none */
        uint64_t stop_deadline_monotonic_usec; /* when SIGKILL follows; 0: none */
        ExitRecord exit;
} RegistryRun;

/** registry_run_is_over() - whether all of its ends have come and are in its log, or there is none. */
static inline bool registry_run_is_over(const RegistryRun *run) {
        return run->run == 0 || (run->ended & RUN_ENDS) == RUN_ENDS;
}

/** registry_run_claims() - how many lossless readers were stored with a run. */
static inline unsigned registry_run_claims(const RegistryRun *run) {
        return run->ended >> RUN_CLAIMS_SHIFT & RUN_CLAIMS_MAX;
}

typedef struct RegistryProcess {
        uint64_t id;
        const char *name;   /* may be NULL; any bytes but NUL */
        const char *config; /* JSON text: what was asked for (argv, env, cwd, …) */
        uint64_t created_usec;
        bool paused;
} RegistryProcess;

typedef int (*RegistryProcessFn)(const RegistryProcess *process, const RegistryRun *latest_run,
                                 void *userdata);
typedef int (*RegistryRunFn)(const RegistryRun *run, void *userdata);
typedef int (*RegistryLockFn)(uint64_t process, const StdinLock *lock, void *userdata);
typedef int (*RegistryEventFn)(uint64_t seq, uint64_t time_usec, const char *json, void *userdata);

/**
 * registry_open() - open or make the database; WAL, synchronous NORMAL, migrations by PRAGMA user_version
 * @path:  of the file; made with mode 0600
 *
 * Return: 0; -EUCLEAN (SYSTEM) when the file is no database or damaged (it is left as it is, the sentence
 * names it); -EPROTONOSUPPORT (VERSION) when a newer pmux made it; -errno.
 */
int registry_open(Registry **ret_registry, const char *path, Error *reterr_error);
Registry *registry_free(Registry *registry); /* an open transaction is rolled back */
DEFINE_CLEANUP(Registry *, registry_free);

/** registry_commit() - end the turn's transaction; nothing to do if nothing changed. Return: 0; -ENOSPC
 * (NO_SPACE); -errno: rolled back. */
int registry_commit(Registry *registry, Error *reterr_error);
bool registry_dirty(const Registry *registry); /* whether a transaction is open */

/** registry_wants_checkpoint(), registry_checkpoint() - whether its log is long, and what shortens it: takes
 * some milliseconds, so that it is done when there is nothing else to do. */
bool registry_wants_checkpoint(const Registry *registry);
void registry_checkpoint(Registry *registry);

/** registry_load() - every process with its latest run (NULL if none), by id. Stops at the first non-zero
 * return of fn, which is returned. */
int registry_load(Registry *registry, RegistryProcessFn fn, void *userdata, Error *reterr_error);

/** registry_add_process() - insert; process->id 0 is replaced by a new id, never used before in this
 * database. -EEXIST (EXISTS) when the name is taken. */
int registry_add_process(Registry *registry, RegistryProcess *process, Error *reterr_error);
/** registry_get_config() - the JSON text of a process; *ret_config is owned (free(3)). -ESRCH (NOT_FOUND). */
int registry_get_config(Registry *registry, uint64_t id, char **ret_config, Error *reterr_error);
int registry_set_paused(Registry *registry, uint64_t id, bool paused, Error *reterr_error);
/** registry_remove_process() - with its runs; its events and keys stay. */
int registry_remove_process(Registry *registry, uint64_t id, Error *reterr_error);

/** registry_put_run() - insert or replace by (process, run). */
int registry_put_run(Registry *registry, const RegistryRun *run, Error *reterr_error);
/** registry_runs() - runs of a process, latest first, at most 'max'. */
int registry_runs(Registry *registry, uint64_t process, unsigned max, RegistryRunFn fn, void *userdata,
                  Error *reterr_error);

/** registry_find_run() - one run of a process. Return: 1 and *ret_run; 0: there is none; -errno. */
int registry_find_run(Registry *registry, uint64_t process, uint32_t run, RegistryRun *ret_run,
                      Error *reterr_error);

/** registry_add_event() - append; *ret_seq is one more than any before in this database. Keeps the newest
 * 10,000 (pruned now and then). */
int registry_add_event(Registry *registry, uint64_t time_usec, const char *json, uint64_t *ret_seq,
                       Error *reterr_error);
/** registry_events() - events with seq > since, oldest first, at most 'max' (of this turn's too). */
int registry_events(Registry *registry, uint64_t since, unsigned max, RegistryEventFn fn, void *userdata,
                    Error *reterr_error);
/** registry_event_range() - the oldest and the latest seq that are kept; 0, 0 if there never was one; oldest
 * = latest + 1 if none is kept. */
int registry_event_range(Registry *registry, uint64_t *ret_oldest, uint64_t *ret_latest, Error *reterr_error);

/* What a request with a key asked for and did. */
typedef struct RegistryKey {
        uint64_t digest; /* of what it asked for; 0: not known */
        uint64_t process;
        uint32_t run;    /* of one that starts something */
        uint64_t offset; /* of a read: where it began */
        char *answer;    /* of a read; owned where it was got, borrowed where it is put; NULL: none yet */
} RegistryKey;

/** registry_put_key() - remember what a request did that starts something. Keeps them an hour and at most
 * 10,000. */
int registry_put_key(Registry *registry, const char *key, uint64_t time_usec, const RegistryKey *done,
                     Error *reterr_error);
/** registry_key_count() - how many are kept; those of reads are counted apart, and these are the more. */
uint64_t registry_key_count(Registry *registry);
/** registry_get_key() - Return: 1 and what it did; 0: not known; -errno. */
int registry_get_key(Registry *registry, const char *key, RegistryKey *ret_done, Error *reterr_error);

/** registry_put_lock() - insert or replace the lock on the stdin of a process. */
int registry_put_lock(Registry *registry, uint64_t process, const StdinLock *lock, Error *reterr_error);
/** registry_remove_lock() - harmless where there is none. */
int registry_remove_lock(Registry *registry, uint64_t process, Error *reterr_error);
/** registry_load_locks() - every lock, those that have expired too; the deadline is not set. */
int registry_load_locks(Registry *registry, RegistryLockFn fn, void *userdata, Error *reterr_error);

typedef int (*RegistryCursorFn)(const char *name, uint64_t offset, void *userdata);

/** registry_set_cursor() - name a place in the log of a process. Return: 0; -EDQUOT (LIMIT): it has as many
 * as it may; -ESRCH (NOT_FOUND); -errno. */
int registry_set_cursor(Registry *registry, uint64_t process, const char *name, uint64_t offset,
                        Error *reterr_error);
/** registry_drop_cursor() - forget it; one that is not there is no error. */
int registry_drop_cursor(Registry *registry, uint64_t process, const char *name, Error *reterr_error);
/** registry_get_cursor() - Return: 1 and the offset; 0: there is none of this name; -errno. */
int registry_get_cursor(Registry *registry, uint64_t process, const char *name, uint64_t *ret_offset,
                        Error *reterr_error);
/** registry_cursors() - all of a process, by name; see registry_load(). */
int registry_cursors(Registry *registry, uint64_t process, RegistryCursorFn fn, void *userdata,
                     Error *reterr_error);

/** registry_most_cursors() - how many the process has that has the most. */
uint64_t registry_most_cursors(Registry *registry);

/** registry_put_read_key() - remember what a read came to. Keeps them as registry_put_key() does. */
int registry_put_read_key(Registry *registry, const char *key, uint64_t time_usec, const RegistryKey *done,
                          Error *reterr_error);
/** registry_get_read_key() - Return: 1 and what it came to, with its answer (free(3)); 0: not known; -errno.
 */
int registry_get_read_key(Registry *registry, const char *key, RegistryKey *ret_done, Error *reterr_error);

/** registry_set_meta(), registry_get_meta() - small texts by name ("instance", "boot-id"). get: 1 and an
 * owned string; 0; -errno. */
int registry_set_meta(Registry *registry, const char *name, const char *value, Error *reterr_error);
int registry_get_meta(Registry *registry, const char *name, char **ret_value, Error *reterr_error);
