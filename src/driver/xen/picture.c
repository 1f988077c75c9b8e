#include "driver/xen/picture.h"

#include <errno.h>
#include <png.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define HEADER_MAX    64 /* of a PPM: three numbers */
#define BYTES_A_POINT 3u

typedef struct Memory {
        uint8_t *data;
        size_t length, size;
} Memory;

static void on_write(png_structp png, png_bytep data, size_t length) {
        Memory *m = png_get_io_ptr(png);

        if (length > m->size - m->length)
                png_error(png, "no room");
        memcpy(m->data + m->length, data, length);
        m->length += length;
}

static void on_error(png_structp png, UNUSED png_const_charp message) {
        png_longjmp(png, 1);
}

/* Not compressed: the daemon waits for it. Nothing is changed after setjmp() but behind pointers. */
static int write_png(Memory *m, const uint8_t *points, uint32_t width, uint32_t height) {
        png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, on_error, on_error);
        png_infop info = png ? png_create_info_struct(png) : NULL;

        if (!info || setjmp(png_jmpbuf(png))) {
                png_destroy_write_struct(&png, &info);
                return -ENOMEM;
        }
        png_set_write_fn(png, m, on_write, NULL);
        png_set_compression_level(png, 0);
        png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_NONE);
        png_set_IHDR(png, info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                     PNG_FILTER_TYPE_DEFAULT);
        png_write_info(png, info);
        for (size_t y = 0; y < height; y++)
                png_write_row(png, points + y * BYTES_A_POINT * width);
        png_write_end(png, info);
        png_destroy_write_struct(&png, &info);
        return 0;
}

static int encode(const uint8_t *points, uint32_t width, uint32_t height, int *ret_fd) {
        png_image image = { .width = width, .height = height, .format = PNG_FORMAT_RGB };
        Memory m = { .size = PNG_IMAGE_PNG_SIZE_MAX(image) };

        m.data = malloc(m.size);
        if (!m.data)
                return -ENOMEM;
        int r = write_png(&m, points, width, height);
        if (r >= 0)
                r = fd_memfd("screenshot.png", m.data, m.length, false, ret_fd);
        free(m.data);
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
        if (width == 0 || height == 0 || width > PICTURE_SIDE_MAX || height > PICTURE_SIDE_MAX || at > length ||
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

static int tell(int r, Error *e) {
        return r < 0 ? error_set_errno(e, r, "Failed to convert the screenshot") : 0;
}

int picture_encode(const uint8_t *points, uint32_t width, uint32_t height, int *ret_fd, Error *e) {
        return tell(encode(points, width, height, ret_fd), e);
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
        return tell(r, e);
}
