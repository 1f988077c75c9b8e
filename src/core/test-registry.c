/* Networks, domains and the registry: names, counting, charges, and exactly which announcements come. */
#include "test-objects.h"

#include <stdio.h>

static char *const no_hosts[] = { NULL };
static char alpha[] = "alpha", beta[] = "Beta", data[] = "data";
static char *const two_hosts[] = { alpha, beta, NULL };

/* The listener writes down what it hears: "+n debmarshal-0 " and the like. */
static char heard[4096];

static void hear(const char *mark, const char *name) {
        strcat(strcat(strcat(heard, mark), name), " ");
}
static void network_added(void *userdata, Network *n) {
        assert_string_equal(userdata, "data");
        hear("+n ", n->name);
}
static void network_changed(void *userdata UNUSED, Network *n) {
        hear("~n ", n->name);
}
static void network_removed(void *userdata UNUSED, Network *n) {
        hear("-n ", n->name);
}
static void domain_added(void *userdata UNUSED, Domain *d) {
        hear("+d ", d->name);
}
static void domain_changed(void *userdata UNUSED, Domain *d) {
        hear("~d ", d->name);
}
static void domain_removed(void *userdata UNUSED, Domain *d) {
        hear("-d ", d->name);
}
static const RegistryListener listener = {
        network_added, network_changed, network_removed, domain_added, domain_changed, domain_removed,
};

static void assert_heard(const char *expected) {
        assert_string_equal(heard, expected);
        heard[0] = '\0';
}

static void registry_start(Registry *r) {
        registry_init(r);
        r->listener = &listener;
        r->listener_data = data;
        heard[0] = '\0';
}

static void test_names_round_trip(void **state UNUSED) {
        for (NetworkState s = 0; s < NETWORK_STATE_COUNT; s++)
                assert_int_equal(network_state_from_name(network_state_name(s)), s);
        for (Ipv6Mode m = 0; m < IPV6_MODE_COUNT; m++)
                assert_int_equal(ipv6_mode_from_name(ipv6_mode_name(m)), m);
        for (DomainState s = 0; s < DOMAIN_STATE_COUNT; s++)
                assert_int_equal(domain_state_from_name(domain_state_name(s)), s);
        for (EndReason r = 0; r < END_REASON_COUNT; r++)
                assert_int_equal(end_reason_from_name(end_reason_name(r)), r);

        assert_int_equal(network_state_from_name(NULL), NETWORK_STATE_COUNT);
        assert_int_equal(network_state_from_name("upp"), NETWORK_STATE_COUNT);
        assert_int_equal(ipv6_mode_from_name(""), IPV6_MODE_COUNT);
        assert_int_equal(domain_state_from_name("Running"), DOMAIN_STATE_COUNT);
        assert_int_equal(end_reason_from_name(NULL), END_REASON_COUNT);
}

static void test_hosts_get_addresses_in_order(void **state UNUSED) {
        Registry r;
        registry_start(&r);
        Network *n = make_network(&r, "debmarshal-0", 1000, "10.64.0.0/29", two_hosts);
        registry_add_network(&r, n);

        char text[ADDRESS_TEXT_MAX];
        assert_int_equal(n->n_hosts, 2);
        assert_string_equal(n->hosts[0].name, "alpha");
        assert_string_equal(address_format(n->hosts[0].address, text), "10.64.0.2");
        assert_string_equal(address_format(n->hosts[1].address, text), "10.64.0.3");
        assert_memory_equal(n->hosts[0].mac.octets, "\x00\x16\x3e", 3);
        assert_ptr_equal(network_host_by_name(n, "BETA"), &n->hosts[1]);
        assert_null(network_host_by_name(n, "alph"));
        assert_ptr_equal(network_host_by_mac(n, &n->hosts[1].mac), &n->hosts[1]);

        /* Stateless: made from the MAC, with the flipped bit and fffe in the middle. */
        assert_int_equal(n->hosts[0].address6.s6_addr[0], 0xfd);
        assert_int_equal(n->hosts[0].address6.s6_addr[8], 0x02);
        assert_memory_equal(&n->hosts[0].address6.s6_addr[11], "\xff\xfe", 2);
        assert_int_equal(network_gateway6(n).s6_addr[15], 1);

        n->ipv6_mode = IPV6_DHCP;
        assert_int_equal(network_set_hosts(n, two_hosts), 0);
        assert_int_equal(n->hosts[1].address6.s6_addr[15], 3);
        assert_int_equal(n->hosts[1].address6.s6_addr[8], 0);

        n->ipv6_mode = IPV6_NONE;
        assert_int_equal(network_set_hosts(n, two_hosts), 0);
        assert_memory_equal(&n->hosts[0].address6, &(struct in6_addr){ 0 }, 16);

        char domain[NETWORK_DNS_DOMAIN_MAX];
        assert_string_equal(network_dns_domain(n, domain), "debmarshal-0.test");
        registry_done(&r);
}

