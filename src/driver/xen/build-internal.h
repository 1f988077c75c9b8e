/* What the building of every kind of domain shares: build.c, build-hvm.c. */
#pragma once

#include <xenctrl.h>

#include <xenguest.h> /* needs the one above */

#include <xen/hvm/e820.h>

#include "driver/xen/acpi.h"
#include "driver/xen/build.h"

#define E820_ENTRIES_MAX 4

typedef struct Build {
        Xen *xen;
        const XenIdentity *who;
        struct xc_dom_image *image;
        char *kernel, *initrd; /* of a guest of type hvm: its loader and its BIOS */
        AcpiTables acpi;
        struct e820entry map[E820_ENTRIES_MAX];
        XenRings rings;
} Build;

/* build-hvm.c: in this order. */

/* Before any memory is populated: parameters of the machine. */
int build_hvm_prepare(Build *b, Error *e);
/* The firmware in the kernel's place: hvmloader of the running release of Xen, and SeaBIOS, which that one starts. */
int build_hvm_load(Build *b, Error *e);
/* What the firmware is to know, after the image is there. */
int build_hvm_tell(Build *b, Error *e);
