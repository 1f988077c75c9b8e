/* How a jail is built, by the child itself, in the namespaces that clone gave it. In order, since each step needs what
 * the later ones take away:
 *
 *   ids        session scope: map the daemon's own, without which nothing can be created
 *   private    no mount of ours may reach the host, none of the host's may appear here
 *   root       a tmpfs, mounted over the real root; reached by its descriptor only, since no path leads there yet
 *   binds      a clone of each source, read-only, nosuid, nodev, moved to its place below the descriptor
 *   pivot      the tmpfs becomes the root, read-only; the old tree is detached, and with it every host mount
 *   limits     host name, resource limits, umask
 *   identity   bounding set, ids, capabilities, no_new_privs; must not come earlier: all of the above needs them
 *   filter     of system calls, where the program brings none of its own
 *
 * The daemon may live in a chroot that is no mount point, as build hosts make them, from which pivot_root() cannot
 * start. So the child joins its own mount namespace, which puts it at the real root; takes a descriptor of it; and goes
 * back into the daemon's root for as long as it looks up sources.
 *
 * A file that arrives as a descriptor was opened in the daemon's mount namespace, whose mounts cannot be cloned from
 * here. It is looked up again by the name that the kernel gives for it, and taken only if that is the same inode: so a
 * swapped name can do no harm. Where that fails, and where the jail's uid could not read the file, it is copied.
 *
 * Cost, from spawn_start() to the exec of /bin/true, on a busy 2-core machine, median of 200 (bench-jail.c): 0.25 ms
 * bare, 0.68 ms in the namespaces of a jail, half of it for the network's, 0.90 ms in a jail with all that QEMU needs.
 */
#include "guest/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/capabilities.h"
#include "base/fd.h"
#include "base/string-util.h"
#include "guest/filter.h"

#define JAIL_FILES_MAX 1024
#define NOBODY         65534

/* ---- in the daemon ---- */

static void add(Jail *j, JailBind bind) {
        if (j->n_binds == JAIL_BINDS_MAX) {
                j->overflow = true;
                return;
        }
        j->binds[j->n_binds++] = bind;
        if (bind.fd >= 0)
                j->keep[j->n_keep++] = bind.fd;
}

void jail_add_bind(Jail *j, const char *source, const char *target, bool optional) {
        add(j, (JailBind){ .source = source, .fd = -1, .target = target, .optional = optional });
}

void jail_add_fd(Jail *j, int fd, const char *target) {
        add(j, (JailBind){ .fd = fd, .target = target });
}

void jail_add_disk(Jail *j, int fd, const char *target) {
        add(j, (JailBind){ .fd = fd, .target = target, .never_copied = true });
}

void jail_add_device(Jail *j, const char *path) {
        add(j, (JailBind){ .source = path, .fd = -1, .target = path, .optional = true, .device = true });
}

void jail_add_root_device(Jail *j, const char *path) {
        add(j,
            (JailBind){ .source = path, .fd = -1, .target = path, .optional = true, .device = true, .as_it_is = true });
}

static void add_places(Jail *j, const char *const *places, size_t count) {
        for (size_t i = 0; i < count; i++)
                jail_add_bind(j, places[i], places[i], true);
}

void jail_add_program(Jail *j, const char *program) {
        /* What the dynamic linker looks at. */
        static const char *const places[] = { "/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache" };
        static const char *const devices[] = { "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom" };

        jail_add_bind(j, program, program, false);
        add_places(j, places, ARRAY_LEN(places));
        for (size_t i = 0; i < ARRAY_LEN(devices); i++)
                jail_add_device(j, devices[i]);
}

void jail_add_system(Jail *j, const char *program) {
        /* QEMU's own data and what that links to. */
        static const char *const places[] = { "/usr/share/qemu", "/usr/share/seabios", "/usr/share/vgabios",
                                              "/usr/share/openbios", "/usr/share/slof" };

        jail_add_program(j, program);
        add_places(j, places, ARRAY_LEN(places));
}

uint64_t jail_clone_flags(const Jail *j) {
        uint64_t flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
        return j->privileged ? flags : flags | CLONE_NEWUSER;
}

void jail_enclose(Jail *j, Spawn *s) {
        s->clone_flags = jail_clone_flags(j);
        s->prepare = jail_prepare;
        s->prepare_data = j;
        s->keep = j->keep;
        s->n_keep = j->n_keep;
}

/* ---- in the child ---- */

typedef struct Site {
        const Jail *jail;
        int real_root; /* of the mount namespace, below the tmpfs */
        int root;      /* the tmpfs */
        uint64_t copied;
} Site;

