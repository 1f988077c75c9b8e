#include "guest/boot-loaders.h"

#include <errno.h>
#include <string.h>

#include "base/string-util.h"
#include "base/test-support.h"

static void test_add(void **state) {
        (void)state;
        BootLoaders b = { 0 };
        char path[BOOT_LOADER_PATH_MAX + 1];

        assert_int_equal(boot_loaders_add(&b, "x", "relative"), -EINVAL);
        assert_int_equal(boot_loaders_add(&b, "x", ""), -EINVAL);
        memset(path, '/', sizeof path);
        path[BOOT_LOADER_PATH_MAX] = '\0';
        assert_int_equal(boot_loaders_add(&b, "x", path), -EINVAL);
        assert_int_equal(b.count, 0);
        path[BOOT_LOADER_PATH_MAX - 1] = '\0';
        assert_int_equal(boot_loaders_add(&b, "x", path), 0);
        assert_int_equal(boot_loaders_add(&b, "x", "/bin/sh"), 0);
        assert_int_equal(b.count, 1);
        assert_string_equal(b.items[0].path, "/bin/sh");
}

static void test_find(void **state) {
        (void)state;
        BootLoaders b = { 0 };
        AUTO(string_drop) char *path = NULL;
        AUTO(error_clear) Error unknown = ERROR_INIT, missing = ERROR_INIT;

        assert_int_equal(boot_loaders_add(&b, "sh", "/bin/sh"), 0);
        assert_int_equal(boot_loaders_add(&b, "pygrub", "/nowhere/pygrub"), 0);
        assert_int_equal(boot_loaders_find(&b, "sh", &path, NULL), 0);
        assert_string_equal(path, "/bin/sh");

        assert_true(boot_loaders_find(&b, "a\x1b", &path, &unknown) < 0);
        assert_int_equal(unknown.id, ERROR_NOT_SUPPORTED);
        assert_string_equal(error_text(&unknown), "boot loader \"a\\x1b\": it is not known; these are: sh, pygrub");
        /* What is configured wins over what is installed, also when it is wrong. */
        assert_true(boot_loaders_find(&b, "pygrub", &path, &missing) < 0);
        assert_int_equal(missing.id, ERROR_NOT_SUPPORTED);
        assert_non_null(strstr(error_text(&missing), "configured as /nowhere/pygrub"));
}

/* Installed here or not, pygrub is known, and named with its package when it is missing. */
static void test_pygrub(void **state) {
        (void)state;
        BootLoaders b = { 0 };
        AUTO(string_drop) char *path = NULL, *again = NULL;
        AUTO(error_clear) Error e = ERROR_INIT;
        const char *name = NULL;

        int r = boot_loaders_at(&b, 0, &name, &path);
        assert_true(r == 0 || r == 1);
        assert_string_equal(name, "pygrub");
        assert_int_equal(boot_loaders_at(&b, 1, &name, &again), -ENOENT);
        if (r == 1) {
                assert_int_equal(boot_loaders_find(&b, "pygrub", &again, &e), 0);
                assert_string_equal(path, again);
        } else {
                assert_true(boot_loaders_find(&b, "pygrub", &again, &e) < 0);
                assert_non_null(strstr(error_text(&e), "install package xen-utils"));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_add),
                cmocka_unit_test(test_find),
                cmocka_unit_test(test_pygrub),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