/* With this many a clash among 2^24 random MACs is more likely than not. */
static void test_macs_are_unique_in_a_large_network(void **state UNUSED) {
        static char names[HOSTS_PER_NETWORK_MAX][16];
        static char *list[HOSTS_PER_NETWORK_MAX + 1];
        for (int i = 0; i < HOSTS_PER_NETWORK_MAX; i++) {
                snprintf(names[i], sizeof names[i], "h%d", i);
                list[i] = names[i];
        }
        Registry r;
        registry_start(&r);
        Network *n = make_network(&r, "debmarshal-0", 1000, "10.64.0.0/18", list);
        static uint8_t seen[1 << 24];
        for (size_t i = 0; i < n->n_hosts; i++) {
                const uint8_t *o = n->hosts[i].mac.octets;
                assert_int_equal(seen[o[3] << 16 | o[4] << 8 | o[5]]++, 0);
        }
        registry_add_network(&r, n);
        registry_done(&r);
}

static void test_networks_are_announced_once_up(void **state UNUSED) {
        Registry r;
        registry_start(&r);
        Network *n = make_network(&r, "debmarshal-0", 1000, "10.64.0.0/29", no_hosts);
        registry_add_network(&r, n);
        assert_heard("");
        registry_set_network_state(&r, n, NETWORK_UP);
        assert_heard("+n debmarshal-0 ");
        registry_set_network_state(&r, n, NETWORK_FAILED);
        assert_heard("~n debmarshal-0 ");
        registry_set_network_state(&r, n, NETWORK_DESTROYING);
        assert_heard("~n debmarshal-0 ");
        registry_remove_network(&r, n);
        assert_heard("-n debmarshal-0 ");
        assert_int_equal(r.n_networks, 0);

        /* One that is withdrawn has gone, for all who listen. */
        n = make_network(&r, "debmarshal-0", 1000, "10.64.0.0/29", no_hosts);
        registry_add_network(&r, n);
        registry_set_network_state(&r, n, NETWORK_UP);
        assert_heard("+n debmarshal-0 ");
        registry_withdraw_network(&r, n);
        assert_heard("-n debmarshal-0 ");
        registry_set_network_state(&r, n, NETWORK_DESTROYING);
        registry_remove_network(&r, n);
        assert_heard("");

        /* One that never came up was never there. */
        n = make_network(&r, "debmarshal-0", 1000, "10.64.0.0/29", no_hosts);
        registry_add_network(&r, n);
        registry_set_network_state(&r, n, NETWORK_DESTROYING);
        registry_remove_network(&r, n);
        assert_heard("");

        /* Unless it stays. */
        n = make_network(&r, "debmarshal-0", 1000, "10.64.0.0/29", no_hosts);
        registry_add_network(&r, n);
        registry_set_network_state(&r, n, NETWORK_DESTROYING);
        registry_show_network(&r, n);
        registry_show_network(&r, n);
        assert_heard("+n debmarshal-0 ");
        registry_remove_network(&r, n);
        assert_heard("-n debmarshal-0 ");

        /* One found after a restart is announced as it is. */
        n = make_network(&r, "debmarshal-0", 1000, "10.64.0.0/29", no_hosts);
        n->state = NETWORK_FAILED;
        registry_add_network(&r, n);
        assert_heard("+n debmarshal-0 ");
        registry_done(&r);
}

