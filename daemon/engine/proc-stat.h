/* SPDX-License-Identifier: MIT */
#pragma once

/* What /proc tells of one process: who it is, whose child, whose mark it carries. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct ProcStat {
        pid_t pid;
        pid_t parent;
        pid_t group;
        pid_t session;
        uint64_t start; /* clock ticks since boot: with the pid, it tells a process from all others */
        bool alive;     /* false: it has ended and waits to be reaped */
        bool ending;    /* its first thread is ending, or has ended */
} ProcStat;

typedef enum ProcMark {
        PROC_MARK_NONE, /* no variable of that name, or its environment may not be read */
        PROC_MARK_SAME,
        PROC_MARK_OTHER,   /* another value */
        PROC_MARK_GONE,    /* none any more: it is ending, or has ended */
        PROC_MARK_UNKNOWN, /* it shows none, being in the middle of execve(2); or there is no memory or
                              descriptor to look with */
} ProcMark;

/** proc_stat_read() - read /proc/PID/stat. Return: 0; -ESRCH: no such process, or one that is hidden;
 * -EAGAIN: it cannot be told now, as execve(2) by another thread replaces its first one; -errno. */
int proc_stat_read(pid_t pid, ProcStat *ret_stat);

/** proc_stat_parse() - the same from its text; the name in it may contain anything. Return: 0; -EAGAIN, also
 * of one that is just being reaped; -EIO. Pure. */
int proc_stat_parse(const char *text, ProcStat *ret_stat);

/** What proc_pid_stat(5) tells of a program's memory. */
typedef enum ProcMemory {
        PROC_MEMORY_NONE,    /* the thread is ending, or has ended */
        PROC_MEMORY_MADE,    /* execve(2) is making it: what will be in it cannot be seen yet */
        PROC_MEMORY_BARE,    /* there is no environment in it */
        PROC_MEMORY_WHOLE,   /* there is one */
        PROC_MEMORY_UNKNOWN, /* the text is none */
} ProcMemory;

/** proc_memory_parse() - from the text of /proc/PID/stat or /proc/PID/task/TID/stat. Pure. */
ProcMemory proc_memory_parse(const char *text);

/**
 * proc_mark_read() - look for an entry of the environment that a process was last executed with
 * @mark:  "NAME=VALUE"; of several entries of the name, one that is the same is enough
 */
ProcMark proc_mark_read(pid_t pid, const char *mark);
