/* The plan and the server's configuration, both pure functions of a Network.
 *
 * Host names are letters, digits and hyphens, and everything else here is a number or ours: so nothing needs quoting,
 * and nothing that a user chose can become a line of its own or another option.
 *
 * What the configuration must hold:
 * - A guest with a reserved MAC gets exactly its address, at once and for ever; a MAC that is not reserved gets nothing
 *   (the range is static). Leases are not stored: they follow from the reservations, so that a restarted server goes on
 *   where the killed one was. By DHCPv6 "at once" is within two minutes, though: a client is its DUID there, a new one
 *   with each new system, and an address belongs to the DUID that has it until its lease ends. So the leases are as
 *   short as they can be, and a guest that is alive renews its own.
 * - No way out: no router is announced, neither by DHCP (its option is sent by default and is removed here) nor by
 *   router advertisements (lifetime 0), no other server is asked, and a name that is not of this network does not
 * exist.
 * - The names are those of the reservations, never what a guest calls itself.
 * - It writes no file and not to the host's log, which a user could fill: its log goes to its keeper, and is short. */
#include "net/plan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"

/* ---- the plan ---- */

/* A MAC of our own making: locally administered, and the gateway's address behind, so that it is the same in every run
 * and that of no host. A bridge without a fixed one changes it with its ports, under the guests' neighbour caches. */
static Mac bridge_mac(uint32_t gateway) {
        return (Mac){ { 0x02, 0x00, (uint8_t)(gateway >> 24), (uint8_t)(gateway >> 16), (uint8_t)(gateway >> 8),
                        (uint8_t)gateway } };
}

int keeper_plan_format(const Network *n, const char *dnsmasq, char **ret_text) {
        if (strlen(dnsmasq) >= KEEPER_PROGRAM_MAX)
                return -ENAMETOOLONG;
        if (dnsmasq[0] != '/' || strchr(dnsmasq, '\n'))
                return -EINVAL;

        uint32_t gateway = subnet_gateway(&n->subnet);
        Mac mac = bridge_mac(gateway);
        char mac_text[MAC_TEXT_MAX], address[ADDRESS_TEXT_MAX], line6[16 + INET6_ADDRSTRLEN] = "";
        if (n->ipv6_mode != IPV6_NONE) {
                struct in6_addr gateway6 = network_gateway6(n);
                char address6[INET6_ADDRSTRLEN];
                inet_ntop(AF_INET6, &gateway6, address6, sizeof address6);
                snprintf(line6, sizeof line6, "gateway6 %s\n", address6);
        }
        char *text = string_printf("mac %s\ngateway %s\nprefix %u\n%sdnsmasq %s\n", mac_format(&mac, mac_text),
                                   address_format(gateway, address), n->subnet.prefix, line6, dnsmasq);
        if (!text)
                return -ENOMEM;
        *ret_text = text;
        return 0;
}

/* ---- the server's configuration ---- */

static const char config_fixed[] =
        /* One mapped id is all there is: the server must not look for others to become. */
        "user=\n"
        "group=\n"
        "pid-file=\n"
        "keep-in-foreground\n"
        "log-facility=-\n"
        "quiet-dhcp\n"
        "quiet-dhcp6\n"
        "quiet-ra\n"
        "interface=" NETWORK_BRIDGE "\n"
        "bind-interfaces\n"
        "no-resolv\n"
        "no-hosts\n"
        "no-poll\n"
        "cache-size=0\n"
        "local=/#/\n"
        "leasefile-ro\n"
        "dhcp-authoritative\n"
        "dhcp-rapid-commit\n"
        "dhcp-ignore-names\n"
        "no-ping\n"
        "dhcp-option=option:router\n";

static const char *text6(const struct in6_addr *address, char buffer[INET6_ADDRSTRLEN]) {
        return inet_ntop(AF_INET6, address, buffer, INET6_ADDRSTRLEN);
}

static void put_ranges(FILE *f, const Network *n) {
        char base[ADDRESS_TEXT_MAX], mask[ADDRESS_TEXT_MAX], prefix[INET6_ADDRSTRLEN];

        fprintf(f, "dhcp-range=%s,static,%s,infinite\n", address_format(n->subnet.base, base),
                subnet_netmask(&n->subnet, mask));
        /* The default of 1000 is fewer than a network may have hosts; each may hold one lease of each kind. */
        fprintf(f, "dhcp-lease-max=%zu\n", 2 * n->n_hosts + 16);
        if (n->ipv6_mode == IPV6_NONE)
                return;
        fprintf(f, "enable-ra\nra-param=" NETWORK_BRIDGE ",60,0\n");
        /* No lease can be shorter. Without leases the time is that of the prefix. */
        fprintf(f, "dhcp-range=%s,%s\n", text6(&n->prefix6, prefix),
                n->ipv6_mode == IPV6_DHCP ? "static,64,2m" : "ra-only,64,infinite");
}

static void put_name(FILE *f, const char *domain, const char *name, uint32_t address, const struct in6_addr *address6) {
        char text[ADDRESS_TEXT_MAX], long_text[INET6_ADDRSTRLEN];

        /* The first name is the one that an address is turned back into. */
        fprintf(f, "host-record=%s.%s,%s,%s", name, domain, name, address_format(address, text));
        if (address6)
                fprintf(f, ",%s", text6(address6, long_text));
        fputc('\n', f);
}

static void put_host(FILE *f, const Network *n, const char *domain, const Host *h) {
        char mac[MAC_TEXT_MAX], address[ADDRESS_TEXT_MAX], address6[INET6_ADDRSTRLEN];

        fprintf(f, "dhcp-host=%s,%s", mac_format(&h->mac, mac), address_format(h->address, address));
        if (n->ipv6_mode == IPV6_DHCP)
                fprintf(f, ",[%s]", text6(&h->address6, address6));
        /* With the domain: "ignore" alone and what looks like a time would be taken for more than a name. */
        fprintf(f, ",%s.%s\n", h->name, domain);
        put_name(f, domain, h->name, h->address, n->ipv6_mode == IPV6_NONE ? NULL : &h->address6);
}

static void put_config(FILE *f, const Network *n) {
        char domain[NETWORK_DNS_DOMAIN_MAX];
        network_dns_domain(n, domain);

        fputs(config_fixed, f);
        fprintf(f, "domain=%s\n", domain);
        put_ranges(f, n);
        for (size_t i = 0; i < n->n_hosts; i++)
                put_host(f, n, domain, &n->hosts[i]);
        if (!network_host_by_name(n, "gateway")) {
                struct in6_addr gateway6 = network_gateway6(n);
                put_name(f, domain, "gateway", subnet_gateway(&n->subnet),
                         n->ipv6_mode == IPV6_NONE ? NULL : &gateway6);
        }
}

int dnsmasq_config_format(const Network *n, char **ret_text) {
        char *text = NULL;
        size_t length;
        FILE *f = open_memstream(&text, &length);
        if (!f)
                return -errno;

        put_config(f, n);
        bool failed = ferror(f);
        if (fclose(f) != 0 || failed) {
                free(text);
                return -ENOMEM;
        }
        *ret_text = text;
        return 0;
}
