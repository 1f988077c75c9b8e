#include "core/subnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"

/* A network's own address, its broadcast address and its gateway. */
#define ADDRESSES_NOT_FOR_HOSTS 3
#define AUTOMATIC_PREFIX_MAX    29
#define ASKED_PREFIX_MIN        8
#define ASKED_PREFIX_MAX        30

static uint32_t mask_of(uint8_t prefix) {
        return prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
}

/* One past the last address, which for the whole space does not fit 32 bits. */
static uint64_t end_of(const Subnet *s) {
        return s->base + subnet_size(s);
}

int subnet_parse(const char *text, Subnet *ret) {
        const char *slash = text ? strchr(text, '/') : NULL;
        char address[ADDRESS_TEXT_MAX];
        struct in_addr parsed;
        uint64_t prefix;

        if (!slash || (size_t)(slash - text) >= sizeof address)
                return -EINVAL;
        memcpy(address, text, (size_t)(slash - text));
        address[slash - text] = '\0';
        if (inet_pton(AF_INET, address, &parsed) != 1 || parse_u64(slash + 1, 32, &prefix) < 0)
                return -EINVAL;
        Subnet s = { .base = ntohl(parsed.s_addr), .prefix = (uint8_t)prefix };
        if (s.base & ~mask_of(s.prefix))
                return -EINVAL;
        *ret = s;
        return 0;
}

const char *address_format(uint32_t address, char buffer[ADDRESS_TEXT_MAX]) {
        snprintf(buffer, ADDRESS_TEXT_MAX, "%u.%u.%u.%u", address >> 24, address >> 16 & 255, address >> 8 & 255,
                 address & 255);
        return buffer;
}

const char *subnet_format(const Subnet *s, char buffer[SUBNET_TEXT_MAX]) {
        char address[ADDRESS_TEXT_MAX];

        snprintf(buffer, SUBNET_TEXT_MAX, "%s/%u", address_format(s->base, address), s->prefix);
        return buffer;
}

const char *subnet_netmask(const Subnet *s, char buffer[ADDRESS_TEXT_MAX]) {
        return address_format(mask_of(s->prefix), buffer);
}

bool subnet_overlaps(const Subnet *a, const Subnet *b) {
        return a->base < end_of(b) && b->base < end_of(a);
}

bool subnet_contains(const Subnet *outer, const Subnet *inner) {
        return outer->base <= inner->base && end_of(inner) <= end_of(outer);
}

uint8_t subnet_prefix_for(size_t n_hosts) {
        Subnet s = { .prefix = AUTOMATIC_PREFIX_MAX };

        while (s.prefix > 0 && subnet_size(&s) - ADDRESSES_NOT_FOR_HOSTS < n_hosts)
                s.prefix--;
        return s.prefix;
}

int subnet_check_asked(const Subnet *s, size_t n_hosts, Error *e) {
        static const struct {
                Subnet subnet;
                const char *what;
        } special[] = {
                { { 0x00000000, 8 }, "\"this network\"" },
                { { 0x7f000000, 8 }, "the loopback addresses" },
                { { 0xa9fe0000, 16 }, "the link-local addresses" },
                { { 0xe0000000, 3 }, "the multicast and reserved addresses" },
        };
        char text[SUBNET_TEXT_MAX], other[SUBNET_TEXT_MAX];

        subnet_format(s, text);
        if (s->prefix < ASKED_PREFIX_MIN || s->prefix > ASKED_PREFIX_MAX)
                return error_set(e, ERROR_INVALID_INPUT, "subnet %s: the prefix must be from %d to %d", text,
                                 ASKED_PREFIX_MIN, ASKED_PREFIX_MAX);
        for (size_t i = 0; i < ARRAY_LEN(special); i++)
                if (subnet_overlaps(s, &special[i].subnet))
                        return error_set(e, ERROR_INVALID_INPUT, "subnet %s has addresses of %s, %s", text,
                                         subnet_format(&special[i].subnet, other), special[i].what);
        if (subnet_size(s) - ADDRESSES_NOT_FOR_HOSTS < n_hosts)
                return error_set(e, ERROR_INVALID_INPUT, "subnet %s has room for %llu hosts, not for %zu", text,
                                 (unsigned long long)subnet_size(s) - ADDRESSES_NOT_FOR_HOSTS, n_hosts);
        return 0;
}

/* The first that begins at base or behind it. */
static size_t set_find(const SubnetSet *set, uint32_t base) {
        size_t low = 0, high = set->count;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (set->items[middle].base < base)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

int subnet_set_add(SubnetSet *set, const Subnet *s) {
        if (set->count == set->room) {
                size_t room = set->room ? 2 * set->room : 8;
                Subnet *grown = reallocarray(set->items, room, sizeof *grown);
                if (!grown)
                        return -ENOMEM;
                set->items = grown;
                set->room = room;
        }
        size_t at = set_find(set, s->base);
        memmove(&set->items[at + 1], &set->items[at], (set->count - at) * sizeof *set->items);
        set->items[at] = *s;
        set->count++;
        return 0;
}

void subnet_set_remove(SubnetSet *set, const Subnet *s) {
        for (size_t at = set_find(set, s->base); at < set->count && set->items[at].base == s->base; at++)
                if (set->items[at].prefix == s->prefix) {
                        set->count--;
                        memmove(&set->items[at], &set->items[at + 1], (set->count - at) * sizeof *set->items);
                        return;
                }
}

void subnet_set_clear(SubnetSet *set) {
        free(set->items);
        *set = (SubnetSet){ 0 };
}

int subnet_allocate(const Subnet *pool, uint8_t prefix, const SubnetSet *taken, Subnet *ret, Error *e) {
        Subnet candidate = { .base = pool->base, .prefix = prefix };
        uint64_t size = subnet_size(&candidate), start = pool->base;
        char text[SUBNET_TEXT_MAX];

        /* First fit: step over each one that is in the way, to the next aligned start. */
        for (size_t i = 0; i < taken->count && start + size > taken->items[i].base; i++)
                if (end_of(&taken->items[i]) > start)
                        start = (end_of(&taken->items[i]) + size - 1) / size * size;
        if (prefix < pool->prefix || start + size > end_of(pool))
                return error_set(e, ERROR_NO_AVAILABLE_IPS, "no free /%u subnet is left in the pool %s", prefix,
                                 subnet_format(pool, text));
        candidate.base = (uint32_t)start;
        *ret = candidate;
        return 0;
}
