/* The few rtnetlink requests that a rig needs, in one batch, over libmnl. Used by the keeper and by the workers inside
 * a network, never by the daemon's own process. Blocking: the kernel answers at once. */
#pragma once

#include <netinet/in.h>
#include <stdint.h>

#include "core/mac.h"

typedef struct Netlink Netlink;
int netlink_open(Netlink **ret); /* in the calling process's network namespace, wherever it goes later */
Netlink *netlink_close(Netlink *nl);
void netlink_drop(Netlink **nl); /* for AUTO() */

/* Queue requests; they are sent and their answers read by netlink_commit(), which returns the first failure and the
 * step's name. What does not fit the batch is remembered as a failure of that step. */
/* Put a link into another network namespace, where it is down and has no master. */
void netlink_move(Netlink *nl, int index, int netns_fd);
void netlink_link_up(Netlink *nl, int index);
/* An Ethernet bridge that forwards at once, floods multicast, keeps its MAC whatever joins it, and has no IPv6
 * address that it was not given. */
void netlink_bridge_add(Netlink *nl, const char *name, int index, const Mac *mac);
/* Make it a port of the master, without an IPv6 address of its own; and up. */
void netlink_set_master(Netlink *nl, int index, int master);
void netlink_address4_add(Netlink *nl, int index, uint32_t address, uint8_t prefix);
/* No duplicate address detection. */
void netlink_address6_add(Netlink *nl, int index, const struct in6_addr *address, uint8_t prefix);
int netlink_commit(Netlink *nl, const char **ret_step);
