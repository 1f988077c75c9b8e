/* What the unit tests share: cmocka with what it must be preceded by, and a directory of their own. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/test-remove.h"

/* A list as functions take it, out of literals: LIST("a", "b"). */
#define LIST(...) test_list((const char *const[]){ __VA_ARGS__, NULL })
static inline char *const *test_list(const char *const *literals) {
        return (char *const *)(uintptr_t)literals;
}

typedef struct TestDir {
        char path[64];
        int fd;
} TestDir;

static inline void test_dir_open(TestDir *d) {
        *d = (TestDir){ .path = "/tmp/debmarshal-test-XXXXXX", .fd = -1 };
        assert_non_null(mkdtemp(d->path));
        d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(d->fd >= 0);
}

static inline void test_dir_close(TestDir *d) {
        assert_int_equal(test_remove_tree(d->path), 0);
        fd_drop(&d->fd);
}

static inline int file_write_test(const char *path, const char *text) {
        AUTO(fd_drop) int fd = open(path, O_WRONLY | O_CLOEXEC);

        return fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
}

/* In a child process: mounts of its own, and the right to make them. -errno where users may not have namespaces. */
static inline int test_own_mounts(void) {
        uid_t uid = geteuid();
        gid_t gid = getegid();

        if (unshare(CLONE_NEWNS | (uid == 0 ? 0 : CLONE_NEWUSER)) < 0)
                return -errno;
        if (uid != 0) {
                char map[64];
                snprintf(map, sizeof map, "0 %u 1", (unsigned)uid);
                if (file_write_test("/proc/self/setgroups", "deny") < 0 ||
                    file_write_test("/proc/self/uid_map", map) < 0)
                        return -EPERM;
                snprintf(map, sizeof map, "0 %u 1", (unsigned)gid);
                if (file_write_test("/proc/self/gid_map", map) < 0)
                        return -EPERM;
        }
        return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0;
}
