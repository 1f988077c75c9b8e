#include "net/netlink.h"
