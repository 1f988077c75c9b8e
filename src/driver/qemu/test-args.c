/* The command lines, compared with those in golden/. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/string-util.h"
#include "driver/qemu/args.h"
#include "driver/test-golden.h"

typedef struct Fixture {
        DomainSpec spec;
        GuestFiles files;
        QemuArgs args;
        EmulatorFds fds;
        char **argv;
} Fixture;

static void begin(Fixture *f, const char *arch) {
        *f = (Fixture){ .spec = DOMAIN_SPEC_INIT };
        guest_files_init(&f->files);
        f->spec.arch = strdup(arch);
        f->spec.memory = 512ULL << 20;
        f->args = (QemuArgs){
                .program = "/usr/bin/qemu",
                .name = "debmarshal-7",
                .spec = &f->spec,
                .machine = machine_find(arch),
                .files = &f->files,
                .qmp_fd = 20,
                .agent_fd = 21,
                .firmware_code_fd = -1,
                .firmware_vars_fd = -1,
        };
        assert_non_null(f->args.machine);
}

static void end(Fixture *f) {
        string_list_free(&f->argv);
        domain_spec_clear(&f->spec);
}

static void add_layer(Fixture *f, size_t disk, int fd, DiskFormat format, bool read_only, bool device) {
        DiskFiles *d = &f->files.disks[disk];

        d->layers[d->n_layers++] = (DiskLayer){ fd, format, read_only, device, 1 << 20 };
        if (f->files.n_disks <= disk)
                f->files.n_disks = disk + 1;
}

static void test_bare(void **state) {
        Fixture f;

        (void)state;
        begin(&f, "x86_64");
        assert_int_equal(qemu_args(&f.args, &f.argv, &f.fds), 0);
        golden_check(GOLDEN_DIR, "bare", f.argv);
        assert_int_equal(f.fds.count, 2);
        assert_int_equal(f.fds.fds[0], 20);
        assert_int_equal(f.fds.fds[1], 21);
        end(&f);
}

static void test_kernel(void **state) {
        Fixture f;

        (void)state;
        begin(&f, "aarch64");
        f.spec.kernel = strdup("/boot/vmlinuz,if=evil");
        f.spec.initrd = strdup("/boot/initrd");
        f.files.kernel_fd = 30;
        f.files.initrd_fd = 31;
        f.spec.cmdline = strdup("console=ttyAMA0 a=b,readonly=on -drive \"%s\" dm.run=x");
        f.spec.vcpus = 3;
        f.spec.on_reboot = END_DESTROY;
        f.spec.vnc_password = strdup("secret");
        assert_int_equal(qemu_args(&f.args, &f.argv, &f.fds), 0);
        golden_check(GOLDEN_DIR, "kernel-aarch64", f.argv);
        for (char **a = f.argv; *a; a++) {
                assert_null(strstr(*a, "secret"));
                assert_null(strstr(*a, "/boot"));
        }
        assert_true(string_list_contains(f.argv, f.spec.cmdline));
        end(&f);
}

static bool has_pair(const Fixture *f, const char *option, const char *value) {
        for (char **a = f->argv; *a; a++)
                if (string_equal(*a, option))
                        return string_equal(a[1], value);
        return false;
}

/* What a boot loader has chosen counts; what the user gave was for it. */
static void test_boot_loader(void **state) {
        Fixture f;

        (void)state;
        begin(&f, "x86_64");
        f.spec.bootloader = strdup("pygrub");
        f.spec.cmdline = strdup("for the loader");
        f.files.kernel_fd = 30;
        f.files.cmdline = strdup("root=/dev/vda1 ro");
        assert_int_equal(qemu_args(&f.args, &f.argv, &f.fds), 0);
        assert_true(has_pair(&f, "-kernel", QEMU_KERNEL_PATH));
        assert_true(has_pair(&f, "-append", "root=/dev/vda1 ro"));
        assert_false(string_list_contains(f.argv, "-initrd"));
        assert_false(string_list_contains(f.argv, "-boot"));

        string_list_free(&f.argv);
        f.files.initrd_fd = 31;
        f.files.cmdline[0] = '\0';
        assert_int_equal(qemu_args(&f.args, &f.argv, &f.fds), 0);
        assert_true(has_pair(&f, "-initrd", QEMU_INITRD_PATH));
        assert_false(string_list_contains(f.argv, "-append"));
        string_drop(&f.files.cmdline);
        end(&f);
}

