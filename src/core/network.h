/* One isolated network as the broker knows it: what it is called, whose it is, its addresses, and how far it has come.
 *
 *   CREATING --> UP --> DESTROYING --> (removed)
 *      |          |          ^
 *      |          v          |
 *      |        FAILED ------+     its keeper died; only destroyNetwork is left
 *      +---------------------+     a step failed, or the daemon died half way */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "core/mac.h"
#include "core/owner.h"
#include "core/process.h"
#include "core/subnet.h"

typedef enum NetworkState {
        NETWORK_CREATING,
        NETWORK_UP,
        NETWORK_FAILED,
        NETWORK_DESTROYING,
        NETWORK_STATE_COUNT
} NetworkState;
const char *network_state_name(NetworkState s);         /* "creating" ... */
NetworkState network_state_from_name(const char *name); /* NETWORK_STATE_COUNT: none */

typedef enum Ipv6Mode { IPV6_SLAAC, IPV6_DHCP, IPV6_NONE, IPV6_MODE_COUNT } Ipv6Mode;
const char *ipv6_mode_name(Ipv6Mode m); /* "slaac", "dhcp", "none" */
Ipv6Mode ipv6_mode_from_name(const char *name);

typedef struct Host {
        char *name;
        uint32_t address; /* host byte order */
        Mac mac;
        struct in6_addr address6; /* all zero with IPV6_NONE */
} Host;

typedef struct Network {
        char *name;
        Owner *owner;
        NetworkState state;
        char *reason; /* why FAILED; else NULL */
        Subnet subnet;
        Ipv6Mode ipv6_mode;
        struct in6_addr prefix6; /* a /64 under fd00::/8; the gateway is ::1 in it */
        Host *hosts;
        size_t n_hosts;
        uint64_t created_usec;    /* realtime */
        ProcessId keeper;         /* pid 0 until it is recorded */
        uint64_t user_ns, net_ns; /* inode numbers of the keeper's namespaces; 0 until it is ready */

        /* Not stored. */
        Process process;        /* the watched keeper */
        size_t n_domains;       /* domains with a NIC here, whatever their state */
        bool announced;         /* the registry's: its listener knows of it */
        struct NetworkJob *job; /* the engine's operation under way, or NULL */
        TAILQ_ENTRY(Network) entry;
        LIST_ENTRY(Network) same_bucket;
} Network;

typedef TAILQ_HEAD(NetworkList, Network) NetworkList;

/* A keeper that its owner keeps from going is charged to her as a network, as long as she does. A spare one never was
 * hers to ask for, so it takes no network from her. */
Lingering network_lingering(Owner *owner);
Lingering spare_lingering(Owner *owner);

int network_new(const char *name, Owner *owner, Network **ret);
Network *network_free(Network *n); /* NULL allowed; releases nothing that it was charged; returns NULL */

/* Take copies of the names, give each host its address, a MAC no other has, and its IPv6 address. Needs subnet,
 * ipv6_mode, prefix6. */
int network_set_hosts(Network *n, char *const *names);

const Host *network_host_by_mac(const Network *n, const Mac *mac);    /* NULL: none */
const Host *network_host_by_name(const Network *n, const char *name); /* any case of letters; NULL: none */

/* The domain under which the hosts are named beside their short names: "debmarshal-3.test" (RFC 6761 keeps .test free).
 * Returns buffer. */
#define NETWORK_DNS_DOMAIN_MAX 48
const char *network_dns_domain(const Network *n, char buffer[NETWORK_DNS_DOMAIN_MAX]);

struct in6_addr network_gateway6(const Network *n);

/* The bridge inside its namespace, the same for each: names are per namespace. */
#define NETWORK_BRIDGE "br0"
