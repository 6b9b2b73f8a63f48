/* SPDX-License-Identifier: MIT */
#pragma once

/* One managed process: its run, its pipes, its log, its timers. Knows no client and no registry: what others
 * must learn goes up by ProcessOps. */

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "common/list.h"
#include "daemon/engine/fd-room.h"
#include "daemon/engine/keeper-link.h"
#include "daemon/engine/log.h"
#include "daemon/engine/process-config.h"
#include "daemon/engine/process-ending.h"
#include "daemon/engine/process-flow.h"
#include "daemon/engine/process-stage.h"
#include "daemon/engine/process-state.h"
#include "daemon/engine/registry.h"
#include "daemon/engine/stdin-lock.h"
#include "daemon/engine/stdin-log.h"
#include "daemon/engine/tree.h"

typedef struct Process Process;
typedef struct ProcessReader ProcessReader;
typedef struct ProcessWatch ProcessWatch;

/* What has changed; bits of ProcessOps.on_change. */
#define PROCESS_CHANGED_RUN (1u << 0)     /* the run's record: state, ends, exit, deadlines: must be stored */
#define PROCESS_CHANGED_STDIN (1u << 1)   /* input was taken, or stdin closed */
#define PROCESS_CHANGED_PAUSED (1u << 2)  /* must be stored */
#define PROCESS_CHANGED_READERS (1u << 3) /* one has gone */
#define PROCESS_CHANGES_RUN (1u << 4)     /* another run is about to take its place: store it now */

typedef struct ProcessOps {
        void (*on_change)(Process *process, unsigned changed, void *userdata);
        /* Something worth telling those who follow events: "started", "exited", … */
        void (*on_event)(Process *process, const char *type, void *userdata);
        /* The configuration as it was stored, owned by the caller. Return: 0 or -errno. */
        int (*load_config)(Process *process, char **ret_text, void *userdata);
} ProcessOps;

/* What all processes share. */
typedef struct ProcessHost {
        struct event_base *base; /* borrowed */
        KeeperLink *link;        /* borrowed */
        TreeRoot *tree_root;     /* borrowed */
        const char *state_dir;   /* borrowed */
        const ProcessOps *ops;   /* static */
        void *userdata;          /* borrowed */
        size_t n_lease_holders;  /* processes with one */
        List open_logs; /* processes whose logs (of input, too) may hold descriptors, least recently used
                           first */
        size_t n_open_logs;
        List resting;   /* processes whose runs are over and whose logs hold descriptors that they can do
                           without */
        Log *spare_log; /* owned; made ahead for the next process, in what will be its directory; NULL: none
                         */
        uint64_t spare_id;    /* of that process, if the registry counts on as expected */
        bool has_spare_input; /* there is an empty stdin index in it */
        bool expects_input;   /* the latest process had input from its start: the next one will, too */
        bool has_begun_runs;  /* the keeper was asked to spawn: while it does, there is time for other things
                               */
        OutputFlows *flows;   /* owned; NULL while nothing flows */
        List endings;         /* processes with an output whose end is still to be told, first come first */
        struct event *endings_timer; /* owned; NULL until needed */
} ProcessHost;

/* Somebody who reads the log, embedded in a subscription. */
struct ProcessReader {
        List link;        /* in process->readers */
        uint64_t offset;  /* everything below has been had */
        pid_t client_pid; /* for people */
        bool lossless;
        void (*on_grown)(ProcessReader *reader, bool lazily); /* the log or the state has changed; lazily: by
                                                                 what can wait for company */
        void (*on_removed)(ProcessReader *reader);            /* the process goes away: unlink, end */
};

/* Somebody who waits for a condition. */
struct ProcessWatch {
        List link; /* in process->watches */
        void (*on_change)(ProcessWatch *watch, Process *process);
        void (*on_removed)(ProcessWatch *watch, Process *process); /* unlink */
        void (*on_close_stdin)(ProcessWatch *watch,
                               Process *process); /* is about to be closed; may be NULL */
};

/* Somebody who waits for room in the input, in the order in which they came. */
typedef struct InputPlace InputPlace;
struct InputPlace {
        List link;     /* in process->input_places */
        bool is_write; /* needs room for all of it: nobody behind it is given any before */
        /* It is the first, and there may be room. Return: whether it has had its turn and left. */
        bool (*on_turn)(InputPlace *place, Process *process);
};

