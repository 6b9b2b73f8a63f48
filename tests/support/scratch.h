/* SPDX-License-Identifier: MIT */
#pragma once

/* A directory for one test, on the disk, in memory, or on a disk so small that it can be filled. */

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCRATCH_MAX 64

static inline void scratch_make(char *ret_path, const char *below) {
        (void)snprintf(ret_path, SCRATCH_MAX, "%s/pmux-check-XXXXXX", below);
        ck_assert_ptr_nonnull(mkdtemp(ret_path));
}

static inline int scratch_unlink(const char *path, const struct stat *st, int type, struct FTW *at) {
        (void)st;
        (void)type;
        (void)at;
        return remove(path);
}

static inline void scratch_remove(const char *path) {
        ck_assert_int_eq(nftw(path, scratch_unlink, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* How many files are in a directory. */
static inline int scratch_n_files(const char *path) {
        DIR *dir = opendir(path);
        int n = -2;

        ck_assert_ptr_nonnull(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

/* Mounts a disk of so many bytes there, seen by this process alone. Return: false where that is not
 * permitted. */
static inline bool scratch_mount(const char *path, size_t size) {
        char options[64];

        if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "", MS_REC | MS_PRIVATE, "") < 0)
                return false;
        (void)snprintf(options, sizeof(options), "size=%zu,mode=700", size);
        return mount("small-disk", path, "tmpfs", 0, options) == 0;
}

static inline void scratch_unmount(const char *path) {
        ck_assert_int_eq(umount(path), 0);
}

/* Takes every free block of the disk, and gives them back. */
static inline void scratch_fill(const char *path) {
        static const char block[4096] = { 1 };
        char file[SCRATCH_MAX + 16];
        int fd;

        (void)snprintf(file, sizeof(file), "%s/filler", path);
        fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        ck_assert_int_ge(fd, 0);
        while (write(fd, block, sizeof(block)) > 0)
                ;
        ck_assert_int_eq(errno, ENOSPC);
        close(fd);
}

static inline void scratch_empty(const char *path) {
        char file[SCRATCH_MAX + 16];

        (void)snprintf(file, sizeof(file), "%s/filler", path);
        ck_assert_int_eq(unlink(file), 0);
}
