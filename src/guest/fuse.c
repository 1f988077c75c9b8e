/* See fuse.h. The kernel tells who has mounted a FUSE file system in its options, behind the dash:
 *
 *   36 28 0:41 / /home/alice/mnt rw,nosuid,nodev shared:7 - fuse.sshfs host: rw,user_id=1000,group_id=1000
 *
 * None of the fields can hold a blank (the kernel writes it as \040), and what the options say is the kernel's alone.
 * virtiofs, which shares FUSE's magic number, has the host for a server, and no user. */
#include "guest/fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/string-util.h"

#define USER_OPTION "user_id="

/* As fuse_find_user(), of what stands behind the dash. */
static int judge(char *rest, uid_t *ret_uid) {
        char *save = NULL;
        const char *type = strtok_r(rest, " \n", &save);
        (void)strtok_r(NULL, " \n", &save); /* the source */
        char *options = strtok_r(NULL, " \n", &save);

        if (!type || !options)
                return -EBADMSG;
        if (string_equal(type, "virtiofs"))
                return 0;
        for (char *o = strtok_r(options, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
                if (!string_has_prefix(o, USER_OPTION))
                        continue;
                char *end;
                errno = 0;
                unsigned long uid = strtoul(o + strlen(USER_OPTION), &end, 10);
                if (errno != 0 || *end != '\0' || end == o + strlen(USER_OPTION) || uid > (uid_t)-1)
                        return -EBADMSG;
                *ret_uid = (uid_t)uid;
                return uid != 0;
        }
        return -EBADMSG;
}

int fuse_find_user(FILE *mountinfo, uint64_t mount_id, uid_t *ret_uid) {
        char *line = NULL;
        size_t room = 0;
        int r = -ESTALE;

        while (r == -ESTALE && getline(&line, &room, mountinfo) > 0) {
                char *end, *dash = strstr(line, " - ");
                uint64_t id = strtoull(line, &end, 10);

                if (end > line && *end == ' ' && dash && id == mount_id)
                        r = judge(dash + strlen(" - "), ret_uid);
        }
        free(line);
        return r == -ESTALE && ferror(mountinfo) ? -EIO : r;
}

int fuse_of_user(int fd, uid_t *ret_uid) {
        struct statfs fs;
        struct statx stx;

        if (fstatfs(fd, &fs) < 0)
                return -errno;
        if (fs.f_type != FUSE_SUPER_MAGIC)
                return 0;
        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &stx) < 0)
                return -errno;
        if (!(stx.stx_mask & STATX_MNT_ID))
                return -EOPNOTSUPP;

        FILE *f = fopen("/proc/self/mountinfo", "re");
        if (!f)
                return -errno;
        int r = fuse_find_user(f, stx.stx_mnt_id, ret_uid);
        fclose(f);
        return r;
}
