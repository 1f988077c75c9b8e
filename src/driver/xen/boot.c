/* The boot of a guest, the first as any other: its boot loader, if it has one, for a domain that is made before; then
 * the worker that builds it, then one for each of its interfaces, then its device model, if it is to have one, then it
 * runs. The interfaces come before the model, since that is given their taps; one in a domain of its own has interfaces
 * of its own, which are joined after it is there. See guest.c for the states, work.c for what the workers do. */
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "driver/boot.h"
#include "driver/xen/model-args.h"
#include "driver/xen/xen-internal.h"

static bool has_pv_devices(const XenGuest *x) {
        return x->type != MACHINE_HVM || model_offers_pv(&x->guest.domain->spec);
}

static bool wants_model(const XenGuest *x) {
        return model_wanted(x->type, &x->guest.domain->spec);
}

/* ---- built, to running ---- */

static void let_run(XenGuest *x) {
        AUTO(error_clear) Error e = ERROR_INIT;

        x->paused = x->guest.domain->spec.paused && !x->booting_again;
        if (!x->paused && xc_domain_unpause(xen_link_xen()->xc, x->id) != 0) {
                xen_fail(xen_link_xen(), &e, "Failed to let the guest run");
                xen_guest_fail(x, &e);
        } else
                xen_guest_booted(x);
}

void xen_boot_modelled(XenGuest *x, const Error *failure) {
        AUTO(error_clear) Error e = ERROR_INIT;

        if (error_copy(&e, failure) < 0)
                xen_guest_fail(x, &e);
        else
                let_run(x);
}

static void join_next(XenGuest *x);

static int take_stub_reply(XenGuest *x, WorkerReply *reply, Error *e) {
        StartWorkReply answer;

        if (reply->length != sizeof answer || reply->fds.count != 1)
                return error_set(e, ERROR_INTERNAL, "Garbled answer about a stub domain");
        memcpy(&answer, reply->data, sizeof answer);
        return stub_connect(&x->stub, answer.id, fd_take(&reply->fds.fds[0]), e);
}

static void stub_made(Worker *w, WorkerReply *reply, const Error *failure) {
        XenGuest *x = w->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        fd_drop(&x->stub_kernel);
        fd_drop(&x->stub_initrd);
        if (error_copy(&e, failure) < 0 || take_stub_reply(x, reply, &e) < 0) {
                xen_guest_fail(x, &e);
                return;
        }
        x->joined = 0; /* once more, with the interfaces of the stub domain */
        join_next(x);
}

/* A disk that is a file has the loop device already by which the guest's own driver has it. */
static size_t list_stub_descriptors(XenGuest *x, int *fds) {
        StubWork *w = &x->work.stub;
        const GuestFiles *files = &x->guest.files;
        size_t n = 0, loops = 0;

        fds[n++] = w->kernel = x->stub_kernel;
        fds[n++] = w->initrd = x->stub_initrd;
        if (files->kernel_fd >= 0)
                fds[n++] = files->kernel_fd;
        if (files->initrd_fd >= 0)
                fds[n++] = files->initrd_fd;
        for (size_t i = 0; i < files->n_disks; i++) {
                const DiskLayer *disk = &files->disks[i].layers[0];
                w->disks[i] = disk->block_device ? disk->fd : loops < x->n_loops ? x->loops[loops++] : -1;
                if (w->disks[i] >= 0)
                        fds[n++] = w->disks[i];
        }
        for (size_t i = 0; i < x->guest.domain->spec.n_nics; i++)
                fds[n++] = w->networks[i] = x->namespaces[i][ENTER_NET];
        return n;
}

static void start_stub(XenGuest *x, uint64_t memory) {
        int fds[4 + DISKS_PER_DOMAIN_MAX + NICS_PER_DOMAIN_MAX];
        AUTO(error_clear) Error e = ERROR_INIT;
        const Guest *g = &x->guest;

        x->work.stub = (StubWork){ .domain = g->domain,
                                   .files = &g->files,
                                   .target = x->id,
                                   .memory = memory,
                                   .deadline_usec = g->host->limits->start_usec / 4 * 3 };
        xen_guest_set_state(x, XEN_MODEL);
        int r = stub_open_image(g->host, &x->stub_kernel, &x->stub_initrd, &e);
        if (r >= 0)
                r = xen_guest_work(x, "starting a stub domain", work_stub, stub_made, fds,
                                   list_stub_descriptors(x, fds), g->host->limits->start_usec, &e);
        if (r < 0)
                xen_guest_fail(x, &e);
}

