/* SPDX-License-Identifier: MIT */

#include "client/cli/plain-row.h"

#include <string.h>

#include "client/cli/text.h"

#define DIGITS_MAX 18 /* of a number that surely is one of 64 bits */

static bool take(const char **p, const char *word) {
        size_t n = strlen(word);

        if (strncmp(*p, word, n) != 0)
                return false;
        *p += n;
        return true;
}

/* Above 0. */
static bool take_number(const char **p, PlainText *ret) {
        const char *begin = *p;

        if (*begin == '0')
                return false;
        while (**p >= '0' && **p <= '9')
                (*p)++;
        *ret = (PlainText){ begin, (size_t)(*p - begin) };
        return ret->size > 0 && ret->size <= DIGITS_MAX;
}

static bool take_time(const char **p, uint64_t *ret_usec) {
        PlainText digits;

        if (!take_number(p, &digits))
                return false;
        *ret_usec = 0;
        for (size_t i = 0; i < digits.size; i++)
                *ret_usec = *ret_usec * 10 + (uint64_t)(digits.text[i] - '0');
        return true;
}

/* ASCII, and nothing in it that JSON escapes. */
static bool take_string(const char **p, PlainText *ret) {
        const char *begin;

        if (!take(p, "\""))
                return false;
        begin = *p;
        while (**p >= 0x20 && **p < 0x7f && **p != '"' && **p != '\\')
                (*p)++;
        *ret = (PlainText){ begin, (size_t)(*p - begin) };
        return take(p, "\"");
}

/* The words of a command, none of which needs quotes. */
static bool take_command(const char **p, char *ret_command) {
        PlainText word;
        size_t used = 0;

        if (!take(p, "["))
                return false;
        do {
                if (!take_string(p, &word) || used + word.size + 2 > PLAIN_COMMAND_SIZE)
                        return false;
                if (used > 0)
                        ret_command[used++] = ' ';
                memcpy(ret_command + used, word.text, word.size);
                ret_command[used + word.size] = '\0';
                if (text_needs_quotes(ret_command + used))
                        return false;
                used += word.size;
        } while (take(p, ","));
        return take(p, "]");
}

static bool take_member(const char **p, PlainRow *row) {
        if (take(p, "\"id\":"))
                return take_number(p, &row->id);
        if (take(p, "\"name\":"))
                return take_string(p, &row->name);
        if (take(p, "\"state\":"))
                return row->is_running = take(p, "\"running\"");
        if (take(p, "\"run\":"))
                return take_number(p, &row->run);
        if (take(p, "\"pid\":"))
                return take_number(p, &row->pid);
        if (take(p, "\"argv\":"))
                return take_command(p, row->command);
        if (take(p, "\"start_usec\":"))
                return take_time(p, &row->start_usec);
        return take(p, "\"tree_empty\":") && (take(p, "false") || take(p, "true"));
}

bool plain_row_read(PlainRow *ret_row, const char **p) {
        const char *now = *p;

        ret_row->id = ret_row->name = ret_row->run = ret_row->pid = (PlainText){};
        ret_row->is_running = false;
        ret_row->start_usec = 0;
        ret_row->command[0] = '\0';
        if (!take(&now, "{"))
                return false;
        do
                if (!take_member(&now, ret_row))
                        return false;
        while (take(&now, ","));
        if (!take(&now, "}") || !ret_row->is_running || !ret_row->id.text || !ret_row->run.text ||
            !ret_row->pid.text || ret_row->start_usec == 0 || !*ret_row->command)
                return false;
        *p = now;
        return true;
}
