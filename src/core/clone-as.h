/* fork() into new namespaces that belong to somebody else. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "core/child.h"

/* Make a child that runs as that user, without supplementary groups, in the new namespaces of flags (CLONE_NEW*, with
 * CLONE_NEWUSER among them), the user namespace being owned by uid and mapping its own 0 to uid and gid. gid (gid_t)-1:
 * not known; no group is mapped then. It must be a group that the user is in, since entering the namespace gives it to
 * her. For root only; works also where user namespaces are forbidden to others.
 *
 * Of the descriptors the child has those of the lists alone (CLONE_AS_LISTS_MAX at most).
 *
 * As fork(): 0 in the child, which is 0 in its namespace; the pid in the parent, with *ret_pidfd; or negative errno.
 * The child stays undumpable until it executes something, so that the user cannot look at what it has of our memory. */
#define CLONE_AS_LISTS_MAX 4
pid_t clone_as(uid_t uid, gid_t gid, uint64_t flags, const ChildFds *kept, size_t n_kept, int *ret_pidfd);