typedef struct ProcessOutput {
        struct event event;
        int fd; /* owned; -1: closed or not ours */
        Source source;
        bool is_flowing;    /* the latest turn came soon and brought much */
        bool is_ending;     /* it is at its end, which is told in a moment */
        bool is_held;       /* not watched for that moment, as the other one is at its end */
        uint32_t turn_usec; /* monotonic, cut: when output was last moved */
        OutputFlow *flow;   /* owned; NULL until it flows */
        OutputStage stage;
} ProcessOutput;

struct Process {
        ProcessHost *host; /* borrowed */
        List link;         /* the supervisor's, all processes */
        List doom_link;    /* the supervisor's, those to be removed */
        List change_link;  /* the supervisor's, those whose run is to be stored */
        uint64_t id;
        uint64_t created_usec;
        ProcessConfig config; /* owned; without env unless it is about to start */
        ProcessState state;
        RegistryRun run;       /* the latest; run 0: none yet */
        Log *log;              /* owned; NULL until it is needed */
        StdinLog *stdin_log;   /* owned; NULL until it is needed */
        StdinLock *stdin_lock; /* owned; NULL: none since the process was made or loaded */
        ProcessOutput outputs[2];
        struct event *stdin_event; /* owned; writable; NULL until the pipe was full once */
        int stdin_fd;              /* owned; -1: closed or not a pipe */
        int position_fd;           /* owned until the stdin log takes it; -1 */
        int discard_fd;            /* owned; memfd while discarding, -1 */
        bool discard_is_asked;     /* the keeper has not said yet if it has that; nothing goes there before */
        struct event
                *timer; /* owned; the next of: stop deadline, timeout, lease, full disk; NULL until needed */
        uint64_t lease_deadline_usec; /* monotonic; 0: none */
        uint64_t input_end; /* stdin offset at which the latest run, which is over, stopped taking; UINT64_MAX
                             */
        uint64_t transcript_from;  /* stdin offset from which on what was accepted is not yet in the log;
                                      UINT64_MAX: all is, or none is to be */
        uint64_t disk_retry_usec;  /* monotonic; 0: none */
        uint64_t tree_retry_usec;  /* likewise */
        uint64_t input_retry_usec; /* likewise; delivery failed for a reason that may pass */
        uint32_t n_position_asked; /* times that the keeper was given one and has not said yet if it has it */
        bool position_is_asked;    /* the one that there is now was among these */
        bool position_is_held;     /* it has that one: what is delivered can not be delivered again */
        bool input_waits;          /* of input_retry_usec: people were told */
        uint64_t claim_usec;  /* monotonic; until then a lossless reader may come back; 0: none is awaited */
        uint64_t killed_usec; /* monotonic; when SIGKILL was first sent to the tree in this stop; 0: not */
        Error *spawn_error;   /* owned; of the latest run if FAILED; NULL where it is not known */
        List readers;
        List watches;
        List input_places;
        size_t n_input_writes; /* of those */
        void *lease_holder; /* borrowed; the client that holds a LEASE_CLIENT; see process_set_lease_holder()
                             */
        bool remove_now;    /* the supervisor's: whether or not it is read */
        bool stored_paused; /* the supervisor's: what the registry says of it */
        bool waits_for_reader;
        bool waits_for_disk;
        bool output_error_told;  /* to stderr: why its output cannot be logged */
        bool has_new_dir;        /* nothing was ever put into its directory but by us */
        bool is_adopted;         /* the latest run was begun under an engine before this one */
        uint32_t watched_run;    /* whose tree was taken under watch by this engine; 0: none */
        bool exit_pending;       /* the main process ended; its last bytes are not yet in the log */
        uint16_t tree_wait_msec; /* until the next look at the tree, where the last could not tell; 0: it
                                    could */
        List log_link;           /* in host->open_logs */
        List rest_link;          /* in host->resting */
        List ending_link;        /* in host->endings */
        uint64_t ending_usec;    /* monotonic; since when it is there */
        uint64_t exit_left[2];   /* bytes that were in the pipes when it ended, still to be logged */
};

