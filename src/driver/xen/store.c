#include "driver/xen/store.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

#include "base/time-util.h"
#include "driver/xen/wire.h"

#define ATTEMPTS_MAX 64
#define PATH_SIZE    256
#define VALUE_SIZE   1024

struct XenStore {
        struct xs_handle *handle;
        Wire *wire; /* for changes; NULL: there has been none */
};

struct XenStoreChange {
        Wire *wire;
        int failed;
        char path[PATH_SIZE]; /* of what failed first */
};

int xenstore_open(XenStore **ret, Error *e) {
        XenStore *s = calloc(1, sizeof *s);
        if (!s)
                return error_set_errno(e, ENOMEM, "Failed to connect to xenstored");

        s->handle = xs_open(0);
        if (!s->handle) {
                int r = error_set_errno(e, errno, "Failed to connect to xenstored");
                free(s);
                return r;
        }
        *ret = s;
        return 0;
}

XenStore *xenstore_close(XenStore *s) {
        if (s) {
                xs_close(s->handle);
                wire_close(s->wire);
                free(s);
        }
        return NULL;
}

void xenstore_drop(XenStore **s) {
        *s = xenstore_close(*s);
}

struct xs_handle *xenstore_handle(XenStore *s) {
        return s->handle;
}

/* ---- transactions ---- */

static void fail(XenStoreChange *c, int r, const char *path) {
        if (c->failed || r >= 0)
                return;
        c->failed = r;
        snprintf(c->path, sizeof c->path, "%s", path);
}

/* False when it does not fit, or something has failed before. */
static bool join_path(XenStoreChange *c, const char *directory, const char *key, char path[PATH_SIZE]) {
        int n = key ? snprintf(path, PATH_SIZE, "%s/%s", directory, key) : snprintf(path, PATH_SIZE, "%s", directory);

        if (n < 0 || n >= PATH_SIZE)
                fail(c, -ENAMETOOLONG, directory);
        return !c->failed;
}

void change_write(XenStoreChange *c, const char *directory, const char *key, const char *format, ...) {
        char path[PATH_SIZE], value[VALUE_SIZE];
        va_list arguments;

        va_start(arguments, format);
        int n = vsnprintf(value, sizeof value, format, arguments);
        va_end(arguments);
        if (!join_path(c, directory, key, path))
                return;
        fail(c, n < 0 || n >= (int)sizeof value ? -ENAMETOOLONG : wire_write(c->wire, path, value, (size_t)n), path);
}

void change_node(XenStoreChange *c, const char *directory, const char *key, uint32_t owner, uint32_t reader) {
        char path[PATH_SIZE];

        if (!join_path(c, directory, key, path))
                return;
        fail(c, wire_mkdir(c->wire, path), path);
        fail(c, wire_permit(c->wire, path, owner, reader), path);
}

void change_remove(XenStoreChange *c, const char *path) {
        if (!c->failed)
                fail(c, wire_remove(c->wire, path), path);
}

static int change_once(XenStoreChange *c, XenStoreFill fill, const void *userdata) {
        const char *path = NULL;

        fail(c, wire_begin(c->wire), "a transaction");
        if (c->failed)
                return c->failed;
        fill(c, userdata);
        int r = wire_end(c->wire, c->failed != 0, &path);
        fail(c, r, path ? path : "the end of a transaction");
        return c->failed;
}

int xenstore_change(XenStore *s, XenStoreFill fill, const void *userdata, Error *e) {
        XenStoreChange c = { .wire = NULL };
        int r = s->wire ? 0 : wire_open(&s->wire);

        if (r < 0)
                return error_set_errno(e, r, "Failed to connect to xenstored");
        c.wire = s->wire;
        r = -EAGAIN;
        for (unsigned i = 0; i < ATTEMPTS_MAX && r == -EAGAIN; i++) {
                c.failed = 0;
                r = change_once(&c, fill, userdata);
        }
        return r < 0 ? error_set_errno(e, r, "Failed to write Xen's store (%s)", c.path) : 0;
}

/* ---- reading ---- */

int xenstore_read(XenStore *s, const char *path, char **ret) {
        unsigned length;
        char *value = xs_read(s->handle, XBT_NULL, path, &length); /* NUL-terminated by the library */

        if (!value)
                return -errno;
        *ret = value;
        return 0;
}

int xenstore_list(XenStore *s, const char *path, char ***ret) {
        unsigned n = 0;
        char **names = xs_directory(s->handle, XBT_NULL, path, &n), **list = NULL;
        int r = names || errno == ENOENT ? 0 : -errno;

        for (unsigned i = 0; names && i < n && r >= 0; i++)
                r = string_list_append(&list, names[i]);
        free(names); /* one block with the names in it */
        if (r < 0)
                string_list_free(&list);
        else
                *ret = list;
        return r;
}

static int wait_for_watch(XenStore *s, uint64_t end) {
        struct pollfd p = { .fd = xs_fileno(s->handle), .events = POLLIN };
        uint64_t now = now_monotonic_usec();

        if (now >= end)
                return -ETIMEDOUT;
        if (poll(&p, 1, (int)((end - now) / USEC_PER_MSEC) + 1) < 0)
                return errno == EINTR ? 0 : -errno;
        if (p.revents) {
                char **event = xs_check_watch(s->handle);
                if (!event && errno != EAGAIN)
                        return -errno;
                free(event);
        }
        return 0;
}

/* A watch fires once at its beginning, so nothing is missed between it and the first look. */
int xenstore_wait(XenStore *s, const char *path, uint64_t deadline_usec, char **ret) {
        uint64_t end = now_monotonic_usec() + deadline_usec;
        int r;

        if (!xs_watch(s->handle, path, "wait"))
                return -errno;
        do {
                AUTO(string_drop) char *value = NULL;

                r = xenstore_read(s, path, &value);
                if (r >= 0 && value && *value) {
                        *ret = TAKE(value);
                        break;
                }
                r = r < 0 && r != -ENOENT ? r : wait_for_watch(s, end);
        } while (r >= 0);
        (void)xs_unwatch(s->handle, path, "wait");
        return r;
}
