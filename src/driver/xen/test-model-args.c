/* A device model's command lines, compared with those in golden/, and what is made of its state in /proc. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "driver/test-golden.h"
#include "driver/xen/model-args.h"

typedef struct Fixture {
        DomainSpec spec;
        DiskSpec disks[DISKS_PER_DOMAIN_MAX];
        GuestFiles files;
        ModelArgs args;
        EmulatorFds fds;
        char **argv;
} Fixture;

static void begin(Fixture *f) {
        static const int taps[] = { 30, 31 };

        *f = (Fixture){ .spec = DOMAIN_SPEC_INIT };
        guest_files_init(&f->files);
        f->spec.disks = f->disks;
        f->args = (ModelArgs){
                .type = MACHINE_HVM,
                .program = "/usr/libexec/qemu",
                .name = "debmarshal-7",
                .id = 12,
                .uid = 1879048192,
                .memory = (512ULL << 20) - MODEL_VIDEO_MEMORY,
                .spec = &f->spec,
                .files = &f->files,
                .taps = taps,
                .qmp_fd = 20,
        };
}

static void end(Fixture *f) {
        string_list_free(&f->argv);
        f->spec.disks = NULL;
        f->spec.n_disks = 0;
        f->spec.nics = NULL;
        f->spec.n_nics = 0;
        domain_spec_clear(&f->spec);
}

static void add_disk(Fixture *f, int fd, DiskFormat format, bool read_only) {
        DiskFiles *d = &f->files.disks[f->files.n_disks++];

        d->layers[d->n_layers++] = (DiskLayer){ fd, format, read_only, false, 1 << 20 };
        f->disks[f->spec.n_disks++].format = format;
}

static void check(Fixture *f, const char *name) {
        assert_int_equal(model_args(&f->args, &f->argv, &f->fds), 0);
        golden_check(GOLDEN_DIR, name, f->argv);
}

static void test_boots_from_its_disks(void **state) {
        NicSpec nics[2] = {
                { (char *)(uintptr_t) "debmarshal-1", { { 0x00, 0x16, 0x3e, 1, 2, 3 } } },
                { (char *)(uintptr_t) "x,script=/bin/sh", { { 0x00, 0x16, 0x3e, 0xff, 0, 9 } } },
        };
        Fixture f;

        (void)state;
        begin(&f);
        f.spec.nics = nics;
        f.spec.n_nics = 2;
        add_disk(&f, 40, DISK_RAW, false);
        add_disk(&f, 41, DISK_RAW, true);
        for (int i = 2; i < 6; i++) /* of which the last two are not emulated */
                add_disk(&f, 40 + i, DISK_RAW, false);
        check(&f, "disks");
        assert_int_equal(f.fds.count, 1 + 4 + 2);
        end(&f);
}

static void test_shows_no_xen_with_a_disk_that_it_alone_can_read(void **state) {
        Fixture f;

        (void)state;
        begin(&f);
        add_disk(&f, 40, DISK_RAW, true);
        add_disk(&f, 41, DISK_QCOW2, false);
        assert_false(model_offers_pv(&f.spec));
        check(&f, "qcow2");
        end(&f);
}

static void test_boots_a_kernel(void **state) {
        Fixture f;

        (void)state;
        begin(&f);
        f.spec.kernel = strdup("/boot/vmlinuz,if=evil");
        f.spec.initrd = strdup("/boot/initrd");
        f.spec.cmdline = strdup("console=hvc0 a=b,readonly=on -drive \"%s\"");
        f.files.kernel_fd = 50;
        f.files.initrd_fd = 51;
        f.spec.vcpus = 3;
        f.spec.vnc_password = strdup("secret");
        check(&f, "kernel");
        for (char **a = f.argv; *a; a++) {
                assert_null(strstr(*a, "secret"));
                assert_null(strstr(*a, "/boot"));
        }
        assert_true(string_list_contains(f.argv, f.spec.cmdline));
        end(&f);
}

