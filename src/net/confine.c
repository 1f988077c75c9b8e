/* What a process inside a network may still do to its user's host.
 *
 * The server parses packets of guests, and it runs with the user's own uid: were it taken over, all of the user's files
 * would be open to it. Its namespaces do not prevent that, as it sees the host's file system. So it gives up the file
 * system by Landlock, except for what a program needs to run; and capabilities, which only count in its own user
 * namespace anyway, except those on the network. What Landlock does not judge is refused by a filter of system calls:
 * connections to the user's sockets (her bus, her agents), the modes, owners, times and attributes of her files, and
 * the IPC objects, whose namespace is the host's. The server needs none of it. */
#include "net/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/macros.h"
#include "base/syscall-filter.h"

#define READING (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define DEVICE  (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE)

/* All that the first version knows; later ones add REFER and TRUNCATE, and what concerns files that cannot be opened
 * anyway. */
#define HANDLED_V1 ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)

static uint64_t handled_rights(long version) {
        uint64_t rights = HANDLED_V1;
        if (version >= 2)
                rights |= LANDLOCK_ACCESS_FS_REFER;
        if (version >= 3)
                rights |= 1ULL << 14; /* LANDLOCK_ACCESS_FS_TRUNCATE, younger than some headers */
        return rights;
}

/* What does not exist need not be allowed. */
static int allow(int ruleset, const char *path, uint64_t rights) {
        AUTO(fd_drop) int fd = open(path, O_PATH | O_CLOEXEC);
        if (fd < 0)
                return 0;
        struct landlock_path_beneath_attr rule = { .allowed_access = rights, .parent_fd = fd };
        return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

static const struct {
        const char *path;
        uint64_t rights;
} allowed[] = {
        { "/usr", READING },
        { "/lib", READING },
        { "/lib32", READING },
        { "/lib64", READING },
        { "/etc/ld.so.cache", LANDLOCK_ACCESS_FS_READ_FILE },
        { "/etc/localtime", LANDLOCK_ACCESS_FS_READ_FILE },
        { "/proc", READING & ~LANDLOCK_ACCESS_FS_EXECUTE }, /* /proc/self/fd, and the MTU that it advertises */
        { "/dev/null", DEVICE },
        { "/dev/urandom", DEVICE },
};

int confine_files(const char *program) {
        long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
        if (version < 0)
                return 0;

        struct landlock_ruleset_attr attributes = { .handled_access_fs = handled_rights(version) };
        AUTO(fd_drop) int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0);
        if (ruleset < 0)
                return -errno;

        int r = allow(ruleset, program, READING & ~LANDLOCK_ACCESS_FS_READ_DIR);
        for (size_t i = 0; r == 0 && i < sizeof allowed / sizeof *allowed; i++)
                r = allow(ruleset, allowed[i].path, allowed[i].rights);
        if (r < 0)
                return r;
        return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : 0;
}

/* ---- system calls ---- */

/* Younger than some headers; the same number for every processor. */
#define CALL_FCHMODAT2     452
#define CALL_SETXATTRAT    463
#define CALL_REMOVEXATTRAT 466
#define CALL_FILE_SETATTR  469

/* The first few are not there on processors that are younger than their successors. */
static const unsigned refused[] = {
#ifdef SYS_chmod
        SYS_chmod,        SYS_chown,          SYS_lchown,        SYS_utime,       SYS_utimes,      SYS_futimesat,
#endif
        SYS_fchmod,       SYS_fchmodat,       CALL_FCHMODAT2,    SYS_fchown,      SYS_fchownat,    SYS_utimensat,
        SYS_setxattr,     SYS_lsetxattr,      SYS_fsetxattr,     CALL_SETXATTRAT, SYS_removexattr, SYS_lremovexattr,
        SYS_fremovexattr, CALL_REMOVEXATTRAT, CALL_FILE_SETATTR, SYS_socketpair,  SYS_shmget,      SYS_shmat,
        SYS_shmctl,       SYS_semget,         SYS_semop,         SYS_semtimedop,  SYS_semctl,      SYS_msgget,
        SYS_msgsnd,       SYS_msgrcv,         SYS_msgctl,        SYS_mq_open,     SYS_mq_unlink,
};

/* Of all kinds of sockets only those that are bound to the network namespace, and that the server has. */
static const unsigned families[] = { AF_INET, AF_INET6, AF_NETLINK };

#define NAMESPACES                                                                                                     \
        (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

int confine_calls(void) {
        SyscallFilter f;

        syscall_filter_begin(&f);
        syscall_filter_values(&f, SYS_socket, 0, SYSCALL_REFUSED_WITHOUT, families, ARRAY_LEN(families));
        syscall_filter_flags(&f, SYS_clone, 0, SYSCALL_REFUSED_WITH, NAMESPACES);
        syscall_filter_refuse(&f, refused, ARRAY_LEN(refused));
        int r = syscall_filter_install(&f);
        return r == -EINVAL || r == -EOPNOTSUPP ? 0 : r;
}
