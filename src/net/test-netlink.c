/* Needs root: exits 77 without. Each test runs in a network namespace of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/macros.h"
#include "net/netlink.h"

#define BRIDGE 1000
static const Mac mac = { { 0x02, 0, 0x0a, 0x40, 0, 1 } };

static int own_namespace(void **state UNUSED) {
        return unshare(CLONE_NEWNET);
}

/* The line of /proc/net/if_inet6 for the address: interface number, prefix, scope and flags; returns whether it is
 * there. */
static bool address6_flags(const char *packed, unsigned *ret_flags) {
        FILE *f = fopen("/proc/thread-self/net/if_inet6", "re");
        assert_non_null(f);
        char address[64], name[64];
        unsigned index, prefix, scope, flags;
        bool found = false;
        while (fscanf(f, "%63s %x %x %x %x %63s", address, &index, &prefix, &scope, &flags, name) == 6)
                if (strcmp(address, packed) == 0) {
                        *ret_flags = flags;
                        found = true;
                }
        fclose(f);
        return found;
}

static void test_bridge_in_one_batch(void **state UNUSED) {
        AUTO(netlink_drop) Netlink *nl = NULL;
        const char *step = NULL;
        struct in6_addr link_local, address6;
        inet_pton(AF_INET6, "fe80::1", &link_local);
        inet_pton(AF_INET6, "fd00::1", &address6);

        assert_int_equal(netlink_open(&nl), 0);
        netlink_link_up(nl, 1);
        netlink_bridge_add(nl, "br0", BRIDGE, &mac);
        netlink_address4_add(nl, BRIDGE, 0x0a400001, 29);
        netlink_address6_add(nl, BRIDGE, &link_local, 64);
        netlink_address6_add(nl, BRIDGE, &address6, 64);
        assert_int_equal(netlink_commit(nl, &step), 0);
        assert_null(step);
        assert_int_equal(if_nametoindex("br0"), BRIDGE);

        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct ifreq request = { .ifr_name = "br0" };
        assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
        assert_true(request.ifr_flags & IFF_UP);
        assert_int_equal(ioctl(fd, SIOCGIFADDR, &request), 0);
        struct sockaddr_in in;
        memcpy(&in, &request.ifr_addr, sizeof in);
        assert_int_equal(ntohl(in.sin_addr.s_addr), 0x0a400001);
        assert_int_equal(ioctl(fd, SIOCGIFBRDADDR, &request), 0);
        memcpy(&in, &request.ifr_broadaddr, sizeof in);
        assert_int_equal(ntohl(in.sin_addr.s_addr), 0x0a400007);
        assert_int_equal(ioctl(fd, SIOCGIFHWADDR, &request), 0);
        assert_memory_equal(request.ifr_hwaddr.sa_data, mac.octets, 6);
        close(fd);

        unsigned flags = 0;
        assert_true(address6_flags("fd000000000000000000000000000001", &flags));
        assert_int_equal(flags & 0x40, 0); /* not tentative */
        assert_true(address6_flags("fe800000000000000000000000000001", &flags));
        assert_int_equal(flags & 0x40, 0);
        assert_false(address6_flags("fe80000000000000000000fffe400001", &flags)); /* none of its own */
}

static void test_first_failure_is_named(void **state UNUSED) {
        AUTO(netlink_drop) Netlink *nl = NULL;
        const char *step = NULL;
        assert_int_equal(netlink_open(&nl), 0);
        netlink_link_up(nl, 1);
        netlink_address4_add(nl, 4242, 0x0a400001, 29);
        netlink_bridge_add(nl, "a-name-that-is-too-long", BRIDGE, &mac);
        assert_int_equal(netlink_commit(nl, &step), -ENODEV);
        assert_string_equal(step, "add the IPv4 address");

        /* And it can be used again. */
        step = NULL;
        netlink_bridge_add(nl, "br0", BRIDGE, &mac);
        assert_int_equal(netlink_commit(nl, &step), 0);
        netlink_bridge_add(nl, "br0", BRIDGE, &mac);
        assert_true(netlink_commit(nl, &step) < 0);
        assert_string_equal(step, "add the bridge");
}

static void test_too_much_for_a_batch(void **state UNUSED) {
        AUTO(netlink_drop) Netlink *nl = NULL;
        const char *step = NULL;
        assert_int_equal(netlink_open(&nl), 0);
        for (int i = 0; i < 1000; i++)
                netlink_link_up(nl, 1);
        netlink_bridge_add(nl, "br0", BRIDGE, &mac);
        assert_int_equal(netlink_commit(nl, &step), -ENOBUFS);
        assert_string_equal(step, "bring a link up");
        assert_int_equal(if_nametoindex("br0"), 0);
        assert_int_equal(netlink_commit(nl, &step), 0);
}

int main(void) {
        if (geteuid() != 0)
                return 77;
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_bridge_in_one_batch, own_namespace),
                cmocka_unit_test_setup(test_first_failure_is_named, own_namespace),
                cmocka_unit_test_setup(test_too_much_for_a_batch, own_namespace),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
