#include "core/user.h"

#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"

#define ENTRY_MAX (1024 * 1024)

void user_clear(User *u) {
        string_drop(&u->name);
}

/* glibc leaves it to the module how "no such user" is said. */
static bool means_unknown(int err) {
        return err == ENOENT || err == ESRCH || err == EBADF || err == EPERM;
}

static int copy_entry(const struct passwd *entry, User *ret) {
        char *name = strdup(entry->pw_name);
        if (!name)
                return -ENOMEM;

        *ret = (User){ .gid = entry->pw_gid, .name = name };
        return 1;
}

/* The entry is in a buffer that grows to what it takes. */
int user_find(uid_t uid, User *ret) {
        size_t size = 4096;
        char *buffer = NULL;
        struct passwd entry, *found = NULL;
        int err;
        do {
                free(buffer);
                buffer = malloc(size);
                err = buffer ? getpwuid_r(uid, &entry, buffer, size, &found) : ENOMEM;
                size *= 2;
        } while (err == EINTR || (err == ERANGE && size <= ENTRY_MAX));

        int r = means_unknown(err) ? 0 : -err;
        if (r == 0 && found)
                r = copy_entry(found, ret);
        free(buffer);
        return r;
}
