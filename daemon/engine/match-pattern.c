/* SPDX-License-Identifier: MIT */

/* A search goes over the places where a match can begin, in order. A place that fails without having come to
 * the end of the data fails whatever comes later; one that came to it (a partial match) is tried again when
 * more has come, and the first such place is where the search goes on. What may be looked at before a place
 * (lookbehind, ^, \b) is kept, too.
 *
 * What a pattern can cost is bounded by PCRE2's own limits, for each place, and by the clock: PCRE2 calls
 * back before each item of the pattern. A call that lasts too long is given up and done again with fewer
 * places. How often data that was seen is seen again is the caller's business: it counts by what is new. */

#include "daemon/engine/match-pattern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MATCH_LIMIT 1000000          /* steps from one place */
#define DEPTH_LIMIT 250000           /* steps that can still be taken back */
#define HEAP_LIMIT_KIB (16 * 1024)   /* for those */
#define PLACE_USEC UINT64_C(100000)  /* of the processor, for one place */
#define TOTAL_USEC UINT64_C(2000000) /* of the processor, for all places, and one more for each byte */
#define WINDOW_MAX (9 * 1024 * 1024) /* bytes of a partial match, with what is kept before it */
#define CALLBACK_BYTES                                                                                       \
        (256 * 1024) /* the clock is looked at so often, were each item to read all the data                 \
                      */
#define CALLBACKS_MAX 256
#define REPEATS_MAX 65535u /* of PCRE2 */
#define NO_PLACE UINT64_MAX

struct Pattern {
        pcre2_code *code; /* owned */
        uint32_t behind;  /* bytes before a place that may be looked at */
        uint32_t again;   /* the last places that are tried again in any case */
        uint32_t n_groups;
        uint32_t places;    /* to try in one call; 0: all */
        uint64_t wants;     /* position of the first byte that is needed */
        uint64_t start;     /* the next place to try */
        uint64_t partial;   /* the first place that came to the end of the data; NO_PLACE: none */
        uint64_t seen;      /* position behind what was seen of it all */
        uint64_t used_usec; /* of the processor, since position 0 */
        uint64_t look_usec; /* and since then, in the look that is not over */
        uint64_t *groups;   /* owned; from and to of each, once there is a match; NO_PLACE: took no part */
};

/* One call of pcre2_match(), as its callback sees it. */
typedef struct Attempt {
        uint64_t begin_usec;
        uint64_t usec;     /* may last so long */
        size_t start;      /* the first place */
        size_t late;       /* the place at which it was given up */
        unsigned interval; /* callbacks between two looks at the clock */
        unsigned left;     /* until the next one */
        bool is_late;
} Attempt;

