/* What the tests of registry and store make their objects with. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/registry.h"

static inline Network *make_network(Registry *r, const char *name, uid_t uid, const char *subnet, char *const *hosts) {
        Owner *owner;
        Network *n;
        assert_int_equal(owners_get(&r->owners, uid, &owner), 0);
        assert_int_equal(owner_charge(owner, &(Charge){ .networks = 1 }, NULL, NULL), 0);
        assert_int_equal(network_new(name, owner, &n), 0);
        assert_int_equal(subnet_parse(subnet, &n->subnet), 0);
        n->prefix6.s6_addr[0] = 0xfd;
        n->prefix6.s6_addr[6] = 7;
        assert_int_equal(network_set_hosts(n, hosts), 0);
        return n;
}

/* With NICs on first and, unless NULL, on second. */
static inline Domain *make_domain(Registry *r, const char *name, uid_t uid, const char *first, const char *second) {
        Owner *owner;
        Domain *d;
        DomainSpec spec = DOMAIN_SPEC_INIT;
        Error e = ERROR_INIT;
        char path[] = "/tmp/disk", *disks[] = { path, NULL };
        assert_int_equal(domain_spec_set(&spec, "64M", disks, first, "", "null", "", &e), 0);
        if (second) {
                char *nics[] = { strdup(second), NULL };
                ExtraValue value = { .kind = EXTRA_STRINGS, .strings = nics };
                assert_int_equal(domain_spec_set_extra(&spec, "nics", &value, &e), 0);
                free(nics[0]);
        }
        assert_int_equal(owners_get(&r->owners, uid, &owner), 0);
        assert_int_equal(domain_new(name, r->next_domain_id, owner, &spec, &d), 0);
        Charge charge = domain_charge(d);
        assert_int_equal(owner_charge(owner, &charge, NULL, NULL), 0);
        return d;
}
