/* SPDX-License-Identifier: MIT */

#include "daemon/engine/status-json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/parse.h"
#include "daemon/engine/limits.h"

#define TREE_PIDS_MAX 4096

static json_t *usage_to_json(const KeeperUsage *usage) {
        return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "user_usec",
                         (json_int_t)usage->user_usec, "system_usec", (json_int_t)usage->system_usec,
                         "max_rss_bytes", (json_int_t)usage->max_rss_bytes, "minor_faults",
                         (json_int_t)usage->minor_faults, "major_faults", (json_int_t)usage->major_faults,
                         "in_blocks", (json_int_t)usage->in_blocks, "out_blocks",
                         (json_int_t)usage->out_blocks, "voluntary_switches",
                         (json_int_t)usage->voluntary_switches, "involuntary_switches",
                         (json_int_t)usage->involuntary_switches);
}

json_t *exit_to_json(const RegistryRun *run) {
        const ExitRecord *exit = &run->exit;
        uint64_t usec = run->end_usec > run->start_usec ? run->end_usec - run->start_usec : 0;

        if (!(run->ended & RUN_EXITED) || run->ended & RUN_FAILED)
                return json_null();
        return json_pack("{s:b, s:o, s:o, s:s?, s:b, s:o, s:s, s:I, s:o}", "known", (int)exit->known, "code",
                         exit->known && exit->code >= 0 ? json_integer(exit->code) : json_null(), "signal",
                         exit->signal != 0 ? json_integer(exit->signal) : json_null(), "signal_name",
                         exit->signal != 0 ? signal_name(exit->signal) : NULL, "core", (int)exit->core, "oom",
                         exit->oom < 0 ? json_null() : json_boolean(exit->oom), "cause",
                         exit->cause[0] ? exit->cause : "unknown", "usec", (json_int_t)usec, "rusage",
                         exit->has_usage ? usage_to_json(&exit->usage) : json_null());
}

/* ---- STATUS, as text ---- */

static void write_or_null(JsonText *text, uint64_t number) {
        if (number > 0)
                json_text_number(text, number);
        else
                json_text_literal(text, "null");
}

static void write_argv(JsonText *text, const ProcessConfig *config) {
        json_text_literal(text, "[");
        for (size_t i = 0; i < config->n_argv; i++) {
                if (i > 0)
                        json_text_literal(text, ",");
                json_text_bytes(text, config->argv[i]);
        }
        json_text_literal(text, "]");
}

static void write_exit(JsonText *text, const RegistryRun *run) {
        if (run->ended & RUN_EXITED)
                json_text_value(text, exit_to_json(run));
        else
                json_text_literal(text, "null");
}

/* Opens the log if need be. */
static void write_log_bound(JsonText *text, Process *process, uint64_t (*bound)(const Log *log)) {
        Log *log;

        json_text_number(text, process_log(process, &log, NULL) >= 0 ? bound(log) : 0);
}

typedef enum StatusField {
#define STATUS_FIELD(name, wire_name, write) STATUS_FIELD_##name,
#include "daemon/engine/status-json-table.h"
#undef STATUS_FIELD
        STATUS_FIELD_N_,
} StatusField;

static_assert(STATUS_FIELD_N_ <= 32, "a bit for each");

static const char *const field_names[] = {
#define STATUS_FIELD(name, wire_name, write) wire_name,
#include "daemon/engine/status-json-table.h"
#undef STATUS_FIELD
};

int status_fields(uint32_t *ret_fields, const json_t *names, Error *reterr_error) {
        uint32_t fields = 0, before;
        const json_t *name;
        size_t i;

        if (!names || json_is_null(names)) {
                *ret_fields = STATUS_FIELDS_ALL;
                return 0;
        }
        if (!json_is_array(names))
                return error_set(reterr_error, ERROR_INVALID, "fields: not an array of names");
        json_array_foreach((json_t *)names, i, name) {
                before = fields;
                for (unsigned field = 0; field < STATUS_FIELD_N_; field++)
                        if (json_is_string(name) && strcmp(field_names[field], json_string_value(name)) == 0)
                                fields |= 1u << field;
                if (fields == before)
                        return error_set(reterr_error, ERROR_INVALID, "fields[%zu]: unknown, or named twice",
                                         i);
        }
        *ret_fields = fields;
        return 0;
}

