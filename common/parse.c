/* SPDX-License-Identifier: MIT */

#include "common/parse.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/macro.h"

#define FRACTION_DIGITS_MAX 9 /* further digits of a fraction are dropped */
#define SIGNAL_MAX 64

typedef struct Unit {
        const char *name;
        uint64_t factor;
} Unit;

static const Unit duration_units[] = {
        { "us", 1 },
        { "usec", 1 },
        { "ms", USEC_PER_MSEC },
        { "msec", USEC_PER_MSEC },
        { "s", USEC_PER_SEC },
        { "sec", USEC_PER_SEC },
        { "m", 60 * USEC_PER_SEC },
        { "min", 60 * USEC_PER_SEC },
        { "h", 3600 * USEC_PER_SEC },
        { "hr", 3600 * USEC_PER_SEC },
        { "d", 24 * 3600 * USEC_PER_SEC },
        { "w", 7 * 24 * 3600 * USEC_PER_SEC },
};

static const char size_letters[] = "KMGTPE";

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

/* A decimal number with an optional fraction, in units that are still to come. */
typedef struct Decimal {
        uint64_t whole;
        uint64_t fraction;       /* of fraction_scale */
        uint64_t fraction_scale; /* a power of ten */
} Decimal;

/* Reads digits and an optional fraction; *text is moved behind them. False: no number, or too large. */
static bool decimal_read(const char **text, Decimal *ret_decimal) {
        Decimal decimal = { .fraction_scale = 1 };
        const char *p = *text;
        unsigned n = 0;

        if (!is_digit(*p))
                return false;
        for (; is_digit(*p); p++)
                if (__builtin_mul_overflow(decimal.whole, 10, &decimal.whole) ||
                    __builtin_add_overflow(decimal.whole, (uint64_t)(*p - '0'), &decimal.whole))
                        return false;
        if (*p == '.') {
                if (!is_digit(*++p))
                        return false;
                for (; is_digit(*p); p++)
                        if (n++ < FRACTION_DIGITS_MAX) {
                                decimal.fraction = decimal.fraction * 10 + (uint64_t)(*p - '0');
                                decimal.fraction_scale *= 10;
                        }
        }
        *text = p;
        *ret_decimal = decimal;
        return true;
}

/* Adds 'decimal' units of 'factor' to *sum, rounding the fraction down. False: it does not fit. */
static bool decimal_add(uint64_t *sum, const Decimal *decimal, uint64_t factor) {
        uint64_t whole, fraction;

        fraction = (uint64_t)((unsigned __int128)decimal->fraction * factor / decimal->fraction_scale);
        return !__builtin_mul_overflow(decimal->whole, factor, &whole) &&
               !__builtin_add_overflow(*sum, whole, sum) && !__builtin_add_overflow(*sum, fraction, sum);
}

/* The unit whose name is exactly the letters at *text, which is moved behind them; 0 if there is none. */
static uint64_t duration_unit_read(const char **text) {
        size_t n = strspn(*text, "abcdefghijklmnopqrstuvwxyz");

        for (size_t i = 0; i < ARRAY_SIZE(duration_units); i++)
                if (strlen(duration_units[i].name) == n && memcmp(duration_units[i].name, *text, n) == 0) {
                        *text += n;
                        return duration_units[i].factor;
                }
        return 0;
}

static bool duration_read(const char *text, uint64_t *ret_usec) {
        bool first = true;
        uint64_t usec = 0, factor;
        Decimal decimal;

        do {
                if (!decimal_read(&text, &decimal))
                        return false;
                if (first && *text == '\0')
                        factor = USEC_PER_SEC;
                else
                        factor = duration_unit_read(&text);
                if (factor == 0 || !decimal_add(&usec, &decimal, factor))
                        return false;
                first = false;
                if (*text == ' ' && text[1] != '\0')
                        text++;
        } while (*text != '\0');
        if (usec == USEC_INFINITY)
                return false;
        *ret_usec = usec;
        return true;
}

int parse_duration(const char *text, uint64_t *ret_usec, Error *reterr_error) {
        if (strcmp(text, "infinity") == 0) {
                *ret_usec = USEC_INFINITY;
                return 0;
        }
        if (!duration_read(text, ret_usec))
                return error_set(reterr_error, ERROR_INVALID,
                                 "'%s' is not a span of time such as 500ms, 5s, 2m or 1h30m", text);
        return 0;
}

static bool size_read(const char *text, uint64_t *ret_bytes) {
        uint64_t factor = 1, bytes = 0;
        const char *letter;
        Decimal decimal;

        if (!decimal_read(&text, &decimal))
                return false;
        letter = *text == '\0' ? NULL : strchr(size_letters, *text == 'k' ? 'K' : *text);
        if (letter) {
                factor = UINT64_C(1024) << 10 * (letter - size_letters);
                text++;
                if (strcmp(text, "iB") == 0)
                        text += 2;
        }
        if (*text == 'B')
                text++;
        if (*text != '\0' || (factor == 1 && decimal.fraction_scale > 1))
                return false;
        if (!decimal_add(&bytes, &decimal, factor))
                return false;
        *ret_bytes = bytes;
        return true;
}

int parse_size(const char *text, uint64_t *ret_bytes, Error *reterr_error) {
        if (!size_read(text, ret_bytes))
                return error_set(reterr_error, ERROR_INVALID,
                                 "'%s' is not a size such as 4096, 64K, 1M or 2G", text);
        return 0;
}

