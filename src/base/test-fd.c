#include "base/fd.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/string-util.h"
#include "base/test-support.h"

static bool is_open(int fd) {
        return fcntl(fd, F_GETFD) >= 0;
}

static void test_drop_and_take(void **state) {
        (void)state;
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), copy = fd;

        errno = ECHILD;
        fd_drop(&fd);
        assert_int_equal(fd, -1);
        assert_int_equal(errno, ECHILD);
        assert_false(is_open(copy));
        fd_drop(&fd);

        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        int taken = fd_take(&fd);
        assert_int_equal(fd, -1);
        assert_true(is_open(taken));
        fd_drop(&taken);
}

static void test_set_closes_what_does_not_fit(void **state) {
        (void)state;
        FdSet set = { .count = 0 };

        for (int i = 0; i < FD_SET_MAX; i++)
                assert_int_equal(fd_set_add(&set, open("/dev/null", O_RDONLY | O_CLOEXEC)), 0);
        int last = open("/dev/null", O_RDONLY | O_CLOEXEC), first = set.fds[0];
        assert_int_equal(fd_set_add(&set, last), -EMFILE);
        assert_false(is_open(last));
        assert_true(is_open(first));
        fd_set_clear(&set);
        assert_int_equal(set.count, 0);
        assert_false(is_open(first));
}

static void test_nonblock(void **state) {
        (void)state;
        int pair[2];

        assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
        assert_int_equal(fd_set_nonblock(pair[0], true), 0);
        assert_true(fcntl(pair[0], F_GETFL) & O_NONBLOCK);
        assert_int_equal(fd_set_nonblock(pair[0], false), 0);
        assert_false(fcntl(pair[0], F_GETFL) & O_NONBLOCK);
        fd_drop(&pair[0]);
        fd_drop(&pair[1]);
        assert_int_equal(fd_set_nonblock(-1, true), -EBADF);
}

static void test_replace_and_read(void **state) {
        (void)state;
        TestDir d;
        struct stat st;
        AUTO(string_drop) char *data = NULL;
        size_t length = 0;

        test_dir_open(&d);
        mode_t old = umask(077);
        assert_int_equal(file_replace(d.fd, "f", "hello", 0644), 0);
        umask(old);
        assert_int_equal(fstatat(d.fd, "f", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0644);
        /* What an interrupted call left is no obstacle, and not followed. */
        assert_int_equal(symlinkat("f", d.fd, "f.new"), 0);
        assert_int_equal(file_replace(d.fd, "f", "other", 0600), 0);
        assert_int_equal(file_read_all(d.fd, "f", 100, &data, &length), 0);
        assert_string_equal(data, "other");
        assert_int_equal(length, 5);
        assert_int_equal(faccessat(d.fd, "f.new", F_OK, AT_SYMLINK_NOFOLLOW), -1);
        test_dir_close(&d);
}

static void test_replace_fails_cleanly(void **state) {
        (void)state;
        TestDir d;

        test_dir_open(&d);
        assert_int_equal(mkdirat(d.fd, "f", 0700), 0);
        assert_int_equal(file_replace(d.fd, "f", "x", 0600), -EISDIR);
        assert_int_equal(faccessat(d.fd, "f.new", F_OK, 0), -1);
        assert_int_equal(file_replace(d.fd, "no/f", "x", 0600), -ENOENT);
        test_dir_close(&d);
}

static void test_read_all_limits(void **state) {
        (void)state;
        TestDir d;
        char *data = NULL, text[10001];
        size_t length;

        memset(text, 'x', sizeof text - 1);
        text[sizeof text - 1] = '\0';
        test_dir_open(&d);
        assert_int_equal(file_replace(d.fd, "f", text, 0600), 0);
        assert_int_equal(file_read_all(d.fd, "f", 9999, &data, &length), -EFBIG);
        assert_null(data);
        assert_int_equal(file_read_all(d.fd, "f", 10000, &data, &length), 0);
        assert_int_equal(length, 10000);
        assert_string_equal(data, text);
        string_drop(&data);
        assert_int_equal(file_replace(d.fd, "f", "", 0600), 0);
        assert_int_equal(file_read_all(d.fd, "f", 0, &data, &length), 0);
        assert_string_equal(data, "");
        string_drop(&data);
        assert_int_equal(file_read_all(d.fd, "none", 10, &data, &length), -ENOENT);
        assert_int_equal(file_read_all(d.fd, ".", 10, &data, &length), -EISDIR);
        /* A FIFO without a writer does not stop us. */
        assert_int_equal(mkfifoat(d.fd, "fifo", 0600), 0);
        assert_int_equal(file_read_all(d.fd, "fifo", 10, &data, &length), 0);
        assert_int_equal(length, 0);
        string_drop(&data);
        test_dir_close(&d);
}

static void test_write_all_fails(void **state) {
        (void)state;
        int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

        assert_int_equal(fd_write_all(fd, "x", 1), -ENOSPC);
        assert_int_equal(fd_write_all(fd, NULL, 0), 0);
        fd_drop(&fd);
        assert_int_equal(fd_write_all(-1, "x", 1), -EBADF);
}

static void make_pair(int pair[2]) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
}

