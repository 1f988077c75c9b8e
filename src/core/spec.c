/* What a domain is to be: the rules of each value, createDomain's fixed arguments, and what only the whole can tell.
 *
 * A value is refused here when no host could take it. Whether this host can (the files, the network, the emulator) is
 * found out where it is used, with the caller's rights. Paths may hold any byte: they are only ever opened, and what
 * reaches an emulator's command line is a descriptor's number. Everything else that does reach it (cmdline, arch) is
 * checked byte by byte. */
#include "core/spec.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/string-util.h"
#include "core/names.h"
#include "core/spec-internal.h"

#define MEMORY_UNIT    (1ULL << 20)
#define ARCH_MAX       16
#define HYPERVISOR_MAX 16

static const char *const disk_format_names[DISK_FORMAT_COUNT] = { [DISK_RAW] = "raw", [DISK_QCOW2] = "qcow2" };
static const char *const end_action_names[END_ACTION_COUNT] = { [END_DESTROY] = "destroy", [END_RESTART] = "restart" };
static const char *const firmware_names[FIRMWARE_COUNT] = {
        [FIRMWARE_DEFAULT] = "default",
        [FIRMWARE_BIOS] = "bios",
        [FIRMWARE_UEFI] = "uefi",
};

static const char *const machine_type_names[MACHINE_TYPE_COUNT] = {
        [MACHINE_DEFAULT] = "default",
        [MACHINE_PV] = "pv",
        [MACHINE_PVH] = "pvh",
        [MACHINE_HVM] = "hvm",
};

const char *disk_format_name(DiskFormat f) {
        return disk_format_names[f];
}

DiskFormat disk_format_from_name(const char *name) {
        return string_find(disk_format_names, DISK_FORMAT_COUNT, name);
}

const char *end_action_name(EndAction a) {
        return end_action_names[a];
}

EndAction end_action_from_name(const char *name) {
        return string_find(end_action_names, END_ACTION_COUNT, name);
}

const char *firmware_name(Firmware f) {
        return firmware_names[f];
}

Firmware firmware_from_name(const char *name) {
        return string_find(firmware_names, FIRMWARE_COUNT, name);
}

const char *machine_type_name(MachineType t) {
        return machine_type_names[t];
}

MachineType machine_type_from_name(const char *name) {
        return string_find(machine_type_names, MACHINE_TYPE_COUNT, name);
}

void domain_spec_clear(DomainSpec *s) {
        for (size_t i = 0; i < s->n_disks; i++)
                free(s->disks[i].path);
        for (size_t i = 0; i < s->n_nics; i++)
                free(s->nics[i].network);
        free(s->disks);
        free(s->nics);
        free(s->hypervisor);
        free(s->arch);
        free(s->kernel);
        free(s->initrd);
        free(s->cmdline);
        free(s->bootloader);
        free(s->vnc_password);
        *s = DOMAIN_SPEC_INIT;
}

int spec_check_path(const char *what, const char *path, Error *e) {
        if (path[0] != '/')
                return error_set_value(e, ERROR_INVALID_INPUT, what, path, "an absolute path is wanted");
        if (strlen(path) >= PATH_MAX)
                return error_set_value(e, ERROR_INVALID_INPUT, what, path, "the path is too long");
        return 0;
}

/* It ends up on the emulator's command line, though as a word of its own. A newline or an escape in it would also reach
 * the guest's console and our log. */
