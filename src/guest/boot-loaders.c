#include "guest/boot-loaders.h"

#include <errno.h>
#include <glob.h>
#include <string.h>
#include <unistd.h>

#include "base/string-util.h"

#define PYGRUB         "pygrub"
#define PYGRUB_PACKAGE "xen-utils-4.17, or your system's xen-utils"

/* Debian's first; its newest Xen wins, since glob() sorts. */
static const char *const pygrub_places[] = {
        "/usr/lib/xen-[0-9]*/bin/pygrub", "/usr/lib/xen/bin/pygrub", "/usr/libexec/xen/bin/pygrub",
        "/usr/local/lib/xen/bin/pygrub",  "/usr/bin/pygrub",
};

static size_t find_configured(const BootLoaders *b, const char *name) {
        size_t i = 0;

        while (i < b->count && !string_equal(b->items[i].name, name))
                i++;
        return i;
}

int boot_loaders_add(BootLoaders *b, const char *name, const char *path) {
        if (boot_loader_name_check(name) < 0 || path[0] != '/' || strlen(path) >= BOOT_LOADER_PATH_MAX)
                return -EINVAL;

        size_t i = find_configured(b, name);
        if (i == BOOT_LOADERS_MAX)
                return -ENOSPC;
        strcpy(b->items[i].name, name);
        strcpy(b->items[i].path, path);
        if (i == b->count)
                b->count++;
        return 0;
}

/* 1 with *ret, 0: there is none, or negative errno. */
static int find_pygrub(char **ret) {
        for (size_t i = 0; i < ARRAY_LEN(pygrub_places); i++) {
                glob_t found = { 0 };
                int r = 0;

                if (glob(pygrub_places[i], 0, NULL, &found) == 0)
                        for (size_t k = found.gl_pathc; k-- > 0 && r == 0;)
                                if (access(found.gl_pathv[k], X_OK) == 0)
                                        r = string_replace(ret, found.gl_pathv[k]) < 0 ? -ENOMEM : 1;
                globfree(&found);
                if (r != 0)
                        return r;
        }
        return 0;
}

/* "pygrub" comes behind what is configured, unless it is configured itself. */
int boot_loaders_at(const BootLoaders *b, size_t index, const char **ret_name, char **ret_path) {
        if (index > b->count || (index == b->count && find_configured(b, PYGRUB) < b->count))
                return -ENOENT;
        if (index == b->count) {
                *ret_name = PYGRUB;
                return find_pygrub(ret_path);
        }
        *ret_name = b->items[index].name;
        if (access(b->items[index].path, X_OK) < 0)
                return 0;
        return string_replace(ret_path, b->items[index].path) < 0 ? -ENOMEM : 1;
}

static int refuse_missing(const BootLoaders *b, size_t index, const char *name, Error *e) {
        if (index < b->count)
                return error_set(e, ERROR_NOT_SUPPORTED, "Boot loader %s is configured as %s, which is no program here",
                                 name, b->items[index].path);
        return error_set(e, ERROR_NOT_SUPPORTED, "Boot loader %s is not installed: install package " PYGRUB_PACKAGE,
                         name);
}

static int refuse_unknown(const BootLoaders *b, const char *name, Error *e) {
        AUTO(string_list_free) StringList names = NULL;
        const char *known;

        for (size_t i = 0;; i++) {
                AUTO(string_drop) char *path = NULL;
                int r = boot_loaders_at(b, i, &known, &path);
                if (r == -ENOENT)
                        break;
                if (r < 0 || string_list_append(&names, known) < 0)
                        return error_set_errno(e, ENOMEM, "Failed to list the boot loaders");
        }
        AUTO(string_drop) char *joined = string_list_join(names, ", ");
        AUTO(string_drop) char *rule = string_printf("it is not known; these are: %s", string_or(joined, "?"));
        return error_set_value(e, ERROR_NOT_SUPPORTED, "boot loader", name, string_or(rule, "it is not known"));
}

int boot_loaders_find(const BootLoaders *b, const char *name, char **ret_path, Error *e) {
        const char *known;

        for (size_t i = 0;; i++) {
                AUTO(string_drop) char *path = NULL;
                int r = boot_loaders_at(b, i, &known, &path);
                if (r == -ENOENT)
                        return refuse_unknown(b, name, e);
                if (r < 0)
                        return error_set_errno(e, r, "Failed to look for boot loader %s", name);
                if (!string_equal(known, name))
                        continue;
                if (r == 0)
                        return refuse_missing(b, i, known, e);
                *ret_path = TAKE(path);
                return 0;
        }
}
