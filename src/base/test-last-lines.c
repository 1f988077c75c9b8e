#include "base/last-lines.h"

#include <string.h>

#include "base/string-util.h"
#include "base/test-support.h"

static void test_last_lines(void **state) {
        (void)state;
        static const struct {
                const char *text, *lines;
        } cases[] = {
                { "", NULL },
                { "\n\n\n", NULL },
                { "one", "one" },
                { "one\n\ntwo\n", "one; two" },
                { "1\n2\n3\n4\n5\n6\n7\n8\n", "3; 4; 5; 6; 7; 8" },
                { "\x1b[2J \xff\\", "\\x1b[2J \\xff\\x5c" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                AUTO(string_drop) char *lines = last_lines(cases[i].text, strlen(cases[i].text));
                if (cases[i].lines)
                        assert_string_equal(lines, cases[i].lines);
                else
                        assert_null(lines);
        }
}

static void test_long_line(void **state) {
        (void)state;
        char text[5000];

        memset(text, 'x', sizeof text);
        AUTO(string_drop) char *lines = last_lines(text, sizeof text);
        assert_int_equal(strlen(lines), 400);
}

static void test_strip(void **state) {
        (void)state;
        static const struct {
                const char *text, *plain;
        } cases[] = {
                { "", "" },
                { "a\r\nb  \r\n", "a\n\nb\n\n" },
                { "\x1b[1;31mred\x1b[m and \x1b(B\x1b)0plain", "red and plain" },
                { "here\x1b[12;40Hthere", "here\nthere" },
                { "\x1b]0;title\x07text\x1b]0;title\x1b\\more", "textmore" },
                { "a\x0eqqqq\x0f b\tc\x7f\x01", "a b c" },
                { "cut\x1b[12;", "cut" },
                { "cut\x1b", "cut" },
                { "\x1b=\x1b>\x1b#8x", "x" },
                { "\xc3\xa9", "\xc3\xa9" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                char text[100];
                strcpy(text, cases[i].text);
                size_t n = terminal_strip(text, strlen(text));
                text[n] = '\0';
                assert_string_equal(text, cases[i].plain);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_last_lines),
                cmocka_unit_test(test_long_line),
                cmocka_unit_test(test_strip),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