static void test_in_a_stub_domain(void **state) {
        NicSpec nics[1] = { { (char *)(uintptr_t) "debmarshal-1", { { 0x00, 0x16, 0x3e, 1, 2, 3 } } } };
        Fixture f;

        (void)state;
        begin(&f);
        f.args.stub = true;
        f.spec.nics = nics;
        f.spec.n_nics = 1;
        f.spec.vnc_password = strdup("secret");
        add_disk(&f, 40, DISK_RAW, false);
        add_disk(&f, 41, DISK_RAW, true);
        check(&f, "stub");
        assert_int_equal(f.fds.count, 0);

        string_list_free(&f.argv);
        f.spec.cmdline = strdup("console=ttyS0 \\x41 \"");
        f.files.kernel_fd = 50;
        f.files.initrd_fd = 51;
        check(&f, "stub-kernel");
        assert_int_equal(f.fds.count, 0);
        end(&f);
}

static void test_serves_others(void **state) {
        Fixture f;

        (void)state;
        begin(&f);
        f.args.type = MACHINE_PVH;
        f.args.memory = 128ULL << 20;
        assert_false(model_wanted(MACHINE_PVH, &f.spec));
        add_disk(&f, 40, DISK_RAW, false);
        assert_false(model_wanted(MACHINE_PV, &f.spec));
        assert_true(model_wanted(MACHINE_HVM, &f.spec));
        add_disk(&f, 41, DISK_QCOW2, false);
        assert_true(model_wanted(MACHINE_PV, &f.spec));
        assert_false(model_has_screen(MACHINE_PV, &f.spec));
        check(&f, "qdisk");
        assert_int_equal(f.fds.count, 2);

        string_list_free(&f.argv);
        f.spec.vnc_password = strdup("secret");
        assert_true(model_has_screen(MACHINE_PV, &f.spec));
        check(&f, "qdisk-vfb");
        end(&f);
}

#define STATUS(uid, caps, privs, seccomp)                                                                              \
        "Name:\tqemu\nUmask:\t0077\nUid:\t" uid "\nGid:\t7\t7\t7\t7\nGroups:\t7 \nCapInh:\t0000000000000000\n"         \
        "CapPrm:\t" caps "\nCapEff:\t0000000000000000\nCapBnd:\t00000000000000c0\nCapAmb:\t0000000000000000\n"         \
        "NoNewPrivs:\t" privs "\nSeccomp:\t" seccomp "\nSeccomp_filters:\t1\n"
#define NO_CAPS "0000000000000000"

static void test_harmless(void **state) {
        (void)state;
        assert_true(model_is_harmless(STATUS("7\t7\t7\t7", NO_CAPS, "1", "2"), 7));
        assert_false(model_is_harmless(STATUS("7\t7\t7\t7", NO_CAPS, "1", "2"), 8));
        assert_false(model_is_harmless(STATUS("7\t7\t0\t7", NO_CAPS, "1", "2"), 7));
        assert_false(model_is_harmless(STATUS("7\t7\t7\t77", NO_CAPS, "1", "2"), 7));
        assert_false(model_is_harmless(STATUS("7\t7\t7\t7", "00000000000000c0", "1", "2"), 7));
        assert_false(model_is_harmless(STATUS("7\t7\t7\t7", NO_CAPS, "0", "2"), 7));
        assert_false(model_is_harmless(STATUS("7\t7\t7\t7", NO_CAPS, "1", "0"), 7));
        assert_false(model_is_harmless("", 7));
        assert_false(model_is_harmless("Uid:\t7\t7\t7\t7", 7));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_boots_from_its_disks),
                cmocka_unit_test(test_shows_no_xen_with_a_disk_that_it_alone_can_read),
                cmocka_unit_test(test_boots_a_kernel),
                cmocka_unit_test(test_in_a_stub_domain),
                cmocka_unit_test(test_serves_others),
                cmocka_unit_test(test_harmless),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
