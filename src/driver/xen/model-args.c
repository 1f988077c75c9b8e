#include "driver/xen/model-args.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"
#include "core/mac.h"

static bool all_raw(const DomainSpec *spec) {
        for (size_t i = 0; i < spec->n_disks; i++)
                if (spec->disks[i].format != DISK_RAW)
                        return false;
        return true;
}

bool model_wanted(MachineType type, const DomainSpec *spec) {
        return type == MACHINE_HVM || !all_raw(spec) || spec->vnc_password;
}

bool model_has_screen(MachineType type, const DomainSpec *spec) {
        return type == MACHINE_HVM || spec->vnc_password;
}

bool model_offers_pv(const DomainSpec *spec) {
        return all_raw(spec);
}

/* It opens what only root may (the hypervisor's devices, the socket of the store), and then becomes somebody who may
 * do nothing: no other ids, no hypercall for any other domain, no connection to the store.
 *
 * The filter of system calls is its jail's: QEMU for Xen is built without one (-sandbox).
 *
 * A backend cannot restrict itself: it has to map what its guest grants, and to say in the store how it is. */
static void add_privilege(const ModelArgs *m, Argv *a) {
        argv_add_pairf(a, "-xen-domid", "%" PRIu32, m->id);
        if (m->stub) /* Xen itself allows its domain nothing more */
                return;
        argv_add(a, m->type == MACHINE_HVM ? "-xen-domid-restrict" : "-xen-attach");
        argv_add_pairf(a, "-runas", "%u:%u", (unsigned)m->uid, (unsigned)m->uid);
}

static void add_machine(const ModelArgs *m, Argv *a) {
        argv_add_pair(a, "-name", m->name);
        argv_add(a, "-nodefaults");
        argv_add(a, "-no-user-config");
        if (!m->stub) /* there it would never tell in the store that it runs */
                argv_add(a, "-S");
        argv_add(a, "-no-shutdown");
        argv_add_pair(a, "-msg", "timestamp=off");
        if (m->type != MACHINE_HVM)
                argv_add_pair(a, "-machine", "xenpv");
        else if (model_offers_pv(m->spec))
                argv_add_pair(a, "-machine", "xenfv,suppress-vmdesc=on");
        else
                argv_add_pair(a, "-machine", "pc,accel=xen,suppress-vmdesc=on");
        argv_add_pairf(a, "-m", "%" PRIu64 "M", m->memory >> 20);
        argv_add_pairf(a, "-smp", "%u", m->spec->vcpus);
}

static void add_monitor(const ModelArgs *m, Argv *a, EmulatorFds *fds) {
        argv_add_pairf(a, "-chardev", "socket,id=qmp,fd=%d,server=on,wait=off", emulator_give_fd(fds, m->qmp_fd));
        argv_add_pair(a, "-mon", "chardev=qmp,mode=control");
}

/* No display listens anywhere. The password is asked for by a gate (gate.h). */
static void add_vnc(Argv *a) {
        argv_add_pair(a, "-display", "none");
        argv_add_pair(a, "-vnc", "none");
}

static void add_serial(Argv *a) {
        argv_add_pair(a, "-chardev", "pipe,id=console,path=" MODEL_CONSOLE_PATH);
        argv_add_pair(a, "-serial", "chardev:console");
}

static void add_stub_lines(Argv *a) {
        argv_add_pair(a, "-chardev", "pipe,id=console,path=" MODEL_STUB_SERIAL_PATH);
        argv_add_pair(a, "-serial", "chardev:console");
        argv_add_pair(a, "-display", "none");
        argv_add_pair(a, "-vnc", "unix:" MODEL_STUB_VNC_PATH ",share=force-shared");
}

/* A disk that a kernel may put away for Xen's own is a -drive: of any other QEMU drops the device's reference, which is
 * the last one, and goes on with what it has freed. Left to itself a -drive is first opened for reading alone, which is
 * not what the descriptor is open for. */
static void add_drive(size_t index, const DiskLayer *disk, bool block_device, const char *filename, const char *direct,
                      Argv *a) {
        argv_add_pairf(a, "-drive",
                       "if=none,id=disk%zu-0,driver=raw,read-only=%s,auto-read-only=off,discard=unmap,cache.direct=%s,"
                       "file.driver=%s,"
                       "file.filename=%s,file.locking=on",
                       index, disk->read_only ? "on" : "off", direct, block_device ? "host_device" : "file", filename);
}

static void add_raw_disk(const ModelArgs *m, size_t index, Argv *a, EmulatorFds *fds) {
        const DiskLayer *disk = &m->files->disks[index].layers[0];
        unsigned set = EMULATOR_SET_DISK(index, 0);
        char filename[32];

        if (m->stub) {
                /* What the model has not yet written is not to be lost with it: the domain's page cache is left out. */
                snprintf(filename, sizeof filename, "/dev/xvd%c", (char)('a' + index));
                add_drive(index, disk, true, filename, "on", a);
                return;
        }
        snprintf(filename, sizeof filename, "/dev/fdset/%u", set);
        emulator_give_set(fds, a, disk->fd, set);
        add_drive(index, disk, disk->block_device, filename, "off", a);
}

