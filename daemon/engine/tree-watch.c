/* SPDX-License-Identifier: MIT */

#include "daemon/engine/tree-watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "common/fd.h"

void tree_watch_init(TreeWatch *watch) {
        *watch = (TreeWatch){ .fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC) };
}

void tree_watch_deinit(TreeWatch *watch) {
        (void)fd_close(watch->fd);
        free(watch->entries);
        *watch = (TreeWatch){ .fd = -1 };
}

/* The place of the first entry whose wd is not below 'wd'. */
static size_t tree_watch_find(const TreeWatch *watch, int wd) {
        size_t low = 0, high = watch->n_entries, middle;

        while (low < high) {
                middle = low + (high - low) / 2;
                if (watch->entries[middle].wd < wd)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static int tree_watch_reserve(TreeWatch *watch) {
        size_t n = watch->n_allocated > 0 ? watch->n_allocated * 2 : 16;
        TreeWatchEntry *entries;

        if (watch->n_entries < watch->n_allocated)
                return 0;
        entries = reallocarray(watch->entries, n, sizeof(*entries));
        if (!entries)
                return -ENOMEM;
        watch->entries = entries;
        watch->n_allocated = n;
        return 0;
}

int tree_watch_add(TreeWatch *watch, int dir_fd, uint64_t process, uint32_t run) {
        char path[sizeof("/proc/self/fd//cgroup.events") + 3 * sizeof(int)];
        TreeWatchEntry entry = { .process = process, .run = run };
        size_t i;
        int r;

        if (watch->fd < 0)
                return -ENOSPC;
        r = tree_watch_reserve(watch);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/cgroup.events", dir_fd);
        entry.wd = inotify_add_watch(watch->fd, path, IN_MODIFY);
        if (entry.wd < 0)
                return -errno;
        i = tree_watch_find(watch, entry.wd);
        if (i == watch->n_entries || watch->entries[i].wd != entry.wd) {
                memmove(watch->entries + i + 1, watch->entries + i, (watch->n_entries - i) * sizeof(entry));
                watch->n_entries++;
        }
        watch->entries[i] = entry;
        return 0;
}

static void tree_watch_forget(TreeWatch *watch, size_t i) {
        watch->n_entries--;
        memmove(watch->entries + i, watch->entries + i + 1, (watch->n_entries - i) * sizeof(*watch->entries));
}

void tree_watch_remove(TreeWatch *watch, uint64_t process, uint32_t run) {
        for (size_t i = watch->n_entries; i-- > 0;) /* the newest are the likeliest to go */
                if (watch->entries[i].process == process && watch->entries[i].run == run) {
                        (void)inotify_rm_watch(watch->fd, watch->entries[i].wd);
                        tree_watch_forget(watch, i);
                        return;
                }
}

static void tree_watch_call_all(TreeWatch *watch, TreeWatchFn fn, void *userdata) {
        TreeWatchEntry entry = { .wd = 0 };
        size_t i;

        for (;;) { /* fn may change the array */
                i = tree_watch_find(watch, entry.wd + 1);
                if (i == watch->n_entries)
                        return;
                entry = watch->entries[i];
                fn(entry.process, entry.run, userdata);
        }
}

static void tree_watch_event(TreeWatch *watch, const struct inotify_event *event, TreeWatchFn fn,
                             void *userdata) {
        TreeWatchEntry entry;
        size_t i;

        if (event->mask & IN_Q_OVERFLOW) {
                tree_watch_call_all(watch, fn, userdata);
                return;
        }
        i = tree_watch_find(watch, event->wd);
        if (i == watch->n_entries || watch->entries[i].wd != event->wd)
                return; /* of a watch that was removed meanwhile */
        entry = watch->entries[i];
        if (event->mask & IN_IGNORED)
                tree_watch_forget(watch, i);
        fn(entry.process, entry.run, userdata);
}

int tree_watch_dispatch(TreeWatch *watch, TreeWatchFn fn, void *userdata) {
        _Alignas(struct inotify_event) char buffer[4096];
        const struct inotify_event *event;
        ssize_t n;

        if (watch->fd < 0)
                return 0;
        n = read(watch->fd, buffer, sizeof(buffer));
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        for (const char *p = buffer; p < buffer + n; p += sizeof(*event) + event->len) {
                event = (const struct inotify_event *)p;
                tree_watch_event(watch, event, fn, userdata);
        }
        return 0;
}
