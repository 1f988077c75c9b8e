/* IPv4 subnets: text form, arithmetic, and the choice of a free one in a pool. Addresses are in host byte order. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct Subnet {
        uint32_t base; /* the bits below the prefix are 0 */
        uint8_t prefix;
} Subnet;

/* "10.1.2.0/24", and nothing around it. -EINVAL: malformed or bits below the prefix set. */
int subnet_parse(const char *text, Subnet *ret);

#define SUBNET_TEXT_MAX 20
const char *subnet_format(const Subnet *s, char buffer[SUBNET_TEXT_MAX]); /* "10.1.2.0/24"; returns buffer */
#define ADDRESS_TEXT_MAX INET_ADDRSTRLEN
const char *address_format(uint32_t address, char buffer[ADDRESS_TEXT_MAX]); /* "10.1.2.1" */
const char *subnet_netmask(const Subnet *s, char buffer[ADDRESS_TEXT_MAX]);  /* "255.255.255.0" */

static inline uint64_t subnet_size(const Subnet *s) {
        return 1ULL << (32 - s->prefix);
}
/* The first address, where DHCP and DNS answer. */
static inline uint32_t subnet_gateway(const Subnet *s) {
        return s->base + 1;
}
/* The address of the index-th host, counted from 0. */
static inline uint32_t subnet_host(const Subnet *s, size_t index) {
        return s->base + 2 + (uint32_t)index;
}
bool subnet_overlaps(const Subnet *a, const Subnet *b);
bool subnet_contains(const Subnet *outer, const Subnet *inner);

/* The longest prefix whose subnet has room for its own and the broadcast address, the gateway and that many hosts; at
 * most 29, so that an empty network has room for a hand-made address too. */
uint8_t subnet_prefix_for(size_t n_hosts);

/* May a user ask for it? Unicast space that is not loopback, link-local, "this network" or multicast, of a prefix
 * from 8 to 30, with room for the hosts. Sets ERROR_INVALID_INPUT. */
int subnet_check_asked(const Subnet *s, size_t n_hosts, Error *e);

/* Those that are taken, in the order of their bases; one may be there several times. Zeroed: empty. */
typedef struct SubnetSet {
        Subnet *items;
        size_t count, room;
} SubnetSet;

int subnet_set_add(SubnetSet *set, const Subnet *s);     /* -ENOMEM */
void subnet_set_remove(SubnetSet *set, const Subnet *s); /* once, if it is there */
void subnet_set_clear(SubnetSet *set);

/* The lowest aligned subnet of that prefix inside pool that overlaps none of those taken. ERROR_NO_AVAILABLE_IPS when
 * there is none. */
int subnet_allocate(const Subnet *pool, uint8_t prefix, const SubnetSet *taken, Subnet *ret, Error *e);
