/* SPDX-License-Identifier: MIT */

#include "daemon/engine/process-config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/engine/limits.h"
#include "daemon/keeper-message.h"

static void strings_free(char **strings) {
        for (size_t i = 0; strings && strings[i]; i++)
                free(strings[i]);
        free(strings);
}

void process_config_drop_env(ProcessConfig *config) {
        strings_free(config->env);
        config->env = NULL;
        config->n_env = 0;
}

static void stdio_deinit(StdioConfig *stdio) {
        if (stdio->kind == STDIO_CALLER && stdio->fd >= 0)
                (void)fd_close(stdio->fd);
        free(stdio->path);
}

bool process_config_has_caller(const ProcessConfig *config) {
        return config->stdin_config.kind == STDIO_CALLER || config->stdout_config.kind == STDIO_CALLER ||
               config->stderr_config.kind == STDIO_CALLER;
}

/* What a descriptor is, for people. */
static const char *fd_kind(int fd) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return "unknown";
        switch (st.st_mode & S_IFMT) {
        case S_IFIFO:
                return "pipe";
        case S_IFREG:
                return "file";
        case S_IFSOCK:
                return "socket";
        case S_IFCHR:
                return isatty(fd) ? "tty" : "device";
        default:
                return "other";
        }
}

int process_config_give_fd(StdioConfig *stdio, int fd) {
        stdio->path = strdup(fd_kind(fd));
        if (!stdio->path)
                return -ENOMEM;
        stdio->fd = fd;
        return 0;
}

void process_config_deinit(ProcessConfig *config) {
        strings_free(config->argv);
        strings_free(config->env);
        free(config->name);
        free(config->cwd);
        stdio_deinit(&config->stdin_config);
        stdio_deinit(&config->stdout_config);
        stdio_deinit(&config->stderr_config);
        free(config->queue);
        *config = (ProcessConfig){};
}

static int parse_strings(Params *params, const char *name, size_t min, char ***ret_strings, size_t *ret_n,
                         Error *reterr_error) {
        const json_t *array = params_get(params, name);
        size_t n = array ? json_array_size(array) : 0;
        char **strings, what[64];
        int r;

        if ((array && !json_is_array(array)) || n < min || n > LIMIT_ARGUMENTS)
                return error_set(reterr_error, ERROR_INVALID, "%s: not an array of %zu to %d strings", name,
                                 min, LIMIT_ARGUMENTS);
        strings = calloc(n + 1, sizeof(*strings));
        if (!strings)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold %s", name);
        for (size_t i = 0; i < n; i++) {
                (void)snprintf(what, sizeof(what), "%s[%zu]", name, i);
                r = bytes_string_from_json(json_array_get(array, i), what, &strings[i], reterr_error);
                if (r < 0) {
                        strings_free(strings);
                        return r;
                }
        }
        *ret_strings = strings;
        *ret_n = n;
        return 0;
}

static int parse_path(const json_t *value, const char *what, char **ret_path, Error *reterr_error) {
        char *path;
        int r;

        r = bytes_string_from_json(value, what, &path, reterr_error);
        if (r < 0)
                return r;
        if (path[0] != '/') {
                r = error_set(reterr_error, ERROR_INVALID, "%s: '%.200s' is not an absolute path", what,
                              path);
                free(path);
                return r;
        }
        *ret_path = path;
        return 0;
}

/* {"fd": NUMBER} of a request, or {"caller": KIND} as it is stored. */
static int parse_caller(const json_t *value, const char *name, StdioConfig *ret_stdio, Error *reterr_error) {
        const json_t *number = json_object_get(value, "fd");
        const char *kind = json_string_value(json_object_get(value, "caller"));

        if (number && (!json_is_integer(number) || json_integer_value(number) < 0 ||
                       json_integer_value(number) >= STDIO_CALLER_NUMBERS))
                return error_set(reterr_error, ERROR_INVALID, "%s: fd: not an integer from 0 to %d", name,
                                 STDIO_CALLER_NUMBERS - 1);
        if (!number && !kind)
                return error_set(reterr_error, ERROR_INVALID, "%s: caller: not a string", name);
        ret_stdio->path = kind ? strdup(kind) : NULL;
        if (kind && !ret_stdio->path)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold %s", name);
        ret_stdio->kind = STDIO_CALLER;
        ret_stdio->fd = number ? -2 - (int)json_integer_value(number) : -1;
        return 0;
}

