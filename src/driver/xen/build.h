/* Making a domain and its first content: processors, memory, kernel, rings. For workers: takes as long as its memory is
 * large. */
#pragma once

#include "driver/xen/entries.h"
#include "driver/xen/hypervisor.h"
#include "guest/files.h"

/* A domain with nothing in it, paused, under the uuid that is recorded already. */
int build_create(Xen *x, const Domain *d, MachineType type, uint32_t *ret_id, Error *e);
/* From nothing to the point where unpausing it would boot the kernel. The kernel's bytes are the caller's: what the
 * library makes of them happens in this process, and stays until its end. */
int build_fill(Xen *x, const XenIdentity *who, const GuestFiles *files, XenRings *ret, Error *e);

/* What a guest of type hvm starts with, of this Xen's release: a descriptor, and its path; or -1 and errno. */
int build_hvm_open_loader(Xen *x, char *path, size_t size);
