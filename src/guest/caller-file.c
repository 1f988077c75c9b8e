/* How a path becomes a descriptor:
 *
 *   openat2(path, O_PATH)      the walk, with the caller's rights; it calls no driver and hangs on no FIFO. Links are
 *        |                     followed, those of /proc ("magic" ones) are not: through them the worker would reach
 *        |                     what a process has open, itself included
 *   fstatfs, mountinfo         in the system scope: whose server is behind it. A descriptor on a user's FUSE may stop
 *        |                     for ever whoever closes it, and the daemon closes what it is given; such a file is not
 *        |                     even opened, so that the worker can refuse it and end
 *   fstat, fstatfs             what it is: a regular file or a block device, on a file system that stores files
 *        |
 *   open(/proc/self/fd/N)      the same inode, whatever has happened to the path since: the caller's rights to read
 *        |                     and write it are checked here by the kernel
 *   the descriptor             is all that anybody uses from now on */
#include "guest/caller-file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "guest/fuse.h"

#define PATH_SHOWN_MAX 300 /* bytes of a path that a message repeats */

/* "disk "/path": TEXT" */
int file_refuse(const FileRequest *w, ErrorId id, const char *text, Error *e) {
        AUTO(string_drop) char *shown = string_escape(w->path, PATH_SHOWN_MAX);

        return error_set(e, id, "%s \"%s\"%s: %s", w->what, string_or(shown, "?"),
                         strlen(w->path) > PATH_SHOWN_MAX ? "..." : "", text);
}

static int refuse_access(const FileRequest *w, const char *act, int err, Error *e) {
        AUTO(string_drop) char *text = string_printf("uid %u may not %s it: %s", (unsigned)w->uid, act, strerror(err));

        return file_refuse(w, ERROR_ACCESS_DENIED, string_or(text, "access denied"), e);
}

/* The walk or the open failed; act is what was tried. */
static int refuse_errno(const FileRequest *w, const char *act, int err, Error *e) {
        switch (err) {
        case EACCES:
        case EPERM:
                return refuse_access(w, act, err, e);
        case EROFS:
                return file_refuse(
                        w, ERROR_INVALID_INPUT,
                        "it is on a read-only file system; say \"FORMAT:ro\" in disk_formats to use it read-only", e);
        case ELOOP:
                return file_refuse(w, ERROR_INVALID_INPUT, "too many symbolic links, or one that leads into a process",
                                   e);
        case ENOENT:
        case ENOTDIR:
        case ENAMETOOLONG:
        case ENXIO:
        case ENODEV:
        case ENOMEDIUM:
        case EBUSY:
        case ETXTBSY:
        case EAGAIN:
        case EISDIR:
        case EOVERFLOW:
                return file_refuse(w, ERROR_INVALID_INPUT, strerror(err), e);
        default:
                return file_refuse(w, ERROR_INTERNAL, strerror(err), e);
        }
}

/* File systems whose files are questions to the kernel, not stored bytes. The rights are the caller's own, so a kind
 * that is missing here gives her a strange disk and nothing that she could not open before. */
static bool is_pseudo(const struct statfs *fs) {
        static const uint32_t magics[] = {
                PROC_SUPER_MAGIC,
                SYSFS_MAGIC,
                CGROUP_SUPER_MAGIC,
                CGROUP2_SUPER_MAGIC,
                DEBUGFS_MAGIC,
                TRACEFS_MAGIC,
                SECURITYFS_MAGIC,
                SELINUX_MAGIC,
                SMACK_MAGIC,
                BPF_FS_MAGIC,
                PSTOREFS_MAGIC,
                EFIVARFS_MAGIC,
                BINFMTFS_MAGIC,
                DEVPTS_SUPER_MAGIC,
                NSFS_MAGIC,
                ANON_INODE_FS_MAGIC,
                PIPEFS_MAGIC,
                SOCKFS_MAGIC,
                0x62656570 /* configfs */,
                0x19800202 /* mqueue */,
                0x65735543 /* fusectl */,
                0xabba1974 /* xenfs */,
        };

        for (size_t i = 0; i < ARRAY_LEN(magics); i++)
                if ((uint32_t)fs->f_type == magics[i])
                        return true;
        return false;
}

