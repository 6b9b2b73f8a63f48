/* SPDX-License-Identifier: MIT */
#pragma once

/* The few macros that every file may use. */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_INFINITY UINT64_MAX

/* Declares a variable that is released by 'fn' whenever its scope is left; see DEFINE_CLEANUP(). */
#define CLEANUP(fn) __attribute__((cleanup(fn##_cleanup)))

/* Makes 'fn' usable in CLEANUP(): 'type' is the pointer type that 'fn' takes; NULL is not passed on. */
#define DEFINE_CLEANUP(type, fn)                                                                             \
        static inline __attribute__((unused)) void fn##_cleanup(type *p) {                                   \
                if (*p)                                                                                      \
                        (void)fn(*p);                                                                        \
        }                                                                                                    \
        struct cleanup_semicolon_##fn

/* Moves an owned pointer out of a variable, which is NULL afterwards. */
#define TAKE(ptr)                                                                                            \
        ({                                                                                                   \
                __typeof__(ptr) taken = (ptr);                                                               \
                (ptr) = NULL;                                                                                \
                taken;                                                                                       \
        })

/* Moves an owned descriptor out of a variable, which is -1 afterwards. */
#define TAKE_FD(fd)                                                                                          \
        ({                                                                                                   \
                int taken = (fd);                                                                            \
                (fd) = -1;                                                                                   \
                taken;                                                                                       \
        })