static int parse_stdio(Params *params, const char *name, const char *pipe_word, bool may_join,
                       StdioConfig *ret_stdio, Error *reterr_error) {
        const json_t *value = params_get(params, name);
        const char *word = value ? json_string_value(value) : pipe_word;

        if (json_is_object(value) && json_object_size(value) == 1 && json_object_get(value, "file")) {
                ret_stdio->kind = STDIO_FILE;
                return parse_path(json_object_get(value, "file"), name, &ret_stdio->path, reterr_error);
        }
        if (json_is_object(value) && json_object_size(value) == 1 &&
            (json_object_get(value, "fd") || json_object_get(value, "caller")))
                return parse_caller(value, name, ret_stdio, reterr_error);
        if (word && strcmp(word, pipe_word) == 0)
                ret_stdio->kind = STDIO_PIPE;
        else if (word && strcmp(word, "null") == 0)
                ret_stdio->kind = STDIO_NULL;
        else if (word && may_join && strcmp(word, "stdout") == 0)
                ret_stdio->kind = STDIO_JOIN;
        else
                return error_set(reterr_error, ERROR_INVALID,
                                 "%s: not \"%s\"%s, \"null\", {\"file\": PATH} or {\"fd\": NUMBER}", name,
                                 pipe_word, may_join ? ", \"stdout\"" : "");
        return 0;
}

static int parse_name(Params *params, char **ret_name, Error *reterr_error) {
        const json_t *value = params_get(params, "name");
        char *name;
        size_t size;
        bool digits = true, bad = false;
        int r;

        if (!value)
                return 0;
        r = bytes_string_from_json(value, "name", &name, reterr_error);
        if (r < 0)
                return r;
        size = strlen(name);
        for (size_t i = 0; i < size; i++) {
                if (name[i] < '0' || name[i] > '9')
                        digits = false;
                if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f || strchr("/*?[", name[i]))
                        bad = true;
        }
        if (size == 0 || size > 128 || digits || bad) {
                r = error_set(reterr_error, ERROR_INVALID,
                              "name: '%.140s' is not 1 to 128 bytes without '/', '*', '?', '[' and control "
                              "characters, "
                              "and not digits alone",
                              name);
                free(name);
                return r;
        }
        *ret_name = name;
        return 0;
}

static int parse_lease(Params *params, ProcessConfig *config, Error *reterr_error) {
        const json_t *value = params_get(params, "lease");
        const char *word = json_string_value(value);

        if (!value || (word && strcmp(word, "none") == 0))
                config->lease = LEASE_NONE;
        else if (word && strcmp(word, "client") == 0)
                config->lease = LEASE_CLIENT;
        else if (json_is_integer(value) && json_integer_value(value) > 0) {
                config->lease = LEASE_TIME;
                config->lease_usec = (uint64_t)json_integer_value(value);
        } else
                return error_set(reterr_error, ERROR_INVALID,
                                 "lease: not \"none\", \"client\" or microseconds");
        return 0;
}

/* Nobody is left to wait for it when its client is gone: unless a grace was asked for, it has half a second.
 */
static int parse_lease_grace(Params *params, ProcessConfig *config, Error *reterr_error) {
        config->lease_grace_usec = config->lease == LEASE_CLIENT && !params_get(params, "kill_after_usec")
                                           ? LEASE_GRACE_DEFAULT_USEC
                                           : config->kill_after_usec;
        return params_u64(params, "lease_grace_usec", 0, INT64_MAX / 4, &config->lease_grace_usec,
                          reterr_error);
}

static int parse_queue(Params *params, QueueConfig **ret_queue, Error *reterr_error) {
        const json_t *value = params_get(params, "queue");
        const char *name = NULL;
        QueueConfig *queue;
        uint64_t jobs = 1;
        Params inner;
        int r;

        if (!value)
                return 0;
        queue = calloc(1, sizeof(*queue));
        if (!queue)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold the queue");
        if ((r = params_init(&inner, value, reterr_error)) >= 0 &&
            (r = params_allow(&inner, "name jobs stop_on_failure", reterr_error)) >= 0 &&
            (r = params_string(&inner, "name", QUEUE_NAME_MAX, &name, reterr_error)) >= 0 &&
            (r = params_u64(&inner, "jobs", 1, QUEUE_JOBS_MAX, &jobs, reterr_error)) >= 0)
                r = params_bool(&inner, "stop_on_failure", &queue->stop_on_failure, reterr_error);
        if (r >= 0 && !name)
                r = error_set(reterr_error, ERROR_INVALID, "queue: name: a string of 1 to %d bytes is needed",
                              QUEUE_NAME_MAX);
        if (r < 0) {
                free(queue);
                return r;
        }
        queue->jobs = (unsigned)jobs;
        (void)strcpy(queue->name, name);
        *ret_queue = queue;
        return 0;
}