/**
 * process_new() - a process that does not run
 * @config:  moved into the process on success
 *
 * Return: 0; -ENOMEM.
 */
int process_new(Process **ret_process, ProcessHost *host, uint64_t id, ProcessConfig *config,
                Error *reterr_error);
/** process_make_dir() - make the directory of a new process, with nothing of another in it. Return: 0;
 * -ENOSPC, -errno of mkdir(2) or unlink(2). */
int process_make_dir(Process *process, Error *reterr_error);
Process *process_free(Process *process);
DEFINE_CLEANUP(Process *, process_free);
/** process_host_init(), process_host_deinit() - what is not borrowed. */
void process_host_init(ProcessHost *host);
void process_host_deinit(ProcessHost *host);
/** process_host_rest() - let the logs of runs that are over close their descriptors. */
void process_host_rest(ProcessHost *host);
/** process_host_check_room() - as fd_room_check(); where few descriptors are left, or none, closes those of
 * logs: who is refused for them is not the next time. Return: 0; ERROR_LIMIT. Private to process-*.c. */
int process_host_check_room(ProcessHost *host, FdUse use, int fd, Error *reterr_error);
/** process_host_prepare() - make a directory with a log, so that the next process, which will be 'id', need
 * not wait for one: a step at a time. A failure matters only then. Return: whether there is more to do. */
bool process_host_prepare(ProcessHost *host, uint64_t id);
/** process_remove_files() - delete log, input and directory of a process that is about to be freed. */
void process_remove_files(Process *process);

/** process_is_over() - nothing of the latest run is left: exited, outputs closed, tree empty. */
bool process_is_over(const Process *process);
/** process_is_alive() - the main process runs or is about to. */
bool process_is_alive(const Process *process);
/** process_has_tree() - something of the latest run is left, the main process or a descendant. */
bool process_has_tree(const Process *process);
/** process_log() - its log, opened if need be, with what an engine before this one discarded. Return: 0 or
 * -errno. */
int process_log(Process *process, Log **ret_log, Error *reterr_error);
/** process_stdin_log() - likewise. */
int process_stdin_log(Process *process, StdinLog **ret_log, Error *reterr_error);

/**
 * process_start() - begin a new run
 * Returns before the child has executed: state STARTING; then RUNNING or FAILED come by on_change.
 * Return: 0; -EBUSY (WRONG_STATE); -errno with the step that failed. On failure nothing has changed.
 */
int process_start(Process *process, Error *reterr_error);
/** process_check_restart() - whether it could ever be started again. Return: 0; -EBUSY (WRONG_STATE). */
int process_check_restart(const Process *process, Error *reterr_error);
/** process_respawn() - ask the keeper again for a run that was stored but that the keeper never heard of. */
int process_respawn(Process *process, Error *reterr_error);
/** process_adopt() - take up the latest run from the keeper's handover after the engine was replaced. */
void process_adopt(Process *process, Handover *handover);
/** process_adopt_input() - record the input that an engine before this one accepted and had no time to
 * record; private to process-*.c. */
void process_adopt_input(Process *process);
/** process_lose() - the keeper of the latest run is gone, and with it streams and status: record it as
 * unknown. */
void process_lose(Process *process);

void process_on_spawned(Process *process, const KeeperMessage *message);
/** process_begin_running(), process_fail_start(), process_begin_exit(), process_forget() - steps of a run's
 * begin and end; private to process-*.c. @watch: its outputs, from now on. */
void process_begin_running(Process *process, int pid, bool watch);
void process_fail_start(Process *process, const KeeperMessage *message);
void process_begin_exit(Process *process);
void process_forget(Process *process);
void process_on_exited(Process *process, const KeeperMessage *message);
/** process_check_tree() - see whether the tree has become empty. */
void process_check_tree(Process *process);

/**
 * process_stop() - end the tree: signal, grace, SIGKILL
 * @cause:       "stop", "timeout", "lease", "remove", "shutdown"
 * @grace_usec:  0: SIGKILL at once; a stop under way is never made slower
 * @signal:      0: the process's own stop signal
 *
 * Return: 0: a stop is under way; -ESRCH (NOT_RUNNING): nothing is left to stop.
 */
