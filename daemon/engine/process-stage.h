/* SPDX-License-Identifier: MIT */
#pragma once

/* A second pipe behind the one that a busy program writes to. To copy bytes from a pipe into a file locks the
 * pipe, and keeps the program from writing, for as long as the copy takes; to move them from one pipe to
 * another does not copy them. So what flows goes first to the stage and from there into the log, while the
 * program fills its own pipe again. For process-*.c alone. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct KeeperMessage KeeperMessage;
typedef struct Process Process;

/* The stage of one output. What is in it comes in the log before what is in the program's pipe. */
typedef struct OutputStage {
        int read_fd;      /* owned; -1: there is none */
        int write_fd;     /* owned; -1: there is none, or it is of an engine before this one: only emptied */
        uint32_t n_left;  /* bytes in it */
        uint32_t n_asked; /* times that the keeper was given one and has not yet said whether it has it */
        bool is_held;     /* it has this one, so that nothing in it can be lost */
        bool is_refused;  /* there cannot be one for this run */
} OutputStage;

/** process_stage_init() - no stage. */
void process_stage_init(OutputStage *stage);

/**
 * process_stage_open() - make one and give it to the keeper; it is used once the keeper has said that it has
 * it. Harmless if there is one. Where there cannot be one (descriptors, room for pipes) output goes without.
 * @size:  bytes that it is to hold
 */
void process_stage_open(Process *process, unsigned i, unsigned size);

/** process_stage_on_held() - the keeper has a stage or, with an error, could not take it. */
void process_stage_on_held(Process *process, const KeeperMessage *message);

/** process_stage_adopt() - take up one that an engine before this one has left. @fd: owned from now on; -1:
 * none */
void process_stage_adopt(Process *process, unsigned i, int fd);

/** process_stage_close() - let go of it; what is in it is lost. Harmless if there is none. */
void process_stage_close(Process *process, unsigned i);

/**
 * process_stage_take() - move what the program's pipe holds into an empty stage
 * Return: 1: there is something in it now; 0: end of file; -EAGAIN: the pipe is empty; -ENOENT: it goes
 * without a stage.
 */
int process_stage_take(Process *process, unsigned i, size_t max);

/** process_stage_moved() - n bytes of the stage are in the log. */
void process_stage_moved(Process *process, unsigned i, size_t n);
