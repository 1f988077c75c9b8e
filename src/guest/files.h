/* Every path of a domain, opened as the caller in one worker, and kept as descriptors: no check is ever followed by a
 * second open.
 *
 * Each disk must be a regular file or a block device that the caller may read and write (read only with :ro); kernel
 * and initrd, and backing files, regular files or block devices that the caller may read. FIFOs, sockets, directories,
 * character devices, anything on procfs, sysfs or devfs-like pseudo file systems, and descriptors of the worker itself
 * (/proc/self/fd, /dev/fd, /dev/stdin) are refused by what the opened descriptor is, not by name. So is, in the system
 * scope, what is on a FUSE file system that a user has mounted. A backing file that is relative is relative to the
 * image that names it; a chain is at most BACKING_CHAIN_MAX deep and has no loop. */
#pragma once

#include "core/spawn.h"
#include "core/spec.h"

typedef struct DiskLayer {
        int fd;
        DiskFormat format;
        bool read_only, block_device;
        uint64_t size; /* bytes of the file or device */
} DiskLayer;

typedef struct DiskFiles {
        DiskLayer layers[BACKING_CHAIN_MAX];
        size_t n_layers; /* [0] is the disk itself, the rest what backs it, in order */
} DiskFiles;

typedef struct GuestFiles {
        DiskFiles disks[DISKS_PER_DOMAIN_MAX];
        size_t n_disks;
        int kernel_fd, initrd_fd; /* -1: none */
        uint64_t kernel_size, initrd_size;
        char *cmdline; /* the kernel's, as a boot loader has chosen it; NULL: the spec's own */
} GuestFiles;
void guest_files_init(GuestFiles *f);
void guest_files_clear(GuestFiles *f); /* closes all */

typedef struct FilesJob FilesJob;
struct FilesJob {
        /* In */
        const DomainSpec *spec;
        uid_t uid;
        bool privileged; /* system scope: become uid first; else the daemon's own identity is the caller's */
        uint64_t deadline_usec;
        Lingering lingering; /* of a worker that waits for a file system of the caller's own, and cannot be killed */
        void (*done)(FilesJob *j, GuestFiles *files, const Error *e); /* the callee takes the content of *files */
        void *userdata;
        /* Private. */
        Worker worker;
};
void files_init(FilesJob *j);
int files_start(FilesJob *j, sd_event *event, Error *e);
void files_stop(FilesJob *j);
