#include "driver/xen/work.h"

#include <errno.h>
#include <linux/fs.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <xenstore.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "base/time-util.h"
#include "core/network.h"
#include "driver/xen/build.h"
#include "driver/xen/console.h"
#include "driver/xen/devices.h"
#include "driver/xen/hypervisor.h"
#include "driver/xen/mirror.h"
#include "driver/xen/stub.h"
#include "driver/xen/work-internal.h"
#include "net/netlink.h"
#include "net/taps.h"

#define POLL_USEC      (5 * USEC_PER_MSEC) /* between looks at what tells nobody of its end */
#define MODEL_END_MSEC 10000 /* a killed one is not awaited for ever: its disk may be on a file system that hangs */

int tools_open(Tools *t, Error *e) {
        int r = xen_open(&t->xen, e);

        return r < 0 ? r : xenstore_open(&t->store, e);
}

void tools_close(Tools *t) {
        xen_close(&t->xen);
        t->store = xenstore_close(t->store);
}

/* ---- start ---- */

/* Their descriptors are our hold on a loop device until the backend has its own. */
static int add_disks(Tools *t, const XenIdentity *who, const GuestFiles *files, FdSet *loops, Error *e) {
        int r = 0;

        for (size_t i = 0; i < files->n_disks && r >= 0; i++) {
                const DiskLayer *disk = &files->disks[i].layers[0];
                int block = disk->fd;

                if (who->domain->spec.disks[i].format != DISK_RAW) {
                        r = device_add_served_disk(t->store, who, i, e);
                        continue;
                }
                if (!disk->block_device) {
                        r = device_loop(disk->fd, &block, e);
                        if (r >= 0 && (r = fd_set_add(loops, block)) < 0)
                                error_set_errno(e, r, "Failed to keep a loop device");
                } else if (who->type == MACHINE_HVM)
                        /* The model reads it through the page cache, which has not seen what the backend wrote before a
                         * reboot. */
                        (void)ioctl(disk->fd, BLKFLSBUF, 0);
                if (r >= 0)
                        r = device_add_disk(t->store, who, i, block, disk->read_only, e);
        }
        return r;
}

int work_add_nics(Tools *t, const XenIdentity *who, Error *e) {
        const DomainSpec *spec = &who->domain->spec;
        int r = 0;

        for (size_t i = 0; i < spec->n_nics && r >= 0; i++)
                r = device_add_nic(t->store, who, i, &spec->nics[i].mac, e);
        return r;
}

static int add_devices(Tools *t, const XenIdentity *who, const StartWork *w, FdSet *loops, Error *e) {
        int r = add_disks(t, who, w->files, loops, e);

        return r < 0 ? r : work_add_nics(t, who, e);
}

int work_move_links(const XenIdentity *who, const int *networks, uint64_t deadline_usec, Error *e) {
        int r = 0;

        for (size_t i = 0; i < who->domain->spec.n_nics && r >= 0; i++)
                r = device_move_link(who->id, i, networks[i], deadline_usec, e);
        return r;
}

int work_introduce(Tools *t, const XenIdentity *who, const XenRings *rings, Error *e) {
        int r = entries_add_rings(t->store, who, rings, e);

        if (r >= 0 && !xs_introduce_domain(xenstore_handle(t->store), who->id, rings->store_frame, rings->store_port))
                r = error_set_errno(e, errno, "Failed to introduce the guest to xenstored");
        return r;
}

int work_open_terminal(Tools *t, uint32_t id, uint64_t deadline_usec, int *ret_fd, char **ret_name, Error *e) {
        char path[XEN_PATH_MAX + 16], directory[XEN_PATH_MAX];
        AUTO(string_drop) char *name = NULL;

        snprintf(path, sizeof path, "%s/console/tty", entries_path(id, directory));
        int r = xenstore_wait(t->store, path, deadline_usec, &name);
        if (r < 0)
                return error_set_errno(e, r, "xenconsoled has given the guest no terminal");
        r = xen_console_open(name, NULL, ret_fd, e);
        if (r >= 0 && ret_name)
                *ret_name = TAKE(name);
        return r;
}

