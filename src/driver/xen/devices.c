/* A device is two directories in the store that point to one another: the guest owns the frontend's, dom0 the
 * backend's. The kernel's backend appears with the second, and both then go through states of their own, which nobody
 * here has to wait for: the guest waits. What Debian's tools would call scripts for is in the entries from the
 * beginning: a disk's device by its number, and "hotplug-status", by which a backend is told that its other side is in
 * place. For an interface that is said before it is so; the guest does not run before it is.
 *
 * A link disappears from whatever namespace it is in when its domain goes. When that namespace goes first, the kernel
 * puts the link back into dom0's, under the name that it has by then, which is its user's choice: so a name says
 * nothing of whose a link is. */
#include "driver/xen/devices.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "net/netlink.h"

#define DOM0          0
#define LOOP_CONTROL  "/dev/loop-control"
#define LOOP_ATTEMPTS 64
#define XVD_MAJOR     202
#define BACKENDS      "/sys/bus/xen-backend/devices"

#define NUMBER_TEXT_MAX 32

enum { STATE_INITIALISING = 1 };

typedef struct Device {
        const XenIdentity *who;
        const char *family; /* "vbd", "vif" */
        unsigned number;    /* the guest's name for it */
        char front[XEN_PATH_MAX], back[XEN_PATH_MAX];
        /* What the families differ in. */
        size_t index;
        bool read_only;
        dev_t device;
        const Mac *mac;
} Device;

static void device_init(Device *d, const XenIdentity *who, const char *family, unsigned number) {
        *d = (Device){ .who = who, .family = family, .number = number };
        snprintf(d->front, sizeof d->front, "/local/domain/%u/device/%s/%u", who->id, family, number);
        snprintf(d->back, sizeof d->back, "/local/domain/0/backend/%s/%u/%u", family, who->id, number);
}

static void fill_both_ends(XenStoreChange *c, const Device *d) {
        change_node(c, d->front, NULL, d->who->id, DOM0);
        change_write(c, d->front, "backend", "%s", d->back);
        change_write(c, d->front, "backend-id", "%d", DOM0);
        change_write(c, d->front, "state", "%d", STATE_INITIALISING);
        change_node(c, d->back, NULL, DOM0, d->who->id);
        change_write(c, d->back, XEN_OWNER_KEY, "%s", d->who->uuid);
        change_write(c, d->back, "frontend", "%s", d->front);
        change_write(c, d->back, "frontend-id", "%u", d->who->id);
        change_write(c, d->back, "online", "1");
        change_write(c, d->back, "hotplug-status", "connected");
        change_write(c, d->back, "state", "%d", STATE_INITIALISING);
}

/* ---- disks ---- */

static int configure_free_loop(int control, int file_fd, int *ret_fd) {
        const struct loop_config config = { .fd = (unsigned)file_fd, .info.lo_flags = LO_FLAGS_AUTOCLEAR };
        char path[32];
        int number = ioctl(control, LOOP_CTL_GET_FREE);

        if (number < 0)
                return -errno;
        snprintf(path, sizeof path, "/dev/loop%d", number);
        AUTO(fd_drop) int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0 || ioctl(fd, LOOP_CONFIGURE, &config) < 0)
                return -errno;
        *ret_fd = fd_take(&fd);
        return 0;
}

int device_loop(int file_fd, int *ret_fd, Error *e) {
        AUTO(fd_drop) int control = open(LOOP_CONTROL, O_RDWR | O_CLOEXEC);
        int r = -EBUSY;

        if (control < 0)
                return error_set_errno(e, errno, "Failed to open " LOOP_CONTROL);
        for (unsigned i = 0; i < LOOP_ATTEMPTS && r == -EBUSY; i++) /* another may take the free one first */
                r = configure_free_loop(control, file_fd, ret_fd);
        return r < 0 ? error_set_errno(e, r, "Failed to make a loop device for a disk") : 0;
}

static void fill_disk(XenStoreChange *c, const void *userdata) {
        const Device *d = userdata;

        fill_both_ends(c, d);
        change_write(c, d->front, "virtual-device", "%u", d->number);
        change_write(c, d->front, "device-type", "disk");
        change_write(c, d->back, "removable", "0");
        change_write(c, d->back, "bootable", "1");
        change_write(c, d->back, "dev", "xvd%c", (char)('a' + d->index));
        change_write(c, d->back, "type", "phy");
        change_write(c, d->back, "mode", d->read_only ? "r" : "w");
        change_write(c, d->back, "device-type", "disk");
        change_write(c, d->back, "params", "/dev/block/%u:%u", major(d->device), minor(d->device));
        change_write(c, d->back, "physical-device", "%x:%x", major(d->device), minor(d->device));
}

/* As Linux numbers them, whose names they have: xvda, xvdb... */
static unsigned disk_number(size_t index) {
        return XVD_MAJOR << 8 | (unsigned)index << 4;
}

int device_add_disk(XenStore *s, const XenIdentity *who, size_t index, int block_fd, bool read_only, Error *e) {
        Device d;
        struct stat st;

        if (fstat(block_fd, &st) < 0)
                return error_set_errno(e, errno, "Failed to look at disk %zu", index);
        device_init(&d, who, "vbd", disk_number(index));
        d.index = index;
        d.read_only = read_only;
        d.device = st.st_rdev;
        return xenstore_change(s, fill_disk, &d, e);
}

