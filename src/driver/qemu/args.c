#include "driver/qemu/args.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/mac.h"

/* What every guest has. The guest's own end leaves QEMU waiting, so that the reason survives a daemon's absence; only
 * the broker ends the process. */
void qemu_args_base(const QemuArgs *q, Argv *a) {
        argv_add(a, q->program);
        argv_add_pair(a, "-name", q->name);
        argv_add(a, "-nodefaults");
        argv_add(a, "-no-user-config");
        argv_add(a, "-S");
        argv_add_pair(a, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        argv_add_pair(a, "-msg", "timestamp=off");
        argv_add_pairf(a, "-action", "shutdown=pause,panic=pause,reboot=%s",
                       q->spec->on_reboot == END_RESTART ? "reset" : "shutdown");
}

void qemu_args_machine(const QemuArgs *q, Argv *a) {
        uint64_t mib = q->spec->memory >> 20;
        bool uefi = q->firmware_code_fd >= 0;

        argv_add_pairf(a, "-machine", "%s,memory-backend=ram%s", q->machine->type,
                       uefi ? ",pflash0=firmware-code,pflash1=firmware-vars" : "");
        argv_add_pair(a, "-accel", q->kvm ? "kvm" : "tcg");
        if (q->kvm)
                argv_add_pair(a, "-cpu", "host");
        else if (q->machine->tcg_cpu)
                argv_add_pair(a, "-cpu", q->machine->tcg_cpu);
        argv_add_pairf(a, "-smp", "%u", q->spec->vcpus);
        argv_add_pairf(a, "-m", "%" PRIu64 "M", mib);
        argv_add_pairf(a, "-object", "memory-backend-memfd,id=ram,size=%" PRIu64 "M,share=on", mib);
        argv_add_pair(a, "-device", "virtio-rng-pci");
        argv_add_pair(a, "-device", "pvpanic-pci");
}

/* The code is opened read-only; the variables are the guest's own copy and go with it. */
void qemu_args_firmware(const QemuArgs *q, Argv *a, EmulatorFds *fds) {
        if (q->firmware_code_fd < 0)
                return;
        emulator_give_set(fds, a, q->firmware_code_fd, QEMU_SET_FIRMWARE_CODE);
        argv_add_pairf(a, "-blockdev",
                       "{\"driver\":\"file\",\"filename\":\"/dev/fdset/%u\",\"node-name\":\"firmware-code\","
                       "\"read-only\":true}",
                       QEMU_SET_FIRMWARE_CODE);
        emulator_give_set(fds, a, q->firmware_vars_fd, QEMU_SET_FIRMWARE_VARS);
        argv_add_pairf(a, "-blockdev",
                       "{\"driver\":\"file\",\"filename\":\"/dev/fdset/%u\",\"node-name\":\"firmware-vars\"}",
                       QEMU_SET_FIRMWARE_VARS);
}

void qemu_args_monitor(const QemuArgs *q, Argv *a, EmulatorFds *fds) {
        argv_add_pairf(a, "-chardev", "socket,id=qmp,fd=%d,server=on,wait=off", emulator_give_fd(fds, q->qmp_fd));
        argv_add_pair(a, "-mon", "chardev=qmp,mode=control");
}

void qemu_args_console(const QemuArgs *q, Argv *a) {
        (void)q;
        argv_add_pair(a, "-chardev", "pipe,id=console,path=" QEMU_CONSOLE_PATH);
        argv_add_pair(a, "-serial", "chardev:console");
}

void qemu_args_agent(const QemuArgs *q, Argv *a, EmulatorFds *fds) {
        argv_add_pairf(a, "-chardev", "socket,id=agent,fd=%d,server=on,wait=off", emulator_give_fd(fds, q->agent_fd));
        argv_add_pair(a, "-device", "virtio-serial-pci");
        argv_add_pair(a, "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0");
}

/* No display listens anywhere: a viewer's connection comes through QMP. */
void qemu_args_display(const QemuArgs *q, Argv *a) {
        argv_add_pair(a, "-display", "none");
        argv_add_pair(a, "-vnc", q->spec->vnc_password ? "none,password=on" : "none");
        argv_add_pair(a, "-device", q->machine->video);
        for (const char *const *i = q->machine->inputs; *i; i++)
                argv_add_pair(a, "-device", *i);
}

void qemu_args_disk(const QemuArgs *q, size_t index, Argv *a, EmulatorFds *fds) {
        emulator_add_nodes(fds, a, &q->files->disks[index], index);
        argv_add_pairf(a, "-device", "virtio-blk-pci,drive=disk%zu-0,bootindex=%zu", index, index + 1);
}

/* romfile is empty: nothing here boots from the network, and loading the ROM takes time. */
void qemu_args_nic(const QemuArgs *q, size_t index, Argv *a, EmulatorFds *fds) {
        char mac[MAC_TEXT_MAX];

        argv_add_pairf(a, "-netdev", "tap,id=net%zu,fd=%d", index, emulator_give_fd(fds, q->taps[index]));
        argv_add_pairf(a, "-device", "virtio-net-pci,netdev=net%zu,mac=%s,romfile=", index,
                       mac_format(&q->spec->nics[index].mac, mac));
}

void qemu_args_kernel(const QemuArgs *q, Argv *a) {
        const char *cmdline = q->files->cmdline ? q->files->cmdline : q->spec->cmdline;

        if (q->files->kernel_fd < 0) {
                argv_add_pair(a, "-boot", "strict=on");
                return;
        }
        argv_add_pair(a, "-kernel", QEMU_KERNEL_PATH);
        if (q->files->initrd_fd >= 0)
                argv_add_pair(a, "-initrd", QEMU_INITRD_PATH);
        if (cmdline && *cmdline)
                argv_add_pair(a, "-append", cmdline);
}

int qemu_args(const QemuArgs *q, char ***ret_argv, EmulatorFds *fds) {
        AUTO(argv_done) Argv a = ARGV_INIT;

        fds->count = 0;
        qemu_args_base(q, &a);
        qemu_args_machine(q, &a);
        qemu_args_firmware(q, &a, fds);
        qemu_args_monitor(q, &a, fds);
        qemu_args_console(q, &a);
        qemu_args_agent(q, &a, fds);
        qemu_args_display(q, &a);
        for (size_t i = 0; i < q->files->n_disks; i++)
                qemu_args_disk(q, i, &a, fds);
        for (size_t i = 0; i < q->n_taps; i++)
                qemu_args_nic(q, i, &a, fds);
        qemu_args_kernel(q, &a);
        if (fds->count > EMULATOR_FDS_MAX)
                return -E2BIG;
        return argv_take(&a, ret_argv);
}