/* Takes a member back if its value came out as null. Return: whether it stays. */
static bool keep_member(JsonText *text, size_t begin, bool keeps_null) {
        if (keeps_null || json_text_failed(text) || memcmp(text->data + text->size - 4, "null", 4) != 0)
                return true;
        text->size = begin;
        return false;
}

void status_write(Process *process, uint32_t fields, JsonText *text) {
        const RegistryRun *run = &process->run;
        const char *before = "{\"";
        size_t begin;

#define STATUS_FIELD(name, wire_name, write)                                                                 \
        if (fields & 1u << STATUS_FIELD_##name) {                                                            \
                begin = text->size;                                                                          \
                json_text_raw(text, before, 2);                                                              \
                json_text_literal(text, wire_name "\":");                                                    \
                write;                                                                                       \
                if (keep_member(text, begin, fields == STATUS_FIELDS_ALL))                                   \
                        before = ",\"";                                                                      \
        }
#include "daemon/engine/status-json-table.h"
#undef STATUS_FIELD
        if (*before == '{')
                json_text_literal(text, "{");
        json_text_literal(text, "}");
}

json_t *status_to_json(Process *process, uint32_t fields) {
        CLEANUP(json_text_deinit) JsonText text = {};

        status_write(process, fields, &text);
        return json_text_failed(&text) ? NULL : json_loadb(text.data, text.size, 0, NULL);
}

json_t *run_to_json(const RegistryRun *run) {
        const char *state = "running";

        if (run->ended & RUN_FAILED)
                state = "failed";
        else if (run->ended & RUN_EXITED)
                state = "exited";
        else if (!(run->ended & RUN_SPAWNED))
                state = "starting";
        return json_pack("{s:I, s:I, s:I, s:o, s:I, s:o, s:s}", "run", (json_int_t)run->run, "pid",
                         (json_int_t)run->pid, "start_usec", (json_int_t)run->start_usec, "end_usec",
                         run->end_usec ? json_integer((json_int_t)run->end_usec) : json_null(),
                         "start_offset", (json_int_t)run->start_offset, "exit", exit_to_json(run), "state",
                         state);
}

json_t *status_of_run_to_json(Registry *registry, Process *process, uint32_t run) {
        json_t *object = status_to_json(process, STATUS_FIELDS_ALL);
        RegistryRun earlier;
        const RegistryRun *r = &earlier;

        if (!object || run == 0 || process->run.run == run ||
            registry_find_run(registry, process->id, run, &earlier, NULL) <= 0)
                return object;
        (void)json_object_set_new(object, "run", json_integer(run));
        (void)json_object_set_new(object, "state", json_string(r->ended & RUN_FAILED ? "failed" : "exited"));
        (void)json_object_set_new(object, "pid", json_null());
        (void)json_object_set_new(object, "start_usec", json_integer((json_int_t)r->start_usec));
        (void)json_object_set_new(object, "end_usec", json_integer((json_int_t)r->end_usec));
        (void)json_object_set_new(object, "exit", exit_to_json(r));
        (void)json_object_set_new(object, "stdout_closed", json_true());
        (void)json_object_set_new(object, "stderr_closed", json_true());
        (void)json_object_set_new(object, "tree_empty", json_true());
        return object;
}

static json_t *log_to_json(Process *process) {
        const char *state = "ok";
        uint64_t bytes;
        Log *log;

        if (process_log(process, &log, NULL) < 0 || log_disk_bytes(log, &bytes, NULL) < 0)
                return json_null();
        if (process->discard_fd >= 0)
                state = "discarding";
        else if (process->waits_for_disk || process->run.ended & RUN_FULL_DISK || process->waits_for_reader)
                state = "waiting";
        return json_pack("{s:I, s:I, s:I, s:b, s:I, s:s}", "begin", (json_int_t)log_begin(log), "end",
                         (json_int_t)log_end(log), "bytes", (json_int_t)bytes, "gaps",
                         log_lost(log) > 0 || log_begin(log) > 0, "lost_bytes", (json_int_t)log_lost(log),
                         "state", state);
}

