/* SPDX-License-Identifier: MIT */
#pragma once

/* The bag: descriptors held for the engine, each under (process, run, label). */

#include <stddef.h>
#include <stdint.h>

/* One descriptor. Entries lie in an array indexed by the descriptor itself, so that each costs 24 bytes. */
typedef struct BagEntry {
        uint64_t process;
        uint32_t run;
        uint32_t label; /* KEEPER_LABEL_NONE: the slot is free */
        int next;       /* next descriptor of the same bucket, -1: none */
} BagEntry;

typedef struct Bag {
        BagEntry *entries; /* owned, n_entries */
        int *buckets;      /* owned, n_buckets: descriptor at the head of each chain, -1: none */
        size_t n_entries;
        size_t n_buckets; /* 0 or a power of 2 */
        size_t n;         /* descriptors held */
        int fd_min;       /* descriptors are kept at or above this number */
} Bag;

/** bag_init() - an empty bag that keeps its descriptors at or above 'fd_min'. */
void bag_init(Bag *bag, int fd_min);

/** bag_deinit() - close every descriptor. */
void bag_deinit(Bag *bag);

/**
 * bag_put() - hold a descriptor; one that is held under the same name is closed
 * @fd:  owned by the bag on success; its number changes if it is below fd_min
 *
 * Return: 0; -EMFILE; -ENOMEM. On failure nothing has changed and the caller still owns fd.
 */
int bag_put(Bag *bag, uint64_t process, uint32_t run, uint32_t label, int fd);

/** bag_drop() - close a descriptor; harmless if it is not there. */
void bag_drop(Bag *bag, uint64_t process, uint32_t run, uint32_t label);

/** bag_get() - the descriptor of a name, borrowed; -1: not there. */
int bag_get(const Bag *bag, uint64_t process, uint32_t run, uint32_t label);

/** bag_next() - the lowest descriptor held that is at or above 'fd', -1: none. Its name is in entries[]. */
int bag_next(const Bag *bag, int fd);
