/* SPDX-License-Identifier: MIT */
#pragma once

/* Values as people read them: bytes without control characters, points in time, a status in words, fitted
 * columns. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** text_escape() - bytes with control characters and what is not UTF-8 written as \xNN; a new
 * string, never NULL. */
char *text_escape(const void *data, size_t size);

/** text_of_bytes() - a JSON value of the kind "bytes" (docs/protocol.md §3), escaped; "-" for null. A new
 * string. */
char *text_of_bytes(const json_t *json);

/** text_of_name() - what to call a process of which there is an "id" and a "name": the name, else the id. A
 * new string. */
char *text_of_name(const json_t *process);

/** text_of_argv() - a command line to look at: words with blanks or quotes stand in single quotes. A new
 * string. */
char *text_of_argv(const json_t *argv);

/** text_needs_quotes() - whether a word stands in quotes there. */
bool text_needs_quotes(const char *word);

/** text_of_time() - "2026-01-31 12:00:00" in local time; with usec, "….123456+01:00" after a T, for machines
 * too. Returns buffer, which holds at least 40 bytes. */
char *text_of_time(char *buffer, size_t size, uint64_t usec, int with_usec);

/** text_of_age() - how long ago that was, in whole seconds; 0 where the clock went back. Returns buffer. */
char *text_of_age(char *buffer, size_t size, uint64_t since_usec, uint64_t now_usec);

/** text_of_status() - "running for 5min", "exited with 0 3s ago", "killed by SIGKILL 2h ago"; a new string.
 */
char *text_of_status(const json_t *status, uint64_t now_usec);

typedef struct TextTable TextTable;

/** text_table_new() - a table of that many columns; NULL when out of memory. The last column is not padded.
 */
TextTable *text_table_new(size_t n_columns);

/** text_table_add() - the next cell, row by row; the string is taken over. */
void text_table_add(TextTable *table, char *cell);

/** text_table_add_bytes() - the same for a piece of text without '\0', which is copied. */
void text_table_add_bytes(TextTable *table, const char *cell, size_t size);

/** text_table_print() - on stdout, each column as wide as it needs; lines are cut at 'width' cells, 0: never.
 */
void text_table_print(const TextTable *table, size_t width);
TextTable *text_table_free(TextTable *table);
