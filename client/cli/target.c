/* SPDX-License-Identifier: MIT */

#include "client/cli/target.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/exit-status.h"
#include "client/cli/text.h"
#include "common/bytes.h"

static bool is_glob(const char *word) {
        return strpbrk(word, "*?[") != NULL;
}

static bool is_id(const char *word) {
        return *word && strlen(word) < 19 && strspn(word, "0123456789") == strlen(word);
}

static json_t *word_to_json(const char *word) {
        return is_id(word) ? json_integer((json_int_t)strtoll(word, NULL, 10)) : bytes_string_to_json(word);
}

bool target_matches(const json_t *status, const char *glob) {
        CLEANUP(bytes_deinit) Bytes name = {};
        const json_t *json = json_object_get(status, "name");

        if (!json || json_is_null(json) || bytes_from_json(json, "name", &name, NULL) < 0)
                return false;
        return fnmatch(glob, name.data, 0) == 0;
}

bool target_is_running(const json_t *status) {
        const char *state = json_string_value(json_object_get(status, "state"));

        return state && strcmp(state, "exited") != 0 && strcmp(state, "failed") != 0;
}

static bool is_meant(const json_t *status, TargetAll which) {
        const char *state = json_string_value(json_object_get(status, "state"));

        switch (which) {
        case TARGET_ALL_RUNNING:
                return target_is_running(status);
        case TARGET_ALL_PAUSED:
                return state && strcmp(state, "paused") == 0;
        case TARGET_ALL_ENDED:
                return !target_is_running(status);
        default:
                return true;
        }
}

static bool contains(const json_t *array, const json_t *value) {
        json_t *item;
        size_t i;

        json_array_foreach(array, i, item) if (json_equal(item, value)) return true;
        return false;
}

/* Adds the ids of the processes that match; each once. Returns how many matched. */
static size_t add_matching(json_t *targets, const json_t *list, const char *glob, TargetAll which) {
        json_t *status, *id;
        size_t i, n = 0;

        json_array_foreach(json_object_get(list, "processes"), i, status) {
                if (glob ? !target_matches(status, glob) : !is_meant(status, which))
                        continue;
                n++;
                id = json_object_get(status, "id");
                if (id && !contains(targets, id))
                        (void)json_array_append(targets, id);
        }
        return n;
}

static int not_found(Cli *cli, const char *glob) {
        Error error = {};
        char *escaped = text_escape(glob, strlen(glob));

        (void)error_set(&error, ERROR_NOT_FOUND, "no process has a name that matches '%s'", escaped);
        free(escaped);
        return cli_fail_error(cli, &error);
}

static int add_word(Cli *cli, json_t *targets, json_t **list, const char *word) {
        json_t *value;
        int r;

        if (!*word)
                return cli_usage(cli, "a target is empty");
        if (!is_glob(word)) {
                value = word_to_json(word);
                if (value && contains(targets, value)) {
                        json_decref(value);
                        return 0;
                }
                return json_array_append_new(targets, value) < 0 ? cli_out_of_memory() : 0;
        }
        if (!*list) {
                r = cli_call(cli, "list", json_object(), list);
                if (r != 0)
                        return r;
        }
        return add_matching(targets, *list, word, TARGET_ALL_ANY) == 0 ? not_found(cli, word) : 0;
}

int targets_resolve(Cli *cli, char **words, int n_words, bool all, TargetAll which, json_t **ret_targets) {
        json_auto_t *targets = json_array();
        json_auto_t *list = NULL;
        int r;

        if (!targets)
                return cli_out_of_memory();
        if (all && n_words > 0)
                return cli_usage(cli, "--all takes no targets");
        if (!all && n_words == 0)
                return cli_usage(cli, "a target is missing");
        if (all) {
                r = cli_call(cli, "list", json_object(), &list);
                if (r != 0)
                        return r;
                (void)add_matching(targets, list, NULL, which);
                if (json_array_size(targets) == 0)
                        cli_inform(cli, "there is no such process");
        }
        for (int i = 0; i < n_words; i++) {
                r = add_word(cli, targets, &list, words[i]);
                if (r != 0)
                        return r;
        }
        *ret_targets = TAKE(targets);
        return 0;
}

int target_resolve(Cli *cli, char **words, int n_words, json_t **ret_target) {
        json_auto_t *targets = NULL;
        int r;

        if (n_words > 1)
                return cli_usage(cli, "one target is taken, not %d", n_words);
        r = targets_resolve(cli, words, n_words, false, TARGET_ALL_NONE, &targets);
        if (r != 0)
                return r;
        if (json_array_size(targets) > 1)
                return cli_usage(cli, "'%s' matches more than one process", words[0]);
        *ret_target = json_incref(json_array_get(targets, 0));
        return 0;
}