static void test_domains_count_on_their_networks(void **state UNUSED) {
        Registry r;
        registry_start(&r);
        Network *a = make_network(&r, "debmarshal-0", 1000, "10.64.0.0/29", no_hosts);
        Network *b = make_network(&r, "debmarshal-1", 1000, "10.64.0.8/29", no_hosts);
        registry_add_network(&r, a);
        registry_add_network(&r, b);
        registry_set_network_state(&r, a, NETWORK_UP);
        assert_heard("+n debmarshal-0 ");

        Domain *both = make_domain(&r, "debmarshal-0", 1000, "debmarshal-0", "debmarshal-1");
        registry_add_domain(&r, both);
        assert_heard("~n debmarshal-0 ");
        Domain *twice = make_domain(&r, "debmarshal-1", 1000, "debmarshal-0", "debmarshal-0");
        registry_add_domain(&r, twice);
        Domain *nowhere = make_domain(&r, "debmarshal-2", 1000, "debmarshal-7", NULL);
        registry_add_domain(&r, nowhere);
        assert_heard("~n debmarshal-0 ");
        assert_int_equal(a->n_domains, 2);
        assert_int_equal(b->n_domains, 1);
        assert_int_equal(r.n_domains, 3);

        char *names = registry_domains_on(&r, a);
        assert_string_equal(names, "debmarshal-0, debmarshal-1");
        free(names);
        assert_true(registry_mac_in_use(&r, "debmarshal-1", &both->spec.nics[1].mac));
        assert_false(registry_mac_in_use(&r, "debmarshal-1", &both->spec.nics[0].mac));

        registry_set_domain_state(&r, both, DOMAIN_RUNNING);
        registry_set_domain_state(&r, both, DOMAIN_PAUSED);
        registry_set_domain_state(&r, both, DOMAIN_DESTROYING);
        assert_heard("+d debmarshal-0 ~d debmarshal-0 ~d debmarshal-0 ");
        registry_remove_domain(&r, both);
        assert_heard("-d debmarshal-0 ~n debmarshal-0 ");
        assert_int_equal(a->n_domains, 1);
        assert_int_equal(b->n_domains, 0);

        registry_set_domain_state(&r, twice, DOMAIN_DESTROYING);
        registry_remove_domain(&r, twice);
        assert_heard("~n debmarshal-0 ");
        registry_done(&r);
}

static void test_charges_go_with_the_thing(void **state UNUSED) {
        Registry r;
        registry_start(&r);
        Network *n = make_network(&r, "debmarshal-0", 1000, "10.64.0.0/29", no_hosts);
        Owner *owner = n->owner;
        registry_add_network(&r, n);
        registry_add_domain(&r, make_domain(&r, "debmarshal-0", 1000, "debmarshal-0", NULL));
        assert_int_equal(owner->held.memory, 64 << 20);
        assert_int_equal(owner->held.vcpus, 1);
        registry_remove_domain(&r, registry_domain(&r, "debmarshal-0"));
        registry_remove_network(&r, n);
        Charge nothing = { 0 };
        assert_memory_equal(&owner->held, &nothing, sizeof nothing);
        registry_done(&r);
}

static void test_many_domains_are_named_in_part(void **state UNUSED) {
        Registry r;
        registry_start(&r);
        Network *n = make_network(&r, "debmarshal-0", 1000, "10.64.0.0/29", no_hosts);
        registry_add_network(&r, n);
        char *names = registry_domains_on(&r, n);
        assert_string_equal(names, "");
        free(names);
        for (unsigned i = 0; i < 12; i++) {
                char name[OBJECT_NAME_MAX];
                registry_add_domain(&r, make_domain(&r, object_name_format(i, name), 1000, "debmarshal-0", NULL));
        }
        names = registry_domains_on(&r, n);
        assert_non_null(strstr(names, "debmarshal-9, ..."));
        assert_null(strstr(names, "debmarshal-10"));
        assert_string_equal(strstr(names, ", ..."), ", ...");
        free(names);
        registry_done(&r);
}

