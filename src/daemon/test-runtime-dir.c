/* The runtime directory is refused unless it is ours alone, and is one daemon's. */
#include "base/test-support.h"

#include <sys/stat.h>

#include "base/string-util.h"
#include "daemon/runtime-dir.h"

static void test_paths(void **state UNUSED) {
        AUTO(string_drop) char *given = runtime_dir_path(SCOPE_SYSTEM, "/x");
        AUTO(string_drop) char *system = runtime_dir_path(SCOPE_SYSTEM, NULL);
        assert_string_equal(given, "/x");
        assert_string_equal(system, "/run/debmarshal");

        TestDir dir;
        test_dir_open(&dir);
        setenv("XDG_RUNTIME_DIR", dir.path, 1);
        AUTO(string_drop) char *session = runtime_dir_path(SCOPE_SESSION, NULL);
        assert_int_equal(strncmp(session, dir.path, strlen(dir.path)), 0);
        assert_string_equal(session + strlen(dir.path), "/debmarshal");

        /* Not ours, relative, or not there: the last resort. */
        static const char *const bad[] = { "relative", "/nonexistent/directory", "/proc/self/status", "" };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                setenv("XDG_RUNTIME_DIR", bad[i], 1);
                AUTO(string_drop) char *path = runtime_dir_path(SCOPE_SESSION, NULL);
                assert_true(string_has_prefix(path, "/tmp/debmarshal-"));
        }
        test_dir_close(&dir);
}

static mode_t mode_of(int fd) {
        struct stat st;
        assert_int_equal(fstat(fd, &st), 0);
        return st.st_mode & 0777;
}

static void test_is_made_and_closed_to_others(void **state UNUSED) {
        TestDir dir;
        test_dir_open(&dir);
        AUTO(string_drop) char *session = string_printf("%s/session", dir.path);
        AUTO(string_drop) char *system = string_printf("%s/system", dir.path);
        AUTO(error_clear) Error e = ERROR_INIT;
        int fd;

        assert_int_equal(runtime_dir_open(SCOPE_SESSION, session, &fd, &e), 0);
        assert_int_equal(mode_of(fd), 0700);
        close(fd);
        assert_int_equal(runtime_dir_open(SCOPE_SYSTEM, system, &fd, &e), 0);
        assert_int_equal(mode_of(fd), 0755);
        close(fd);
        assert_int_equal(runtime_dir_open(SCOPE_SYSTEM, system, &fd, &e), 0); /* twice is fine */
        close(fd);
        test_dir_close(&dir);
}

static void assert_refused(const char *path, const char *why) {
        AUTO(error_clear) Error e = ERROR_INIT;
        int fd = -1;
        assert_true(runtime_dir_open(SCOPE_SESSION, path, &fd, &e) < 0);
        assert_int_equal(fd, -1);
        assert_non_null(strstr(e.message, path));
        assert_non_null(strstr(e.message, why));
}

static void test_traps_are_refused(void **state UNUSED) {
        TestDir dir;
        test_dir_open(&dir);
        AUTO(string_drop) char *open_to_all = string_printf("%s/open", dir.path);
        AUTO(string_drop) char *link = string_printf("%s/link", dir.path);
        AUTO(string_drop) char *file = string_printf("%s/file", dir.path);
        AUTO(string_drop) char *nowhere = string_printf("%s/a/b", dir.path);

        assert_int_equal(mkdir(open_to_all, 0700), 0);
        assert_int_equal(chmod(open_to_all, 0770), 0);
        assert_int_equal(symlink(dir.path, link), 0);
        close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        assert_refused(open_to_all, "chmod go-w");
        assert_refused(link, "Failed to open");
        assert_refused(file, "Not a directory");
        assert_refused(nowhere, "No such file");
        if (geteuid() == 0) {
                assert_int_equal(chmod(open_to_all, 0700), 0);
                assert_int_equal(chown(open_to_all, 12345, 12345), 0);
                assert_refused(open_to_all, "belongs to uid 12345");
        }
        test_dir_close(&dir);
}

static void test_is_one_daemons(void **state UNUSED) {
        TestDir dir;
        test_dir_open(&dir);
        AUTO(error_clear) Error e = ERROR_INIT;
        int first, second;

        assert_int_equal(runtime_dir_lock(dir.fd, &first, &e), 0);
        assert_int_equal(runtime_dir_lock(dir.fd, &second, &e), -EWOULDBLOCK);
        assert_false(error_is_set(&e));
        close(first);
        assert_int_equal(runtime_dir_lock(dir.fd, &second, &e), 0);
        close(second);
        test_dir_close(&dir);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_paths),
                cmocka_unit_test(test_is_made_and_closed_to_others),
                cmocka_unit_test(test_traps_are_refused),
                cmocka_unit_test(test_is_one_daemons),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
