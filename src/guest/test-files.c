/* Real files, opened as real users: needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/test-remove.h"
#include "guest/files.h"

/* Uids that no account has; the files are theirs. */
#define ALICE 61001
#define BOB   61002

typedef struct Rig {
        sd_event *event;
        char dir[32];
        DiskSpec disks[DISKS_PER_DOMAIN_MAX];
        DomainSpec spec;
        FilesJob job;
        bool done;
        GuestFiles files;
        Error error;
} Rig;

static void job_done(FilesJob *j, GuestFiles *files, const Error *e) {
        Rig *rig = j->userdata;

        rig->done = true;
        if (error_copy(&rig->error, e) >= 0) {
                rig->files = *files;
                guest_files_init(files);
        }
}

static int setup(void **state) {
        Rig *rig = calloc(1, sizeof *rig);

        assert_non_null(rig);
        strcpy(rig->dir, "/tmp/test-files-XXXXXX");
        assert_non_null(mkdtemp(rig->dir));
        assert_int_equal(chmod(rig->dir, 0777), 0);
        assert_int_equal(chdir(rig->dir), 0);
        assert_true(sd_event_new(&rig->event) >= 0);
        files_init(&rig->job);
        guest_files_init(&rig->files);
        rig->spec = DOMAIN_SPEC_INIT;
        rig->spec.disks = rig->disks;
        rig->job.spec = &rig->spec;
        rig->job.privileged = true;
        rig->job.uid = ALICE;
        rig->job.deadline_usec = 10 * 1000000;
        rig->job.done = job_done;
        rig->job.userdata = rig;
        *state = rig;
        return 0;
}

static int teardown(void **state) {
        Rig *rig = *state;

        files_stop(&rig->job);
        sd_event_unref(rig->event);
        guest_files_clear(&rig->files);
        error_clear(&rig->error);
        for (size_t i = 0; i < rig->spec.n_disks; i++)
                free(rig->disks[i].path);
        free(rig->spec.kernel);
        free(rig->spec.initrd);
        assert_int_equal(chdir("/"), 0);
        assert_int_equal(test_remove_tree(rig->dir), 0);
        free(rig);
        return 0;
}

static char *path_of(Rig *rig, const char *name) {
        return name[0] == '/' ? string_printf("%s", name) : string_printf("%s/%s", rig->dir, name);
}

static void make_file(const char *name, uid_t uid, mode_t mode, const void *data, size_t length) {
        int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(fd_write_all(fd, data, length), 0);
        assert_int_equal(fchown(fd, uid, uid), 0);
        assert_int_equal(fchmod(fd, mode), 0);
        fd_drop(&fd);
}

static void make_raw(const char *name, uid_t uid, mode_t mode) {
        char data[512] = "raw";

        make_file(name, uid, mode, data, sizeof data);
}

/* format NULL: not said. */
static void make_qcow2(const char *name, const char *backing, const char *format) {
        uint8_t h[1024] = "QFI\xfb";
        size_t at = 112;

        h[7] = 3;
        h[23] = 16;   /* cluster bits */
        h[29] = 16;   /* 1 MiB */
        h[103] = 104; /* header length */
        if (format) {
                memcpy(h + 104, "\xe2\x79\x2a\xca\0\0\0", 7);
                h[111] = (uint8_t)strlen(format);
                memcpy(h + 112, format, strlen(format));
                at = 120 + 8;
        }
        if (backing) {
                h[15] = (uint8_t)at;
                h[19] = (uint8_t)strlen(backing);
                memcpy(h + at, backing, strlen(backing));
        }
        make_file(name, ALICE, 0600, h, sizeof h);
}

static void add_disk(Rig *rig, const char *name, DiskFormat format, bool read_only) {
        rig->disks[rig->spec.n_disks++] =
                (DiskSpec){ .path = path_of(rig, name), .format = format, .read_only = read_only };
}

static void run(Rig *rig) {
        assert_int_equal(files_start(&rig->job, rig->event, NULL), 0);
        assert_false(rig->done);
        while (!rig->done)
                assert_true(sd_event_run(rig->event, 15 * 1000000ULL) > 0);
}

