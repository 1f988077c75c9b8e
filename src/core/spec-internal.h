/* Shared by the files that make a DomainSpec: spec.c (createDomain's arguments, the whole), spec-extra.c (its
 * dictionary) and spec-json.c (its durable form). */
#pragma once

#include "core/spec.h"

#define VCPUS_MAX        4096 /* what no machine type goes past, whatever the administrator allows */
#define VNC_PASSWORD_MAX 8

/* Each gives the _COUNT of its enumeration for a name that it does not know. */
DiskFormat disk_format_from_name(const char *name);
EndAction end_action_from_name(const char *name);
Firmware firmware_from_name(const char *name);
MachineType machine_type_from_name(const char *name);

/* Rules of single values; what names the argument in the error. They say ERROR_INVALID_INPUT unless noted. */
int spec_check_path(const char *what, const char *path, Error *e);
int spec_check_cmdline(const char *cmdline, Error *e);
int spec_check_bootloader(const char *name, Error *e);
int spec_check_vcpus(uint64_t vcpus, Error *e);
int spec_check_vnc_password(const char *password, Error *e);
int spec_check_memory(uint64_t bytes, const char *shown, Error *e);
int spec_check_hypervisor(const char *name, Error *e); /* "" is fine */
int spec_check_network(const char *name, Error *e);    /* ERROR_NETWORK_NOT_FOUND */

/* Append; both check, and copy. mac_text "" takes a random one. */
int spec_add_disk(DomainSpec *s, const char *path, DiskFormat format, bool read_only, Error *e);
int spec_add_nic(DomainSpec *s, const char *network, const char *mac_text, Error *e);

/* QEMU's name for an architecture that goes by several, or the name itself; NULL when it cannot be one. "" gives "". */
const char *spec_canonical_arch(const char *arch);
