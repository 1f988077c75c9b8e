#include "driver/xen/hypervisor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/string-util.h"

#define DOMAINS_AT_ONCE 64

/* The last complaint is the outermost, which says what was being done; the first says why: it is kept. */
__attribute__((format(printf, 5, 0))) static void keep_message(xentoollog_logger *logger, xentoollog_level level,
                                                               UNUSED int error, UNUSED const char *context,
                                                               const char *format, va_list arguments) {
        XenLog *log = (XenLog *)logger;

        if (level >= XTL_ERROR && !*log->said)
                vsnprintf(log->said, sizeof log->said, format, arguments);
}

int xen_open(Xen *x, Error *e) {
        *x = (Xen){ .log.logger.vmessage = keep_message };
        x->xc = xc_interface_open(&x->log.logger, &x->log.logger, 0);
        return x->xc ? 0 : error_set_errno(e, errno, "Failed to reach Xen");
}

void xen_close(Xen *x) {
        if (x->xc)
                xc_interface_close(x->xc);
        x->xc = NULL;
}

int xen_fail(Xen *x, Error *e, const char *text) {
        int error = errno ? errno : EIO;
        AUTO(string_drop) char *said = string_escape(x->log.said, sizeof x->log.said);

        if (said && *said)
                error_set(e, ERROR_HYPERVISOR_FAILED, "%s: Xen says \"%s\" (%s)", text, said, strerror(error));
        else
                error_set(e, ERROR_HYPERVISOR_FAILED, "%s: %s", text, strerror(error));
        x->log.said[0] = '\0';
        return -error;
}

static XenEnd end_of(const xc_domaininfo_t *info) {
        if (info->flags & XEN_DOMINF_dying)
                return XEN_DYING;
        if (!(info->flags & XEN_DOMINF_shutdown))
                return XEN_ALIVE;
        switch (info->flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask) {
        case SHUTDOWN_poweroff:
                return XEN_POWEROFF;
        case SHUTDOWN_reboot:
                return XEN_REBOOT;
        default: /* suspend, watchdog, soft reset: nobody asked for any */
                return XEN_CRASH;
        }
}

int xen_find(Xen *x, const uint8_t uuid[DOMAIN_UUID_SIZE], uint32_t *ret_id, XenEnd *ret_end, bool *ret_paused) {
        xc_domaininfo_t info[DOMAINS_AT_ONCE];
        uint32_t next = 1;
        int n;

        while ((n = xc_domain_getinfolist(x->xc, next, DOMAINS_AT_ONCE, info)) > 0) {
                for (int i = 0; i < n; i++) {
                        if (memcmp(info[i].handle, uuid, DOMAIN_UUID_SIZE) != 0)
                                continue;
                        *ret_id = info[i].domain;
                        *ret_end = end_of(&info[i]);
                        if (ret_paused)
                                *ret_paused = info[i].flags & XEN_DOMINF_paused;
                        return 0;
                }
                next = info[n - 1].domain + 1;
        }
        return n < 0 ? -errno : -ESRCH;
}

int xen_look(Xen *x, uint32_t id, const uint8_t uuid[DOMAIN_UUID_SIZE], XenEnd *ret) {
        xc_domaininfo_t info;
        int n = xc_domain_getinfolist(x->xc, id, 1, &info);

        if (n < 0)
                return -errno;
        if (n == 0 || info.domain != id || memcmp(info.handle, uuid, DOMAIN_UUID_SIZE) != 0)
                return -ESRCH;
        *ret = end_of(&info);
        return 0;
}
