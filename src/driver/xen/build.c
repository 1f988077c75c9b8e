/* The steps are those of Xen's interface, in the order that it demands:
 *
 *   create --> processors, limits, clock, CPUID --> event channels --> image parsed --> memory populated
 *          --> (PVH: ACPI; PVH, HVM: memory map) --> image copied in --> rings granted
 *
 * A PVH guest is an HVM domain without devices: its kernel is entered directly with a start-info page, its rings are in
 * special pages, its memory has a map. A PV guest is given page tables, and its rings are found through them.
 *
 * What a guest with devices needs beyond that is in build-hvm.c.
 *
 * The time-stamp counter is always the processor's own: what else Xen offers is for guests that move between hosts. */
#include "driver/xen/build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xen/hvm/params.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "driver/boot.h"
#include "driver/xen/build-internal.h"

#define DOM0             0
#define SLACK_KILOBYTES  1024 /* beyond what the guest is given, for the rings and other special pages */
#define EVENT_PORTS_MAX  1023
#define TSC_NATIVE       2
#define TIMER_NO_DELAY   1        /* missed ticks are not made up for */
#define VGA_HOLE_PAGES   0x20     /* from 0xa0000 to 0xc0000 */
#define CONVENTIONAL_END 0x100000 /* of the memory below which hvmloader makes the map */

static bool is_pv(const XenIdentity *who) {
        return who->type == MACHINE_PV;
}

static bool is_hvm(const XenIdentity *who) {
        return who->type == MACHINE_HVM;
}

/* Xen's own bookkeeping of a contained guest, in bytes: a megabyte for each processor, and two pages for each megabyte.
 */
static uint64_t paging_pool(const DomainSpec *spec) {
        return (256ULL * spec->vcpus + 2 * (spec->memory >> 20)) << XC_PAGE_SHIFT;
}

/* Better told here than by a library half way. What else is going on may still make it untrue. */
static int check_free_memory(Xen *x, const DomainSpec *spec, Error *e) {
        uint64_t pool = paging_pool(spec);
        xc_physinfo_t info = { 0 };
        char wanted[SIZE_TEXT_MAX], available[SIZE_TEXT_MAX];

        if (xc_physinfo(x->xc, &info) != 0)
                return xen_fail(x, e, "Failed to ask Xen for its memory");
        uint64_t free_bytes = info.free_pages << XC_PAGE_SHIFT;
        if (free_bytes >= spec->memory + pool)
                return 0;
        return error_set(e, ERROR_HYPERVISOR_FAILED, "Xen has only %s of memory free, and the domain needs %s",
                         size_format(free_bytes, available), size_format(spec->memory + pool, wanted));
}

int build_create(Xen *x, const Domain *d, MachineType type, uint32_t *ret_id, Error *e) {
        struct xen_domctl_createdomain config = {
                .max_vcpus = d->spec.vcpus,
                .max_evtchn_port = EVENT_PORTS_MAX,
                .max_grant_frames = -1, /* Xen's default */
                .max_maptrack_frames = -1,
                .grant_opts = XEN_DOMCTL_GRANT_version(2),
        };
        uint32_t id = 0; /* any free one */

        int r = check_free_memory(x, &d->spec, e);
        if (r < 0)
                return r;
        memcpy(config.handle, d->uuid, sizeof config.handle);
        if (type != MACHINE_PV) {
                config.flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap | XEN_DOMCTL_CDF_oos_off;
                config.arch.emulation_flags =
                        type == MACHINE_HVM ? XEN_X86_EMU_ALL & ~XEN_X86_EMU_VPCI : XEN_X86_EMU_LAPIC;
        }
        if (xc_domain_create(x->xc, &id, &config) != 0)
                return xen_fail(x, e, "Failed to create the domain in Xen");
        *ret_id = id;
        return 0;
}

/* ---- processors, limits, event channels ---- */

/* Before any of it is populated. */
static int prepare_memory(Build *b) {
        const DomainSpec *spec = &b->who->domain->spec;
        xc_interface *xc = b->xen->xc;
        uint32_t id = b->who->id;

        if (is_pv(b->who))
                return xc_domain_set_memmap_limit(xc, id, spec->memory >> 10);
        int r = xc_hvm_param_set(xc, id, HVM_PARAM_TIMER_MODE, TIMER_NO_DELAY);
        return r != 0 ? r : xc_set_paging_mempool_size(xc, id, paging_pool(spec));
}

