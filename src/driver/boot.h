/* A guest's boot loader, as every driver runs it before it starts the kernel that it finds. */
#pragma once

#include "driver/driver.h"
#include "guest/boot-loader.h"

/* May this spec's boot loader, if it has one, be run here? ERROR_NOT_SUPPORTED. */
int boot_check(const DriverHost *host, const DomainSpec *spec, Error *e);

/* The bytes of kernel and initrd that may be copied into memory which is not the guest's: what fits into its own, and
 * not too many, since nobody is charged with them. */
uint64_t boot_copy_max(const DomainSpec *spec);
/* Do its kernel and initrd, if it has any, fit into its memory, and into max bytes? ERROR_INVALID_INPUT. Before
 * anything is done with them, and after a boot loader has chosen them: a jail or a worker copies them. Its memory is
 * all that its owner is charged with. */
int boot_check_size(const GuestFiles *files, const DomainSpec *spec, uint64_t max, Error *e);

/* Begin the job for a guest whose files are open; done and userdata are set. */
int boot_start(BootLoaderJob *j, Guest *g, Error *e);

/* Close what a boot loader has chosen: once it is in use, or for another to choose. */
void boot_drop(Guest *g);

/* In done(): what was chosen becomes the guest's kernel, initrd and command line, instead of those of a former boot. */
void boot_take(Guest *g, BootChoice *choice);