/* What is being done, for the error that may come of it. The child has it for itself. */
static char step[120];

static void doing(const char *format, ...) PRINTF_LIKE(1, 2);
static void doing(const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        vsnprintf(step, sizeof step, format, ap);
        va_end(ap);
}

static void site_close(Site *s) {
        fd_drop(&s->real_root);
        fd_drop(&s->root);
}

static int map_ids(const Jail *j) {
        if (j->privileged)
                return 0;

        doing("map ids");
        /* Not 0, even where the session daemon is root of a namespace of its own. */
        uid_t uid = child_outside_uid();
        gid_t gid = child_outside_gid();
        return child_map(uid ? uid : NOBODY, uid, gid ? gid : NOBODY, gid);
}

/* Go to the real root and make every mount private; then back to where the daemon's paths mean something. */
static int make_private(Site *s) {
        doing("make mounts private");
        AUTO(fd_drop) int daemon_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        AUTO(fd_drop) int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
        if (daemon_root < 0 || self < 0 || setns(self, CLONE_NEWNS) < 0)
                return -errno;

        s->real_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (s->real_root < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return -errno;
        return fchdir(daemon_root) < 0 || chroot(".") < 0 ? -errno : 0;
}

static int configure_tmpfs(int fs, uint64_t size) {
        char text[32];
        snprintf(text, sizeof text, "%llu", (unsigned long long)size);
        if (fsconfig(fs, FSCONFIG_SET_STRING, "size", text, 0) < 0 ||
            fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "256", 0) < 0 ||
            fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
            fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        return 0;
}

static uint64_t copy_max(const Jail *j) {
        return j->copy_max > 0 ? j->copy_max : JAIL_COPY_MAX;
}

static int make_root(Site *s) {
        doing("make a root file system");
        AUTO(fd_drop) int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
        if (fs < 0)
                return -errno;
        int r = configure_tmpfs(fs, copy_max(s->jail) + 1024 * 1024);
        if (r < 0)
                return r;
        s->root = fsmount(fs, FSMOUNT_CLOEXEC, 0);
        if (s->root < 0)
                return -errno;

        /* Over the real root, which is there on every host. We ourselves stay below it: a process does not move when
         * something is mounted on its root. */
        if (move_mount(s->root, "", s->real_root, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
                return -errno;
        return 0;
}

/* The directories that lead to target, below the tmpfs; a bind may have brought some of them. */
static int make_parents(const Site *s, const char *target) {
        char path[PATH_MAX];
        if (target[0] != '/' || strlen(target) >= sizeof path)
                return -EINVAL;
        strcpy(path, target + 1);

        for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                if (mkdirat(s->root, path, 0755) < 0 && errno != EEXIST)
                        return -errno;
                *slash = '/';
        }
        return 0;
}

/* Something to mount on: a directory or an empty file. */
static int make_mount_point(const Site *s, const char *target, bool directory) {
        if (directory)
                return mkdirat(s->root, target + 1, 0755) < 0 && errno != EEXIST ? -errno : 0;

        AUTO(fd_drop) int fd = openat(s->root, target + 1, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444);
        return fd < 0 && errno != EROFS ? -errno : 0;
}

/* Set only, never cleared: in a user namespace the flags that the host's mount has are locked, and stay. */
static int restrict_mount(int tree, uint64_t flags, unsigned depth) {
        struct mount_attr attr = { .attr_set = MOUNT_ATTR_NOSUID | flags };
        return mount_setattr(tree, "", AT_EMPTY_PATH | depth, &attr, sizeof attr) < 0 ? -errno : 0;
}

static int place(const Site *s, int tree, uint64_t flags, const char *target) {
        struct stat st;
        if (fstat(tree, &st) < 0)
                return -errno;
        int r = make_mount_point(s, target, S_ISDIR(st.st_mode));
        if (r == 0)
                r = restrict_mount(tree, flags, AT_RECURSIVE);
        if (r < 0)
                return r;
        return move_mount(tree, "", s->root, target + 1, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

/* /lib is often a link to usr/lib, which is bound itself: a link is cheaper, and what programs expect. 1: done. */
static int copy_link(const Site *s, const JailBind *b) {
        char text[256];
        ssize_t n = readlink(b->source, text, sizeof text - 1);
        if (n <= 0 || n == (ssize_t)sizeof text - 1 || text[0] == '/' || !string_equal(b->source, b->target))
                return 0;
        text[n] = '\0';

        struct stat st;
        if (stat(b->source, &st) < 0 || !S_ISDIR(st.st_mode))
                return 0;
        return symlinkat(text, s->root, b->target + 1) < 0 ? -errno : 1;
}

static int bind_path(const Site *s, const JailBind *b) {
        int r = copy_link(s, b);
        if (r != 0)
                return r < 0 ? r : 0;

        /* Recursive: without privilege, what is mounted below may not be left out. */
        AUTO(fd_drop) int tree = open_tree(AT_FDCWD, b->source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        if (tree < 0)
                return b->optional && (errno == ENOENT || errno == ENOTDIR) ? 0 : -errno;
        return place(s, tree, MOUNT_ATTR_RDONLY | (b->device ? 0 : MOUNT_ATTR_NODEV), b->target);
}

/* A node of the jail's own, owned by its uid, whoever may use the host's: whether this guest may have the device is the
 * broker's decision. A bind of it, since devices on the root are not to work. */
static int make_device(const Site *s, const JailBind *b) {
        struct stat st;
        if (stat(b->source, &st) < 0)
                return b->optional && errno == ENOENT ? 0 : -errno;
        if (!S_ISCHR(st.st_mode))
                return -ENODEV;
        if (!s->jail->privileged || b->as_it_is || (st.st_mode & 0006) == 0006 ||
            mknodat(s->root, b->target + 1, S_IFCHR | 0600, st.st_rdev) < 0)
                return bind_path(s, b);

        /* Root that may not overrule modes has it through the group, until it has become the jail's uid. */
        bool root_too = s->jail->becomes_itself;
        if (fchownat(s->root, b->target + 1, s->jail->uid, root_too ? 0 : s->jail->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
            fchmodat(s->root, b->target + 1, root_too ? 0660 : 0600, 0) < 0)
                return -errno;
        AUTO(fd_drop) int tree = open_tree(s->root, b->target + 1, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        return tree < 0 ? -errno : place(s, tree, MOUNT_ATTR_NOEXEC, b->target);
}

/* A block device as a node of the jail's own, that its uid may read whoever may use the host's. */
static int make_disk(const Site *s, const JailBind *b, dev_t device) {
        if (mknodat(s->root, b->target + 1, S_IFBLK | 0400, device) < 0 ||
            fchownat(s->root, b->target + 1, s->jail->uid, s->jail->gid, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        AUTO(fd_drop) int tree = open_tree(s->root, b->target + 1, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        return tree < 0 ? -errno : place(s, tree, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, b->target);
}

static int copy_file(Site *s, const JailBind *b) {
        AUTO(fd_drop) int to = openat(s->root, b->target + 1, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
        if (to < 0)
                return -errno;

        /* The daemon shares the offset of b->fd, so it must not move. */
        off_t from = 0;
        for (;;) {
                ssize_t n = sendfile(to, b->fd, &from, 16 * 1024 * 1024);
                if (n == 0)
                        return 0;
                if (n < 0 && errno != EINTR)
                        return -errno;
                s->copied += n > 0 ? (uint64_t)n : 0;
                if (s->copied > copy_max(s->jail))
                        return -EFBIG;
        }
}

/* The same file by a path of this mount namespace; or negative errno. */
static int find_again(int fd, const struct stat *st, int *ret_fd) {
        char path[PATH_MAX];
        int r = fd_path(fd, path, sizeof path);

        if (r < 0)
                return r;

        AUTO(fd_drop) int found = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        struct stat now;
        if (found < 0 || fstat(found, &now) < 0)
                return -errno;
        if (now.st_dev != st->st_dev || now.st_ino != st->st_ino)
                return -ESTALE;
        *ret_fd = fd_take(&found);
        return 0;
}

/* Will the jail's uid be able to read it, once it stands in the jail? What a FUSE shows, it may show to who mounted
 * it alone, whatever the mode says. */
static bool readable_inside(const Jail *j, int fd, const struct stat *st) {
        if (!j->privileged)
                return S_ISREG(st->st_mode);
        struct statfs fs;
        return S_ISREG(st->st_mode) && (st->st_mode & S_IROTH) && fstatfs(fd, &fs) == 0 &&
               fs.f_type != FUSE_SUPER_MAGIC;
}

static int bind_fd(Site *s, const JailBind *b) {
        struct stat st;
        if (fstat(b->fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
                return -EINVAL;

        if (b->never_copied && S_ISBLK(st.st_mode) && s->jail->privileged)
                return make_disk(s, b, st.st_rdev);
        AUTO(fd_drop) int found = -1;
        int r = b->never_copied || readable_inside(s->jail, b->fd, &st) ? find_again(b->fd, &st, &found) : -EACCES;
        if (r < 0)
                return b->never_copied ? r : copy_file(s, b);
        AUTO(fd_drop) int tree = open_tree(found, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
        if (tree < 0)
                return b->never_copied ? -errno : copy_file(s, b);
        uint64_t devices = b->never_copied && S_ISBLK(st.st_mode) ? 0 : MOUNT_ATTR_NODEV;
        return place(s, tree, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | devices, b->target);
}

static int fill(Site *s) {
        for (size_t i = 0; i < s->jail->n_binds; i++) {
                const JailBind *b = &s->jail->binds[i];
                doing("bring %s into the jail", b->source ? b->source : b->target);
                int r = make_parents(s, b->target);
                if (r == 0)
                        r = !b->source ? bind_fd(s, b) : b->device ? make_device(s, b) : bind_path(s, b);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int make_scratch(const Site *s) {
        const Jail *j = s->jail;
        if (!j->scratch)
                return 0;

        doing("make %s", j->scratch);
        AUTO(fd_drop) int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
        if (fs < 0)
                return -errno;
        int r = configure_tmpfs(fs, j->scratch_size);
        if (r < 0)
                return r;
        AUTO(fd_drop) int tree = fsmount(fs, FSMOUNT_CLOEXEC, 0);
        if (tree < 0 || (j->privileged && fchownat(tree, "", j->uid, j->gid, AT_EMPTY_PATH) < 0))
                return -errno;
        r = make_parents(s, j->scratch);
        return r < 0 ? r : place(s, tree, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, j->scratch);
}

static int pivot(Site *s) {
        doing("change the root");
        int r = restrict_mount(s->root, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, 0);
        if (r < 0)
                return r;
        if (fchdir(s->real_root) < 0 || chroot(".") < 0 || fchdir(s->root) < 0)
                return -errno;

        if (syscall(SYS_pivot_root, ".", ".") == 0) {
                /* The old root now lies on top of the new one. */
                if (umount2(".", MNT_DETACH) < 0)
                        return -errno;
        } else if (errno != EINVAL || chroot(".") < 0) {
                /* EINVAL: the real root is the initial ramfs, which cannot be moved. Nothing without privilege gets
                 * out from on top of it either. */
                return -errno;
        }
        return chdir("/") < 0 ? -errno : 0;
}

/* Both limits, but never above the present hard one, which takes privilege. */
static int limit(int what, rlim_t value) {
        struct rlimit now;
        if (getrlimit(what, &now) < 0)
                return -errno;
        if (now.rlim_max < value)
                value = now.rlim_max;
        return setrlimit(what, &(struct rlimit){ value, value }) < 0 ? -errno : 0;
}

static int set_limits(const Jail *j) {
        doing("set limits");
        int r = limit(RLIMIT_CORE, 0);
        if (r == 0)
                r = limit(RLIMIT_NOFILE, j->n_files_max > 0 ? j->n_files_max : JAIL_FILES_MAX);
        if (r == 0 && j->file_size_max > 0)
                r = limit(RLIMIT_FSIZE, j->file_size_max);
        if (r < 0)
                return r;
        umask(077);
        return sethostname("jail", 4) < 0 ? -errno : 0;
}

static int drop_privilege(const Jail *j) {
        doing("drop privilege");
        if (!j->privileged)
                return child_drop_capabilities();
        if (j->becomes_itself)
                return capabilities_keep(1ULL << CAP_SETUID | 1ULL << CAP_SETGID);

        int r = child_drop_bounding();
        if (r == 0)
                r = child_become(j->uid, j->gid, j->groups, j->n_groups);
        return r < 0 ? r : child_drop_capabilities();
}

int jail_prepare(void *jail, const char **ret_step) {
        const Jail *j = jail;
        AUTO(site_close) Site s = { .jail = j, .real_root = -1, .root = -1 };
        *ret_step = step;

        doing("be a jail");
        if (j->overflow || (j->privileged && (j->uid == 0 || j->gid == 0)))
                return -EINVAL;

        umask(022);
        int r = map_ids(j);
        if (r == 0)
                r = make_private(&s);
        if (r == 0)
                r = make_root(&s);
        if (r == 0)
                r = fill(&s);
        if (r == 0)
                r = make_scratch(&s);
        if (r == 0)
                r = pivot(&s);
        if (r == 0)
                r = set_limits(j);
        if (r == 0)
                r = drop_privilege(j);
        if (r == 0 && j->filtered) {
                doing("filter system calls");
                r = filter_system_calls(j->refused_ioctls, j->n_refused_ioctls);
        }
        return r;
}
