/* Descriptors, files, messages between processes, and UNIX sockets.
 *
 * Some of the directories that these work in can be written by an emulator's uid, which a guest may have taken over. So
 * nothing here opens by a name what it has checked by that name before: it opens without following links, and checks
 * what it holds. */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/string-util.h"

void fd_drop(int *fd) {
        if (*fd >= 0) {
                int saved_errno = errno;
                /* Linux closes it whatever the answer; trying again could close somebody else's. */
                (void)close(*fd);
                errno = saved_errno;
        }
        *fd = -1;
}

int fd_fill_stdio(void) {
        int fd;
        do
                fd = open("/dev/null", O_RDWR); /* not O_CLOEXEC: it may stay as 0, 1 or 2 */
        while (fd >= 0 && fd <= 2);
        if (fd < 0)
                return -errno;
        close(fd);
        return 0;
}

int fd_take(int *fd) {
        int taken = *fd;

        *fd = -1;
        return taken;
}

int fd_set_add(FdSet *set, int fd) {
        if (set->count >= FD_SET_MAX) {
                fd_drop(&fd);
                return -EMFILE;
        }
        set->fds[set->count++] = fd;
        return 0;
}

void fd_set_clear(FdSet *set) {
        for (size_t i = 0; i < set->count; i++)
                fd_drop(&set->fds[i]);
        set->count = 0;
}

int fd_set_nonblock(int fd, bool on) {
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0)
                return -errno;
        int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
        if (wanted != flags && fcntl(fd, F_SETFL, wanted) < 0)
                return -errno;
        return 0;
}

int fd_write_all(int fd, const void *data, size_t length) {
        const char *p = data;

        while (length > 0) {
                ssize_t n = write(fd, p, length);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -EIO;
                p += n;
                length -= (size_t)n;
        }
        return 0;
}

int fd_path(int fd, char *buffer, size_t size) {
        char link[32];

        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, buffer, size);
        if (n < 0)
                return -errno;
        if ((size_t)n == size)
                return -ENAMETOOLONG;
        buffer[n] = '\0';
        return 0;
}

/* No more than a guess: it may have more or fewer bytes by the time that they are read. */
static size_t guess_length(int fd) {
        struct stat st;

        return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t)st.st_size : 4094;
}

/* One byte more than max, so that "exactly max" and "past max" can be told apart, and one for the NUL. */
static int grow(char **data, size_t *capacity, size_t guess, size_t max) {
        size_t wanted = *capacity ? *capacity * 2 : guess + 2, limit = max + 2;

        if (wanted > limit || wanted < *capacity)
                wanted = limit;
        char *larger = realloc(*data, wanted);
        if (!larger)
                return -ENOMEM;
        *data = larger;
        *capacity = wanted;
        return 0;
}

int fd_read_all(int fd, size_t max, char **ret_data, size_t *ret_length) {
        AUTO(string_drop) char *data = NULL;
        size_t length = 0, capacity = 0, guess = guess_length(fd);

        if (max > SIZE_MAX / 2)
                return -EINVAL;
        for (;;) {
                if (length + 1 >= capacity) {
                        int r = grow(&data, &capacity, guess, max);
                        if (r < 0)
                                return r;
                }
                ssize_t n = read(fd, data + length, capacity - length - 1);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                length += (size_t)n;
                if (length > max)
                        return -EFBIG;
        }
        data[length] = '\0';
        *ret_data = TAKE(data);
        if (ret_length)
                *ret_length = length;
        return 0;
}

int file_read_all(int dir_fd, const char *path, size_t max, char **ret_data, size_t *ret_length) {
        /* Non-blocking, so that a FIFO left under this name stops nobody. */
        AUTO(fd_drop) int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

        if (fd < 0)
                return -errno;
        return fd_read_all(fd, max, ret_data, ret_length);
}

static int write_new_file(int dir_fd, const char *path, const char *text, mode_t mode) {
        AUTO(fd_drop) int fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd < 0)
                return -errno;
        int r = fd_write_all(fd, text, strlen(text));
        if (r < 0)
                return r;
        return fchmod(fd, mode) < 0 ? -errno : 0;
}

