#include "core/spec.h"

#include <limits.h>
#include <string.h>

#include "base/string-util.h"
#include "base/test-support.h"
#include "core/spec-internal.h"

#define MAC "00:16:3e:00:00:01"

static char *no_disks[] = { NULL };
static char first_disk[] = "/tmp/a,b=c.img", second_disk[] = "/tmp/b\nc";
static char *two_disks[] = { first_disk, second_disk, NULL };

/* A good spec that the cases below spoil in one place each. */
static void make(DomainSpec *s, char *const *disks) {
        *s = DOMAIN_SPEC_INIT;
        assert_int_equal(domain_spec_set(s, "512M", disks, "debmarshal-0", MAC, "qemu", "x86_64", NULL), 0);
}

static int extra_string(DomainSpec *s, const char *key, const char *value, Error *e) {
        return domain_spec_set_extra(s, key, &(ExtraValue){ .kind = EXTRA_STRING, .string = value }, e);
}

static int extra_number(DomainSpec *s, const char *key, uint64_t value) {
        return domain_spec_set_extra(s, key, &(ExtraValue){ .kind = EXTRA_NUMBER, .number = value }, NULL);
}

static int extra_strings(DomainSpec *s, const char *key, char *const *value) {
        return domain_spec_set_extra(s, key, &(ExtraValue){ .kind = EXTRA_STRINGS, .strings = value }, NULL);
}

static void test_set(void **state) {
        (void)state;
        AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT;

        make(&s, two_disks);
        assert_true(s.memory == 512 << 20);
        assert_int_equal(s.n_disks, 2);
        assert_string_equal(s.disks[0].path, "/tmp/a,b=c.img");
        assert_int_equal(s.disks[0].format, DISK_RAW);
        assert_false(s.disks[0].read_only);
        assert_int_equal(s.n_nics, 1);
        assert_string_equal(s.nics[0].network, "debmarshal-0");
        assert_int_equal(s.on_poweroff, END_DESTROY);
        assert_int_equal(s.on_reboot, END_RESTART);
        assert_int_equal(s.vcpus, 1);
        assert_int_equal(domain_spec_check(&s, NULL, NULL), 0);
}

static void test_set_fills_in(void **state) {
        (void)state;
        AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT;
        Mac mac;
        char text[MAC_TEXT_MAX];

        assert_int_equal(domain_spec_set(&s, "1G", no_disks, "debmarshal-3", "", "", "", NULL), 0);
        assert_string_equal(s.hypervisor, "");
        assert_string_equal(s.arch, host_arch());
        assert_int_equal(mac_parse(mac_format(&s.nics[0].mac, text), &mac), 0);
}

