/* The making of a stub domain, in the order that Xen and xenstored demand:
 *
 *   created --> entries, arguments --> devices --> built --> introduced --> privilege over its target --> links moved
 *           --> unpaused --> its device model says in the store that it runs
 *
 * In the store it may read its device model's arguments, and owns the directory in which that one tells of itself;
 * everything else of its target's it may do because Xen and xenstored know it as that one's device model. Its devices
 * are its target's, a second time: it uses them until the guest's own drivers, if there are any, take theirs. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xenstore.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "driver/words.h"
#include "driver/xen/archive.h"
#include "driver/xen/build.h"
#include "driver/xen/devices.h"
#include "driver/xen/model-args.h"
#include "driver/xen/stub.h"
#include "driver/xen/work-internal.h"

#define DOM0      0
#define LOOK_USEC (200 * USEC_PER_MSEC) /* between looks at whether it is still there */

/* ---- entries ---- */

typedef struct StubEntries {
        uint32_t id, target;
        char target_uuid[DOMAIN_UUID_TEXT_MAX];
        char *const *arguments; /* without the program */
} StubEntries;

static void fill_stub(XenStoreChange *c, const void *userdata) {
        const StubEntries *s = userdata;
        char path[XEN_PATH_MAX], key[32];

        snprintf(path, sizeof path, "/vm/%s/image/dm-argv", s->target_uuid);
        change_node(c, path, NULL, DOM0, s->id);
        for (size_t i = 0; s->arguments[i]; i++) {
                snprintf(key, sizeof key, "%03zu", i + 1);
                change_write(c, path, key, "%s", s->arguments[i]);
        }
        entries_path(s->id, path);
        change_write(c, path, "target", "%" PRIu32, s->target);
        snprintf(key, sizeof key, "device-model/%" PRIu32, s->target);
        change_node(c, path, key, s->id, s->target);
        /* By which Xen's own tools know that the two belong together. */
        change_write(c, entries_path(s->target, path), "image/device-model-domid", "%" PRIu32, s->id);
}

static int add_entries(Tools *t, const StubWork *w, const XenIdentity *who, Error *e) {
        AUTO(string_list_free) char **argv = NULL;
        EmulatorFds fds;
        const ModelArgs args = { .program = "",
                                 .name = w->domain->name,
                                 .type = MACHINE_HVM,
                                 .id = w->target,
                                 .memory = w->memory,
                                 .spec = &w->domain->spec,
                                 .files = w->files,
                                 .stub = true };
        StubEntries entries = { .id = who->id, .target = w->target };

        int r = entries_add(t->store, who, e);
        if (r < 0)
                return r;
        r = model_args(&args, &argv, &fds);
        if (r < 0)
                return error_set_errno(e, r, "Failed to build the device model's command line");
        entries.arguments = argv + 1;
        domain_uuid_format(w->domain->uuid, entries.target_uuid);
        return xenstore_change(t->store, fill_stub, &entries, e);
}

/* ---- the domain ---- */

static int add_devices(Tools *t, const StubWork *w, const XenIdentity *who, Error *e) {
        int r = 0;

        for (size_t i = 0; i < w->files->n_disks && i < MODEL_DISKS_MAX && r >= 0; i++)
                r = device_add_disk(t->store, who, i, w->disks[i], w->files->disks[i].layers[0].read_only, e);
        return r < 0 ? r : work_add_nics(t, who, e);
}

/* Behind the slash. */
static int add_guest_files(int to, const StubWork *w) {
        const GuestFiles *f = w->files;
        const char *cmdline = w->domain->spec.cmdline;
        int r = archive_add(to, &MODEL_KERNEL_PATH[1], f->kernel_fd, f->kernel_size);

        if (r >= 0 && f->initrd_fd >= 0)
                r = archive_add(to, &MODEL_INITRD_PATH[1], f->initrd_fd, f->initrd_size);
        if (r >= 0 && cmdline && *cmdline)
                r = archive_add_text(to, &MODEL_STUB_CMDLINE_PATH[1], cmdline);
        return r < 0 ? r : archive_end(to);
}

/* The guest's kernel is for the device model to read: a file in the root that the stub domain begins with, and so in an
 * archive that stands before the image's own. (Behind it, it would be lost on libxenguest, which unpacks one archive.)
 */
static int make_initrd(const StubWork *w, uint64_t size, int *ret_fd, uint64_t *ret_size, Error *e) {
        AUTO(fd_drop) int fd = memfd_create("stub-initrd", MFD_CLOEXEC);
        struct stat st = { 0 };

        int r = fd < 0 ? -errno : add_guest_files(fd, w);
        if (r >= 0)
                r = archive_append(fd, w->initrd, size);
        if (r >= 0 && fstat(fd, &st) < 0)
                r = -errno;
        if (r < 0)
                return error_set_errno(e, r, "Failed to give the stub domain the guest's kernel and initrd");
        *ret_size = (uint64_t)st.st_size;
        *ret_fd = fd_take(&fd);
        return 0;
}

