/* createDomain's extra dictionary: one table of keys, what kind of value each takes, and what becomes of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"
#include "core/names.h"
#include "core/spec-internal.h"

#define READ_ONLY_SUFFIX ":ro"
#define FORMAT_NAME_MAX  16

/* Keep a copy of a checked string. */
static int keep(char **target, const char *key, const char *value, Error *e) {
        int r = string_replace(target, value);

        return r < 0 ? error_set_errno(e, r, "Failed to keep %s", key) : 0;
}

static int set_kernel(DomainSpec *s, const ExtraValue *v, Error *e) {
        int r = spec_check_path("kernel", v->string, e);
        return r < 0 ? r : keep(&s->kernel, "kernel", v->string, e);
}

static int set_initrd(DomainSpec *s, const ExtraValue *v, Error *e) {
        int r = spec_check_path("initrd", v->string, e);
        return r < 0 ? r : keep(&s->initrd, "initrd", v->string, e);
}

static int set_cmdline(DomainSpec *s, const ExtraValue *v, Error *e) {
        int r = spec_check_cmdline(v->string, e);
        return r < 0 ? r : keep(&s->cmdline, "cmdline", v->string, e);
}

static int set_bootloader(DomainSpec *s, const ExtraValue *v, Error *e) {
        int r = spec_check_bootloader(v->string, e);
        return r < 0 ? r : keep(&s->bootloader, "bootloader", v->string, e);
}

static int parse_end_action(const char *key, const char *text, EndAction *ret, Error *e) {
        EndAction action = end_action_from_name(text);

        if (action == END_ACTION_COUNT)
                return error_set_value(e, ERROR_INVALID_INPUT, key, text, "\"destroy\" or \"restart\" is wanted");
        *ret = action;
        return 0;
}

static int set_on_poweroff(DomainSpec *s, const ExtraValue *v, Error *e) {
        return parse_end_action("on_poweroff", v->string, &s->on_poweroff, e);
}

static int set_on_reboot(DomainSpec *s, const ExtraValue *v, Error *e) {
        return parse_end_action("on_reboot", v->string, &s->on_reboot, e);
}

static int set_vcpus(DomainSpec *s, const ExtraValue *v, Error *e) {
        int r = spec_check_vcpus(v->number, e);

        if (r < 0)
                return r;
        s->vcpus = (unsigned)v->number;
        return 0;
}

static int set_firmware(DomainSpec *s, const ExtraValue *v, Error *e) {
        Firmware firmware = firmware_from_name(v->string);

        /* The default has a name for us to show, not for others to ask for. */
        if (firmware == FIRMWARE_COUNT || firmware == FIRMWARE_DEFAULT)
                return error_set_value(e, ERROR_INVALID_INPUT, "firmware", v->string, "\"bios\" or \"uefi\" is wanted");
        s->firmware = firmware;
        return 0;
}

static int set_type(DomainSpec *s, const ExtraValue *v, Error *e) {
        MachineType type = machine_type_from_name(v->string);

        if (type == MACHINE_TYPE_COUNT || type == MACHINE_DEFAULT)
                return error_set_value(e, ERROR_INVALID_INPUT, "type", v->string,
                                       "\"pv\", \"pvh\" or \"hvm\" is wanted");
        s->type = type;
        return 0;
}

static int parse_disk_format(const char *text, DiskSpec *disk, Error *e) {
        const char *suffix = strchr(text, ':');
        size_t length = suffix ? (size_t)(suffix - text) : strlen(text);
        bool read_only = suffix && string_equal(suffix, READ_ONLY_SUFFIX);
        char name[FORMAT_NAME_MAX];
        DiskFormat format = DISK_FORMAT_COUNT;

        if (length < sizeof name && read_only == (suffix != NULL)) {
                memcpy(name, text, length);
                name[length] = '\0';
                format = disk_format_from_name(name);
        }
        if (format == DISK_FORMAT_COUNT)
                return error_set_value(e, ERROR_INVALID_INPUT, "disk format", text,
                                       "\"raw\" or \"qcow2\" is wanted, with \":ro\" behind it for read-only");
        disk->format = format;
        disk->read_only = read_only;
        return 0;
}

