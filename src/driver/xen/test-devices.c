/* Whose a link is, against a sysfs of files and links in a namespace of the test's own. */
#include "base/test-support.h"

#include <errno.h>
#include <sched.h>
#include <sys/stat.h>

#include "driver/xen/devices.h"
#include "net/netlink.h"

#define BRIDGE 1000

static TestDir sysfs;

static void make_file(const char *path, const char *text) {
        AUTO(fd_drop) int fd = openat(sysfs.fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

/* A backend and its link, as sysfs shows them; name NULL: it has none yet. */
static void make_backend(const char *backend, const char *name, const char *number) {
        char path[64];

        assert_int_equal(mkdirat(sysfs.fd, backend, 0700), 0);
        if (!name)
                return;
        snprintf(path, sizeof path, "%s/net", backend);
        assert_int_equal(mkdirat(sysfs.fd, path, 0700), 0);
        snprintf(path, sizeof path, "%s/net/%s", backend, name);
        assert_int_equal(mkdirat(sysfs.fd, path, 0700), 0);
        snprintf(path, sizeof path, "%s/net/%s/ifindex", backend, name);
        make_file(path, number);
}

/* A bridge of that name is there. Tells whether it could be made: not everybody may have a namespace. */
static bool make_link(const char *name) {
        static const Mac mac = { { 0x02, 0, 0x0a, 0x40, 0, 1 } };
        AUTO(netlink_drop) Netlink *nl = NULL;
        const char *step;

        if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
                return false;
        assert_int_equal(netlink_open(&nl), 0);
        netlink_bridge_add(nl, name, BRIDGE, &mac);
        return netlink_commit(nl, &step) >= 0;
}

static int setup(void **state) {
        (void)state;
        test_dir_open(&sysfs);
        return 0;
}

static int teardown(void **state) {
        (void)state;
        test_dir_close(&sysfs);
        return 0;
}

static void test_not_there_yet(void **state) {
        int link = 0;

        (void)state;
        assert_int_equal(device_find_link(sysfs.path, 6, 0, &link), -ENOENT);
        make_backend("vif-6-0", NULL, NULL);
        assert_int_equal(device_find_link(sysfs.path, 6, 0, &link), -ENOENT);
        assert_int_equal(link, 0);
}

static void test_by_its_backend(void **state) {
        int link = 0;

        (void)state;
        make_backend("vif-6-0", "vif6.0", "42\n");
        make_backend("vif-6-1", "vif6.1", "43\n");
        make_backend("vif-61-0", "vif61.0", "nonsense\n");
        assert_int_equal(device_find_link(sysfs.path, 6, 0, &link), 0);
        assert_int_equal(link, 42);
        assert_int_equal(device_find_link(sysfs.path, 6, 1, &link), 0);
        assert_int_equal(link, 43);
        assert_int_equal(device_find_link(sysfs.path, 61, 0, &link), -EINVAL);
        assert_int_equal(link, 43);
}

/* Domain 5's, under the name that domain 6's is to have. */
static void test_that_of_another(void **state) {
        int link = 0;

        (void)state;
        make_backend("vif-5-0", "vif6.0", "1000\n");
        make_backend("vif-6-0", NULL, NULL);
        if (!make_link("vif6.0"))
                skip();
        assert_int_equal(device_find_link(sysfs.path, 6, 0, &link), -EEXIST);
        assert_int_equal(device_find_link(sysfs.path, 5, 0, &link), -ENOENT);
        assert_int_equal(device_find_link(sysfs.path, 6, 1, &link), -ENOENT);
        assert_int_equal(link, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_not_there_yet, setup, teardown),
                cmocka_unit_test_setup_teardown(test_by_its_backend, setup, teardown),
                cmocka_unit_test_setup_teardown(test_that_of_another, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
