/* The emulator's command line, one function per group of devices, all pure: they read a QemuArgs and append to an Argv.
 *
 * No string of a user reaches an option that QEMU splits at commas: files are numbers of descriptor sets, names are
 * ours, MACs are typed, and the kernel's command line is an argument of its own, which -append takes whole. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/argv.h"
#include "core/spec.h"
#include "driver/emulator.h"
#include "driver/qemu/machine.h"
#include "guest/files.h"

/* Where the jail shows what QEMU opens by path. */
#define QEMU_KERNEL_PATH  "/kernel"
#define QEMU_INITRD_PATH  "/initrd"
#define QEMU_CONSOLE_PATH "/console" /* with .in and .out behind it */

/* Numbers of descriptor sets, below the disks'. */
#define QEMU_SET_FIRMWARE_CODE 10u
#define QEMU_SET_FIRMWARE_VARS 11u

/* Everything that decides about the command line. Descriptors here are the broker's numbers. */
typedef struct QemuArgs {
        const char *program;
        const char *name; /* the domain's */
        const DomainSpec *spec;
        const Machine *machine;
        const GuestFiles *files;
        const int *taps;
        size_t n_taps;
        bool kvm;
        int qmp_fd, agent_fd;                   /* listening sockets */
        int firmware_code_fd, firmware_vars_fd; /* -1: no UEFI */
} QemuArgs;

void qemu_args_base(const QemuArgs *q, Argv *a);
void qemu_args_machine(const QemuArgs *q, Argv *a);
void qemu_args_firmware(const QemuArgs *q, Argv *a, EmulatorFds *fds);
void qemu_args_monitor(const QemuArgs *q, Argv *a, EmulatorFds *fds);
void qemu_args_console(const QemuArgs *q, Argv *a);
void qemu_args_agent(const QemuArgs *q, Argv *a, EmulatorFds *fds);
void qemu_args_display(const QemuArgs *q, Argv *a);
void qemu_args_disk(const QemuArgs *q, size_t index, Argv *a, EmulatorFds *fds);
void qemu_args_nic(const QemuArgs *q, size_t index, Argv *a, EmulatorFds *fds);
void qemu_args_kernel(const QemuArgs *q, Argv *a);

/* All of them. -ENOMEM; -E2BIG when the descriptors are too many. */
int qemu_args(const QemuArgs *q, char ***ret_argv, EmulatorFds *fds);
