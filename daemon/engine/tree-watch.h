/* SPDX-License-Identifier: MIT */
#pragma once

/* One inotify descriptor for the cgroup.events of all runs, and which watch stands for which run. */

#include <stddef.h>
#include <stdint.h>

typedef struct TreeWatchEntry {
        int wd;
        uint32_t run;
        uint64_t process;
} TreeWatchEntry;

typedef struct TreeWatch {
        int fd;                  /* owned; -1: the kernel gave none */
        TreeWatchEntry *entries; /* owned; in order of wd: the kernel counts up, so a new one is the last */
        size_t n_entries;
        size_t n_allocated;
} TreeWatch;

typedef void (*TreeWatchFn)(uint64_t process, uint32_t run, void *userdata);

/** tree_watch_init() - open the descriptor. Never fails: without one, nothing can be watched. */
void tree_watch_init(TreeWatch *watch);
void tree_watch_deinit(TreeWatch *watch);

/** tree_watch_add() - watch cgroup.events in the directory dir_fd; harmless to repeat. Return: 0; -ENOSPC: no
 * watches left; -errno. */
int tree_watch_add(TreeWatch *watch, int dir_fd, uint64_t process, uint32_t run);

/** tree_watch_remove() - stop to watch; harmless if it is not watched. */
void tree_watch_remove(TreeWatch *watch, uint64_t process, uint32_t run);

/** tree_watch_dispatch() - read some of what has come (the descriptor stays readable while there is more) and
 * call fn for each event; fn may add and remove. When the kernel's queue has overflown, fn is called for
 * every run. Return: 0 or -errno. */
int tree_watch_dispatch(TreeWatch *watch, TreeWatchFn fn, void *userdata);
