/* A PNG (ISO 15948) of three chunks; the data are a zlib stream of stored blocks: each row with a 0 before it, which
 * says that it is not filtered. */
#include "driver/xen/picture.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define BLOCK_MAX     65535u
#define SIDE_MAX      16384u
#define HEADER_MAX    64 /* of a PPM: three numbers */
#define BYTES_A_POINT 3u

typedef struct Png {
        uint8_t *data;
        size_t length;
} Png;

static void put(Png *p, const void *data, size_t length) {
        memcpy(p->data + p->length, data, length);
        p->length += length;
}

static void put_u32(Png *p, uint32_t value) {
        const uint8_t bytes[4] = { (uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                                   (uint8_t)value };
        put(p, bytes, sizeof bytes);
}

static uint32_t checksum(const uint8_t *data, size_t length) {
        static const uint32_t of_half[16] = {
                0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
        };
        uint32_t sum = UINT32_MAX;

        for (size_t i = 0; i < length; i++) {
                sum ^= data[i];
                sum = sum >> 4 ^ of_half[sum & 15];
                sum = sum >> 4 ^ of_half[sum & 15];
        }
        return ~sum;
}

/* start: where its length is, which counts neither itself, nor the name, nor the sum. */
static void end_chunk(Png *p, size_t start) {
        size_t end = p->length;

        p->length = start;
        put_u32(p, (uint32_t)(end - start - 8));
        p->length = end;
        put_u32(p, checksum(p->data + start + 4, end - start - 4));
}

static size_t begin_chunk(Png *p, const char name[4]) {
        size_t start = p->length;

        put_u32(p, 0);
        put(p, name, 4);
        return start;
}

/* The rows as one stream of bytes, in blocks that take no notice of where a row ends. */
static void put_rows(Png *p, const uint8_t *points, size_t row, size_t n_rows) {
        size_t left = n_rows * (row + 1), in_block = 0, in_row = 0;
        uint32_t a = 1, b = 0;

        for (; left > 0; left--) {
                if (in_block == 0) {
                        in_block = left < BLOCK_MAX ? left : BLOCK_MAX;
                        const uint8_t head[5] = { left == in_block, (uint8_t)in_block, (uint8_t)(in_block >> 8),
                                                  (uint8_t)~in_block, (uint8_t)(~in_block >> 8) };
                        put(p, head, sizeof head);
                }
                uint8_t byte = in_row == 0 ? 0 : *points++;
                in_row = in_row == row ? 0 : in_row + 1;
                in_block--;
                p->data[p->length++] = byte;
                a = (a + byte) % 65521;
                b = (b + a) % 65521;
        }
        put_u32(p, b << 16 | a);
}

static int encode(const uint8_t *points, uint32_t width, uint32_t height, int *ret_fd) {
        static const uint8_t magic[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };
        static const uint8_t depth_8_colour[5] = { 8, 2, 0, 0, 0 }, zlib[2] = { 0x78, 0x01 };
        size_t row = (size_t)BYTES_A_POINT * width, stream = (row + 1) * height;
        Png p = { malloc(128 + stream + 5 * (stream / BLOCK_MAX + 1)), 0 };

        if (!p.data)
                return -ENOMEM;
        put(&p, magic, sizeof magic);
        size_t start = begin_chunk(&p, "IHDR");
        put_u32(&p, width);
        put_u32(&p, height);
        put(&p, depth_8_colour, sizeof depth_8_colour);
        end_chunk(&p, start);
        start = begin_chunk(&p, "IDAT");
        put(&p, zlib, sizeof zlib);
        put_rows(&p, points, row, height);
        end_chunk(&p, start);
        end_chunk(&p, begin_chunk(&p, "IEND"));
        int r = fd_memfd("screenshot.png", p.data, p.length, false, ret_fd);
        free(p.data);
        return r;
}

/* "P6\n640 480\n255\n" and the points. */
static int parse(const char *data, size_t length, const uint8_t **ret_points, uint32_t *ret_width,
                 uint32_t *ret_height) {
        char header[HEADER_MAX + 1] = "";
        unsigned width, height;
        int used = 0;

        memcpy(header, data, length < HEADER_MAX ? length : HEADER_MAX);
        if (sscanf(header, "P6 %5u %5u 255%n", &width, &height, &used) != 2 || used == 0)
                return -EBADMSG;
        size_t at = (size_t)used + 1; /* one space behind it */
        if (width == 0 || height == 0 || width > SIDE_MAX || height > SIDE_MAX || at > length ||
            length - at < (size_t)BYTES_A_POINT * width * height)
                return -EBADMSG;
        *ret_points = (const uint8_t *)data + at;
        *ret_width = width;
        *ret_height = height;
        return 0;
}

static int read_file(int fd, char **ret, size_t *ret_length) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_size <= 0 || st.st_size > PICTURE_MAX)
                return -EFBIG;
        char *data = malloc((size_t)st.st_size);
        if (!data)
                return -ENOMEM;
        ssize_t n = pread(fd, data, (size_t)st.st_size, 0);
        if (n < 0) {
                int r = -errno;
                free(data);
                return r;
        }
        *ret = data;
        *ret_length = (size_t)n;
        return 0;
}

int picture_convert(int ppm_fd, int *ret_fd, Error *e) {
        const uint8_t *points;
        uint32_t width, height;
        char *data = NULL;
        size_t length = 0;
        int r = read_file(ppm_fd, &data, &length);

        if (r >= 0)
                r = data ? parse(data, length, &points, &width, &height) : -EBADMSG;
        if (r >= 0)
                r = encode(points, width, height, ret_fd);
        free(data);
        if (r == -EBADMSG || r == -EFBIG)
                return error_set(e, ERROR_HYPERVISOR_FAILED, "The device model's picture of the screen is none");
        return r < 0 ? error_set_errno(e, r, "Failed to convert the screenshot") : 0;
}
