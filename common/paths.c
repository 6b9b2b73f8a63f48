/* SPDX-License-Identifier: MIT */

#include "common/paths.h"

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/macro.h"

#define PATHS_SOCKET_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

static void free_cleanup(char **p) {
        free(*p);
}

static int paths_format(char **ret_path, Error *reterr_error, const char *format, ...) PRINTF_LIKE(3, 4);

static int paths_format(char **ret_path, Error *reterr_error, const char *format, ...) {
        va_list ap;
        char *path;
        int r;

        va_start(ap, format);
        r = vasprintf(&path, format, ap);
        va_end(ap);
        if (r < 0)
                return error_set_errno(reterr_error, ENOMEM, "cannot hold a path");
        *ret_path = path;
        return 0;
}

/* A variable that is set to something; empty counts as not set. */
static const char *paths_env(const char *name) {
        const char *value = getenv(name);

        return value && value[0] != '\0' ? value : NULL;
}

/* The base directories of XDG count only when they are absolute, as their specification has it. */
static const char *paths_env_absolute(const char *name) {
        const char *value = paths_env(name);

        return value && value[0] == '/' ? value : NULL;
}

/* What a person gave may be relative to the current directory, which a daemon does not keep. */
static int paths_absolute(const char *path, char **ret_path, Error *reterr_error) {
        CLEANUP(free) char *cwd = NULL;

        if (path[0] == '\0')
                return error_set(reterr_error, ERROR_INVALID, "an empty path was given");
        if (path[0] == '/')
                return paths_format(ret_path, reterr_error, "%s", path);
        cwd = getcwd(NULL, 0);
        if (!cwd)
                return error_set_errno(reterr_error, errno, "cannot tell the current directory for '%s'",
                                       path);
        return paths_format(ret_path, reterr_error, "%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, path);
}

static int paths_socket_default(char **ret_path, Error *reterr_error) {
        const char *runtime_dir = paths_env_absolute("XDG_RUNTIME_DIR");
        char user_dir[sizeof("/run/user/") + 3 * sizeof(uid_t)];
        uid_t uid = geteuid();
        struct stat st;

        if (runtime_dir)
                return paths_format(ret_path, reterr_error, "%s/pmux/socket", runtime_dir);
        if (uid == 0)
                return paths_format(ret_path, reterr_error, "/run/pmux/socket");
        (void)snprintf(user_dir, sizeof(user_dir), "/run/user/%u", uid);
        if (stat(user_dir, &st) == 0 && S_ISDIR(st.st_mode))
                return paths_format(ret_path, reterr_error, "%s/pmux/socket", user_dir);
        return paths_format(ret_path, reterr_error, "/tmp/pmux-%u/socket", uid);
}

int paths_socket(const char *given, char **ret_path, Error *reterr_error) {
        CLEANUP(free) char *path = NULL;
        int r;

        if (!given)
                given = paths_env("PMUX_SOCKET");
        if (given)
                r = paths_absolute(given, &path, reterr_error);
        else
                r = paths_socket_default(&path, reterr_error);
        if (r < 0)
                return r;
        if (strlen(path) > PATHS_SOCKET_MAX)
                return error_set(reterr_error, ERROR_INVALID,
                                 "socket path has %zu bytes, at most %zu are possible: '%s'", strlen(path),
                                 PATHS_SOCKET_MAX, path);
        *ret_path = TAKE(path);
        return 0;
}

static int paths_state_in_home(char **ret_path, Error *reterr_error) {
        const char *home = paths_env_absolute("HOME");
        const struct passwd *passwd;

        if (!home) {
                errno = 0;
                passwd = getpwuid(geteuid());
                if (!passwd || !passwd->pw_dir || passwd->pw_dir[0] != '/')
                        return error_set(reterr_error, ERROR_INVALID,
                                         "$HOME is not set and user %u has no home directory: give a state "
                                         "directory",
                                         geteuid());
                home = passwd->pw_dir;
        }
        return paths_format(ret_path, reterr_error, "%s/.local/state/pmux",
                            strcmp(home, "/") == 0 ? "" : home);
}

int paths_state(const char *given, int is_system_daemon, char **ret_path, Error *reterr_error) {
        const char *state_home = paths_env_absolute("XDG_STATE_HOME");

        if (!given)
                given = paths_env("PMUX_STATE_DIR");
        if (given)
                return paths_absolute(given, ret_path, reterr_error);
        if (is_system_daemon)
                return paths_format(ret_path, reterr_error, "/var/lib/pmux");
        if (state_home)
                return paths_format(ret_path, reterr_error, "%s/pmux", state_home);
        return paths_state_in_home(ret_path, reterr_error);
}