static int set_limits(Build *b, Error *e) {
        const DomainSpec *spec = &b->who->domain->spec;
        uint64_t kilobytes = spec->memory >> 10;
        uint32_t id = b->who->id;
        xc_interface *xc = b->xen->xc;

        if (xc_domain_max_vcpus(xc, id, spec->vcpus) != 0)
                return xen_fail(b->xen, e, "Failed to make the guest's processors");
        if (xc_domain_setmaxmem(xc, id, kilobytes + SLACK_KILOBYTES) != 0)
                return xen_fail(b->xen, e, "Failed to limit the guest's memory");
        if (prepare_memory(b) != 0)
                return xen_fail(b->xen, e, "Failed to prepare the guest's memory");
        if (is_hvm(b->who) && build_hvm_prepare(b, e) < 0)
                return -EIO;
        if (xc_domain_set_tsc_info(xc, id, TSC_NATIVE, 0, 0, 0) != 0)
                return xen_fail(b->xen, e, "Failed to set the guest's clock");
        int r = xc_cpuid_apply_policy(xc, id, false, NULL, 0, true, false, false, NULL, NULL);
        if (r < 0) {
                errno = -r;
                return xen_fail(b->xen, e, "Failed to choose the features of the guest's processors");
        }
        return 0;
}

static int make_channels(Build *b, Error *e) {
        int store = xc_evtchn_alloc_unbound(b->xen->xc, b->who->id, DOM0);
        int console = store < 0 ? -1 : xc_evtchn_alloc_unbound(b->xen->xc, b->who->id, DOM0);

        if (console < 0)
                return xen_fail(b->xen, e, "Failed to make the guest's event channels");
        b->rings.store_port = (uint32_t)store;
        b->rings.console_port = (uint32_t)console;
        return 0;
}

/* ---- the image ---- */

/* A copy, since the file is the caller's: it may change, or shrink under a mapping. It is not too large, unless it has
 * grown since the daemon measured it. */
static int read_image(int fd, size_t max, const char *what, char **ret, size_t *ret_length, Error *e) {
        if (lseek(fd, 0, SEEK_SET) < 0)
                return error_set_errno(e, errno, "Failed to read the %s", what);
        int r = fd_read_all(fd, max, ret, ret_length);
        return r < 0 ? error_set_errno(e, r, "Failed to read the %s", what) : 0;
}

static int load_image(Build *b, const GuestFiles *files, Error *e) {
        size_t kernel_size = 0, initrd_size = 0, max = boot_copy_max(&b->who->domain->spec);

        if (is_hvm(b->who))
                return build_hvm_load(b, e);
        int r = read_image(files->kernel_fd, max, "kernel", &b->kernel, &kernel_size, e);
        if (r >= 0 && files->initrd_fd >= 0)
                r = read_image(files->initrd_fd, max - kernel_size, "initrd", &b->initrd, &initrd_size, e);
        if (r < 0)
                return r;
        if (xc_dom_kernel_max_size(b->image, max) != 0 || /* of one that is compressed */
            xc_dom_kernel_mem(b->image, b->kernel, kernel_size) != 0)
                return xen_fail(b->xen, e, "Failed to load the kernel");
        if (b->initrd && xc_dom_module_mem(b->image, b->initrd, initrd_size, NULL) != 0)
                return xen_fail(b->xen, e, "Failed to load the initrd");
        return 0;
}

/* The memory of a screen is its emulator's to get. */
static uint64_t memory_to_populate(const XenIdentity *who) {
        return who->domain->spec.memory - entries_video_memory(who);
}

/* Where the memory of a contained guest is: below the hole for devices, the rest above 4 GiB. */
static void lay_out_memory(Build *b) {
        struct xc_dom_image *image = b->image;
        const uint64_t memory = memory_to_populate(b->who), four = 1ULL << 32;
        const uint64_t hole = is_hvm(b->who) ? HVM_BELOW_4G_MMIO_START : ACPI_ADDRESS;

        image->target_pages = memory >> XC_PAGE_SHIFT;
        image->mmio_size = four - hole;
        image->mmio_start = hole;
        image->lowmem_end = memory > hole ? hole : memory;
        image->highmem_end = memory > hole ? four + memory - hole : 0;
        image->device_model = is_hvm(b->who);
        image->vga_hole_size = is_hvm(b->who) ? VGA_HOLE_PAGES : 0;
}

