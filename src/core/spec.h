/* What a caller asks a domain to be: the typed form of createDomain's arguments, validated as far as that is possible
 * without touching the host, and its durable text form. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "core/limits.h"
#include "core/mac.h"

typedef enum DiskFormat { DISK_RAW, DISK_QCOW2, DISK_FORMAT_COUNT } DiskFormat;
const char *disk_format_name(DiskFormat f);

typedef enum EndAction { END_DESTROY, END_RESTART, END_ACTION_COUNT } EndAction;
const char *end_action_name(EndAction a);

typedef enum Firmware { FIRMWARE_DEFAULT, FIRMWARE_BIOS, FIRMWARE_UEFI, FIRMWARE_COUNT } Firmware;
const char *firmware_name(Firmware f);

/* Xen's kinds of machine: paravirtual, paravirtual in hardware's containment, and emulated. */
typedef enum MachineType { MACHINE_DEFAULT, MACHINE_PV, MACHINE_PVH, MACHINE_HVM, MACHINE_TYPE_COUNT } MachineType;
const char *machine_type_name(MachineType t); /* "default", "pv", "pvh", "hvm" */

/* What a domain takes that runs nothing but another one's device model, in bytes: QEMU needs most of it. */
#define STUB_DOMAIN_MEMORY (192ULL << 20)

typedef struct DiskSpec {
        char *path; /* absolute */
        DiskFormat format;
        bool read_only;
} DiskSpec;

typedef struct NicSpec {
        char *network;
        Mac mac;
} NicSpec;

typedef struct DomainSpec {
        uint64_t memory; /* bytes, a multiple of 1 MiB */
        DiskSpec *disks;
        size_t n_disks;
        NicSpec *nics; /* the first is createDomain's own network and mac */
        size_t n_nics;
        char *hypervisor; /* never NULL; "" until the engine has chosen */
        char *arch; /* never NULL; QEMU's name ("x86_64", "aarch64"); filled in with the host's when it was empty */
        char *kernel, *initrd, *cmdline; /* NULL: none */
        char *bootloader; /* NULL: none. The name of what finds the kernel in the first disk; cmdline is then for it */
        EndAction on_poweroff, on_reboot;
        Firmware firmware;
        MachineType type;
        unsigned vcpus;
        bool paused;        /* start, and do not run */
        bool stub_domain;   /* of type hvm: its device model runs in a domain of its own */
        char *vnc_password; /* NULL: none; at most 8 bytes count in the protocol, so more are refused */

        /* Not stored. */
        unsigned extra_given; /* which keys domain_spec_set_extra() has seen */
} DomainSpec;
#define DOMAIN_SPEC_INIT ((DomainSpec){ .on_poweroff = END_DESTROY, .on_reboot = END_RESTART, .vcpus = 1 })

void domain_spec_clear(DomainSpec *s); /* usable with AUTO() */

/* createDomain's fixed arguments. Errors name the argument. mac may be "" : a random one is taken. An empty arch
 * becomes the host's. A disk is an absolute path; "/dev/fd" and "/proc" are not looked at here but where it is opened.
 * Whether the network exists is for the caller; a name that no network can have is ERROR_NETWORK_NOT_FOUND already.
 * After a failure *s is good for domain_spec_clear() only. */
int domain_spec_set(DomainSpec *s, const char *memory, char *const *disks, const char *network, const char *mac,
                    const char *hypervisor, const char *arch, Error *e);

/* One entry of createDomain's extra dictionary, out of its D-Bus variant. */
typedef struct ExtraValue {
        enum { EXTRA_STRING, EXTRA_NUMBER, EXTRA_BOOLEAN, EXTRA_STRINGS, EXTRA_OTHER } kind;
        const char *string;
        uint64_t number; /* a negative number comes as EXTRA_OTHER */
        bool boolean;
        char *const *strings;
} ExtraValue;
/* Keys: kernel, initrd, cmdline, bootloader (a name), on_poweroff ("destroy"|"restart"), on_reboot, vcpus (number),
 * firmware
 * ("bios"|"uefi"), type ("pv"|"pvh"|"hvm", Xen only), disk_formats (strings, one per disk: "raw"|"qcow2", ":ro" behind
 * it for read-only), nics (strings "NETWORK" or "NETWORK,MAC", further interfaces), paused (boolean), vnc_password,
 * stubdomain (boolean, with type hvm only). An
 * unknown key, a wrong type and a key given twice are ERROR_INVALID_INPUT, which lists what is known. To be called
 * after domain_spec_set(). */
int domain_spec_set_extra(DomainSpec *s, const char *key, const ExtraValue *value, Error *e);

/* What only the whole can tell: kernel and initrd together or not at all, cmdline only with a kernel or a boot loader,
 * a boot loader only with a raw first disk (else ERROR_NOT_SUPPORTED) and without a kernel, firmware with neither, a
 * stub domain only with type hvm, no MAC twice on one network, vcpus in range, something to boot from (a disk or a
 * kernel). */
int domain_spec_check(const DomainSpec *s, const Limits *limits, Error *e);

/* JSON for the store. from_json gives -EINVAL for anything that to_json cannot have written. */
int domain_spec_to_json(const DomainSpec *s, char **ret);
int domain_spec_from_json(const char *json, DomainSpec *ret);

/* The host's architecture under QEMU's name. */
const char *host_arch(void);
