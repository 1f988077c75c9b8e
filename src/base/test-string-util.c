#include "base/string-util.h"

#include <string.h>

#include "base/random.h"
#include "base/test-support.h"
#include "base/time-util.h"

static void test_compare(void **state) {
        (void)state;
        assert_true(string_equal("a", "a"));
        assert_false(string_equal("a", "A"));
        assert_true(string_equal(NULL, NULL));
        assert_false(string_equal(NULL, ""));
        assert_false(string_equal("", NULL));
        assert_true(string_has_prefix("debmarshal-1", "debmarshal-"));
        assert_true(string_has_prefix("x", ""));
        assert_false(string_has_prefix("deb", "debmarshal-"));
        assert_string_equal(string_or(NULL, "x"), "x");
        assert_string_equal(string_or("", "x"), "x");
        assert_string_equal(string_or("y", "x"), "y");
}

static void test_find(void **state) {
        (void)state;
        static const char *const names[] = { "raw", "qcow2" };

        assert_int_equal(string_find(names, ARRAY_LEN(names), "raw"), 0);
        assert_int_equal(string_find(names, ARRAY_LEN(names), "qcow2"), 1);
        assert_int_equal(string_find(names, ARRAY_LEN(names), "QCOW2"), 2);
        assert_int_equal(string_find(names, ARRAY_LEN(names), NULL), 2);
        assert_int_equal(string_find(names, 1, "qcow2"), 1);
}

static void test_replace(void **state) {
        (void)state;
        AUTO(string_drop) char *s = NULL;

        assert_int_equal(string_replace(&s, "one"), 0);
        assert_string_equal(s, "one");
        assert_int_equal(string_replace(&s, s), 0);
        assert_string_equal(s, "one");
        assert_int_equal(string_replace(&s, NULL), 0);
        assert_null(s);
}

static void test_escape(void **state) {
        (void)state;
        static const struct {
                const char *in, *out;
                size_t max;
        } cases[] = {
                { "plain text, ~!\"'", "plain text, ~!\"'", 100 },
                { "a\nb\tc\r", "a\\x0ab\\x09c\\x0d", 100 },
                { "\\", "\\x5c", 100 },
                { "\x7f\x80\xff", "\\x7f\\x80\\xff", 100 },
                { "\x1b[31m", "\\x1b[31m", 100 },
                { "abcdef", "abc", 3 },
                { "", "", 3 },
                { NULL, "", 3 },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                AUTO(string_drop) char *escaped = string_escape(cases[i].in, cases[i].max);
                assert_string_equal(escaped, cases[i].out);
        }
}

static void test_parse_u64(void **state) {
        (void)state;
        static const struct {
                const char *text;
                uint64_t max;
                int result;
                uint64_t value;
        } cases[] = {
                { "0", 0, 0, 0 },
                { "1", 1, 0, 1 },
                { "2", 1, -ERANGE, 0 },
                { "18446744073709551615", UINT64_MAX, 0, UINT64_MAX },
                { "18446744073709551616", UINT64_MAX, -ERANGE, 0 },
                { "99999999999999999999999", UINT64_MAX, -ERANGE, 0 },
                { "99999999999999999999999x", UINT64_MAX, -EINVAL, 0 },
                { "", 9, -EINVAL, 0 },
                { NULL, 9, -EINVAL, 0 },
                { "+1", 9, -EINVAL, 0 },
                { "-1", 9, -EINVAL, 0 },
                { " 1", 9, -EINVAL, 0 },
                { "1 ", 9, -EINVAL, 0 },
                { "1\n", 9, -EINVAL, 0 },
                { "01", 9, -EINVAL, 0 },
                { "00", 9, -EINVAL, 0 },
                { "0x1", 9, -EINVAL, 0 },
                { "1.0", 9, -EINVAL, 0 },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                uint64_t value = 77;
                assert_int_equal(parse_u64(cases[i].text, cases[i].max, &value), cases[i].result);
                assert_true(value == (cases[i].result == 0 ? cases[i].value : 77));
        }
}

static void test_lists(void **state) {
        (void)state;
        AUTO(string_list_free) char **list = NULL, **copy = NULL;
        AUTO(string_drop) char *joined = NULL, *none = NULL;

        assert_int_equal(string_list_length(NULL), 0);
        assert_false(string_list_contains(NULL, "a"));
        none = string_list_join(NULL, ", ");
        assert_string_equal(none, "");
        assert_int_equal(string_list_append(&list, "a"), 0);
        assert_int_equal(string_list_append(&list, "b"), 0);
        assert_int_equal(string_list_append(&list, ""), 0);
        assert_int_equal(string_list_length(list), 3);
        assert_true(string_list_contains(list, "b"));
        assert_true(string_list_contains(list, ""));
        assert_false(string_list_contains(list, "c"));
        assert_int_equal(string_list_copy(list, &copy), 0);
        string_list_free(&list);
        assert_null(list);
        joined = string_list_join(copy, ", ");
        assert_string_equal(joined, "a, b, ");
}

static void test_copy_of_nothing_is_empty(void **state) {
        (void)state;
        AUTO(string_list_free) char **copy = NULL;

        assert_int_equal(string_list_copy(NULL, &copy), 0);
        assert_non_null(copy);
        assert_null(copy[0]);
}

static void test_printf(void **state) {
        (void)state;
        AUTO(string_drop) char *s = string_printf("%s-%d", "x", 7);

        assert_string_equal(s, "x-7");
}

static void test_random_differs(void **state) {
        (void)state;
        uint8_t a[16] = { 0 }, b[16] = { 0 };

        assert_int_equal(random_bytes(a, sizeof a), 0);
        assert_int_equal(random_bytes(b, sizeof b), 0);
        assert_memory_not_equal(a, b, sizeof a);
        assert_int_equal(random_bytes(NULL, 0), 0);
}

static void test_clocks_advance(void **state) {
        (void)state;
        uint64_t before = now_monotonic_usec();

        usleep(2000);
        assert_true(now_monotonic_usec() - before >= 2000);
        /* 2020; nobody runs this earlier. */
        assert_true(now_realtime_usec() > 1577836800ULL * USEC_PER_SEC);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_compare),
                cmocka_unit_test(test_find),
                cmocka_unit_test(test_replace),
                cmocka_unit_test(test_escape),
                cmocka_unit_test(test_parse_u64),
                cmocka_unit_test(test_lists),
                cmocka_unit_test(test_copy_of_nothing_is_empty),
                cmocka_unit_test(test_printf),
                cmocka_unit_test(test_random_differs),
                cmocka_unit_test(test_clocks_advance),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