static int set_memory_map(Build *b, Error *e) {
        const uint64_t special = X86_HVM_END_SPECIAL_REGION - X86_HVM_NR_SPECIAL_PAGES;
        const uint64_t start = is_hvm(b->who) ? CONVENTIONAL_END : 0;
        struct xc_dom_image *image = b->image;
        unsigned n = 0;

        b->map[n++] = (struct e820entry){ start, image->lowmem_end - start, E820_RAM };
        if (!is_hvm(b->who)) {
                b->map[n++] = (struct e820entry){ special << XC_PAGE_SHIFT,
                                                  (uint64_t)X86_HVM_NR_SPECIAL_PAGES << XC_PAGE_SHIFT, E820_RESERVED };
                b->map[n++] = (struct e820entry){ ACPI_ADDRESS, 2ULL << XC_PAGE_SHIFT, E820_ACPI };
        }
        if (image->highmem_end)
                b->map[n++] = (struct e820entry){ 1ULL << 32, image->highmem_end - (1ULL << 32), E820_RAM };
        if (xc_domain_set_memory_map(b->xen->xc, b->who->id, b->map, n) != 0)
                return xen_fail(b->xen, e, "Failed to set the guest's memory map");
        image->e820 = b->map;
        image->e820_entries = n;
        return 0;
}

/* The first module has to be the root pointer. */
static int add_acpi(Build *b, Error *e) {
        struct xc_hvm_firmware_module *modules = b->image->acpi_modules;
        int r = acpi_tables_make(&b->acpi, b->who->domain->spec.vcpus);

        if (r < 0)
                return error_set(e, ERROR_NOT_SUPPORTED, "A Xen guest has at most %d processors", ACPI_VCPUS_MAX);
        modules[0] = (struct xc_hvm_firmware_module){ .data = b->acpi.root,
                                                      .length = sizeof b->acpi.root,
                                                      .guest_addr_out = ACPI_ADDRESS + XC_PAGE_SIZE };
        modules[1] = (struct xc_hvm_firmware_module){ .data = b->acpi.tables,
                                                      .length = sizeof b->acpi.tables,
                                                      .guest_addr_out = ACPI_ADDRESS };
        return 0;
}

static int populate(Build *b, Error *e) {
        struct xc_dom_image *image = b->image;
        unsigned megabytes = (unsigned)(memory_to_populate(b->who) >> 20);
        int r = 0;

        if (!is_pv(b->who))
                lay_out_memory(b);
        if (xc_dom_boot_xen_init(image, b->xen->xc, b->who->id) != 0 || xc_dom_parse_image(image) != 0)
                return xen_fail(b->xen, e, "Failed to understand the kernel");
        if (xc_dom_mem_init(image, megabytes) != 0 || xc_dom_boot_mem_init(image) != 0)
                return xen_fail(b->xen, e, "Failed to get the guest's memory");
        if (!is_pv(b->who) && !is_hvm(b->who))
                r = add_acpi(b, e);
        return r >= 0 && !is_pv(b->who) ? set_memory_map(b, e) : r;
}

static int finish(Build *b, Error *e) {
        struct xc_dom_image *image = b->image;

        if (xc_dom_build_image(image) != 0 || xc_dom_boot_image(image) != 0)
                return xen_fail(b->xen, e, "Failed to put the kernel into the guest");
        if (xc_dom_gnttab_init(image) != 0)
                return xen_fail(b->xen, e, "Failed to share the guest's rings");
        b->rings.store_frame = is_pv(b->who) ? xc_dom_p2m(image, image->xenstore_pfn) : image->xenstore_pfn;
        b->rings.console_frame = is_pv(b->who) ? xc_dom_p2m(image, image->console_pfn) : image->console_pfn;
        return is_hvm(b->who) ? build_hvm_tell(b, e) : 0;
}

static int build_image(Build *b, const GuestFiles *files, Error *e) {
        const DomainSpec *spec = &b->who->domain->spec;

        xc_dom_loginit(b->xen->xc);
        b->image = xc_dom_allocate(
                b->xen->xc, is_hvm(b->who) ? NULL : string_or(files->cmdline ? files->cmdline : spec->cmdline, ""),
                NULL);
        if (!b->image)
                return xen_fail(b->xen, e, "Failed to begin the guest's image");
        b->image->container_type = is_pv(b->who) ? XC_DOM_PV_CONTAINER : XC_DOM_HVM_CONTAINER;
        b->image->console_evtchn = b->rings.console_port;
        b->image->xenstore_evtchn = b->rings.store_port;
        b->image->console_domid = b->image->xenstore_domid = DOM0;
        b->image->max_vcpus = spec->vcpus;

        int r = load_image(b, files, e);
        if (r >= 0)
                r = populate(b, e);
        return r < 0 ? r : finish(b, e);
}

/* Its images stay until the worker's end: to give back a hundred megabytes takes a tenth of a second, for which the
 * worker's answer need not wait. */
static Build build;

int build_fill(Xen *x, const XenIdentity *who, const GuestFiles *files, XenRings *ret, Error *e) {
        build = (Build){ .xen = x, .who = who };

        int r = set_limits(&build, e);
        if (r >= 0)
                r = make_channels(&build, e);
        if (r >= 0)
                r = build_image(&build, files, e);
        if (r >= 0)
                *ret = build.rings;
        return r;
}