static uint64_t cpu_usec(void) {
        struct timespec ts;

        (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / 1000;
}

static int on_callback(pcre2_callout_block *block, void *userdata) {
        Attempt *attempt = userdata;
        uint64_t passed;

        if (attempt->is_late && (block->callout_flags & PCRE2_CALLOUT_STARTMATCH)) {
                attempt->late = block->start_match;
                return PCRE2_ERROR_CALLOUT;
        }
        if (--attempt->left > 0)
                return 0;
        attempt->left = attempt->interval;
        passed = cpu_usec() - attempt->begin_usec;
        attempt->is_late = passed > attempt->usec;
        if (passed <= PLACE_USEC || passed <= attempt->usec)
                return 0;
        attempt->late = block->start_match;
        return PCRE2_ERROR_CALLOUT;
}

/* Shared by all patterns. */
static pcre2_match_context *match_context(void) {
        static pcre2_match_context *context;

        if (!context) {
                context = pcre2_match_context_create(NULL);
                if (!context)
                        return NULL;
                (void)pcre2_set_match_limit(context, MATCH_LIMIT);
                (void)pcre2_set_depth_limit(context, DEPTH_LIMIT);
                (void)pcre2_set_heap_limit(context, HEAP_LIMIT_KIB);
        }
        return context;
}

static pcre2_compile_context *compile_context(void) {
        static pcre2_compile_context *context;

        if (!context) {
                context = pcre2_compile_context_create(NULL);
                if (context)
                        (void)pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        }
        return context;
}

/* One may stand within another, and then looks further back than PCRE2 tells of the longest. Return: at least
 * how many there are. */
static uint32_t count_lookbehinds(const char *text, size_t size) {
        uint32_t n = 0;

        for (size_t i = 0; i + 2 < size; i++)
                n += memcmp(text + i, "(?<", 3) == 0 || memcmp(text + i, "(*", 2) == 0;
        return n;
}

/* PCRE2 does not say that it came to the end where a '.' that stands for any byte, or \C, is wanted n times
 * at the very begin of a match, and there are fewer bytes. Return: no less than n - 1 for each. */
static uint32_t count_repeats(const char *text, size_t size) {
        bool may_be_any = false;
        uint32_t most = 0, n;

        for (size_t i = 0; i + 1 < size; i++) {
                may_be_any |= memcmp(text + i, "(?", 2) == 0 || memcmp(text + i, "\\C", 2) == 0;
                if (text[i] != '{')
                        continue;
                n = 0;
                for (size_t k = i + 1; k < size && (text[k] == ' ' || (text[k] >= '0' && text[k] <= '9'));
                     k++)
                        n = text[k] == ' ' ? n : MIN(n * 10 + (uint32_t)(text[k] - '0'), REPEATS_MAX);
                most = MAX(most, n);
        }
        return may_be_any && most > 0 ? most - 1 : 0;
}

int pattern_new(Pattern **ret_pattern, const void *text, size_t size, Error *reterr_error) {
        CLEANUP(pattern_free) Pattern *pattern = NULL;
        uint8_t message[160];
        PCRE2_SIZE offset;
        uint32_t number;
        int code;

        pattern = calloc(1, sizeof(*pattern));
        if (!pattern || !compile_context() || !match_context())
                return error_set_errno(reterr_error, ENOMEM, "cannot hold the pattern");
        pattern->code = pcre2_compile(text, size,
                                      PCRE2_MULTILINE | PCRE2_ALT_CIRCUMFLEX | PCRE2_NEVER_UTF |
                                              PCRE2_AUTO_CALLOUT | PCRE2_USE_OFFSET_LIMIT,
                                      &code, &offset, compile_context());
        if (!pattern->code && code == PCRE2_ERROR_HEAP_FAILED)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold the pattern");
        if (!pattern->code) {
                (void)pcre2_get_error_message(code, message, sizeof(message));
                return error_set(reterr_error, ERROR_INVALID, "pattern: %s, at byte %zu",
                                 (const char *)message, offset);
        }
        (void)pcre2_pattern_info(pattern->code, PCRE2_INFO_MAXLOOKBEHIND, &number);
        pattern->behind = number * MAX(count_lookbehinds(text, size), 1u) +
                          2; /* ^ may look at a newline of two bytes */
        pattern->again = count_repeats(text, size);
        (void)pcre2_pattern_info(pattern->code, PCRE2_INFO_CAPTURECOUNT, &number);
        pattern->n_groups = number + 1;
        pattern_restart(pattern);
        *ret_pattern = TAKE(pattern);
        return 0;
}

Pattern *pattern_free(Pattern *pattern) {
        if (!pattern)
                return NULL;
        pcre2_code_free(pattern->code);
        free(pattern->groups);
        free(pattern);
        return NULL;
}

void pattern_restart(Pattern *pattern) {
        pattern->wants = pattern->start = 0;
        pattern->partial = NO_PLACE;
        pattern->seen = pattern->used_usec = pattern->look_usec = 0;
}

size_t pattern_memory(const Pattern *pattern) {
        size_t size = 0;

        (void)pcre2_pattern_info(pattern->code, PCRE2_INFO_SIZE, &size);
        return sizeof(*pattern) + size + (pattern->groups ? pattern->n_groups * 2 * sizeof(uint64_t) : 0);
}

uint64_t pattern_wants(const Pattern *pattern) {
        return pattern->wants;
}

/* There is a match: keep where its groups are. */
static int pattern_on_match(Pattern *pattern, pcre2_match_data *data, int n, MatchResult *ret_result,
                            Error *reterr_error) {
        const PCRE2_SIZE *pairs = pcre2_get_ovector_pointer(data);

        if (!pattern->groups)
                pattern->groups = malloc(pattern->n_groups * 2 * sizeof(*pattern->groups));
        if (!pattern->groups)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold what the pattern matched");
        for (uint32_t i = 0; i < 2 * pattern->n_groups; i++)
                pattern->groups[i] =
                        i < 2 * (uint32_t)n && pairs[i] != PCRE2_UNSET ? pattern->wants + pairs[i] : NO_PLACE;
        pattern->groups[0] = MIN(pattern->groups[0], pattern->groups[1]); /* \K may set it behind the end */
        *ret_result = (MatchResult){
                .end = pattern->groups[1],
                .from = pattern->groups[0],
                .to = pattern->groups[1],
        };
        return MATCH_DONE;
}

static int pattern_too_many_steps(Error *reterr_error) {
        return error_set(reterr_error, ERROR_LIMIT, "the pattern needs too many steps");
}

static int pattern_error(int code, Error *reterr_error) {
        uint8_t message[160];

        switch (code) {
        case PCRE2_ERROR_MATCHLIMIT:
        case PCRE2_ERROR_DEPTHLIMIT:
        case PCRE2_ERROR_HEAPLIMIT:
        case PCRE2_ERROR_CALLOUT:
        case PCRE2_ERROR_RECURSELOOP:
                return pattern_too_many_steps(reterr_error);
        case PCRE2_ERROR_NOMEMORY:
                return error_set_errno(reterr_error, ENOMEM, "cannot look for the pattern");
        default:
                (void)pcre2_get_error_message(code, message, sizeof(message));
                return error_set(reterr_error, ERROR_SYSTEM, "cannot look for the pattern: %s",
                                 (const char *)message);
        }
}

/* Tries the next places, at most pattern->places. Return: MATCH_DONE; MATCH_MORE: all were tried;
 * MATCH_AGAIN: there are more places, or fewer have to be tried at once; -errno. */
static int pattern_try(Pattern *pattern, pcre2_match_data *match_data, const uint8_t *data, size_t size,
                       uint64_t usec, MatchResult *ret_result, Error *reterr_error) {
        Attempt attempt = {
                .usec = usec,
                .start = (size_t)(pattern->start - pattern->wants),
                .interval = (unsigned)MIN(CALLBACK_BYTES / (size + 1) + 1, (size_t)CALLBACKS_MAX),
        };
        size_t last = pattern->places > 0 ? attempt.start + pattern->places - 1 : size;
        pcre2_match_context *context = match_context();
        int r;

        attempt.left = attempt.interval;
        attempt.begin_usec = usec == UINT64_MAX ? 0 : cpu_usec();
        (void)pcre2_set_callout(context, on_callback, &attempt);
        (void)pcre2_set_offset_limit(context, last);
        r = pcre2_match(pattern->code, data, size, attempt.start, PCRE2_PARTIAL_SOFT, match_data, context);
        if (r == PCRE2_ERROR_CALLOUT && attempt.late > attempt.start) {
                pattern->places = (uint32_t)MIN((attempt.late - attempt.start + 1) / 2, (size_t)UINT32_MAX);
                return MATCH_AGAIN;
        }
        if (r > 0)
                return pattern_on_match(pattern, match_data, r, ret_result, reterr_error);
        if (r != PCRE2_ERROR_NOMATCH && r != PCRE2_ERROR_PARTIAL)
                return pattern_error(r, reterr_error);
        if (r == PCRE2_ERROR_PARTIAL && pattern->partial == NO_PLACE)
                pattern->partial = pattern->wants + pcre2_get_ovector_pointer(match_data)[0];
        if (last >= size)
                return MATCH_MORE;
        pattern->start += pattern->places;
        if (!attempt.is_late)
                pattern->places = pattern->places < UINT32_MAX / 2 ? pattern->places * 2 : 0;
        return MATCH_AGAIN;
}

/* A look is over: it counts by the part of the data that had not been seen before. */
static void pattern_account(Pattern *pattern, size_t size) {
        uint64_t end = pattern->wants + size;

        if (size > 0)
                pattern->used_usec += pattern->look_usec * (end - pattern->seen) / size;
        pattern->look_usec = 0;
        pattern->seen = end;
}

int pattern_feed(Pattern *pattern, const uint8_t *data, size_t size, uint64_t usec, MatchResult *ret_result,
                 Error *reterr_error) {
        uint64_t begin = cpu_usec(), passed;
        pcre2_match_data *match_data;
        int r;

        if (size > WINDOW_MAX)
                return error_set(reterr_error, ERROR_LIMIT,
                                 "what matches the pattern in part is more than %d bytes", WINDOW_MAX);
        match_data = pcre2_match_data_create_from_pattern(pattern->code, NULL);
        if (!match_data)
                return error_set_errno(reterr_error, ENOMEM, "cannot look for the pattern");
        do {
                r = pattern_try(pattern, match_data, data ? data : (const uint8_t *)"", size, usec,
                                ret_result, reterr_error);
                passed = cpu_usec() - begin;
        } while (r == MATCH_AGAIN && passed < usec);
        pcre2_match_data_free(match_data);
        pattern->look_usec += passed;
        if ((r == MATCH_AGAIN || r == MATCH_MORE) && usec != UINT64_MAX &&
            pattern->used_usec + pattern->look_usec > TOTAL_USEC + pattern->wants + size)
                return pattern_too_many_steps(reterr_error);
        if (r == MATCH_MORE) {
                pattern_account(pattern, size);
                pattern->start = pattern->wants + size;
                pattern->start -= MIN(pattern->start, pattern->again);
                pattern->start = MIN(pattern->start, pattern->partial);
                pattern->partial = NO_PLACE;
                if (pattern->start > pattern->wants + pattern->behind)
                        pattern->wants = pattern->start - pattern->behind;
        }
        return r;
}

unsigned pattern_n_groups(const Pattern *pattern) {
        return pattern->groups ? pattern->n_groups : 0;
}

/* The name of a group; NULL: it has none. */
static const char *pattern_group_name(const Pattern *pattern, unsigned i) {
        const uint8_t *table = NULL;
        uint32_t n = 0, size = 0;

        (void)pcre2_pattern_info(pattern->code, PCRE2_INFO_NAMECOUNT, &n);
        (void)pcre2_pattern_info(pattern->code, PCRE2_INFO_NAMEENTRYSIZE, &size);
        (void)pcre2_pattern_info(pattern->code, PCRE2_INFO_NAMETABLE, &table);
        for (; n > 0; n--, table += size)
                if (((unsigned)table[0] << 8 | table[1]) == i)
                        return (const char *)table + 2;
        return NULL;
}

bool pattern_group(const Pattern *pattern, unsigned i, uint64_t *ret_from, uint64_t *ret_to,
                   const char **ret_name) {
        if (!pattern->groups || i >= pattern->n_groups)
                return false;
        *ret_name = pattern_group_name(pattern, i);
        *ret_from = pattern->groups[2 * i];
        *ret_to = pattern->groups[2 * i + 1];
        return *ret_from != NO_PLACE;
}