static int parse_numbers(Params *params, ProcessConfig *config, Error *reterr_error) {
        static const char *const disk_words[] = { "discard", "wait", NULL };
        uint64_t stop_signal = SIGTERM, mask = 022;
        int disk = 0, r;

        config->kill_after_usec = STOP_GRACE_DEFAULT_USEC;
        config->retention_bytes = RETENTION_DEFAULT_BYTES;
        if ((r = params_u64(params, "timeout_usec", 1, INT64_MAX / 4, &config->timeout_usec, reterr_error)) <
                    0 ||
            (r = params_u64(params, "kill_after_usec", 0, INT64_MAX / 4, &config->kill_after_usec,
                            reterr_error)) < 0 ||
            (r = params_u64(params, "retention_bytes", RETENTION_MIN_BYTES, INT64_MAX / 4,
                            &config->retention_bytes, reterr_error)) < 0 ||
            (r = params_u64(params, "stop_signal", 1, 64, &stop_signal, reterr_error)) < 0 ||
            (r = params_u64(params, "umask", 0, 0777, &mask, reterr_error)) < 0 ||
            (r = params_bool(params, "rm", &config->remove_when_ended, reterr_error)) < 0 ||
            (r = params_bool(params, "transcript", &config->transcript, reterr_error)) < 0 ||
            (r = params_choice(params, "full_disk", disk_words, &disk, reterr_error)) < 0)
                return r;
        config->stop_signal = (int)stop_signal;
        config->umask = (mode_t)mask;
        config->wait_on_full_disk = disk == 1;
        return 0;
}

static int parse_env(Params *params, ProcessConfig *config, Error *reterr_error) {
        int r;

        r = parse_strings(params, "env", 0, &config->env, &config->n_env, reterr_error);
        if (r < 0)
                return r;
        for (size_t i = 0; i < config->n_env; i++) {
                const char *equals = strchr(config->env[i], '=');

                if (!equals || equals == config->env[i])
                        return error_set(reterr_error, ERROR_INVALID, "env[%zu]: '%.100s' is not NAME=VALUE",
                                         i, config->env[i]);
        }
        return 0;
}

int process_config_parse(ProcessConfig *ret_config, Params *params, Error *reterr_error) {
        ProcessConfig config = {};
        const json_t *cwd;
        int r;

        r = parse_strings(params, "argv", 1, &config.argv, &config.n_argv, reterr_error);
        if (r >= 0)
                r = parse_env(params, &config, reterr_error);
        cwd = params_get(params, "cwd");
        if (r >= 0 && cwd)
                r = parse_path(cwd, "cwd", &config.cwd, reterr_error);
        else if (r >= 0 && !(config.cwd = strdup("/")))
                r = error_set_errno(reterr_error, ENOMEM, "cannot hold the directory");
        if (r >= 0)
                r = parse_name(params, &config.name, reterr_error);
        if (r >= 0)
                r = parse_stdio(params, "stdin", "open", false, &config.stdin_config, reterr_error);
        if (r >= 0)
                r = parse_stdio(params, "stdout", "log", false, &config.stdout_config, reterr_error);
        if (r >= 0)
                r = parse_stdio(params, "stderr", "log", true, &config.stderr_config, reterr_error);
        if (r >= 0)
                r = parse_lease(params, &config, reterr_error);
        if (r >= 0)
                r = parse_queue(params, &config.queue, reterr_error);
        if (r >= 0)
                r = parse_numbers(params, &config, reterr_error);
        if (r >= 0)
                r = parse_lease_grace(params, &config, reterr_error);
        if (r < 0) {
                process_config_deinit(&config);
                return r;
        }
        *ret_config = config;
        return 0;
}