static void test_set_refuses(void **state) {
        (void)state;
        static char large[PATH_MAX + 1] = "/";
        char *const *relative = LIST("disk.img"), *const *empty = LIST(""), *const *too_long = LIST(large);
        char *many[DISKS_PER_DOMAIN_MAX + 2];
        const struct {
                const char *memory;
                char *const *disks;
                const char *network, *mac, *hypervisor, *arch;
                ErrorId id;
                const char *names; /* what the error must name */
        } cases[] = {
                { "512", no_disks, "debmarshal-0", "", "", "", ERROR_INVALID_INPUT, "memory" },
                { "0M", no_disks, "debmarshal-0", "", "", "", ERROR_INVALID_INPUT, "memory" },
                { "512k", no_disks, "debmarshal-0", "", "", "", ERROR_INVALID_INPUT, "1 MiB" },
                { "1025k", no_disks, "debmarshal-0", "", "", "", ERROR_INVALID_INPUT, "1 MiB" },
                { "9999999T", no_disks, "debmarshal-0", "", "", "", ERROR_INVALID_INPUT, "memory" },
                { "1G\n", no_disks, "debmarshal-0", "", "", "", ERROR_INVALID_INPUT, "\\x0a" },
                { "1G", relative, "debmarshal-0", "", "", "", ERROR_INVALID_INPUT, "disk.img" },
                { "1G", empty, "debmarshal-0", "", "", "", ERROR_INVALID_INPUT, "disk" },
                { "1G", too_long, "debmarshal-0", "", "", "", ERROR_INVALID_INPUT, "too long" },
                { "1G", many, "debmarshal-0", "", "", "", ERROR_INVALID_INPUT, "16" },
                { "1G", no_disks, "debmarshal-0\n", "", "", "", ERROR_NETWORK_NOT_FOUND, "\\x0a" },
                { "1G", no_disks, "", "", "", "", ERROR_NETWORK_NOT_FOUND, "network" },
                { "1G", no_disks, "debmarshal-0", "ff:ff:ff:ff:ff:ff", "", "", ERROR_INVALID_INPUT, "MAC" },
                { "1G", no_disks, "debmarshal-0", MAC ",x=y", "", "", ERROR_INVALID_INPUT, "MAC" },
                { "1G", no_disks, "debmarshal-0", "", "qemu,x", "", ERROR_INVALID_INPUT, "hypervisor" },
                { "1G", no_disks, "debmarshal-0", "", "aaaaaaaaaaaaaaaaa", "", ERROR_INVALID_INPUT, "hypervisor" },
                { "1G", no_disks, "debmarshal-0", "", "", "../x86", ERROR_INVALID_INPUT, "arch" },
                { "1G", no_disks, "debmarshal-0", "", "", "X86_64", ERROR_INVALID_INPUT, "arch" },
                { "1G", no_disks, "debmarshal-0", "", "", "aaaaaaaaaaaaaaaaa", ERROR_INVALID_INPUT, "arch" },
        };

        memset(large + 1, 'x', sizeof large - 2);
        for (size_t i = 0; i < ARRAY_LEN(many); i++)
                many[i] = i + 1 < ARRAY_LEN(many) ? first_disk : NULL;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT;
                AUTO(error_clear) Error e = ERROR_INIT;
                assert_true(domain_spec_set(&s, cases[i].memory, cases[i].disks, cases[i].network, cases[i].mac,
                                            cases[i].hypervisor, cases[i].arch, &e) < 0);
                assert_int_equal(e.id, cases[i].id);
                assert_non_null(strstr(error_text(&e), cases[i].names));
        }
}

static void test_arch_aliases(void **state) {
        (void)state;
        assert_string_equal(spec_canonical_arch("amd64"), "x86_64");
        assert_string_equal(spec_canonical_arch("arm64"), "aarch64");
        assert_string_equal(spec_canonical_arch("i386"), "i386");
        assert_string_equal(spec_canonical_arch("i686"), "i386");
        assert_string_equal(spec_canonical_arch("riscv64"), "riscv64");
        assert_null(spec_canonical_arch("a b"));
        assert_string_equal(spec_canonical_arch(host_arch()), host_arch());
}

