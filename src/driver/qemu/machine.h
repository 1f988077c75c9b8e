/* The virtual hardware that a guest of each architecture gets, in one table, and what of it this host has installed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "core/spec.h"

typedef struct FirmwareFiles {
        const char *code, *vars; /* absolute paths: the program, and the template of its variables */
        const char *package;
} FirmwareFiles;

typedef struct Machine {
        const char *arch;          /* QEMU's name for it */
        const char *program;       /* file name of the emulator */
        const char *package;       /* of Debian, that has it */
        const char *type;          /* -machine */
        const char *tcg_cpu;       /* -cpu without KVM; NULL: the machine's default */
        const char *video;         /* -device, the screen */
        const char *const *inputs; /* further -devices, NULL-terminated: keyboard and mouse where none is built in */
        bool bios;                 /* boots without a kernel and without UEFI */
        FirmwareFiles uefi;        /* code NULL: none */
} Machine;

/* By index, NULL past the end. */
const Machine *machine_at(size_t index);
/* NULL: not in the table. */
const Machine *machine_find(const char *arch);

/* Absolute path of its emulator in *ret (the caller's), -ENOENT when it is not installed. */
int machine_program(const Machine *m, char **ret);

/* What it boots with: FIRMWARE_BIOS, FIRMWARE_UEFI, or FIRMWARE_DEFAULT when a kernel makes firmware needless. */
Firmware machine_firmware(const Machine *m, const DomainSpec *spec);

/* Can this host run this spec on it? ERROR_NOT_SUPPORTED names what is missing and the package that has it. */
int machine_check(const DomainSpec *spec, const Machine **ret, Error *e);

/* "aarch64, x86_64": the rows whose emulator is installed. NULL without memory. */
char *machine_list_installed(void);
