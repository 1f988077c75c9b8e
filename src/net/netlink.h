/* The few rtnetlink requests that a rig needs, in one batch, over libmnl. Used by the keeper and by the workers inside
 * a network, never by the daemon's own process. Blocking: the kernel answers at once. */
#pragma once

#include <netinet/in.h>
#include <stdint.h>

typedef struct Netlink Netlink;
int netlink_open(Netlink **ret);
Netlink *netlink_close(Netlink *nl);

/* Queue requests; they are sent and their answers read by netlink_commit(), which returns the first failure and the
 * step's name. */
void netlink_link_up(Netlink *nl, int index);
void netlink_bridge_add(Netlink *nl, const char *name, int index); /* with multicast snooping off */
void netlink_set_master(Netlink *nl, int index, int master);       /* and up */
void netlink_address4_add(Netlink *nl, int index, uint32_t address, uint8_t prefix);
void netlink_address6_add(Netlink *nl, int index, const struct in6_addr *address,
                          uint8_t prefix); /* no duplicate address detection */
int netlink_commit(Netlink *nl, const char **ret_step);
