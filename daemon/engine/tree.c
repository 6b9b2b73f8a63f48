/* SPDX-License-Identifier: MIT */

#include "daemon/engine/tree.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/engine/proc-set.h"
#include "daemon/engine/proc-stat.h"
#include "daemon/engine/tree-cgroup.h"
#include "daemon/engine/tree-file.h"
#include "daemon/engine/tree-proc.h"
#include "daemon/engine/tree-stale.h"
#include "daemon/engine/tree-watch.h"

#define ROUNDS_MAX 64
#define RELEASED_MAX 64      /* so many may wait to be tidied away */
#define MARK_INSTANCE_MAX 16 /* digits of the instance in a mark */
#define START_LATER                                                                                          \
        (UINT64_MAX - 1) /* as a start time: a run that has its cgroup needs none; see scope_query() */

/* A run whose cgroup goes when there is time: removing one takes as long as starting a program's exit to be
 * told. */
typedef struct Released {
        uint64_t process;
        uint32_t run;
} Released;

struct TreeRoot {
        Cgroups *cgroups;                /* owned; NULL: the fallback */
        Released released[RELEASED_MAX]; /* wait for tree_root_tidy() */
        size_t n_released;
        int ahead_fd; /* owned; the cgroup that was made ahead; -1: none */
        uint64_t ahead_process;
        uint32_t ahead_run;
        TreeWatch watch;
        int keeper_pid;
        char mark_instance[MARK_INSTANCE_MAX + 1];
        Error why; /* why there are no cgroups */
};

/* One run while something is done to it: its cgroup, or what to look for in /proc. */
typedef struct Scope {
        const TreeRoot *root; /* borrowed */
        const Tree *tree;     /* borrowed */
        int dir_fd;           /* owned; -1: the fallback */
} Scope;

static void scope_close_cleanup(Scope *scope) {
        scope->dir_fd = fd_close(scope->dir_fd);
}

static bool cgroups_wanted(void) {
        const char *value = getenv("PMUX_NO_CGROUP");

        return !value || strcmp(value, "1") != 0;
}

int tree_root_open(TreeRoot **ret_root, const char *instance, int keeper_pid, Error *reterr_error) {
        TreeRoot *root;
        int r = 0;

        if (instance[0] == '\0' || strspn(instance, "0123456789abcdefABCDEF") != strlen(instance) ||
            strlen(instance) > 64)
                return error_set(reterr_error, ERROR_INVALID, "instance '%s' is not 1 to 64 hex digits",
                                 instance);
        root = calloc(1, sizeof(*root));
        if (!root)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold the root of the trees");
        root->keeper_pid = keeper_pid;
        root->watch.fd = root->ahead_fd = -1;
        (void)snprintf(root->mark_instance, sizeof(root->mark_instance), "%.*s", MARK_INSTANCE_MAX, instance);
        if (!cgroups_wanted()) {
                (void)error_set(&root->why, ERROR_UNSUPPORTED, "PMUX_NO_CGROUP=1 asks to do without cgroups");
        } else {
                r = cgroups_open(&root->cgroups, instance, keeper_pid, &root->why);
                if (r == 0)
                        tree_watch_init(&root->watch);
        }
        if (tree_is_shortage(r)) { /* it must not decide for the fallback */
                if (reterr_error)
                        *reterr_error = root->why;
                (void)tree_root_free(root);
                return r;
        }
        *ret_root = root;
        return 0;
}

static void tree_drop_ahead(TreeRoot *root) {
        if (root->ahead_fd >= 0)
                (void)cgroups_remove(root->cgroups, root->ahead_process, root->ahead_run);
        root->ahead_fd = fd_close(root->ahead_fd);
}

void tree_root_clear(TreeRoot *root) {
        tree_root_tidy(root);
        tree_drop_ahead(root);
}

TreeRoot *tree_root_free(TreeRoot *root) {
        if (!root)
                return NULL;
        tree_root_clear(root);
        tree_watch_deinit(&root->watch);
        (void)cgroups_free(root->cgroups);
        free(root);
        return NULL;
}

bool tree_root_has_cgroups(const TreeRoot *root) {
        return root->cgroups;
}

int tree_root_inotify_fd(const TreeRoot *root) {
        return root->watch.fd;
}

const char *tree_root_why(const TreeRoot *root) {
        return root->why.text;
}

int tree_root_dispatch(TreeRoot *root, void (*fn)(uint64_t process, uint32_t run, void *userdata),
                       void *userdata) {
        return tree_watch_dispatch(&root->watch, fn, userdata);
}