static void test_extra_sets(void **state) {
        (void)state;
        AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT;
        char *const *formats = LIST("qcow2", "raw:ro"), *const *nics =
                                                                LIST("debmarshal-1", "debmarshal-1,00:16:3e:00:00:02");

        make(&s, two_disks);
        assert_int_equal(extra_string(&s, "kernel", "/boot/vmlinuz", NULL), 0);
        assert_int_equal(extra_string(&s, "initrd", "/boot/initrd", NULL), 0);
        assert_int_equal(extra_string(&s, "cmdline", "console=ttyS0,115200 -- %s \"q\"", NULL), 0);
        assert_int_equal(extra_string(&s, "on_poweroff", "restart", NULL), 0);
        assert_int_equal(extra_string(&s, "on_reboot", "destroy", NULL), 0);
        assert_int_equal(extra_number(&s, "vcpus", 4), 0);
        assert_int_equal(extra_strings(&s, "disk_formats", formats), 0);
        assert_int_equal(extra_strings(&s, "nics", nics), 0);
        assert_int_equal(
                domain_spec_set_extra(&s, "paused", &(ExtraValue){ .kind = EXTRA_BOOLEAN, .boolean = true }, NULL), 0);
        assert_int_equal(extra_string(&s, "vnc_password", "secret 1", NULL), 0);
        assert_string_equal(s.kernel, "/boot/vmlinuz");
        assert_int_equal(s.on_poweroff, END_RESTART);
        assert_int_equal(s.on_reboot, END_DESTROY);
        assert_int_equal(s.vcpus, 4);
        assert_int_equal(s.disks[0].format, DISK_QCOW2);
        assert_false(s.disks[0].read_only);
        assert_int_equal(s.disks[1].format, DISK_RAW);
        assert_true(s.disks[1].read_only);
        assert_int_equal(s.n_nics, 3);
        assert_int_equal(s.nics[2].mac.octets[5], 2);
        assert_true(s.paused);
        assert_int_equal(domain_spec_check(&s, NULL, NULL), 0);
}

static void test_extra_refuses(void **state) {
        (void)state;
        static char large[CMDLINE_MAX + 2];
        static const struct {
                const char *key, *value, *names;
        } cases[] = {
                { "kernel", "vmlinuz", "kernel" },
                { "initrd", "", "initrd" },
                { "cmdline", "a\nb", "cmdline" },
                { "cmdline", "a\x1b", "cmdline" },
                { "cmdline", "a\x7f", "cmdline" },
                { "cmdline", large, "2047" },
                { "on_poweroff", "reboot", "destroy" },
                { "on_reboot", "", "destroy" },
                { "firmware", "default", "uefi" },
                { "firmware", "BIOS", "uefi" },
                { "type", "default", "pvh" },
                { "type", "PV", "pvh" },
                { "vnc_password", "", "vnc_password" },
                { "vnc_password", "123456789", "vnc_password" },
                { "vnc_password", "a\nb", "vnc_password" },
                { "colour", "red", "kernel, initrd, cmdline" },
                { "", "", "known" },
                { "vcpus", "4", "integer" },
                { "nics", "debmarshal-0", "array" },
                { "paused", "true", "boolean" },
        };

        memset(large, 'x', sizeof large - 1);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT;
                AUTO(error_clear) Error e = ERROR_INIT;
                make(&s, two_disks);
                assert_int_equal(extra_string(&s, cases[i].key, cases[i].value, &e), -EINVAL);
                assert_int_equal(e.id, ERROR_INVALID_INPUT);
                assert_non_null(strstr(error_text(&e), cases[i].names));
                assert_null(strstr(error_text(&e), "123456789"));
        }
}

static void test_extra_refuses_lists(void **state) {
        (void)state;
        AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT;
        char *const *one = LIST("raw"), *const *unknown = LIST("raw", "vmdk"), *const *suffix = LIST("raw", ":ro");
        char *const *three = LIST("raw", "raw", "raw");
        char *const *formats[] = { one, unknown, suffix, three, no_disks };
        char *const *nic_no_mac = LIST("debmarshal-1,"), *const *nic_bad = LIST("eth0");
        char *const *many = LIST("debmarshal-1", "debmarshal-1", "debmarshal-1", "debmarshal-1", "debmarshal-1",
                                 "debmarshal-1", "debmarshal-1", "debmarshal-1");

        for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
                domain_spec_clear(&s);
                make(&s, two_disks);
                assert_int_equal(extra_strings(&s, "disk_formats", formats[i]), -EINVAL);
        }
        domain_spec_clear(&s);
        make(&s, two_disks);
        assert_int_equal(extra_strings(&s, "nics", nic_no_mac), -EINVAL);
        domain_spec_clear(&s);
        make(&s, two_disks);
        assert_int_equal(extra_strings(&s, "nics", nic_bad), error_errno(ERROR_NETWORK_NOT_FOUND));
        domain_spec_clear(&s);
        make(&s, two_disks);
        assert_int_equal(extra_strings(&s, "nics", many), -EINVAL);
        assert_int_equal(s.n_nics, NICS_PER_DOMAIN_MAX);
}