int parse_u64(const char *text, uint64_t max, uint64_t *ret_value, Error *reterr_error) {
        const char *p = text;
        Decimal decimal;

        if (!decimal_read(&p, &decimal) || *p != '\0' || decimal.fraction_scale > 1 || decimal.whole > max)
                return error_set(reterr_error, ERROR_INVALID, "'%s' is not a number from 0 to %llu", text,
                                 (unsigned long long)max);
        *ret_value = decimal.whole;
        return 0;
}

/* "RTMIN", "RTMIN+3", "RTMAX-2"; 0 if it is none of them. */
static int signal_realtime_read(const char *name) {
        bool from_max = strncasecmp(name, "RTMAX", 5) == 0;
        uint64_t distance = 0;

        if (!from_max && strncasecmp(name, "RTMIN", 5) != 0)
                return 0;
        name += 5;
        if (*name != '\0' && (*name != (from_max ? '-' : '+') ||
                              parse_u64(name + 1, (uint64_t)(SIGRTMAX - SIGRTMIN), &distance, NULL) < 0))
                return 0;
        return from_max ? SIGRTMAX - (int)distance : SIGRTMIN + (int)distance;
}

int parse_signal(const char *text, int *ret_signal, Error *reterr_error) {
        static const struct {
                const char *name;
                int number;
        } aliases[] = { { "IO", SIGIO }, { "IOT", SIGIOT }, { "CLD", SIGCHLD } };
        const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text, *known;
        int signal = signal_realtime_read(name);
        uint64_t number;

        if (name == text && parse_u64(text, SIGNAL_MAX, &number, NULL) == 0)
                signal = (int)number;
        for (int i = 1; signal == 0 && i < SIGRTMIN; i++) {
                known = sigabbrev_np(i);
                if (known && strcasecmp(known, name) == 0)
                        signal = i;
        }
        for (size_t i = 0; signal == 0 && i < ARRAY_SIZE(aliases); i++)
                if (strcasecmp(aliases[i].name, name) == 0)
                        signal = aliases[i].number;
        if (signal == 0)
                return error_set(reterr_error, ERROR_INVALID, "'%s' is not a signal such as TERM or 15",
                                 text);
        *ret_signal = signal;
        return 0;
}

const char *signal_name(int signal) {
        static _Thread_local char buffer[24];
        const char *known = signal > 0 && signal < SIGRTMIN ? sigabbrev_np(signal) : NULL;

        if (known)
                (void)snprintf(buffer, sizeof(buffer), "SIG%s", known);
        else if (signal == SIGRTMIN)
                (void)snprintf(buffer, sizeof(buffer), "SIGRTMIN");
        else if (signal > SIGRTMIN && signal <= SIGRTMAX)
                (void)snprintf(buffer, sizeof(buffer), "SIGRTMIN+%d", signal - SIGRTMIN);
        else
                (void)snprintf(buffer, sizeof(buffer), "signal %d", signal);
        return buffer;
}

/* "N UNIT", and the next smaller unit where something of it is left. */
static void format_two(char *buffer, size_t size, uint64_t large, const char *large_unit, uint64_t small,
                       const char *small_unit) {
        if (small > 0)
                (void)snprintf(buffer, size, "%llu%s %llu%s", (unsigned long long)large, large_unit,
                               (unsigned long long)small, small_unit);
        else
                (void)snprintf(buffer, size, "%llu%s", (unsigned long long)large, large_unit);
}

char *format_duration(char *buffer, size_t size, uint64_t usec) {
        uint64_t sec = usec / USEC_PER_SEC, tenth = usec % USEC_PER_SEC / (USEC_PER_SEC / 10);

        if (usec == USEC_INFINITY)
                (void)snprintf(buffer, size, "infinity");
        else if (usec > 0 && usec < USEC_PER_MSEC)
                (void)snprintf(buffer, size, "%lluus", (unsigned long long)usec);
        else if (usec > 0 && usec < USEC_PER_SEC)
                (void)snprintf(buffer, size, "%llums", (unsigned long long)(usec / USEC_PER_MSEC));
        else if (sec < 10 && tenth > 0)
                (void)snprintf(buffer, size, "%llu.%llus", (unsigned long long)sec,
                               (unsigned long long)tenth);
        else if (sec < 60)
                (void)snprintf(buffer, size, "%llus", (unsigned long long)sec);
        else if (sec < 3600)
                format_two(buffer, size, sec / 60, "min", sec % 60, "s");
        else if (sec < 24 * 3600)
                format_two(buffer, size, sec / 3600, "h", sec % 3600 / 60, "min");
        else
                format_two(buffer, size, sec / (24 * 3600), "d", sec % (24 * 3600) / 3600, "h");
        return buffer;
}

char *format_size(char *buffer, size_t size, uint64_t bytes) {
        unsigned shift = 0;
        uint64_t tenth;

        while (bytes >> shift >= 1024)
                shift += 10;
        if (shift == 0) {
                (void)snprintf(buffer, size, "%lluB", (unsigned long long)bytes);
                return buffer;
        }
        tenth = (bytes >> (shift - 10) & 1023) * 10 / 1024;
        if (bytes >> shift < 10 && tenth > 0)
                (void)snprintf(buffer, size, "%llu.%llu%c", (unsigned long long)(bytes >> shift),
                               (unsigned long long)tenth, size_letters[shift / 10 - 1]);
        else
                (void)snprintf(buffer, size, "%llu%c", (unsigned long long)(bytes >> shift),
                               size_letters[shift / 10 - 1]);
        return buffer;
}