static int set_disk_formats(DomainSpec *s, const ExtraValue *v, Error *e) {
        size_t n = string_list_length(v->strings);

        if (n != s->n_disks)
                return error_set(e, ERROR_INVALID_INPUT,
                                 "disk_formats: one per disk is wanted, but there are %zu for %zu disks", n,
                                 s->n_disks);
        for (size_t i = 0; i < n; i++) {
                int r = parse_disk_format(v->strings[i], &s->disks[i], e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_nic(DomainSpec *s, const char *text, Error *e) {
        const char *comma = strchr(text, ',');
        size_t length = comma ? (size_t)(comma - text) : strlen(text);
        char network[OBJECT_NAME_MAX];

        /* A comma with nothing behind it is a mistake, not the wish for a random address. */
        if (comma && !comma[1])
                return error_set_value(e, ERROR_INVALID_INPUT, "nic", text, "\"NETWORK\" or \"NETWORK,MAC\" is wanted");
        if (length >= sizeof network)
                return spec_check_network(text, e);
        memcpy(network, text, length);
        network[length] = '\0';
        return spec_add_nic(s, network, comma ? comma + 1 : "", e);
}

static int set_nics(DomainSpec *s, const ExtraValue *v, Error *e) {
        for (char *const *p = v->strings; p && *p; p++) {
                int r = add_nic(s, *p, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int set_paused(DomainSpec *s, const ExtraValue *v, Error *e) {
        (void)e;
        s->paused = v->boolean;
        return 0;
}

static int set_stub_domain(DomainSpec *s, const ExtraValue *v, Error *e) {
        (void)e;
        s->stub_domain = v->boolean;
        return 0;
}

static int set_vnc_password(DomainSpec *s, const ExtraValue *v, Error *e) {
        int r = spec_check_vnc_password(v->string, e);
        return r < 0 ? r : keep(&s->vnc_password, "vnc_password", v->string, e);
}

static const struct {
        const char *key;
        int kind;
        int (*set)(DomainSpec *s, const ExtraValue *v, Error *e);
} extra_keys[] = {
        { "kernel", EXTRA_STRING, set_kernel },
        { "initrd", EXTRA_STRING, set_initrd },
        { "cmdline", EXTRA_STRING, set_cmdline },
        { "bootloader", EXTRA_STRING, set_bootloader },
        { "on_poweroff", EXTRA_STRING, set_on_poweroff },
        { "on_reboot", EXTRA_STRING, set_on_reboot },
        { "vcpus", EXTRA_NUMBER, set_vcpus },
        { "firmware", EXTRA_STRING, set_firmware },
        { "type", EXTRA_STRING, set_type },
        { "disk_formats", EXTRA_STRINGS, set_disk_formats },
        { "nics", EXTRA_STRINGS, set_nics },
        { "paused", EXTRA_BOOLEAN, set_paused },
        { "vnc_password", EXTRA_STRING, set_vnc_password },
        { "stubdomain", EXTRA_BOOLEAN, set_stub_domain },
};

static const char *const kind_names[] = {
        [EXTRA_STRING] = "a string",
        [EXTRA_NUMBER] = "an integer that is not negative",
        [EXTRA_BOOLEAN] = "a boolean",
        [EXTRA_STRINGS] = "an array of strings",
};

static int refuse_unknown(const char *key, Error *e) {
        AUTO(string_list_free) char **known = NULL;
        AUTO(string_drop) char *joined = NULL, *rule = NULL;

        for (size_t i = 0; i < ARRAY_LEN(extra_keys); i++)
                if (string_list_append(&known, extra_keys[i].key) < 0)
                        return error_set_errno(e, ENOMEM, "Failed to list the known extra keys");
        joined = string_list_join(known, ", ");
        rule = string_printf("it is not known; these are: %s", string_or(joined, "?"));
        return error_set_value(e, ERROR_INVALID_INPUT, "extra key", key, string_or(rule, "it is not known"));
}

int domain_spec_set_extra(DomainSpec *s, const char *key, const ExtraValue *value, Error *e) {
        for (size_t i = 0; i < ARRAY_LEN(extra_keys); i++) {
                if (!string_equal(extra_keys[i].key, key))
                        continue;
                if ((int)value->kind != extra_keys[i].kind)
                        return error_set(e, ERROR_INVALID_INPUT, "extra key \"%s\": %s is wanted", key,
                                         kind_names[extra_keys[i].kind]);
                if (s->extra_given & 1u << i)
                        return error_set(e, ERROR_INVALID_INPUT, "extra key \"%s\" is given twice", key);
                s->extra_given |= 1u << i;
                return extra_keys[i].set(s, value, e);
        }
        return refuse_unknown(key, e);
}
