/* SPDX-License-Identifier: MIT */

#include "daemon/keeper/bag.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/fd.h"
#include "common/macro.h"
#include "daemon/keeper-message.h"

#define BAG_BUCKETS_MIN 64

static size_t bag_hash(const Bag *bag, uint64_t process, uint32_t run, uint32_t label) {
        uint64_t hash = process * UINT64_C(0x9e3779b97f4a7c15) + run * UINT64_C(0xc2b2ae3d27d4eb4f) + label;

        return (hash ^ hash >> 29) & (bag->n_buckets - 1);
}

/* The link (a bucket or an entry's next) that holds the descriptor of a name or, if there is none, -1. */
static int *bag_find(const Bag *bag, uint64_t process, uint32_t run, uint32_t label) {
        int *link = &bag->buckets[bag_hash(bag, process, run, label)];

        for (; *link >= 0; link = &bag->entries[*link].next) {
                const BagEntry *entry = &bag->entries[*link];

                if (entry->process == process && entry->run == run && entry->label == label)
                        break;
        }
        return link;
}

static void bag_link(Bag *bag, int fd) {
        BagEntry *entry = &bag->entries[fd];
        int *bucket = &bag->buckets[bag_hash(bag, entry->process, entry->run, entry->label)];

        entry->next = *bucket;
        *bucket = fd;
}

void bag_init(Bag *bag, int fd_min) {
        *bag = (Bag){ .fd_min = fd_min };
}

void bag_deinit(Bag *bag) {
        for (int fd = bag_next(bag, 0); fd >= 0; fd = bag_next(bag, fd + 1))
                (void)fd_close(fd);
        free(bag->entries);
        free(bag->buckets);
        *bag = (Bag){ .fd_min = bag->fd_min };
}

static int bag_grow_buckets(Bag *bag) {
        size_t n_buckets = MAX(bag->n_buckets * 2, (size_t)BAG_BUCKETS_MIN);
        int *buckets;

        buckets = malloc(n_buckets * sizeof(*buckets));
        if (!buckets)
                return -ENOMEM;
        memset(buckets, 0xff, n_buckets * sizeof(*buckets));
        free(bag->buckets);
        bag->buckets = buckets;
        bag->n_buckets = n_buckets;
        for (int fd = bag_next(bag, 0); fd >= 0; fd = bag_next(bag, fd + 1))
                bag_link(bag, fd);
        return 0;
}

/* Makes room for one more descriptor with the number 'fd'. */
static int bag_reserve(Bag *bag, int fd) {
        BagEntry *entries;
        size_t n;

        if ((size_t)fd >= bag->n_entries) {
                n = MAX((size_t)fd + 1, bag->n_entries * 2);
                entries = realloc(bag->entries, n * sizeof(*entries));
                if (!entries)
                        return -ENOMEM;
                memset(entries + bag->n_entries, 0, (n - bag->n_entries) * sizeof(*entries));
                bag->entries = entries;
                bag->n_entries = n;
        }
        /* Longer chains are no failure: only the very first buckets are needed. */
        if (bag->n >= bag->n_buckets && bag_grow_buckets(bag) < 0 && bag->n_buckets == 0)
                return -ENOMEM;
        return 0;
}

int bag_put(Bag *bag, uint64_t process, uint32_t run, uint32_t label, int fd) {
        int kept = fd;
        int r;

        assert(fd >= 0 && label != KEEPER_LABEL_NONE);
        if (fd < bag->fd_min) {
                kept = fcntl(fd, F_DUPFD_CLOEXEC, bag->fd_min);
                if (kept < 0)
                        return -errno;
        }
        r = bag_reserve(bag, kept);
        if (r < 0) {
                if (kept != fd)
                        (void)fd_close(kept);
                return r;
        }
        if (kept != fd)
                (void)fd_close(fd);
        bag_drop(bag, process, run, label);
        bag->entries[kept] = (BagEntry){ .process = process, .run = run, .label = label };
        bag_link(bag, kept);
        bag->n++;
        return 0;
}

void bag_drop(Bag *bag, uint64_t process, uint32_t run, uint32_t label) {
        int *link, fd;

        if (bag->n_buckets == 0)
                return;
        link = bag_find(bag, process, run, label);
        fd = *link;
        if (fd < 0)
                return;
        *link = bag->entries[fd].next;
        bag->entries[fd] = (BagEntry){};
        bag->n--;
        (void)fd_close(fd);
}

int bag_get(const Bag *bag, uint64_t process, uint32_t run, uint32_t label) {
        return bag->n_buckets == 0 ? -1 : *bag_find(bag, process, run, label);
}

int bag_next(const Bag *bag, int fd) {
        for (; (size_t)fd < bag->n_entries; fd++)
                if (bag->entries[fd].label != KEEPER_LABEL_NONE)
                        return fd;
        return -1;
}