static void test_message_with_descriptors(void **state) {
        (void)state;
        int pair[2], fds[2] = { open("/dev/null", O_RDONLY | O_CLOEXEC), open("/dev/zero", O_RDONLY | O_CLOEXEC) };
        char buffer[16];
        size_t length;
        FdSet set = { .count = 0 };

        make_pair(pair);
        assert_int_equal(fd_send(pair[0], "abc", 3, fds, 2), 0);
        assert_true(is_open(fds[0]));
        assert_int_equal(fd_receive(pair[1], buffer, sizeof buffer, &length, &set), 0);
        assert_int_equal(length, 3);
        assert_memory_equal(buffer, "abc", 3);
        assert_int_equal(set.count, 2);
        assert_true(fcntl(set.fds[0], F_GETFD) & FD_CLOEXEC);
        assert_int_equal(read(set.fds[1], buffer, 1), 1);
        fd_set_clear(&set);

        assert_int_equal(fd_receive(pair[1], buffer, sizeof buffer, &length, &set), -EAGAIN);
        fd_drop(&pair[0]);
        assert_int_equal(fd_receive(pair[1], buffer, sizeof buffer, &length, &set), 0);
        assert_int_equal(length, 0);
        /* No SIGPIPE. */
        assert_int_equal(fd_send(pair[1], "x", 1, NULL, 0), -EPIPE);
        fd_drop(&pair[1]);
        fd_drop(&fds[0]);
        fd_drop(&fds[1]);
}

/* The number that the next descriptor gets tells whether any leaked. */
static int next_fd(void) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), number = fd;

        fd_drop(&fd);
        return number;
}

static void test_refused_messages_leak_nothing(void **state) {
        (void)state;
        int pair[2], fd = open("/dev/null", O_RDONLY | O_CLOEXEC), many[FD_SET_MAX + 1];
        char buffer[16];
        size_t length;
        FdSet set = { .count = 0 };

        for (size_t i = 0; i < ARRAY_LEN(many); i++)
                many[i] = fd;
        make_pair(pair);
        int before = next_fd();
        assert_int_equal(fd_send(pair[0], "x", 1, many, FD_SET_MAX + 1), -E2BIG);
        assert_int_equal(fd_send(pair[0], "", 0, NULL, 0), -EINVAL);

        /* Longer than the buffer. */
        assert_int_equal(fd_send(pair[0], "12345678", 8, &fd, 1), 0);
        assert_int_equal(fd_receive(pair[1], buffer, 4, &length, &set), -EMSGSIZE);
        /* Descriptors where none are wanted. */
        assert_int_equal(fd_send(pair[0], "x", 1, &fd, 1), 0);
        assert_int_equal(fd_receive(pair[1], buffer, 4, &length, NULL), -EMFILE);
        /* More than this process may have. */
        struct rlimit limit, least;
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        least = (struct rlimit){ (rlim_t)before + 1, limit.rlim_max };
        assert_int_equal(fd_send(pair[0], "x", 1, many, 3), 0);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &least), 0);
        assert_int_equal(fd_receive(pair[1], buffer, 4, &length, &set), -EMFILE);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_int_equal(set.count, 0);
        assert_int_equal(next_fd(), before);

        /* More than there is room for: the set keeps what it had. */
        assert_int_equal(fd_send(pair[0], "x", 1, many, FD_SET_MAX), 0);
        assert_int_equal(fd_receive(pair[1], buffer, 4, &length, &set), 0);
        assert_int_equal(set.count, FD_SET_MAX);
        before = next_fd();
        assert_int_equal(fd_send(pair[0], "x", 1, &fd, 1), 0);
        assert_int_equal(fd_receive(pair[1], buffer, 4, &length, &set), -EMFILE);
        assert_int_equal(set.count, FD_SET_MAX);
        assert_int_equal(next_fd(), before);
        fd_set_clear(&set);
        fd_drop(&pair[0]);
        fd_drop(&pair[1]);
        fd_drop(&fd);
}

static void test_memfd(void **state) {
        (void)state;
        int fd = -1, loose = -1;
        AUTO(string_drop) char *data = NULL;
        size_t length;

        assert_int_equal(fd_memfd("test", "abc", 3, true, &fd), 0);
        assert_int_equal(write(fd, "x", 1), -1);
        assert_int_equal(ftruncate(fd, 0), -1);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
        assert_int_equal(fd_read_all(fd, 10, &data, &length), 0);
        assert_string_equal(data, "abc");
        assert_int_equal(fd_memfd("test", NULL, 0, false, &loose), 0);
        assert_int_equal(write(loose, "x", 1), 1);
        fd_drop(&fd);
        fd_drop(&loose);
}

static void test_path(void **state) {
        (void)state;
        char path[8];
        AUTO(fd_drop) int fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);

        assert_int_equal(fd_path(fd, path, sizeof path), 0);
        assert_string_equal(path, "/proc");
        assert_int_equal(fd_path(fd, path, strlen("/proc")), -ENAMETOOLONG);
        assert_int_equal(fd_path(-1, path, sizeof path), -ENOENT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_drop_and_take),
                cmocka_unit_test(test_set_closes_what_does_not_fit),
                cmocka_unit_test(test_nonblock),
                cmocka_unit_test(test_replace_and_read),
                cmocka_unit_test(test_replace_fails_cleanly),
                cmocka_unit_test(test_read_all_limits),
                cmocka_unit_test(test_write_all_fails),
                cmocka_unit_test(test_message_with_descriptors),
                cmocka_unit_test(test_refused_messages_leak_nothing),
                cmocka_unit_test(test_memfd),
                cmocka_unit_test(test_path),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