/* The temporary's name is always the same, so that what a crash leaves is used up by the next call instead of adding
 * up. No fsync: everything written through here lives on a tmpfs, which dies with the host. */
int file_replace(int dir_fd, const char *path, const char *text, mode_t mode) {
        AUTO(string_drop) char *temporary = string_printf("%s.new", path);

        if (!temporary)
                return -ENOMEM;
        if (unlinkat(dir_fd, temporary, 0) < 0 && errno != ENOENT)
                return -errno;
        int r = write_new_file(dir_fd, temporary, text, mode);
        if (r == 0 && renameat(dir_fd, temporary, dir_fd, path) < 0)
                r = -errno;
        if (r < 0 && r != -EEXIST)
                (void)unlinkat(dir_fd, temporary, 0);
        return r;
}

int fd_send(int socket, const void *data, size_t length, const int *fds, size_t n_fds) {
        alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * FD_SET_MAX)] = { 0 };
        /* sendmsg() does not write through it. */
        struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = length };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

        /* An empty message would look like the end of the stream. */
        if (length == 0)
                return -EINVAL;
        if (n_fds > FD_SET_MAX)
                return -E2BIG;
        if (n_fds > 0) {
                message.msg_control = control;
                message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                struct cmsghdr *header = CMSG_FIRSTHDR(&message);
                header->cmsg_level = SOL_SOCKET;
                header->cmsg_type = SCM_RIGHTS;
                header->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(header), fds, sizeof(int) * n_fds);
        }
        for (;;) {
                ssize_t n = sendmsg(socket, &message, MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                /* A SEQPACKET socket sends all or nothing; on any other kind the rest would be lost. */
                return (size_t)n == length ? 0 : -EMSGSIZE;
        }
}

/* Own every descriptor that came, before anything is judged: a message that is refused must not leak its own. */
static void collect_fds(struct msghdr *message, FdSet *ret, int *ret_result) {
        *ret_result = 0;
        for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h; h = CMSG_NXTHDR(message, h)) {
                if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
                        continue;
                size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n; i++) {
                        int fd;
                        memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
                        int r = fd_set_add(ret, fd);
                        if (r < 0)
                                *ret_result = r;
                }
        }
}

int fd_receive(int socket, void *buffer, size_t size, size_t *ret_length, FdSet *fds) {
        alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * FD_SET_MAX)];
        struct iovec iov = { .iov_base = buffer, .iov_len = size };
        struct msghdr message = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
        };
        AUTO(fd_set_clear) FdSet received = { .count = 0 };
        ssize_t n;

        do
                n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        int r;
        collect_fds(&message, &received, &r);
        if (message.msg_flags & MSG_TRUNC)
                return -EMSGSIZE;
        /* There was room for as many as may come, but not in our table. */
        if (message.msg_flags & MSG_CTRUNC)
                return received.count < FD_SET_MAX ? -EMFILE : -EMSGSIZE;
        if (r == 0 && received.count > 0 && (!fds || received.count > FD_SET_MAX - fds->count))
                r = -EMFILE;
        if (r < 0)
                return r;
        for (size_t i = 0; i < received.count; i++)
                (void)fd_set_add(fds, fd_take(&received.fds[i]));
        *ret_length = (size_t)n;
        return 0;
}

int fd_memfd_fill(int fd, const void *data, size_t length, bool sealed) {
        int r = fd_write_all(fd, data, length);
        if (r < 0)
                return r;
        if (lseek(fd, 0, SEEK_SET) < 0)
                return -errno;
        if (sealed && fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
                return -errno;
        return 0;
}

int fd_memfd(const char *name, const void *data, size_t length, bool sealed, int *ret_fd) {
        AUTO(fd_drop) int fd = memfd_create(name, MFD_CLOEXEC | (sealed ? MFD_ALLOW_SEALING : 0u));

        if (fd < 0)
                return -errno;
        int r = fd_memfd_fill(fd, data, length, sealed);
        if (r < 0)
                return r;
        *ret_fd = fd_take(&fd);
        return 0;
}
