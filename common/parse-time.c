/* SPDX-License-Identifier: MIT */

/* Points in time, for parse.h: the part of it that knows calendars. */

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "common/macro.h"
#include "common/parse.h"

#define SECONDS_MAX (INT64_MAX / (int64_t)USEC_PER_SEC)

/* Exactly n digits, from min to max; *text is moved behind them. */
static bool digits_read(const char **text, size_t n, int min, int max, int *ret_value) {
        int value = 0;

        for (size_t i = 0; i < n; i++) {
                if ((*text)[i] < '0' || (*text)[i] > '9')
                        return false;
                value = value * 10 + ((*text)[i] - '0');
        }
        if (value < min || value > max)
                return false;
        *text += n;
        *ret_value = value;
        return true;
}

/* One of the characters, which is passed over. */
static bool char_read(const char **text, const char *accept) {
        if (**text == '\0' || !strchr(accept, **text))
                return false;
        (*text)++;
        return true;
}

/* ".25" as microseconds; nothing is 0. */
static bool fraction_read(const char **text, uint64_t *ret_usec) {
        uint64_t usec = 0, unit = USEC_PER_SEC / 10;

        if (!char_read(text, ".")) {
                *ret_usec = 0;
                return true;
        }
        if (**text < '0' || **text > '9')
                return false;
        for (; **text >= '0' && **text <= '9'; (*text)++, unit /= 10)
                usec += (uint64_t)(**text - '0') * unit;
        *ret_usec = usec;
        return true;
}

static bool date_read(const char **text, struct tm *tm) {
        if (!digits_read(text, 4, 1970, 9999, &tm->tm_year) || !char_read(text, "-") ||
            !digits_read(text, 2, 1, 12, &tm->tm_mon) || !char_read(text, "-") ||
            !digits_read(text, 2, 1, 31, &tm->tm_mday))
                return false;
        tm->tm_year -= 1900;
        tm->tm_mon -= 1;
        return true;
}

static bool clock_read(const char **text, struct tm *tm, uint64_t *ret_usec) {
        tm->tm_sec = 0;
        *ret_usec = 0;
        if (!digits_read(text, 2, 0, 23, &tm->tm_hour) || !char_read(text, ":") ||
            !digits_read(text, 2, 0, 59, &tm->tm_min))
                return false;
        if (!char_read(text, ":"))
                return true;
        return digits_read(text, 2, 0, 59, &tm->tm_sec) && fraction_read(text, ret_usec);
}

/* "Z", " UTC" or "+02:00". Return: whether there was one; *ret_seconds is how far that clock is ahead. */
static bool zone_read(const char **text, int *ret_seconds) {
        const char *p = *text;
        int sign, hours, minutes;

        *ret_seconds = 0;
        if (strcmp(p, "Z") == 0 || strcmp(p, " UTC") == 0) {
                *text += strlen(p);
                return true;
        }
        sign = *p == '-' ? -1 : 1;
        if (!char_read(&p, "+-") || !digits_read(&p, 2, 0, 23, &hours) || !char_read(&p, ":") ||
            !digits_read(&p, 2, 0, 59, &minutes))
                return false;
        *text = p;
        *ret_seconds = sign * (hours * 3600 + minutes * 60);
        return true;
}

/* A day of the calendar; refuses one that does not exist, which mktime(3) would move. */
static bool tm_to_usec(const struct tm *tm, bool is_utc, int ahead, uint64_t usec, uint64_t *ret_usec) {
        struct tm normal = *tm;
        time_t t;

        normal.tm_isdst = -1;
        t = is_utc ? timegm(&normal) : mktime(&normal);
        if (normal.tm_mday != tm->tm_mday || normal.tm_mon != tm->tm_mon)
                return false;
        t -= ahead;
        if (t < 0)
                return false;
        *ret_usec = (uint64_t)t * USEC_PER_SEC + usec;
        return true;
}

/* A date, a time of day, or both. */
static bool calendar_read(const char *text, const struct tm *today, uint64_t *ret_usec) {
        struct tm tm = *today;
        bool has_date = false, has_zone = false;
        uint64_t usec = 0;
        int ahead = 0;

        tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
        if (strlen(text) > 4 && text[4] == '-') {
                if (!date_read(&text, &tm))
                        return false;
                has_date = true;
        }
        if (!has_date || char_read(&text, " T")) {
                if (!clock_read(&text, &tm, &usec))
                        return false;
                has_zone = has_date && zone_read(&text, &ahead);
        }
        return *text == '\0' && tm_to_usec(&tm, has_zone, ahead, usec, ret_usec);
}

/* "@SECONDS", with a fraction if need be. */
static bool epoch_read(const char *text, uint64_t *ret_usec) {
        uint64_t seconds = 0, usec;
        const char *p = text;

        if (*p < '0' || *p > '9')
                return false;
        for (; *p >= '0' && *p <= '9'; p++) {
                seconds = seconds * 10 + (uint64_t)(*p - '0');
                if (seconds > SECONDS_MAX)
                        return false;
        }
        if (!fraction_read(&p, &usec) || *p != '\0')
                return false;
        *ret_usec = seconds * USEC_PER_SEC + usec;
        return true;
}

/* "-5m", "+5m", "5m ago". */
static bool relative_read(const char *text, uint64_t now_usec, uint64_t *ret_usec) {
        size_t n = strlen(text);
        bool is_later = *text == '+';
        char span[64];
        uint64_t usec;

        if (*text == '-' || *text == '+') {
                text++;
                n--;
        } else if (n > 4 && strcmp(text + n - 4, " ago") == 0) {
                n -= 4;
        } else {
                return false;
        }
        if (n >= sizeof(span))
                return false;
        memcpy(span, text, n);
        span[n] = '\0';
        if (parse_duration(span, &usec, NULL) < 0 || usec == USEC_INFINITY)
                return false;
        if (is_later)
                return !__builtin_add_overflow(now_usec, usec, ret_usec);
        *ret_usec = usec < now_usec ? now_usec - usec : 0;
        return true;
}

static bool timestamp_read(const char *text, uint64_t now_usec, uint64_t *ret_usec) {
        time_t now = (time_t)(now_usec / USEC_PER_SEC);
        struct tm today;

        if (strcmp(text, "now") == 0) {
                *ret_usec = now_usec;
                return true;
        }
        if (*text == '@')
                return epoch_read(text + 1, ret_usec);
        if (relative_read(text, now_usec, ret_usec))
                return true;
        if (!localtime_r(&now, &today))
                return false;
        if (strcmp(text, "today") != 0 && strcmp(text, "yesterday") != 0)
                return calendar_read(text, &today, ret_usec);
        today.tm_hour = today.tm_min = today.tm_sec = 0;
        today.tm_isdst = -1;
        if (text[0] == 'y')
                today.tm_mday--; /* mktime(3) makes the day before the first one the last of a month */
        now = mktime(&today);
        *ret_usec = now > 0 ? (uint64_t)now * USEC_PER_SEC : 0;
        return true;
}

int parse_timestamp(const char *text, uint64_t now_usec, uint64_t *ret_usec, Error *reterr_error) {
        uint64_t usec;

        if (!timestamp_read(text, now_usec, &usec))
                return error_set(reterr_error, ERROR_INVALID,
                                 "'%s' is not a time such as '2026-01-31 12:00:00', '12:00', '@SECONDS', "
                                 "'-5m' or 'today'",
                                 text);
        *ret_usec = usec;
        return 0;
}