static void expect_opened(Rig *rig) {
        run(rig);
        if (error_is_set(&rig->error))
                fail_msg("%s", error_text(&rig->error));
}

static void expect_refused(Rig *rig, ErrorId id, const char *part) {
        run(rig);
        if (!strstr(error_text(&rig->error), part))
                fail_msg("\"%s\" is not in: %s", part, error_text(&rig->error));
        assert_int_equal(rig->error.id, id);
        assert_int_equal(rig->files.n_disks, 0);
}

/* The one disk `name` is refused. */
static void expect_disk_refused(Rig *rig, const char *name, ErrorId id, const char *part) {
        error_clear(&rig->error);
        rig->done = false;
        for (size_t i = 0; i < rig->spec.n_disks; i++)
                free(rig->disks[i].path);
        rig->spec.n_disks = 0;
        add_disk(rig, name, DISK_RAW, false);
        expect_refused(rig, id, part);
}

static void test_opens_all(void **state) {
        Rig *rig = *state;
        char text[8] = "";

        make_raw("disk", ALICE, 0600);
        make_raw("cd", BOB, 0644);
        make_file("vmlinuz", BOB, 0644, "kernel", 6);
        make_file("initrd", ALICE, 0400, "initrd!", 7);
        add_disk(rig, "disk", DISK_RAW, false);
        add_disk(rig, "cd", DISK_RAW, true);
        rig->spec.kernel = path_of(rig, "vmlinuz");
        rig->spec.initrd = path_of(rig, "initrd");
        expect_opened(rig);

        assert_int_equal(rig->files.n_disks, 2);
        DiskLayer *disk = &rig->files.disks[0].layers[0], *cd = &rig->files.disks[1].layers[0];
        assert_int_equal(rig->files.disks[0].n_layers, 1);
        assert_int_equal(disk->size, 512);
        assert_false(disk->read_only || disk->block_device);
        assert_int_equal(fcntl(disk->fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR);
        assert_int_equal(fcntl(disk->fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        assert_true(cd->read_only);
        assert_int_equal(fcntl(cd->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
        assert_int_equal(read(rig->files.kernel_fd, text, sizeof text), 6);
        assert_string_equal(text, "kernel");
        assert_int_equal(rig->files.kernel_size, 6);
        assert_int_equal(rig->files.initrd_size, 7);
}

static void test_nothing_to_open(void **state) {
        Rig *rig = *state;

        expect_opened(rig);
        assert_int_equal(rig->files.n_disks, 0);
        assert_int_equal(rig->files.kernel_fd, -1);
}

static void test_rights_are_the_callers(void **state) {
        Rig *rig = *state;

        make_raw("bobs", BOB, 0600);
        make_raw("readable", BOB, 0644);
        assert_int_equal(mkdir("private", 0700), 0);
        make_raw("private/mine", ALICE, 0666);
        expect_disk_refused(rig, "bobs", ERROR_ACCESS_DENIED, "uid 61001 may not read and write it: Permission denied");
        expect_disk_refused(rig, "readable", ERROR_ACCESS_DENIED, "may not read and write");
        expect_disk_refused(rig, "private/mine", ERROR_ACCESS_DENIED, "uid 61001 may not reach it");
        /* The message names the file. */
        assert_non_null(strstr(error_text(&rig->error), "private/mine\": "));
}

static void test_groups_are_the_callers(void **state) {
        Rig *rig = *state;

        /* Root's group must not come along. */
        make_raw("roots", 0, 0660);
        expect_disk_refused(rig, "roots", ERROR_ACCESS_DENIED, "may not");
}

static void test_kernel_must_be_readable(void **state) {
        Rig *rig = *state;

        make_raw("secret", BOB, 0600);
        make_file("empty", ALICE, 0600, "", 0);
        rig->spec.kernel = path_of(rig, "secret");
        expect_refused(rig, ERROR_ACCESS_DENIED, "kernel \"");
        error_clear(&rig->error);
        rig->done = false;
        free(rig->spec.kernel);
        rig->spec.kernel = path_of(rig, "empty");
        expect_refused(rig, ERROR_INVALID_INPUT, "it is empty");
}

static void test_root_may_all(void **state) {
        Rig *rig = *state;

        make_raw("bobs", BOB, 0600);
        rig->job.uid = 0;
        add_disk(rig, "bobs", DISK_RAW, false);
        expect_opened(rig);
}

static void make_socket(const char *name) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        AUTO(fd_drop) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strcpy(address.sun_path, name);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
}

static void test_wrong_kinds(void **state) {
        Rig *rig = *state;

        assert_int_equal(mkdir("dir", 0777), 0);
        assert_int_equal(mkfifo("fifo", 0666), 0);
        assert_int_equal(chmod("fifo", 0666), 0);
        make_socket("socket");
        make_raw("file", ALICE, 0600);
        assert_int_equal(symlink("loop", "loop"), 0);
        expect_disk_refused(rig, "dir", ERROR_INVALID_INPUT, "it is a directory");
        expect_disk_refused(rig, "fifo", ERROR_INVALID_INPUT, "it is a FIFO");
        expect_disk_refused(rig, "socket", ERROR_INVALID_INPUT, "it is a socket");
        expect_disk_refused(rig, "/dev/null", ERROR_INVALID_INPUT, "it is a character device");
        expect_disk_refused(rig, "/dev/tty", ERROR_INVALID_INPUT, "it is a character device");
        expect_disk_refused(rig, "file/", ERROR_INVALID_INPUT, "Not a directory");
        expect_disk_refused(rig, "file/x", ERROR_INVALID_INPUT, "Not a directory");
        expect_disk_refused(rig, "none", ERROR_INVALID_INPUT, "No such file");
        expect_disk_refused(rig, "loop", ERROR_INVALID_INPUT, "too many symbolic links");
        expect_disk_refused(rig, "new\nline", ERROR_INVALID_INPUT, "new\\x0aline");
}

/* What the daemon has open is out of reach, however it is named: the worker has closed it, and does not follow such
 * links even to what it still has. */
static void test_descriptors_of_the_worker(void **state) {
        static const char *const names[] = { "/proc/self/fd/0", "/dev/fd/0",      "/dev/stdin",
                                             "/proc/self/exe",  "/proc/self/cwd", "/proc/self/root/etc/passwd" };
        Rig *rig = *state;
        AUTO(fd_drop) int memfd = memfd_create("secret", MFD_CLOEXEC); /* mode 0777 */
        char name[64];

        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
                if (faccessat(AT_FDCWD, names[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                        expect_disk_refused(rig, names[i], ERROR_INVALID_INPUT, "leads into a process");
        assert_int_equal(symlink("/proc/self/fd/0", "link"), 0);
        expect_disk_refused(rig, "link", ERROR_INVALID_INPUT, "leads into a process");
        assert_true(memfd >= 0);
        snprintf(name, sizeof name, "/proc/self/fd/%d", memfd);
        expect_disk_refused(rig, name, ERROR_INVALID_INPUT, "disk \"");
        snprintf(name, sizeof name, "/proc/%d/fd/%d", getpid(), memfd);
        expect_disk_refused(rig, name, ERROR_ACCESS_DENIED, "may not reach it");
}

static void test_pseudo_file_systems(void **state) {
        Rig *rig = *state;

        rig->job.uid = 0;
        expect_disk_refused(rig, "/proc/self/mem", ERROR_INVALID_INPUT, "pseudo file system");
        expect_disk_refused(rig, "/proc/version", ERROR_INVALID_INPUT, "pseudo file system");
        expect_disk_refused(rig, "/sys/kernel/notes", ERROR_INVALID_INPUT, "pseudo file system");
}

static void test_links_are_followed(void **state) {
        Rig *rig = *state;

        make_raw("file", ALICE, 0600);
        assert_int_equal(symlink("file", "one"), 0);
        assert_int_equal(symlink("one", "two"), 0);
        add_disk(rig, "two", DISK_RAW, false);
        expect_opened(rig);
}

static void test_block_device(void **state) {
        Rig *rig = *state;

        /* A loop device's node: opening one that is not attached is harmless, and its size 0. */
        if (mknod("loop7", S_IFBLK | 0600, makedev(7, 7)) < 0)
                skip();
        assert_int_equal(chown("loop7", ALICE, ALICE), 0);
        add_disk(rig, "loop7", DISK_RAW, false);
        run(rig);
        if (rig->error.id == ERROR_INVALID_INPUT && strstr(error_text(&rig->error), "No such device"))
                skip(); /* no loop driver */
        assert_false(error_is_set(&rig->error));
        assert_true(rig->files.disks[0].layers[0].block_device);
}

static void test_backing_chain(void **state) {
        Rig *rig = *state;

        assert_int_equal(mkdir("sub", 0755), 0);
        make_raw("base", BOB, 0644); /* readable is enough */
        make_qcow2("sub/middle", "../base", "raw");
        make_qcow2("top", "sub/middle", "qcow2");
        add_disk(rig, "top", DISK_QCOW2, false);
        expect_opened(rig);

        DiskFiles *d = &rig->files.disks[0];
        assert_int_equal(d->n_layers, 3);
        assert_int_equal(d->layers[0].format, DISK_QCOW2);
        assert_false(d->layers[0].read_only);
        assert_int_equal(d->layers[1].format, DISK_QCOW2);
        assert_true(d->layers[1].read_only);
        assert_int_equal(d->layers[2].format, DISK_RAW);
        assert_true(d->layers[2].read_only);
        assert_int_equal(fcntl(d->layers[2].fd, F_GETFL) & O_ACCMODE, O_RDONLY);
        assert_int_equal(d->layers[2].size, 512);
}

/* A raw disk that a guest has turned into qcow2 stays raw. */
static void test_raw_is_never_looked_into(void **state) {
        Rig *rig = *state;

        make_qcow2("disk", "/etc/shadow", "raw");
        add_disk(rig, "disk", DISK_RAW, false);
        expect_opened(rig);
        assert_int_equal(rig->files.disks[0].n_layers, 1);
}

static void test_shared_backing(void **state) {
        Rig *rig = *state;

        make_raw("base", ALICE, 0600);
        make_qcow2("a", "base", "raw");
        make_qcow2("b", "base", "raw");
        add_disk(rig, "a", DISK_QCOW2, false);
        add_disk(rig, "b", DISK_QCOW2, false);
        expect_opened(rig);
        assert_int_equal(rig->files.disks[1].n_layers, 2);
}

static void test_backing_refused(void **state) {
        static const struct {
                const char *backing, *format, *part;
                ErrorId id;
        } rows[] = {
                { "base", NULL, "qemu-img rebase -u", ERROR_INVALID_INPUT },
                { "base", "vmdk", "format \"vmdk\"", ERROR_INVALID_INPUT },
                { "secret", "raw", "may not read it", ERROR_ACCESS_DENIED },
                { "none", "raw", "No such file", ERROR_INVALID_INPUT },
                { "nbd:localhost:1", "raw", "is not a path", ERROR_INVALID_INPUT },
                { "/proc/self/mem", "raw", "pseudo file system", ERROR_INVALID_INPUT },
                { "base", "qcow2", "not a qcow2 image", ERROR_INVALID_INPUT },
                { "top", "qcow2", "it backs itself", ERROR_INVALID_INPUT },
        };
        Rig *rig = *state;

        make_raw("base", ALICE, 0600);
        make_raw("secret", BOB, 0600);
        add_disk(rig, "top", DISK_QCOW2, false);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                make_qcow2("top", rows[i].backing, rows[i].format);
                rig->done = false;
                error_clear(&rig->error);
                expect_refused(rig, rows[i].id, rows[i].part);
        }
}

static void test_backing_loop_and_depth(void **state) {
        Rig *rig = *state;
        char name[16], next[16];

        make_qcow2("a", "b", "qcow2");
        make_qcow2("b", "a", "qcow2");
        add_disk(rig, "a", DISK_QCOW2, true);
        expect_refused(rig, ERROR_INVALID_INPUT, "backs itself");

        for (int i = 0; i < BACKING_CHAIN_MAX; i++) {
                snprintf(name, sizeof name, "layer%d", i);
                snprintf(next, sizeof next, "layer%d", i + 1);
                make_qcow2(name, i < BACKING_CHAIN_MAX - 1 ? next : NULL, "qcow2");
        }
        free(rig->disks[0].path);
        rig->disks[0].path = path_of(rig, "layer0");
        rig->done = false;
        error_clear(&rig->error);
        expect_opened(rig);
        assert_int_equal(rig->files.disks[0].n_layers, BACKING_CHAIN_MAX);
        guest_files_clear(&rig->files);

        snprintf(name, sizeof name, "layer%d", BACKING_CHAIN_MAX - 1);
        snprintf(next, sizeof next, "layer%d", BACKING_CHAIN_MAX);
        make_qcow2(name, next, "qcow2");
        make_qcow2(next, NULL, NULL);
        rig->done = false;
        expect_refused(rig, ERROR_INVALID_INPUT, "too long");
}

static void test_same_file_twice(void **state) {
        Rig *rig = *state;

        make_raw("disk", ALICE, 0600);
        assert_int_equal(link("disk", "other-name"), 0);
        add_disk(rig, "disk", DISK_RAW, false);
        add_disk(rig, "other-name", DISK_RAW, true);
        expect_refused(rig, ERROR_INVALID_INPUT, "used twice in this domain");

        rig->disks[0].read_only = true;
        rig->done = false;
        error_clear(&rig->error);
        expect_opened(rig);
        guest_files_clear(&rig->files);

        /* A writable disk under another's feet. */
        make_qcow2("top", "disk", "raw");
        free(rig->disks[0].path);
        rig->disks[0] = (DiskSpec){ .path = path_of(rig, "top"), .format = DISK_QCOW2 };
        rig->disks[1].read_only = false;
        rig->done = false;
        expect_refused(rig, ERROR_INVALID_INPUT, "used twice in this domain");
}

static void test_most_disks(void **state) {
        Rig *rig = *state;
        char name[16];

        for (int i = 0; i < DISKS_PER_DOMAIN_MAX; i++) {
                snprintf(name, sizeof name, "disk%d", i);
                make_raw(name, ALICE, 0600);
                add_disk(rig, name, DISK_RAW, false);
        }
        expect_opened(rig);
        assert_int_equal(rig->files.n_disks, DISKS_PER_DOMAIN_MAX);
        guest_files_clear(&rig->files);
        assert_int_equal(rig->files.n_disks, 0);
}

static void test_stop_forgets(void **state) {
        Rig *rig = *state;

        make_raw("disk", ALICE, 0600);
        add_disk(rig, "disk", DISK_RAW, false);
        assert_int_equal(files_start(&rig->job, rig->event, NULL), 0);
        files_stop(&rig->job);
        for (int i = 0; i < 10; i++)
                sd_event_run(rig->event, 10000);
        assert_false(rig->done);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                T(test_opens_all),
                T(test_nothing_to_open),
                T(test_rights_are_the_callers),
                T(test_groups_are_the_callers),
                T(test_kernel_must_be_readable),
                T(test_root_may_all),
                T(test_wrong_kinds),
                T(test_descriptors_of_the_worker),
                T(test_pseudo_file_systems),
                T(test_links_are_followed),
                T(test_block_device),
                T(test_backing_chain),
                T(test_raw_is_never_looked_into),
                T(test_shared_backing),
                T(test_backing_refused),
                T(test_backing_loop_and_depth),
                T(test_same_file_twice),
                T(test_most_disks),
                T(test_stop_forgets),
        };

        if (geteuid() != 0)
                return 77;
        umask(022);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
