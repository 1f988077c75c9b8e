#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/string-util.h"
#include "net/plan.h"
#include "net/test-net.h"

static Owner owner = { .uid = SOME_UID };

static void test_plan(void **state UNUSED) {
        Network *n = test_network(&owner, IPV6_SLAAC);
        char *text;
        assert_int_equal(keeper_plan_format(n, "/usr/sbin/dns masq", &text), 0);
        assert_string_equal(text, "mac 02:00:0a:40:00:01\n"
                                  "gateway 10.64.0.1\n"
                                  "prefix 29\n"
                                  "gateway6 fd00:1:2:3::1\n"
                                  "dnsmasq /usr/sbin/dns masq\n");
        KeeperPlan plan;
        assert_int_equal(keeper_plan_parse(text, &plan), 0);
        assert_int_equal(plan.gateway, 0x0a400001);
        assert_int_equal(plan.prefix, 29);
        assert_int_equal(plan.mac.octets[2], 0x0a);
        assert_int_equal(plan.gateway6.s6_addr[15], 1);
        assert_string_equal(plan.dnsmasq, "/usr/sbin/dns masq");
        free(text);
        network_free(n);
}

static void test_plan_without_ipv6(void **state UNUSED) {
        Network *n = test_network(&owner, IPV6_NONE);
        char *text;
        assert_int_equal(keeper_plan_format(n, "/d", &text), 0);
        assert_null(strstr(text, "gateway6"));
        KeeperPlan plan;
        assert_int_equal(keeper_plan_parse(text, &plan), 0);
        assert_true(IN6_IS_ADDR_UNSPECIFIED(&plan.gateway6));
        free(text);
        network_free(n);
}

static void test_plan_refuses_programs(void **state UNUSED) {
        Network *n = test_network(&owner, IPV6_NONE);
        char *text = NULL, path[KEEPER_PROGRAM_MAX + 1];
        memset(path, '/', sizeof path - 1);
        path[sizeof path - 1] = '\0';
        assert_int_equal(keeper_plan_format(n, path, &text), -ENAMETOOLONG);
        assert_int_equal(keeper_plan_format(n, "dnsmasq", &text), -EINVAL);
        assert_int_equal(keeper_plan_format(n, "/x\ngateway 1.2.3.4", &text), -EINVAL);
        assert_null(text);
        network_free(n);
}

static void test_plan_parse_refuses(void **state UNUSED) {
        static const char *const bad[] = {
                "",
                "\n",
                "mac 02:00:0a:40:00:01\ngateway 10.64.0.1\nprefix 29\n",
                "mac 02:00:0a:40:00:01\ngateway 10.64.0.1\nprefix 29\ndnsmasq /d",
                "mac 02:00:0a:40:00:01\ngateway 10.64.0.1\nprefix 33\ndnsmasq /d\n",
                "mac 02:00:0a:40:00:01\ngateway 10.64.0.256\nprefix 29\ndnsmasq /d\n",
                "mac 02:00:0a:40:00:01\ngateway 10.64.0.1\nprefix 29\ndnsmasq d\n",
                "mac 02:00:0a:40:00:01\ngateway 10.64.0.1\ngateway 10.64.0.1\nprefix 29\ndnsmasq /d\n",
                "mac 02:00:0a:40:00:01\ngateway 10.64.0.1\nprefix 29\ndnsmasq /d\ngateway6 ::\n",
                "mac 02:00:0a:40:00:01\ngateway 10.64.0.1\nprefix 29\ndnsmasq /d\nmore 1\n",
                "mac 02:00:0a:40:00:01\ngateway 10.64.0.1\nprefix 29\ndnsmasq /d\n\n",
        };
        KeeperPlan plan = { .prefix = 77 };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_int_equal(keeper_plan_parse(bad[i], &plan), -EINVAL);
        assert_int_equal(plan.prefix, 77);

        char *long_line = malloc(100000);
        memset(long_line, 'x', 99999);
        long_line[99999] = '\0';
        assert_int_equal(keeper_plan_parse(long_line, &plan), -EINVAL);
        free(long_line);
}

#define FIXED                                                                                                          \
        "user=\ngroup=\npid-file=\nkeep-in-foreground\nlog-facility=-\nquiet-dhcp\nquiet-dhcp6\nquiet-ra\n"            \
        "interface=br0\nbind-interfaces\nno-resolv\nno-hosts\nno-poll\ncache-size=0\nlocal=/#/\n"                      \
        "leasefile-ro\ndhcp-authoritative\ndhcp-rapid-commit\ndhcp-ignore-names\nno-ping\n"                            \
        "dhcp-option=option:router\ndomain=debmarshal-7.test\n"

static void check_config(Ipv6Mode mode, const char *expected) {
        Network *n = test_network(&owner, mode);
        char *text;
        assert_int_equal(dnsmasq_config_format(n, &text), 0);
        assert_string_equal(text, expected);
        free(text);
        network_free(n);
}

