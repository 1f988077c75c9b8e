/* What the command lines of all emulators have in common: the descriptors that QEMU is given, and disks as block nodes
 * over them. Pure. */
#pragma once

#include <stddef.h>

#include "base/argv.h"
#include "core/spec.h"
#include "guest/files.h"

/* Numbers of the descriptor sets of the disks' layers. */
#define EMULATOR_SET_DISK(disk, layer) (100u + (unsigned)(disk)*BACKING_CHAIN_MAX + (unsigned)(layer))

/* The descriptors that the program is given: fds[i] becomes number 3 + i. They stay their owner's. */
#define EMULATOR_FDS_MAX (DISKS_PER_DOMAIN_MAX * BACKING_CHAIN_MAX + NICS_PER_DOMAIN_MAX + 8)
typedef struct EmulatorFds {
        int fds[EMULATOR_FDS_MAX];
        size_t count;
} EmulatorFds;

/* The number that fd will have in the program. A full array shows in the count alone: more than EMULATOR_FDS_MAX. */
int emulator_give_fd(EmulatorFds *fds, int fd);
/* The same as a descriptor set, which QEMU opens as /dev/fdset/SET. */
void emulator_give_set(EmulatorFds *fds, Argv *a, int fd, unsigned set);
/* The nodes of a disk, of which "diskINDEX-0" is the one for a device. */
void emulator_add_nodes(EmulatorFds *fds, Argv *a, const DiskFiles *disk, size_t index);

/* The path of the disk whose descriptor set is named in words ("/dev/fdset/116"), of which its owner cannot know whose
 * it is. Borrowed; NULL: none. */
const char *emulator_disk_meant(const DomainSpec *spec, const char *words);
