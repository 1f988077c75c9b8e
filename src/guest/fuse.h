/* Files whose answers come from a process of some user's. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* 1: fd, which may be O_PATH, is on a FUSE file system that an ordinary user has mounted, *ret_uid; 0: it is not, be it
 * that it is on root's; negative errno: there is no telling, -ESTALE where this process does not see the mount.
 * Blocking, as the file system's server is asked: for workers only. */
int fuse_of_user(int fd, uid_t *ret_uid);

/* The same of the FUSE mount of that id, by a table like /proc/self/mountinfo. */
int fuse_find_user(FILE *mountinfo, uint64_t mount_id, uid_t *ret_uid);
