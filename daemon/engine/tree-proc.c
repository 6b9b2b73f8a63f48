/* SPDX-License-Identifier: MIT */

#include "daemon/engine/tree-proc.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>

#include "common/fd.h"
#include "common/macro.h"
#include "daemon/engine/proc-stat.h"

typedef struct Row {
        ProcStat stat;
        bool below_keeper;
        bool member;
} Row;

typedef struct Table {
        Row *rows; /* owned; in order of pids */
        size_t n_rows;
        size_t n_allocated;
        ProcSet sessions; /* of members; the keeper's is not one of them */
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
                if (proc_stat_read((pid_t)strtol(entry->d_name, NULL, 10), &stat) == 0)
                        r = table_add(table, &stat);
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

/* Whether the row is a member on its own account, not for one that is related. */
static bool row_is_root(const Row *row, const TreeProcQuery *query) {
        bool is_main, in_session;
        ProcMark mark;

        is_main = row->stat.pid == query->main_pid && row->stat.parent == query->keeper_pid &&
                  (query->main_start == 0 || query->main_start == row->stat.start);
        in_session = query->main_pid > 0 && row->stat.session == query->main_pid;
        /* A child of another one is what its parent is: only those that the keeper has need a look. */
        if (!in_session && row->stat.parent != query->keeper_pid)
                return false;
        mark = proc_mark_read(row->stat.pid, query->mark);
        if (mark != PROC_MARK_NONE) /* another's mark: the pid of our main process is used again */
                return mark == PROC_MARK_SAME;
        return is_main || in_session;
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

int tree_proc_pids(const TreeProcQuery *query, ProcSet *set) {
        CLEANUP(table_deinit) Table table = {};
        pid_t keeper_session = 0;
        Row *row, *keeper;
        int r;

        r = table_read(&table);
        if (r < 0)
                return r;
        keeper = table_find(&table, query->keeper_pid);
        if (keeper)
                keeper_session = keeper->stat.session;
        table_keep_below(&table, query->keeper_pid);
        for (row = table.rows; row < table.rows + table.n_rows; row++)
                if (row_is_root(row, query)) {
                        r = table_join(&table, row, keeper_session);
                        if (r < 0)
                                return r;
                }
        r = table_close(&table, keeper_session);
        for (row = table.rows; r >= 0 && row < table.rows + table.n_rows; row++)
                if (row->member && row->stat.alive)
                        r = proc_set_add(set, &(ProcId){ row->stat.pid, row->stat.group, row->stat.start });
        return r;
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
