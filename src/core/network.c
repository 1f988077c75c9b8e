/* A network's record: its names, and the addresses of its hosts. What is made of it on the host is net/'s business, and
 * who may move it from state to state is the registry's. */
#include "core/network.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/string-util.h"
#include "base/time-util.h"

static const char *const state_names[NETWORK_STATE_COUNT] = {
        [NETWORK_CREATING] = "creating",
        [NETWORK_UP] = "up",
        [NETWORK_FAILED] = "failed",
        [NETWORK_DESTROYING] = "destroying",
};

static const char *const ipv6_mode_names[IPV6_MODE_COUNT] = {
        [IPV6_SLAAC] = "slaac",
        [IPV6_DHCP] = "dhcp",
        [IPV6_NONE] = "none",
};

const char *network_state_name(NetworkState s) {
        return s < NETWORK_STATE_COUNT ? state_names[s] : "";
}

NetworkState network_state_from_name(const char *name) {
        return string_find(state_names, NETWORK_STATE_COUNT, name);
}

const char *ipv6_mode_name(Ipv6Mode m) {
        return m < IPV6_MODE_COUNT ? ipv6_mode_names[m] : "";
}

Ipv6Mode ipv6_mode_from_name(const char *name) {
        return string_find(ipv6_mode_names, IPV6_MODE_COUNT, name);
}

static const Charge one_network = { .networks = 1 };

Lingering network_lingering(Owner *owner) {
        return (Lingering){ owner, &one_network };
}

Lingering spare_lingering(Owner *owner) {
        static const Charge one_spare = { .dying_spares = 1 };
        return (Lingering){ owner, &one_spare };
}

int network_new(const char *name, Owner *owner, Network **ret) {
        Network *n = calloc(1, sizeof *n);
        if (!n)
                return -ENOMEM;

        n->name = strdup(name);
        if (!n->name) {
                network_free(n);
                return -ENOMEM;
        }
        n->owner = owner;
        n->process = PROCESS_INIT;
        n->created_usec = now_realtime_usec();
        *ret = n;
        return 0;
}

static void hosts_free(Host *hosts, size_t count) {
        for (size_t i = 0; i < count; i++)
                free(hosts[i].name);
        free(hosts);
}

Network *network_free(Network *n) {
        if (!n)
                return NULL;

        process_done(&n->process);
        hosts_free(n->hosts, n->n_hosts);
        free(n->reason);
        free(n->name);
        free(n);
        return NULL;
}

static int host_mac_compare(const void *a, const void *b) {
        const Host *const *left = a, *const *right = b;
        return memcmp((*left)->mac.octets, (*right)->mac.octets, sizeof(*left)->mac.octets);
}

/* Random MACs, none twice. There are 2^24 of them, so that among the 4096 hosts of the largest network a clash is
 * likely: sort, draw the later one of each equal pair again, and look anew. */
static int hosts_draw_macs(Host *hosts, size_t count) {
        Host **sorted = calloc(count + 1, sizeof *sorted);
        if (!sorted)
                return -ENOMEM;

        int r = 0;
        for (size_t i = 0; i < count && r >= 0; i++) {
                sorted[i] = &hosts[i];
                r = mac_random(&hosts[i].mac);
        }
        for (bool again = true; again && r >= 0;) {
                again = false;
                qsort(sorted, count, sizeof *sorted, host_mac_compare);
                for (size_t i = 1; i < count && r >= 0; i++)
                        if (mac_equal(&sorted[i - 1]->mac, &sorted[i]->mac)) {
                                r = mac_random(&sorted[i - 1]->mac);
                                again = true;
                        }
        }
        free(sorted);
        return r;
}

/* PREFIX::N: the gateway is 1, the hosts of a DHCPv6 network count from 2, as their IPv4 addresses do. */
static struct in6_addr address6_at(const struct in6_addr *prefix, uint32_t number) {
        struct in6_addr address = *prefix;
        for (int i = 0; i < 4; i++)
                address.s6_addr[15 - i] = (uint8_t)(number >> (8 * i));
        return address;
}

static struct in6_addr host_address6(const Network *n, const Host *h, size_t index) {
        switch (n->ipv6_mode) {
        case IPV6_SLAAC:
                return mac_eui64(&h->mac, &n->prefix6);
        case IPV6_DHCP:
                return address6_at(&n->prefix6, (uint32_t)index + 2);
        default:
                return (struct in6_addr){ 0 };
        }
}

int network_set_hosts(Network *n, char *const *names) {
        size_t count = string_list_length(names);
        Host *hosts = calloc(count + 1, sizeof *hosts);
        if (!hosts)
                return -ENOMEM;

        int r = hosts_draw_macs(hosts, count);
        for (size_t i = 0; i < count && r >= 0; i++) {
                hosts[i].address = subnet_host(&n->subnet, i);
                hosts[i].address6 = host_address6(n, &hosts[i], i);
                hosts[i].name = strdup(names[i]);
                if (!hosts[i].name)
                        r = -ENOMEM;
        }
        if (r < 0) {
                hosts_free(hosts, count);
                return r;
        }

        hosts_free(n->hosts, n->n_hosts);
        n->hosts = hosts;
        n->n_hosts = count;
        return 0;
}

const Host *network_host_by_mac(const Network *n, const Mac *mac) {
        for (size_t i = 0; i < n->n_hosts; i++)
                if (mac_equal(&n->hosts[i].mac, mac))
                        return &n->hosts[i];
        return NULL;
}

const Host *network_host_by_name(const Network *n, const char *name) {
        for (size_t i = 0; i < n->n_hosts; i++)
                if (strcasecmp(n->hosts[i].name, name) == 0)
                        return &n->hosts[i];
        return NULL;
}

const char *network_dns_domain(const Network *n, char buffer[NETWORK_DNS_DOMAIN_MAX]) {
        snprintf(buffer, NETWORK_DNS_DOMAIN_MAX, "%.*s.test", NETWORK_DNS_DOMAIN_MAX - (int)sizeof ".test", n->name);
        return buffer;
}

struct in6_addr network_gateway6(const Network *n) {
        return address6_at(&n->prefix6, 1);
}
