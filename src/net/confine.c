/* What a process inside a network may still do to its user's host.
 *
 * The server parses packets of guests, and it runs with the user's own uid: were it taken over, all of the user's files
 * would be open to it. Its namespaces do not prevent that, as it sees the host's file system. So it gives up the file
 * system by Landlock, except for what a program needs to run; and capabilities, which only count in its own user
 * namespace anyway, except those on the network. */
#include "net/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

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