static json_t *stdin_to_json(Process *process) {
        uint64_t accepted, taken;
        StdinLog *log;

        if (process_stdin_log(process, &log, NULL) < 0)
                return json_null();
        accepted = stdin_log_accepted(log);
        taken = process_input_taken(process);
        return json_pack("{s:I, s:I, s:I, s:b, s:I}", "accepted", (json_int_t)accepted, "taken",
                         (json_int_t)taken, "queued",
                         (json_int_t)(stdin_log_accepted(log) - stdin_log_taken(log)), "closed",
                         process->stdin_fd < 0 || stdin_log_eof(log), "limit", (json_int_t)LIMIT_STDIN_BYTES);
}

static json_t *lock_to_json(Process *process) {
        const StdinLock *lock = process->stdin_lock;
        uint64_t left = stdin_lock_left(lock);

        if (left == 0)
                return json_null();
        return json_pack("{s:s, s:I, s:I, s:I}", "holder", lock->holder, "pid", (json_int_t)lock->pid,
                         "expires_usec", (json_int_t)lock->expires_usec, "left_usec", (json_int_t)left);
}

static json_t *readers_to_json(Process *process) {
        json_t *array = json_array();
        uint64_t end = 0;
        Log *log;

        if (process_log(process, &log, NULL) >= 0)
                end = log_end(log);
        if (array)
                LIST_FOREACH(ProcessReader, reader, &process->readers, link)
                        (void)json_array_append_new(array,
                                                    json_pack("{s:I, s:I, s:b, s:I}", "pid",
                                                              (json_int_t)reader->client_pid, "offset",
                                                              (json_int_t)reader->offset, "lossless",
                                                              (int)reader->lossless, "behind_bytes",
                                                              (json_int_t)(end - MIN(end, reader->offset))));
        return array;
}

/* The lossless reader that is furthest behind, when the process waits for one. */
static json_t *waiting_for_to_json(Process *process) {
        const ProcessReader *last = NULL;

        if (!process->waits_for_reader)
                return json_null();
        LIST_FOREACH(ProcessReader, reader, &process->readers, link)
                if (reader->lossless && (!last || reader->offset < last->offset))
                        last = reader;
        return last ? json_integer(last->client_pid) : json_null();
}

static json_t *tree_to_json(Process *process) {
        Tree tree = process_tree(process);
        json_t *array = json_array();
        pid_t *pids;
        size_t n = 0;

        pids = calloc(TREE_PIDS_MAX, sizeof(*pids));
        if (array && pids && process->run.run != 0 && !(process->run.ended & RUN_EMPTY) &&
            tree_pids(process->host->tree_root, &tree, pids, TREE_PIDS_MAX, &n) >= 0)
                for (size_t i = 0; i < MIN(n, TREE_PIDS_MAX); i++)
                        (void)json_array_append_new(array, json_integer(pids[i]));
        free(pids);
        return array;
}

int show_add_details(Process *process, json_t *object) {
        ProcessConfig config;
        json_t *asked;
        char *text;
        int r;

        r = process->host->ops->load_config(process, &text, process->host->userdata);
        if (r < 0)
                return r;
        r = process_config_from_text(&config, text, NULL);
        free(text);
        if (r < 0)
                return r;
        asked = process_config_to_json(&config);
        process_config_deinit(&config);
        if (!asked || json_object_update_missing(object, asked) < 0) {
                json_decref(asked);
                return -ENOMEM;
        }
        json_decref(asked);
        if (!json_object_get(object, "timeout_usec"))
                (void)json_object_set_new(object, "timeout_usec", json_null());
        (void)json_object_set_new(object, "created_usec", json_integer((json_int_t)process->created_usec));
        (void)json_object_set_new(object, "log", log_to_json(process));
        (void)json_object_set_new(object, "stdin_log", stdin_to_json(process));
        (void)json_object_set_new(object, "stdin_lock", lock_to_json(process));
        (void)json_object_set_new(object, "subscribers", readers_to_json(process));
        (void)json_object_set_new(object, "waiting_for", waiting_for_to_json(process));
        (void)json_object_set_new(object, "tree", tree_to_json(process));
        return 0;
}
