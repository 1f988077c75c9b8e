/* Taps on a network's bridge, for emulators. In a worker. */
#pragma once

#include "base/error.h"
#include "base/fd.h"
#include "net/enter.h"

/* Enter the network (enter.h), and make count taps there that are up, not persistent, with IFF_VNET_HDR, and ports of
 * the bridge: they are there as long as their descriptors, which are added to fds. */
int taps_make(const int namespaces[ENTER_COUNT], bool privileged, uid_t owner, size_t count, FdSet *fds, Error *e);
