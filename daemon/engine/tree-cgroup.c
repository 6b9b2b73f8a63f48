/* SPDX-License-Identifier: MIT */

#include "daemon/engine/tree-cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/engine/cgroup-name.h"
#include "daemon/engine/cgroup-own.h"
#include "daemon/engine/tree-file.h"

#define DEPTH_MAX 32    /* of cgroups that a run made below its own; what is deeper is left to the kernel */
#define RUN_NAME_MAX 32 /* "PROCESS.RUN" */
#define FILE_NAME_MAX (RUN_NAME_MAX + 16)

struct Cgroups {
        int own_fd;     /* owned; OWN */
        int base_fd;    /* owned; OWN/pmux-… */
        char *own_path; /* owned; OWN as /proc/PID/cgroup shows it */
        char name[CGROUP_NAME_MAX];
};

static void free_cleanup(char **p) {
        free(*p);
}

static void run_name(char *ret_name, uint64_t process, uint32_t run) {
        (void)snprintf(ret_name, RUN_NAME_MAX, "%" PRIu64 ".%" PRIu32, process, run);
}

/* Opens OWN/pmux-…, after making it. */
static int cgroups_open_base(const Cgroups *cgroups) {
        int fd;

        if (mkdirat(cgroups->own_fd, cgroups->name, 0755) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(cgroups->own_fd, cgroups->name, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : fd;
}

/* Whether processes can be put below: moving one needs leave at the common ancestor too, which is OWN. */
static int cgroups_check(const Cgroups *cgroups) {
        CLEANUP(free) char *type = NULL;
        int r;

        if (faccessat(cgroups->own_fd, "cgroup.procs", W_OK, AT_EACCESS) < 0 ||
            faccessat(cgroups->base_fd, "cgroup.procs", W_OK, AT_EACCESS) < 0 ||
            faccessat(cgroups->base_fd, "cgroup.freeze", W_OK, AT_EACCESS) < 0)
                return -errno;
        r = tree_file_read(cgroups->base_fd, "cgroup.type", &type);
        if (r < 0)
                return r;
        return strcmp(type, "domain\n") == 0 ? 0 : -EOPNOTSUPP;
}

int cgroups_open(Cgroups **ret_cgroups, const char *instance, int keeper_pid, Error *reterr_error) {
        CLEANUP(cgroups_free) Cgroups *cgroups = NULL;
        int r;

        cgroups = calloc(1, sizeof(*cgroups));
        if (!cgroups)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold the cgroups");
        cgroups->own_fd = cgroups->base_fd = -1;
        r = cgroup_name_make(cgroups->name, instance, keeper_pid);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot name the cgroups of keeper %d", keeper_pid);
        r = cgroup_own_open(&cgroups->own_fd, &cgroups->own_path, reterr_error);
        if (r < 0)
                return r;
        cgroups->base_fd = r = cgroups_open_base(cgroups);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot make cgroup '%s' in '%s'", cgroups->name,
                                       cgroups->own_path);
        r = cgroups_check(cgroups);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot use cgroup '%s' in '%s'", cgroups->name,
                                       cgroups->own_path);
        *ret_cgroups = TAKE(cgroups);
        return 0;
}

Cgroups *cgroups_free(Cgroups *cgroups) {
        if (!cgroups)
                return NULL;
        if (cgroups->base_fd >= 0)
                (void)unlinkat(cgroups->own_fd, cgroups->name, AT_REMOVEDIR);
        (void)fd_close(cgroups->base_fd);
        (void)fd_close(cgroups->own_fd);
        free(cgroups->own_path);
        free(cgroups);
        return NULL;
}

int cgroups_own_fd(const Cgroups *cgroups) {
        return cgroups->own_fd;
}

/* Somebody may have tidied the empty directory away: then it is made anew. */
static int cgroups_reopen(Cgroups *cgroups) {
        int fd;

        fd = cgroups_open_base(cgroups);
        if (fd < 0)
                return fd;
        (void)fd_close(cgroups->base_fd);
        cgroups->base_fd = fd;
        return 0;
}

