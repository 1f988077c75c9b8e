#include "base/log.h"

#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/test-support.h"

static int real_stderr, captured;

/* From here on, standard error is a file in memory. */
static void capture_begin(void) {
        real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
        assert_int_equal(fd_memfd("stderr", NULL, 0, false, &captured), 0);
        assert_int_equal(dup2(captured, STDERR_FILENO), STDERR_FILENO);
}

static char *capture_end(void) {
        char *text = NULL;

        dup2(real_stderr, STDERR_FILENO);
        fd_drop(&real_stderr);
        assert_true(lseek(captured, 0, SEEK_SET) == 0);
        assert_int_equal(fd_read_all(captured, 1 << 20, &text, NULL), 0);
        fd_drop(&captured);
        return text;
}

static size_t count_lines(const char *text) {
        size_t n = 0;

        for (; *text; text++)
                n += *text == '\n';
        return n;
}

static void test_line_with_fields(void **state) {
        (void)state;
        const uid_t uid = 1000;

        capture_begin();
        log_write(LOG_WARNING,
                  LOG_FIELDS(.network = "debmarshal-1", .domain = "debmarshal-2", .operation = "x", .result = "Busy",
                             .uid = &uid, .usec = 12),
                  "Failed to %s", "act");
        log_info("plain");
        AUTO(string_drop) char *text = capture_end();
        assert_string_equal(text, "test: warning: Failed to act [network=debmarshal-1 domain=debmarshal-2 operation=x "
                                  "uid=1000 result=Busy usec=12]\ntest: plain\n");
}

static void test_one_entry_is_one_line(void **state) {
        (void)state;
        char large[10000];

        memset(large, '\n', sizeof large - 1);
        large[sizeof large - 1] = '\0';
        capture_begin();
        log_error("bad name \"%s\"", "x\ntest: forged\x1b[2J\xc2\x9b");
        log_write(LOG_ERR, LOG_FIELDS(.network = "a uid=0]\nb"), "text");
        log_error("%s", large);
        AUTO(string_drop) char *text = capture_end();
        assert_int_equal(count_lines(text), 3);
        assert_non_null(strstr(text, "test: error: bad name \"x\\x0atest: forged\\x1b[2J\\xc2\\x9b\"\n"));
        assert_non_null(strstr(text, "[network=a\\x20uid\\x3d0\\x5d\\x0ab]\n"));
}

static void test_levels(void **state) {
        (void)state;
        const uid_t root = 0;

        capture_begin();
        log_debug("hidden");
        log_set_level(LOG_DEBUG);
        log_debug("shown");
        log_set_level(LOG_ERR);
        log_warning("hidden");
        /* Audit is not a matter of taste. */
        log_audit(LOG_FIELDS(.operation = "createNetwork", .network = "debmarshal-0", .uid = &root, .result = "done"));
        log_set_level(LOG_INFO);
        AUTO(string_drop) char *text = capture_end();
        assert_string_equal(text, "test: debug: shown\ntest: createNetwork debmarshal-0 by uid 0: done "
                                  "[network=debmarshal-0 operation=createNetwork uid=0 result=done]\n");
}

static void test_errno_is_kept(void **state) {
        (void)state;
        capture_begin();
        errno = ECHILD;
        log_error("x");
        int kept = errno;
        char *text = capture_end();
        string_drop(&text);
        assert_int_equal(kept, ECHILD);
}

static void test_limited(void **state) {
        (void)state;
        LogLimit limit = { 0 };

        capture_begin();
        for (int i = 0; i < 25; i++)
                log_limited(&limit, LOG_INFO, NULL, "line %d", i);
        /* As if the window had passed. */
        limit.window_usec -= 11 * 1000000ULL;
        log_limited(&limit, LOG_INFO, NULL, "again");
        AUTO(string_drop) char *text = capture_end();
        assert_int_equal(count_lines(text), 12);
        assert_non_null(strstr(text, "line 9\n"));
        assert_null(strstr(text, "line 10\n"));
        assert_non_null(strstr(text, "15 similar lines were dropped\ntest: again\n"));
}

