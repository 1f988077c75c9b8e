/* Where the state is. In /tmp, the last resort of a session, anybody may have made the directory before us, so what is
 * opened is looked at by its descriptor, never through a symbolic link, and refused if it is not ours alone to write.
 * The lock makes the directory one daemon's: it is the kernel's and goes with the process. */
#include "daemon/runtime-dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"

/* XDG_RUNTIME_DIR of somebody else is what sudo and su leave behind. */
static bool is_own_directory(const char *path) {
        struct stat st;
        return path && *path == '/' && stat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

char *runtime_dir_path(Scope scope, const char *given) {
        if (given)
                return strdup(given);
        if (scope == SCOPE_SYSTEM)
                return strdup("/run/debmarshal");

        const char *xdg = getenv("XDG_RUNTIME_DIR");
        return is_own_directory(xdg) ? string_printf("%s/debmarshal", xdg)
                                     : string_printf("/tmp/debmarshal-%u", (unsigned)geteuid());
}

static int check(const char *path, int fd, struct stat *ret, Error *e) {
        if (fstat(fd, ret) < 0)
                return error_set_errno(e, errno, "Failed to look at the runtime directory %s", path);
        if (ret->st_uid != geteuid())
                return error_set(e, ERROR_ACCESS_DENIED,
                                 "The runtime directory %s belongs to uid %u, not to uid %u: remove it, or choose "
                                 "another with --runtime-dir",
                                 path, (unsigned)ret->st_uid, (unsigned)geteuid());
        if (ret->st_mode & 022)
                return error_set(e, ERROR_ACCESS_DENIED,
                                 "Others may write to the runtime directory %s (mode %03o): chmod go-w it", path,
                                 (unsigned)ret->st_mode & 0777);
        return 0;
}

int runtime_dir_open(Scope scope, const char *path, int *ret_fd, Error *e) {
        struct stat st;

        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                return error_set_errno(e, errno, "Failed to make the runtime directory %s", path);
        AUTO(fd_drop) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return error_set_errno(e, errno, "Failed to open the runtime directory %s", path);
        int r = check(path, fd, &st, e);
        if (r < 0)
                return r;
        if (scope == SCOPE_SYSTEM && (st.st_mode & 0777) != 0755 && fchmod(fd, 0755) < 0)
                return error_set_errno(e, errno, "Failed to open the runtime directory %s to clients", path);
        *ret_fd = fd_take(&fd);
        return 0;
}

int runtime_dir_lock(int dir_fd, int *ret_fd, Error *e) {
        AUTO(fd_drop) int fd = openat(dir_fd, RUNTIME_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return error_set_errno(e, errno, "Failed to open the lock of the runtime directory");
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -EWOULDBLOCK
                                            : error_set_errno(e, errno, "Failed to lock the runtime directory");
        *ret_fd = fd_take(&fd);
        return 0;
}
