/* SPDX-License-Identifier: MIT */

#include "daemon/engine/tree-proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/macro.h"
#include "daemon/engine/proc-stat.h"
#include "daemon/engine/tree-file.h"

#define MARK_WAITS 5                /* of one look, for environments that are not there yet */
#define MARK_WAIT_NSEC (100 * 1000) /* each */

typedef struct Row {
        ProcStat stat;
        bool below_keeper;
        bool looked; /* at what it tells of itself */
        bool ending; /* it told that: its children are about to be the keeper's */
        bool member;
        bool walked; /* its children are in the table */
} Row;

typedef struct Table {
        Row *rows; /* owned; in order of pids */
        size_t n_rows;
        size_t n_allocated;
        ProcSet sessions; /* of members; the keeper's is not one of them */
        unsigned n_waits; /* for marks, that are left */
        bool unsure;      /* of one that may be a member it could not be told */
        bool is_last;     /* what ends during this look is seen by no later one */
} Table;

static void table_deinit(Table *table) {
        free(table->rows);
        proc_set_deinit(&table->sessions);
        *table = (Table){};
}

static void table_deinit_cleanup(Table *table) {
        table_deinit(table);
}

static int table_add(Table *table, const ProcStat *stat) {
        size_t n = table->n_allocated > 0 ? table->n_allocated * 2 : 256;
        Row *rows;

        if (table->n_rows == table->n_allocated) {
                rows = reallocarray(table->rows, n, sizeof(*rows));
                if (!rows)
                        return -ENOMEM;
                table->rows = rows;
                table->n_allocated = n;
        }
        table->rows[table->n_rows++] = (Row){ .stat = *stat };
        return 0;
}

static int row_compare(const void *a, const void *b) {
        const Row *x = a, *y = b;

        return (x->stat.pid > y->stat.pid) - (x->stat.pid < y->stat.pid);
}

static bool table_has_session(const Table *table, pid_t session) {
        return proc_set_has(&table->sessions, &(ProcId){ .pid = session });
}

static Row *table_find(const Table *table, pid_t pid) {
        Row key = { .stat.pid = pid };

        return table->n_rows > 0 ? bsearch(&key, table->rows, table->n_rows, sizeof(key), row_compare) : NULL;
}

static int table_read(Table *table) {
        struct dirent *entry;
        ProcStat stat;
        int r = 0;
        DIR *dir;

        dir = opendir("/proc");
        if (!dir)
                return -errno;
        while (r >= 0 && (entry = readdir(dir))) {
                if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
                        continue;
                r = proc_stat_read((pid_t)strtol(entry->d_name, NULL, 10), &stat);
                table->unsure |= r == -EAGAIN;
                if (r == 0)
                        r = table_add(table, &stat);
                else if (!tree_is_shortage(r))
                        r = 0; /* it has ended, or is hidden */
        }
        (void)closedir(dir);
        if (r >= 0 && table->n_rows > 0)
                qsort(table->rows, table->n_rows, sizeof(*table->rows), row_compare);
        return r;
}

/* Parents come before their children nearly always, as pids grow: then one pass is enough, and one to see it.
 */
static void table_keep_below(Table *table, pid_t keeper_pid) {
        bool changed = true;
        size_t n = 0;
        Row *row, *parent;

        while (changed) {
                changed = false;
                for (row = table->rows; row < table->rows + table->n_rows; row++) {
                        if (row->below_keeper || row->stat.pid == keeper_pid)
                                continue;
                        parent = table_find(table, row->stat.parent);
                        row->below_keeper =
                                row->stat.parent == keeper_pid || (parent && parent->below_keeper);
                        changed |= row->below_keeper;
                }
        }
        for (size_t i = 0; i < table->n_rows; i++)
                if (table->rows[i].below_keeper)
                        table->rows[n++] = table->rows[i];
        table->n_rows = n;
}

static int table_join(Table *table, Row *row, pid_t keeper_session) {
        row->member = true;
        if (row->stat.session == keeper_session || row->stat.session == 0)
                return 0;
        return proc_set_add(&table->sessions, &(ProcId){ .pid = row->stat.session });
}

/* The mark of a process; what is executing another program has one in a moment. */
static ProcMark table_mark(Table *table, pid_t pid, const char *mark) {
        static const struct timespec moment = { .tv_nsec = MARK_WAIT_NSEC };
        ProcMark result;

        while ((result = proc_mark_read(pid, mark)) == PROC_MARK_UNKNOWN && table->n_waits > 0) {
                table->n_waits--;
                (void)nanosleep(&moment, NULL);
        }
        return result;
}

/* Whether the row, which has come to the keeper or is in the main session, is a member on its own account,
 * not for one that is related. */
