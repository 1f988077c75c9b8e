#include "driver/screen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define SCREENSHOT_MAX (64 << 20)

typedef struct ScreenRequest {
        Qmp *qmp;
        GuestAnswer answer;
        void *userdata;
        int fd;       /* what the caller will get, or the memory where it is made */
        unsigned set; /* descriptor set that the emulator has for it */
        bool png;
} ScreenRequest;

static ScreenRequest *request_new(Qmp *qmp, GuestAnswer answer, void *userdata) {
        ScreenRequest *r = malloc(sizeof *r);

        if (r)
                *r = (ScreenRequest){ .qmp = qmp, .answer = answer, .userdata = userdata, .fd = -1 };
        return r;
}

static void request_free(ScreenRequest *r) {
        fd_drop(&r->fd);
        free(r);
}

/* The last thing that a function does. */
static void request_finish(ScreenRequest *r, const Error *e) {
        GuestAnswer answer = r->answer;
        void *userdata = r->userdata;
        int fd = e ? -1 : fd_take(&r->fd);

        request_free(r);
        answer(userdata, fd, e);
}

/* ---- pictures ---- */

/* The emulator could go on writing, and harm nobody but its owner: it is hers, and read as a stream
 * (guest/file-copy.h).
 */
static int check_picture(int fd, Error *e) {
        static const char magic[8] = "\x89PNG\r\n\x1a\n";
        char begin[sizeof magic];
        struct stat st;

        if (fstat(fd, &st) < 0)
                return error_set_errno(e, errno, "Failed to read the screenshot");
        if (st.st_size < (off_t)sizeof magic || st.st_size > SCREENSHOT_MAX)
                return error_set(e, ERROR_HYPERVISOR_FAILED, "The emulator's screenshot has %lld bytes",
                                 (long long)st.st_size);
        if (pread(fd, begin, sizeof begin, 0) != (ssize_t)sizeof begin || memcmp(begin, magic, sizeof magic) != 0)
                return error_set(e, ERROR_HYPERVISOR_FAILED, "The emulator's screenshot is no PNG");
        return 0;
}

static void dumped(void *userdata, UNUSED json_t *result, const Error *failure) {
        ScreenRequest *request = userdata;
        AUTO(error_clear) Error e = ERROR_INIT;

        if (qmp_is_open(request->qmp))
                (void)qmp_send(request->qmp, "remove-fd", json_pack("{s:i}", "fdset-id", (int)request->set), -1, NULL,
                               NULL, NULL);
        if (!failure && request->png && check_picture(request->fd, &e) < 0)
                failure = &e;
        request_finish(request, failure);
}

/* QEMU takes a descriptor of a set only when it is open in the very mode that it would open the file in. */
static int add_file(ScreenRequest *request, Error *e) {
        char path[32];
        AUTO(fd_drop) int writable = -1;

        request->fd = memfd_create("screenshot", MFD_CLOEXEC);
        if (request->fd >= 0) {
                snprintf(path, sizeof path, "/proc/self/fd/%d", request->fd);
                writable = open(path, O_WRONLY | O_CLOEXEC);
        }
        if (writable < 0)
                return error_set_errno(e, errno, "Failed to make a file for the screenshot");
        return qmp_send(request->qmp, "add-fd", json_pack("{s:i}", "fdset-id", (int)request->set), writable, NULL, NULL,
                        e);
}

static int shoot(Qmp *qmp, unsigned number, bool png, GuestAnswer answer, void *userdata, Error *e) {
        ScreenRequest *request = request_new(qmp, answer, userdata);
        char path[32];

        if (!request)
                return error_set_errno(e, ENOMEM, "Failed to ask for a screenshot");
        request->png = png;
        request->set = SCREEN_SETS + number % 1000000;
        int r = add_file(request, e);
        if (r >= 0) {
                snprintf(path, sizeof path, "/dev/fdset/%u", request->set);
                r = qmp_send(qmp, "screendump",
                             json_pack("{s:s, s:s}", "filename", path, "format", png ? "png" : "ppm"), -1, dumped,
                             request, e);
        }
        if (r < 0)
                request_free(request);
        return r;
}

int screen_shoot(Qmp *qmp, unsigned number, GuestAnswer answer, void *userdata, Error *e) {
        return shoot(qmp, number, true, answer, userdata, e);
}

int screen_shoot_ppm(Qmp *qmp, unsigned number, GuestAnswer answer, void *userdata, Error *e) {
        return shoot(qmp, number, false, answer, userdata, e);
}

/* ---- viewers ---- */

static void client_added(void *userdata, UNUSED json_t *result, const Error *e) {
        request_finish(userdata, e);
}

/* One end for the caller, the other for the emulator, which speaks RFB on it at once. */
int screen_open_vnc(Qmp *qmp, unsigned number, GuestAnswer answer, void *userdata, Error *e) {
        ScreenRequest *request = request_new(qmp, answer, userdata);
        AUTO(fd_drop) int theirs = -1;
        char name[24];
        int pair[2];

        if (!request)
                return error_set_errno(e, ENOMEM, "Failed to ask for the screen");
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
                int r = error_set_errno(e, errno, "Failed to make a socket for the screen");
                request_free(request);
                return r;
        }
        unix_refuse_descriptors(pair[0]);
        request->fd = pair[0];
        theirs = pair[1];
        snprintf(name, sizeof name, "vnc-%u", number);
        int r = qmp_send(qmp, "getfd", json_pack("{s:s}", "fdname", name), theirs, NULL, NULL, e);
        if (r >= 0)
                r = qmp_send(qmp, "add_client", json_pack("{s:s, s:s}", "protocol", "vnc", "fdname", name), -1,
                             client_added, request, e);
        if (r < 0)
                request_free(request);
        return r;
}

int screen_set_password(Qmp *qmp, const char *password, QmpReply reply, void *userdata, Error *e) {
        return qmp_send(qmp, "set_password", json_pack("{s:s, s:s}", "protocol", "vnc", "password", password), -1,
                        reply, userdata, e);
}
