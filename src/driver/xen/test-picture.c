/* Pictures made PNG and read again, and what is refused as none. */
#include "base/test-support.h"

#include <png.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "driver/xen/picture.h"

static int convert(const char *data, size_t length, char **ret, size_t *ret_length) {
        AUTO(fd_drop) int ppm = -1, png = -1;
        AUTO(error_clear) Error e = ERROR_INIT;

        assert_int_equal(fd_memfd("ppm", data, length, false, &ppm), 0);
        int r = picture_convert(ppm, &png, &e);
        if (r < 0)
                assert_true(error_is_set(&e));
        else
                assert_int_equal(fd_read_all(png, 1 << 20, ret, ret_length), 0);
        return r;
}

/* The points have to come back as they were. */
static void check(const char *header, const uint8_t *points, uint32_t width, uint32_t height) {
        size_t size = (size_t)3 * width * height, start = strlen(header), length = 0;
        char *ppm = malloc(start + size);
        uint8_t *got = malloc(size);
        AUTO(string_drop) char *png = NULL;
        png_image image = { .version = PNG_IMAGE_VERSION };

        assert_non_null(ppm);
        assert_non_null(got);
        memcpy(ppm, header, start);
        memcpy(ppm + start, points, size);
        assert_int_equal(convert(ppm, start + size, &png, &length), 0);
        assert_true(png_image_begin_read_from_memory(&image, png, length));
        assert_int_equal(image.width, width);
        assert_int_equal(image.height, height);
        assert_int_equal(image.format, PNG_FORMAT_RGB);
        assert_true(png_image_finish_read(&image, NULL, got, 0, NULL));
        assert_int_equal(image.warning_or_error, 0);
        assert_memory_equal(got, points, size);
        free(ppm);
        free(got);
}

static void test_two_points(void **state) {
        static const uint8_t red_and_blue[] = { 0xff, 0, 0, 0, 0, 0xff };

        (void)state;
        check("P6\n2 1\n255\n", red_and_blue, 2, 1);
        check("P6\n1 2\n255\n", red_and_blue, 1, 2);
}

/* Noise, of odd sides: nothing that can be compressed. */
static void test_noise(void **state) {
        static uint8_t points[3 * 317 * 211];
        uint32_t seed = 1;

        (void)state;
        for (size_t i = 0; i < sizeof points; i++) {
                seed = seed * 1664525 + 1013904223;
                points[i] = (uint8_t)(seed >> 24);
        }
        check("P6\n317 211\n255\n", points, 317, 211);
}

static void test_none(void **state) {
        static const char *const none[] = {
                "P5\n2 1\n255\nxxxxxx",
                "P6\n2 1\n255\nxxxxx",
                "P6\n0 1\n255\n",
                "P6\n2 1\n65535\nxxxxxx",
                "P6\n2 1",
                "",
                "P6\n99999 99999\n255\nx",
                "P6\n-1 1\n255\nxxx",
        };
        char *png = NULL;
        size_t length = 0;

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(none); i++)
                assert_true(convert(none[i], strlen(none[i]), &png, &length) < 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_two_points),
                cmocka_unit_test(test_noise),
                cmocka_unit_test(test_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