static void test_extra_numbers_and_twice(void **state) {
        (void)state;
        AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT;
        AUTO(error_clear) Error e = ERROR_INIT;

        make(&s, two_disks);
        assert_int_equal(domain_spec_set_extra(&s, "vcpus", &(ExtraValue){ .kind = EXTRA_OTHER }, NULL), -EINVAL);
        assert_int_equal(extra_number(&s, "vcpus", 0), -EINVAL);
        domain_spec_clear(&s);
        make(&s, two_disks);
        assert_int_equal(extra_number(&s, "vcpus", UINT64_MAX), -EINVAL);
        assert_int_equal(extra_string(&s, "firmware", "uefi", &e), 0);
        assert_int_equal(extra_string(&s, "firmware", "uefi", &e), -EINVAL);
        assert_non_null(strstr(error_text(&e), "twice"));
}

static void test_check_whole(void **state) {
        (void)state;
        const Limits limits = { .vcpus_per_domain = 2 };
        AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT;
        AUTO(error_clear) Error nothing = ERROR_INIT, quota = ERROR_INIT;

        make(&s, no_disks);
        assert_int_equal(domain_spec_check(&s, &limits, &nothing), -EINVAL);
        assert_non_null(strstr(error_text(&nothing), "nothing to start from"));
        assert_int_equal(string_replace(&s.kernel, "/k"), 0);
        assert_int_equal(domain_spec_check(&s, &limits, NULL), -EINVAL);
        assert_int_equal(string_replace(&s.initrd, "/i"), 0);
        assert_int_equal(domain_spec_check(&s, &limits, NULL), 0);
        s.firmware = FIRMWARE_UEFI;
        assert_int_equal(domain_spec_check(&s, &limits, NULL), -EINVAL);
        s.firmware = FIRMWARE_DEFAULT;
        s.vcpus = 3;
        assert_int_equal(domain_spec_check(&s, &limits, &quota), -EDQUOT);
        assert_int_equal(domain_spec_check(&s, NULL, NULL), 0);
        s.vcpus = 2;
        assert_int_equal(string_replace(&s.kernel, NULL), 0);
        assert_int_equal(domain_spec_check(&s, &limits, NULL), -EINVAL);

        domain_spec_clear(&s);
        make(&s, two_disks);
        assert_int_equal(string_replace(&s.cmdline, "x"), 0);
        assert_int_equal(domain_spec_check(&s, &limits, NULL), -EINVAL);
}

static void test_check_bootloader(void **state) {
        (void)state;
        AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT;
        AUTO(error_clear) Error format = ERROR_INIT;

        make(&s, two_disks);
        assert_int_equal(extra_string(&s, "bootloader", "pygrub", NULL), 0);
        assert_int_equal(domain_spec_check(&s, NULL, NULL), 0);
        assert_int_equal(string_replace(&s.cmdline, "for it"), 0);
        assert_int_equal(domain_spec_check(&s, NULL, NULL), 0);

        s.disks[1].format = DISK_QCOW2;
        assert_int_equal(domain_spec_check(&s, NULL, NULL), 0);
        s.disks[0].format = DISK_QCOW2;
        assert_int_equal(domain_spec_check(&s, NULL, &format), error_errno(ERROR_NOT_SUPPORTED));
        assert_non_null(strstr(error_text(&format), "format qcow2"));
        s.disks[0].format = DISK_RAW;

        s.firmware = FIRMWARE_BIOS;
        assert_int_equal(domain_spec_check(&s, NULL, NULL), -EINVAL);
        s.firmware = FIRMWARE_DEFAULT;
        assert_int_equal(string_replace(&s.kernel, "/k"), 0);
        assert_int_equal(string_replace(&s.initrd, "/i"), 0);
        assert_int_equal(domain_spec_check(&s, NULL, NULL), -EINVAL);
        assert_int_equal(string_replace(&s.kernel, NULL), 0);
        assert_int_equal(domain_spec_check(&s, NULL, NULL), -EINVAL);
        assert_int_equal(string_replace(&s.initrd, NULL), 0);
        size_t n = s.n_disks;
        s.n_disks = 0;
        assert_int_equal(domain_spec_check(&s, NULL, NULL), -EINVAL);
        s.n_disks = n;
        assert_int_equal(domain_spec_check(&s, NULL, NULL), 0);
}

