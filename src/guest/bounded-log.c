/* The file is written at an offset that is kept here. When the next text does not fit, the newest half moves to the
 * front and the rest is cut off: in place, since a full file system has no room for a copy. A daemon that dies in
 * between leaves some text twice, and a file no longer than it was.
 *
 * What cannot be written is counted, and told in the log when there is room again. */
#include "guest/bounded-log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define CHUNK_SIZE (16 * 1024)

int bounded_log_init(BoundedLog *log, int fd, uint64_t max) {
        AUTO(fd_drop) int owned = fd;
        struct stat st;
        int flags;

        /* Appending would send every write to the end, those that move the newer half too. */
        flags = fcntl(owned, F_GETFL);
        if (flags < 0 || fcntl(owned, F_SETFL, flags & ~O_APPEND) < 0 || fstat(owned, &st) < 0)
                return -errno;

        *log = (BoundedLog){ .fd = fd_take(&owned), .size = (uint64_t)st.st_size, .max = max };
        return 0;
}

void bounded_log_done(BoundedLog *log) {
        fd_drop(&log->fd);
}

static int write_at(int fd, const char *data, size_t length, uint64_t offset) {
        while (length > 0) {
                ssize_t n = pwrite(fd, data, length, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                data += n;
                length -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 0;
}

/* Keep only the newest bytes. */
static int cut(BoundedLog *log, uint64_t keep) {
        char chunk[CHUNK_SIZE];
        uint64_t from = log->size - keep, done = 0;
        int r;

        while (done < keep) {
                size_t length = keep - done < sizeof chunk ? (size_t)(keep - done) : sizeof chunk;
                ssize_t n = pread(log->fd, chunk, length, (off_t)(from + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break; /* somebody has shortened it */
                r = write_at(log->fd, chunk, (size_t)n, done);
                if (r < 0)
                        return r;
                done += (uint64_t)n;
        }
        if (ftruncate(log->fd, (off_t)done) < 0)
                return -errno;
        log->size = done;
        return 0;
}

static int make_room(BoundedLog *log, size_t length) {
        uint64_t keep = log->max / 2;

        if (log->size + length <= log->max)
                return 0;
        if (keep > log->size)
                keep = log->size;
        if (keep > log->max - length)
                keep = log->max - length;
        return cut(log, keep);
}

static int append(BoundedLog *log, const char *data, size_t length) {
        int r;

        if (length > log->max) {
                data += length - log->max;
                length = (size_t)log->max;
        }
        r = make_room(log, length);
        if (r < 0)
                return r;
        r = write_at(log->fd, data, length, log->size);
        if (r < 0) {
                /* No half a line: the next try begins where this one did. */
                (void)!ftruncate(log->fd, (off_t)log->size);
                return r;
        }
        log->size += length;
        return 0;
}

static int tell_lost(BoundedLog *log) {
        char text[96];
        int n, r;

        if (log->lost == 0)
                return 0;
        n = snprintf(text, sizeof text, "\r\n[debmarshal: %llu bytes could not be written here]\r\n",
                     (unsigned long long)log->lost);
        r = append(log, text, (size_t)n);
        if (r == 0)
                log->lost = 0;
        return r;
}

void bounded_log_write(BoundedLog *log, const char *data, size_t length) {
        int r;

        r = tell_lost(log);
        if (r == 0)
                r = append(log, data, length);
        if (r < 0) {
                log->lost += length;
                log_limited(&log->limit, LOG_WARNING, NULL, "Failed to write a console log: %s, ignoring",
                            strerror(-r));
        }
}

static int copy_to_memfd(int fd, uint64_t size, int memfd) {
        off_t offset = 0;

        while ((uint64_t)offset < size) {
                ssize_t n = sendfile(memfd, fd, &offset, (size_t)(size - (uint64_t)offset));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
        }
        if (lseek(memfd, 0, SEEK_SET) < 0 ||
            fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
                return -errno;
        return 0;
}

static int copy(int fd, int *ret_fd, Error *e) {
        AUTO(fd_drop) int memfd = -1;
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return error_set_errno(e, errno, "Failed to look at the console log");
        if (!S_ISREG(st.st_mode))
                return error_set(e, ERROR_INTERNAL, "the console log is not a regular file");
        memfd = memfd_create("console-log", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (memfd < 0)
                return error_set_errno(e, errno, "Failed to make a copy of the console log");
        r = copy_to_memfd(fd, (uint64_t)st.st_size, memfd);
        if (r < 0)
                return error_set_errno(e, r, "Failed to copy the console log");
        *ret_fd = fd_take(&memfd);
        return 0;
}

int bounded_log_copy(const BoundedLog *log, int *ret_fd, Error *e) {
        return copy(log->fd, ret_fd, e);
}

int bounded_log_copy_file(int dir_fd, const char *name, int *ret_fd, Error *e) {
        AUTO(fd_drop) int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

        if (fd < 0)
                return error_set_errno(e, errno, "Failed to open the console log");
        return copy(fd, ret_fd, e);
}