int process_stop(Process *process, const char *cause, uint64_t grace_usec, int signal, Error *reterr_error);
/** process_stop_finished() - whether the stop is over: the tree is empty, or what is left cannot be killed.
 */
bool process_stop_finished(const Process *process);
typedef enum ProcessScope {
        PROCESS_SCOPE_MAIN,
        PROCESS_SCOPE_GROUP,
        PROCESS_SCOPE_TREE
} ProcessScope;
int process_signal(Process *process, int signal, ProcessScope scope, size_t *ret_n, Error *reterr_error);
int process_pause(Process *process, bool pause, Error *reterr_error);
/** process_tree() - the Tree of the latest run. */
Tree process_tree(const Process *process);

/* Who writes. */
typedef struct InputFrom {
        const StdinWriter *writer; /* borrowed; NULL: a retry is not recognised */
        const char *lock;          /* borrowed; the lock that it claims to hold, NULL: none */
        pid_t pid;                 /* the client's, 0: unknown */
        bool was_promised;         /* it was told that there is room: there is, whoever has come since */
} InputFrom;

/** process_input() - accept bytes for stdin; see stdin_log_accept(). -ECHILD (NOT_RUNNING), -EPIPE
 * (STDIN_CLOSED), -EAGAIN (WOULD_BLOCK), -EBUSY (LOCKED). */
int process_input(Process *process, const InputFrom *from, uint64_t position, const void *data, size_t size,
                  bool eof, uint64_t *ret_accepted, uint64_t *ret_end, Error *reterr_error);
/** process_check_lock() - whether one who shows this lock (NULL: none) may use stdin. Return: 0; -EBUSY
 * (LOCKED). */
int process_check_lock(const Process *process, const char *lock, Error *reterr_error);
/** process_set_lock() - put a lock on stdin (copied) or, with NULL, take it off. Return: 0 or -ENOMEM. */
int process_set_lock(Process *process, const StdinLock *lock);
/**
 * process_input_consumed() - the stdin offset up to which the child has read, as far as the kernel can tell
 * @pipe_fd:  either end of the pipe
 *
 * Return: 0 (*ret_offset is never too high); -EOPNOTSUPP (UNSUPPORTED); -EPIPE (STDIN_CLOSED): no reader is
 * left, so that no more will be read.
 */
int process_input_consumed(Process *process, int pipe_fd, uint64_t *ret_offset, Error *reterr_error);
/** process_input_taken() - the stdin offset up to which the pipe took it; what was dropped at the end of the
 * run does not count. */
uint64_t process_input_taken(Process *process);
/** process_input_room() - bytes that may be accepted now. */
uint64_t process_input_room(Process *process);
/** process_input_wait() - wait for room behind those who wait already. @place: with is_write and on_turn. */
void process_input_wait(Process *process, InputPlace *place);
/** process_input_leave() - wait no more; harmless for one that does not. The next one is told by
 * process_input_turn(). */
void process_input_leave(Process *process, InputPlace *place);
/** process_input_is_first() - whether nobody who came before it waits any more. */
bool process_input_is_first(const Process *process, const InputPlace *place);
/** process_input_turn() - there may be room, or the first one has left: tell those whose turn it is. */
void process_input_turn(Process *process);
int process_cancel_input(Process *process, uint64_t *ret_dropped, Error *reterr_error);
/** process_deliver() - move accepted input into the pipe; private to process-*.c and the recovery. */
void process_deliver(Process *process);
/** process_position_on_held() - the keeper has the input's position or, with an error, could not take it. */
void process_position_on_held(Process *process, const KeeperMessage *message);
/** process_transcript_begin() - about to accept input: say in the log who writes. Return: 0 or -errno. */
int process_transcript_begin(Process *process, pid_t pid, Error *reterr_error);
/** process_transcript_start() - the run has its START record: what was accepted before comes behind it. */
void process_transcript_start(Process *process);
/** process_transcribe() - copy accepted input into the log, as far as that takes it. Return: 0: all is there;
 * <0: what is not there must not be delivered yet. */
int process_transcribe(Process *process);
/** process_transcript_recover() - find out how far an engine before this one came with that. */
void process_transcript_recover(Process *process);
/** process_close_stdin() - let the child see the end of file, and record it. */
void process_close_stdin(Process *process);
/** process_drop_stdin() - the same without a record: the child is gone. */
void process_drop_stdin(Process *process);
/** process_unwatch_stdin() - wait no longer for room in the pipe; private to process-*.c. */
void process_unwatch_stdin(Process *process);