int spec_check_cmdline(const char *cmdline, Error *e) {
        if (strlen(cmdline) > CMDLINE_MAX)
                return error_set(e, ERROR_INVALID_INPUT, "cmdline: %zu bytes are more than the %d that a kernel takes",
                                 strlen(cmdline), CMDLINE_MAX);
        for (const char *p = cmdline; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        return error_set_value(e, ERROR_INVALID_INPUT, "cmdline", cmdline,
                                               "control characters are not allowed");
        return 0;
}

int spec_check_bootloader(const char *name, Error *e) {
        if (boot_loader_name_check(name) < 0)
                return error_set_value(e, ERROR_INVALID_INPUT, "bootloader", name,
                                       "the name of a boot loader is wanted, such as pygrub");
        return 0;
}

int spec_check_vcpus(uint64_t vcpus, Error *e) {
        if (vcpus < 1 || vcpus > VCPUS_MAX)
                return error_set(e, ERROR_INVALID_INPUT, "vcpus: a number from 1 to %d is wanted", VCPUS_MAX);
        return 0;
}

/* The password itself is kept out of the error, which may be logged. */
int spec_check_vnc_password(const char *password, Error *e) {
        size_t length = strlen(password);

        for (const char *p = password; *p; p++)
                if (*p < 0x20 || *p > 0x7e)
                        length = 0;
        if (length < 1 || length > VNC_PASSWORD_MAX)
                return error_set(
                        e, ERROR_INVALID_INPUT,
                        "vnc_password: 1 to %d printable ASCII characters are wanted (more do not count in VNC)",
                        VNC_PASSWORD_MAX);
        return 0;
}

int spec_check_memory(uint64_t bytes, const char *shown, Error *e) {
        if (bytes < MEMORY_UNIT || bytes % MEMORY_UNIT != 0 || bytes > INT64_MAX)
                return error_set_value(e, ERROR_INVALID_INPUT, "memory", shown,
                                       "it must be a multiple of 1 MiB, and at least that");
        return 0;
}

static int parse_memory(const char *text, uint64_t *ret, Error *e) {
        uint64_t bytes;
        int r = size_parse(text, &bytes);

        if (r == -ERANGE)
                return error_set_value(e, ERROR_INVALID_INPUT, "memory", text,
                                       "it is zero, or too much for any machine");
        if (r < 0)
                return error_set_value(e, ERROR_INVALID_INPUT, "memory", text,
                                       "a number with a binary suffix is wanted, such as 512M, 1G or 256MiB");
        r = spec_check_memory(bytes, text, e);
        if (r < 0)
                return r;
        *ret = bytes;
        return 0;
}

int spec_check_hypervisor(const char *name, Error *e) {
        size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");

        if (name[length] || length > HYPERVISOR_MAX)
                return error_set_value(e, ERROR_INVALID_INPUT, "hypervisor", name, "no hypervisor has such a name");
        return 0;
}

int spec_check_network(const char *name, Error *e) {
        unsigned number;

        if (object_name_parse(name, &number) < 0)
                return error_set_value(e, ERROR_NETWORK_NOT_FOUND, "network", name, "there is none of that name");
        return 0;
}

/* Debian's and the kernel's names for what QEMU calls otherwise. */
static const struct {
        const char *alias, *name;
} arch_aliases[] = {
        { "amd64", "x86_64" },  { "arm64", "aarch64" }, { "i486", "i386" },  { "i586", "i386" },
        { "i686", "i386" },     { "armhf", "arm" },     { "armv7l", "arm" }, { "armv8l", "arm" },
        { "ppc64el", "ppc64" }, { "ppc64le", "ppc64" },
};

const char *spec_canonical_arch(const char *arch) {
        size_t length = strspn(arch, "abcdefghijklmnopqrstuvwxyz0123456789_");

        if (arch[length] || length > ARCH_MAX)
                return NULL;
        for (size_t i = 0; i < ARRAY_LEN(arch_aliases); i++)
                if (strcmp(arch, arch_aliases[i].alias) == 0)
                        return arch_aliases[i].name;
        return arch;
}

const char *host_arch(void) {
        static struct utsname host;

        if (!host.machine[0])
                (void)uname(&host);
        const char *arch = spec_canonical_arch(host.machine);
        return string_or(arch, "unknown");
}

int spec_add_disk(DomainSpec *s, const char *path, DiskFormat format, bool read_only, Error *e) {
        int r = spec_check_path("disk", path, e);

        if (r < 0)
                return r;
        if (s->n_disks >= DISKS_PER_DOMAIN_MAX)
                return error_set(e, ERROR_INVALID_INPUT, "disks: a domain may have %d at the most",
                                 DISKS_PER_DOMAIN_MAX);
        DiskSpec *disks = reallocarray(s->disks, s->n_disks + 1, sizeof *disks);
        if (!disks)
                return error_set_errno(e, ENOMEM, "Failed to keep the list of disks");
        s->disks = disks;
        char *copy = strdup(path);
        if (!copy)
                return error_set_errno(e, ENOMEM, "Failed to keep the list of disks");
        disks[s->n_disks++] = (DiskSpec){ .path = copy, .format = format, .read_only = read_only };
        return 0;
}

static int parse_mac(const char *text, Mac *ret, Error *e) {
        if (!*text) {
                int r = mac_random(ret);
                return r < 0 ? error_set_errno(e, r, "Failed to choose a MAC address") : 0;
        }
        if (mac_parse(text, ret) < 0)
                return error_set_value(e, ERROR_INVALID_INPUT, "MAC address", text,
                                       "a unicast one is wanted, such as 00:16:3e:01:02:03");
        return 0;
}

int spec_add_nic(DomainSpec *s, const char *network, const char *mac_text, Error *e) {
        Mac mac;
        int r = spec_check_network(network, e);

        if (r == 0)
                r = parse_mac(mac_text, &mac, e);
        if (r < 0)
                return r;
        if (s->n_nics >= NICS_PER_DOMAIN_MAX)
                return error_set(e, ERROR_INVALID_INPUT, "nics: a domain may have %d interfaces at the most",
                                 NICS_PER_DOMAIN_MAX);
        NicSpec *nics = reallocarray(s->nics, s->n_nics + 1, sizeof *nics);
        if (!nics)
                return error_set_errno(e, ENOMEM, "Failed to keep the list of interfaces");
        s->nics = nics;
        char *copy = strdup(network);
        if (!copy)
                return error_set_errno(e, ENOMEM, "Failed to keep the list of interfaces");
        nics[s->n_nics++] = (NicSpec){ .network = copy, .mac = mac };
        return 0;
}

static int set_arch(DomainSpec *s, const char *arch, Error *e) {
        const char *name = *arch ? spec_canonical_arch(arch) : host_arch();

        if (!name)
                return error_set_value(e, ERROR_INVALID_INPUT, "arch", arch, "no architecture has such a name");
        int r = string_replace(&s->arch, name);
        return r < 0 ? error_set_errno(e, r, "Failed to keep the architecture") : 0;
}

static int set_hypervisor(DomainSpec *s, const char *hypervisor, Error *e) {
        int r = spec_check_hypervisor(hypervisor, e);

        if (r < 0)
                return r;
        r = string_replace(&s->hypervisor, hypervisor);
        return r < 0 ? error_set_errno(e, r, "Failed to keep the hypervisor's name") : 0;
}

int domain_spec_set(DomainSpec *s, const char *memory, char *const *disks, const char *network, const char *mac,
                    const char *hypervisor, const char *arch, Error *e) {
        int r = parse_memory(memory, &s->memory, e);

        for (; r == 0 && disks && *disks; disks++)
                r = spec_add_disk(s, *disks, DISK_RAW, false, e);
        if (r == 0)
                r = spec_add_nic(s, network, mac, e);
        if (r == 0)
                r = set_hypervisor(s, hypervisor, e);
        if (r == 0)
                r = set_arch(s, arch, e);
        return r;
}

static int check_macs(const DomainSpec *s, Error *e) {
        char text[MAC_TEXT_MAX];

        for (size_t i = 0; i < s->n_nics; i++)
                for (size_t j = 0; j < i; j++)
                        if (mac_equal(&s->nics[i].mac, &s->nics[j].mac) &&
                            string_equal(s->nics[i].network, s->nics[j].network))
                                return error_set(e, ERROR_INVALID_INPUT, "MAC address %s is given twice on %s",
                                                 mac_format(&s->nics[i].mac, text), s->nics[i].network);
        return 0;
}

static int check_bootloader(const DomainSpec *s, Error *e) {
        if (!s->bootloader)
                return 0;
        if (s->kernel || s->initrd)
                return error_set(e, ERROR_INVALID_INPUT, "bootloader with a kernel: it is there to find one");
        if (s->firmware != FIRMWARE_DEFAULT)
                return error_set(e, ERROR_INVALID_INPUT,
                                 "firmware with a bootloader: the kernel that it finds is started without one");
        if (s->n_disks == 0)
                return error_set(e, ERROR_INVALID_INPUT,
                                 "bootloader without a disk: it looks for a kernel in the first");
        if (s->disks[0].format != DISK_RAW)
                return error_set(e, ERROR_NOT_SUPPORTED,
                                 "bootloader: the first disk is of format %s, but boot loaders read raw images only "
                                 "(\"qemu-img convert -O raw\" makes one)",
                                 disk_format_name(s->disks[0].format));
        return 0;
}

int domain_spec_check(const DomainSpec *s, const Limits *limits, Error *e) {
        int r = check_bootloader(s, e);
        if (r < 0)
                return r;
        if (!s->kernel != !s->initrd)
                return error_set(e, ERROR_INVALID_INPUT, "%s without %s: they come together or not at all",
                                 s->kernel ? "kernel" : "initrd", s->kernel ? "initrd" : "kernel");
        if (s->cmdline && !s->kernel && !s->bootloader)
                return error_set(e, ERROR_INVALID_INPUT,
                                 "cmdline without a kernel or a bootloader: nothing would read it");
        if (s->firmware != FIRMWARE_DEFAULT && s->kernel)
                return error_set(e, ERROR_INVALID_INPUT, "firmware with a kernel: the kernel is started without one");
        if (s->stub_domain && s->type != MACHINE_HVM)
                return error_set(e, ERROR_INVALID_INPUT,
                                 "stubdomain without type hvm: only such a guest has a device model");
        if (s->n_disks == 0 && !s->kernel)
                return error_set(e, ERROR_INVALID_INPUT,
                                 "nothing to start from: give a disk, or a kernel and an initrd");
        if (limits && s->vcpus > limits->vcpus_per_domain)
                return error_set(e, ERROR_QUOTA_EXCEEDED, "vcpus: %u are more than the %llu that one domain may have",
                                 s->vcpus, (unsigned long long)limits->vcpus_per_domain);
        r = spec_check_vcpus(s->vcpus, e);
        return r < 0 ? r : check_macs(s, e);
}
