/* SPDX-License-Identifier: MIT */
#pragma once

/* All processes: found by id and name, stored in the registry at every change, removed when they are done
 * with. */

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/list.h"
#include "daemon/engine/process.h"
#include "daemon/engine/registry.h"

typedef struct Supervisor Supervisor;

typedef struct SupervisorOps {
        void (*on_event)(void *userdata); /* the registry has a new event */
        void (*on_fatal)(
                int r,
                void *userdata); /* the registry cannot be written: this engine must end without a word */
} SupervisorOps;

struct Supervisor {
        ProcessHost host;
        Registry *registry; /* owned */
        const SupervisorOps *ops;
        void *userdata;   /* borrowed */
        List processes;   /* Process.link, by id */
        List doomed;      /* Process.doom_link: to be removed at the end of the turn */
        List changed;     /* Process.change_link: their runs are to be stored at the end of the turn */
        uint64_t next_id; /* the id of the next process, for which nothing lies ready yet; 0: not known, or it
                             does */
        void *by_id;      /* tsearch(3) */
        void *by_name;
        size_t n_processes;
        uint64_t remove_not_before_usec; /* monotonic: readers of those that remove themselves may come back
                                            until then */
        struct event *remove_timer;      /* owned */
        bool has_tried_spare;            /* for next_id */
        bool shutting_down;
        bool has_left_out; /* processes of the registry that could not be read: the keeper's are not all known
                            */
};

/** supervisor_init() - open the registry; load nothing yet. 'host' is filled in by the caller, all but ops
 * and userdata. */
int supervisor_init(Supervisor *supervisor, const char *registry_path, const SupervisorOps *ops,
                    void *userdata, Error *reterr_error);
void supervisor_deinit(Supervisor *supervisor);
/** supervisor_recover() - load every process and take up what the keeper handed over. @same_keeper: the runs
 * that are not over are its. */
int supervisor_recover(Supervisor *supervisor, Handover *handover, bool same_keeper, Error *reterr_error);

/** supervisor_find_id(), supervisor_find_name() - the process; NULL if there is none. */
Process *supervisor_find_id(Supervisor *supervisor, uint64_t id);
Process *supervisor_find_name(Supervisor *supervisor, const char *name);

/** supervisor_add() - make a process from a configuration (moved on success) and store it; it does not run
 * yet. */
int supervisor_add(Supervisor *supervisor, ProcessConfig *config, Process **ret_process, Error *reterr_error);
/** supervisor_remove() - at the end of this turn; harmless to repeat. */
void supervisor_remove(Supervisor *supervisor, Process *process);
/** supervisor_store_runs() - put what this turn changed into the registry, before it is asked for runs. */
void supervisor_store_runs(Supervisor *supervisor);
/** supervisor_has_chores() - whether there is something to do that nobody waits for. */
bool supervisor_has_chores(const Supervisor *supervisor);
/** supervisor_do_chore() - one of them: tidy up after runs that are over, prepare for the next process. */
void supervisor_do_chore(Supervisor *supervisor);
/** supervisor_finish_turn() - store what changed, remove the doomed. */
void supervisor_finish_turn(Supervisor *supervisor);
/** supervisor_set_lock() - put a lock on the stdin of a process, NULL: take it off; stored. */
int supervisor_set_lock(Supervisor *supervisor, Process *process, const StdinLock *lock, Error *reterr_error);
/** supervisor_lease_lost() - the holder of leases went away. */
void supervisor_lease_lost(Supervisor *supervisor, const void *holder);
/** supervisor_running() - how many have something left of their latest run. */
size_t supervisor_running(Supervisor *supervisor);