static uint64_t main_start(int main_pid, int keeper_pid) {
        ProcStat stat;

        return proc_stat_read(main_pid, &stat) == 0 && stat.parent == keeper_pid ? stat.start
                                                                                 : TREE_PROC_GONE;
}

void tree_init(TreeRoot *root, Tree *ret_tree, uint64_t process, uint32_t run, int main_pid) {
        *ret_tree = (Tree){
                .process = process,
                .run = run,
                .main_pid = main_pid,
                .keeper_pid = root->keeper_pid,
        };
        if (main_pid > 0)
                ret_tree->main_start = root->cgroups ? START_LATER : main_start(main_pid, root->keeper_pid);
        (void)snprintf(ret_tree->mark, sizeof(ret_tree->mark), "PMUX_MARK=%s.%" PRIu64 ".%" PRIu32,
                       root->mark_instance, process, run);
}

int tree_prepare(TreeRoot *root, const Tree *tree, int *ret_fd, Error *reterr_error) {
        int r;

        *ret_fd = -1;
        if (!root->cgroups)
                return 0;
        for (size_t i = 0; i < root->n_released; i++) /* a run that could not be started is tried again */
                if (root->released[i].process == tree->process && root->released[i].run == tree->run)
                        root->released[i] = root->released[--root->n_released];
        if (root->ahead_fd >= 0 && root->ahead_process == tree->process && root->ahead_run == tree->run) {
                *ret_fd = TAKE_FD(root->ahead_fd);
                return 0;
        }
        r = cgroups_make(root->cgroups, tree->process, tree->run, ret_fd);
        if (tree_is_shortage(r))
                return error_set_errno(reterr_error, r, "cannot make the cgroup of process %" PRIu64,
                                       tree->process);
        return 0;
}

/* Opens the directory of the run's cgroup; where there is none, *ret_fd is -1: the fallback. */
static int tree_open_dir(const TreeRoot *root, const Tree *tree, int *ret_fd) {
        int fd = root->cgroups ? cgroups_open_run(root->cgroups, tree->process, tree->run) : -ENOENT;

        if (fd < 0 && fd != -ENOENT && fd != -ENODEV)
                return fd;
        *ret_fd = fd < 0 ? -1 : fd;
        return 0;
}

static int scope_open(Scope *ret_scope, const TreeRoot *root, const Tree *tree) {
        *ret_scope = (Scope){ .root = root, .tree = tree, .dir_fd = -1 };
        return tree_open_dir(root, tree, &ret_scope->dir_fd);
}

static TreeProcQuery scope_query(const Scope *scope) {
        return (TreeProcQuery){
                .keeper_pid = scope->tree->keeper_pid,
                .main_pid = scope->tree->main_pid,
                .main_start = scope->tree->main_start == START_LATER
                                      ? main_start(scope->tree->main_pid, scope->tree->keeper_pid)
                                      : scope->tree->main_start,
                .mark = scope->tree->mark,
        };
}

static int scope_pids(const Scope *scope, bool thorough, ProcSet *set) {
        TreeProcQuery query;

        if (scope->dir_fd >= 0)
                return cgroup_pids(scope->dir_fd, set);
        query = scope_query(scope);
        return tree_proc_pids(&query, thorough, set);
}

int tree_watch(TreeRoot *root, const Tree *tree) {
        CLEANUP(fd_close) int dir_fd = -1;
        int r;

        r = tree_open_dir(root, tree, &dir_fd);
        if (r < 0 || dir_fd < 0)
                return r;
        r = tree_watch_add(&root->watch, dir_fd, tree->process, tree->run);
        if (r == -ENOSPC || r == -ENOENT)
                return 0;
        return r < 0 ? r : 1;
}

void tree_release(TreeRoot *root, const Tree *tree) {
        if (!root->cgroups)
                return;
        for (size_t i = 0; i < root->n_released; i++)
                if (root->released[i].process == tree->process && root->released[i].run == tree->run)
                        return;
        if (root->n_released == RELEASED_MAX)
                tree_root_tidy(root);
        root->released[root->n_released++] = (Released){ .process = tree->process, .run = tree->run };
}

void tree_root_tidy(TreeRoot *root) {
        for (; root->n_released > 0; root->n_released--) {
                const Released *released = &root->released[root->n_released - 1];

                tree_watch_remove(&root->watch, released->process, released->run);
                (void)cgroups_remove(root->cgroups, released->process, released->run);
        }
}

