/* libxenstore waits for the answer to each call, and a domain has a hundred entries: so transactions speak xenstored's
 * protocol themselves, and collect what they are to do:
 *
 *   we         start ->                  write, mkdir, write, ... ->                 commit or abort ->
 *   xenstored           <- its number                              <- one answer each                   <- done, or
 * EAGAIN
 *
 * A message is a header (its type, a number that the answer repeats, the transaction, the length of the body) and a
 * body of strings. Messages of one transaction and their answers are a few kilobytes, less than the socket holds, so
 * neither side waits for the other to read. The kernel's device, where xenstored is not in this domain, takes one
 * message in a write and queues the answers.
 *
 * A connection for a watch asks for it, and then only hears. (libxenstore reads watches in a thread, whose end loads a
 * library and needs a signal: either may fail, and then it aborts the program, or waits for ever.) */
#include "driver/xen/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <xen/io/xs_wire.h>

#include "base/fd.h"
#include "base/string-util.h"

#define SOCKET         "/run/xenstored/socket"
#define DEVICE         "/dev/xen/xenbus"
#define MESSAGES_BYTES 32768 /* of one transaction; the kernel lets a socket hold six times as much */

typedef struct xsd_sockmsg Header;

struct Wire {
        int fd;
        bool one_each; /* a message in each write */
        uint32_t last_id, transaction;
        size_t length; /* of what is collected */
        char messages[MESSAGES_BYTES];
        char answer[XENSTORE_PAYLOAD_MAX + 1];
        char path[256]; /* of what failed first */
};

/* Messages stand one after the other, wherever that is. */
static Header header_at(const Wire *w, size_t at) {
        Header h;

        memcpy(&h, w->messages + at, sizeof h);
        return h;
}

static int open_wire(int fd, bool one_each, Wire **ret) {
        Wire *w = calloc(1, sizeof *w);
        if (!w) {
                close(fd);
                return -ENOMEM;
        }
        w->fd = fd;
        w->one_each = one_each;
        *ret = w;
        return 0;
}

int wire_open_fd(int fd, Wire **ret) {
        return open_wire(fd, false, ret);
}

int wire_open(Wire **ret) {
        const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = SOCKET };
        AUTO(fd_drop) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
                return open_wire(fd_take(&fd), false, ret);
        int device = open(DEVICE, O_RDWR | O_CLOEXEC);
        return device < 0 ? -errno : open_wire(device, true, ret);
}

Wire *wire_close(Wire *w) {
        if (w) {
                close(w->fd);
                free(w);
        }
        return NULL;
}

/* ---- collecting ---- */

/* The body is text with its NULs, then data. */
static int add(Wire *w, uint32_t type, const char *text, size_t text_length, const void *data, size_t length) {
        Header h = { type, ++w->last_id, w->transaction, (uint32_t)(text_length + length) };

        if (text_length + length > XENSTORE_PAYLOAD_MAX)
                return -ENAMETOOLONG;
        if (sizeof h + h.len > sizeof w->messages - w->length)
                return -ENOMEM;
        memcpy(w->messages + w->length, &h, sizeof h);
        memcpy(w->messages + w->length + sizeof h, text, text_length);
        if (length > 0)
                memcpy(w->messages + w->length + sizeof h + text_length, data, length);
        w->length += sizeof h + h.len;
        return 0;
}

int wire_write(Wire *w, const char *path, const void *data, size_t length) {
        return add(w, XS_WRITE, path, strlen(path) + 1, data, length);
}

int wire_mkdir(Wire *w, const char *path) {
        return add(w, XS_MKDIR, path, strlen(path) + 1, NULL, 0);
}

int wire_permit(Wire *w, const char *path, uint32_t owner, uint32_t reader) {
        char permissions[64];
        int n = snprintf(permissions, sizeof permissions, "n%u", owner) + 1;

        if (reader != UINT32_MAX)
                n += snprintf(permissions + n, sizeof permissions - (size_t)n, "r%u", reader) + 1;
        return add(w, XS_SET_PERMS, path, strlen(path) + 1, permissions, (size_t)n);
}

int wire_remove(Wire *w, const char *path) {
        return add(w, XS_RM, path, strlen(path) + 1, NULL, 0);
}

/* ---- talking ---- */

