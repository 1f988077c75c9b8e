/* The daemon's own connections to Xen and to its store: one for reading, and one that watches (wire.c).
 *
 * "@releaseDomain" fires for the end of any domain, and does not say whose: each guest then looks at its own. */
#include <assert.h>

#include "base/log.h"
#include "driver/xen/wire.h"
#include "driver/xen/xen-internal.h"

#define RELEASE_WATCH "@releaseDomain"

LIST_HEAD(XenGuestList, XenGuest);

static struct {
        unsigned users;
        Xen xen;
        XenStore *store;
        Wire *watch;
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
        int r = wire_fired(shared.watch);

        if (r < 0) {
                log_error("The connection to xenstored is lost: the ends of Xen guests are not noticed any more");
                (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
        } else if (r > 0)
                look_at_all();
        return 0;
}

static void close_all(void) {
        shared.source = sd_event_source_disable_unref(shared.source);
        shared.watch = wire_close(shared.watch);
        shared.store = xenstore_close(shared.store);
        xen_close(&shared.xen);
}

static int open_watch(const DriverHost *host, Error *e) {
        int r = wire_open(&shared.watch);

        if (r >= 0)
                r = wire_watch(shared.watch, RELEASE_WATCH);
        if (r >= 0)
                r = sd_event_add_io(host->event, &shared.source, wire_fd(shared.watch), EPOLLIN, on_watch, NULL);
        return r < 0 ? error_set_errno(e, r, "Failed to watch Xen's store") : 0;
}

static int open_all(const DriverHost *host, Error *e) {
        int r = xen_open(&shared.xen, e);

        if (r >= 0)
                r = xenstore_open(&shared.store, e);
        if (r >= 0)
                r = open_watch(host, e);
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
