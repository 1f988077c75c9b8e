/* A guest of type hvm finds a PC: its first code is hvmloader, which sets the machine up by what is in one page
 * (hvm_info_table) and in the store (entries.c), and starts the BIOS that it was given. The devices are a device
 * model's (device-model.c), which also populates the memory of the screen. */
#include "driver/xen/build-internal.h" /* xenctrl.h comes first */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xenforeignmemory.h>

#include <xen/hvm/hvm_info_table.h>
#include <xen/hvm/params.h>

#include "base/fd.h"

#define BIOS_PATH    "/usr/share/seabios/bios-256k.bin"
#define BIOS_PACKAGE "seabios"
#define FIRMWARE_MAX (16u << 20) /* bytes of a file; real ones have less than one million */
#define ALIGN_TICKS  1           /* timers of all processors tick together */

int build_hvm_prepare(Build *b, Error *e) {
        uint32_t id = b->who->id;
        xc_interface *xc = b->xen->xc;

        if (xc_hvm_param_set(xc, id, HVM_PARAM_HPET_ENABLED, 1) != 0 ||
            xc_hvm_param_set(xc, id, HVM_PARAM_VPT_ALIGN, ALIGN_TICKS) != 0)
                return xen_fail(b->xen, e, "Failed to set up the guest's timers");
        return 0;
}

/* ---- firmware ---- */

int build_hvm_open_loader(Xen *x, char *path, size_t size) {
        int version = xc_version(x->xc, XENVER_version, NULL);

        if (version < 0)
                return -1;
        snprintf(path, size, "/usr/lib/xen-%d.%d/boot/hvmloader", version >> 16, version & 0xffff);
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        return fd >= 0 || errno != ENOENT ? fd : open("/usr/lib/xen/boot/hvmloader", O_RDONLY | O_CLOEXEC | O_NOCTTY);
}

static int read_firmware(int fd, const char *path, const char *package, char **ret, size_t *ret_length, Error *e) {
        int r = fd < 0 ? -errno : fd_read_all(fd, FIRMWARE_MAX, ret, ret_length);

        if (r == -ENOENT)
                return error_set(e, ERROR_NOT_SUPPORTED, "There is no %s: install package %s", path, package);
        return r < 0 ? error_set_errno(e, r, "Failed to read %s", path) : 0;
}

int build_hvm_load(Build *b, Error *e) {
        struct xc_hvm_firmware_module *bios = &b->image->system_firmware_module;
        char path[64] = "hvmloader";
        size_t loader_size = 0, bios_size = 0;
        AUTO(fd_drop) int loader_fd = build_hvm_open_loader(b->xen, path, sizeof path);

        int r = read_firmware(loader_fd, path, "xen-utils", &b->kernel, &loader_size, e);
        if (r < 0)
                return r;
        AUTO(fd_drop) int bios_fd = open(BIOS_PATH, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        r = read_firmware(bios_fd, BIOS_PATH, BIOS_PACKAGE, &b->initrd, &bios_size, e);
        if (r < 0)
                return r;
        if (xc_dom_kernel_mem(b->image, b->kernel, loader_size) != 0)
                return xen_fail(b->xen, e, "Failed to load hvmloader");
        bios->data = (uint8_t *)b->initrd;
        bios->length = (uint32_t)bios_size;
        return 0;
}

/* ---- what it is told ---- */

/* The page is the guest's, but the guest does not run yet. All of it, checksum included, adds up to 0. */
static void fill_table(struct hvm_info_table *table, unsigned vcpus) {
        const uint8_t *bytes = (const uint8_t *)table;
        uint8_t sum = 0;

        table->apic_mode = 1;
        table->nr_vcpus = vcpus;
        memset(table->vcpu_online, 0, sizeof table->vcpu_online);
        for (unsigned i = 0; i < vcpus; i++)
                table->vcpu_online[i / 8] |= (uint8_t)(1u << i % 8);
        table->checksum = 0;
        for (size_t i = 0; i < sizeof *table; i++)
                sum = (uint8_t)(sum + bytes[i]);
        table->checksum = (uint8_t)-sum;
}

int build_hvm_tell(Build *b, Error *e) {
        xenforeignmemory_handle *memory = xenforeignmemory_open(NULL, 0);
        const xen_pfn_t frame = HVM_INFO_PFN;
        int r = 0;

        uint8_t *page =
                !memory ? NULL : xenforeignmemory_map(memory, b->who->id, PROT_READ | PROT_WRITE, 1, &frame, NULL);
        if (page) {
                struct hvm_info_table *table = (struct hvm_info_table *)(page + HVM_INFO_OFFSET);
                if (table->length == sizeof *table)
                        fill_table(table, b->who->domain->spec.vcpus);
                else
                        r = error_set(e, ERROR_HYPERVISOR_FAILED, "libxenguest left no table for hvmloader");
                xenforeignmemory_unmap(memory, page, 1);
        } else
                r = error_set_errno(e, errno, "Failed to map the guest's memory");
        if (memory)
                xenforeignmemory_close(memory);
        return r;
}
