/* SPDX-License-Identifier: MIT */

#include "daemon/keeper/child-spec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/keeper-message.h"

#define CHILD_SPEC_SIZE_MAX                                                                                  \
        (64u << 20) /* bytes; far above what execve(2) takes, so that E2BIG is its own                       \
                     */
#define CHILD_SPEC_PATH "/usr/local/bin:/usr/bin:/bin"

static int child_spec_read_block(int fd, char **ret_block, size_t *ret_size) {
        size_t size, done = 0;
        struct stat st;
        char *block;
        ssize_t n;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_size < (off_t)sizeof(KeeperSpec) || st.st_size > (off_t)CHILD_SPEC_SIZE_MAX)
                return -EPROTO;
        size = (size_t)st.st_size;
        block = malloc(size);
        if (!block)
                return -ENOMEM;
        while (done < size) {
                n = pread(fd, block + done, size - done, (off_t)done);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0) {
                        int r = n < 0 ? -errno : -EPROTO;

                        free(block);
                        return r;
                }
                done += (size_t)n;
        }
        *ret_block = block;
        *ret_size = size;
        return 0;
}

/* Points strings[0 … n-1] at the next n strings from *p on. */
static int child_spec_take(char **p, const char *end, char **strings, size_t n) {
        for (size_t i = 0; i < n; i++) {
                char *nul = memchr(*p, '\0', (size_t)(end - *p));

                if (!nul)
                        return -EPROTO;
                strings[i] = *p;
                *p = nul + 1;
        }
        return 0;
}

/* The paths that execvp(3) would try, in one block: the array, then its strings. */
static char **child_spec_candidates(const char *file, const char *path) {
        size_t file_size = strlen(file) + 1, n = 1;
        char **candidates, *p;

        if (strchr(file, '/'))
                path = NULL;
        for (const char *s = path; s && *s; s++)
                n += *s == ':';
        /* Each element with "./" for an empty one, a slash and the file. */
        candidates = malloc((n + 1) * sizeof(*candidates) + (path ? strlen(path) : 0) + n * (file_size + 2));
        if (!candidates)
                return NULL;
        p = (char *)(candidates + n + 1);
        candidates[n] = NULL;
        if (!path)
                candidates[0] = memcpy(p, file, file_size);
        for (size_t i = 0; path && i < n; i++) {
                size_t size = strcspn(path, ":");

                candidates[i] = p;
                p = mempcpy(p, size > 0 ? path : ".", MAX(size, (size_t)1));
                *p++ = '/';
                p = mempcpy(p, file, file_size);
                path += size + 1;
        }
        if (file_size == 1)
                candidates[0] = NULL; /* as execvp(3): an empty name is not found */
        return candidates;
}

static int child_spec_unpack(ChildSpec *spec, size_t size) {
        KeeperSpec header;
        const char *end = spec->block + size, *path = CHILD_SPEC_PATH;
        char *p = spec->block + sizeof(header), *last[2];
        int r;

        memcpy(&header, spec->block, sizeof(header));
        if (header.magic != KEEPER_SPEC_MAGIC || header.size != size || header.n_args == 0)
                return -EPROTO;
        if ((uint64_t)header.n_args + header.n_env + 2 > size)
                return -EPROTO;
        spec->argv = calloc((size_t)header.n_args + 1, sizeof(*spec->argv));
        spec->envp = calloc((size_t)header.n_env + 2, sizeof(*spec->envp));
        if (!spec->argv || !spec->envp)
                return -ENOMEM;
        r = child_spec_take(&p, end, spec->argv, header.n_args);
        if (r == 0)
                r = child_spec_take(&p, end, spec->envp, header.n_env);
        if (r == 0)
                r = child_spec_take(&p, end, last, ARRAY_SIZE(last));
        if (r < 0 || p != end)
                return -EPROTO;
        for (size_t i = header.n_env; i-- > 0;)
                if (strncmp(spec->envp[i], "PATH=", 5) == 0)
                        path = spec->envp[i] + 5;
        spec->cwd = last[0];
        if (*last[1])
                spec->envp[header.n_env] = last[1];
        spec->umask = header.umask & 0777;
        spec->candidates = child_spec_candidates(spec->argv[0], path);
        return spec->candidates ? 0 : -ENOMEM;
}

/* Takes the block over. */
static int child_spec_new(char *block, size_t size, ChildSpec *ret_spec) {
        CLEANUP(child_spec_deinit) ChildSpec spec = { .block = block };
        int r;

        r = child_spec_unpack(&spec, size);
        if (r < 0)
                return r;
        *ret_spec = spec;
        spec = (ChildSpec){};
        return 0;
}

int child_spec_read(int fd, ChildSpec *ret_spec) {
        char *block = NULL;
        size_t size = 0;
        int r;

        r = child_spec_read_block(fd, &block, &size);
        return r < 0 ? r : child_spec_new(block, size, ret_spec);
}

int child_spec_copy(const char *bytes, size_t size, ChildSpec *ret_spec) {
        char *block;

        if (size < sizeof(KeeperSpec))
                return -EPROTO;
        block = malloc(size);
        if (!block)
                return -ENOMEM;
        memcpy(block, bytes, size);
        return child_spec_new(block, size, ret_spec);
}

void child_spec_deinit(ChildSpec *spec) {
        free(spec->block);
        free(spec->argv);
        free(spec->envp);
        free(spec->candidates);
        *spec = (ChildSpec){};
}
