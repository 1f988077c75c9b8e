/* Pictures made PNG, and what is refused as none. That a PNG reader takes them is seen in tests/xen/test_hvm.py. */
#include "base/test-support.h"

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

/* Two points, red and blue; the bytes are those that Python's zlib gives for it. */
static void test_two_points(void **state) {
        static const uint8_t wanted[] = {
                0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44,
                0x52, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x01, 0x08, 0x02, 0x00, 0x00, 0x00, 0x7b,
                0x40, 0xe8, 0xdd, 0x00, 0x00, 0x00, 0x12, 0x49, 0x44, 0x41, 0x54, 0x78, 0x01, 0x01, 0x07,
                0x00, 0xf8, 0xff, 0x00, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0x07, 0x00, 0x01, 0xff,
        };
        static const char ppm[] = "P6\n2 1\n255\n\xff\0\0\0\0\xff";
        AUTO(string_drop) char *png = NULL;
        size_t length = 0;

        (void)state;
        assert_int_equal(convert(ppm, sizeof ppm - 1, &png, &length), 0);
        assert_memory_equal(png, wanted, sizeof wanted);
        assert_int_equal(length, 8 + 25 + 12 + 18 + 12);
        assert_memory_equal(png + length - 8, "IEND\xae\x42\x60\x82", 8);
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
                cmocka_unit_test(test_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
