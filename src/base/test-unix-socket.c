#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "base/fd.h"
#include "base/test-support.h"

static void assert_mode(int dir_fd, const char *name, mode_t mode) {
        struct stat st;

        assert_int_equal(fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_true(S_ISSOCK(st.st_mode));
        assert_int_equal(st.st_mode & 07777, mode);
}

static void test_listen_and_connect(void **state) {
        (void)state;
        TestDir d;
        int listener = -1, client = -1;

        test_dir_open(&d);
        mode_t old = umask(077);
        assert_int_equal(unix_listen(d.fd, "s", 0666, &listener), 0);
        umask(old);
        assert_mode(d.fd, "s", 0666);
        assert_int_equal(unix_connect(d.fd, "s", &client), 0);
        int server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(server >= 0);
        assert_int_equal(send(client, "x", 1, 0), 1);
        char c;
        assert_int_equal(recv(server, &c, 1, 0), 1);
        assert_true(fcntl(listener, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(client, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(client, F_GETFD) & FD_CLOEXEC);
        fd_drop(&server);
        fd_drop(&client);
        fd_drop(&listener);
        assert_int_equal(unix_connect(d.fd, "s", &client), -ECONNREFUSED);
        assert_int_equal(unix_connect(d.fd, "none", &client), -ENOENT);
        assert_int_equal(client, -1);
        test_dir_close(&d);
}

/* Where the kernel can (Linux 6.16): also what is sent before the connection is accepted. */
static void test_refuses_descriptors(void **state) {
        (void)state;
        TestDir d;
        int listener = -1, client = -1;
        struct utsname kernel;
        unsigned major = 0, minor = 0;

        assert_int_equal(uname(&kernel), 0);
        assert_int_equal(sscanf(kernel.release, "%u.%u", &major, &minor), 2);
        bool refuses = major > 6 || (major == 6 && minor >= 16);
        test_dir_open(&d);
        assert_int_equal(unix_listen(d.fd, "s", 0600, &listener), 0);
        unix_refuse_descriptors(listener);
        assert_int_equal(unix_connect(d.fd, "s", &client), 0);
        assert_int_equal(fd_send(client, "x", 1, &d.fd, 1), refuses ? -EPERM : 0);
        int server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_int_equal(fd_send(client, "x", 1, &d.fd, 1), refuses ? -EPERM : 0);
        assert_int_equal(fd_send(client, "x", 1, NULL, 0), 0);
        assert_int_equal(fd_send(server, "x", 1, &d.fd, 1), 0); /* what we send is another matter */
        fd_drop(&server);
        fd_drop(&client);

        assert_int_equal(unix_connect_plain(d.fd, "s", &client), 0);
        server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_int_equal(fd_send(server, "x", 1, &d.fd, 1), refuses ? -EPERM : 0);
        assert_int_equal(fd_send(server, "x", 1, NULL, 0), 0);
        fd_drop(&server);
        fd_drop(&client);
        fd_drop(&listener);
        test_dir_close(&d);
}

static void test_replaces_only_the_dead(void **state) {
        (void)state;
        TestDir d;
        int first = -1, second = -1;

        test_dir_open(&d);
        assert_int_equal(unix_listen(d.fd, "s", 0600, &first), 0);
        assert_int_equal(unix_listen(d.fd, "s", 0600, &second), -EADDRINUSE);
        fd_drop(&first);
        assert_int_equal(unix_listen(d.fd, "s", 0640, &second), 0);
        assert_mode(d.fd, "s", 0640);
        fd_drop(&second);

        int file = openat(d.fd, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        fd_drop(&file);
        assert_int_equal(unix_listen(d.fd, "file", 0600, &first), -EADDRINUSE);
        assert_int_equal(faccessat(d.fd, "file", F_OK, 0), 0);
        assert_int_equal(first, -1);
        test_dir_close(&d);
}

static void test_follows_no_link(void **state) {
        (void)state;
        TestDir d;
        int listener = -1, fd = -1;

        test_dir_open(&d);
        assert_int_equal(unix_listen(d.fd, "s", 0600, &listener), 0);
        assert_int_equal(symlinkat("s", d.fd, "link"), 0);
        assert_int_equal(symlinkat("elsewhere", d.fd, "dangling"), 0);
        assert_int_equal(unix_connect(d.fd, "link", &fd), -ELOOP);
        assert_int_equal(unix_listen(d.fd, "link", 0600, &fd), -EADDRINUSE);
        assert_int_equal(unix_listen(d.fd, "dangling", 0600, &fd), -EADDRINUSE);
        assert_int_equal(faccessat(d.fd, "elsewhere", F_OK, AT_SYMLINK_NOFOLLOW), -1);
        fd_drop(&listener);
        /* Not even when what it points to is dead. */
        assert_int_equal(unix_listen(d.fd, "link", 0600, &fd), -EADDRINUSE);
        test_dir_close(&d);
}

static void test_names(void **state) {
        (void)state;
        TestDir d;
        int fd = -1;
        char name[200];

        memset(name, 'n', sizeof name - 1);
        name[sizeof name - 1] = '\0';
        test_dir_open(&d);
        assert_int_equal(unix_listen(d.fd, name, 0600, &fd), -ENAMETOOLONG);
        assert_int_equal(unix_listen(d.fd, "", 0600, &fd), -EINVAL);
        assert_int_equal(unix_listen(d.fd, "../x", 0600, &fd), -EINVAL);
        assert_int_equal(unix_connect(d.fd, ".", &fd), -ENOTSOCK);
        test_dir_close(&d);
}

/* A directory whose path alone is longer than sun_path. */
static void test_long_directory(void **state) {
        (void)state;
        TestDir d;
        int at, listener = -1, client = -1;
        char name[100];

        memset(name, 'd', sizeof name - 1);
        name[sizeof name - 1] = '\0';
        test_dir_open(&d);
        at = dup(d.fd);
        for (int i = 0; i < 5; i++) {
                assert_int_equal(mkdirat(at, name, 0700), 0);
                int below = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                fd_drop(&at);
                at = below;
        }
        assert_int_equal(unix_listen(at, "s", 0600, &listener), 0);
        assert_int_equal(unix_connect(at, "s", &client), 0);
        fd_drop(&client);
        fd_drop(&listener);
        fd_drop(&at);
        test_dir_close(&d);
}

static void test_full_queue_does_not_block(void **state) {
        (void)state;
        TestDir d;
        int listener = -1, clients[3] = { -1, -1, -1 };

        test_dir_open(&d);
        assert_int_equal(unix_listen(d.fd, "s", 0600, &listener), 0);
        assert_int_equal(listen(listener, 0), 0);
        assert_int_equal(unix_connect(d.fd, "s", &clients[0]), 0);
        assert_int_equal(unix_connect(d.fd, "s", &clients[1]), -EAGAIN);
        /* Busy is not dead. */
        assert_int_equal(unix_listen(d.fd, "s", 0600, &clients[2]), -EADDRINUSE);
        fd_drop(&clients[0]);
        fd_drop(&listener);
        test_dir_close(&d);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_listen_and_connect), cmocka_unit_test(test_refuses_descriptors),
                cmocka_unit_test(test_listen_and_connect), cmocka_unit_test(test_replaces_only_the_dead),
                cmocka_unit_test(test_follows_no_link),    cmocka_unit_test(test_names),
                cmocka_unit_test(test_long_directory),     cmocka_unit_test(test_full_queue_does_not_block),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
