/* SPDX-License-Identifier: MIT */

#include "daemon/engine/proc-set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void proc_set_deinit(ProcSet *set) {
        free(set->ids);
        *set = (ProcSet){};
}

/* The place of the first process whose pid is not below 'pid'. */
static size_t proc_set_find(const ProcSet *set, pid_t pid) {
        size_t low = 0, high = set->n_ids, middle;

        if (high > 0 && set->ids[high - 1].pid < pid)
                return high; /* /proc and cgroup.procs come in this order, nearly always */
        while (low < high) {
                middle = low + (high - low) / 2;
                if (set->ids[middle].pid < pid)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

int proc_set_add(ProcSet *set, const ProcId *id) {
        size_t i = proc_set_find(set, id->pid), n;
        ProcId *ids;

        if (i < set->n_ids && set->ids[i].pid == id->pid) {
                set->ids[i] = *id;
                return 0;
        }
        if (set->n_ids == set->n_allocated) {
                n = set->n_allocated > 0 ? set->n_allocated * 2 : 16;
                ids = reallocarray(set->ids, n, sizeof(*ids));
                if (!ids)
                        return -ENOMEM;
                set->ids = ids;
                set->n_allocated = n;
        }
        memmove(set->ids + i + 1, set->ids + i, (set->n_ids - i) * sizeof(*set->ids));
        set->ids[i] = *id;
        set->n_ids++;
        return 0;
}

bool proc_set_has(const ProcSet *set, const ProcId *id) {
        size_t i = proc_set_find(set, id->pid);

        return i < set->n_ids && set->ids[i].pid == id->pid && set->ids[i].start == id->start;
}