void tree_root_sweep(TreeRoot *root, bool (*wanted)(uint64_t process, uint32_t run, void *userdata),
                     void *userdata) {
        if (root->cgroups)
                cgroups_sweep(root->cgroups, wanted, userdata);
}

bool tree_root_untidy(const TreeRoot *root) {
        return root->n_released > 0;
}

void tree_prepare_ahead(TreeRoot *root, uint64_t process, uint32_t run) {
        if (!root->cgroups ||
            (root->ahead_fd >= 0 && root->ahead_process == process && root->ahead_run == run))
                return;
        tree_drop_ahead(root);
        if (cgroups_make(root->cgroups, process, run, &root->ahead_fd) < 0)
                root->ahead_fd = -1;
        root->ahead_process = process;
        root->ahead_run = run;
}

int tree_empty(TreeRoot *root, const Tree *tree) {
        const Scope scope = { .root = root, .tree = tree, .dir_fd = -1 };
        TreeProcQuery query;
        int r;

        r = root->cgroups ? cgroups_populated(root->cgroups, tree->process, tree->run) : -ENOENT;
        if (r != -ENODEV && r != -ENOENT)
                return r < 0 ? r : !r;
        query = scope_query(&scope);
        return tree_proc_empty(&query);
}

int tree_pids(TreeRoot *root, const Tree *tree, pid_t *ret_pids, size_t max, size_t *ret_n) {
        CLEANUP(scope_close) Scope scope = { .dir_fd = -1 };
        CLEANUP(proc_set_deinit) ProcSet set = {};
        int r;

        r = scope_open(&scope, root, tree);
        if (r >= 0)
                r = scope_pids(&scope, false, &set);
        if (r < 0)
                return r;
        for (size_t i = 0; i < MIN(max, set.n_ids); i++)
                ret_pids[i] = set.ids[i].pid;
        *ret_n = set.n_ids;
        return 0;
}

static bool scope_check(const ProcId *id, const void *userdata) {
        const Scope *scope = userdata;

        if (scope->dir_fd < 0)
                return tree_proc_is(id, NULL);
        return cgroups_contains(scope->root->cgroups, scope->tree->process, scope->tree->run, id->pid);
}

static bool is_protected(const Scope *scope, pid_t pid) {
        return pid <= 1 || pid == getpid() || pid == scope->root->keeper_pid;
}

static bool scope_has_protected(const Scope *scope, const ProcSet *set) {
        for (size_t i = 0; i < set->n_ids; i++)
                if (is_protected(scope, set->ids[i].pid))
                        return true;
        return false;
}

/* Whether the cgroup can be used on all that is in it at once: not if somebody moved us into it. */
static bool scope_is_ours(const Scope *scope) {
        CLEANUP(proc_set_deinit) ProcSet set = {};

        return scope->dir_fd >= 0 && cgroup_pids(scope->dir_fd, &set) == 0 &&
               !scope_has_protected(scope, &set);
}

/* What has been done to a scope so far. */
typedef struct Tally {
        ProcSet seen;  /* those that were sent the signal, or could not be */
        size_t n_sent; /* those that took it */
        int error;     /* -errno of the first that could not be; 0 */
} Tally;

static void tally_deinit_cleanup(Tally *tally) {
        proc_set_deinit(&tally->seen);
}

static void tally_send(Tally *tally, const Scope *scope, const ProcId *id, int signal) {
        int r;

        r = tree_proc_signal(id, signal, scope_check, scope);
        if (r == 0)
                tally->n_sent++;
        else if (r != -ESRCH && tally->error == 0)
                tally->error = r;
}

/* Stops the process group of a process, in which nobody can fork past a signal to all: what keeps forking and
 * ending may never live long enough to be found in /proc and signalled by its number. A group's number is in
 * use for as long as it has members, and a wrong one, in the instant in which the last of them ends, is
 * stopped only. */
static void group_stop(const Scope *scope, const ProcId *id) {
        if (id->group <= 1 || id->group == getpgid(0) || id->group == getpgid(scope->root->keeper_pid))
                return;
        (void)kill(-id->group, SIGSTOP);
}