static const char *kind_name(mode_t mode) {
        switch (mode & S_IFMT) {
        case S_IFDIR:
                return "a directory";
        case S_IFCHR:
                return "a character device";
        case S_IFIFO:
                return "a FIFO";
        case S_IFSOCK:
                return "a socket";
        default:
                return "neither a file nor a device";
        }
}

static int check_server(const FileRequest *w, int path_fd, Error *e) {
        uid_t uid = 0;

        if (!w->for_all)
                return 0;
        int r = fuse_of_user(path_fd, &uid);
        if (r == 0)
                return 0;
        AUTO(string_drop)
        char *text =
                r < 0 ? string_printf("cannot tell whether a user's FUSE is behind it: %s", strerror(-r))
                      : string_printf("it is on a FUSE file system that uid %u has mounted, and whose server could "
                                      "stop the daemon: copy it, or use the session scope",
                                      (unsigned)uid);
        return file_refuse(w, ERROR_INVALID_INPUT, string_or(text, "it may be on a user's FUSE file system"), e);
}

static int check_kind(const FileRequest *w, int path_fd, struct stat *st, Error *e) {
        struct statfs fs;

        if (fstat(path_fd, st) < 0)
                return refuse_errno(w, "look at", errno, e);
        if (S_ISBLK(st->st_mode))
                return 0;
        if (!S_ISREG(st->st_mode)) {
                AUTO(string_drop)
                char *text =
                        string_printf("it is %s; a regular file or a block device is needed", kind_name(st->st_mode));
                return file_refuse(w, ERROR_INVALID_INPUT, string_or(text, "it is not a file"), e);
        }
        if (fstatfs(path_fd, &fs) < 0)
                return refuse_errno(w, "look at", errno, e);
        if (is_pseudo(&fs))
                return file_refuse(w, ERROR_INVALID_INPUT, "it is on a pseudo file system of the kernel", e);
        return 0;
}

/* The inode behind an O_PATH descriptor, opened for use. */
static int reopen(const FileRequest *w, int path_fd, int *ret_fd, Error *e) {
        char link[64];
        int fd, r;

        snprintf(link, sizeof link, "/proc/self/fd/%d", path_fd);
        /* Non-blocking: neither a lease nor a drive without a medium keeps us waiting. */
        fd = open(link, (w->writable ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
                return refuse_errno(w, w->writable ? "read and write" : "read", errno, e);

        r = fd_set_nonblock(fd, false);
        if (r < 0) {
                fd_drop(&fd);
                return file_refuse(w, ERROR_INTERNAL, strerror(-r), e);
        }
        *ret_fd = fd;
        return 0;
}

int caller_file_open(const FileRequest *w, CallerFile *ret, Error *e) {
        struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS };
        AUTO(fd_drop) int path_fd = -1, fd = -1;
        struct stat st;
        off_t size;
        int r;

        path_fd = (int)syscall(SYS_openat2, AT_FDCWD, w->path, &how, sizeof how);
        if (path_fd < 0)
                return refuse_errno(w, "reach", errno, e);
        r = check_server(w, path_fd, e);
        if (r >= 0)
                r = check_kind(w, path_fd, &st, e);
        if (r < 0)
                return r;
        r = reopen(w, path_fd, &fd, e);
        if (r < 0)
                return r;

        /* st_size says nothing of a block device. */
        size = lseek(fd, 0, SEEK_END);
        if (size < 0 || lseek(fd, 0, SEEK_SET) < 0)
                return refuse_errno(w, "measure", errno, e);

        *ret = (CallerFile){ .fd = fd_take(&fd),
                             .block_device = S_ISBLK(st.st_mode),
                             .size = (uint64_t)size,
                             /* Two nodes of one block device are the same disk. */
                             .dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev,
                             .ino = S_ISBLK(st.st_mode) ? 0 : st.st_ino };
        return 0;
}

bool caller_file_same(const CallerFile *a, const CallerFile *b) {
        return a->dev == b->dev && a->ino == b->ino && a->block_device == b->block_device;
}
