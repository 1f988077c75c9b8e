#include "core/names.h"

#include <string.h>

#include "base/string-util.h"
#include "base/test-support.h"
#include "core/limits.h"

#define LETTERS_63 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"

static void test_host_names(void **state) {
        (void)state;
        static const char *const good[] = { "a", "A", "web-1", "1a", "a-", "x--y", LETTERS_63, "localhost1" };
        static const char *const bad[] = {
                "",    "-a",        "-",         "a\n", "a b", "a.b",    "a_b", "\xc3\xa4", LETTERS_63 "l", "1",
                "007", "localhost", "LocalHost", "a,b", "a\t", "a/../b", "a=b", "%s%n",     "a\x7f",
        };

        for (size_t i = 0; i < ARRAY_LEN(good); i++)
                assert_int_equal(host_name_check(good[i], NULL), 0);
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                AUTO(error_clear) Error e = ERROR_INIT;
                assert_int_equal(host_name_check(bad[i], &e), -EINVAL);
                assert_int_equal(e.id, ERROR_INVALID_INPUT);
                assert_null(strpbrk(error_text(&e), "\n\t\x7f"));
        }
}

static void test_host_lists(void **state) {
        (void)state;
        AUTO(error_clear) Error e = ERROR_INIT, f = ERROR_INIT;
        char *const *good = LIST("b", "a", "c", "ab"), *const *twice = LIST("Web", "db", "wEB"),
                    *const *none = (char *[]){ NULL }, *const *bad = LIST("a", "b c");

        assert_int_equal(host_names_check(NULL, NULL), 0);
        assert_int_equal(host_names_check(none, NULL), 0);
        assert_int_equal(host_names_check(good, NULL), 0);
        assert_string_equal(good[0], "b");
        assert_int_equal(host_names_check(twice, &e), -EINVAL);
        assert_non_null(strstr(error_text(&e), "twice"));
        assert_int_equal(host_names_check(bad, &f), -EINVAL);
        assert_non_null(strstr(error_text(&f), "b c"));
}

static void test_host_count(void **state) {
        (void)state;
        AUTO(string_list_free) char **names = calloc(HOSTS_PER_NETWORK_MAX + 2, sizeof *names);

        for (int i = 0; i < HOSTS_PER_NETWORK_MAX; i++)
                names[i] = string_printf("h%d", i);
        assert_int_equal(host_names_check(names, NULL), 0);
        names[HOSTS_PER_NETWORK_MAX] = string_printf("more");
        AUTO(error_clear) Error e = ERROR_INIT;
        assert_int_equal(host_names_check(names, &e), -EINVAL);
        assert_non_null(strstr(error_text(&e), "4097"));
}

static void test_object_names(void **state) {
        (void)state;
        static const char *const bad[] = { "",
                                           "debmarshal",
                                           "debmarshal-",
                                           "debmarshal--1",
                                           "debmarshal-01",
                                           "Debmarshal-1",
                                           "debmarshal-1\n",
                                           "debmarshal-1 ",
                                           " debmarshal-1",
                                           "debmarshal-2147483648",
                                           "debmarshal-99999999999999999999",
                                           "debmarshal-0x1",
                                           "debmarshal-1/../2" };
        char buffer[OBJECT_NAME_MAX];
        unsigned number = 77;

        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_int_equal(object_name_parse(bad[i], &number), -EINVAL);
        assert_int_equal(object_name_parse(NULL, &number), -EINVAL);
        assert_int_equal(number, 77);
        static const unsigned numbers[] = { 0, 1, 10, 2147483647 };
        for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
                assert_int_equal(object_name_parse(object_name_format(numbers[i], buffer), &number), 0);
                assert_int_equal(number, numbers[i]);
        }
        assert_string_equal(object_name_format(3, buffer), "debmarshal-3");
}

static void test_smallest_free(void **state) {
        (void)state;
        unsigned gap[] = { 3, 0, 1, 5, 1 }, full[] = { 2, 1, 0 }, late[] = { 7, 9 };

        assert_int_equal(smallest_free(NULL, 0), 0);
        assert_int_equal(smallest_free(gap, ARRAY_LEN(gap)), 2);
        assert_int_equal(smallest_free(full, ARRAY_LEN(full)), 3);
        assert_int_equal(smallest_free(late, ARRAY_LEN(late)), 0);
}

static void test_boot_loader_names(void **state) {
        (void)state;

        assert_int_equal(boot_loader_name_check("pygrub"), 0);
        assert_int_equal(boot_loader_name_check("a.b-c_D1"), 0);
        assert_int_equal(boot_loader_name_check("1234567890123456789012345678901"), 0);
        static const char *const bad[] = { "", ".x", "-x", "a/b", "a b", "a\n", "12345678901234567890123456789012" };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_int_equal(boot_loader_name_check(bad[i]), -EINVAL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_host_names),        cmocka_unit_test(test_host_lists),
                cmocka_unit_test(test_host_count),        cmocka_unit_test(test_object_names),
                cmocka_unit_test(test_boot_loader_names), cmocka_unit_test(test_smallest_free),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
