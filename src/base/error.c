#include "base/error.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/string-util.h"

/* These may be macros, for the analyser. */
#undef error_set
#undef error_set_value
#undef error_set_errno

#define VALUE_SHOWN_MAX 80

/* Name, errno and the text shown when there was no memory for a better one. */
static const struct {
        const char *name;
        int code;
        const char *text;
} error_table[] = {
        [ERROR_NONE] = { "", 0, "no error" },
        [ERROR_INVALID_INPUT] = { "InvalidInput", EINVAL, "invalid input" },
        [ERROR_ACCESS_DENIED] = { "AccessDenied", EACCES, "access denied" },
        [ERROR_NETWORK_NOT_FOUND] = { "NetworkNotFound", ENOENT, "no such network" },
        [ERROR_DOMAIN_NOT_FOUND] = { "DomainNotFound", ESRCH, "no such domain" },
        [ERROR_NETWORK_IN_USE] = { "NetworkInUse", EBUSY, "the network has domains on it" },
        [ERROR_NO_AVAILABLE_IPS] = { "NoAvailableIPs", EADDRNOTAVAIL, "no free subnet" },
        [ERROR_QUOTA_EXCEEDED] = { "QuotaExceeded", EDQUOT, "quota exceeded" },
        [ERROR_NOT_SUPPORTED] = { "NotSupported", EOPNOTSUPP, "not supported" },
        [ERROR_HYPERVISOR_FAILED] = { "HypervisorFailed", EREMOTEIO, "the hypervisor failed" },
        [ERROR_NETWORK_FAILED] = { "NetworkFailed", ENETDOWN, "the network failed" },
        [ERROR_TIMEOUT] = { "Timeout", ETIMEDOUT, "timed out" },
        [ERROR_BUSY] = { "Busy", EALREADY, "another operation is under way" },
        [ERROR_INVALID_STATE] = { "InvalidState", EBADFD, "not possible in this state" },
        [ERROR_CONNECTION_FAILED] = { "ConnectionFailed", ECONNREFUSED, "connection failed" },
        [ERROR_INTERNAL] = { "Internal", EIO, "internal error" },
};
static_assert(ARRAY_LEN(error_table) == ERROR_ID_COUNT, "row missing");

static PRINTF_LIKE(3, 0) void set(Error *e, ErrorId id, const char *format, va_list ap) {
        if (!e || e->id != ERROR_NONE)
                return;
        e->id = id;
        e->message = string_vprintf(format, ap);
}

int error_set(Error *e, ErrorId id, const char *format, ...) {
        int saved_errno = errno;

        assert(id > ERROR_NONE && id < ERROR_ID_COUNT);
        va_list ap;
        va_start(ap, format);
        set(e, id, format, ap);
        va_end(ap);
        errno = saved_errno;
        return error_errno(id);
}

int error_set_value(Error *e, ErrorId id, const char *what, const char *value, const char *rule) {
        if (!e || e->id != ERROR_NONE)
                return error_errno(id);
        AUTO(string_drop) char *shown = string_escape(value, VALUE_SHOWN_MAX);
        bool cut = value && strnlen(value, VALUE_SHOWN_MAX + 1) > VALUE_SHOWN_MAX;
        return error_set(e, id, "%s \"%s%s\": %s", what, string_or(shown, ""), cut ? "..." : "", rule);
}

int error_set_errno(Error *e, int err, const char *format, ...) {
        int saved_errno = errno;

        /* Zero is the caller's mistake, but must not come out as success. */
        int code = err == 0 ? EIO : abs(err);
        if (e && e->id == ERROR_NONE) {
                va_list ap;
                va_start(ap, format);
                set(e, ERROR_INTERNAL, format, ap);
                va_end(ap);
                if (e->message) {
                        char *longer = string_printf("%s: %s", e->message, strerror(code));
                        if (longer) {
                                free(e->message);
                                e->message = longer;
                        }
                }
        }
        errno = saved_errno;
        return -code;
}

void error_prefix(Error *e, const char *format, ...) {
        int saved_errno = errno;

        if (!error_is_set(e))
                return;
        va_list ap;
        va_start(ap, format);
        AUTO(string_drop) char *prefix = string_vprintf(format, ap);
        va_end(ap);
        if (prefix) {
                char *longer = string_printf("%s: %s", prefix, error_text(e));
                if (longer) {
                        free(e->message);
                        e->message = longer;
                }
        }
        errno = saved_errno;
}

int error_move(Error *to, Error *from) {
        int code = error_errno(to && to->id != ERROR_NONE ? to->id : from->id);

        if (to && to->id == ERROR_NONE) {
                *to = *from;
                *from = ERROR_INIT;
        }
        error_clear(from);
        return code;
}

int error_copy(Error *to, const Error *from) {
        return error_is_set(from) ? error_set(to, from->id, "%s", error_text(from)) : 0;
}

void error_clear(Error *e) {
        if (!e)
                return;
        free(e->message);
        *e = ERROR_INIT;
}

const char *error_text(const Error *e) {
        if (!e)
                return error_table[ERROR_NONE].text;
        return e->message ? e->message : error_table[e->id].text;
}

const char *error_id_name(ErrorId id) {
        return error_table[id].name;
}

ErrorId error_id_from_name(const char *name) {
        for (ErrorId id = ERROR_NONE + 1; id < ERROR_ID_COUNT; id++)
                if (string_equal(error_table[id].name, name))
                        return id;
        return ERROR_ID_COUNT;
}

int error_errno(ErrorId id) {
        return -error_table[id].code;
}
