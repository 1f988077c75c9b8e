/* The durable form of a DomainSpec: one JSON object, read back as strictly as what a caller sends, since a record that
 * is not exactly what was written belongs to another version or has been damaged, and nothing may be started from it.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"
#include "core/spec-internal.h"

static void json_drop(json_t **j) {
        json_decref(*j);
        *j = NULL;
}

/* jansson takes UTF-8 only. The bus lets nothing else through, but that is not this file's to rely on. */
static int pack_errno(const json_error_t *error) {
        return json_error_code(error) == json_error_invalid_utf8 ? -EINVAL : -ENOMEM;
}

/* Takes item, also on failure. */
static int append(json_t *array, json_t *item, const json_error_t *error) {
        if (!item)
                return pack_errno(error);
        return json_array_append_new(array, item) < 0 ? -ENOMEM : 0;
}

static int disks_to_json(const DomainSpec *s, json_t *array) {
        json_error_t error;

        for (size_t i = 0; i < s->n_disks; i++) {
                const DiskSpec *d = &s->disks[i];
                int r = append(array,
                               json_pack_ex(&error, 0, "{s:s, s:s, s:b}", "path", d->path, "format",
                                            disk_format_name(d->format), "read_only", (int)d->read_only),
                               &error);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int nics_to_json(const DomainSpec *s, json_t *array) {
        json_error_t error;
        char mac[MAC_TEXT_MAX];

        for (size_t i = 0; i < s->n_nics; i++) {
                const NicSpec *n = &s->nics[i];
                int r = append(
                        array,
                        json_pack_ex(&error, 0, "{s:s, s:s}", "network", n->network, "mac", mac_format(&n->mac, mac)),
                        &error);
                if (r < 0)
                        return r;
        }
        return 0;
}

int domain_spec_to_json(const DomainSpec *s, char **ret) {
        AUTO(json_drop) json_t *disks = json_array(), *nics = json_array(), *object = NULL;
        json_error_t error;

        if (!disks || !nics)
                return -ENOMEM;
        int r = disks_to_json(s, disks);
        if (r == 0)
                r = nics_to_json(s, nics);
        if (r < 0)
                return r;
        /* "s*" leaves the key out when there is no value. */
        object = json_pack_ex(
                &error, 0,
                "{s:I, s:I, s:O, s:O, s:s, s:s, s:s*, s:s*, s:s*, s:s, s:s, s:s, s:s*, s:b, s:s*, s:s*, s:b}", "memory",
                (json_int_t)s->memory, "vcpus", (json_int_t)s->vcpus, "disks", disks, "nics", nics, "hypervisor",
                string_or(s->hypervisor, ""), "arch", string_or(s->arch, ""), "kernel", s->kernel, "initrd", s->initrd,
                "cmdline", s->cmdline, "on_poweroff", end_action_name(s->on_poweroff), "on_reboot",
                end_action_name(s->on_reboot), "firmware", firmware_name(s->firmware), "type",
                s->type == MACHINE_DEFAULT ? NULL : machine_type_name(s->type), "paused", (int)s->paused,
                "vnc_password", s->vnc_password, "bootloader", s->bootloader, "stubdomain", (int)s->stub_domain);
        if (!object)
                return pack_errno(&error);
        char *text = json_dumps(object, JSON_COMPACT);
        if (!text)
                return -ENOMEM;
        *ret = text;
        return 0;
}

/* What json_unpack() lends until the object goes. */
typedef struct Borrowed {
        json_int_t memory, vcpus;
        json_t *disks, *nics;
        const char *hypervisor, *arch, *kernel, *initrd, *cmdline, *on_poweroff, *on_reboot, *firmware, *type,
                *vnc_password, *bootloader;
        int paused, stub_domain;
} Borrowed;

static int read_disks(const json_t *array, DomainSpec *s) {
        size_t i;
        json_t *item;

        json_array_foreach(array, i, item) {
                const char *path, *format_name;
                int read_only;
                if (json_unpack(item, "{s:s, s:s, s:b !}", "path", &path, "format", &format_name, "read_only",
                                &read_only) < 0)
                        return -EINVAL;
                DiskFormat format = disk_format_from_name(format_name);
                if (format == DISK_FORMAT_COUNT)
                        return -EINVAL;
                int r = spec_add_disk(s, path, format, read_only, NULL);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_nics(const json_t *array, DomainSpec *s) {
        size_t i;
        json_t *item;

        json_array_foreach(array, i, item) {
                const char *network, *mac;
                /* An empty address would be replaced by a random one. */
                if (json_unpack(item, "{s:s, s:s !}", "network", &network, "mac", &mac) < 0 || !*mac)
                        return -EINVAL;
                int r = spec_add_nic(s, network, mac, NULL);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_choices(const Borrowed *b, DomainSpec *s) {
        s->on_poweroff = end_action_from_name(b->on_poweroff);
        s->on_reboot = end_action_from_name(b->on_reboot);
        s->firmware = firmware_from_name(b->firmware);
        s->type = b->type ? machine_type_from_name(b->type) : MACHINE_DEFAULT;
        if (s->on_poweroff == END_ACTION_COUNT || s->on_reboot == END_ACTION_COUNT || s->firmware == FIRMWARE_COUNT ||
            s->type == MACHINE_TYPE_COUNT)
                return -EINVAL;
        if (b->memory < 0 || spec_check_memory((uint64_t)b->memory, "", NULL) < 0)
                return -EINVAL;
        if (b->vcpus < 0 || spec_check_vcpus((uint64_t)b->vcpus, NULL) < 0)
                return -EINVAL;
        s->memory = (uint64_t)b->memory;
        s->vcpus = (unsigned)b->vcpus;
        s->paused = b->paused;
        s->stub_domain = b->stub_domain;
        return 0;
}

static int check_strings(const Borrowed *b) {
        const char *arch = spec_canonical_arch(b->arch);

        if (!arch || !string_equal(arch, b->arch) || spec_check_hypervisor(b->hypervisor, NULL) < 0)
                return -EINVAL;
        if ((b->kernel && spec_check_path("kernel", b->kernel, NULL) < 0) ||
            (b->initrd && spec_check_path("initrd", b->initrd, NULL) < 0))
                return -EINVAL;
        if ((b->cmdline && spec_check_cmdline(b->cmdline, NULL) < 0) ||
            (b->vnc_password && spec_check_vnc_password(b->vnc_password, NULL) < 0) ||
            (b->bootloader && spec_check_bootloader(b->bootloader, NULL) < 0))
                return -EINVAL;
        return 0;
}

static int read_strings(const Borrowed *b, DomainSpec *s) {
        int r = check_strings(b);

        if (r < 0)
                return r;
        if (string_replace(&s->hypervisor, b->hypervisor) < 0 || string_replace(&s->arch, b->arch) < 0 ||
            string_replace(&s->kernel, b->kernel) < 0 || string_replace(&s->initrd, b->initrd) < 0 ||
            string_replace(&s->cmdline, b->cmdline) < 0 || string_replace(&s->vnc_password, b->vnc_password) < 0 ||
            string_replace(&s->bootloader, b->bootloader) < 0)
                return -ENOMEM;
        return 0;
}

static int borrow(json_t *object, Borrowed *b) {
        /* The "!" refuses keys that are not listed, the "?" marks those that may be missing. */
        int r = json_unpack(object,
                            "{s:I, s:I, s:o, s:o, s:s, s:s, s?s, s?s, s?s, s:s, s:s, s:s, s?s, s:b, s?s, s?s, s?b !}",
                            "memory", &b->memory, "vcpus", &b->vcpus, "disks", &b->disks, "nics", &b->nics,
                            "hypervisor", &b->hypervisor, "arch", &b->arch, "kernel", &b->kernel, "initrd", &b->initrd,
                            "cmdline", &b->cmdline, "on_poweroff", &b->on_poweroff, "on_reboot", &b->on_reboot,
                            "firmware", &b->firmware, "type", &b->type, "paused", &b->paused, "vnc_password",
                            &b->vnc_password, "bootloader", &b->bootloader, "stubdomain", &b->stub_domain);

        return r < 0 || !json_is_array(b->disks) || !json_is_array(b->nics) ? -EINVAL : 0;
}

int domain_spec_from_json(const char *json, DomainSpec *ret) {
        AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT;
        Borrowed b = { .memory = 0 };
        json_error_t error;
        AUTO(json_drop) json_t *object = json_loads(json, JSON_REJECT_DUPLICATES, &error);

        if (!object)
                return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EINVAL;
        int r = borrow(object, &b);
        if (r == 0)
                r = read_choices(&b, &s);
        if (r == 0)
                r = read_strings(&b, &s);
        if (r == 0)
                r = read_disks(b.disks, &s);
        if (r == 0)
                r = read_nics(b.nics, &s);
        /* Which value is wrong does not matter here. */
        if (r < 0)
                return r == -ENOMEM ? -ENOMEM : -EINVAL;
        *ret = s;
        s = DOMAIN_SPEC_INIT;
        return 0;
}
