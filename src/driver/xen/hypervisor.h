/* Xen itself: the handle for hypercalls, and the acts that need nothing but a domain's number. */
#pragma once

#include <stdint.h>
#include <xenctrl.h>
#include <xentoollog.h>

#include "base/error.h"
#include "core/domain.h"

/* Keeps the last thing that a library of Xen's complained about, for the message of the failure. */
typedef struct XenLog {
        xentoollog_logger logger; /* first */
        char said[256];
} XenLog;

typedef struct Xen {
        XenLog log;
        xc_interface *xc; /* NULL: closed */
} Xen;

/* In place: the libraries point to x->log. */
int xen_open(Xen *x, Error *e);
void xen_close(Xen *x); /* zeroed or open; for AUTO() */

/* Set e to "TEXT: what Xen said: errno". Returns -errno. */
int xen_fail(Xen *x, Error *e, const char *text);

typedef enum XenEnd {
        XEN_ALIVE,
        XEN_POWEROFF,
        XEN_REBOOT,
        XEN_CRASH,
        XEN_DYING, /* being taken apart */
} XenEnd;

/* The first domain of that uuid. -ESRCH: there is none. ret_paused (NULL: nobody asks): by a toolstack, us or another,
 * as each domain also is until it is first let run. Xen's own pauses, for a device model or a dump, are not told. */
int xen_find(Xen *x, const uint8_t uuid[DOMAIN_UUID_SIZE], uint32_t *ret_id, XenEnd *ret_end, bool *ret_paused);
/* How that very domain is; -ESRCH when its number is nobody's or another's. */
int xen_look(Xen *x, uint32_t id, const uint8_t uuid[DOMAIN_UUID_SIZE], XenEnd *ret);
