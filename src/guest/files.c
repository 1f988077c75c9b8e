/* The worker collects one WireLayer and one descriptor for each file, in the same order; caller-file.c tells how a path
 * becomes a descriptor. For qcow2 the header is read from the descriptor, and the file that it names is the next layer,
 * opened in the same way. Only what the image itself says the format of its backing file is counts; an image that says
 * nothing is refused, since guessing would let a guest that wrote a qcow2 header into a raw disk choose what is opened
 * next.
 *
 * The worker has parsed hostile bytes by the time it answers, so what it says is checked again. */
#include "guest/files.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/string-util.h"
#include "guest/caller-file.h"
#include "guest/qcow2.h"

#define WIRE_KERNEL 0x100u
#define WIRE_INITRD 0x101u

typedef struct WireLayer {
        uint32_t what; /* the disk's number, or one of the above */
        uint32_t format;
        uint8_t read_only, block_device;
        uint64_t size;
} WireLayer;
static_assert(FD_SET_MAX * sizeof(WireLayer) <= WORKER_REPLY_MAX, "a full reply does not fit");

/* A file as the worker keeps it until it answers. */
typedef struct Opened {
        WireLayer wire;
        CallerFile file; /* its descriptor is the reply's */
} Opened;

/* Of the worker. */
typedef struct Collector {
        const DomainSpec *spec;
        uid_t uid;
        bool privileged;
        Opened opened[FD_SET_MAX];
        size_t count; /* as reply->fds.count */
        WorkerReply *reply;
} Collector;

/* Nothing that a guest writes may be anything else of the same guest: neither another disk, nor what backs one. */
static int check_sharing(const Collector *c, const FileRequest *w, const Opened *new, Error *e) {
        for (size_t i = 0; i < c->count; i++) {
                const Opened *old = &c->opened[i];

                if (!caller_file_same(&old->file, &new->file))
                        continue;
                if (old->wire.what == new->wire.what)
                        return file_refuse(w, ERROR_INVALID_INPUT, "it backs itself", e);
                if (!old->wire.read_only || !new->wire.read_only)
                        return file_refuse(w, ERROR_INVALID_INPUT,
                                           "it is used twice in this domain, and at least once writable", e);
        }
        return 0;
}

/* Open, check against the others, and put into the reply. *ret_fd stays the reply's. */
static int collect(Collector *c, const FileRequest *w, uint32_t what, DiskFormat format, int *ret_fd, Error *e) {
        Opened *o = &c->opened[c->count];
        int r;

        if (c->count == FD_SET_MAX)
                return error_set(e, ERROR_INVALID_INPUT, "the disks and what backs them are more than %d files",
                                 FD_SET_MAX);
        r = caller_file_open(w, &o->file, e);
        if (r < 0)
                return r;
        *ret_fd = o->file.fd;
        r = fd_set_add(&c->reply->fds, o->file.fd);
        if (r < 0)
                return file_refuse(w, ERROR_INTERNAL, strerror(-r), e);

        o->wire = (WireLayer){ .what = what,
                               .format = format,
                               .read_only = !w->writable,
                               .block_device = o->file.block_device,
                               .size = o->file.size };
        r = check_sharing(c, w, o, e);
        if (r < 0)
                return r;
        c->count++;
        return 0;
}

static int read_header(const FileRequest *w, int fd, Qcow2Header *ret, Error *e) {
        AUTO(string_drop) char *data = malloc(QCOW2_HEADER_READ);
        Error cause = ERROR_INIT;
        ssize_t n;

        if (!data)
                return file_refuse(w, ERROR_INTERNAL, strerror(ENOMEM), e);
        do
                n = pread(fd, data, QCOW2_HEADER_READ, 0);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return file_refuse(w, ERROR_INVALID_INPUT, strerror(errno), e);

        if (qcow2_parse(data, (size_t)n, ret, &cause) < 0) {
                int r = file_refuse(w, cause.id, error_text(&cause), e);
                error_clear(&cause);
                return r;
        }
        return 0;
}