static bool table_is_root(Table *table, Row *row, const TreeProcQuery *query) {
        bool is_main, in_session;
        ProcMark mark;

        is_main = row->stat.pid == query->main_pid && row->stat.parent == query->keeper_pid &&
                  (query->main_start == 0 || query->main_start == row->stat.start);
        in_session = query->main_pid > 0 && row->stat.session == query->main_pid;
        mark = table_mark(table, row->stat.pid, query->mark);
        row->looked = true;
        row->ending = mark == PROC_MARK_GONE || row->stat.ending;
        if (mark == PROC_MARK_SAME || mark == PROC_MARK_OTHER)
                return mark == PROC_MARK_SAME; /* another's: the pid of our main process is used again */
        /* Who lived when it was read may have left a child that was not. */
        table->unsure |=
                mark == PROC_MARK_UNKNOWN || (mark == PROC_MARK_GONE && row->stat.alive && table->is_last);
        return is_main || in_session;
}

/* A child of another one is what its parent is: only those that the keeper has, or will have in a moment,
 * need a look. */
static bool table_needs_look(const Table *table, const Row *row, const TreeProcQuery *query) {
        const Row *parent;

        if (row->looked)
                return false;
        if (row->stat.parent == query->keeper_pid ||
            (query->main_pid > 0 && row->stat.session == query->main_pid))
                return true;
        parent = table_find(table, row->stat.parent);
        return parent && parent->ending;
}

/* Takes in what is related to a member, until no further one turns up. */
static int table_close(Table *table, pid_t keeper_session) {
        bool changed = true;
        Row *row, *parent;
        int r;

        while (changed) {
                changed = false;
                for (row = table->rows; row < table->rows + table->n_rows; row++) {
                        if (row->member)
                                continue;
                        parent = table_find(table, row->stat.parent);
                        if (!(parent && parent->member) && !table_has_session(table, row->stat.session))
                                continue;
                        r = table_join(table, row, keeper_session);
                        if (r < 0)
                                return r;
                        changed = true;
                }
        }
        return 0;
}

/* The long look: at all processes there are. */
static int table_look(Table *table, const TreeProcQuery *query, pid_t keeper_session) {
        bool changed = true;
        Row *row;
        int r;

        r = table_read(table);
        if (r < 0)
                return r;
        table_keep_below(table, query->keeper_pid);
        while (changed) {
                changed = false;
                for (row = table->rows; row < table->rows + table->n_rows; row++) {
                        if (!table_needs_look(table, row, query))
                                continue;
                        if (table_is_root(table, row, query)) {
                                r = table_join(table, row, keeper_session);
                                if (r < 0)
                                        return r;
                        }
                        changed |= row->ending;
                }
        }
        return table_close(table, keeper_session);
}

/* Adds the children that a list of pids names, if that is what they still are. */
static int table_add_listed(Table *table, const char *list, pid_t parent) {
        ProcStat stat;
        char *end;
        long pid;
        int r;

        for (;; list = end) {
                pid = strtol(list, &end, 10);
                if (end == list)
                        return 0;
                r = proc_stat_read((pid_t)pid, &stat);
                table->unsure |= r == -EAGAIN;
                if (r == 0 && stat.parent == parent)
                        r = table_add(table, &stat);
                if (tree_is_shortage(r))
                        return r;
        }
}

/* Adds the children of a process: the kernel lists them thread by thread. -EOPNOTSUPP: this one does not. */
static int table_add_children(Table *table, pid_t parent) {
        char path[sizeof("/proc//task") + 3 * sizeof(pid_t)], name[NAME_MAX + sizeof("/children")], *list;
        struct dirent *entry;
        int r = 0;
        DIR *dir;

        (void)snprintf(path, sizeof(path), "/proc/%d/task", parent);
        dir = opendir(path);
        if (!dir)
                return errno == ENOENT || errno == ESRCH ? 0 : -errno;
        while (r >= 0 && (entry = readdir(dir))) {
                if (entry->d_name[0] == '.')
                        continue;
                (void)snprintf(name, sizeof(name), "%s/children", entry->d_name);
                r = tree_file_read(dirfd(dir), name, &list);
                if (r == -ENOENT)
                        r = faccessat(dirfd(dir), entry->d_name, F_OK, 0) == 0 ? -EOPNOTSUPP : 0;
                else if (r == -ESRCH)
                        r = 0; /* the thread has ended meanwhile */
                else if (r >= 0) {
                        r = table_add_listed(table, list, parent);
                        free(list);
                }
        }
        (void)closedir(dir);
        return r;
}

/* The short look: at the keeper's children, and at what is below those that belong to the run. It may
 * overlook some while others are being reaped: the kernel promises no more of its lists. */
