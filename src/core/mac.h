#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Mac {
        uint8_t octets[6];
} Mac;

#define MAC_TEXT_MAX 18
/* Six pairs of hexadecimal digits and colons, nothing else; unicast and not all zero. -EINVAL. */
int mac_parse(const char *text, Mac *ret);
const char *mac_format(const Mac *mac, char buffer[MAC_TEXT_MAX]); /* lower case; returns buffer */
bool mac_equal(const Mac *a, const Mac *b);

/* A random one under Xen's OUI, 00:16:3e. -errno when there is no randomness. */
int mac_random(Mac *ret);

/* The address that stateless autoconfiguration gives this MAC below a /64 prefix (RFC 4291, appendix A). */
struct in6_addr mac_eui64(const Mac *mac, const struct in6_addr *prefix);