static int check_backing_format(const FileRequest *w, const Qcow2Header *h, DiskFormat *ret, Error *e) {
        AUTO(string_drop) char *shown = string_escape(h->backing_format, sizeof h->backing_format);
        AUTO(string_drop) char *text = NULL;

        for (DiskFormat f = 0; f < DISK_FORMAT_COUNT; f++)
                if (string_equal(h->backing_format, disk_format_name(f))) {
                        *ret = f;
                        return 0;
                }
        if (!h->backing_format[0])
                return file_refuse(w, ERROR_INVALID_INPUT,
                                   "it does not say of which format its backing file is; record it with "
                                   "\"qemu-img rebase -u -b BACKING -F FORMAT IMAGE\"",
                                   e);
        text = string_printf("its backing file is of format \"%s\"; raw and qcow2 are supported",
                             string_or(shown, "?"));
        return file_refuse(w, ERROR_INVALID_INPUT, string_or(text, "the format of its backing file is not supported"),
                           e);
}

/* A relative name is relative to the directory of the image that names it, as the caller wrote it. */
static char *backing_path(const char *image, const char *name) {
        const char *slash = strrchr(image, '/');

        if (name[0] == '/' || !slash)
                return string_printf("%s", name);
        return string_printf("%.*s%s", (int)(slash + 1 - image), image, name);
}

/* A disk and what backs it, in order. */
static int collect_disk(Collector *c, uint32_t index, Error *e) {
        const DiskSpec *disk = &c->spec->disks[index];
        AUTO(string_drop) char *path = string_printf("%s", disk->path);
        DiskFormat format = disk->format;
        int fd = -1, r;

        for (unsigned depth = 0;; depth++) {
                FileRequest w = { .what = depth == 0 ? "disk" : "backing file",
                                  .path = path,
                                  .writable = depth == 0 && !disk->read_only,
                                  .uid = c->uid,
                                  .for_all = c->privileged };
                Qcow2Header h = { 0 };
                char *next;

                if (!path)
                        return error_set_errno(e, ENOMEM, "Failed to open disk %u", index);
                if (depth == BACKING_CHAIN_MAX)
                        return file_refuse(&w, ERROR_INVALID_INPUT, "the chain of backing files is too long", e);
                r = collect(c, &w, index, format, &fd, e);
                if (r < 0)
                        return r;
                if (format == DISK_RAW)
                        return 0;
                r = read_header(&w, fd, &h, e);
                if (r < 0)
                        return r;
                if (!h.backing_file[0])
                        return 0;
                r = check_backing_format(&w, &h, &format, e);
                if (r < 0)
                        return r;
                next = backing_path(path, h.backing_file);
                string_drop(&path);
                path = next;
        }
}

static int collect_boot(Collector *c, const char *what, const char *path, uint32_t id, Error *e) {
        FileRequest w = { .what = what, .path = path, .uid = c->uid, .for_all = c->privileged };
        int fd = -1, r;

        if (!path)
                return 0;
        r = collect(c, &w, id, DISK_RAW, &fd, e);
        if (r < 0)
                return r;
        if (c->opened[c->count - 1].wire.size == 0)
                return file_refuse(&w, ERROR_INVALID_INPUT, "it is empty", e);
        return 0;
}

/* In the worker. */
static int run(void *input, WorkerReply *reply, Error *e) {
        const FilesJob *j = input;
        Collector c = { .spec = j->spec, .uid = j->uid, .privileged = j->privileged, .reply = reply };
        int r;

        if (j->privileged) {
                r = child_become_user(j->uid);
                if (r < 0)
                        return error_set_errno(e, r, "Failed to become uid %u", (unsigned)j->uid);
        }
        for (size_t i = 0; i < j->spec->n_disks; i++) {
                r = collect_disk(&c, (uint32_t)i, e);
                if (r < 0)
                        return r;
        }
        r = collect_boot(&c, "kernel", j->spec->kernel, WIRE_KERNEL, e);
        if (r < 0)
                return r;
        r = collect_boot(&c, "initrd", j->spec->initrd, WIRE_INITRD, e);
        if (r < 0)
                return r;

        for (size_t i = 0; i < c.count; i++)
                memcpy(reply->data + i * sizeof(WireLayer), &c.opened[i].wire, sizeof(WireLayer));
        reply->length = c.count * sizeof(WireLayer);
        return 0;
}

