/* What the keeper is to build, as text: written by the daemon into a sealed memfd, read by the keeper. One "key value"
 * line per item. The DHCP and DNS server's configuration is a second sealed memfd, its standard input. Both are made
 * from a Network alone; pure. */
#pragma once

#include <netinet/in.h>
#include <stdint.h>

#include "core/mac.h"
#include "core/network.h"

#define KEEPER_PROGRAM_MAX 256

typedef struct KeeperPlan {
        Mac mac;          /* the bridge's */
        uint32_t gateway; /* host byte order */
        uint8_t prefix;
        struct in6_addr gateway6;         /* all zero: no IPv6 */
        char dnsmasq[KEEPER_PROGRAM_MAX]; /* absolute path of the program */
} KeeperPlan;

/* -ENAMETOOLONG: dnsmasq's path; -EINVAL: it cannot be written as a line. */
int keeper_plan_format(const Network *n, const char *dnsmasq, char **ret_text);
/* -EINVAL: anything that keeper_plan_format() cannot have written. */
int keeper_plan_parse(const char *text, KeeperPlan *ret);

/* The whole of dnsmasq's configuration: reservations for exactly these MACs and nobody else, short and full names over
 * IPv4 and IPv6 and reverse, nothing asked outside (unknown names are NXDOMAIN), no files written, no lease ever lost
 * to a restart. */
int dnsmasq_config_format(const Network *n, char **ret_text);

/* The bridge's number in its namespace: fixed, so that one batch of requests can make and use it, and above what a
 * kernel with tunnels puts into each new namespace by itself. Later links get theirs elsewhere. */
#define BRIDGE_INDEX 1000
/* The gateway's link-local address, which router advertisements come from. */
#define GATEWAY_LINK_LOCAL "fe80::1"
