/* A child's way into a network's namespaces. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Order of a pair of namespace descriptors. */
enum { ENTER_USER, ENTER_NET, ENTER_COUNT };

/* In a child: have the network namespace, and be nobody but the owner, with every capability in the network's user
 * namespace and none outside. opened() (may be NULL) runs in between: it has the network namespace already, and in the
 * system scope still root's rights on the host's files; that is what /dev/net/tun may need. In the end the child dies
 * with the daemon again. 0 or negative errno with *ret_step. */
int enter_network(const int namespaces[ENTER_COUNT], bool privileged, uid_t owner,
                  int (*opened)(void *userdata, const char **ret_step), void *userdata, const char **ret_step);
