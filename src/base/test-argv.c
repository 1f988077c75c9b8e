#include "base/argv.h"

#include "base/string-util.h"
#include "base/test-support.h"

static void test_builds_in_order(void **state) {
        (void)state;
        AUTO(argv_done) Argv a = ARGV_INIT;
        AUTO(string_list_free) char **items = NULL;

        argv_add(&a, "qemu");
        argv_addf(&a, "-m%d", 5);
        argv_add_pair(&a, "-name", "x y");
        argv_add_pairf(&a, "-smp", "%u", 4u);
        assert_int_equal(argv_take(&a, &items), 0);
        const char *const expected[] = { "qemu", "-m5", "-name", "x y", "-smp", "4", NULL };
        for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
                if (expected[i])
                        assert_string_equal(items[i], expected[i]);
                else
                        assert_null(items[i]);
        }
        assert_int_equal(a.count, 0);
        assert_null(a.items);
}

static void test_grows(void **state) {
        (void)state;
        AUTO(argv_done) Argv a = ARGV_INIT;
        AUTO(string_list_free) char **items = NULL;

        for (int i = 0; i < 1000; i++) {
                argv_addf(&a, "%d", i);
                assert_null(a.items[a.count]);
        }
        assert_int_equal(argv_take(&a, &items), 0);
        assert_int_equal(string_list_length(items), 1000);
        assert_string_equal(items[999], "999");
}

static void test_failure_is_remembered(void **state) {
        (void)state;
        AUTO(argv_done) Argv a = ARGV_INIT;
        char **items = NULL;

        argv_add(&a, "one");
        a.failed = -ENOMEM;
        argv_add(&a, "two");
        assert_int_equal(a.count, 1);
        assert_int_equal(argv_take(&a, &items), -ENOMEM);
        assert_null(items);
}

static void test_empty(void **state) {
        (void)state;
        AUTO(argv_done) Argv a = ARGV_INIT;
        AUTO(string_list_free) char **items = NULL;

        assert_int_equal(argv_take(&a, &items), 0);
        assert_non_null(items);
        assert_null(items[0]);
        argv_done(&a);
        argv_done(&a);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_builds_in_order),
                cmocka_unit_test(test_grows),
                cmocka_unit_test(test_failure_is_remembered),
                cmocka_unit_test(test_empty),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