/** process_reader_moved() - a lossless reader has advanced or gone: the process may go on. */
void process_reader_moved(Process *process);
/** process_claim() - a lossless reader is about to come: until then nothing is dropped. */
void process_claim(Process *process);
/** process_carry_claims() - a new run has those of the one before whose readers are here or awaited. */
void process_carry_claims(Process *process);
/** process_renew_lease() - for LEASE_TIME: the deadline begins anew. LEASE_CLIENT: cancels the deadline. */
void process_renew_lease(Process *process);
/** process_set_lease_holder() - whose going away ends the process; NULL: nobody's. */
void process_set_lease_holder(Process *process, void *client);
/** process_arm_timer() - set the timer to the earliest deadline; private to process-*.c. */
void process_arm_timer(Process *process);
/** process_grown() - tell the readers; private to process-*.c. */
void process_grown(Process *process);
/** process_record() - append a record without bytes; a failure is said on stderr. Return: 0 or -errno. */
int process_record(Process *process, RecordKind kind, Source source, uint64_t argument);
/** process_changed() - store and tell; private to process-*.c. */
void process_changed(Process *process, unsigned changed);
/** process_set_ended() - one of the three ends came; private to process-*.c. */
void process_set_ended(Process *process, unsigned bits);
/** process_transit() - the only writer of process->state. */
int process_transit(Process *process, ProcessEvent event);

/** process_outputs_start(), process_outputs_close() - watch the pipes; close what is left of them. */
void process_outputs_start(Process *process);
void process_outputs_close(Process *process);
/** process_drain_outputs() - the tree is empty: log what the outputs hold by now, and tell of those that are
 * at their end. They are not only if a stranger holds them. Return: 0; -EBUSY: the process waits for a reader
 * or the disk, so that something of it is not in the log yet. */
int process_drain_outputs(Process *process);
/** process_collect_outputs() - log what the pipes hold now. Return: 0; -EAGAIN (WOULD_BLOCK): the process
 * waits for a reader or the disk. */
int process_collect_outputs(Process *process, Error *reterr_error);
/** process_abandon_outputs() - the tree is empty but a stranger holds the pipes: stop reading, so that a new
 * run can begin. */
void process_abandon_outputs(Process *process);
/** process_output_read() - move what the pipe holds into the log; private to process-*.c. */
int process_output_read(Process *process, unsigned i, size_t max, size_t *ret_n);
/** process_output_is_at_end() - nothing is in an output, and nobody is left who could write to it; private to
 * process-*.c. */
bool process_output_is_at_end(const Process *process, unsigned i);
/** process_output_left() - bytes of an output that are not yet in the log; 0 if it is closed; private to
 * process-*.c. */
size_t process_output_left(const Process *process, unsigned i);
/** process_output_turn() - what the loop does when an output is readable, or has been left to fill; private
 * to process-*.c. */
void process_output_turn(Process *process, unsigned i);
/** process_output_watch() - wait for bytes unless something holds them up; private to process-*.c. */
void process_output_watch(Process *process, unsigned i);
/** process_output_end() - record that an output is closed and let go of it; private to process-*.c. */
void process_output_end(Process *process, unsigned i);
/** process_exit_word() - how the latest run ended, as the exit record has it (docs/protocol.md, section 4).
 */
uint64_t process_exit_word(const Process *process);
/** process_lift_claims() - let no reader make the process wait any more: the daemon stops. */
void process_lift_claims(Process *process);
/** process_finish_exit() - log what was in the pipes when the main process ended, then the exit record. */
void process_finish_exit(Process *process);
/** process_discard_on_held() - the keeper has what counts discarded bytes or, with an error, could not take
 * it. */
void process_discard_on_held(Process *process, const KeeperMessage *message);
/** process_tell_disk_works() - no output waits for room in the log, or there is none any more: an event tells
 * it where another one told that it did. */
void process_tell_disk_works(Process *process);
/** process_disk_retry() - try again after a full disk. */
void process_disk_retry(Process *process);
