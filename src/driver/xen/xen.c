/* The driver for Xen: what it can do, and its table. A module of its own, since it is linked
 * with libraries that fit one release of Xen; driver/xen/loader.c loads it. */
#include <errno.h>
#include <stdlib.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "driver/boot.h"
#include "driver/xen/acpi.h"
#include "driver/xen/facts.h"
#include "driver/xen/loader.h"
#include "driver/xen/model-args.h"
#include "driver/xen/xen-internal.h"

#define HVM_MEMORY_MIN (32ULL << 20) /* hvmloader and the BIOS have their places below that */

/* ---- can it run here ---- */

static int check_stub(const DriverHost *host, const DomainSpec *spec, Error *e) {
        AUTO(fd_drop) int kernel = -1;
        AUTO(fd_drop) int initrd = -1;

        for (size_t i = 0; i < spec->n_disks; i++)
                if (spec->disks[i].format != DISK_RAW)
                        return error_set(e, ERROR_NOT_SUPPORTED,
                                         "A guest with a stub domain has raw disks only, not %s",
                                         disk_format_name(spec->disks[i].format));
        return stub_open_image(host, &kernel, &initrd, e);
}

static int check_hvm(const DriverHost *host, const DomainSpec *spec, Error *e) {
        AUTO(string_drop) char *program = NULL;

        if (spec->bootloader)
                return error_set(e, ERROR_NOT_SUPPORTED,
                                 "Xen guests of type hvm have a BIOS to boot their disk: use type pvh or pv with a "
                                 "boot loader");
        if (spec->firmware == FIRMWARE_UEFI)
                return error_set(e, ERROR_NOT_SUPPORTED,
                                 "Xen guests of type hvm have a BIOS and no UEFI: use hypervisor kvm or qemu for it");
        if (spec->memory < HVM_MEMORY_MIN)
                return error_set(e, ERROR_INVALID_INPUT, "A Xen guest of type hvm needs at least %lluM of memory",
                                 HVM_MEMORY_MIN >> 20);
        for (size_t i = MODEL_DISKS_MAX; i < spec->n_disks; i++)
                if (!model_offers_pv(spec))
                        return error_set(e, ERROR_NOT_SUPPORTED,
                                         "A Xen guest of type hvm has at most %d disks when one of them is not raw",
                                         MODEL_DISKS_MAX);
        return spec->stub_domain ? check_stub(host, spec, e) : model_find_program(host, &program, e);
}

static int xen_check(const DriverHost *host, const DomainSpec *spec, Error *e) {
        AUTO(string_drop) char *program = NULL;

        if (!string_equal(spec->arch, "x86_64"))
                return error_set(e, ERROR_NOT_SUPPORTED, "Xen runs guests of architecture x86_64 only");
        if (spec->vcpus > ACPI_VCPUS_MAX)
                return error_set(e, ERROR_NOT_SUPPORTED, "A Xen guest has at most %d processors", ACPI_VCPUS_MAX);
        if (spec->type == MACHINE_HVM)
                return check_hvm(host, spec, e);
        if (!spec->kernel && !spec->bootloader)
                return error_set(e, ERROR_NOT_SUPPORTED,
                                 "Xen guests of type pv and pvh boot from a kernel: give one, or a bootloader");
        if (spec->firmware != FIRMWARE_DEFAULT)
                return error_set(e, ERROR_NOT_SUPPORTED, "Xen guests of type pv and pvh have no firmware");
        if (model_wanted(spec->type, spec)) {
                int r = model_find_program(host, &program, e);
                if (r < 0)
                        return r;
        }
        return boot_check(host, spec, e);
}

/* ---- after a crash ---- */

/* Whether there is something only Xen and its store could say, which need not answer at once. Adoption asks them, and
 * removing nothing does no harm. */
static bool xen_present(UNUSED const DriverHost *host, UNUSED const Domain *d) {
        return true;
}

const Driver XEN_MODULE_SYMBOL = {
        .name = "xen",
        .attaches_nics = true,
        .probe = xen_facts_probe,
        .describe = xen_facts_describe,
        .check = xen_check,
        .new = xen_guest_new,
        .free = xen_guest_free,
        .start = xen_guest_start,
        .present = xen_present,
        .adopt = xen_guest_adopt,
        .stop = xen_guest_stop,
        .reset = xen_guest_reset,
        .pause = xen_guest_pause,
        .resume = xen_guest_resume,
        .shutdown = xen_guest_shutdown,
        .screenshot = xen_guest_screenshot,
        .open_vnc = xen_guest_open_vnc,
};
