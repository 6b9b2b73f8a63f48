/* SPDX-License-Identifier: MIT */
#pragma once

/* The keeper: parent of the engine and of every managed process. Its parts share this one object. */

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "daemon/keeper-message.h"
#include "daemon/keeper/bag.h"
#include "daemon/keeper/child.h"
#include "daemon/keeper/spawn.h"

/* Descriptors 3 to 15 are for what passes through: what arrives takes the lowest free number, so that a
 * child's descriptors are low ones and a spawn copies next to nothing. What stays is moved above. */
#define KEEPER_FD_MIN 16

#define KEEPER_ANSWERS_MAX                                                                                   \
        65536 /* what an engine may leave unread; 1.5 MiB of which only what is used is there */

/* What is fixed when the daemon starts. */
typedef struct KeeperConfig {
        uint64_t stop_usec;         /* for the engine to stop everything when the daemon is asked to end */
        char *socket_path;          /* owned */
        char *state_dir;            /* owned */
        const char *engine_program; /* borrowed; executed with --engine */
        int ready_fd;           /* owned; gets a newline and is closed when clients are served; -1: none */
        int lock_fd;            /* owned; keeps the state directory ours; -1: none */
        uint64_t socket_device; /* of the socket that we bound, to be unlinked at the end; 0, 0: not ours */
        uint64_t socket_inode;
        struct rlimit nofile;  /* RLIMIT_NOFILE for the children */
        int32_t oom_score_adj; /* for the children */
        bool lowers_oom_score; /* ours is lower than the children's */
} KeeperConfig;

typedef enum HandoverPhase {
        HANDOVER_HELLO,
        HANDOVER_FDS,
        HANDOVER_CHILDREN,
        HANDOVER_READY,
        HANDOVER_DONE,
} HandoverPhase;

/* A SIGNALLED, a HELD or a refused SPAWN that waits to be sent. All else that the engine is told is state. */
typedef struct Answer {
        uint64_t process;
        uint32_t run;
        uint32_t type;
        uint32_t label;
        int error;
} Answer;

/* The engine that runs now, if any, and what it has still to be told. */
typedef struct EngineSlot {
        pid_t pid;           /* 0: none runs */
        int socket_fd;       /* owned; -1: none */
        bool is_failed;      /* it is being killed: not to be read, written or trusted any more */
        bool is_blocked;     /* its socket is full: wait until it is writable */
        uint64_t retry_usec; /* descriptors in flight are too many: try again then; USEC_INFINITY: not so */
        HandoverPhase phase;
        int handover_fd;      /* next descriptor of the bag to hand over */
        List *handover_child; /* borrowed; next child to hand over */
        bool owes_terminate;
        bool owes_ping;
        bool owes_reaped;
        pid_t reaped;        /* with owes_reaped: the latest of the orphans */
        size_t answer_first; /* those of Keeper.answers from here to n_answers wait to be sent */
        size_t n_answers;
        bool has_ponged;    /* since the last PING */
        uint64_t kill_usec; /* it was asked to abort: kill it then */
        uint64_t started_usec;
        uint64_t start_usec; /* no engine runs: start one then */
        unsigned n_quick;    /* deaths in a row that came quickly */
        bool has_served;     /* this one did; then the next one need not wait long */
        uint32_t restarts;
} EngineSlot;

typedef struct Keeper {
        KeeperConfig config;
        uint8_t instance[16];
        Bag bag;
        ChildTable children;
        Spawner spawner;
        EngineSlot engine;
        Answer *answers; /* owned; KEEPER_ANSWERS_MAX, made beforehand so that it cannot fail later */
        int signal_fd;   /* owned */
        int null_fd;     /* owned */
        bool has_served;
        bool is_upgraded; /* this image took the place of another */
        bool is_terminating;
        bool is_stopped; /* nothing is left to do: keeper_run() returns */
        int exit_status;
        bool wants_upgrade;
        char upgrade_path[KEEPER_TEXT_MAX]; /* empty: the program that runs now */
        uint64_t terminate_usec;            /* the stop must be over by then */
        uint64_t sweep_usec;                /* when to look for children that ended unnamed */
        uint64_t sweep_after_usec;          /* not before */
        uint64_t watchdog_usec;             /* interval of systemd's watchdog, 0: none */
        uint64_t ping_usec;                 /* when the next PING is due */
} Keeper;

/**
 * keeper_init() - make a keeper that has neither engine nor children
 * @config:  taken over, also on failure
 *
 * Blocks the signals that the keeper reads, makes it the child subreaper.
 */
int keeper_init(Keeper *keeper, KeeperConfig *config, Error *reterr_error);

/** keeper_deinit() - free what is held; touches no child. */
void keeper_deinit(Keeper *keeper);

/** keeper_run() - start the engine and serve it until the daemon ends. Return: the exit status. */
int keeper_run(Keeper *keeper);

/** keeper_on_serving() - the engine serves clients: whoever waits for the daemon learns so. */
void keeper_on_serving(Keeper *keeper);

/**
 * keeper_keep_fd() - move a descriptor to where those are that stay
 * Return: its new number, the old one is closed; -errno: the old one is as it was.
 */
int keeper_keep_fd(int fd);

/** keeper_config_deinit() - free a configuration that no keeper took. */
void keeper_config_deinit(KeeperConfig *config);
