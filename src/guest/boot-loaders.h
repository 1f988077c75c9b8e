/* The boot loaders that a domain may name: programs that look into a disk image and choose the kernel in it. All of
 * them speak pygrub's command line. "pygrub" itself is always known, and looked for where it is usually installed;
 * others, or another place for it, come from the administrator's configuration. */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "core/names.h"

#define BOOT_LOADERS_MAX     16
#define BOOT_LOADER_PATH_MAX 256

typedef struct BootLoaders {
        struct {
                char name[BOOT_LOADER_NAME_MAX];
                char path[BOOT_LOADER_PATH_MAX]; /* absolute */
        } items[BOOT_LOADERS_MAX];
        size_t count;
} BootLoaders;

/* Add or replace. -EINVAL: a bad name, or no absolute path that fits; -ENOSPC: BOOT_LOADERS_MAX are there. */
int boot_loaders_add(BootLoaders *b, const char *name, const char *path);

/* The path of the program under that name, the caller's. ERROR_NOT_SUPPORTED with what is known, or with the package to
 * be installed. */
int boot_loaders_find(const BootLoaders *b, const char *name, char **ret_path, Error *e);

/* What there is, for people who ask: by index, 1 with the name (*b's or a constant) and the path (the caller's), 0 when
 * that one is not installed, -ENOENT past the last. */
int boot_loaders_at(const BootLoaders *b, size_t index, const char **ret_name, char **ret_path);
