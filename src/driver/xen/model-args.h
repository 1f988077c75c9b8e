/* The command line of a device model. For a guest of type hvm it is the QEMU that emulates a PC's devices; for others
 * one that serves, by the protocols of Xen's own drivers, what the kernel's backends cannot: disks with a format, and a
 * screen. Pure, and under the same rule as driver/qemu/args.h: no string of a user reaches an option that QEMU splits
 * at commas. */
#pragma once

#include "driver/emulator.h"

/* Where its jail shows what it opens by path. */
#define MODEL_KERNEL_PATH  "/kernel"
#define MODEL_INITRD_PATH  "/initrd"
#define MODEL_CONSOLE_PATH "/console" /* with .in and .out behind it */

/* The same in a stub domain. */
#define MODEL_STUB_SERIAL_PATH  "/run/serial" /* with .in and .out behind it */
#define MODEL_STUB_VNC_PATH     "/run/vnc"
#define MODEL_STUB_IFUP_PATH    "/ifup"
#define MODEL_STUB_CMDLINE_PATH "/cmdline" /* a file: what of a user's is in the store could not be read as it is */

/* The emulated controller has room for so many; what is beyond is there for drivers of Xen's alone. */
#define MODEL_DISKS_MAX 4

/* Bytes of the guest's memory that are the screen's. */
#define MODEL_VIDEO_MEMORY (8ULL << 20)

/* Is there to be one? */
bool model_wanted(MachineType type, const DomainSpec *spec);
/* Does the guest have a screen? One of another type than hvm only when a password for it is given. */
bool model_has_screen(MachineType type, const DomainSpec *spec);

/* May a guest of type hvm find Xen's own disks and interfaces beside the emulated ones, and take them instead? Not with
 * a disk that only the model can read: a kernel that knows Xen would put it away and find no other. Then the machine
 * does not show that it is Xen's. */
bool model_offers_pv(const DomainSpec *spec);

typedef struct ModelArgs {
        MachineType type;
        const char *program;
        const char *name; /* the domain's */
        uint32_t id;      /* Xen's number of it */
        uid_t uid;        /* to become, and the gid as well */
        uint64_t memory;  /* bytes, without the screen's */
        const DomainSpec *spec;
        const GuestFiles *files;
        const int *taps; /* one per interface */
        int qmp_fd;      /* a listening socket */
        bool stub; /* it runs in a domain of its own (scripts/stubdomain/init): what else it needs is there, no fds */
} ModelArgs;

/* -ENOMEM; -E2BIG when the descriptors are too many. */
int model_args(const ModelArgs *m, char ***ret_argv, EmulatorFds *fds);

/* Does /proc/PID/status tell of a process that has given up all that it can do: the ids are uid, no capability in any
 * set that counts, no way to more, system calls filtered? */
bool model_is_harmless(const char *status, uid_t uid);
