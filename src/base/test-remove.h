/* For the clearing up of tests, whose directories may be on another mount than the working directory: remove_tree()
 * crosses none. */
#pragma once

#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>

#include "base/fd.h"

static inline int test_remove_tree(const char *path) {
        char parent[4096], name[4096];

        snprintf(parent, sizeof parent, "%s", path);
        snprintf(name, sizeof name, "%s", path);
        AUTO(fd_drop) int fd = open(dirname(parent), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return remove_tree(fd, basename(name));
}
