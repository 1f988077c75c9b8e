#include "driver/xen/archive.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

#define NAME_MAX_SIZE 32
#define HEADER_SIZE   110
#define ALIGNMENT     4
#define READ_ONLY     0100444u /* a regular file */
#define END_NAME      "TRAILER!!!"

/* Zeros up to the next boundary behind that many bytes. */
static int pad(int to, uint64_t behind) {
        static const char zeros[ALIGNMENT];

        return fd_write_all(to, zeros, (ALIGNMENT - behind % ALIGNMENT) % ALIGNMENT);
}

/* Thirteen numbers, of which those that are 0 are of no interest: inode, mode, owner, group, links, time, size, four of
 * devices, the name's length, a sum. */
static int add_header(int to, const char *name, unsigned mode, uint64_t size) {
        char header[HEADER_SIZE + NAME_MAX_SIZE];
        size_t name_size = strlen(name) + 1;

        if (size > UINT32_MAX)
                return -EFBIG;
        int n = snprintf(header, sizeof header,
                         "070701%08x%08x%08x%08x%08x%08x%08" PRIx64 "%08x%08x%08x%08x%08zx%08x%s", 0, mode, 0, 0, 1, 0,
                         size, 0, 0, 0, 0, name_size, 0, name);
        if (n < 0 || (size_t)n >= sizeof header)
                return -ENAMETOOLONG;
        int r = fd_write_all(to, header, HEADER_SIZE + name_size);
        return r < 0 ? r : pad(to, HEADER_SIZE + name_size);
}

int archive_append(int to, int from, uint64_t size) {
        char buffer[1 << 16];

        for (uint64_t at = 0; at < size;) {
                size_t wanted = size - at < sizeof buffer ? (size_t)(size - at) : sizeof buffer;
                ssize_t n = pread(from, buffer, wanted, (off_t)at);
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                int r = fd_write_all(to, buffer, (size_t)n);
                if (r < 0)
                        return r;
                at += (uint64_t)n;
        }
        return 0;
}

int archive_add(int to, const char *name, int from, uint64_t size) {
        int r = add_header(to, name, READ_ONLY, size);

        if (r >= 0)
                r = archive_append(to, from, size);
        return r < 0 ? r : pad(to, size);
}

int archive_add_text(int to, const char *name, const char *text) {
        size_t length = strlen(text);
        int r = add_header(to, name, READ_ONLY, length);

        if (r >= 0)
                r = fd_write_all(to, text, length);
        return r < 0 ? r : pad(to, length);
}

int archive_end(int to) {
        return add_header(to, END_NAME, 0, 0);
}
