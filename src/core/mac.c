#include "core/mac.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"

static const uint8_t xen_oui[3] = { 0x00, 0x16, 0x3e };

static int digit_value(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

int mac_parse(const char *text, Mac *ret) {
        Mac mac;
        uint8_t all = 0;

        if (!text || strnlen(text, MAC_TEXT_MAX) != MAC_TEXT_MAX - 1)
                return -EINVAL;
        for (size_t i = 0; i < 6; i++) {
                int high = digit_value(text[3 * i]), low = digit_value(text[3 * i + 1]);
                if (high < 0 || low < 0 || text[3 * i + 2] != (i < 5 ? ':' : '\0'))
                        return -EINVAL;
                mac.octets[i] = (uint8_t)(high << 4 | low);
                all |= mac.octets[i];
        }
        /* The lowest bit of the first octet marks groups, broadcast among them. */
        if (all == 0 || mac.octets[0] & 1)
                return -EINVAL;
        *ret = mac;
        return 0;
}

const char *mac_format(const Mac *mac, char buffer[MAC_TEXT_MAX]) {
        const uint8_t *o = mac->octets;

        snprintf(buffer, MAC_TEXT_MAX, "%02x:%02x:%02x:%02x:%02x:%02x", o[0], o[1], o[2], o[3], o[4], o[5]);
        return buffer;
}

bool mac_equal(const Mac *a, const Mac *b) {
        return memcmp(a->octets, b->octets, sizeof a->octets) == 0;
}

int mac_random(Mac *ret) {
        Mac mac;

        memcpy(mac.octets, xen_oui, sizeof xen_oui);
        int r = random_bytes(mac.octets + sizeof xen_oui, sizeof mac.octets - sizeof xen_oui);
        if (r < 0)
                return r;
        *ret = mac;
        return 0;
}

struct in6_addr mac_eui64(const Mac *mac, const struct in6_addr *prefix) {
        struct in6_addr address = *prefix;
        const uint8_t *o = mac->octets;
        /* The universal/local bit is inverted, and ff:fe stands in the middle. */
        const uint8_t interface[8] = { o[0] ^ 2, o[1], o[2], 0xff, 0xfe, o[3], o[4], o[5] };

        memcpy(address.s6_addr + 8, interface, 8);
        return address;
}
