/* Real emulators: started in their jail (of the system scope as root, else of the session scope), looked at, ended in
 * every way, taken over by a second daemon. Needs the emulators; what boots Linux needs the guest that
 * scripts/guest-image.sh makes, found through DEBMARSHAL_GUESTS, its directory. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "driver/qemu/kvm-probe.h"
#include "driver/qemu/qemu-internal.h"
#include "driver/test-harness.h"

static Harness harness;

static int set_up(void **state) {
        (void)state;
        harness_begin(&harness);
        return 0;
}

static int tear_down(void **state) {
        (void)state;
        harness_end(&harness);
        return 0;
}

static void begin_bare(Run *r, const char *name, const char *arch) {
        DomainSpec spec = DOMAIN_SPEC_INIT;

        spec.arch = strdup(arch);
        run_begin(r, &harness, &qemu_driver, name, &spec);
}

/* ---- disks ---- */

static void make_disk(const char *name, off_t size) {
        AUTO(fd_drop) int fd = openat(harness.host.domains_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, size), 0);
}

static void add_layer(Run *r, size_t disk, const char *name, DiskFormat format, bool read_only) {
        DiskFiles *d = &r->guest->files.disks[disk];
        struct stat st;
        int fd = openat(harness.host.domains_fd, name, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        d->layers[d->n_layers++] =
                (DiskLayer){ .fd = fd, .format = format, .read_only = read_only, .block_device = S_ISBLK(st.st_mode) };
}

static void add_disk(Run *r, const char *name, DiskFormat format, bool read_only) {
        DomainSpec *spec = &r->domain.spec;

        spec->disks = reallocarray(spec->disks, spec->n_disks + 1, sizeof *spec->disks);
        assert_non_null(spec->disks);
        spec->disks[spec->n_disks] = (DiskSpec){ string_printf("%s/%s", harness.directory, name), format, read_only };
        add_layer(r, spec->n_disks++, name, format, read_only);
        r->guest->files.n_disks = spec->n_disks;
}

/* A shell command in the harness's directory. */
static void run_command(const char *text) {
        AUTO(string_drop) char *command = string_printf("cd %s && %s", harness.directory, text);

        assert_non_null(command);
        assert_int_equal(system(command), 0);
}

/* ---- a machine without anything to boot ---- */

static void check_rfb(Run *r, char security) {
        char buffer[16] = "";

        run_request(r, qemu_driver.open_vnc);
        assert_false(r->answer_failed);
        struct timeval patience = { 10, 0 };
        setsockopt(r->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        assert_int_equal(recv(r->fd, buffer, 12, MSG_WAITALL), 12);
        assert_memory_equal(buffer, "RFB 003.008\n", 12);
        assert_int_equal(send(r->fd, buffer, 12, MSG_NOSIGNAL), 12);
        assert_int_equal(recv(r->fd, buffer, 2, MSG_WAITALL), 2);
        assert_int_equal(buffer[0], 1);
        assert_int_equal(buffer[1], security);
}

static void check_screenshot(Run *r) {
        char magic[8];

        run_request(r, qemu_driver.screenshot);
        assert_false(r->answer_failed);
        assert_int_equal(pread(r->fd, magic, sizeof magic, 0), sizeof magic);
        assert_memory_equal(magic, "\x89PNG\r\n\x1a\n", 8);
}

static void test_life(void **state) {
        Run r;

        (void)state;
        begin_bare(&r, "debmarshal-1", "x86_64");
        run_start(&r);
        assert_int_equal(r.guest->n_taps, 0);
        run_request(&r, qemu_driver.pause);
        assert_true(r.paused);
        run_request(&r, qemu_driver.resume);
        assert_false(r.paused);
        for (int i = 0; i < 3; i++)
                check_screenshot(&r);
        check_rfb(&r, 1);
        check_rfb(&r, 1);
        run_request(&r, qemu_driver.open_agent);
        assert_false(r.answer_failed);
        run_request(&r, qemu_driver.shutdown);
        assert_false(r.answer_failed);
        run_request(&r, qemu_driver.reset);
        assert_false(r.answer_failed);
        run_stop(&r);
        assert_int_equal(r.ended, 0);
        run_end(&r);
}

static void test_jailed(void **state) {
        char path[64], status[4096], wanted[64];
        Run r;

        (void)state;
        begin_bare(&r, "debmarshal-1", "x86_64");
        run_start(&r);
        snprintf(path, sizeof path, "/proc/%d/status", (int)r.domain.process.pid);
        AUTO(fd_drop) int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = read(fd, status, sizeof status - 1);
        assert_true(n > 0);
        status[n] = '\0';
        uid_t uid = geteuid() == 0 ? r.domain.jail_uid : geteuid();
        snprintf(wanted, sizeof wanted, "Uid:\t%u\t%u\t%u\t%u\n", uid, uid, uid, uid);
        assert_non_null(strstr(status, wanted));
        assert_non_null(strstr(status, "CapEff:\t0000000000000000\n"));
        assert_non_null(strstr(status, "CapBnd:\t0000000000000000\n"));
        assert_non_null(strstr(status, "NoNewPrivs:\t1\n"));
        assert_non_null(strstr(status, "Seccomp:\t2\n"));
        run_stop(&r);
        run_end(&r);
}

static void test_paused_and_password(void **state) {
        Run r;

        (void)state;
        begin_bare(&r, "debmarshal-1", "x86_64");
        r.domain.spec.paused = true;
        r.domain.spec.vnc_password = strdup("se,cret");
        run_start(&r);
        check_rfb(&r, 2);
        run_request(&r, qemu_driver.resume);
        assert_false(r.answer_failed);
        assert_int_equal(r.paused_calls, 1);
        assert_false(r.paused);
        run_stop(&r);
        run_end(&r);
}

static void check_machine(const char *arch, Firmware firmware) {
        AUTO(error_clear) Error e = ERROR_INIT;
        Run r;

        begin_bare(&r, "debmarshal-1", arch);
        r.domain.spec.firmware = firmware;
        r.domain.spec.vcpus = 2;
        if (qemu_driver.check(&harness.host, &r.domain.spec, &e) < 0)
                print_message("left out: %s\n", error_text(&e));
        else {
                run_start(&r);
                check_screenshot(&r);
                run_stop(&r);
        }
        run_end(&r);
}

/* Machines without firmware of their own: any bytes do for a kernel that never runs. */
static void check_kernel_machine(const char *arch) {
        AUTO(error_clear) Error e = ERROR_INIT;
        Run r;

        begin_bare(&r, "debmarshal-1", arch);
        r.domain.spec.kernel = strdup("/kernel");
        r.domain.spec.initrd = strdup("/initrd");
        r.domain.spec.paused = true;
        assert_int_equal(fd_memfd("kernel", "0123456789abcdef", 16, false, &r.guest->files.kernel_fd), 0);
        assert_int_equal(fd_memfd("initrd", "0123456789abcdef", 16, false, &r.guest->files.initrd_fd), 0);
        if (qemu_driver.check(&harness.host, &r.domain.spec, &e) < 0)
                print_message("left out: %s\n", error_text(&e));
        else {
                run_start(&r);
                check_screenshot(&r);
                run_stop(&r);
        }
        run_end(&r);
}

static void test_machines(void **state) {
        (void)state;
        check_machine("x86_64", FIRMWARE_UEFI);
        check_machine("i386", FIRMWARE_BIOS);
        check_machine("aarch64", FIRMWARE_UEFI);
        check_kernel_machine("arm");
        check_kernel_machine("riscv64");
}

/* ---- starts that fail ---- */

static void check_start_fails(Run *r, ErrorId id, const char *words) {
        assert_true(run_until(r, &r->started, 1, 30));
        assert_true(r->start_failed);
        assert_int_equal(r->error_id, id);
        if (!strstr(r->text, words))
                fail_msg("\"%s\" is not in: %s", words, r->text);
        if (r->recorded)
                assert_false(run_alive(r));
        run_check_clean(r);
}

static void test_disk_in_use(void **state) {
        Run a, b;

        (void)state;
        make_disk("disk", 1 << 20);
        begin_bare(&a, "debmarshal-1", "x86_64");
        add_disk(&a, "disk", DISK_RAW, false);
        run_start(&a);
        begin_bare(&b, "debmarshal-2", "x86_64");
        add_disk(&b, "disk", DISK_RAW, false);
        assert_int_equal(qemu_driver.start(b.guest, NULL), 0);
        check_start_fails(&b, ERROR_HYPERVISOR_FAILED, "exited with status 1: ");
        assert_non_null(strstr(b.text, "Failed to get \"write\" lock"));
        assert_non_null(strstr(b.text, "(disk /tmp/test-driver-"));
        run_end(&b);
        run_stop(&a);
        run_end(&a);

        /* Free again, and readers share. */
        begin_bare(&a, "debmarshal-1", "x86_64");
        add_disk(&a, "disk", DISK_RAW, true);
        run_start(&a);
        begin_bare(&b, "debmarshal-2", "x86_64");
        add_disk(&b, "disk", DISK_RAW, true);
        run_start(&b);
        run_stop(&b);
        run_stop(&a);
        run_end(&b);
        run_end(&a);
}

/* Two guests write to their own layers over the same base; nobody writes to a layer that another stands on. */
static void test_backing_chain(void **state) {
        Run a, b;

        (void)state;
        if (access("/usr/bin/qemu-img", X_OK) < 0) {
                print_message("left out: no qemu-img\n");
                skip();
        }
        make_disk("base", 8 << 20);
        run_command("qemu-img create -q -f qcow2 -b base -F raw middle");
        run_command("qemu-img create -q -f qcow2 -b middle -F qcow2 top-a");
        run_command("qemu-img create -q -f qcow2 -b middle -F qcow2 top-b");
        begin_bare(&a, "debmarshal-1", "x86_64");
        add_disk(&a, "top-a", DISK_QCOW2, false);
        add_layer(&a, 0, "middle", DISK_QCOW2, true);
        add_layer(&a, 0, "base", DISK_RAW, true);
        run_start(&a);
        begin_bare(&b, "debmarshal-2", "x86_64");
        add_disk(&b, "top-b", DISK_QCOW2, false);
        add_layer(&b, 0, "middle", DISK_QCOW2, true);
        add_layer(&b, 0, "base", DISK_RAW, true);
        run_start(&b);
        run_stop(&b);
        run_end(&b);
        begin_bare(&b, "debmarshal-2", "x86_64");
        add_disk(&b, "middle", DISK_QCOW2, false);
        add_layer(&b, 0, "base", DISK_RAW, true);
        assert_int_equal(qemu_driver.start(b.guest, NULL), 0);
        check_start_fails(&b, ERROR_HYPERVISOR_FAILED, "lock");
        run_end(&b);
        run_stop(&a);
        run_end(&a);
}

static void test_block_device(void **state) {
        Run r;

        (void)state;
        if (geteuid() != 0) {
                print_message("left out: a loop device takes root\n");
                skip();
        }
        make_disk("image", 8 << 20);
        run_command("ln -s $(losetup -f --show image) device");
        begin_bare(&r, "debmarshal-1", "x86_64");
        add_disk(&r, "device", DISK_RAW, false);
        assert_true(r.guest->files.disks[0].layers[0].block_device);
        run_start(&r);
        run_stop(&r);
        run_end(&r);
        run_command("losetup -d $(readlink device)");
}

static void test_refused_record(void **state) {
        Run r;

        (void)state;
        begin_bare(&r, "debmarshal-1", "x86_64");
        r.fail_record = true;
        assert_int_equal(qemu_driver.start(r.guest, NULL), 0);
        check_start_fails(&r, ERROR_INTERNAL, "the record was refused");
        run_end(&r);
}

/* In the system scope they are copied for the jail's uid, in memory that nobody is charged with. */
static void test_kernel_larger_than_memory(void **state) {
        AUTO(error_clear) Error e = ERROR_INIT;
        Run r;

        (void)state;
        make_disk("kernel", 1 << 20);
        make_disk("initrd", (64 << 20) + 1);
        begin_bare(&r, "debmarshal-1", "x86_64");
        r.domain.spec.memory = 64 << 20;
        r.domain.spec.kernel = strdup("/kernel");
        r.domain.spec.initrd = strdup("/initrd");
        GuestFiles *f = &r.guest->files;
        f->kernel_fd = openat(harness.host.domains_fd, "kernel", O_RDONLY | O_CLOEXEC);
        f->initrd_fd = openat(harness.host.domains_fd, "initrd", O_RDONLY | O_CLOEXEC);
        f->kernel_size = 1 << 20;
        f->initrd_size = 63 << 20; /* as it was measured before it grew */
        if (harness.host.privileged) {
                assert_int_equal(qemu_driver.start(r.guest, NULL), 0);
                check_start_fails(&r, ERROR_HYPERVISOR_FAILED, "File too large");
                run_end(&r);
                begin_bare(&r, "debmarshal-2", "x86_64");
                r.domain.spec.memory = 64 << 20;
                f = &r.guest->files;
        }
        f->kernel_size = 1 << 20;
        f->initrd_size = 64 << 20;
        assert_true(qemu_driver.start(r.guest, &e) < 0);
        assert_int_equal(e.id, ERROR_INVALID_INPUT);
        assert_string_equal(error_text(&e), "Kernel and initrd (65 MiB) do not fit into the domain's memory (64 MiB)");
        f->kernel_size = f->initrd_size = UINT64_MAX;
        error_clear(&e);
        assert_true(qemu_driver.start(r.guest, &e) < 0);
        assert_int_equal(e.id, ERROR_INVALID_INPUT);
        run_check_clean(&r);
        run_end(&r);
}

/* It may pass at any step of the start. */
static void test_deadline(void **state) {
        (void)state;
        for (uint64_t usec = 1000; usec < 20000; usec += 2500) {
                Run r;

                harness.limits.start_usec = usec;
                begin_bare(&r, "debmarshal-1", "x86_64");
                assert_int_equal(qemu_driver.start(r.guest, NULL), 0);
                check_start_fails(&r, ERROR_TIMEOUT, "");
                run_end(&r);
        }
}

static void test_too_much(void **state) {
        Run r;

        (void)state;
        begin_bare(&r, "debmarshal-1", "x86_64");
        r.domain.spec.vcpus = 100000;
        assert_int_equal(qemu_driver.start(r.guest, NULL), 0);
        check_start_fails(&r, ERROR_HYPERVISOR_FAILED, "CPUs");
        run_end(&r);
}

static void test_stop_while_starting(void **state) {
        (void)state;
        for (unsigned delay = 0; delay <= 60; delay += 6) {
                Run r;

                begin_bare(&r, "debmarshal-1", "x86_64");
                assert_int_equal(qemu_driver.start(r.guest, NULL), 0);
                run_for(&r, delay);
                unsigned started = r.started;
                qemu_driver.stop(r.guest);
                qemu_driver.stop(r.guest);
                assert_int_equal(r.stopped, 0);
                assert_true(run_until(&r, &r.stopped, 1, 5));
                run_for(&r, 20);
                assert_int_equal(r.started, started);
                assert_int_equal(r.stopped, 1);
                if (r.recorded)
                        assert_false(run_alive(&r));
                run_check_clean(&r);
                run_end(&r);
        }
}

/* ---- ends ---- */

static void test_killed(void **state) {
        AUTO(error_clear) Error e = ERROR_INIT;
        Run r;

        (void)state;
        begin_bare(&r, "debmarshal-1", "x86_64");
        run_start(&r);
        kill(r.domain.process.pid, SIGKILL);
        assert_true(run_until(&r, &r.ended, 1, 5));
        assert_int_equal(r.reason, END_CRASH);
        assert_non_null(strstr(r.text, "killed by signal 9"));
        assert_true(qemu_driver.pause(r.guest, run_answer, &r, &e) < 0);
        assert_int_equal(e.id, ERROR_INVALID_STATE);
        run_stop(&r);
        assert_int_equal(r.ended, 1);
        run_end(&r);
}

/* An emulator that does nothing but say that it pauses and goes on. */
static void flood(Run *r, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                qemu_event(r->guest, "STOP", NULL);
                qemu_event(r->guest, "RESUME", NULL);
        }
}

static void test_flood_of_pauses(void **state) {
        Run r;

        (void)state;
        begin_bare(&r, "debmarshal-1", "x86_64");
        run_start(&r);
        run_for(&r, 150);
        unsigned before = r.paused_calls;
        flood(&r, 1000);
        assert_int_equal(r.paused_calls, before + 1); /* the first at once */
        assert_true(r.paused);
        run_for(&r, 250);
        assert_int_equal(r.paused_calls, before + 2); /* then the last */
        assert_false(r.paused);

        before = r.paused_calls;
        for (unsigned i = 0; i < 50; i++) {
                flood(&r, 10);
                run_for(&r, 10);
        }
        assert_in_range(r.paused_calls, before + 3, before + 12);

        /* An answer does not come before the state that it means, and there is room for the question. */
        flood(&r, 1000);
        run_request(&r, qemu_driver.pause);
        assert_false(r.answer_failed);
        assert_true(r.paused);
        flood(&r, 1000);
        run_request(&r, qemu_driver.resume);
        assert_false(r.answer_failed);
        assert_false(r.paused);

        /* Nothing comes after the end. */
        flood(&r, 1000);
        before = r.paused_calls;
        run_stop(&r);
        run_for(&r, 150);
        assert_int_equal(r.paused_calls, before);
        run_end(&r);
}

/* Requests under way are answered when the guest goes. */
static void test_stop_answers(void **state) {
        Run r;

        (void)state;
        begin_bare(&r, "debmarshal-1", "x86_64");
        run_start(&r);
        kill(r.domain.process.pid, SIGSTOP);
        assert_int_equal(qemu_driver.pause(r.guest, run_answer, &r, NULL), 0);
        assert_int_equal(qemu_driver.reset(r.guest, run_answer, &r, NULL), 0);
        assert_int_equal(qemu_driver.screenshot(r.guest, run_answer, &r, NULL), 0);
        run_for(&r, 50);
        assert_int_equal(r.answers, 0);
        run_stop(&r);
        assert_int_equal(r.answers, 3);
        assert_true(r.answer_failed);
        assert_int_equal(r.fd, -1);
        run_end(&r);
}

/* ---- a second daemon ---- */

static void test_adopt(void **state) {
        AUTO(error_clear) Error e = ERROR_INIT;
        Run r;

        (void)state;
        begin_bare(&r, "debmarshal-1", "x86_64");
        run_start(&r);
        run_renew(&r, &qemu_driver);
        assert_true(run_alive(&r));
        assert_int_equal(qemu_driver.adopt(r.guest, NULL), 0);
        assert_true(run_until(&r, &r.started, 1, 10));
        assert_false(r.start_failed);
        run_for(&r, 50);
        assert_int_equal(r.paused_calls + r.ended, 0);
        run_request(&r, qemu_driver.pause);
        check_screenshot(&r);

        run_renew(&r, &qemu_driver);
        assert_int_equal(qemu_driver.adopt(r.guest, NULL), 0);
        assert_true(run_until(&r, &r.paused_calls, 1, 10));
        assert_true(r.paused);
        run_stop(&r);

        run_renew(&r, &qemu_driver);
        assert_true(qemu_driver.adopt(r.guest, &e) < 0);
        assert_int_equal(e.id, ERROR_HYPERVISOR_FAILED);
        run_end(&r);
}

/* One that cannot be reached is ended, not left. */
static void test_adopt_without_monitor(void **state) {
        Run r;

        (void)state;
        begin_bare(&r, "debmarshal-1", "x86_64");
        run_start(&r);
        run_renew(&r, &qemu_driver);
        assert_int_equal(unlinkat(r.guest->dir_fd, "qmp.sock", 0), 0);
        assert_int_equal(qemu_driver.adopt(r.guest, NULL), 0);
        check_start_fails(&r, ERROR_INTERNAL, "Failed to connect");
        run_end(&r);
}

/* A real second process: the first one dies by SIGKILL with the emulator running. */
static void test_adopt_after_death(void **state) {
        int pipe_fds[2];
        Run r;

        (void)state;
        assert_int_equal(pipe(pipe_fds), 0);
        begin_bare(&r, "debmarshal-1", "x86_64");
        pid_t daemon = fork();
        if (daemon == 0) {
                harness.event = NULL;
                if (sd_event_new(&harness.event) < 0)
                        _exit(1);
                harness.host.event = harness.event;
                run_renew(&r, &qemu_driver);
                run_start(&r);
                if (write(pipe_fds[1], &r.domain.process, sizeof r.domain.process) < 0)
                        _exit(1);
                raise(SIGKILL);
        }
        assert_int_equal(read(pipe_fds[0], &r.domain.process, sizeof r.domain.process), sizeof r.domain.process);
        assert_int_equal(waitpid(daemon, NULL, 0), daemon);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        assert_true(run_alive(&r));
        r.domain.state = DOMAIN_RUNNING;
        assert_int_equal(qemu_driver.adopt(r.guest, NULL), 0);
        assert_true(run_until(&r, &r.started, 1, 10));
        assert_false(r.start_failed);
        qemu_driver.stop(r.guest);
        assert_true(run_until(&r, &r.stopped, 1, 10));
        run_check_clean(&r);
        waitpid(r.domain.process.pid, NULL, 0); /* as the system's first process would */
        run_end(&r);
}

/* ---- Linux ---- */

static int guest_file(const char *debian_arch, const char *name) {
        const char *directory = getenv("DEBMARSHAL_GUESTS");
        AUTO(string_drop)
        char *path = string_printf("%s/%s/%s", string_or(directory, "/nonexistent"), debian_arch, name);

        return open(path, O_RDONLY | O_CLOEXEC);
}

static void begin_linux(Run *r, const char *arch, const char *debian_arch, const char *cmdline) {
        int kernel = guest_file(debian_arch, "vmlinuz"), initrd = guest_file(debian_arch, "initrd.gz");

        if (kernel < 0 || initrd < 0) {
                print_message("left out: no guest for %s in DEBMARSHAL_GUESTS\n", debian_arch);
                skip();
        }
        begin_bare(r, "debmarshal-1", arch);
        r->domain.spec.memory = 256ULL << 20;
        r->domain.spec.kernel = strdup("/kernel");
        r->domain.spec.initrd = strdup("/initrd");
        r->domain.spec.cmdline = strdup(cmdline);
        r->guest->files.kernel_fd = kernel;
        r->guest->files.initrd_fd = initrd;
}

static void test_poweroff_and_again(void **state) {
        AUTO(error_clear) Error e = ERROR_INIT;
        Run r;

        (void)state;
        begin_linux(&r, "x86_64", "amd64", "console=ttyS0 a,b=c dm.run=cat%20/proc/cmdline dm.end=poweroff");
        r.domain.spec.on_reboot = END_DESTROY;
        run_start(&r);
        assert_true(run_until(&r, &r.ended, 1, 60));
        assert_int_equal(r.reason, END_POWEROFF);
        assert_true(run_console_has(&r, "a,b=c dm.run", 1));
        assert_true(run_alive(&r));
        assert_true(qemu_driver.resume(r.guest, run_answer, &r, &e) < 0);
        assert_int_equal(e.id, ERROR_INVALID_STATE);
        run_request(&r, qemu_driver.reset);
        assert_false(r.answer_failed);
        assert_true(run_until(&r, &r.ended, 2, 60));
        assert_int_equal(r.reason, END_POWEROFF);

        /* The end waits for a daemon that is not there. */
        run_renew(&r, &qemu_driver);
        assert_int_equal(qemu_driver.adopt(r.guest, NULL), 0);
        assert_true(run_until(&r, &r.ended, 1, 10));
        assert_int_equal(r.started, 1);
        assert_int_equal(r.reason, END_POWEROFF);
        run_stop(&r);
        run_end(&r);
}

static void test_reboot(void **state) {
        Run r;

        (void)state;
        begin_linux(&r, "x86_64", "amd64", "console=ttyS0 dm.end=reboot");
        r.domain.spec.on_reboot = END_DESTROY;
        run_start(&r);
        assert_true(run_until(&r, &r.ended, 1, 60));
        assert_int_equal(r.reason, END_REBOOT);
        run_stop(&r);
        run_end(&r);
}

static void test_panic(void **state) {
        Run r;

        (void)state;
        begin_linux(&r, "x86_64", "amd64", "console=ttyS0 dm.end=panic");
        run_start(&r);
        assert_true(run_until(&r, &r.ended, 1, 60));
        assert_int_equal(r.reason, END_CRASH);
        assert_non_null(strstr(r.text, "panicked"));
        run_stop(&r);
        run_end(&r);
}

#define PIPE_FULL (1 << 20) / 10 * 9

/* Bytes that wait in the console's FIFO. */
static int pending(const Run *r) {
        AUTO(string_drop) char *path = string_printf("%s/%s/console.out", harness.directory, r->domain.name);
        AUTO(fd_drop) int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        int bytes = 0;

        assert_true(fd >= 0);
        assert_int_equal(ioctl(fd, FIONREAD, &bytes), 0);
        return bytes;
}

/* What is printed while no daemon reads is there for the next one. */
static void test_console_outlives_daemon(void **state) {
        Run r;

        (void)state;
        begin_linux(&r, "x86_64", "amd64", "console=ttyS0 dm.run=echo%20hello-again dm.end=halt");
        run_start(&r);
        run_forget(&r);
        sleep(6);
        run_renew(&r, &qemu_driver);
        assert_int_equal(qemu_driver.adopt(r.guest, NULL), 0);
        assert_true(run_console_has(&r, "hello-again", 30));
        assert_true(run_console_has(&r, "Linux version", 1));
        run_stop(&r);
        run_end(&r);
}

/* A guest that prints more than the FIFO holds is held back, not stopped for good, and nothing of it is lost. */
static void test_console_overflows(void **state) {
        AUTO(string_drop) char *log = NULL;
        size_t length;
        Run r;

        (void)state;
        begin_linux(&r, "x86_64", "amd64",
                    "console=ttyS0 quiet dm.run=yes%200123456789abcde|head%20-c%201600000 dm.end=poweroff");
        run_start(&r);
        run_forget(&r);
        for (int i = 0; i < 60 && pending(&r) < PIPE_FULL; i++)
                usleep(500000);
        assert_true(pending(&r) >= PIPE_FULL);
        usleep(500000);
        run_renew(&r, &qemu_driver);
        assert_int_equal(qemu_driver.adopt(r.guest, NULL), 0);
        assert_true(run_until(&r, &r.ended, 1, 60));
        assert_int_equal(r.reason, END_POWEROFF);
        assert_true(run_console_has(&r, "DM-RC 0", 5));
        /* The log is shorter than what was printed, and whole up to its end. */
        assert_int_equal(file_read_all(r.guest->dir_fd, "console.log", 4 << 20, &log, &length), 0);
        size_t lines = 0;
        for (const char *at = log; (at = strstr(at, "0123456789abcde\r\n")); at++)
                lines++;
        assert_true(lines * 17 > length / 10 * 9);
        run_stop(&r);
        run_end(&r);
}

static void test_power_button_aarch64(void **state) {
        Run r;

        (void)state;
        begin_linux(&r, "aarch64", "arm64", "console=ttyAMA0");
        run_start(&r);
        assert_true(run_console_has(&r, "DM-READY", 90));
        run_for(&r, 1000);
        run_request(&r, qemu_driver.shutdown);
        assert_true(run_until(&r, &r.ended, 1, 60));
        assert_int_equal(r.reason, END_POWEROFF);
        run_stop(&r);
        run_end(&r);
}

/* ---- KVM ---- */

static void check_kvm_probe(bool privileged) {
        Run r;

        harness.host.privileged = privileged;
        begin_bare(&r, "debmarshal-1", "x86_64");
        assert_int_equal(kvm_probe(&harness.host, run_answer, &r, NULL), 0);
        assert_int_equal(r.answers, 0);
        assert_true(run_until(&r, &r.answers, 1, 10));
        if (r.answer_failed) {
                assert_int_equal(r.error_id, ERROR_NOT_SUPPORTED);
                assert_true(strlen(r.text) > 20);
                print_message("kvm: %s\n", r.text);
        }
        run_end(&r);
}

/* The system scope asks more: the device must be open to the emulators' uids. */
static void test_kvm_probe(void **state) {
        (void)state;
        check_kvm_probe(true);
        check_kvm_probe(false);
}

static void test_kvm_other_architecture(void **state) {
        AUTO(domain_spec_clear) DomainSpec spec = DOMAIN_SPEC_INIT;
        AUTO(error_clear) Error e = ERROR_INIT;

        (void)state;
        spec.arch = strdup("s390x");
        assert_true(kvm_driver.check(&harness.host, &spec, &e) < 0);
        assert_int_equal(e.id, ERROR_NOT_SUPPORTED);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_life),
                TEST(test_jailed),
                TEST(test_paused_and_password),
                TEST(test_machines),
                TEST(test_disk_in_use),
                TEST(test_backing_chain),
                TEST(test_block_device),
                TEST(test_refused_record),
                TEST(test_kernel_larger_than_memory),
                TEST(test_deadline),
                TEST(test_too_much),
                TEST(test_stop_while_starting),
                TEST(test_killed),
                TEST(test_flood_of_pauses),
                TEST(test_stop_answers),
                TEST(test_adopt),
                TEST(test_adopt_without_monitor),
                TEST(test_adopt_after_death),
                TEST(test_poweroff_and_again),
                TEST(test_reboot),
                TEST(test_panic),
                TEST(test_console_outlives_daemon),
                TEST(test_console_overflows),
                TEST(test_power_button_aarch64),
                TEST(test_kvm_probe),
                TEST(test_kvm_other_architecture),
        };

        if (access("/usr/bin/qemu-system-x86_64", X_OK) < 0) {
                puts("needs qemu-system-x86_64");
                return 77;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
