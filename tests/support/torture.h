/* SPDX-License-Identifier: MIT */
#pragma once

/* Failing the n-th allocation, for each n there is. This file replaces malloc(3) and its kin in the program
 * that includes it (in one of its sources), so that the C library's own calls fail too. Not together with
 * AddressSanitizer, which replaces them as well.
 *
 *     TORTURE(r = thing_new(&thing), r == -ENOMEM || …, thing_free(thing));
 *
 * runs the call again and again, letting its 1st, 2nd, … allocation fail, until it gets through without a
 * failure. After each run in which one failed the condition must hold; the last clause tidies up what a run
 * that worked has made. No allocation may be left over, nor a descriptor. */

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/check-main.h"

#ifdef __SANITIZE_ADDRESS__
#define TORTURE_POSSIBLE false
#else
#define TORTURE_POSSIBLE true
#endif

#define TORTURE_MAX 10000 /* allocations; a call that makes more would not end */

/* Volatile: the compiler thinks it knows that malloc(3) touches no variable of ours. */
static volatile bool torture_on;
static volatile bool torture_failed; /* the allocation that was to fail did */
static volatile long torture_left;   /* allocations until then */
static volatile long torture_live;   /* allocations less frees while it is on */

static void torture_begin(long n) {
        torture_left = n;
        torture_live = 0;
        torture_failed = false;
        torture_on = true;
}

static bool torture_end(void) {
        torture_on = false;
        return torture_failed;
}

#define TORTURE(call, condition, tidy)                                                                       \
        do {                                                                                                 \
                bool torture_again = true;                                                                   \
                int torture_fds = open_fds_count();                                                          \
                                                                                                             \
                for (long torture_n = 0; torture_again; torture_n++) {                                       \
                        ck_assert_int_lt(torture_n, TORTURE_MAX);                                            \
                        torture_begin(torture_n);                                                            \
                        call;                                                                                \
                        torture_again = torture_end();                                                       \
                        if (torture_again)                                                                   \
                                ck_assert_msg(condition, "allocation %ld: not %s", torture_n, #condition);   \
                        torture_on = true;                                                                   \
                        torture_left = TORTURE_MAX;                                                          \
                        tidy;                                                                                \
                        torture_on = false;                                                                  \
                        ck_assert_msg(torture_live == 0, "allocation %ld: %ld left over", torture_n,         \
                                      torture_live);                                                         \
                        ck_assert_int_eq(open_fds_count(), torture_fds);                                     \
                }                                                                                            \
        } while (0)

#ifndef __SANITIZE_ADDRESS__
void *__libc_malloc(size_t size);           /* NOLINT: glibc's names */
void *__libc_calloc(size_t n, size_t size); /* NOLINT */
void *__libc_realloc(void *p, size_t size); /* NOLINT */
void __libc_free(void *p);                  /* NOLINT */

static bool torture_refuses(void) {
        if (!torture_on || torture_left-- != 0)
                return false;
        torture_failed = true;
        errno = ENOMEM;
        return true;
}

void *malloc(size_t size) {
        void *p = torture_refuses() ? NULL : __libc_malloc(size);

        torture_live += torture_on && p;
        return p;
}

void *calloc(size_t n, size_t size) {
        void *p = torture_refuses() ? NULL : __libc_calloc(n, size);

        torture_live += torture_on && p;
        return p;
}

void *realloc(void *old, size_t size) {
        void *p = torture_refuses() ? NULL : __libc_realloc(old, size);

        torture_live += torture_on && !old && p;
        return p;
}

void free(void *p) {
        torture_live -= torture_on && p;
        __libc_free(p);
}
#endif