static void fill_owner(XenStoreChange *c, const void *userdata) {
        const Device *d = userdata;

        change_node(c, d->back, NULL, DOM0, d->who->id);
        change_write(c, d->back, XEN_OWNER_KEY, "%s", d->who->uuid);
}

int device_add_served_disk(XenStore *s, const XenIdentity *who, size_t index, Error *e) {
        Device d;

        device_init(&d, who, "qdisk", disk_number(index));
        return xenstore_change(s, fill_owner, &d, e);
}

/* ---- interfaces ---- */

static void fill_nic(XenStoreChange *c, const void *userdata) {
        const Device *d = userdata;
        char mac[MAC_TEXT_MAX];

        fill_both_ends(c, d);
        change_write(c, d->front, "handle", "%u", d->number);
        change_write(c, d->front, "mac", "%s", mac_format(d->mac, mac));
        change_write(c, d->back, "handle", "%u", d->number);
        change_write(c, d->back, "mac", "%s", mac_format(d->mac, mac));
        change_write(c, d->back, "type", "vif");
        change_write(c, d->back, "script", "none"); /* netback fails without the key, and never looks at it */
}

int device_add_nic(XenStore *s, const XenIdentity *who, size_t index, const Mac *mac, Error *e) {
        Device d;

        device_init(&d, who, "vif", (unsigned)index);
        d.mac = mac;
        return xenstore_change(s, fill_nic, &d, e);
}

const char *device_link_name(uint32_t id, size_t index, char buffer[XEN_LINK_MAX]) {
        snprintf(buffer, XEN_LINK_MAX, "vif%u.%zu", id, index);
        return buffer;
}

static int open_link_news(int *ret_fd) {
        const struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
        AUTO(fd_drop) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

        if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0)
                return -errno;
        *ret_fd = fd_take(&fd);
        return 0;
}

/* One path has both whose it is and its number. What is shown there are the links of that backend alone, whatever their
 * names, and of these the ones that are in the namespace that /sys belongs to, which is dom0's. */
static int read_link_number(const char *backends, uint32_t id, size_t index, int *ret_link) {
        char path[XEN_PATH_MAX], name[XEN_LINK_MAX];
        AUTO(string_drop) char *text = NULL;
        uint64_t number;

        int n = snprintf(path, sizeof path, "%s/vif-%u-%zu/net/%s/ifindex", backends, id, index,
                         device_link_name(id, index, name));
        if (n < 0 || (size_t)n >= sizeof path)
                return -ENAMETOOLONG;
        int r = file_read_all(AT_FDCWD, path, NUMBER_TEXT_MAX, &text, NULL);
        if (r < 0)
                return r;
        text[strcspn(text, "\n")] = '\0';
        r = parse_u64(text, INT_MAX, &number);
        if (r >= 0)
                *ret_link = (int)number;
        return r;
}

int device_find_link(const char *backends, uint32_t id, size_t index, int *ret_link) {
        char name[XEN_LINK_MAX];
        int r = read_link_number(backends, id, index, ret_link);

        if (r != -ENOENT || if_nametoindex(device_link_name(id, index, name)) == 0)
                return r;
        r = read_link_number(backends, id, index, ret_link); /* where it is shown before it has its name */
        return r == -ENOENT ? -EEXIST : r;
}

/* What the news say does not matter: each is a reason to look again. */
static int await_link(uint32_t id, size_t index, uint64_t deadline_usec, int *ret_link) {
        AUTO(fd_drop) int news = -1;
        uint64_t end = now_monotonic_usec() + deadline_usec;
        char buffer[4096];
        int r = open_link_news(&news);

        while (r >= 0) {
                uint64_t now = now_monotonic_usec();

                r = device_find_link(BACKENDS, id, index, ret_link);
                if (r != -ENOENT)
                        return r;
                if (now >= end)
                        return -ETIMEDOUT;
                struct pollfd p = { .fd = news, .events = POLLIN };
                r = poll(&p, 1, (int)((end - now) / USEC_PER_MSEC) + 1) < 0 && errno != EINTR ? -errno : 0;
                while (recv(news, buffer, sizeof buffer, 0) > 0)
                        ;
        }
        return r;
}

int device_move_link(uint32_t id, size_t index, int netns_fd, uint64_t deadline_usec, Error *e) {
        AUTO(netlink_drop) Netlink *nl = NULL;
        const char *step = "talk to the kernel";
        char name[XEN_LINK_MAX];
        int link = 0;

        device_link_name(id, index, name);
        int r = await_link(id, index, deadline_usec, &link);
        if (r == -EEXIST)
                return error_set(e, ERROR_HYPERVISOR_FAILED,
                                 "Another link in dom0 has the name %s, which the kernel's network backend needs",
                                 name);
        if (r < 0)
                return error_set_errno(e, r, "The kernel's network backend has not made %s", name);
        r = netlink_open(&nl);
        if (r >= 0) {
                netlink_move(nl, link, netns_fd);
                r = netlink_commit(nl, &step);
        }
        return r < 0 ? error_set_errno(e, r, "Failed to put %s into its network: cannot %s", name, step) : 0;
}

/* ---- the end ---- */

/* Names are FAMILY-DOMAIN-NUMBER. */
bool device_backends_left(uint32_t id) {
        DIR *directory = opendir(BACKENDS);
        bool found = false;
        char middle[16];

        if (!directory)
                return false;
        snprintf(middle, sizeof middle, "-%u-", id);
        for (struct dirent *entry; !found && (entry = readdir(directory));)
                found = strstr(entry->d_name, middle) != NULL;
        closedir(directory);
        return found;
}
