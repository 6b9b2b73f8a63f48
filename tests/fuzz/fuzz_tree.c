/* SPDX-License-Identifier: MIT */

/* What the kernel shows of processes and mounts: two texts, parted by a NUL, and names of cgroups. */

#include "daemon/engine/cgroup-name.h"
#include "daemon/engine/cgroup-own.h"
#include "daemon/engine/proc-stat.h"
#include "tests/fuzz/fuzz-target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *text = fuzz_string(data, size), *path;
        const char *second = text + strlen(text) + (strlen(text) < size);
        ProcStat stat;

        (void)proc_stat_parse(text, &stat);
        (void)cgroup_name_is_dead(text);
        for (size_t i = 0; i < 3; i++)
                if (cgroup_own_path(text, second, i, &path) == 0) {
                        assert(path[0] != '\0');
                        free(path);
                }
        free(text);
        return 0;
}
