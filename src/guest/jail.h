/* Where an emulator, a boot loader or a device model lives: own namespaces (mount, PID, network, IPC, UTS, in session
 * scope a user namespace), a tmpfs as root with only what is listed bound into it read-only, own uid, no capabilities,
 * no_new_privs, limits. jail_prepare() is a SpawnPrepare; jail_enclose() sets a Spawn up to use it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/spawn.h"

#define JAIL_BINDS_MAX 32
#define JAIL_COPY_MAX  (1ULL << 30)
typedef struct JailBind {
        const char
                *source; /* a path of the host; or NULL: fd is bound, or copied where the jail's uid may not read it */
        int fd;
        const char *target; /* absolute, inside; made as needed */
        bool optional;      /* skip when source does not exist */
        bool device;        /* a device node that may be used */
        bool as_it_is;      /* the host's own node, not one of the jail's uid */
        bool never_copied;  /* fd is bound, or it fails */
} JailBind;

typedef struct Jail {
        bool privileged; /* system scope: become uid/gid. Session scope: map the daemon's own ids; uid, gid are unused
                          */
        uid_t uid;
        gid_t gid;
        bool filtered;                  /* system calls: filter.h */
        const unsigned *refused_ioctls; /* with filtered; they must live until the program has started */
        size_t n_refused_ioctls;
        bool becomes_itself; /* privileged: begins as root without any capability but those to become uid and gid, which
                                the program does once it has opened what only root may */
        JailBind binds[JAIL_BINDS_MAX];
        size_t n_binds;
        const gid_t *groups; /* privileged: supplementary ones */
        size_t n_groups;
        const char *scratch;    /* NULL: none. A directory on a tmpfs of its own, the one place to write to */
        uint64_t scratch_size;  /* bytes that it may take */
        uint64_t file_size_max; /* RLIMIT_FSIZE; 0: unlimited */
        uint64_t n_files_max;   /* RLIMIT_NOFILE; 0: 1024 */
        uint64_t copy_max;      /* how many bytes may be copied in memory in all; 0: JAIL_COPY_MAX */

        /* Private. */
        int keep[JAIL_BINDS_MAX]; /* the binds' descriptors, for Spawn.keep */
        size_t n_keep;
        bool overflow; /* more binds than fit: jail_prepare() fails */
} Jail;

/* The strings must live until the program has started. */
void jail_add_bind(Jail *j, const char *source, const char *target, bool optional);
/* A file that the caller's side has opened; readable for the jail's uid as target whatever its mode. */
void jail_add_fd(Jail *j, int fd, const char *target);
/* A disk: a block device, or a file that the jail's uid can read; shown as it is, read-only. */
void jail_add_disk(Jail *j, int fd, const char *target);
/* A character device of the host, such as /dev/kvm, at the same place; skipped where there is none. In the system scope
 * the jail may use it whoever owns the host's node, in the session scope if the user may. */
void jail_add_device(Jail *j, const char *path);
/* The same, but with the host's owner and mode. */
void jail_add_root_device(Jail *j, const char *path);
/* The program and what the dynamic linker and libraries need: /usr/lib, /lib, /lib64 as they exist here, /dev/null and
 * its like. */
void jail_add_program(Jail *j, const char *program);
/* The same with QEMU's data, /usr/share/{qemu,seabios,...}. */
void jail_add_system(Jail *j, const char *program);

/* Set clone_flags, prepare, prepare_data and keep of s, which uses *j until it is done. */
void jail_enclose(Jail *j, Spawn *s);

/* CLONE_NEW* for Spawn.clone_flags. */
uint64_t jail_clone_flags(const Jail *j);
int jail_prepare(void *jail, const char **ret_step);