static void test_smallest_names_and_subnets_are_found(void **state UNUSED) {
        Registry r;
        Error e = ERROR_INIT;
        registry_start(&r);
        char name[OBJECT_NAME_MAX];
        Subnet pool, subnet;
        assert_int_equal(subnet_parse("10.64.0.0/28", &pool), 0);

        registry_free_network_name(&r, name);
        assert_string_equal(name, "debmarshal-0");
        registry_add_network(&r, make_network(&r, "debmarshal-0", 1000, "10.64.0.0/29", no_hosts));
        registry_add_network(&r, make_network(&r, "debmarshal-2", 1000, "192.168.0.0/24", no_hosts));
        registry_free_network_name(&r, name);
        assert_string_equal(name, "debmarshal-1");
        assert_int_equal(registry_free_subnet(&r, &pool, 29, &subnet, &e), 0);
        assert_int_equal(subnet.base, 0x0a400008);
        registry_add_network(&r, make_network(&r, "debmarshal-1", 1000, "10.64.0.8/29", no_hosts));
        assert_true(registry_free_subnet(&r, &pool, 29, &subnet, &e) < 0);
        assert_int_equal(e.id, ERROR_NO_AVAILABLE_IPS);
        error_clear(&e);

        registry_free_network_name(&r, name);
        assert_string_equal(name, "debmarshal-3");
        registry_remove_network(&r, registry_network(&r, "debmarshal-1"));
        registry_remove_network(&r, registry_network(&r, "debmarshal-2"));
        registry_free_network_name(&r, name);
        assert_string_equal(name, "debmarshal-1");
        assert_int_equal(registry_free_subnet(&r, &pool, 29, &subnet, &e), 0);
        assert_int_equal(subnet.base, 0x0a400008);

        registry_add_domain(&r, make_domain(&r, "debmarshal-0", 1000, "debmarshal-0", NULL));
        registry_free_domain_name(&r, name);
        assert_string_equal(name, "debmarshal-1");
        assert_int_equal(r.next_domain_id, 2);
        registry_done(&r);
}

/* More than there are buckets, so that each has several; and those whose names are no names of ours. */
static void test_names_are_found_among_thousands(void **state UNUSED) {
        enum { COUNT = 3 * REGISTRY_BUCKETS };
        static Network *networks[COUNT];
        static Domain *domains[COUNT];
        char name[OBJECT_NAME_MAX];
        Registry r;

        registry_start(&r);
        for (unsigned i = 0; i < COUNT; i++) {
                object_name_format(i, name);
                registry_add_network(&r, networks[i] = make_network(&r, name, 1000, "10.64.0.0/29", no_hosts));
                registry_add_domain(&r, domains[i] = make_domain(&r, name, 1000, "debmarshal-9999", NULL));
        }
        Network *strange = make_network(&r, "strange", 1000, "10.64.0.0/29", no_hosts);
        registry_add_network(&r, strange);
        registry_remove_network(&r, networks[REGISTRY_BUCKETS + 7]);
        registry_remove_domain(&r, domains[2 * REGISTRY_BUCKETS]);
        networks[REGISTRY_BUCKETS + 7] = NULL;
        domains[2 * REGISTRY_BUCKETS] = NULL;
        for (unsigned i = 0; i < COUNT; i++) {
                object_name_format(i, name);
                assert_ptr_equal(registry_network(&r, name), networks[i]);
                assert_ptr_equal(registry_domain(&r, name), domains[i]);
        }
        assert_ptr_equal(registry_network(&r, "strange"), strange);
        assert_null(registry_network(&r, object_name_format(COUNT, name)));
        assert_null(registry_domain(&r, "stranger"));
        registry_done(&r);
}

