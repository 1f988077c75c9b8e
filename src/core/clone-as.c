/* A user namespace belongs to the effective uid of the process that clones, so root must have become the user before
 * the clone. The daemon itself must not, not even for a moment: whoever has its effective uid may change its priority
 * and affinity. Hence a process in between:
 *
 *   daemon --fork--> helper: no groups, gid and effective uid := the user's
 *                    helper --clone3(CLONE_PARENT | CLONE_NEW*)--> child, a child of the daemon's, which waits
 *                    helper: effective uid := 0, writes the child's maps, exits
 *   daemon: reaps the helper, says go               child: hears it, becomes 0 in its namespace, goes on
 *
 * The user may stop the child from its first moment on, and hold it: her user namespace is its own. So the helper, whom
 * she may not, closes all that is not the child's before it clones; else what she holds would keep a sibling's pipe
 * from ending, or the lock of a daemon that is no more. What came of it stands in memory that daemon and helper share,
 * where the kernel itself writes the pid: however the helper ends, a child that exists is known. Neither the helper nor
 * the child is dumpable once its ids have changed; that is why root and not the child writes the maps, and why the user
 * cannot attach to a copy of the daemon's memory. */
#include "core/clone-as.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

#define NOBODY_GID 65534

typedef struct Outcome {
        pid_t pid; /* 0: there is no child */
        int error; /* 0 or negative errno */
} Outcome;

static pid_t clone_process(uint64_t flags, int exit_signal, pid_t *ret_pid) {
        struct clone_args args = {
                .flags = flags,
                .exit_signal = (unsigned)exit_signal,
                .parent_tid = (uintptr_t)ret_pid,
        };
        long pid = syscall(SYS_clone3, &args, sizeof args);
        return pid < 0 ? -errno : (pid_t)pid;
}

/* Such a file is taken in one write, or not at all. */
static int write_proc(pid_t pid, const char *name, const char *text) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);

        AUTO(fd_drop) int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        size_t length = strlen(text);
        return write(fd, text, length) == (ssize_t)length ? 0 : -errno;
}

/* No setgroups() in there: else whoever enters could leave a group that a file shuts out. */
static int write_maps(pid_t pid, uid_t uid, gid_t gid) {
        char line[32];
        snprintf(line, sizeof line, "0 %u 1\n", uid);
        int r = write_proc(pid, "uid_map", line);
        if (r == 0)
                r = write_proc(pid, "setgroups", "deny");
        if (r < 0 || gid == (gid_t)-1)
                return r;
        snprintf(line, sizeof line, "0 %u 1\n", gid);
        return write_proc(pid, "gid_map", line);
}

/* The permitted capabilities stay while the saved uid is 0; having them effective too is what makes the clone work
 * where user namespaces are for the privileged only. */
static int raise_capabilities(void) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
        if (syscall(SYS_capget, &header, data) < 0)
                return -errno;
        for (size_t i = 0; i < ARRAY_LEN(data); i++)
                data[i].effective = data[i].permitted;
        return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int become_effective(uid_t uid, gid_t gid) {
        if (gid == (gid_t)-1)
                gid = NOBODY_GID;
        if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || seteuid(uid) < 0)
                return -errno;
        return raise_capabilities();
}

static int close_others(const ChildFds *kept, size_t n_kept, int go_fd) {
        ChildFds all[CLONE_AS_LISTS_MAX + 1] = { { &go_fd, 1 } };
        if (n_kept > CLONE_AS_LISTS_MAX)
                return -E2BIG;
        if (n_kept > 0)
                memcpy(all + 1, kept, n_kept * sizeof *kept);
        return child_close_others(all, n_kept + 1);
}

/* In the helper. Returns in the child only. */
static void helper_clone(uid_t uid, gid_t gid, uint64_t flags, Outcome *o) {
        int r = become_effective(uid, gid);
        if (r == 0) {
                pid_t pid = clone_process(flags | CLONE_PARENT | CLONE_PARENT_SETTID, 0, &o->pid);
                if (pid == 0)
                        return;
                r = pid < 0 ? pid : 0;
        }
        if (r == 0 && seteuid(0) < 0)
                r = -errno;
        if (r == 0)
                r = write_maps(o->pid, uid, gid);
        o->error = r;
        _exit(0);
}

/* In the child: wait until the ids are mapped, then have all uids be the user's. */
static void child_settle(int go_fd) {
        char go;
        ssize_t n;

        (void)child_die_with_parent(); /* until the ids change; then child_fork() does it again */
        do
                n = read(go_fd, &go, 1);
        while (n < 0 && errno == EINTR);

        if (n != 1 || setresuid(0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
                _exit(125);
}

/* The number is the child's own as long as it is ours and nobody has reaped it. */
static void kill_and_reap(pid_t pid) {
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
                ;
}

/* Where there is no pidfd, the child is not let go. */
static int let_go(const Outcome *o, int go_fd, int *ret_pidfd) {
        if (o->error < 0)
                return o->error;
        AUTO(fd_drop) int pidfd = (int)syscall(SYS_pidfd_open, o->pid, 0);
        if (pidfd < 0 || write(go_fd, "", 1) != 1)
                return -errno;
        *ret_pidfd = fd_take(&pidfd);
        return 0;
}

static pid_t clone_with(Outcome *o, uid_t uid, gid_t gid, uint64_t flags, const ChildFds *kept, size_t n_kept,
                        int *ret_pidfd) {
        int go[2];
        if (pipe2(go, O_CLOEXEC) < 0)
                return -errno;
        AUTO(fd_drop) int go_read = go[0], go_write = go[1];

        pid_t helper = clone_process(0, SIGCHLD, NULL);
        if (helper < 0)
                return helper;
        if (helper == 0) {
                int r = close_others(kept, n_kept, go_read);
                if (r < 0) {
                        o->error = r;
                        _exit(0);
                }
                (void)fd_take(&go_write); /* closed with the others: so the child sees the daemon die */
                helper_clone(uid, gid, flags, o);
                child_settle(go_read);
                return 0;
        }

        while (waitpid(helper, NULL, __WALL) < 0 && errno == EINTR)
                ;
        int r = let_go(o, go_write, ret_pidfd);
        if (r < 0 && o->pid > 0)
                kill_and_reap(o->pid);
        return r < 0 ? r : o->pid;
}

pid_t clone_as(uid_t uid, gid_t gid, uint64_t flags, const ChildFds *kept, size_t n_kept, int *ret_pidfd) {
        Outcome *o = mmap(NULL, sizeof *o, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (o == MAP_FAILED)
                return -errno;

        *o = (Outcome){ .error = -ECHILD }; /* until the helper knows better */
        pid_t pid = clone_with(o, uid, gid, flags, kept, n_kept, ret_pidfd);
        munmap(o, sizeof *o);
        return pid;
}