int cgroups_make(Cgroups *cgroups, uint64_t process, uint32_t run, int *ret_fd) {
        char name[RUN_NAME_MAX];
        int r;

        run_name(name, process, run);
        r = mkdirat(cgroups->base_fd, name, 0755) < 0 ? -errno : 0;
        if (r == -ENOENT || r == -ENODEV) {
                r = cgroups_reopen(cgroups);
                if (r < 0)
                        return r;
                r = mkdirat(cgroups->base_fd, name, 0755) < 0 ? -errno : 0;
        }
        if (r < 0 && r != -EEXIST)
                return r;
        r = cgroups_open_run(cgroups, process, run);
        if (r < 0) {
                (void)unlinkat(cgroups->base_fd, name,
                               AT_REMOVEDIR); /* or it would stand for an empty tree */
                return r;
        }
        *ret_fd = r;
        return 0;
}

int cgroups_remove(Cgroups *cgroups, uint64_t process, uint32_t run) {
        char name[RUN_NAME_MAX];
        int r;

        run_name(name, process, run);
        r = cgroup_remove(cgroups->base_fd, name);
        return r == -ENOENT ? 0 : r;
}

int cgroups_open_run(const Cgroups *cgroups, uint64_t process, uint32_t run) {
        char name[RUN_NAME_MAX];
        int fd;

        run_name(name, process, run);
        fd = openat(cgroups->base_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : fd;
}

bool cgroups_contains(const Cgroups *cgroups, uint64_t process, uint32_t run, pid_t pid) {
        CLEANUP(free) char *path = NULL;
        const char *rest;
        char name[RUN_NAME_MAX];
        size_t n;

        if (cgroup_path_of(pid, &path) < 0)
                return false;
        n = strcmp(cgroups->own_path, "/") == 0 ? 0 : strlen(cgroups->own_path);
        if (strncmp(path, cgroups->own_path, n) != 0 || path[n] != '/')
                return false;
        rest = path + n + 1;
        n = strlen(cgroups->name);
        if (strncmp(rest, cgroups->name, n) != 0 || rest[n] != '/')
                return false;
        rest += n + 1;
        run_name(name, process, run);
        n = strlen(name);
        return strncmp(rest, name, n) == 0 && (rest[n] == '/' || rest[n] == '\0');
}

/* The number behind "KEY " at the beginning of a line; -1 if there is none. */
static long long events_value(const char *text, const char *key) {
        size_t n = strlen(key);

        for (; text; text = strchr(text, '\n')) {
                if (*text == '\n')
                        text++;
                if (strncmp(text, key, n) == 0 && text[n] == ' ')
                        return strtoll(text + n + 1, NULL, 10);
        }
        return -1;
}

/* The value of a key in a small file of the kernel's. Return: 0 or more; -EIO: no such key; -errno. */
static int file_value(int dir_fd, const char *name, const char *key, long long *ret_value) {
        CLEANUP(fd_close) int fd = -1;
        char text[1024];
        ssize_t n;

        fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        n = read(fd, text, sizeof(text) - 1);
        if (n < 0)
                return -errno;
        text[n] = '\0';
        *ret_value = events_value(text, key);
        return *ret_value < 0 ? -EIO : 0;
}

static int populated(int dir_fd, const char *name) {
        long long value;
        int r;

        r = file_value(dir_fd, name, "populated", &value);
        return r < 0 ? r : value > 0;
}

static int oom(int dir_fd, const char *name) {
        long long value;

        return file_value(dir_fd, name, "oom_kill", &value) < 0 ? -1 : value > 0;
}

int cgroup_populated(int dir_fd) {
        return populated(dir_fd, "cgroup.events");
}

int cgroup_oom(int dir_fd) {
        return oom(dir_fd, "memory.events");
}

int cgroups_populated(const Cgroups *cgroups, uint64_t process, uint32_t run) {
        char name[FILE_NAME_MAX];

        (void)snprintf(name, sizeof(name), "%" PRIu64 ".%" PRIu32 "/cgroup.events", process, run);
        return populated(cgroups->base_fd, name);
}

int cgroups_oom(const Cgroups *cgroups, uint64_t process, uint32_t run) {
        char name[FILE_NAME_MAX];

        (void)snprintf(name, sizeof(name), "%" PRIu64 ".%" PRIu32 "/memory.events", process, run);
        return oom(cgroups->base_fd, name);
}

/* Calls fn for each directory right below dir_fd, until one call returns <0. */
static int cgroup_each_below(int dir_fd, unsigned depth, int (*fn)(int, const char *, unsigned, void *),
                             void *userdata) {
        struct dirent *entry;
        struct stat st;
        int fd, r = 0;
        DIR *dir;

        if (fstatat(dir_fd, "", &st, AT_EMPTY_PATH) < 0)
                return -errno;
        if (st.st_nlink <= 2 || depth == 0) /* a directory of cgroups counts those below it as links */
                return 0;
        fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        dir = fdopendir(fd);
        if (!dir) {
                r = -errno;
                (void)fd_close(fd);
                return r;
        }
        while (r >= 0 && (entry = readdir(dir)))
                if (entry->d_type == DT_DIR && strcmp(entry->d_name, ".") != 0 &&
                    strcmp(entry->d_name, "..") != 0)
                        r = fn(fd, entry->d_name, depth - 1, userdata);
        (void)closedir(dir);
        return r;
}

static int cgroup_add_pids(int dir_fd, unsigned depth, ProcSet *set);

static int cgroup_add_pids_below(int dir_fd, const char *name, unsigned depth, void *userdata) {
        CLEANUP(fd_close) int fd = -1;

        fd = openat(dir_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        return cgroup_add_pids(fd, depth, userdata);
}

static int cgroup_add_pids(int dir_fd, unsigned depth, ProcSet *set) {
        CLEANUP(free) char *text = NULL;
        char *p, *end;
        long pid;
        int r;

        r = tree_file_read(dir_fd, "cgroup.procs", &text);
        if (r == -ENODEV || r == -ENOENT)
                return 0;              /* removed meanwhile, so it was empty */
        if (r < 0 && r != -EOPNOTSUPP) /* a threaded one: its processes are listed further up */
                return r;
        for (p = r < 0 ? NULL : text; p && *p != '\0'; p = *end == '\n' ? end + 1 : end) {
                pid = strtol(p, &end, 10);
                if (end == p)
                        return -EIO;
                if (pid <= 0)
                        continue; /* of another pid namespace: no number of ours */
                r = proc_set_add(set, &(ProcId){ .pid = (pid_t)pid });
                if (r < 0)
                        return r;
        }
        return cgroup_each_below(dir_fd, depth, cgroup_add_pids_below, set);
}

int cgroup_pids(int dir_fd, ProcSet *set) {
        return cgroup_add_pids(dir_fd, DEPTH_MAX, set);
}

int cgroup_kill(int dir_fd) {
        int r;

        r = tree_file_write(dir_fd, "cgroup.kill", "1");
        return r == -ENOENT ? -EOPNOTSUPP : r;
}

int cgroup_freeze(int dir_fd, bool frozen) {
        return tree_file_write(dir_fd, "cgroup.freeze", frozen ? "1" : "0");
}

int cgroup_frozen(int dir_fd) {
        CLEANUP(free) char *text = NULL;
        int r;

        r = tree_file_read(dir_fd, "cgroup.freeze", &text);
        return r < 0 ? r : text[0] == '1';
}

static int cgroup_remove_below(int dir_fd, const char *name, unsigned depth, void *userdata) {
        CLEANUP(fd_close) int fd = -1;
        int r;

        if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
                return 0;
        if (errno != EBUSY)
                return -errno;
        fd = openat(dir_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        r = cgroup_each_below(fd, depth, cgroup_remove_below, userdata);
        if (r < 0)
                return r;
        return unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int cgroup_remove(int dir_fd, const char *name) {
        if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0)
                return 0;
        return errno == EBUSY ? cgroup_remove_below(dir_fd, name, DEPTH_MAX, NULL) : -errno;
}

typedef struct Sweep {
        bool (*wanted)(uint64_t process, uint32_t run, void *userdata);
        void *userdata;
} Sweep;

static int cgroup_sweep_one(int dir_fd, const char *name, unsigned depth, void *userdata) {
        const Sweep *sweep = userdata;
        uint64_t process;
        uint32_t run;
        int n = 0;

        (void)depth;
        if (sscanf(name, "%" SCNu64 ".%" SCNu32 "%n", &process, &run, &n) == 2 && name[n] == '\0' &&
            !sweep->wanted(process, run, sweep->userdata))
                (void)cgroup_remove(dir_fd, name);
        return 0;
}

void cgroups_sweep(Cgroups *cgroups, bool (*wanted)(uint64_t process, uint32_t run, void *userdata),
                   void *userdata) {
        Sweep sweep = { .wanted = wanted, .userdata = userdata };

        (void)cgroup_each_below(cgroups->base_fd, DEPTH_MAX, cgroup_sweep_one, &sweep);
}