static int await_console(Tools *t, const XenIdentity *who, const StartWork *w, WorkerReply *reply, Error *e) {
        AUTO(string_drop) char *terminal = NULL;
        MirrorTerminal mirror;
        int fd;

        int r = work_open_terminal(t, who->id, w->deadline_usec, &fd, &terminal, e);
        if (r < 0)
                return r;
        (void)fd_set_add(&reply->fds, fd); /* there is room for the first ones */
        if (*w->mirror)
                return mirror_name(t->store, who->id, who->uuid, terminal, fd, w->mirror, e);
        r = mirror_make(t->store, who->id, who->uuid, terminal, fd, &mirror, e);
        if (r < 0)
                return r;
        (void)fd_set_add(&reply->fds, mirror.ours);
        (void)fd_set_add(&reply->fds, mirror.theirs);
        return 0;
}

static int enter(Tools *t, XenIdentity *who, Error *e) {
        int r = build_create(&t->xen, who->domain, who->type, &who->id, e);

        return r < 0 ? r : entries_add(t->store, who, e);
}

/* The longest is in the middle: what the kernel does about the devices happens meanwhile, and what xenconsoled does
 * about the console while the links are moved. */
static int start(Tools *t, const StartWork *w, WorkerReply *reply, Error *e) {
        XenIdentity who = { .domain = w->domain, .type = w->type, .id = w->id };
        AUTO(fd_set_clear) FdSet loops = { .count = 0 };
        XenRings rings;

        domain_uuid_format(w->domain->uuid, who.uuid);
        int r = w->id == 0 ? enter(t, &who, e) : 0;
        if (r >= 0 && w->pv_devices)
                r = add_devices(t, &who, w, &loops, e);
        if (r >= 0)
                r = build_fill(&t->xen, &who, w->files, &rings, e);
        if (r >= 0)
                r = work_introduce(t, &who, &rings, e);
        if (r >= 0 && w->pv_devices)
                r = work_move_links(&who, w->networks, w->deadline_usec, e);
        if (r >= 0)
                r = await_console(t, &who, w, reply, e);
        for (size_t i = 0; i < loops.count && r >= 0; i++)
                r = fd_set_add(&reply->fds, fd_take(&loops.fds[i]));
        if (r >= 0) {
                memcpy(reply->data, &(StartWorkReply){ .id = who.id }, sizeof(StartWorkReply));
                reply->length = sizeof(StartWorkReply);
        }
        return r;
}

int work_start(void *start_work, WorkerReply *reply, Error *e) {
        AUTO(tools_close) Tools t = { .store = NULL };
        int r = tools_open(&t, e);

        return r < 0 ? r : start(&t, start_work, reply, e);
}

static int enter_with_mirror(Tools *t, const StartWork *w, WorkerReply *reply, Error *e) {
        AUTO(mirror_terminal_drop) MirrorTerminal mirror = MIRROR_TERMINAL_NONE;
        XenIdentity who = { .domain = w->domain, .type = w->type };
        EnterWorkReply answer = { 0 };

        domain_uuid_format(w->domain->uuid, who.uuid);
        int r = enter(t, &who, e);
        if (r >= 0)
                r = mirror_open(&mirror, answer.mirror, e);
        if (r >= 0)
                r = mirror_name(t->store, who.id, who.uuid, NULL, -1, answer.mirror, e);
        if (r < 0)
                return r;
        (void)fd_set_add(&reply->fds, fd_take(&mirror.ours)); /* the reply is empty */
        (void)fd_set_add(&reply->fds, fd_take(&mirror.theirs));
        answer.id = who.id;
        memcpy(reply->data, &answer, sizeof answer);
        reply->length = sizeof answer;
        return 0;
}

int work_enter(void *start_work, WorkerReply *reply, Error *e) {
        AUTO(tools_close) Tools t = { .store = NULL };
        int r = tools_open(&t, e);

        return r < 0 ? r : enter_with_mirror(&t, start_work, reply, e);
}

/* ---- join ---- */

static int join_link(const JoinWork *w, Error *e) {
        AUTO(netlink_drop) Netlink *nl = NULL;
        char name[XEN_LINK_MAX];

        device_link_name(w->id, w->nic, name);
        unsigned bridge = if_nametoindex(NETWORK_BRIDGE), link = if_nametoindex(name);
        const char *step = bridge ? "find the interface" : "find the bridge " NETWORK_BRIDGE;
        int r = bridge && link ? netlink_open(&nl) : -errno;
        if (r >= 0) {
                netlink_set_master(nl, (int)link, (int)bridge);
                r = netlink_commit(nl, &step);
        }
        return r < 0 ? error_set_errno(e, r, "Failed to connect %s to its network: cannot %s", name, step) : 0;
}