static void test_file_is_bounded(void **state) {
        (void)state;

        capture_begin();
        assert_true(fcntl(captured, F_SETFL, O_APPEND) == 0);
        log_bound_file(100);
        for (int i = 0; i < 25; i++)
                log_info("line number %d", i); /* 21 or 22 bytes */
        log_bound_file(0);
        AUTO(string_drop) char *text = capture_end();
        assert_true(strlen(text) <= 100);
        assert_true(string_has_prefix(text, "test: line number 2"));
        assert_non_null(strstr(text, "test: line number 24\n"));
}

static void set_journal_stream(void) {
        struct stat st;
        AUTO(string_drop) char *value = NULL;

        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        value = string_printf("%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
        setenv("JOURNAL_STREAM", value, 1);
}

/* A journal of our own, where the library looks for it: in a mount namespace. */
static int make_journal(void) {
        const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket" };

        if (test_own_mounts() < 0)
                return -1;
        if (mount("none", "/run", "tmpfs", 0, NULL) < 0 || mkdir("/run/systemd", 0755) < 0 ||
            mkdir("/run/systemd/journal", 0755) < 0)
                return -1;
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        return fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 ? fd : -1;
}

static int log_to_journal(void) {
        const uid_t uid = 7;
        char entry[4096] = "";
        int journal = make_journal();

        if (journal < 0)
                return 77;
        set_journal_stream();
        log_open("test");
        log_write(LOG_WARNING, LOG_FIELDS(.domain = "debmarshal-5", .uid = &uid), "two\nlines");
        ssize_t n = recv(journal, entry, sizeof entry - 1, 0);
        if (n < 0)
                return 1;
        static const char *const expected[] = { "MESSAGE=two\\x0alines\n", "PRIORITY=4\n", "SYSLOG_IDENTIFIER=test\n",
                                                "DEBMARSHAL_DOMAIN=debmarshal-5\n", "DEBMARSHAL_UID=7\n" };
        for (size_t i = 0; i < ARRAY_LEN(expected); i++)
                if (!strstr(entry, expected[i]))
                        return 2;
        return strstr(entry, "DEBMARSHAL_NETWORK") ? 3 : 0;
}

static void test_journal(void **state) {
        (void)state;
        int status;

        capture_begin();
        pid_t pid = fork();
        if (pid == 0)
                _exit(log_to_journal());
        assert_int_equal(waitpid(pid, &status, 0), pid);
        AUTO(string_drop) char *text = capture_end();
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77) {
                string_drop(&text);
                skip();
        }
        assert_int_equal(WEXITSTATUS(status), 0);
        assert_string_equal(text, "");
}

/* The variable of some other stream, or a journal that is not there: nothing may be lost. */
static void test_no_journal(void **state) {
        (void)state;
        capture_begin();
        setenv("JOURNAL_STREAM", "1:1", 1);
        log_open("test");
        log_info("one");
        setenv("JOURNAL_STREAM", "garbage", 1);
        log_open("test");
        log_info("two");
        if (access("/run/systemd/journal/socket", F_OK) < 0) {
                set_journal_stream();
                log_open("test");
        }
        log_info("three");
        unsetenv("JOURNAL_STREAM");
        log_open("test");
        AUTO(string_drop) char *text = capture_end();
        assert_string_equal(text, "test: one\ntest: two\ntest: three\n");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_line_with_fields), cmocka_unit_test(test_one_entry_is_one_line),
                cmocka_unit_test(test_levels),           cmocka_unit_test(test_errno_is_kept),
                cmocka_unit_test(test_limited),          cmocka_unit_test(test_file_is_bounded),
                cmocka_unit_test(test_journal),          cmocka_unit_test(test_no_journal),
        };

        unsetenv("JOURNAL_STREAM");
        log_open("test");
        return cmocka_run_group_tests(tests, NULL, NULL);
}
