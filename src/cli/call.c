#include "cli/call.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

#include "base/string-util.h"
#include "base/time-util.h"

#define ERROR_PREFIX "com.googlecode.debmarshal.Error."

void message_drop(sd_bus_message **m) {
        *m = sd_bus_message_unref(*m);
}

static void bus_error_drop(sd_bus_error *error) {
        sd_bus_error_free(error);
}

int call_misunderstood(int r, Error *e) {
        return error_set_errno(e, r, "cannot understand the daemon's answer");
}

int call_new(Cli *cli, const char *path, const char *interface, const char *member, sd_bus_message **ret, Error *e) {
        int r = sd_bus_message_new_method_call(cli->bus, ret, NULL, path, interface, member);

        return r < 0 ? error_set_errno(e, r, "cannot prepare %s", member) : 0;
}

/* The object ended between the look-up of its name and the call: say what the look-up would have said. 0: it is of
 * another kind. */
static int take_missing(const char *path, Error *e) {
        static const struct {
                const char *prefix, *what;
                ErrorId id;
        } kinds[] = {
                { NETWORK_PREFIX, "network", ERROR_NETWORK_NOT_FOUND },
                { DOMAIN_PREFIX, "domain", ERROR_DOMAIN_NOT_FOUND },
        };

        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                AUTO(string_drop) char *name = NULL;

                if (sd_bus_path_decode(path, kinds[i].prefix, &name) > 0)
                        return error_set_value(e, kinds[i].id, kinds[i].what, name, "there is none of that name");
        }
        return 0;
}

/* Errors of debmarshal come back as they were made; others are the bus library's, or mean a daemon of another age.
 * path: of the object that was called; NULL when that is no matter. */
static int take_error(const sd_bus_error *error, int r, const char *path, const char *member, Error *e) {
        if (error->name && string_has_prefix(error->name, ERROR_PREFIX)) {
                ErrorId id = error_id_from_name(error->name + strlen(ERROR_PREFIX));
                return error_set(e, id == ERROR_ID_COUNT || id == ERROR_NONE ? ERROR_INTERNAL : id, "%s",
                                 string_or(error->message, error->name));
        }
        if (path && sd_bus_error_has_name(error, SD_BUS_ERROR_UNKNOWN_OBJECT)) {
                int missing = take_missing(path, e);
                if (missing < 0)
                        return missing;
        }
        if (r == -ETIMEDOUT || sd_bus_error_has_name(error, SD_BUS_ERROR_NO_REPLY))
                return error_set(e, ERROR_TIMEOUT, "the daemon did not answer %s in time", member);
        if (r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE ||
            sd_bus_error_has_name(error, SD_BUS_ERROR_DISCONNECTED))
                return error_set(e, ERROR_INTERNAL, "the daemon closed the connection during %s", member);
        if (error->message)
                return error_set(e, ERROR_INTERNAL, "the daemon refused %s: %s", member, error->message);
        return error_set_errno(e, r, "cannot call %s", member);
}

int call_send(Cli *cli, sd_bus_message *m, uint64_t timeout_usec, sd_bus_message **ret_reply, Error *e) {
        AUTO(bus_error_drop) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call(cli->bus, m, timeout_usec, &error, ret_reply);

        return r < 0 ? take_error(&error, r, sd_bus_message_get_path(m), sd_bus_message_get_member(m), e) : 0;
}

int call(Cli *cli, const char *path, const char *interface, const char *member, sd_bus_message **ret_reply, Error *e,
         const char *types, ...) {
        AUTO(message_drop) sd_bus_message *m = NULL;
        va_list ap;

        int r = call_new(cli, path, interface, member, &m, e);
        if (r < 0)
                return r;
        va_start(ap, types);
        r = types && *types ? sd_bus_message_appendv(m, types, ap) : 0;
        va_end(ap);
        if (r < 0) /* D-Bus carries UTF-8 only, and nothing longer than 128 MiB */
                return error_set(e, ERROR_INVALID_INPUT, "an argument of %s is no UTF-8 text: %s", member,
                                 strerror(-r));
        return call_send(cli, m, CALL_USEC, ret_reply, e);
}

static int on_answer(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        PendingCall *p = userdata;

        p->reply = sd_bus_message_ref(m);
        return 0;
}

int pending_begin(Cli *cli, sd_bus_message *m, uint64_t timeout_usec, PendingCall *p, Error *e) {
        int r = sd_bus_call_async(cli->bus, &p->slot, m, on_answer, p, timeout_usec);

        return r < 0 ? error_set_errno(e, r, "cannot call %s", sd_bus_message_get_member(m)) : 0;
}

int pending_wait(Cli *cli, PendingCall *p, uint64_t usec, Error *e) {
        uint64_t end = now_monotonic_usec() + usec;

        while (!p->reply) {
                int r = sd_bus_process(cli->bus, NULL);
                if (r > 0)
                        continue;
                uint64_t now = now_monotonic_usec();
                if (r == 0 && now >= end)
                        return 0;
                if (r == 0)
                        r = sd_bus_wait(cli->bus, end - now);
                if (r < 0 && r != -EINTR)
                        return error_set(e, ERROR_INTERNAL, "the daemon closed the connection");
        }
        return 1;
}

int pending_reply(const PendingCall *p, sd_bus_message **ret_reply, Error *e) {
        const sd_bus_error *error = sd_bus_message_get_error(p->reply);

        if (error)
                return take_error(error, -sd_bus_error_get_errno(error), NULL, "the call", e);
        *ret_reply = p->reply;
        return 0;
}

void pending_drop(PendingCall *p) {
        p->slot = sd_bus_slot_unref(p->slot);
        p->reply = sd_bus_message_unref(p->reply);
}

int message_read_fd(sd_bus_message *m, int *ret_fd, Error *e) {
        int fd;

        int r = sd_bus_message_read(m, "h", &fd);
        if (r < 0)
                return call_misunderstood(r, e);
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* the message owns the one it carries */
        if (fd < 0)
                return error_set_errno(e, errno, "cannot keep a descriptor");
        *ret_fd = fd;
        return 0;
}

int call_for_fd(Cli *cli, const char *path, const char *interface, const char *member, int *ret_fd, Error *e) {
        AUTO(message_drop) sd_bus_message *reply = NULL;
        int r = call(cli, path, interface, member, &reply, e, NULL);

        return r < 0 ? r : message_read_fd(reply, ret_fd, e);
}