static void test_check_macs(void **state) {
        (void)state;
        AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT, t = DOMAIN_SPEC_INIT;
        char *const *same = LIST("debmarshal-0," MAC), *const *other = LIST("debmarshal-1," MAC);

        make(&s, two_disks);
        assert_int_equal(extra_strings(&s, "nics", same), 0);
        assert_int_equal(domain_spec_check(&s, NULL, NULL), -EINVAL);
        make(&t, two_disks);
        assert_int_equal(extra_strings(&t, "nics", other), 0);
        assert_int_equal(domain_spec_check(&t, NULL, NULL), 0);
}

static void test_json_round_trip(void **state) {
        (void)state;
        AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT, back = DOMAIN_SPEC_INIT;
        AUTO(string_drop) char *first = NULL, *second = NULL;
        char *const *formats = LIST("qcow2:ro", "raw"), *const *nics = LIST("debmarshal-9");

        make(&s, two_disks);
        assert_int_equal(extra_strings(&s, "disk_formats", formats), 0);
        assert_int_equal(extra_strings(&s, "nics", nics), 0);
        assert_int_equal(extra_string(&s, "firmware", "uefi", NULL), 0);
        assert_int_equal(extra_string(&s, "type", "hvm", NULL), 0);
        assert_int_equal(extra_string(&s, "vnc_password", "p", NULL), 0);
        assert_int_equal(extra_string(&s, "bootloader", "pygrub", NULL), 0);
        s.paused = s.stub_domain = true;
        assert_int_equal(domain_spec_to_json(&s, &first), 0);
        assert_int_equal(domain_spec_from_json(first, &back), 0);
        assert_int_equal(domain_spec_to_json(&back, &second), 0);
        assert_string_equal(first, second);
        assert_string_equal(back.disks[1].path, s.disks[1].path);
        assert_int_equal(back.disks[0].format, DISK_QCOW2);
        assert_true(back.disks[0].read_only);
        assert_true(mac_equal(&back.nics[1].mac, &s.nics[1].mac));
        assert_null(back.kernel);
        assert_string_equal(back.vnc_password, "p");
        assert_string_equal(back.bootloader, "pygrub");
        assert_int_equal(back.type, MACHINE_HVM);
        assert_true(back.paused);
        assert_true(back.stub_domain);
}

static void test_json_needs_utf8(void **state) {
        (void)state;
        AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT;
        char *const *disks = LIST("/tmp/\xff"), *json = NULL;

        make(&s, disks);
        assert_int_equal(domain_spec_to_json(&s, &json), -EINVAL);
        assert_null(json);
}

