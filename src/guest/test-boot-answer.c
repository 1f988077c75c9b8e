#include "guest/boot-answer.h"

#include <string.h>

#include "base/string-util.h"
#include "base/test-support.h"

#define DIR "/output"

/* A literal, with its own last NUL as the end of the answer's last item. */
#define ANSWER(text) text, sizeof(text)

static void test_whole(void **state) {
        (void)state;
        AUTO(error_clear) Error e = ERROR_INIT;
        BootAnswer a;

        int r = boot_answer_parse(ANSWER("kernel /output/boot_kernel.x1\0ramdisk /output/boot_ramdisk.y\0"
                                         "args root=/dev/vda1  ro \xc3\xa9\0"),
                                  DIR, &a, &e);
        assert_string_equal(error_text(&e), "no error");
        assert_int_equal(r, 0);
        assert_string_equal(a.kernel, "boot_kernel.x1");
        assert_string_equal(a.ramdisk, "boot_ramdisk.y");
        assert_string_equal(a.args, "root=/dev/vda1  ro \xc3\xa9");
}

static void test_parts(void **state) {
        (void)state;
        BootAnswer a;

        assert_int_equal(boot_answer_parse(ANSWER("kernel \t /output/k\0"), DIR, &a, NULL), 0);
        assert_string_equal(a.kernel, "k");
        assert_string_equal(a.ramdisk, "");
        assert_string_equal(a.args, "");
        assert_int_equal(boot_answer_parse(ANSWER("args \0kernel /output/..k\0"), DIR, &a, NULL), 0);
        assert_string_equal(a.kernel, "..k");
        assert_int_equal(boot_answer_parse(ANSWER("args\0kernel /output/k\0"), DIR, &a, NULL), 0);
}

static void test_refuses(void **state) {
        (void)state;
        static const struct {
                const char *data;
                size_t length;
                const char *error;
        } cases[] = {
                { "", 0, "cut short" },
                { ANSWER(""), "no kernel" },
                { "kernel /output/k", 16, "cut short" },
                { "kernel /output/k", 17, "cut short" },
                { ANSWER("kernel /output/k\0args x\0\0"), "something follows" },
                { ANSWER("kernel /output/k\0\0kernel /output/k\0"), "something follows" },
                { ANSWER("args x\0"), "no kernel" },
                { ANSWER("kernel\0"), "kernel \"\": it is not in" },
                { ANSWER("kernel /output\0"), "not in the directory" },
                { ANSWER("kernel /output/\0"), "no file of the directory" },
                { ANSWER("kernel /output/.\0"), "no file of the directory" },
                { ANSWER("kernel /output/..\0"), "no file of the directory" },
                { ANSWER("kernel /output/../disk\0"), "no file of the directory" },
                { ANSWER("kernel /output/a/b\0"), "no file of the directory" },
                { ANSWER("kernel /outputs/k\0"), "not in the directory" },
                { ANSWER("kernel /etc/shadow\0"), "\"/etc/shadow\": it is not in" },
                { ANSWER("kernel k\0"), "not in the directory" },
                { ANSWER("kernel ../k\0"), "not in the directory" },
                { ANSWER("kernel /output/k\0kernel /output/k\0"), "twice" },
                { ANSWER("kernel /output/k\0ramdisk /output/r\0ramdisk /output/r\0"), "twice" },
                { ANSWER("kernel /output/k\0args x\0args y\0"), "twice" },
                { ANSWER("kernel /output/k\0args a\nb\0"), "control characters" },
                { ANSWER("kernel /output/k\0args a\x1b[2J\0"), "\\x1b" },
                { ANSWER("kernel /output/k\0args a\x7f\0"), "control characters" },
                { ANSWER("kernel /output/k\0initrd /output/r\0"), "neither" },
                { ANSWER("kernel /output/k\0kernels /output/r\0"), "neither" },
                { ANSWER("kern /output/k\0"), "neither" },
                { ANSWER("kernel=/output/k\0"), "neither" },
                { ANSWER(" kernel /output/k\0"), "neither" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                BootAnswer a = { .kernel = "untouched" };
                AUTO(error_clear) Error e = ERROR_INIT;
                assert_true(boot_answer_parse(cases[i].data, cases[i].length, DIR, &a, &e) < 0);
                assert_int_equal(e.id, ERROR_HYPERVISOR_FAILED);
                if (!strstr(error_text(&e), cases[i].error))
                        fail_msg("%zu: \"%s\" does not say \"%s\"", i, error_text(&e), cases[i].error);
                assert_string_equal(a.kernel, "untouched");
        }
}

/* What is exactly as long as may be, and one byte more. */
static void test_lengths(void **state) {
        (void)state;
        static char large[BOOT_ANSWER_MAX + 1];
        char text[4096];
        BootAnswer a;

        for (size_t extra = 0; extra < 2; extra++) {
                int wanted = extra == 0 ? 0 : error_errno(ERROR_HYPERVISOR_FAILED);

                memset(text, 0, sizeof text);
                strcpy(text, "kernel /output/");
                memset(text + strlen(text), 'k', BOOT_ANSWER_NAME_MAX - 1 + extra);
                assert_int_equal(boot_answer_parse(text, strlen(text) + 2, DIR, &a, NULL), wanted);

                memset(text, 0, sizeof text);
                size_t at = 1 + (size_t)sprintf(text, "kernel /output/k");
                strcpy(text + at, "args ");
                memset(text + at + 5, 'a', CMDLINE_MAX + extra);
                assert_int_equal(boot_answer_parse(text, at + 5 + CMDLINE_MAX + extra + 2, DIR, &a, NULL), wanted);
        }
        assert_int_equal(strlen(a.args), CMDLINE_MAX);
        assert_true(boot_answer_parse(large, sizeof large, DIR, &a, NULL) < 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_whole),
                cmocka_unit_test(test_parts),
                cmocka_unit_test(test_refuses),
                cmocka_unit_test(test_lengths),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
