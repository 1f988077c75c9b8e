/* The two drivers that run QEMU: kvm, where the host's processor runs the guest, and qemu, where the emulator does.
 * They differ in the accelerator, the processor model, and what they need of the host. */
#include <errno.h>
#include <stdlib.h>

#include "base/string-util.h"
#include "driver/boot.h"
#include "driver/probe.h"
#include "driver/qemu/kvm-probe.h"
#include "driver/qemu/qemu-internal.h"

/* ---- probing ---- */

static void find_any_emulator(Error *e) {
        for (size_t i = 0; machine_at(i); i++) {
                AUTO(string_drop) char *program = NULL;
                if (machine_program(machine_at(i), &program) >= 0)
                        return;
        }
        error_set(e, ERROR_NOT_SUPPORTED, "No emulator is installed: install package %s", machine_at(0)->package);
}

static int qemu_probe(const DriverHost *host, GuestAnswer answer, void *userdata, Error *e) {
        AUTO(error_clear) Error verdict = ERROR_INIT;

        find_any_emulator(&verdict);
        return probe_answer_later(host, &verdict, answer, userdata, e);
}

static int qemu_emulator(size_t index, const char **ret_arch, char **ret_path) {
        const Machine *machine = machine_at(index);
        if (!machine)
                return -ENOENT;

        int r = machine_program(machine, ret_path);
        if (r == -ENOENT)
                return 0;
        *ret_arch = machine->arch;
        return r < 0 ? r : 1;
}

/* ---- can it run here ---- */

static int qemu_check(const DriverHost *host, const DomainSpec *spec, Error *e) {
        const Machine *machine;

        if (spec->type != MACHINE_DEFAULT)
                return error_set(e, ERROR_NOT_SUPPORTED, "Machines of type \"%s\" are Xen's: use hypervisor xen",
                                 machine_type_name(spec->type));
        int r = boot_check(host, spec, e);
        return r < 0 ? r : machine_check(spec, &machine, e);
}

static int kvm_check(const DriverHost *host, const DomainSpec *spec, Error *e) {
        if (!string_equal(spec->arch, host_arch())) {
                AUTO(string_drop) char *shown = string_escape(spec->arch, 64);
                return error_set(
                        e, ERROR_NOT_SUPPORTED,
                        "KVM runs guests of this host's architecture (%s) only, not \"%s\": use hypervisor qemu",
                        host_arch(), string_or(shown, "?"));
        }
        return qemu_check(host, spec, e);
}

/* ---- life ---- */

static int new_guest(bool kvm, Guest **ret) {
        QemuGuest *q = calloc(1, sizeof *q);

        if (!q)
                return -ENOMEM;
        q->kvm = kvm;
        q->process = PROCESS_INIT;
        q->words.fd = -1;
        q->listen_qmp = q->listen_agent = q->firmware_code = q->firmware_vars = q->stderr_fd = -1;
        boot_loader_init(&q->loader);
        spawn_init(&q->spawn);
        guest_files_init(&q->guest.files);
        *ret = &q->guest;
        return 0;
}

static int qemu_new(Guest **ret) {
        return new_guest(false, ret);
}

static int kvm_new(Guest **ret) {
        return new_guest(true, ret);
}

static Guest *qemu_free(Guest *g) {
        if (!g)
                return NULL;
        qemu_release(qemu_guest(g));
        free(qemu_guest(g));
        return NULL;
}

const Driver qemu_driver = {
        .name = "qemu",
        .probe = qemu_probe,
        .emulator = qemu_emulator,
        .check = qemu_check,
        .new = qemu_new,
        .free = qemu_free,
        .start = qemu_start,
        .adopt = qemu_adopt,
        .stop = qemu_stop,
        .reset = qemu_reset,
        .pause = qemu_pause,
        .resume = qemu_resume,
        .shutdown = qemu_shutdown,
        .screenshot = qemu_screenshot,
        .open_vnc = qemu_open_vnc,
        .open_agent = qemu_open_agent,
};

const Driver kvm_driver = {
        .name = "kvm",
        .probe = kvm_probe,
        .check = kvm_check,
        .new = kvm_new,
        .free = qemu_free,
        .start = qemu_start,
        .adopt = qemu_adopt,
        .stop = qemu_stop,
        .reset = qemu_reset,
        .pause = qemu_pause,
        .resume = qemu_resume,
        .shutdown = qemu_shutdown,
        .screenshot = qemu_screenshot,
        .open_vnc = qemu_open_vnc,
        .open_agent = qemu_open_agent,
};