/* Each replaces one piece of a good record. */
static void test_json_refuses(void **state) {
        (void)state;
        static const struct {
                const char *from, *to;
        } cases[] = {
                { "\"memory\":536870912", "\"memory\":536870913" },
                { "\"memory\":536870912", "\"memory\":-1048576" },
                { "\"memory\":536870912", "\"memory\":\"512M\"" },
                { "\"memory\":536870912", "\"memory\":536870912,\"memory\":536870912" },
                { "\"memory\":536870912,", "" },
                { "\"vcpus\":1", "\"vcpus\":0" },
                { "\"vcpus\":1", "\"vcpus\":4294967297" },
                { "\"vcpus\":1", "\"vcpus\":1.0" },
                { "\"paused\":false", "\"paused\":0" },
                { "\"paused\":false", "\"paused\":false,\"other\":1" },
                { "\"paused\":false", "\"paused\":false,\"kernel\":null" },
                { "\"paused\":false", "\"paused\":false,\"kernel\":\"relative\"" },
                { "\"paused\":false", "\"paused\":false,\"cmdline\":\"a\\nb\"" },
                { "\"paused\":false", "\"paused\":false,\"cmdline\":\"a\\u0000b\"" },
                { "\"paused\":false", "\"paused\":false,\"vnc_password\":\"\"" },
                { "\"paused\":false", "\"paused\":false,\"bootloader\":\"a/b\"" },
                { "\"destroy\"", "\"explode\"" },
                { "\"default\"", "\"efi\"" },
                { "\"raw\"", "\"vmdk\"" },
                { "\"/tmp/a,b=c.img\"", "\"a.img\"" },
                { "\"path\"", "\"paths\"" },
                { "\"" MAC "\"", "\"\"" },
                { "\"" MAC "\"", "\"ff:ff:ff:ff:ff:ff\"" },
                { "debmarshal-0", "br0" },
                { "\"x86_64\"", "\"amd64\"" },
                { "\"qemu\"", "\"q emu\"" },
                { "\"disks\":[", "\"disks\":[[]," },
                { "{\"memory\"", "[{\"memory\"" },
        };
        AUTO(domain_spec_clear) DomainSpec s = DOMAIN_SPEC_INIT;
        AUTO(string_drop) char *good = NULL;
        DomainSpec untouched = { .memory = 77 };

        make(&s, two_disks);
        assert_int_equal(domain_spec_to_json(&s, &good), 0);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                const char *at = strstr(good, cases[i].from);
                assert_non_null(at);
                AUTO(string_drop)
                char *bad = string_printf("%.*s%s%s", (int)(at - good), good, cases[i].to, at + strlen(cases[i].from));
                assert_int_equal(domain_spec_from_json(bad, &untouched), -EINVAL);
        }
        assert_int_equal(domain_spec_from_json("", &untouched), -EINVAL);
        assert_int_equal(domain_spec_from_json("[]", &untouched), -EINVAL);
        assert_int_equal(domain_spec_from_json("null", &untouched), -EINVAL);
        assert_int_equal(untouched.memory, 77);
}

static void test_enum_names_round_trip(void **state) {
        (void)state;
        for (DiskFormat f = 0; f < DISK_FORMAT_COUNT; f++)
                assert_int_equal(disk_format_from_name(disk_format_name(f)), f);
        for (EndAction a = 0; a < END_ACTION_COUNT; a++)
                assert_int_equal(end_action_from_name(end_action_name(a)), a);
        for (Firmware f = 0; f < FIRMWARE_COUNT; f++)
                assert_int_equal(firmware_from_name(firmware_name(f)), f);
        assert_int_equal(disk_format_from_name("none"), DISK_FORMAT_COUNT);
        assert_int_equal(end_action_from_name(NULL), END_ACTION_COUNT);
        assert_int_equal(firmware_from_name(""), FIRMWARE_COUNT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_set),
                cmocka_unit_test(test_set_fills_in),
                cmocka_unit_test(test_set_refuses),
                cmocka_unit_test(test_arch_aliases),
                cmocka_unit_test(test_extra_sets),
                cmocka_unit_test(test_extra_refuses),
                cmocka_unit_test(test_extra_refuses_lists),
                cmocka_unit_test(test_extra_numbers_and_twice),
                cmocka_unit_test(test_check_whole),
                cmocka_unit_test(test_check_bootloader),
                cmocka_unit_test(test_check_macs),
                cmocka_unit_test(test_json_round_trip),
                cmocka_unit_test(test_json_needs_utf8),
                cmocka_unit_test(test_json_refuses),
                cmocka_unit_test(test_enum_names_round_trip),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
