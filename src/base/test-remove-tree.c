#include <grp.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/test-support.h"

#define NOBODY 65534

static void make_file(int dir_fd, const char *name) {
        int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        fd_drop(&fd);
}

static int make_dir(int dir_fd, const char *name) {
        assert_int_equal(mkdirat(dir_fd, name, 0700), 0);
        int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        return fd;
}

static bool exists(int dir_fd, const char *name) {
        return faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_simple_kinds(void **state) {
        (void)state;
        TestDir d;

        test_dir_open(&d);
        assert_int_equal(remove_tree(d.fd, "none"), 0);
        make_file(d.fd, "file");
        assert_int_equal(remove_tree(d.fd, "file"), 0);
        assert_int_equal(mkfifoat(d.fd, "fifo", 0600), 0);
        assert_int_equal(remove_tree(d.fd, "fifo"), 0);
        assert_int_equal(mkdirat(d.fd, "empty", 0700), 0);
        assert_int_equal(remove_tree(d.fd, "empty"), 0);
        assert_false(exists(d.fd, "file") || exists(d.fd, "fifo") || exists(d.fd, "empty"));
        test_dir_close(&d);
}

static void test_follows_no_link(void **state) {
        (void)state;
        TestDir d;

        test_dir_open(&d);
        int outside = make_dir(d.fd, "outside"), tree = make_dir(d.fd, "tree"), below = make_dir(tree, "below");
        make_file(outside, "precious");
        assert_int_equal(symlinkat("../outside", tree, "link"), 0);
        assert_int_equal(symlinkat("../../outside", below, "link"), 0);
        assert_int_equal(symlinkat("outside", d.fd, "toplink"), 0);
        assert_int_equal(linkat(outside, "precious", below, "hardlink", 0), 0);
        assert_int_equal(remove_tree(d.fd, "tree"), 0);
        assert_int_equal(remove_tree(d.fd, "toplink"), 0);
        assert_false(exists(d.fd, "tree") || exists(d.fd, "toplink"));
        assert_true(exists(outside, "precious"));
        fd_drop(&outside);
        fd_drop(&tree);
        fd_drop(&below);
        test_dir_close(&d);
}

/* Deeper than any path may be long, and than there are descriptors. */
static void test_deep(void **state) {
        (void)state;
        TestDir d;
        struct rlimit limit, few;

        test_dir_open(&d);
        int at = make_dir(d.fd, "tree");
        for (int i = 0; i < 3000; i++) {
                int below = make_dir(at, "d");
                if (i % 100 == 0)
                        make_file(at, "file");
                fd_drop(&at);
                at = below;
        }
        fd_drop(&at);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        few = limit;
        few.rlim_cur = 64;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        assert_int_equal(remove_tree(d.fd, "tree"), 0);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_false(exists(d.fd, "tree"));
        test_dir_close(&d);
}

/* The names that directories are hoisted to are there already. */
static void test_wide_with_colliding_names(void **state) {
        (void)state;
        TestDir d;
        char name[64];

        test_dir_open(&d);
        int tree = make_dir(d.fd, "tree");
        for (int i = 0; i < 200; i++) {
                snprintf(name, sizeof name, ".removed-%x", i);
                int child = make_dir(tree, name), grandchild = make_dir(child, "sub");
                make_file(grandchild, "file");
                make_file(child, "file");
                fd_drop(&child);
                fd_drop(&grandchild);
        }
        fd_drop(&tree);
        assert_int_equal(remove_tree(d.fd, "tree"), 0);
        assert_false(exists(d.fd, "tree"));
        test_dir_close(&d);
}

/* Runs in a child, so that identity and namespaces stay its own; its exit status is the line that failed, or 0. */
static int in_child(int (*run)(const char *path), const TestDir *d) {
        pid_t pid = fork();
        int status;

        if (pid == 0)
                _exit(run(d->path));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

#define CHECK(condition)                                                                                               \
        if (!(condition))                                                                                              \
        return __LINE__

/* Directories without permission bits stop root at nothing, so it is tried as nobody. */
static int remove_without_permissions(const char *path) {
        AUTO(fd_drop) int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (geteuid() == 0)
                CHECK(setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
        CHECK(mkdirat(dir_fd, "tree", 0700) == 0);
        CHECK(mkdirat(dir_fd, "tree/a", 0700) == 0);
        CHECK(mkdirat(dir_fd, "tree/a/b", 0700) == 0);
        CHECK(mkdirat(dir_fd, "tree/a/b/c", 0700) == 0);
        int fd = openat(dir_fd, "tree/a/b/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0);
        CHECK(fd >= 0);
        fd_drop(&fd);
        CHECK(fchmodat(dir_fd, "tree/a/b", 0, 0) == 0);
        CHECK(fchmodat(dir_fd, "tree/a", 0500, 0) == 0);
        CHECK(fchmodat(dir_fd, "tree", 0, 0) == 0);
        CHECK(remove_tree(dir_fd, "tree") == 0);
        CHECK(!exists(dir_fd, "tree"));
        return 0;
}

static void test_without_permissions(void **state) {
        (void)state;
        TestDir d;

        test_dir_open(&d);
        assert_int_equal(fchmod(d.fd, 0777), 0);
        assert_int_equal(in_child(remove_without_permissions, &d), 0);
        test_dir_close(&d);
}

/* A mount inside keeps its content and is told; what is beside it goes. */
static int remove_with_mount(const char *path) {
        if (test_own_mounts() < 0)
                return 77;
        /* Opened only now: a descriptor from before would lead to the mounts of others. */
        AUTO(fd_drop) int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK(dir_fd >= 0 && fchdir(dir_fd) == 0);
        CHECK(mkdirat(dir_fd, "tree", 0700) == 0);
        CHECK(mkdirat(dir_fd, "tree/sub", 0700) == 0);
        CHECK(mkdirat(dir_fd, "tree/sub/mnt", 0700) == 0);
        CHECK(mkdirat(dir_fd, "kept", 0700) == 0);
        make_file(dir_fd, "kept/precious");
        make_file(dir_fd, "tree/file");
        CHECK(mount("kept", "tree/sub/mnt", NULL, MS_BIND, NULL) == 0);
        CHECK(remove_tree(dir_fd, "tree") < 0);
        CHECK(exists(dir_fd, "kept/precious"));
        CHECK(!exists(dir_fd, "tree/file"));
        /* The same one level up, and as the tree itself. */
        CHECK(mount("kept", "tree/sub", NULL, MS_BIND, NULL) == 0);
        CHECK(remove_tree(dir_fd, "tree") < 0);
        CHECK(remove_tree(dir_fd, "tree/sub") < 0);
        CHECK(exists(dir_fd, "kept/precious"));
        return 0;
}

static void test_stays_on_its_mount(void **state) {
        (void)state;
        TestDir d;

        test_dir_open(&d);
        int r = in_child(remove_with_mount, &d);
        test_dir_close(&d);
        if (r == 77)
                skip();
        assert_int_equal(r, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_simple_kinds),
                cmocka_unit_test(test_follows_no_link),
                cmocka_unit_test(test_deep),
                cmocka_unit_test(test_wide_with_colliding_names),
                cmocka_unit_test(test_without_permissions),
                cmocka_unit_test(test_stays_on_its_mount),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
