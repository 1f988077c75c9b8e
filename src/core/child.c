/* See child.h. The order in a child is always: fork, signals, close the others' descriptors, whatever the child is for.
 *
 * Ids are changed by the kernel's calls and not by glibc's, which would first tell every thread that it knows of: after
 * a raw clone3() there is one only. */
#include "core/child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/capabilities.h"
#include "base/fd.h"
#include "core/clone-as.h"
#include "core/user.h"

#define NOBODY_GID 65534
/* The namespaces that the child makes for itself: while the kernel takes many networks apart, making one takes it
 * seconds, and the daemon is not to wait. */
#define CLONE_LATER (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

/* Set before the fork, read in the child. */
static pid_t parent_pid; /* as getppid() shows it to the child */
static uid_t outside_euid;
static gid_t outside_egid;

uid_t child_outside_uid(void) {
        return outside_euid;
}

gid_t child_outside_gid(void) {
        return outside_egid;
}

static pid_t clone_plain(uint64_t flags, int *ret_pidfd) {
        struct clone_args args = {
                .flags = flags | CLONE_PIDFD,
                .pidfd = (uintptr_t)ret_pidfd,
                .exit_signal = SIGCHLD,
        };
        long pid = syscall(SYS_clone3, &args, sizeof args);
        return pid < 0 ? -errno : (pid_t)pid;
}

/* Handlers are gone with the daemon's state that they work on, and what was ignored would stay so across exec. */
static void reset_signals(void) {
        struct sigaction act = { .sa_handler = SIG_DFL };
        for (int i = 1; i < _NSIG; i++)
                (void)sigaction(i, &act, NULL);
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
}