static void start_model(XenGuest *x) {
        const XenIdentity who = { .domain = x->guest.domain, .type = x->type };
        AUTO(error_clear) Error e = ERROR_INIT;

        uint64_t memory = x->guest.domain->spec.memory - entries_video_memory(&who);
        if (xen_guest_has_stub(x)) {
                start_stub(x, memory);
                return;
        }
        x->model.type = x->type;
        x->model.id = x->id;
        x->model.memory = memory;
        xen_guest_set_state(x, XEN_MODEL);
        if (model_start(&x->model, &e) < 0)
                xen_guest_fail(x, &e);
}

static void nic_joined(Worker *w, WorkerReply *reply, const Error *failure);

static void join_next(XenGuest *x) {
        AUTO(error_clear) Error e = ERROR_INIT;
        const Guest *g = &x->guest;

        if (x->joined == g->domain->spec.n_nics) {
                if (wants_model(x) && x->stub.id == 0)
                        start_model(x);
                else
                        let_run(x);
                return;
        }
        int *namespaces = x->namespaces[x->joined];
        x->work.join = (JoinWork){ .link = has_pv_devices(x),
                                   .tap = x->type == MACHINE_HVM && !xen_guest_has_stub(x),
                                   .id = x->stub.id ? x->stub.id : x->id,
                                   .nic = x->joined,
                                   .namespaces = { namespaces[ENTER_USER], namespaces[ENTER_NET] },
                                   .privileged = g->host->privileged,
                                   .owner = g->domain->owner->uid };
        if (xen_guest_work(x, "connecting a Xen guest to its network", work_join, nic_joined, namespaces, ENTER_COUNT,
                           g->host->limits->start_usec, &e) < 0)
                xen_guest_fail(x, &e);
}

static void nic_joined(Worker *w, WorkerReply *reply, const Error *failure) {
        XenGuest *x = w->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (error_copy(&e, failure) < 0) {
                xen_guest_fail(x, &e);
                return;
        }
        if (reply->fds.count > 0) {
                fd_drop(&x->model.taps[x->joined]);
                x->model.taps[x->joined] = fd_take(&reply->fds.fds[0]);
        }
        x->joined++;
        join_next(x);
}

static int take_start_reply(XenGuest *x, WorkerReply *reply, Error *e) {
        size_t loops = *x->work.start.mirror ? START_MIRROR_OURS : START_LOOPS;
        StartWorkReply answer;

        if (reply->length != sizeof answer || reply->fds.count < loops)
                return error_set(e, ERROR_INTERNAL, "Garbled answer about a Xen guest");
        memcpy(&answer, reply->data, sizeof answer);
        x->id = answer.id;
        for (size_t i = loops; i < reply->fds.count && x->n_loops < DISKS_PER_DOMAIN_MAX; i++)
                x->loops[x->n_loops++] = fd_take(&reply->fds.fds[i]);
        int *fds = reply->fds.fds;
        MirrorTerminal mirror = MIRROR_TERMINAL_NONE;
        if (loops == START_LOOPS)
                mirror = (MirrorTerminal){ fd_take(&fds[START_MIRROR_OURS]), fd_take(&fds[START_MIRROR_THEIRS]) };
        return xen_guest_set_console(x, fd_take(&fds[START_TERMINAL]), &mirror, e);
}

static void built(Worker *w, WorkerReply *reply, const Error *failure) {
        XenGuest *x = w->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (error_copy(&e, failure) < 0 || take_start_reply(x, reply, &e) < 0) {
                xen_guest_fail(x, &e);
                return;
        }
        if (x->guest.domain->spec.bootloader)
                boot_drop(&x->guest); /* it is in the guest's memory, and the next boot finds it anew */
        xen_guest_set_state(x, XEN_JOINING);
        x->joined = 0;
        join_next(x);
}

static size_t list_descriptors(const XenGuest *x, int *fds) {
        const GuestFiles *files = &x->guest.files;
        size_t n = 0;

        if (files->kernel_fd >= 0)
                fds[n++] = files->kernel_fd;
        if (files->initrd_fd >= 0)
                fds[n++] = files->initrd_fd;
        for (size_t i = 0; i < files->n_disks; i++)
                fds[n++] = files->disks[i].layers[0].fd;
        for (size_t i = 0; i < x->guest.domain->spec.n_nics; i++)
                fds[n++] = x->namespaces[i][ENTER_NET];
        return n;
}

