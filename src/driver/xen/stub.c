#include "driver/xen/stub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/string-util.h"
#include "driver/screen.h"

#define IMAGE_DIRECTORY "/usr/lib/debmarshal/stubdomain"

/* On the network it is nobody. Its root may take all of its memory. */
#define COMMAND_LINE "console=hvc0 quiet ipv6.disable=1 rootfstype=ramfs"

/* ---- what it is ---- */

/* Any pattern would do that no other uuid of ours is made with: theirs are random. */
void stub_uuid(const uint8_t of[DOMAIN_UUID_SIZE], uint8_t ret[DOMAIN_UUID_SIZE]) {
        static const uint8_t pattern[DOMAIN_UUID_SIZE] = { 's', 't', 'u', 'b' };

        for (size_t i = 0; i < DOMAIN_UUID_SIZE; i++)
                ret[i] = of[i] ^ pattern[i];
}

void stub_describe(const Domain *of, char name[STUB_NAME_MAX], Domain *ret) {
        static char command_line[] = COMMAND_LINE;

        snprintf(name, STUB_NAME_MAX, "%s-dm", of->name);
        *ret = (Domain){ .name = name, .id = of->id, .owner = of->owner };
        ret->spec = DOMAIN_SPEC_INIT;
        ret->spec.type = MACHINE_PV;
        ret->spec.memory = STUB_DOMAIN_MEMORY;
        ret->spec.cmdline = command_line;
        ret->spec.nics = of->spec.nics;
        ret->spec.n_nics = of->spec.n_nics;
        stub_uuid(of->uuid, ret->uuid);
}

static int open_part(const char *directory, const char *name, int *ret_fd, Error *e) {
        char path[sizeof((DriverSettings *)0)->xen_stub_domain + 16];

        snprintf(path, sizeof path, "%s/%s", directory, name);
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0)
                return error_set(
                        e, ERROR_NOT_SUPPORTED,
                        "A stub domain boots from an image, and %s cannot be opened: %s; make it with " LIBEXECDIR
                        "/stubdomain-image.sh %s",
                        path, strerror(errno), directory);
        *ret_fd = fd;
        return 0;
}

int stub_open_image(const DriverHost *host, int *ret_kernel, int *ret_initrd, Error *e) {
        const char *configured = host->settings->xen_stub_domain;
        const char *directory = *configured ? configured : IMAGE_DIRECTORY;
        AUTO(fd_drop) int kernel = -1;

        int r = open_part(directory, "vmlinuz", &kernel, e);
        if (r >= 0)
                r = open_part(directory, "initrd", ret_initrd, e);
        if (r >= 0)
                *ret_kernel = fd_take(&kernel);
        return r;
}

int stub_check_files(const GuestFiles *files, Error *e) {
        char size[SIZE_TEXT_MAX], limit[SIZE_TEXT_MAX];
        uint64_t kernel = files->kernel_size, initrd = files->initrd_size;

        if (kernel <= STUB_FILES_MAX && initrd <= STUB_FILES_MAX - kernel)
                return 0;
        return error_set(
                e, ERROR_INVALID_INPUT,
                "Kernel and initrd have %s in all, and a stub domain has room for %s: use a smaller initrd, a boot "
                "sector on the first disk, or no stub domain",
                size_format(kernel + initrd, size), size_format(STUB_FILES_MAX, limit));
}

/* ---- its streams ---- */

void stub_init(Stub *s) {
        *s = (Stub){ .words = WORDS_INIT };
}

static int open_stream(Stub *s, const char *name, VchanKind kind, void (*ended)(void *userdata), Vchan **ret,
                       int *ret_fd) {
        AUTO(fd_drop) int ours = -1;
        char path[VCHAN_PATH_MAX];
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                return -errno;
        ours = pair[0];
        snprintf(path, sizeof path, "/local/domain/%u/data/%s", s->id, name);
        int r = vchan_new(s->guest->host->event, s->id, path, kind, pair[1], ended, s, ret);
        if (r >= 0)
                *ret_fd = fd_take(&ours);
        return r;
}

static int connect_serial(Stub *s) {
        int fd = -1;
        int r = open_stream(s, "serial", VCHAN_FOREVER, NULL, &s->serial, &fd);

        return r < 0 ? r : console_set_second_source(s->guest->console, fd, fd);
}

int stub_connect(Stub *s, uint32_t id, int terminal, Error *e) {
        s->id = id;
        int r = terminal >= 0 ? words_watch(&s->words, s->guest->host->event, terminal) : 0;
        if (r >= 0)
                r = connect_serial(s);
        if (r < 0) {
                stub_disconnect(s);
                return error_set_errno(e, r, "Failed to connect to the stub domain of domain %s",
                                       s->guest->domain->name);
        }
        return 0;
}

/* The last thing that a function does. */
static void picture_taken(void *userdata, int png_fd, const Error *e) {
        Stub *s = userdata;

        s->shot = shot_free(s->shot);
        s->picture = vchan_free(s->picture);
        s->answer(s->userdata, png_fd, e);
}

static void give_up_picture(Stub *s) {
        AUTO(error_clear) Error e = ERROR_INIT;

        if (!s->shot)
                return;
        error_set(&e, ERROR_INVALID_STATE, "The device model of domain %s is ending", s->guest->domain->name);
        picture_taken(s, -1, &e);
}

void stub_disconnect(Stub *s) {
        if (s->id == 0)
                return;
        give_up_picture(s);
        s->serial = vchan_free(s->serial); /* what is in it goes to the console, which reads it now: */
        if (s->guest->console)
                console_set_second_source(s->guest->console, -1, -1);
        s->viewer = vchan_free(s->viewer);
        words_done(&s->words);
        s->id = 0;
}

char *stub_last_words(Stub *s) {
        words_drain(&s->words);
        return words_last_lines(&s->words);
}

static void viewer_ended(void *userdata) {
        Stub *s = userdata;

        s->viewer = vchan_free(s->viewer);
}

int stub_open_vnc(Stub *s, int *ret_fd, Error *e) {
        if (s->viewer)
                return error_set(e, ERROR_BUSY, "Domain %s has a viewer, and a stub domain serves one at a time",
                                 s->guest->domain->name);
        int r = open_stream(s, "vnc", VCHAN_ONCE, viewer_ended, &s->viewer, ret_fd);
        return r < 0 ? error_set_errno(e, r, "Failed to connect to the screen of domain %s", s->guest->domain->name)
                     : 0;
}

/* The Shot sees it, too, and tells. */
static void picture_ended(void *userdata) {
        Stub *s = userdata;

        s->picture = vchan_free(s->picture);
}

int stub_shoot(Stub *s, GuestAnswer answer, void *userdata, Error *e) {
        int fd = -1;

        if (s->shot)
                return error_set(e, ERROR_BUSY, "A picture of the screen of domain %s is being taken",
                                 s->guest->domain->name);
        int r = open_stream(s, "picture", VCHAN_ONCE, picture_ended, &s->picture, &fd);
        if (r < 0)
                return error_set_errno(e, r, "Failed to connect to the screen of domain %s", s->guest->domain->name);
        s->answer = answer;
        s->userdata = userdata;
        r = shot_new(s->guest->host->event, fd, picture_taken, s, &s->shot, e);
        if (r < 0)
                s->picture = vchan_free(s->picture);
        return r;
}
