/* Disks and interfaces by the kernel's own backends, blkback and netback: no scripts, no udev, no emulator. For
 * workers, of the initial network namespace, which is where netback makes its links. */
#pragma once

#include "core/mac.h"
#include "driver/xen/entries.h"

/* A loop device on the open file, which goes with its last user: the descriptor returned is the first, the backend the
 * next. */
int device_loop(int file_fd, int *ret_fd, Error *e);
/* The index-th disk, xvda the first: an open block device. */
int device_add_disk(XenStore *s, const XenIdentity *who, size_t index, int block_fd, bool read_only, Error *e);

/* The same of a disk that the guest's model serves, which makes the entries itself: only whose it is. */
int device_add_served_disk(XenStore *s, const XenIdentity *who, size_t index, Error *e);

/* The index-th interface. Its link in dom0, device_link_name(), appears a moment later. */
int device_add_nic(XenStore *s, const XenIdentity *who, size_t index, const Mac *mac, Error *e);
#define XEN_LINK_MAX 16
const char *device_link_name(uint32_t id, size_t index, char buffer[XEN_LINK_MAX]);
/* Its number, by the kernel's backends in that directory of sysfs. -ENOENT: it is not there yet; -EEXIST: it cannot
 * come, since a link of somebody else's has its name. */
int device_find_link(const char *backends, uint32_t id, size_t index, int *ret_link);
/* Wait for the link, and put it into the namespace; there it is down. */
int device_move_link(uint32_t id, size_t index, int netns_fd, uint64_t deadline_usec, Error *e);

/* Does the kernel still have a backend for that domain? */
bool device_backends_left(uint32_t id);
