/* UNIX stream sockets by directory descriptor.
 *
 * sun_path has room for 108 bytes, which a runtime directory below a long home or test directory exceeds. The kernel
 * resolves "/proc/self/fd/N/NAME" to the same place in a few bytes, so that is what it is given. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"

#define PROC_FD_MAX 32
/* asm-generic/socket.h, since Linux 6.16. */
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

static const char *proc_path(int fd, char buffer[PROC_FD_MAX]) {
        if (fd == AT_FDCWD)
                snprintf(buffer, PROC_FD_MAX, "/proc/self/cwd");
        else
                snprintf(buffer, PROC_FD_MAX, "/proc/self/fd/%d", fd);
        return buffer;
}

static int address_in(int dir_fd, const char *name, struct sockaddr_un *ret) {
        char dir[PROC_FD_MAX];

        if (!*name || strchr(name, '/'))
                return -EINVAL;
        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        int n = snprintf(ret->sun_path, sizeof ret->sun_path, "%s/%s", proc_path(dir_fd, dir), name);
        return n < (int)sizeof ret->sun_path ? 0 : -ENAMETOOLONG;
}

/* The socket file itself, through no link, as something that connect() and chmod() can be given. */
static int open_socket_file(int dir_fd, const char *name, int *ret_fd) {
        AUTO(fd_drop) int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (S_ISLNK(st.st_mode))
                return -ELOOP;
        if (!S_ISSOCK(st.st_mode))
                return -ENOTSOCK;
        *ret_fd = fd_take(&fd);
        return 0;
}

void unix_refuse_descriptors(int fd) {
        (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &(int){ 0 }, sizeof(int));
}

static int connect_stream(int dir_fd, const char *name, bool refuse_descriptors, int *ret_fd) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        AUTO(fd_drop) int file = -1;
        int r = open_socket_file(dir_fd, name, &file);

        if (r < 0)
                return r;
        proc_path(file, address.sun_path);
        /* Non-blocking from the start: a listener whose queue is full answers -EAGAIN instead of stopping us. */
        AUTO(fd_drop) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (refuse_descriptors)
                unix_refuse_descriptors(fd);
        if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
                return -errno;
        *ret_fd = fd_take(&fd);
        return 0;
}

int unix_connect(int dir_fd, const char *name, int *ret_fd) {
        return connect_stream(dir_fd, name, false, ret_fd);
}

int unix_connect_plain(int dir_fd, const char *name, int *ret_fd) {
        return connect_stream(dir_fd, name, true, ret_fd);
}

/* Remove what the dead have left. Anything but a socket that refuses connections stays: -EADDRINUSE. Two daemons that
 * do this at once are kept apart by the lock on the state beside the socket. */
static int remove_dead(int dir_fd, const char *name) {
        AUTO(fd_drop) int fd = -1;
        int r = unix_connect(dir_fd, name, &fd);

        if (r == -ENOENT)
                return 0;
        if (r != -ECONNREFUSED)
                return -EADDRINUSE;
        return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static int set_mode(int dir_fd, const char *name, mode_t mode) {
        char path[PROC_FD_MAX];
        AUTO(fd_drop) int file = -1;
        int r = open_socket_file(dir_fd, name, &file);

        if (r < 0)
                return r;
        return chmod(proc_path(file, path), mode) < 0 ? -errno : 0;
}

int unix_listen(int dir_fd, const char *name, mode_t mode, int *ret_fd) {
        struct sockaddr_un address;
        int r = address_in(dir_fd, name, &address);

        if (r < 0)
                return r;
        AUTO(fd_drop) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        /* The file is made with the mode of the socket less the umask: never wider than asked, not for a moment. */
        if (fchmod(fd, mode) < 0)
                return -errno;
        if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
                if (errno != EADDRINUSE)
                        return -errno;
                r = remove_dead(dir_fd, name);
                if (r < 0)
                        return r;
                if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0)
                        return -errno;
        }
        r = set_mode(dir_fd, name, mode);
        if (r == 0 && listen(fd, SOMAXCONN) < 0)
                r = -errno;
        if (r < 0) {
                (void)unlinkat(dir_fd, name, 0);
                return r;
        }
        *ret_fd = fd_take(&fd);
        return 0;
}