static void test_disks_and_nics(void **state) {
        static const int taps[] = { 30, 31 };
        NicSpec nics[2] = {
                { (char *)(uintptr_t) "debmarshal-1", { { 0x00, 0x16, 0x3e, 1, 2, 3 } } },
                { (char *)(uintptr_t) "x,script=/bin/sh", { { 0x00, 0x16, 0x3e, 0xff, 0, 9 } } },
        };
        Fixture f;

        (void)state;
        begin(&f, "x86_64");
        add_layer(&f, 0, 40, DISK_QCOW2, false, false);
        add_layer(&f, 0, 41, DISK_QCOW2, true, false);
        add_layer(&f, 0, 42, DISK_RAW, true, true);
        add_layer(&f, 1, 43, DISK_RAW, false, true);
        add_layer(&f, 2, 44, DISK_QCOW2, true, false);
        f.spec.nics = nics;
        f.spec.n_nics = 2;
        f.args.taps = taps;
        f.args.n_taps = 2;
        f.args.kvm = true;
        assert_int_equal(qemu_args(&f.args, &f.argv, &f.fds), 0);
        golden_check(GOLDEN_DIR, "disks-nics-kvm", f.argv);
        for (char **a = f.argv; *a; a++)
                assert_null(strstr(*a, "script"));
        /* Lowest layer first, then its users. */
        static const int order[] = { 20, 21, 42, 41, 40, 43, 44, 30, 31 };
        assert_int_equal(f.fds.count, ARRAY_LEN(order));
        assert_memory_equal(f.fds.fds, order, sizeof order);
        f.spec.nics = NULL;
        f.spec.n_nics = 0;
        end(&f);
}

static void test_uefi(void **state) {
        Fixture f;

        (void)state;
        begin(&f, "aarch64");
        f.args.firmware_code_fd = 50;
        f.args.firmware_vars_fd = 51;
        assert_int_equal(qemu_args(&f.args, &f.argv, &f.fds), 0);
        golden_check(GOLDEN_DIR, "uefi-aarch64", f.argv);
        end(&f);
}

/* As many of everything as a spec may ask for fits. */
static void test_most(void **state) {
        int taps[NICS_PER_DOMAIN_MAX];
        NicSpec nics[NICS_PER_DOMAIN_MAX];
        Fixture f;

        (void)state;
        memset(nics, 0, sizeof nics);
        begin(&f, "x86_64");
        for (size_t i = 0; i < NICS_PER_DOMAIN_MAX; i++)
                taps[i] = 60 + (int)i;
        for (size_t i = 0; i < DISKS_PER_DOMAIN_MAX; i++)
                for (size_t j = 0; j < BACKING_CHAIN_MAX; j++)
                        add_layer(&f, i, 100, DISK_QCOW2, j > 0, false);
        f.spec.nics = nics;
        f.args.taps = taps;
        f.args.n_taps = NICS_PER_DOMAIN_MAX;
        f.args.firmware_code_fd = f.args.firmware_vars_fd = 50;
        assert_int_equal(qemu_args(&f.args, &f.argv, &f.fds), 0);
        assert_true(f.fds.count <= EMULATOR_FDS_MAX);
        f.spec.nics = NULL;
        end(&f);
}

static void test_machines(void **state) {
        (void)state;
        for (size_t i = 0; machine_at(i); i++)
                assert_ptr_equal(machine_find(machine_at(i)->arch), machine_at(i));
        assert_null(machine_find("pdp11"));
        assert_null(machine_find(""));
}

static void check_refused(DomainSpec *spec, const char *word) {
        AUTO(error_clear) Error e = ERROR_INIT;
        const Machine *machine = NULL;

        assert_true(machine_check(spec, &machine, &e) < 0);
        assert_int_equal(e.id, ERROR_NOT_SUPPORTED);
        assert_non_null(strstr(error_text(&e), word));
        assert_null(machine);
}

static void test_machine_refusals(void **state) {
        AUTO(domain_spec_clear) DomainSpec spec = DOMAIN_SPEC_INIT;

        (void)state;
        spec.arch = strdup("pdp\n11");
        check_refused(&spec, "\"pdp\\x0a11\" is not supported; installed are: ");
        string_replace(&spec.arch, "aarch64");
        spec.firmware = FIRMWARE_BIOS;
        check_refused(&spec, "no BIOS");
        string_replace(&spec.arch, "i386");
        spec.firmware = FIRMWARE_UEFI;
        check_refused(&spec, "no UEFI");
}

static void test_firmware_choice(void **state) {
        AUTO(domain_spec_clear) DomainSpec spec = DOMAIN_SPEC_INIT;
        const Machine *x86 = machine_find("x86_64"), *arm = machine_find("aarch64");

        (void)state;
        assert_int_equal(machine_firmware(x86, &spec), FIRMWARE_BIOS);
        assert_int_equal(machine_firmware(arm, &spec), FIRMWARE_UEFI);
        spec.firmware = FIRMWARE_UEFI;
        assert_int_equal(machine_firmware(x86, &spec), FIRMWARE_UEFI);
        spec.firmware = FIRMWARE_DEFAULT;
        spec.kernel = strdup("/k");
        assert_int_equal(machine_firmware(arm, &spec), FIRMWARE_DEFAULT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bare),
                cmocka_unit_test(test_kernel),
                cmocka_unit_test(test_boot_loader),
                cmocka_unit_test(test_disks_and_nics),
                cmocka_unit_test(test_uefi),
                cmocka_unit_test(test_most),
                cmocka_unit_test(test_machines),
                cmocka_unit_test(test_machine_refusals),
                cmocka_unit_test(test_firmware_choice),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