static int send_all(const Wire *w) {
        size_t sent = 0;

        while (sent < w->length) {
                size_t next = w->one_each ? sizeof(Header) + header_at(w, sent).len : w->length - sent;
                ssize_t n = write(w->fd, w->messages + sent, next);
                if (n < 0 && errno != EINTR)
                        return -errno;
                sent += n < 0 ? 0 : (size_t)n;
        }
        return 0;
}

static int receive(const Wire *w, void *buffer, size_t length) {
        size_t done = 0;

        while (done < length) {
                ssize_t n = read(w->fd, (char *)buffer + done, length - done);
                if (n == 0)
                        return -ECONNRESET;
                if (n < 0 && errno != EINTR)
                        return -errno;
                done += n < 0 ? 0 : (size_t)n;
        }
        return 0;
}

static int error_of(const char *name) {
        for (size_t i = 0; i < ARRAY_LEN(xsd_errors); i++)
                if (string_equal(xsd_errors[i].errstring, name))
                        return -xsd_errors[i].errnum;
        return -EIO;
}

/* A message's header, and its text, which is then in w->answer. */
static int receive_message(Wire *w, Header *h) {
        int r = receive(w, h, sizeof *h);

        if (r >= 0 && h->len > XENSTORE_PAYLOAD_MAX)
                r = -EPROTO;
        if (r >= 0)
                r = receive(w, w->answer, h->len);
        if (r >= 0)
                w->answer[h->len] = '\0';
        return r;
}

/* The answer to a message. After what is no answer, *ret_broken, no more can be understood. */
static int take_answer(Wire *w, const Header *asked, bool *ret_broken) {
        Header h;
        int r = receive_message(w, &h);

        *ret_broken = true;
        if (r < 0)
                return r;
        if (h.req_id != asked->req_id || (h.type != asked->type && h.type != XS_ERROR))
                return -EPROTO;
        *ret_broken = false;
        return h.type == XS_ERROR ? error_of(w->answer) : 0;
}

/* Send what is collected, and hear about each. The first failure counts: w->path says what it was about. */
static int exchange(Wire *w) {
        bool broken = false;
        int failure = send_all(w);

        w->path[0] = '\0';
        for (size_t at = 0; at < w->length && !broken && (failure == 0 || at > 0);) {
                const Header asked = header_at(w, at);
                int r = take_answer(w, &asked, &broken);

                if (r < 0 && !(r == -ENOENT && asked.type == XS_RM) && failure == 0) {
                        failure = r;
                        snprintf(w->path, sizeof w->path, "%s", w->messages + at + sizeof asked);
                }
                at += sizeof asked + asked.len;
        }
        w->length = 0;
        return failure;
}

int wire_begin(Wire *w) {
        uint64_t id = 0;

        w->length = 0;
        w->transaction = 0;
        int r = add(w, XS_TRANSACTION_START, "", 1, NULL, 0);
        if (r >= 0)
                r = exchange(w);
        if (r >= 0 && (parse_u64(w->answer, UINT32_MAX, &id) < 0 || id == 0))
                r = -EPROTO;
        w->transaction = (uint32_t)id;
        return r;
}

int wire_end(Wire *w, bool give_up, const char **ret_path) {
        char first[sizeof w->path] = "";
        int r = 0;

        if (give_up)
                w->length = 0;
        else {
                r = exchange(w);
                memcpy(first, w->path, sizeof first);
        }
        int end = add(w, XS_TRANSACTION_END, give_up || r < 0 ? "F" : "T", 2, NULL, 0);
        if (end >= 0)
                end = exchange(w);
        memcpy(w->path, first, sizeof first);
        *ret_path = *w->path ? w->path : NULL;
        return r < 0 ? r : end;
}

/* ---- a watch ---- */

int wire_watch(Wire *w, const char *path) {
        int r = add(w, XS_WATCH, path, strlen(path) + 1, "", 1); /* known to us by no name: it is the only one */

        if (r >= 0)
                r = exchange(w);
        if (r >= 0)
                r = fd_set_nonblock(w->fd, true);
        return r;
}

int wire_fd(const Wire *w) {
        return w->fd;
}

/* What comes is events of the one watch: they need not be understood, and one is as good as many. */
int wire_fired(Wire *w) {
        bool fired = false;

        for (;;) {
                ssize_t n = read(w->fd, w->answer, sizeof w->answer);
                if (n > 0)
                        fired = true;
                else if (n == 0)
                        return -ECONNRESET;
                else if (errno == EAGAIN)
                        return fired;
                else if (errno != EINTR)
                        return -errno;
        }
}