static int table_walk(Table *table, const TreeProcQuery *query, pid_t keeper_session) {
        bool changed = true;
        size_t n;
        int r;

        r = table_add_children(table, query->keeper_pid);
        for (size_t i = 0; r >= 0 && i < table->n_rows; i++)
                if (table_is_root(table, &table->rows[i], query))
                        r = table_join(table, &table->rows[i], keeper_session);
                else if (table->rows[i].ending)
                        r = table_add_children(table, table->rows[i].stat.pid);
        while (r >= 0 && changed) {
                changed = false;
                for (size_t i = 0; r >= 0 && i < table->n_rows; i++) {
                        if (!table->rows[i].member && table_has_session(table, table->rows[i].stat.session)) {
                                r = table_join(table, &table->rows[i], keeper_session);
                                changed = true;
                        }
                        if (r < 0 || !table->rows[i].member || table->rows[i].walked)
                                continue;
                        table->rows[i].walked = true;
                        n = table->n_rows;
                        r = table_add_children(table, table->rows[i].stat.pid);
                        for (; r >= 0 && n < table->n_rows; n++)
                                r = table_join(table, &table->rows[n], keeper_session);
                        changed = true;
                }
        }
        return r;
}

static int table_fill(Table *table, const TreeProcQuery *query, bool thorough, unsigned n_waits) {
        pid_t keeper_session = 0;
        ProcStat keeper;
        int r = -EOPNOTSUPP;

        if (proc_stat_read(query->keeper_pid, &keeper) == 0)
                keeper_session = keeper.session;
        table->n_waits = n_waits;
        if (!thorough)
                r = table_walk(table, query, keeper_session);
        if (r == -EOPNOTSUPP) {
                table_deinit(table);
                table->n_waits = n_waits;
                table->is_last = thorough;
                r = table_look(table, query, keeper_session);
        }
        return r;
}

int tree_proc_pids(const TreeProcQuery *query, bool thorough, ProcSet *set) {
        CLEANUP(table_deinit) Table table = {};
        int r;

        r = table_fill(&table, query, thorough, MARK_WAITS);
        for (const Row *row = table.rows; r >= 0 && row < table.rows + table.n_rows; row++)
                if (row->member && row->stat.alive)
                        r = proc_set_add(set, &(ProcId){ row->stat.pid, row->stat.group, row->stat.start });
        return r;
}

/* One look for tree_proc_empty(): 1, 0 or -errno; *ret_seen tells one set of processes looked at from
 * another. */
static int tree_proc_look(const TreeProcQuery *query, bool thorough, uint64_t *ret_seen) {
        CLEANUP(table_deinit) Table table = {};
        uint64_t seen = UINT64_C(0xcbf29ce484222325);
        int r;

        r = table_fill(&table, query, thorough, 0);
        if (r < 0)
                return r;
        for (const Row *row = table.rows; row < table.rows + table.n_rows; row++) {
                if (row->member && row->stat.alive)
                        return 0;
                seen = (seen ^ (uint64_t)row->stat.pid) * UINT64_C(0x100000001b3);
        }
        *ret_seen = seen;
        return table.unsure ? -EAGAIN : 1;
}

int tree_proc_empty(const TreeProcQuery *query) {
        uint64_t seen[2];
        int r;

        if (tree_proc_main_alive(query))
                return 0;
        for (unsigned i = 0; i < 2; i++) {
                r = tree_proc_look(query, false, &seen[i]);
                if (r <= 0)
                        return r;
        }
        return seen[0] == seen[1] ? 1 : tree_proc_look(query, true, seen);
}

bool tree_proc_main_alive(const TreeProcQuery *query) {
        ProcStat stat;

        if (query->main_pid <= 0 || query->main_start == 0 || query->main_start == TREE_PROC_GONE)
                return false; /* not known well enough to do without the full look */
        return proc_stat_read(query->main_pid, &stat) == 0 && stat.start == query->main_start && stat.alive &&
               proc_mark_read(query->main_pid, query->mark) != PROC_MARK_OTHER;
}

bool tree_proc_is(const ProcId *id, const void *userdata) {
        ProcStat stat;

        (void)userdata;
        return proc_stat_read(id->pid, &stat) == 0 && stat.start == id->start && stat.alive;
}

int tree_proc_signal(const ProcId *id, int signal, TreeProcCheckFn check, const void *userdata) {
        CLEANUP(fd_close) int fd = -1;
        int r;

        fd = pidfd_open(id->pid, 0);
        if (fd < 0 && errno != ENOSYS)
                return -errno;
        if (!check(id, userdata))
                return -ESRCH;
        /* Without pidfds the check is as close as one can get. */
        r = fd >= 0 ? pidfd_send_signal(fd, signal, NULL, 0) : kill(id->pid, signal);
        return r < 0 ? -errno : 0;
}