/* Signals those of the scope that were not seen before, round after round, until there is no further one. */
static int tally_rounds(Tally *tally, const Scope *scope, int signal) {
        bool found = true, thorough = false;
        pid_t group;
        int r;

        for (unsigned i = 0; (found || !thorough) && i < ROUNDS_MAX; i++) {
                CLEANUP(proc_set_deinit) ProcSet now = {};

                thorough = !found;
                found = false;
                group = 0;
                r = scope_pids(scope, thorough, &now);
                if (r < 0)
                        return r;
                for (const ProcId *id = now.ids; id < now.ids + now.n_ids; id++) {
                        if (is_protected(scope, id->pid) || proc_set_has(&tally->seen, id))
                                continue;
                        r = proc_set_add(&tally->seen, id);
                        if (r < 0)
                                return r;
                        if (signal == SIGSTOP && id->group != group)
                                group_stop(scope, id);
                        group = id->group;
                        tally_send(tally, scope, id, signal);
                        found = true;
                }
        }
        return 0;
}

/* Where there is no cgroup.kill: first nobody may fork any more, then all are killed. */
static int tally_kill(Tally *tally, const Scope *scope) {
        CLEANUP(tally_deinit) Tally stopped = {};
        bool thaw = false;
        int r;

        if (scope_is_ours(scope)) {
                thaw = cgroup_frozen(scope->dir_fd) == 0 && cgroup_freeze(scope->dir_fd, true) == 0;
        } else {
                r = tally_rounds(&stopped, scope, SIGSTOP);
                if (r < 0)
                        return r;
                /* Those that were found now may not be found again, once their parents have ended. */
                tally->seen = stopped.seen;
                stopped.seen = (ProcSet){};
                for (size_t i = 0; i < tally->seen.n_ids; i++)
                        tally_send(tally, scope, &tally->seen.ids[i], SIGKILL);
        }
        r = tally_rounds(tally, scope, SIGKILL);
        if (thaw)
                (void)cgroup_freeze(scope->dir_fd, false);
        return r;
}

/* Kills by cgroup.kill. Return: 1; 0: it cannot be done so; -errno. */
static int scope_kill(const Scope *scope, size_t *ret_n) {
        CLEANUP(proc_set_deinit) ProcSet set = {};
        int r;

        if (scope->dir_fd < 0)
                return 0;
        r = cgroup_pids(scope->dir_fd, &set);
        if (r < 0)
                return r;
        if (scope_has_protected(scope, &set))
                return 0;
        r = cgroup_kill(scope->dir_fd);
        if (r < 0)
                return r == -EOPNOTSUPP ? 0 : r;
        *ret_n = set.n_ids;
        return 1;
}

int tree_signal(TreeRoot *root, const Tree *tree, int signal, size_t *ret_n, Error *reterr_error) {
        CLEANUP(scope_close) Scope scope = { .dir_fd = -1 };
        CLEANUP(tally_deinit) Tally tally = {};
        int r;

        r = scope_open(&scope, root, tree);
        if (r == 0 && signal == SIGKILL) {
                r = scope_kill(&scope, ret_n);
                if (r > 0)
                        return 0;
        }
        if (r == 0)
                r = signal == SIGKILL ? tally_kill(&tally, &scope) : tally_rounds(&tally, &scope, signal);
        if (r == 0 && tally.n_sent == 0)
                r = tally.error;
        if (r < 0)
                return error_set_errno(reterr_error, r,
                                       "cannot send signal %d to the tree of process %" PRIu64, signal,
                                       tree->process);
        *ret_n = tally.n_sent;
        return 0;
}

int tree_freeze(TreeRoot *root, const Tree *tree, bool frozen, Error *reterr_error) {
        CLEANUP(scope_close) Scope scope = { .dir_fd = -1 };
        CLEANUP(tally_deinit) Tally tally = {};
        int r;

        r = scope_open(&scope, root, tree);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot open the cgroup of process %" PRIu64,
                                       tree->process);
        if (scope_is_ours(&scope)) {
                r = cgroup_freeze(scope.dir_fd, frozen);
        } else {
                r = tally_rounds(&tally, &scope, frozen ? SIGSTOP : SIGCONT);
                if (r == 0 && tally.n_sent == 0)
                        r = tally.error;
        }
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot %s the tree of process %" PRIu64,
                                       frozen ? "freeze" : "continue", tree->process);
        return 0;
}

int tree_oom(TreeRoot *root, const Tree *tree) {
        return root->cgroups ? cgroups_oom(root->cgroups, tree->process, tree->run) : -1;
}

int tree_kill_stale(TreeRoot *root) {
        return root->cgroups ? tree_stale_kill(cgroups_own_fd(root->cgroups)) : 0;
}
