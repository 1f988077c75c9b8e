#include "base/error.h"

#include <string.h>

#include "base/test-support.h"

static void test_ids_round_trip(void **state) {
        (void)state;
        for (ErrorId id = ERROR_NONE + 1; id < ERROR_ID_COUNT; id++) {
                assert_true(strlen(error_id_name(id)) > 0);
                assert_int_equal(error_id_from_name(error_id_name(id)), id);
                assert_true(error_errno(id) < 0);
        }
        assert_string_equal(error_id_name(ERROR_NONE), "");
        assert_int_equal(error_errno(ERROR_NONE), 0);
        assert_int_equal(error_id_from_name("NoSuchError"), ERROR_ID_COUNT);
        assert_int_equal(error_id_from_name(""), ERROR_ID_COUNT);
        assert_int_equal(error_id_from_name(NULL), ERROR_ID_COUNT);
        assert_string_equal(error_id_name(ERROR_NO_AVAILABLE_IPS), "NoAvailableIPs");
}

static void test_first_cause_is_kept(void **state) {
        (void)state;
        AUTO(error_clear) Error e = ERROR_INIT;

        assert_false(error_is_set(&e));
        assert_int_equal(error_set(&e, ERROR_BUSY, "first %d", 1), error_errno(ERROR_BUSY));
        assert_int_equal(error_set(&e, ERROR_TIMEOUT, "second"), error_errno(ERROR_TIMEOUT));
        assert_int_equal(error_set_errno(&e, EPERM, "third"), -EPERM);
        assert_int_equal(error_set_value(&e, ERROR_INVALID_INPUT, "a", "b", "c"), -EINVAL);
        assert_int_equal(e.id, ERROR_BUSY);
        assert_string_equal(error_text(&e), "first 1");
}

static void test_null_is_allowed(void **state) {
        (void)state;
        assert_int_equal(error_set(NULL, ERROR_ACCESS_DENIED, "x"), -EACCES);
        assert_int_equal(error_set_errno(NULL, -ENOSPC, "x"), -ENOSPC);
        assert_int_equal(error_set_value(NULL, ERROR_INVALID_INPUT, "x", "y", "z"), -EINVAL);
        error_prefix(NULL, "x");
        error_clear(NULL);
        assert_false(error_is_set(NULL));
        assert_non_null(error_text(NULL));
}

static void test_errno_of_either_sign(void **state) {
        (void)state;
        AUTO(error_clear) Error a = ERROR_INIT, b = ERROR_INIT;

        errno = ECHILD;
        assert_int_equal(error_set_errno(&a, ENOSPC, "Failed to write %s", "x"), -ENOSPC);
        assert_int_equal(error_set_errno(&b, -ENOSPC, "Failed to write %s", "x"), -ENOSPC);
        assert_int_equal(errno, ECHILD);
        assert_int_equal(a.id, ERROR_INTERNAL);
        assert_string_equal(error_text(&a), "Failed to write x: No space left on device");
        assert_string_equal(error_text(&a), error_text(&b));
        /* Zero must not pass for success. */
        assert_true(error_set_errno(NULL, 0, "x") < 0);
}

static void test_value_is_escaped_and_cut(void **state) {
        (void)state;
        AUTO(error_clear) Error e = ERROR_INIT, f = ERROR_INIT;
        char large[1000];

        error_set_value(&e, ERROR_INVALID_INPUT, "name", "a\nb\x1b", "no");
        assert_string_equal(error_text(&e), "name \"a\\x0ab\\x1b\": no");
        memset(large, 'x', sizeof large - 1);
        large[sizeof large - 1] = '\0';
        error_set_value(&f, ERROR_INVALID_INPUT, "name", large, "no");
        assert_true(strlen(error_text(&f)) < 120);
        assert_non_null(strstr(error_text(&f), "xxx...\": no"));
}

static void test_prefix(void **state) {
        (void)state;
        AUTO(error_clear) Error e = ERROR_INIT;

        error_prefix(&e, "nothing");
        assert_false(error_is_set(&e));
        error_set(&e, ERROR_TIMEOUT, "too slow");
        error_prefix(&e, "starting %s", "x");
        assert_string_equal(error_text(&e), "starting x: too slow");
        assert_int_equal(e.id, ERROR_TIMEOUT);
}

static void test_move(void **state) {
        (void)state;
        AUTO(error_clear) Error to = ERROR_INIT;
        Error from = ERROR_INIT;

        error_set(&from, ERROR_BUSY, "a");
        assert_int_equal(error_move(&to, &from), error_errno(ERROR_BUSY));
        assert_false(error_is_set(&from));
        assert_string_equal(error_text(&to), "a");

        error_set(&from, ERROR_TIMEOUT, "b");
        assert_int_equal(error_move(&to, &from), error_errno(ERROR_BUSY));
        assert_false(error_is_set(&from));
        assert_string_equal(error_text(&to), "a");

        error_set(&from, ERROR_TIMEOUT, "c");
        assert_int_equal(error_move(NULL, &from), error_errno(ERROR_TIMEOUT));
        assert_false(error_is_set(&from));
}

static void test_copy(void **state) {
        (void)state;
        AUTO(error_clear) Error to = ERROR_INIT, from = ERROR_INIT;

        assert_int_equal(error_copy(&to, NULL), 0);
        assert_int_equal(error_copy(&to, &from), 0);
        assert_false(error_is_set(&to));

        error_set(&from, ERROR_BUSY, "%s", "100%s");
        assert_int_equal(error_copy(&to, &from), error_errno(ERROR_BUSY));
        assert_int_equal(to.id, ERROR_BUSY);
        assert_string_equal(error_text(&to), "100%s");
        assert_string_equal(error_text(&from), "100%s");
        assert_int_equal(error_copy(NULL, &from), error_errno(ERROR_BUSY));

        error_clear(&from);
        error_set(&from, ERROR_TIMEOUT, "later");
        assert_int_equal(error_copy(&to, &from), error_errno(ERROR_TIMEOUT));
        assert_string_equal(error_text(&to), "100%s");
}

static void test_text_without_memory(void **state) {
        (void)state;
        const Error e = { .id = ERROR_NETWORK_NOT_FOUND };

        assert_string_equal(error_text(&e), "no such network");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ids_round_trip),
                cmocka_unit_test(test_first_cause_is_kept),
                cmocka_unit_test(test_null_is_allowed),
                cmocka_unit_test(test_errno_of_either_sign),
                cmocka_unit_test(test_value_is_escaped_and_cut),
                cmocka_unit_test(test_prefix),
                cmocka_unit_test(test_move),
                cmocka_unit_test(test_copy),
                cmocka_unit_test(test_text_without_memory),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