static int fill(Tools *t, const StubWork *w, const XenIdentity *who, XenRings *ret, Error *e) {
        AUTO(fd_drop) int with_guest_files = -1;
        GuestFiles image;
        struct stat kernel, initrd;
        int r = 0;

        guest_files_init(&image);
        if (fstat(w->kernel, &kernel) < 0 || fstat(w->initrd, &initrd) < 0)
                return error_set_errno(e, errno, "Failed to look at the stub domain's image");
        image.kernel_fd = w->kernel;
        image.kernel_size = (uint64_t)kernel.st_size;
        image.initrd_fd = w->initrd;
        image.initrd_size = (uint64_t)initrd.st_size;
        if (w->files->kernel_fd >= 0) {
                r = make_initrd(w, image.initrd_size, &with_guest_files, &image.initrd_size, e);
                image.initrd_fd = with_guest_files;
        }
        return r < 0 ? r : build_fill(&t->xen, who, &image, ret, e);
}

static int give_target(Tools *t, const StubWork *w, const XenIdentity *who, Error *e) {
        if (xc_domain_set_target(t->xen.xc, who->id, w->target) != 0)
                return xen_fail(&t->xen, e, "Failed to give the stub domain its target");
        if (!xs_set_target(xenstore_handle(t->store), who->id, w->target))
                return error_set_errno(e, errno, "Failed to tell xenstored of the stub domain's target");
        return 0;
}

/* ---- its start ---- */

/* With what it has printed. */
static int fail_with_words(ErrorId id, int terminal, const char *what, Error *e) {
        Words words = WORDS_INIT;

        words.fd = terminal;
        words_drain(&words);
        AUTO(string_drop) char *lines = words_last_lines(&words);
        words.fd = -1; /* the caller's */
        words_done(&words);
        return error_set(e, id, "The device model's domain %s%s%s", what, lines ? ": " : "", string_or(lines, ""));
}

static bool is_over(Tools *t, const XenIdentity *who) {
        XenEnd end = XEN_ALIVE;

        return xen_look(&t->xen, who->id, who->domain->uuid, &end) < 0 || end != XEN_ALIVE;
}

static int await_running(Tools *t, const StubWork *w, const XenIdentity *who, uint64_t end, int terminal, Error *e) {
        char path[XEN_PATH_MAX];

        snprintf(path, sizeof path, "/local/domain/%" PRIu32 "/device-model/%" PRIu32 "/state", who->id, w->target);
        for (;;) {
                AUTO(string_drop) char *state = NULL;
                int r = xenstore_wait(t->store, path, LOOK_USEC, &state);

                if (r >= 0 && string_equal(state, "running"))
                        return 0;
                if (r < 0 && r != -ETIMEDOUT)
                        return error_set_errno(e, r, "Failed to wait for the device model's domain");
                if (is_over(t, who))
                        return fail_with_words(ERROR_HYPERVISOR_FAILED, terminal, "ended", e);
                if (now_monotonic_usec() >= end)
                        return fail_with_words(ERROR_TIMEOUT, terminal, "did not say in time that it runs", e);
                if (r >= 0) /* it says something else */
                        usleep(LOOK_USEC);
        }
}

static int run(Tools *t, const StubWork *w, const XenIdentity *who, uint64_t end, WorkerReply *reply, Error *e) {
        AUTO(fd_drop) int terminal = -1;

        int r = work_open_terminal(t, who->id, w->deadline_usec, &terminal, NULL, e);
        if (r >= 0 && xc_domain_unpause(t->xen.xc, who->id) != 0)
                r = xen_fail(&t->xen, e, "Failed to let the stub domain run");
        if (r >= 0)
                r = await_running(t, w, who, end, terminal, e);
        if (r < 0)
                return r;
        (void)fd_set_add(&reply->fds, fd_take(&terminal)); /* the only one */
        memcpy(reply->data, &(StartWorkReply){ .id = who->id }, sizeof(StartWorkReply));
        reply->length = sizeof(StartWorkReply);
        return 0;
}

int work_stub(void *stub_work, WorkerReply *reply, Error *e) {
        AUTO(tools_close) Tools t = { .store = NULL };
        const StubWork *w = stub_work;
        char name[STUB_NAME_MAX];
        Domain stub;
        XenIdentity who = { .domain = &stub, .type = MACHINE_PV };
        uint64_t end = now_monotonic_usec() + w->deadline_usec;
        XenRings rings;

        stub_describe(w->domain, name, &stub);
        domain_uuid_format(stub.uuid, who.uuid);
        int r = tools_open(&t, e);
        if (r >= 0)
                r = build_create(&t.xen, &stub, MACHINE_PV, &who.id, e);
        if (r >= 0)
                r = add_entries(&t, w, &who, e);
        if (r >= 0)
                r = add_devices(&t, w, &who, e);
        if (r >= 0)
                r = fill(&t, w, &who, &rings, e);
        if (r >= 0)
                r = work_introduce(&t, &who, &rings, e);
        if (r >= 0)
                r = give_target(&t, w, &who, e);
        if (r >= 0)
                r = work_move_links(&who, w->networks, w->deadline_usec, e);
        return r < 0 ? r : run(&t, w, &who, end, reply, e);
}
