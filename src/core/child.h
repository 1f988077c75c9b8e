/* What every child of the daemon does between fork and its work, and the steps that several of them share.
 *
 * child_fork() is the only fork (clone-as.c is its variant for another user's namespaces). The daemon has one thread,
 * so a child may use anything: memory, NSS, libraries. It never returns into the daemon's code: it ends in exec or
 * _exit. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* As fork(): 0 in the child, else its pid with *ret_pidfd, or negative errno. In the child every signal has its default
 * action and is unblocked, and SIGKILL comes when the daemon dies, until the first change of identity or
 * child_outlive_parent(). Its first act must be child_close_others().
 *
 * Of clone_flags only the user and PID namespaces are made by the fork; for the others, which may take the kernel
 * seconds, the child calls child_unshare() with the same flags, once it has closed what is not its own. */
pid_t child_fork(uint64_t clone_flags, int *ret_pidfd);

/* Some lists of descriptors; negative ones are skipped. */
typedef struct ChildFds {
        const int *fds;
        size_t count;
} ChildFds;

/* Close every descriptor that is in none of the lists. Until that has happened a child holds copies of what belongs to
 * its siblings (above all the writing end of the pipe that a held sibling waits on), so nothing may block before. */
int child_close_others(const ChildFds *lists, size_t n_lists);

/* child_fork() by clone_as(), which says what the arguments are; the child has only what is kept from its first moment
 * on. */
pid_t child_fork_as(uid_t uid, gid_t gid, uint64_t clone_flags, const ChildFds *kept, size_t n_kept, int *ret_pidfd);

/* 0 or negative errno. */
int child_unshare(uint64_t clone_flags);

/* The effective ids that the daemon had outside of a new user namespace, in which getuid() knows nothing yet. */
uid_t child_outside_uid(void);
gid_t child_outside_gid(void);

/* Each of these returns 0 or negative errno. */

/* All ids, no way back, no capabilities left unless uid is 0. */
int child_become(uid_t uid, gid_t gid, const gid_t *groups, size_t n_groups);
/* The same with the user's own group and supplementary groups from the user database; without an entry there: group
 * 65534 and no others. */
int child_become_user(uid_t uid);
/* These groups alone, for one that will become the user where there is no user database any more. */
typedef struct ChildGroups {
        gid_t gid;
        gid_t *groups; /* the caller's */
        size_t count;
} ChildGroups;
int child_find_groups(uid_t uid, ChildGroups *ret);
/* In a new user namespace: ids 0 inside = these outside. */
int child_map_root(uid_t outside_uid, gid_t outside_gid);
/* The same with other ids inside. */
int child_map(uid_t inside_uid, uid_t outside_uid, gid_t inside_gid, gid_t outside_gid);
/* PR_SET_PDEATHSIG, and exit now if it is too late; call it after the last change of identity. */
int child_die_with_parent(void);
int child_outlive_parent(void);
/* Empty the bounding set as far as this process may. Comes before child_become(). */
int child_drop_bounding(void);
/* All sets empty, no_new_privs. */
int child_drop_capabilities(void);
