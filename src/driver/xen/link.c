/* The daemon's own connections to Xen and to its store. libxenstore starts a thread with the first watch, which reads
 * the connection and, for each watch that fires, a pipe; it blocks every signal, and no code of ours runs in it. A
 * worker's child has a copy of the connection without the thread, and makes its own.
 *
 * "@releaseDomain" fires for the end of any domain, and does not say whose: each guest then looks at its own. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include <xenstore.h>

#include "base/log.h"
#include "driver/xen/xen-internal.h"

#define RELEASE_WATCH "@releaseDomain"

LIST_HEAD(XenGuestList, XenGuest);

static struct {
        unsigned users;
        Xen xen;
        XenStore *store;
        sd_event_source *source;
        struct XenGuestList guests;
} shared;

static void look_at_all(void) {
        XenGuest *x, *next;

        for (x = LIST_FIRST(&shared.guests); x;
             x = next) { /* a guest tells of its end from the loop: none goes meanwhile */
                next = LIST_NEXT(x, entry);
                xen_guest_look(x);
        }
}

static int on_watch(sd_event_source *source, UNUSED int fd, UNUSED uint32_t revents, UNUSED void *userdata) {
        bool fired = false;
        char **event;

        while ((event = xs_check_watch(xenstore_handle(shared.store)))) {
                fired = true;
                free(event);
        }
        if (errno != EAGAIN) {
                log_error("The connection to xenstored is lost: the ends of Xen guests are not noticed any more");
                (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
        }
        if (fired)
                look_at_all();
        return 0;
}

static void close_all(void) {
        shared.source = sd_event_source_disable_unref(shared.source);
        shared.store = xenstore_close(shared.store);
        xen_close(&shared.xen);
}

static int open_all(const DriverHost *host, Error *e) {
        int r = xen_open(&shared.xen, e);

        if (r >= 0)
                r = xenstore_open(&shared.store, e);
        if (r >= 0 && !xs_watch(xenstore_handle(shared.store), RELEASE_WATCH, "end"))
                r = error_set_errno(e, errno, "Failed to watch Xen's store");
        if (r >= 0) {
                r = sd_event_add_io(host->event, &shared.source, xs_fileno(xenstore_handle(shared.store)), EPOLLIN,
                                    on_watch, NULL);
                if (r < 0)
                        error_set_errno(e, r, "Failed to watch Xen's store");
        }
        if (r < 0)
                close_all();
        return r;
}

int xen_link_get(const DriverHost *host, Error *e) {
        int r = shared.users == 0 ? open_all(host, e) : 0;

        if (r < 0)
                return r;
        shared.users++;
        return 0;
}

void xen_link_put(void) {
        assert(shared.users > 0);
        if (--shared.users == 0)
                close_all();
}

Xen *xen_link_xen(void) {
        return &shared.xen;
}

XenStore *xen_link_store(void) {
        return shared.store;
}

void xen_link_add(XenGuest *x) {
        LIST_INSERT_HEAD(&shared.guests, x, entry);
}

void xen_link_remove(XenGuest *x) {
        LIST_REMOVE(x, entry);
}
