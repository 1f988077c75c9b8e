/* A peer's socket is no message bus, but many clients take every address for one: busctl --address, python's
 * BusConnection, anything that was told to use DBUS_SYSTEM_BUS_ADDRESS. They begin with Hello, ask who owns the name
 * that they want to call, and subscribe to signals. Answered as here, they work: there are two names, the client's and
 * ours, and signals come without being asked for. */
#include "bus/internal.h"

#include "base/string-util.h"

#define BUS_INTERFACE "org.freedesktop.DBus"
#define OUR_ID        ":1.0"
#define CLIENT_ID     ":1.1"

static bool is_ours(const char *name) {
        return string_equal(name, BUS_NAME) || string_equal(name, OUR_ID);
}

static int on_hello(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        return sd_bus_reply_method_return(m, "s", CLIENT_ID);
}

static int on_match(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        return sd_bus_reply_method_return(m, NULL);
}

static int on_name_has_owner(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        const char *name;
        int r = sd_bus_message_read(m, "s", &name);
        return r < 0 ? r : sd_bus_reply_method_return(m, "b", (int)is_ours(name));
}

static int on_get_name_owner(sd_bus_message *m, UNUSED void *userdata, sd_bus_error *e) {
        const char *name;
        int r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        if (!is_ours(name))
                return sd_bus_error_set(e, SD_BUS_ERROR_NAME_HAS_NO_OWNER, "Only " BUS_NAME " is here");
        return sd_bus_reply_method_return(m, "s", OUR_ID);
}

static int on_list_names(sd_bus_message *m, UNUSED void *userdata, UNUSED sd_bus_error *e) {
        return sd_bus_reply_method_return(m, "as", 3, BUS_INTERFACE, BUS_NAME, OUR_ID);
}

static int on_start_service(sd_bus_message *m, UNUSED void *userdata, sd_bus_error *e) {
        const char *name;
        uint32_t flags;
        int r = sd_bus_message_read(m, "su", &name, &flags);
        if (r < 0)
                return r;
        if (!is_ours(name))
                return sd_bus_error_set(e, SD_BUS_ERROR_SERVICE_UNKNOWN, "Only " BUS_NAME " is here");
        return sd_bus_reply_method_return(m, "u", 2u); /* DBUS_START_REPLY_ALREADY_RUNNING */
}

static const sd_bus_vtable peer_bus_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Hello", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", name), on_hello, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("AddMatch", SD_BUS_ARGS("s", rule), SD_BUS_NO_RESULT, on_match, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("RemoveMatch", SD_BUS_ARGS("s", rule), SD_BUS_NO_RESULT, on_match, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("NameHasOwner", SD_BUS_ARGS("s", name), SD_BUS_RESULT("b", has_owner),
                                on_name_has_owner, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("GetNameOwner", SD_BUS_ARGS("s", name), SD_BUS_RESULT("s", owner), on_get_name_owner,
                                ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("ListNames", SD_BUS_NO_ARGS, SD_BUS_RESULT("as", names), on_list_names, ANYBODY),
        SD_BUS_METHOD_WITH_ARGS("StartServiceByName", SD_BUS_ARGS("s", name, "u", flags), SD_BUS_RESULT("u", result),
                                on_start_service, ANYBODY),
        SD_BUS_VTABLE_END,
};

int peer_bus_add(Face *f) {
        return sd_bus_add_object_vtable(f->connection, NULL, "/org/freedesktop/DBus", BUS_INTERFACE, peer_bus_vtable,
                                        f);
}