static int build(XenGuest *x, Error *e) {
        int fds[2 + DISKS_PER_DOMAIN_MAX + NICS_PER_DOMAIN_MAX];
        const Guest *g = &x->guest;

        /* The guest's memory is Xen's, the copies are dom0's. */
        int r = boot_check_size(&g->files, &g->domain->spec, boot_copy_max(&g->domain->spec), e);
        for (size_t i = 0; r >= 0 && i < g->domain->spec.n_nics; i++) {
                int *namespaces = x->namespaces[i];
                fd_drop(&namespaces[ENTER_USER]);
                fd_drop(&namespaces[ENTER_NET]);
                r = g->events->namespaces(&x->guest, i, &namespaces[ENTER_USER], &namespaces[ENTER_NET], e);
        }
        if (r < 0)
                return r;
        x->work.start = (StartWork){ .domain = g->domain,
                                     .files = &g->files,
                                     .type = x->type,
                                     .pv_devices = has_pv_devices(x),
                                     .deadline_usec = g->host->limits->start_usec / 2,
                                     .id = x->id };
        memcpy(x->work.start.mirror, x->mirror_name, sizeof x->mirror_name);
        for (size_t i = 0; i < g->domain->spec.n_nics; i++)
                x->work.start.networks[i] = x->namespaces[i][ENTER_NET];
        size_t n = list_descriptors(x, fds);
        return xen_guest_work(x, "starting a Xen guest", work_start, built, fds, n, g->host->limits->start_usec, e);
}

/* ---- the boot loader, before that ---- */

static void kernel_chosen(BootLoaderJob *j, BootChoice *choice, const Error *failure) {
        XenGuest *x = j->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        int r = error_copy(&e, failure);
        if (r >= 0) {
                boot_take(&x->guest, choice);
                r = build(x, &e);
        }
        if (r >= 0)
                xen_guest_set_state(x, XEN_BUILDING);
        else
                xen_guest_fail(x, &e);
}

static int load(XenGuest *x, WorkerReply *reply, Error *e) {
        EnterWorkReply answer;

        if (reply->length != sizeof answer || reply->fds.count < ENTER_MIRRORS)
                return error_set(e, ERROR_INTERNAL, "Garbled answer about a Xen guest");
        memcpy(&answer, reply->data, sizeof answer);
        int *fds = reply->fds.fds;
        MirrorTerminal mirror = { fd_take(&fds[ENTER_MIRROR_OURS]), fd_take(&fds[ENTER_MIRROR_THEIRS]) };
        x->id = answer.id;
        memcpy(x->mirror_name, answer.mirror, sizeof x->mirror_name - 1);
        xen_guest_set_mirror(x, &mirror);
        x->loader.done = kernel_chosen;
        x->loader.userdata = x;
        int r = boot_start(&x->loader, &x->guest, e);
        if (r >= 0)
                x->guest.events->asking(&x->guest);
        return r;
}

static void entered(Worker *w, WorkerReply *reply, const Error *failure) {
        XenGuest *x = w->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (error_copy(&e, failure) < 0 || load(x, reply, &e) < 0)
                xen_guest_fail(x, &e);
}

static int enter(XenGuest *x, Error *e) {
        const Guest *g = &x->guest;

        x->work.start = (StartWork){ .domain = g->domain, .type = x->type };
        return xen_guest_work(x, "making a Xen guest", work_enter, entered, NULL, 0, g->host->limits->start_usec, e);
}

int xen_boot(XenGuest *x, Error *e) {
        bool loads = x->guest.domain->spec.bootloader;
        int r = xen_guest_has_stub(x) ? stub_check_files(&x->guest.files, e) : 0;

        if (r >= 0)
                r = loads ? enter(x, e) : build(x, e);
        if (r >= 0)
                xen_guest_set_state(x, loads ? XEN_LOADING : XEN_BUILDING);
        return r;
}

/* ---- anew ---- */

static void files_opened(FilesJob *j, GuestFiles *files, const Error *failure) {
        XenGuest *x = j->userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        int r = error_copy(&e, failure);
        if (r >= 0) {
                x->guest.files = *files;
                guest_files_init(files); /* taken */
                r = xen_boot(x, &e);
        }
        if (r < 0)
                xen_guest_fail(x, &e);
}

/* The former domain is gone. */
void xen_boot_anew(XenGuest *x) {
        AUTO(error_clear) Error e = ERROR_INIT;
        bool open = x->guest.files.kernel_fd >= 0 || x->guest.files.n_disks > 0;

        if (!open) {
                x->files_job.spec = &x->guest.domain->spec;
                x->files_job.uid = x->guest.domain->owner->uid;
                x->files_job.privileged = x->guest.host->privileged;
                x->files_job.deadline_usec = x->guest.host->limits->start_usec;
                x->files_job.lingering = domain_lingering(x->guest.domain);
                x->files_job.done = files_opened;
                x->files_job.userdata = x;
        }
        int r = open ? xen_boot(x, &e) : files_start(&x->files_job, x->guest.host->event, &e);
        if (r < 0)
                xen_guest_fail(x, &e);
        else if (!open)
                xen_guest_set_state(x, XEN_OPENING);
}
