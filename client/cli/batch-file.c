/* SPDX-License-Identifier: MIT */

#include "client/cli/batch-file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/words.h"

#define BLANKS " \t\r\v\f"

static size_t skip_blanks(const char *line, size_t size) {
        size_t at = 0;

        while (at < size && line[at] != '\0' && strchr(BLANKS, line[at]))
                at++;
        return at;
}

static bool is_nothing(const char *line, size_t size) {
        size_t at = skip_blanks(line, size);

        return at == size || line[at] == '#';
}

/* A JSON array: "[" and then a string, an object or the end; otherwise "[" is the program of that name. */
static bool is_json(const char *line, size_t size) {
        size_t at = skip_blanks(line, size);

        if (at == size || line[at] != '[')
                return false;
        at++;
        at += skip_blanks(line + at, size - at);
        return at < size && line[at] != '\0' && strchr("\"{]", line[at]);
}

static json_t *argv_of_json(const char *line, size_t size, size_t *ret_at, Error *reterr_error) {
        json_error_t error;
        json_t *array, *item;
        size_t i;
        char *word, what[32];

        *ret_at = skip_blanks(line, size);
        array = json_loadb(line, size, 0, &error);
        if (!array) {
                *ret_at = error.position > 0 ? MIN((size_t)error.position, size) - 1 : 0;
                (void)error_set(reterr_error, ERROR_INVALID, "not a JSON array: %s", error.text);
                return NULL;
        }
        if (json_array_size(array) == 0) {
                (void)error_set(reterr_error, ERROR_INVALID, "an array without a command");
                json_decref(array);
                return NULL;
        }
        json_array_foreach(array, i, item) {
                (void)snprintf(what, sizeof(what), "word %zu", i + 1);
                if (bytes_string_from_json(item, what, &word, reterr_error) < 0) {
                        json_decref(array);
                        return NULL;
                }
                free(word);
        }
        return array;
}

static json_t *argv_of_words(const char *line, size_t size, size_t *ret_at, Error *reterr_error) {
        CLEANUP(words_deinit) Words words = {};
        json_t *array;

        if (words_split(&words, line, size, ret_at, reterr_error) < 0)
                return NULL;
        array = json_array();
        for (size_t i = 0; array && i < words.n; i++)
                (void)json_array_append_new(array, bytes_string_to_json(words.words[i]));
        return array;
}

static json_t *argv_of_shell(const char *line, size_t size, size_t *ret_at, Error *reterr_error) {
        const char *nul = memchr(line, '\0', size);
        json_t *array;
        char *text;

        if (nul) {
                *ret_at = (size_t)(nul - line);
                (void)error_set(reterr_error, ERROR_INVALID, "a NUL character");
                return NULL;
        }
        text = strndup(line, size);
        array = text ? json_pack("[s, s, o, s]", "/bin/sh", "-c", bytes_string_to_json(text), "sh") : NULL;
        free(text);
        return array;
}

/* NULL with an error where the line is wrong; NULL without one when memory ran out. */
static json_t *argv_of_line(const BatchFile *file, const BatchCommand *command, size_t *ret_at,
                            Error *reterr_error) {
        const char *line = file->text + command->offset;

        if (file->shell)
                return argv_of_shell(line, command->size, ret_at, reterr_error);
        if (is_json(line, command->size))
                return argv_of_json(line, command->size, ret_at, reterr_error);
        return argv_of_words(line, command->size, ret_at, reterr_error);
}

static int read_all(BatchFile *file, int fd, const char *name, Error *reterr_error) {
        size_t capacity = 0;
        ssize_t n;
        char *grown;

        for (;;) {
                if (file->size == capacity) {
                        capacity = MAX(2 * capacity, (size_t)64 * 1024);
                        grown = capacity > 2 * BATCH_FILE_MAX ? NULL : realloc(file->text, capacity);
                        if (!grown)
                                return error_set_errno(reterr_error, ENOMEM, "cannot hold '%s'", name);
                        file->text = grown;
                }
                n = read(fd, file->text + file->size, capacity - file->size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set_errno(reterr_error, errno, "cannot read '%s'", name);
                if (n == 0)
                        return 0;
                file->size += (size_t)n;
                if (file->size > BATCH_FILE_MAX)
                        return error_set_errno(reterr_error, EFBIG, "cannot hold '%s'", name);
        }
}

/* Columns count characters, not bytes. */
static size_t column_of(const char *line, size_t at) {
        size_t column = 1;

        for (size_t i = 0; i < at; i++)
                column += (line[i] & 0xc0) != 0x80;
        return column;
}

static int check_line(const BatchFile *file, const BatchCommand *command, const char *name,
                      Error *reterr_error) {
        Error error = {};
        json_t *argv;
        size_t at = 0;

        argv = argv_of_line(file, command, &at, &error);
        if (!argv && error.code == ERROR_NONE)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold '%s'", name);
        json_decref(argv);
        if (argv)
                return 0;
        if (error.code != ERROR_INVALID) {
                *reterr_error = error;
                return -error.errno_value;
        }
        return error_set(reterr_error, ERROR_INVALID, "%s:%u:%zu: %s", name, command->line,
                         column_of(file->text + command->offset, at), error.text);
}

static int add_line(BatchFile *file, size_t *capacity, const BatchCommand *command) {
        BatchCommand *grown;

        if (file->n == *capacity) {
                *capacity = MAX(2 * *capacity, (size_t)64);
                grown = reallocarray(file->commands, *capacity, sizeof(*grown));
                if (!grown)
                        return -ENOMEM;
                file->commands = grown;
        }
        file->commands[file->n++] = *command;
        return 0;
}

static int find_lines(BatchFile *file, const char *name, Error *reterr_error) {
        BatchCommand command = { .line = 1 };
        size_t capacity = 0;
        const char *end;
        int r;

        for (; command.offset < file->size; command.line++, command.offset += command.size + 1) {
                end = memchr(file->text + command.offset, '\n', file->size - command.offset);
                command.size = (end ? (size_t)(end - file->text) : file->size) - command.offset;
                if (is_nothing(file->text + command.offset, command.size))
                        continue;
                r = check_line(file, &command, name, reterr_error);
                if (r < 0)
                        return r;
                if (add_line(file, &capacity, &command) < 0)
                        return error_set_errno(reterr_error, ENOMEM, "cannot hold '%s'", name);
        }
        return 0;
}

int batch_file_read(BatchFile *ret_file, int fd, const char *name, bool shell, Error *reterr_error) {
        CLEANUP(batch_file_deinit) BatchFile file = { .shell = shell };
        Error error = {};
        int r;

        r = read_all(&file, fd, name, &error);
        if (r >= 0)
                r = find_lines(&file, name, &error);
        if (r < 0) {
                if (reterr_error)
                        *reterr_error = error;
                return r;
        }
        *ret_file = file;
        file = (BatchFile){};
        return 0;
}

json_t *batch_file_argv(const BatchFile *file, size_t i) {
        size_t at;

        return argv_of_line(file, &file->commands[i], &at, NULL);
}

void batch_file_deinit(BatchFile *file) {
        free(file->text);
        free(file->commands);
        *file = (BatchFile){};
}
