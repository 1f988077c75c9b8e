/* Where an emulator, a boot loader or a device model lives: own namespaces (mount, PID, network, IPC, UTS, in session
 * scope a user namespace), a tmpfs as root with only what is listed bound into it read-only, own uid, no capabilities,
 * no_new_privs, limits. jail_prepare() is a SpawnPrepare. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define JAIL_BINDS_MAX 32
typedef struct JailBind {
        const char
                *source; /* a path of the host; or NULL: fd is bound, or copied where the jail's uid may not read it */
        int fd;
        const char *target; /* absolute, inside; made as needed */
        bool optional;      /* skip when source does not exist */
} JailBind;

typedef struct Jail {
        bool privileged; /* system scope: become uid/gid. Session scope: map the daemon's own ids */
        uid_t uid;
        gid_t gid;
        JailBind binds[JAIL_BINDS_MAX];
        size_t n_binds;
        uint64_t file_size_max; /* RLIMIT_FSIZE; 0: unlimited */
        uint64_t n_files_max;   /* RLIMIT_NOFILE; 0: 1024 */
} Jail;

/* Add the program and what the dynamic linker and QEMU's data need: /usr/lib, /lib, /lib64,
 * /usr/share/{qemu,seabios,...} as they exist here. */
void jail_add_bind(Jail *j, const char *source, const char *target, bool optional);
void jail_add_fd(Jail *j, int fd, const char *target);
void jail_add_system(Jail *j, const char *program);

/* CLONE_NEW* for Spawn.clone_flags. */
uint64_t jail_clone_flags(const Jail *j);
int jail_prepare(void *jail, const char **ret_step);