void guest_files_init(GuestFiles *f) {
        *f = (GuestFiles){ .kernel_fd = -1, .initrd_fd = -1 };
        for (size_t i = 0; i < DISKS_PER_DOMAIN_MAX; i++)
                for (size_t j = 0; j < BACKING_CHAIN_MAX; j++)
                        f->disks[i].layers[j].fd = -1;
}

void guest_files_clear(GuestFiles *f) {
        for (size_t i = 0; i < f->n_disks; i++)
                for (size_t j = 0; j < f->disks[i].n_layers; j++)
                        fd_drop(&f->disks[i].layers[j].fd);
        fd_drop(&f->kernel_fd);
        fd_drop(&f->initrd_fd);
        string_drop(&f->cmdline);
        guest_files_init(f);
}

static int place_boot(int *fd, uint64_t *size, const WireLayer *w, int *from) {
        if (*fd >= 0)
                return -EBADMSG;
        *fd = fd_take(from);
        *size = w->size;
        return 0;
}

/* Put one descriptor where the worker says it belongs. */
static int place(GuestFiles *f, const WireLayer *w, int *fd) {
        DiskFiles *disk;

        if (w->what == WIRE_KERNEL)
                return place_boot(&f->kernel_fd, &f->kernel_size, w, fd);
        if (w->what == WIRE_INITRD)
                return place_boot(&f->initrd_fd, &f->initrd_size, w, fd);
        if (w->what >= f->n_disks || w->format >= DISK_FORMAT_COUNT)
                return -EBADMSG;
        disk = &f->disks[w->what];
        if (disk->n_layers == BACKING_CHAIN_MAX)
                return -EBADMSG;
        disk->layers[disk->n_layers++] = (DiskLayer){ .fd = fd_take(fd),
                                                      .format = (DiskFormat)w->format,
                                                      .read_only = w->read_only != 0,
                                                      .block_device = w->block_device != 0,
                                                      .size = w->size };
        return 0;
}

static bool is_complete(const GuestFiles *f, const DomainSpec *spec) {
        for (size_t i = 0; i < f->n_disks; i++)
                if (f->disks[i].n_layers == 0)
                        return false;
        return (f->kernel_fd >= 0) == (spec->kernel != NULL) && (f->initrd_fd >= 0) == (spec->initrd != NULL);
}

static int decode(WorkerReply *reply, const DomainSpec *spec, GuestFiles *f) {
        if (reply->length != reply->fds.count * sizeof(WireLayer))
                return -EBADMSG;
        f->n_disks = spec->n_disks;
        for (size_t i = 0; i < reply->fds.count; i++) {
                WireLayer w;
                int r;

                memcpy(&w, reply->data + i * sizeof w, sizeof w);
                r = place(f, &w, &reply->fds.fds[i]);
                if (r < 0)
                        return r;
        }
        return is_complete(f, spec) ? 0 : -EBADMSG;
}

static void worker_done(Worker *w, WorkerReply *reply, const Error *e) {
        FilesJob *j = w->userdata;
        Error garbled = ERROR_INIT;
        GuestFiles files;

        guest_files_init(&files);
        if (!e && decode(reply, j->spec, &files) < 0) {
                error_set(&garbled, ERROR_INTERNAL, "the worker that opened the disks gave a garbled answer");
                guest_files_clear(&files);
                e = &garbled;
        }
        j->done(j, &files, e);
        /* j may be gone. */
        guest_files_clear(&files);
        error_clear(&garbled);
}

void files_init(FilesJob *j) {
        *j = (FilesJob){ 0 };
        worker_init(&j->worker);
}

int files_start(FilesJob *j, sd_event *event, Error *e) {
        if (j->spec->n_disks > DISKS_PER_DOMAIN_MAX)
                return error_set(e, ERROR_INVALID_INPUT, "%zu disks are more than %d", j->spec->n_disks,
                                 DISKS_PER_DOMAIN_MAX);

        j->worker.what = "opening the disks";
        j->worker.run = run;
        j->worker.input = j;
        j->worker.deadline_usec = j->deadline_usec;
        j->worker.lingering = j->lingering;
        j->worker.done = worker_done;
        j->worker.userdata = j;
        return worker_start(&j->worker, event, e);
}

void files_stop(FilesJob *j) {
        worker_stop(&j->worker);
}