static void test_config_slaac(void **state UNUSED) {
        check_config(IPV6_SLAAC,
                     FIXED "dhcp-range=10.64.0.0,static,255.255.255.248,infinite\n"
                           "dhcp-lease-max=20\n"
                           "enable-ra\n"
                           "ra-param=br0,60,0\n"
                           "dhcp-range=fd00:1:2:3::,ra-only,64,infinite\n"
                           "dhcp-host=00:16:3e:00:00:01,10.64.0.2,alpha.debmarshal-7.test\n"
                           "host-record=alpha.debmarshal-7.test,alpha,10.64.0.2,fd00:1:2:3:216:3eff:fe00:1\n"
                           "dhcp-host=00:16:3e:00:00:02,10.64.0.3,beta.debmarshal-7.test\n"
                           "host-record=beta.debmarshal-7.test,beta,10.64.0.3,fd00:1:2:3:216:3eff:fe00:2\n"
                           "host-record=gateway.debmarshal-7.test,gateway,10.64.0.1,fd00:1:2:3::1\n");
}

static void test_config_dhcp6(void **state UNUSED) {
        check_config(IPV6_DHCP, FIXED "dhcp-range=10.64.0.0,static,255.255.255.248,infinite\n"
                                      "dhcp-lease-max=20\n"
                                      "enable-ra\n"
                                      "ra-param=br0,60,0\n"
                                      "dhcp-range=fd00:1:2:3::,static,64,2m\n"
                                      "dhcp-host=00:16:3e:00:00:01,10.64.0.2,[fd00:1:2:3::2],alpha.debmarshal-7.test\n"
                                      "host-record=alpha.debmarshal-7.test,alpha,10.64.0.2,fd00:1:2:3::2\n"
                                      "dhcp-host=00:16:3e:00:00:02,10.64.0.3,[fd00:1:2:3::3],beta.debmarshal-7.test\n"
                                      "host-record=beta.debmarshal-7.test,beta,10.64.0.3,fd00:1:2:3::3\n"
                                      "host-record=gateway.debmarshal-7.test,gateway,10.64.0.1,fd00:1:2:3::1\n");
}

static void test_config_ipv4_only(void **state UNUSED) {
        check_config(IPV6_NONE, FIXED "dhcp-range=10.64.0.0,static,255.255.255.248,infinite\n"
                                      "dhcp-lease-max=20\n"
                                      "dhcp-host=00:16:3e:00:00:01,10.64.0.2,alpha.debmarshal-7.test\n"
                                      "host-record=alpha.debmarshal-7.test,alpha,10.64.0.2\n"
                                      "dhcp-host=00:16:3e:00:00:02,10.64.0.3,beta.debmarshal-7.test\n"
                                      "host-record=beta.debmarshal-7.test,beta,10.64.0.3\n"
                                      "host-record=gateway.debmarshal-7.test,gateway,10.64.0.1\n");
}

/* A host may be called so, and then it is that host. */
static void test_config_host_named_gateway(void **state UNUSED) {
        Network *n = test_network(&owner, IPV6_NONE);
        assert_int_equal(string_replace(&n->hosts[1].name, "GateWay"), 0);
        char *text;
        assert_int_equal(dnsmasq_config_format(n, &text), 0);
        assert_non_null(strstr(text, "host-record=GateWay.debmarshal-7.test,GateWay,10.64.0.3\n"));
        assert_null(strstr(text, "10.64.0.1\n"));
        free(text);
        network_free(n);
}

/* Alone, dnsmasq would take them for words of its own. */
static void test_config_host_names_that_mean_something(void **state UNUSED) {
        static const char *const names[] = { "ignore", "infinite", "1h", "5m", "3S" };
        Network *n = test_network(&owner, IPV6_NONE);
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                char expected[128], *text;
                snprintf(expected, sizeof expected, "dhcp-host=00:16:3e:00:00:02,10.64.0.3,%s.debmarshal-7.test\n",
                         names[i]);
                assert_int_equal(string_replace(&n->hosts[1].name, names[i]), 0);
                assert_int_equal(dnsmasq_config_format(n, &text), 0);
                assert_non_null(strstr(text, expected));
                free(text);
        }
        network_free(n);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_plan),
                cmocka_unit_test(test_plan_without_ipv6),
                cmocka_unit_test(test_plan_refuses_programs),
                cmocka_unit_test(test_plan_parse_refuses),
                cmocka_unit_test(test_config_slaac),
                cmocka_unit_test(test_config_dhcp6),
                cmocka_unit_test(test_config_ipv4_only),
                cmocka_unit_test(test_config_host_named_gateway),
                cmocka_unit_test(test_config_host_names_that_mean_something),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