int work_join(void *join_work, WorkerReply *reply, Error *e) {
        const JoinWork *w = join_work;
        const char *step = "enter the network";
        int r;

        if (w->tap)
                r = taps_make(w->namespaces, w->privileged, w->owner, 1, &reply->fds, e);
        else {
                r = enter_network(w->namespaces, w->privileged, w->owner, NULL, NULL, &step);
                if (r < 0)
                        error_set_errno(e, r, "Failed to connect a guest to its network: cannot %s", step);
        }
        return r >= 0 && w->link ? join_link(w, e) : r;
}

/* ---- ask ---- */

int work_ask(UNUSED void *nothing, UNUSED WorkerReply *reply, Error *e) {
        AUTO(tools_close) Tools t = { .store = NULL };
        AUTO(string_list_free) char **names = NULL;
        int r = tools_open(&t, e);

        if (r >= 0 && (r = xenstore_list(t.store, "/local", &names)) < 0)
                error_set_errno(e, r, "xenstored does not answer");
        return r;
}

/* ---- clear ---- */

static void await_end(int pidfd, int timeout_msec) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };

        while (pidfd >= 0 && poll(&p, 1, timeout_msec) < 0 && errno == EINTR)
                ;
}

/* It begins to go; the store is needed for all of it to. */
static int destroy(Xen *x, const uint8_t *uuid, uint32_t *ret_id, Error *e) {
        XenEnd end;
        int r = xen_find(x, uuid, ret_id, &end, NULL);

        if (r == -ESRCH)
                return 0;
        if (r < 0)
                return error_set_errno(e, r, "Failed to look for the domain in Xen");
        if (end != XEN_DYING && xc_domain_destroy(x->xc, *ret_id) != 0 && errno != ESRCH)
                return xen_fail(x, e, "Failed to destroy the domain in Xen");
        return 1;
}

/* One step towards nothing: 1 there was something, 0 there is nothing any more. *ret_id is the number of what there
 * was. */
static int clear_step(Tools *t, const uint8_t *uuid, const char *text, uint32_t *ret_id, Error *e) {
        XenRemains remains = XEN_REMAINS_DOMAIN;
        int r = destroy(&t->xen, uuid, ret_id, e);

        if (r < 0 || (r == 0 && entries_find(t->store, text, ret_id, &remains) < 0))
                return r;
        r = entries_remove(t->store, *ret_id, text, remains, e);
        return r < 0 ? r : 1;
}

static int clear(Tools *t, const uint8_t *uuid, Error *e) {
        char text[DOMAIN_UUID_TEXT_MAX];
        uint32_t id = 0;
        int r;

        domain_uuid_format(uuid, text);
        while ((r = clear_step(t, uuid, text, &id, e)) > 0)
                usleep(POLL_USEC);
        while (r >= 0 && id != 0 && device_backends_left(id))
                usleep(POLL_USEC);
        /* Even of a domain whose other entries somebody else has removed. */
        return r < 0 ? r : entries_remove_last(t->store, id, text, e);
}

/* The stub domain goes first: it holds pages of its target. */
int work_clear(void *clear_work, UNUSED WorkerReply *reply, Error *e) {
        AUTO(tools_close) Tools t = { .store = NULL };
        const ClearWork *w = clear_work;
        uint8_t stub[DOMAIN_UUID_SIZE];
        uint32_t id;

        await_end(w->before, -1);
        stub_uuid(w->uuid, stub);
        int r = xen_open(&t.xen, e);
        if (r >= 0 && w->stub)
                r = destroy(&t.xen, stub, &id, e);
        if (r >= 0)
                r = destroy(&t.xen, w->uuid, &id, e);
        if (r >= 0)
                r = xenstore_open(&t.store, e);
        if (r >= 0 && w->stub)
                r = clear(&t, stub, e);
        if (r >= 0)
                r = clear(&t, w->uuid, e);
        await_end(w->model, MODEL_END_MSEC);
        return r;
}