/* With SIGCHLD ignored, as a careless starter leaves it, the kernel reaps and nobody learns how a child ended. */
static void stop_ignoring_children(void) {
        struct sigaction now;
        if (sigaction(SIGCHLD, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
                signal(SIGCHLD, SIG_DFL);
}

/* No handler of the daemon may run in the child. */
static void before_fork(uint64_t clone_flags, sigset_t *ret_signals) {
        sigset_t all;

        stop_ignoring_children();
        parent_pid = clone_flags & CLONE_NEWPID ? 0 : getpid();
        outside_euid = geteuid();
        outside_egid = getegid();
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, ret_signals);
}

static pid_t after_fork(pid_t pid, const sigset_t *signals) {
        if (pid == 0) {
                reset_signals();
                (void)child_die_with_parent();
        } else
                sigprocmask(SIG_SETMASK, signals, NULL);
        return pid;
}

pid_t child_fork(uint64_t clone_flags, int *ret_pidfd) {
        sigset_t signals;
        int pidfd = -1; /* may be set where the clone fails */

        before_fork(clone_flags, &signals);
        pid_t pid = after_fork(clone_plain(clone_flags & ~(uint64_t)CLONE_LATER, &pidfd), &signals);
        if (pid > 0)
                *ret_pidfd = pidfd;
        return pid;
}

pid_t child_fork_as(uid_t uid, gid_t gid, uint64_t clone_flags, const ChildFds *kept, size_t n_kept, int *ret_pidfd) {
        sigset_t signals;

        before_fork(clone_flags, &signals);
        return after_fork(clone_as(uid, gid, clone_flags & ~(uint64_t)CLONE_LATER, kept, n_kept, ret_pidfd), &signals);
}

int child_unshare(uint64_t clone_flags) {
        return unshare((int)(clone_flags & CLONE_LATER)) < 0 ? -errno : 0;
}

/* The lowest listed descriptor from first on; -1: none. */
static int next_kept(const ChildFds *lists, size_t n_lists, int first) {
        int best = -1;
        for (size_t i = 0; i < n_lists; i++)
                for (size_t k = 0; k < lists[i].count; k++) {
                        int fd = lists[i].fds[k];
                        if (fd >= first && (best < 0 || fd < best))
                                best = fd;
                }
        return best;
}

int child_close_others(const ChildFds *lists, size_t n_lists) {
        int first = 0;
        for (;;) {
                int kept = next_kept(lists, n_lists, first);
                if (kept < 0)
                        break;
                if (kept > first && close_range((unsigned)first, (unsigned)kept - 1, 0) < 0)
                        return -errno;
                if (kept == INT_MAX)
                        return 0;
                first = kept + 1;
        }
        return close_range((unsigned)first, ~0U, 0) < 0 ? -errno : 0;
}

static int set_ids(uid_t uid, gid_t gid, const gid_t *groups, size_t n_groups) {
        if (syscall(SYS_setgroups, n_groups, groups) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0 ||
            syscall(SYS_setresuid, uid, uid, uid) < 0)
                return -errno;

        uid_t r, e, s;
        gid_t rg, eg, sg;
        if (getresuid(&r, &e, &s) < 0 || getresgid(&rg, &eg, &sg) < 0)
                return -errno;
        bool all = r == uid && e == uid && s == uid && rg == gid && eg == gid && sg == gid;
        return all && getgroups(0, NULL) == (int)n_groups ? 0 : -EPERM;
}

int child_become(uid_t uid, gid_t gid, const gid_t *groups, size_t n_groups) {
        int r = set_ids(uid, gid, groups, n_groups);
        if (r < 0 || uid == 0)
                return r;

        /* The kernel has emptied them when root became another, unless a securebit stopped it or we were not root. */
        r = capabilities_set(0);
        /* What we have of the daemon's memory is not for that user, whatever fs.suid_dumpable says. */
        return r < 0 ? r : prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

static int list_groups(const char *name, ChildGroups *u) {
        int n = 32;
        for (int tries = 0; tries < 4; tries++) {
                gid_t *groups = reallocarray(u->groups, (size_t)n, sizeof *groups);
                if (!groups)
                        return -ENOMEM;
                u->groups = groups;
                if (getgrouplist(name, u->gid, groups, &n) >= 0) {
                        u->count = (size_t)n;
                        return 0;
                }
        }
        return -EAGAIN;
}

static int look_up_user(uid_t uid, ChildGroups *u) {
        AUTO(user_clear) User user = { 0 };
        int r = user_find(uid, &user);

        if (r <= 0)
                return r;
        u->gid = user.gid;
        return list_groups(user.name, u);
}

int child_find_groups(uid_t uid, ChildGroups *ret) {
        *ret = (ChildGroups){ .gid = NOBODY_GID };
        int r = look_up_user(uid, ret);
        if (r < 0) {
                free(ret->groups);
                ret->groups = NULL;
        }
        return r;
}

int child_become_user(uid_t uid) {
        ChildGroups u;
        int r = child_find_groups(uid, &u);
        if (r == 0)
                r = child_become(uid, u.gid, u.groups, u.count);
        free(u.groups);
        return r;
}

static int write_own(const char *path, const char *text) {
        AUTO(fd_drop) int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        size_t length = strlen(text);
        ssize_t n = write(fd, text, length); /* these files take all at once, or nothing */
        return n == (ssize_t)length ? 0 : n < 0 ? -errno : -EIO;
}

static int write_maps(uid_t inside_uid, uid_t outside_uid, gid_t inside_gid, gid_t outside_gid) {
        /* Before the gid_map, which the kernel demands of whoever has no privilege outside. */
        int r = write_own("/proc/self/setgroups", "deny");
        if (r < 0)
                return r;

        char line[64];
        snprintf(line, sizeof line, "%u %u 1\n", inside_uid, outside_uid);
        r = write_own("/proc/self/uid_map", line);
        if (r < 0)
                return r;
        snprintf(line, sizeof line, "%u %u 1\n", inside_gid, outside_gid);
        return write_own("/proc/self/gid_map", line);
}

int child_map(uid_t inside_uid, uid_t outside_uid, gid_t inside_gid, gid_t outside_gid) {
        /* The files of an undumpable process belong to the real root, who is nobody in here. Only the session daemon's
         * children come here, whose memory is their own user's anyway; for others see clone-as.h. */
        int dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
        if (dumpable != 1 && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
                return -errno;
        int r = write_maps(inside_uid, outside_uid, inside_gid, outside_gid);
        if (dumpable != 1)
                (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        return r;
}

int child_map_root(uid_t outside_uid, gid_t outside_gid) {
        return child_map(0, outside_uid, 0, outside_gid);
}

int child_die_with_parent(void) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
                return -errno;
        /* In a new PID namespace the parent is 0, alive or dead; a spawned program finds that out by its pipe. */
        if (parent_pid != 0 && getppid() != parent_pid)
                _exit(EXIT_FAILURE);
        return 0;
}

int child_outlive_parent(void) {
        return prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0) < 0 ? -errno : 0;
}

int child_drop_bounding(void) {
        return capabilities_bound(0);
}

int child_drop_capabilities(void) {
        /* The bounding set falls only to who has CAP_SETPCAP; to others no_new_privs makes it void. */
        int r = child_drop_bounding();
        if (r < 0 && r != -EPERM)
                return r;
        r = capabilities_set(0);
        return r < 0 ? r : capabilities_freeze();
}