static void test_jail_uids_run_out(void **state UNUSED) {
        Registry r;
        Error e = ERROR_INIT;
        registry_start(&r);
        Limits limits = LIMITS_DEFAULT;
        limits.jail_uid_count = 2;
        uint32_t uid;
        for (unsigned i = 0; i < 2; i++) {
                char name[OBJECT_NAME_MAX];
                assert_int_equal(registry_free_jail_uid(&r, &limits, &uid, &e), 0);
                assert_int_equal(uid, limits.jail_uid_base + i);
                Domain *d = make_domain(&r, object_name_format(i, name), 1000, "debmarshal-0", NULL);
                d->jail_uid = uid;
                registry_add_domain(&r, d);
        }
        assert_true(registry_free_jail_uid(&r, &limits, &uid, &e) < 0);
        assert_int_equal(e.id, ERROR_QUOTA_EXCEEDED);
        error_clear(&e);
        registry_remove_domain(&r, registry_domain(&r, "debmarshal-0"));
        assert_int_equal(registry_free_jail_uid(&r, &limits, &uid, &e), 0);
        assert_int_equal(uid, limits.jail_uid_base);
        registry_done(&r);
}

static void test_newest_ended_domain_is_found(void **state UNUSED) {
        Registry r;
        registry_start(&r);
        for (unsigned i = 0; i < 3; i++) {
                EndedDomain *d = calloc(1, sizeof *d);
                d->id = i;
                d->uid = i == 1 ? 1001 : 1000;
                d->name = strdup("debmarshal-0");
                registry_add_ended(&r, d);
        }
        assert_int_equal(registry_ended(&r, "debmarshal-0", 1000)->id, 2);
        assert_int_equal(registry_ended(&r, "debmarshal-0", 1001)->id, 1);
        assert_int_equal(registry_ended(&r, "debmarshal-0", (uid_t)-1)->id, 2);
        assert_null(registry_ended(&r, "debmarshal-0", 1002));
        assert_null(registry_ended(&r, "debmarshal-1", 1000));
        registry_done(&r);
}

/* A subnet that was asked for larger than its hosts need keeps nobody from having a part of it. */
static void test_large_subnets_are_not_kept_free(void **state UNUSED) {
        Registry r;
        Error e = ERROR_INIT;
        registry_start(&r);
        Subnet pool, subnet;
        assert_int_equal(subnet_parse("10.64.0.0/28", &pool), 0);

        registry_add_network(&r, make_network(&r, "debmarshal-0", 1000, "10.0.0.0/8", two_hosts));
        registry_add_network(&r, make_network(&r, "debmarshal-1", 1000, "10.64.0.0/28", two_hosts));
        assert_int_equal(registry_free_subnet(&r, &pool, 29, &subnet, &e), 0);
        assert_int_equal(subnet.base, 0x0a400000);

        /* As large as needed it counts, however it came to be; and one that does not goes without it. */
        char *hosts[11] = { NULL };
        for (size_t i = 0; i < 10; i++)
                hosts[i] = alpha;
        registry_add_network(&r, make_network(&r, "debmarshal-2", 1001, "10.64.0.0/28", hosts));
        registry_remove_network(&r, registry_network(&r, "debmarshal-1"));
        assert_true(registry_free_subnet(&r, &pool, 29, &subnet, &e) < 0);
        assert_int_equal(e.id, ERROR_NO_AVAILABLE_IPS);
        error_clear(&e);
        registry_add_network(&r, make_network(&r, "debmarshal-3", 1001, "10.64.0.0/30", no_hosts));
        registry_remove_network(&r, registry_network(&r, "debmarshal-2"));
        assert_int_equal(registry_free_subnet(&r, &pool, 29, &subnet, &e), 0);
        assert_int_equal(subnet.base, 0x0a400008);
        registry_done(&r);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names_round_trip),
                cmocka_unit_test(test_hosts_get_addresses_in_order),
                cmocka_unit_test(test_macs_are_unique_in_a_large_network),
                cmocka_unit_test(test_networks_are_announced_once_up),
                cmocka_unit_test(test_domains_count_on_their_networks),
                cmocka_unit_test(test_charges_go_with_the_thing),
                cmocka_unit_test(test_many_domains_are_named_in_part),
                cmocka_unit_test(test_smallest_names_and_subnets_are_found),
                cmocka_unit_test(test_large_subnets_are_not_kept_free),
                cmocka_unit_test(test_names_are_found_among_thousands),
                cmocka_unit_test(test_jail_uids_run_out),
                cmocka_unit_test(test_newest_ended_domain_is_found),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