static json_t *strings_to_json(char *const *strings, size_t n) {
        json_t *array = json_array();

        for (size_t i = 0; array && i < n; i++)
                if (json_array_append_new(array, bytes_string_to_json(strings[i])) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

static json_t *stdio_to_json(const StdioConfig *stdio, const char *pipe_word) {
        switch (stdio->kind) {
        case STDIO_FILE:
                return json_pack("{s:o}", "file", bytes_string_to_json(stdio->path));
        case STDIO_CALLER:
                return json_pack("{s:s}", "caller", stdio->path ? stdio->path : "unknown");
        case STDIO_NULL:
                return json_string("null");
        case STDIO_JOIN:
                return json_string("stdout");
        default:
                return json_string(pipe_word);
        }
}

static json_t *lease_to_json(const ProcessConfig *config) {
        if (config->lease == LEASE_TIME)
                return json_integer((json_int_t)config->lease_usec);
        return json_string(config->lease == LEASE_CLIENT ? "client" : "none");
}

static json_t *queue_to_json(const QueueConfig *queue) {
        return json_pack("{s:s, s:i, s:b}", "name", queue->name, "jobs", (int)queue->jobs, "stop_on_failure",
                         (int)queue->stop_on_failure);
}

json_t *process_config_to_json(const ProcessConfig *config) {
        json_t *object;

        object = json_pack(
                "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:i, s:i, s:b, s:b, s:s}", "argv",
                strings_to_json(config->argv, config->n_argv), "env",
                strings_to_json(config->env, config->n_env), "cwd", bytes_string_to_json(config->cwd),
                "stdin", stdio_to_json(&config->stdin_config, "open"), "stdout",
                stdio_to_json(&config->stdout_config, "log"), "stderr",
                stdio_to_json(&config->stderr_config, "log"), "lease", lease_to_json(config),
                "kill_after_usec", (json_int_t)config->kill_after_usec, "lease_grace_usec",
                (json_int_t)config->lease_grace_usec, "retention_bytes", (json_int_t)config->retention_bytes,
                "stop_signal", config->stop_signal, "umask", (int)config->umask, "rm",
                (int)config->remove_when_ended, "transcript", (int)config->transcript, "full_disk",
                config->wait_on_full_disk ? "wait" : "discard");
        if (!object)
                return NULL;
        if ((config->name && json_object_set_new(object, "name", bytes_string_to_json(config->name)) < 0) ||
            (config->queue && json_object_set_new(object, "queue", queue_to_json(config->queue)) < 0) ||
            (config->timeout_usec > 0 &&
             json_object_set_new(object, "timeout_usec", json_integer((json_int_t)config->timeout_usec)) <
                     0)) {
                json_decref(object);
                return NULL;
        }
        return object;
}

int process_config_from_text(ProcessConfig *ret_config, const char *text, Error *reterr_error) {
        json_error_t json_error;
        json_t *object;
        Params params;
        int r;

        object = json_loads(text, JSON_ALLOW_NUL, &json_error);
        if (!object)
                return error_set(reterr_error, ERROR_SYSTEM,
                                 "a process's record in the registry is damaged: %s", json_error.text);
        r = params_init(&params, object, reterr_error);
        if (r >= 0)
                r = process_config_parse(ret_config, &params, reterr_error);
        json_decref(object);
        return r;
}

static char *put_string(char *p, const char *string) {
        return stpcpy(p, string) + 1;
}

int process_config_spec(const ProcessConfig *config, const char *mark, char **ret_spec, size_t *ret_size,
                        Error *reterr_error) {
        KeeperSpec header = { .magic = KEEPER_SPEC_MAGIC, .umask = config->umask };
        size_t size = sizeof(header) + strlen(config->cwd) + 1 + strlen(mark) + 1;
        char *block, *p;

        for (size_t i = 0; i < config->n_argv; i++)
                size += strlen(config->argv[i]) + 1;
        for (size_t i = 0; i < config->n_env; i++)
                size += strlen(config->env[i]) + 1;
        header.size = (uint32_t)size;
        header.n_args = (uint32_t)config->n_argv;
        header.n_env = (uint32_t)config->n_env;
        block = malloc(size);
        if (!block)
                return error_set_errno(reterr_error, ENOMEM, "cannot lay out arguments and environment");
        memcpy(block, &header, sizeof(header));
        p = block + sizeof(header);
        for (size_t i = 0; i < config->n_argv; i++)
                p = put_string(p, config->argv[i]);
        for (size_t i = 0; i < config->n_env; i++)
                p = put_string(p, config->env[i]);
        p = put_string(p, config->cwd);
        p = put_string(p, mark);
        assert((size_t)(p - block) == size);
        *ret_spec = block;
        *ret_size = size;
        return 0;
}
