/* Removing a tree that an emulator, or a user in her runtime directory, may have made as unpleasant as she could.
 *
 * A tree can be deeper than there are descriptors or stack, so there is no recursion: the tree is emptied through its
 * top directory. For each directory found in the top, its files are unlinked and its non-empty directories are
 * *hoisted* (renamed into the top under a fresh name), after which it is empty and goes. Each pass brings the next
 * level up, with two directories open at any time.
 *
 * Nothing is followed: directories are opened with O_NOFOLLOW, everything else is only unlinked. Mount points are not
 * entered (the kernel refuses to rename or unlink them, and the top's children are compared by mount), so a tree with
 * one in it gives an error, after everything else is gone. The number of entries handled has a cap, so that somebody
 * who makes them faster than we remove them does not hold us for ever. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"

#define ENTRIES_MAX 4000000u

typedef struct Sweep {
        int top;
        struct statx mount; /* of the top's parent: what we must not leave */
        uint64_t next_name;
        unsigned budget;   /* entries that may still be handled */
        unsigned progress; /* entries that were removed or hoisted in this pass */
        int first_error;
} Sweep;

static void note(Sweep *s, int r) {
        if (s->first_error == 0)
                s->first_error = r;
}

static void directory_drop(DIR **d) {
        if (*d)
                (void)closedir(*d);
        *d = NULL;
}

static int identify_mount(int fd, struct statx *ret) {
        return statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, ret) < 0 ? -errno : 0;
}

static bool same_mount(const struct statx *a, const struct statx *b) {
        return a->stx_dev_major == b->stx_dev_major && a->stx_dev_minor == b->stx_dev_minor &&
               (!(a->stx_mask & b->stx_mask & STATX_MNT_ID) || a->stx_mnt_id == b->stx_mnt_id);
}

/* Without read and search permission a directory of our own cannot be opened: give it to ourselves first. */
static int make_accessible(int dir_fd, const char *name) {
        return fchmodat(dir_fd, name, 0700, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int open_to_empty(const Sweep *s, int dir_fd, const char *name, int *ret_fd) {
        static const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
        AUTO(fd_drop) int fd = openat(dir_fd, name, flags);
        struct statx st;

        if (fd < 0 && errno == EACCES && make_accessible(dir_fd, name) == 0)
                fd = openat(dir_fd, name, flags);
        if (fd < 0)
                return -errno;
        int r = identify_mount(fd, &st);
        if (r < 0)
                return r;
        if (!same_mount(&st, &s->mount))
                return -EXDEV;
        /* Unlinking below needs write permission; where this fails the unlinking will tell. */
        if ((st.stx_mode & 0700) != 0700)
                (void)fchmod(fd, 0700);
        *ret_fd = fd_take(&fd);
        return 0;
}

/* 1: it was a file or an empty directory, and is gone (or was already). 0: a directory that is not empty. */
static int remove_simple(int dir_fd, const char *name) {
        if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
                return 1;
        if (errno != EISDIR)
                return -errno;
        if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
                return 1;
        return errno == ENOTEMPTY || errno == EEXIST ? 0 : -errno;
}

static int hoist(Sweep *s, int dir_fd, const char *name) {
        char fresh[40];
        bool opened_up = false;

        /* The names in the top may have been chosen to collide; each collision costs the budget, as an entry does. */
        while (s->budget > 0) {
                s->budget--;
                snprintf(fresh, sizeof fresh, ".removed-%" PRIx64, s->next_name++);
                if (renameat2(dir_fd, name, s->top, fresh, RENAME_NOREPLACE) == 0)
                        return 0;
                if (errno == EACCES && !opened_up) {
                        /* Moving a directory rewrites its "..", which needs write permission on it. */
                        int r = make_accessible(dir_fd, name);
                        if (r < 0)
                                return r;
                        opened_up = true;
                } else if (errno != EEXIST)
                        return -errno;
        }
        return -E2BIG;
}

/* Empty a directory of the second level: unlink what can be, hoist the rest. */
static int empty_child(Sweep *s, const char *name);

/* One entry of the top (child false) or of a directory in it (child true). */
static void handle_entry(Sweep *s, int dir_fd, const char *name, bool child) {
        int r = remove_simple(dir_fd, name);

        if (r == 0)
                r = child ? hoist(s, dir_fd, name) : empty_child(s, name);
        if (r < 0)
                note(s, r);
        else
                s->progress++;
}

static int for_each_entry(Sweep *s, int dir_fd, bool child) {
        AUTO(fd_drop) int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        AUTO(directory_drop) DIR *directory = fdopendir(fd);
        if (!directory)
                return -errno;
        fd_take(&fd);

        for (;;) {
                errno = 0;
                struct dirent *entry = readdir(directory);
                if (!entry)
                        return -errno;
                if (string_equal(entry->d_name, ".") || string_equal(entry->d_name, ".."))
                        continue;
                if (s->budget == 0)
                        return -E2BIG;
                s->budget--;
                handle_entry(s, dir_fd, entry->d_name, child);
        }
}

static int empty_child(Sweep *s, const char *name) {
        AUTO(fd_drop) int fd = -1;
        int r = open_to_empty(s, s->top, name, &fd);

        if (r == 0)
                r = for_each_entry(s, fd, true);
        if (r < 0)
                return r;
        /* Still not empty when an entry could not go: that entry's error is noted, this one adds nothing. */
        return unlinkat(s->top, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

static int empty_top(Sweep *s) {
        do {
                s->progress = 0;
                s->first_error = 0;
                int r = for_each_entry(s, s->top, false);
                if (r < 0)
                        return r;
        } while (s->progress > 0);
        return s->first_error;
}

int remove_tree(int dir_fd, const char *name) {
        Sweep s = { .top = -1, .budget = ENTRIES_MAX };
        AUTO(fd_drop) int top = -1;

        int r = remove_simple(dir_fd, name);
        if (r != 0)
                return r < 0 ? r : 0;
        r = identify_mount(dir_fd, &s.mount);
        if (r < 0)
                return r;
        r = open_to_empty(&s, dir_fd, name, &top);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        s.top = top;
        r = empty_top(&s);
        if (r < 0)
                return r;
        return unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}
