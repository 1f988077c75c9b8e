#include "base/string-util.h"
#include "base/test-support.h"

#define KIB 1024ULL
#define MIB (KIB * KIB)
#define GIB (MIB * KIB)

static void test_parse_accepts(void **state) {
        (void)state;
        static const struct {
                const char *text;
                uint64_t bytes;
        } cases[] = {
                { "512M", 512 * MIB },    { "1G", GIB },          { "256MiB", 256 * MIB },
                { "131072k", 128 * MIB }, { "1K", KIB },          { "1kB", KIB },
                { "3g", 3 * GIB },        { "2TiB", 2048 * GIB }, { "8388607T", 8388607ULL << 40 },
                { "1mB", MIB },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                uint64_t bytes = 0;
                assert_int_equal(size_parse(cases[i].text, &bytes), 0);
                assert_true(bytes == cases[i].bytes);
        }
}

static void test_parse_refuses(void **state) {
        (void)state;
        static const struct {
                const char *text;
                int result;
        } cases[] = {
                { "", -EINVAL },
                { NULL, -EINVAL },
                { "M", -EINVAL },
                { "512", -EINVAL },
                { "512 M", -EINVAL },
                { " 512M", -EINVAL },
                { "512M ", -EINVAL },
                { "512M\n", -EINVAL },
                { "-1M", -EINVAL },
                { "+1M", -EINVAL },
                { "1.5G", -EINVAL },
                { "1Mi", -EINVAL },
                { "1MB1", -EINVAL },
                { "1MiBB", -EINVAL },
                { "1P", -EINVAL },
                { "0x1M", -EINVAL },
                { "01M", -EINVAL },
                { "1B", -EINVAL },
                { "0M", -ERANGE },
                { "8388608T", -ERANGE },
                { "18446744073709551615k", -ERANGE },
                { "99999999999999999999999999999999999k", -ERANGE },
                { "00000000000000000000000000000000001k", -EINVAL },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                uint64_t bytes = 77;
                assert_int_equal(size_parse(cases[i].text, &bytes), cases[i].result);
                assert_true(bytes == 77);
        }
}

static void test_format(void **state) {
        (void)state;
        static const struct {
                uint64_t bytes;
                const char *text;
        } cases[] = {
                { 0, "0 B" },
                { 1023, "1023 B" },
                { KIB, "1 KiB" },
                { 512 * MIB, "512 MiB" },
                { GIB + GIB / 2, "1.5 GiB" },
                { GIB - 1, "1023.9 MiB" },
                { UINT64_MAX, "16777215.9 TiB" },
        };
        char buffer[SIZE_TEXT_MAX];

        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                assert_string_equal(size_format(cases[i].bytes, buffer), cases[i].text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_parse_accepts),
                cmocka_unit_test(test_parse_refuses),
                cmocka_unit_test(test_format),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
