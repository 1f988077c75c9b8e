#include "driver/qemu/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/macros.h"
#include "base/string-util.h"

/* Where PS/2 does not exist a screen needs USB to be of use to a person. */
static const char *const usb_inputs[] = { "qemu-xhci,id=usb", "usb-kbd,bus=usb.0", "usb-tablet,bus=usb.0", NULL };
static const char *const no_inputs[] = { NULL };

/* Unused parts of the chipset are left out: each costs start time and is a surface for the guest to attack. */
#define Q35 "q35,usb=off,sata=off,smbus=off,vmport=off,hpet=off"

static const Machine machines[] = {
        {
                .arch = "x86_64",
                .program = "qemu-system-x86_64",
                .package = "qemu-system-x86",
                .type = Q35,
                .tcg_cpu = "max",
                .video = "VGA",
                .inputs = no_inputs,
                .bios = true,
                .uefi = { "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf" },
        },
        {
                .arch = "i386",
                .program = "qemu-system-i386",
                .package = "qemu-system-x86",
                .type = Q35,
                .tcg_cpu = "max",
                .video = "VGA",
                .inputs = no_inputs,
                .bios = true,
        },
        {
                .arch = "aarch64",
                .program = "qemu-system-aarch64",
                .package = "qemu-system-arm",
                .type = "virt,gic-version=3",
                .tcg_cpu = "cortex-a72", /* boots four times as fast as "max", which authenticates pointers */
                .video = "virtio-gpu-pci",
                .inputs = usb_inputs,
                .uefi = { "/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd", "qemu-efi-aarch64" },
        },
        {
                .arch = "arm",
                .program = "qemu-system-arm",
                .package = "qemu-system-arm",
                .type = "virt",
                .tcg_cpu = "max",
                .video = "virtio-gpu-pci",
                .inputs = usb_inputs,
        },
        {
                .arch = "riscv64",
                .program = "qemu-system-riscv64",
                .package = "qemu-system-misc",
                .type = "virt",
                .video = "virtio-gpu-pci",
                .inputs = usb_inputs,
        },
};

/* In this order: what Debian has in /usr/bin may be a script that picks the program out of /usr/libexec. */
static const char *const program_dirs[] = { "/usr/libexec", "/usr/bin" };

const Machine *machine_at(size_t index) {
        return index < ARRAY_LEN(machines) ? &machines[index] : NULL;
}

const Machine *machine_find(const char *arch) {
        for (size_t i = 0; i < ARRAY_LEN(machines); i++)
                if (string_equal(machines[i].arch, arch))
                        return &machines[i];
        return NULL;
}

int machine_program(const Machine *m, char **ret) {
        for (size_t i = 0; i < ARRAY_LEN(program_dirs); i++) {
                char *path = string_printf("%s/%s", program_dirs[i], m->program);
                if (!path)
                        return -ENOMEM;
                if (access(path, X_OK) == 0) {
                        *ret = path;
                        return 0;
                }
                free(path);
        }
        return -ENOENT;
}

Firmware machine_firmware(const Machine *m, const DomainSpec *spec) {
        if (spec->kernel || spec->bootloader)
                return FIRMWARE_DEFAULT;
        if (spec->firmware != FIRMWARE_DEFAULT)
                return spec->firmware;
        return m->bios ? FIRMWARE_BIOS : FIRMWARE_UEFI;
}

char *machine_list_installed(void) {
        AUTO(string_list_free) StringList names = NULL;

        for (size_t i = 0; i < ARRAY_LEN(machines); i++) {
                AUTO(string_drop) char *program = NULL;
                int r = machine_program(&machines[i], &program);
                if (r >= 0)
                        r = string_list_append(&names, machines[i].arch);
                if (r < 0 && r != -ENOENT)
                        return NULL;
        }
        return names ? string_list_join(names, ", ") : string_printf("none");
}

static int check_firmware(const Machine *m, Firmware firmware, Error *e) {
        if (firmware == FIRMWARE_BIOS && !m->bios)
                return error_set(e, ERROR_NOT_SUPPORTED, "There is no BIOS for architecture %s", m->arch);
        if (firmware != FIRMWARE_UEFI)
                return 0;
        if (!m->uefi.code)
                return error_set(e, ERROR_NOT_SUPPORTED,
                                 "There is no UEFI firmware for architecture %s: a kernel and an initrd are needed",
                                 m->arch);
        if (access(m->uefi.code, R_OK) < 0 || access(m->uefi.vars, R_OK) < 0)
                return error_set(e, ERROR_NOT_SUPPORTED,
                                 "The UEFI firmware for architecture %s (%s) is not installed: install package %s",
                                 m->arch, m->uefi.code, m->uefi.package);
        return 0;
}

int machine_check(const DomainSpec *spec, const Machine **ret, Error *e) {
        AUTO(string_drop) char *program = NULL;
        AUTO(string_drop) char *installed = NULL;
        AUTO(string_drop) char *shown = NULL;
        const Machine *m = machine_find(spec->arch);

        if (!m) {
                installed = machine_list_installed();
                shown = string_escape(spec->arch, 64);
                return error_set(e, ERROR_NOT_SUPPORTED, "Architecture \"%s\" is not supported; installed are: %s",
                                 string_or(shown, "?"), string_or(installed, "?"));
        }
        int r = machine_program(m, &program);
        if (r == -ENOENT) {
                installed = machine_list_installed();
                return error_set(
                        e, ERROR_NOT_SUPPORTED,
                        "The emulator for architecture %s is not installed: install package %s; installed are: %s",
                        m->arch, m->package, string_or(installed, "?"));
        }
        if (r < 0)
                return error_set_errno(e, r, "Failed to look for %s", m->program);
        r = check_firmware(m, machine_firmware(m, spec), e);
        if (r < 0)
                return r;
        *ret = m;
        return 0;
}
