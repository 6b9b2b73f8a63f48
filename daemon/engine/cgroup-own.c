/* SPDX-License-Identifier: MIT */

#include "daemon/engine/cgroup-own.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/engine/tree-file.h"

static void free_cleanup(char **p) {
        free(*p);
}

/* The own cgroup's path out of the line of the unified hierarchy. */
static int cgroup_text_path(const char *cgroup, char **ret_path) {
        const char *line = cgroup, *end;
        char *path;

        while (strncmp(line, "0::", 3) != 0) {
                line = strchr(line, '\n');
                if (!line)
                        return -ENOENT;
                line++;
        }
        line += 3;
        end = strchrnul(line, '\n');
        if (*line != '/')
                return -ENOENT;
        path = strndup(line, (size_t)(end - line));
        if (!path)
                return -ENOMEM;
        *ret_path = path;
        return 0;
}

static bool is_octal(char c) {
        return c >= '0' && c <= '7';
}

/* Blank, newline and backslash stand as \ooo in mountinfo. */
static void mountinfo_unescape(char *text) {
        char *out = text;

        for (; *text != '\0'; text++)
                if (text[0] == '\\' && is_octal(text[1]) && is_octal(text[2]) && is_octal(text[3])) {
                        *out++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
                        text += 3;
                } else {
                        *out++ = *text;
                }
        *out = '\0';
}

/* A line of mountinfo: "id parent major:minor ROOT POINT options [tags] - TYPE source superoptions". */
static bool mountinfo_line_read(char *line, const char **ret_root, const char **ret_point) {
        char *separator = strstr(line, " - "), *save, *fields[5];

        if (!separator || strncmp(separator, " - cgroup2 ", 11) != 0)
                return false;
        *separator = '\0';
        for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
                fields[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
                if (!fields[i])
                        return false;
        }
        mountinfo_unescape(fields[3]);
        mountinfo_unescape(fields[4]);
        *ret_root = fields[3];
        *ret_point = fields[4];
        return true;
}

/* What follows 'root' in 'path', "" if they are the same; NULL if path is not at or below root. */
static const char *path_below(const char *path, const char *root) {
        size_t n = strlen(root);

        if (n > 0 && root[n - 1] == '/')
                n--;
        if (strncmp(path, root, n) != 0 || (path[n] != '/' && path[n] != '\0'))
                return NULL;
        path += n;
        if (strstr(path, "/../") || (strlen(path) >= 3 && strcmp(path + strlen(path) - 3, "/..") == 0))
                return NULL; /* outside of our cgroup namespace: the mount does not show it */
        return strcmp(path, "/") == 0 ? "" : path;
}

int cgroup_own_path(const char *cgroup, const char *mountinfo, size_t nth, char **ret_path) {
        CLEANUP(free) char *path = NULL, *lines = NULL;
        const char *root, *point, *below;
        char *line, *save;
        int r;

        r = cgroup_text_path(cgroup, &path);
        if (r < 0)
                return r;
        lines = strdup(mountinfo);
        if (!lines)
                return -ENOMEM;
        for (line = strtok_r(lines, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                if (!mountinfo_line_read(line, &root, &point))
                        continue;
                below = path_below(path, root);
                if (below && nth-- == 0)
                        return asprintf(ret_path, "%s%s", point, below) < 0 ? -ENOMEM : 0;
        }
        return -ENOENT;
}

/* Whether the text of cgroup.procs names this process. */
static bool procs_has_self(const char *procs) {
        pid_t self = getpid();

        for (; procs; procs = strchr(procs, '\n')) {
                if (*procs == '\n')
                        procs++;
                if (*procs != '\0' && strtol(procs, NULL, 10) == self)
                        return true;
        }
        return false;
}

/* Opens the directory, and makes sure that what is mounted there now is the cgroup that we are in. */
static int cgroup_own_open_path(const char *path, int *ret_fd) {
        CLEANUP(fd_close) int fd = -1;
        CLEANUP(free) char *procs = NULL;
        struct statfs fs;
        int r;

        fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fstatfs(fd, &fs) < 0)
                return -errno;
        if (fs.f_type != CGROUP2_SUPER_MAGIC)
                return -ENOENT;
        r = tree_file_read(fd, "cgroup.procs", &procs);
        if (r < 0)
                return r;
        if (!procs_has_self(procs))
                return -ENOENT;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* Tries the mounts that show our cgroup until one can be used; else tells what was wrong with the first. */
static int cgroup_own_open_any(const char *cgroup, const char *mountinfo, int *ret_fd) {
        int r, first = 0;
        char *path;

        for (size_t i = 0;; i++) {
                r = cgroup_own_path(cgroup, mountinfo, i, &path);
                if (r < 0)
                        return first < 0 ? first : r;
                r = cgroup_own_open_path(path, ret_fd);
                free(path);
                if (r == 0)
                        return 0;
                if (first == 0)
                        first = r;
        }
}

int cgroup_own_open(int *ret_fd, char **ret_path, Error *reterr_error) {
        CLEANUP(free) char *cgroup = NULL, *mountinfo = NULL, *path = NULL;
        int r;

        r = tree_file_read(AT_FDCWD, "/proc/self/cgroup", &cgroup);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot read /proc/self/cgroup");
        r = tree_file_read(AT_FDCWD, "/proc/self/mountinfo", &mountinfo);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot read /proc/self/mountinfo");
        r = cgroup_text_path(cgroup, &path);
        if (r < 0)
                return error_set_errno(reterr_error, r, "this process has no cgroup of version 2");
        r = cgroup_own_open_any(cgroup, mountinfo, ret_fd);
        if (r < 0)
                return error_set_errno(reterr_error, r, "cannot use the own cgroup '%s'", path);
        *ret_path = TAKE(path);
        return 0;
}

int cgroup_path_of(int pid, char **ret_path) {
        CLEANUP(free) char *cgroup = NULL;
        char name[sizeof("/proc//cgroup") + 3 * sizeof(int)];
        int r;

        (void)snprintf(name, sizeof(name), "/proc/%d/cgroup", pid);
        r = tree_file_read(AT_FDCWD, name, &cgroup);
        if (r < 0)
                return r == -ENOENT ? -ESRCH : r;
        return cgroup_text_path(cgroup, ret_path);
}
