/* The file is written at an offset that is kept here. When the next text does not fit, the newest half moves to the
 * front and the rest is cut off: in place, since a full file system has no room for a copy. A daemon that dies in
 * between leaves some text twice, and a file no longer than it was.
 *
 * What cannot be written is counted, and told in the log when there is room again. */
#include "guest/bounded-log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define CHUNK_SIZE (16 * 1024)

int bounded_log_init(BoundedLog *log, int fd, uint64_t max) {
        AUTO(fd_drop) int owned = fd;
        SharedFile *file;
        struct stat st;

        /* Appending would send every write to the end, those that move the newer half too. */
        int flags = fcntl(owned, F_GETFL);
        if (flags < 0 || fcntl(owned, F_SETFL, flags & ~O_APPEND) < 0 || fstat(owned, &st) < 0)
                return -errno;
        int r = shared_file_new(fd_take(&owned), &file);
        if (r < 0)
                return r;

        *log = (BoundedLog){ .file = file, .size = (uint64_t)st.st_size, .max = max };
        return 0;
}

void bounded_log_done(BoundedLog *log) {
        shared_file_unref(log->file);
        log->file = NULL;
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
                ssize_t n = pread(log->file->fd, chunk, length, (off_t)(from + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break; /* somebody has shortened it */
                r = write_at(log->file->fd, chunk, (size_t)n, done);
                if (r < 0)
                        return r;
                done += (uint64_t)n;
        }
        if (ftruncate(log->file->fd, (off_t)done) < 0)
                return -errno;
        log->file->cut_off += from;
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
        r = write_at(log->file->fd, data, length, log->size);
        if (r < 0) {
                /* No half a line: the next try begins where this one did. */
                (void)!ftruncate(log->file->fd, (off_t)log->size);
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
