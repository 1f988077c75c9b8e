#include "net/taps.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/network.h"
#include "net/netlink.h"

#define TUN_DEVICE "/dev/net/tun"

typedef struct Taps {
        size_t count;
        int fds[FD_SET_MAX];
} Taps;

static int taps_open(void *userdata, const char **ret_step) {
        Taps *t = userdata;
        *ret_step = "open " TUN_DEVICE;
        for (size_t i = 0; i < t->count; i++) {
                t->fds[i] = open(TUN_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
                if (t->fds[i] < 0)
                        return -errno;
        }
        return 0;
}

static int tap_make(int fd, int *ret_index, const char **ret_step) {
        struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
        strcpy(request.ifr_name, "tap%d");
        *ret_step = "make a tap";
        if (ioctl(fd, TUNSETIFF, &request) < 0)
                return -errno;

        *ret_step = "find the tap";
        unsigned index = if_nametoindex(request.ifr_name);
        if (index == 0)
                return -errno;
        *ret_index = (int)index;
        return 0;
}

static int taps_join(const Taps *t, const char **ret_step) {
        *ret_step = "find the bridge " NETWORK_BRIDGE;
        unsigned bridge = if_nametoindex(NETWORK_BRIDGE);
        if (bridge == 0)
                return -errno;

        *ret_step = "open a netlink socket";
        AUTO(netlink_drop) Netlink *nl = NULL;
        int r = netlink_open(&nl);
        for (size_t i = 0; r == 0 && i < t->count; i++) {
                int index = 0;
                r = tap_make(t->fds[i], &index, ret_step);
                if (r == 0)
                        netlink_set_master(nl, index, (int)bridge);
        }
        return r < 0 ? r : netlink_commit(nl, ret_step);
}

static int tun_error(int r, const char *step, Error *e) {
        if (strcmp(step, "open " TUN_DEVICE) != 0)
                return error_set_errno(e, r, "Failed to connect a guest to its network: cannot %s", step);
        if (r == -ENOENT || r == -ENODEV || r == -ENXIO)
                return error_set(e, ERROR_NOT_SUPPORTED, "This host has no " TUN_DEVICE " (%s): try \"modprobe tun\"",
                                 strerror(-r));
        if (r == -EACCES || r == -EPERM)
                return error_set(e, ERROR_NOT_SUPPORTED,
                                 "Only some users may open " TUN_DEVICE " here (%s), which is for everybody "
                                 "on other hosts: try \"chmod 0666 " TUN_DEVICE "\"",
                                 strerror(-r));
        return error_set_errno(e, r, "Failed to %s", step);
}

int taps_make(const int namespaces[ENTER_COUNT], bool privileged, uid_t owner, size_t count, FdSet *fds, Error *e) {
        Taps taps = { .count = count };
        const char *step = "enter the network";
        int r = enter_network(namespaces, privileged, owner, taps_open, &taps, &step);
        if (r == 0)
                r = taps_join(&taps, &step);
        for (size_t i = 0; r == 0 && i < taps.count; i++) {
                step = "hand over a tap";
                r = fd_set_add(fds, taps.fds[i]);
        }
        return r < 0 ? tun_error(r, step, e) : 0;
}