/* By the protocol of Xen's own drivers, those that the kernel's backend does not serve. */
static void add_xen_disks(const ModelArgs *m, Argv *a, EmulatorFds *fds) {
        for (size_t i = 0; i < m->files->n_disks; i++) {
                if (m->spec->disks[i].format == DISK_RAW)
                        continue;
                emulator_add_nodes(fds, a, &m->files->disks[i], i);
                argv_add_pairf(a, "-device", "xen-disk,drive=disk%zu-0,vdev=xvd%c", i, (char)('a' + i));
        }
}

/* A disk that may not be written to is a CD-ROM, since there are no such hard disks. */
static void add_disk(const ModelArgs *m, size_t index, Argv *a, EmulatorFds *fds) {
        const DiskFiles *disk = &m->files->disks[index];

        if (model_offers_pv(m->spec))
                add_raw_disk(m, index, a, fds);
        else
                emulator_add_nodes(fds, a, disk, index);
        argv_add_pairf(a, "-device", "%s,drive=disk%zu-0,bus=ide.%zu,unit=%zu",
                       disk->layers[0].read_only ? "ide-cd" : "ide-hd", index, index / 2, index % 2);
}

static void add_nic(const ModelArgs *m, size_t index, Argv *a, EmulatorFds *fds) {
        char mac[MAC_TEXT_MAX];

        if (m->stub)
                argv_add_pairf(a, "-netdev",
                               "tap,id=net%zu,ifname=tap%zu,script=" MODEL_STUB_IFUP_PATH ",downscript=no", index,
                               index);
        else
                argv_add_pairf(a, "-netdev", "tap,id=net%zu,fd=%d", index, emulator_give_fd(fds, m->taps[index]));
        argv_add_pairf(a, "-device", "e1000,netdev=net%zu,mac=%s,romfile=", index,
                       mac_format(&m->spec->nics[index].mac, mac));
}

static void add_boot(const ModelArgs *m, Argv *a) {
        bool cd_first = m->files->n_disks > 0 && m->files->disks[0].layers[0].read_only;
        const char *cmdline = m->files->cmdline ? m->files->cmdline : m->spec->cmdline;

        argv_add_pair(a, "-boot", cd_first ? "order=dc" : "order=cd");
        if (m->files->kernel_fd < 0)
                return;
        argv_add_pair(a, "-kernel", MODEL_KERNEL_PATH);
        if (m->files->initrd_fd >= 0)
                argv_add_pair(a, "-initrd", MODEL_INITRD_PATH);
        if (cmdline && *cmdline && !m->stub) /* scripts/stubdomain/init adds it there */
                argv_add_pair(a, "-append", cmdline);
}

static void add_pc(const ModelArgs *m, Argv *a, EmulatorFds *fds) {
        if (m->stub)
                add_stub_lines(a);
        else {
                add_monitor(m, a, fds);
                add_serial(a);
                add_vnc(a);
        }
        argv_add_pairf(a, "-device", "VGA,vgamem_mb=%" PRIu64, (uint64_t)MODEL_VIDEO_MEMORY >> 20);
        for (size_t i = 0; i < m->files->n_disks && i < MODEL_DISKS_MAX; i++)
                add_disk(m, i, a, fds);
        for (size_t i = 0; i < m->spec->n_nics; i++)
                add_nic(m, i, a, fds);
        add_boot(m, a);
}

int model_args(const ModelArgs *m, char ***ret_argv, EmulatorFds *fds) {
        AUTO(argv_done) Argv a = ARGV_INIT;

        fds->count = 0;
        argv_add(&a, m->program);
        add_privilege(m, &a);
        add_machine(m, &a);
        if (m->type != MACHINE_HVM) {
                add_monitor(m, &a, fds);
                add_vnc(&a);
                argv_add_pair(&a, "-vga", model_has_screen(m->type, m->spec) ? "xenfb" : "none");
                add_xen_disks(m, &a, fds);
        } else
                add_pc(m, &a, fds);
        if (fds->count > EMULATOR_FDS_MAX)
                return -E2BIG;
        return argv_take(&a, ret_argv);
}

/* ---- what it has become ---- */

/* The line "NAME:\tVALUE\n", VALUE exactly. */
static bool says(const char *status, const char *name, const char *value) {
        size_t name_length = strlen(name), value_length = strlen(value);

        for (const char *line = status; line && *line;) {
                const char *at = line + name_length;
                if (strncmp(line, name, name_length) == 0 && at[0] == ':' && at[1] == '\t')
                        return strncmp(at + 2, value, value_length) == 0 && at[2 + value_length] == '\n';
                line = strchr(line, '\n');
                line = line ? line + 1 : NULL;
        }
        return false;
}

bool model_is_harmless(const char *status, uid_t uid) {
        static const char *const empty[] = { "CapInh", "CapPrm", "CapEff", "CapAmb" };
        char ids[64], groups[16];
        unsigned id = (unsigned)uid;

        snprintf(ids, sizeof ids, "%u\t%u\t%u\t%u", id, id, id, id);
        snprintf(groups, sizeof groups, "%u ", id);
        for (size_t i = 0; i < ARRAY_LEN(empty); i++)
                if (!says(status, empty[i], "0000000000000000"))
                        return false;
        return says(status, "Uid", ids) && says(status, "Gid", ids) && says(status, "Groups", groups) &&
               says(status, "NoNewPrivs", "1") && says(status, "Seccomp", "2");
}
