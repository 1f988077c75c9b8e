#include "driver/fifo.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"

int fifo_open(int dir_fd, const char *name, int *ret_fd) {
        struct stat st;
        AUTO(fd_drop) int fd = openat(dir_fd, name, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISFIFO(st.st_mode))
                return -EINVAL;
        *ret_fd = fd_take(&fd);
        return 0;
}

int fifo_make(int dir_fd, const char *name, uid_t owner, int *ret_fd) {
        if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
                return -errno;
        if (mkfifoat(dir_fd, name, 0600) < 0)
                return -errno;
        if (owner != (uid_t)-1 && fchownat(dir_fd, name, owner, (gid_t)-1, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        return fifo_open(dir_fd, name, ret_fd);
}

int fifo_path(int dir_fd, const char *name, char **ret) {
        char directory[4096];
        int r = fd_path(dir_fd, directory, sizeof directory);

        if (r < 0)
                return r;
        *ret = string_printf("%s/%s", directory, name);
        return *ret ? 0 : -ENOMEM;
}
