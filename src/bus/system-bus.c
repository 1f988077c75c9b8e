/* The connection to the system bus, in the system scope.
 *
 *   none --connect--> connected --name acquired--> serving
 *    ^                   | the bus goes,              | the bus goes, the name is taken away
 *    |  RETRY_USEC       v the name is refused        v
 *    +---------------- given up <---------------------+
 *
 * The daemon's own socket is served in every state: a bus that is missing, restarted or hostile to us is logged once,
 * and tried again for ever. The bus is trusted to say who a sender is. */
#include "bus/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/time-util.h"

#define RETRY_USEC (5 * USEC_PER_SEC)
#define ASK_USEC   (5 * USEC_PER_SEC) /* for what is asked of the bus itself; who a sender is may take longer */

static void join(Bus *b);

static int on_retry(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        join(userdata);
        return 0;
}

static void settle(Bus *b) {
        BusSettled settled = b->settled;

        b->settled = NULL;
        if (settled)
                settled(b->settled_data);
}

static void retry_later(Bus *b) {
        int r = b->retry ? sd_event_source_set_time_relative(b->retry, RETRY_USEC)
                         : sd_event_add_time_relative(b->event, &b->retry, CLOCK_MONOTONIC, RETRY_USEC, USEC_PER_SEC,
                                                      on_retry, b);
        if (r >= 0)
                r = sd_event_source_set_enabled(b->retry, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error("Failed to set a timer for the system bus: %s, ignoring", strerror(-r));
}

/* Not from inside a callback of the connection: the next turn does it. */
static int on_give_up(UNUSED sd_event_source *s, UNUSED uint64_t usec, void *userdata) {
        Face *f = userdata;
        Bus *b = f->bus;

        b->system = NULL;
        face_free(f);
        retry_later(b);
        return 0;
}

static void give_up(Face *f) {
        if (f->doomed)
                return;
        f->doomed = true;
        settle(f->bus);
        int r = sd_event_add_time_relative(f->bus->event, &f->timer, CLOCK_MONOTONIC, 0, 0, on_give_up, f);
        if (r < 0)
                log_error("Failed to leave the system bus: %s, ignoring", strerror(-r));
}

static int on_disconnected(UNUSED sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        log_warning("The system bus has gone; the socket is still served");
        give_up(userdata);
        return 0;
}

static int on_name_lost(UNUSED sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Face *f = userdata;
        if (!f->doomed)
                log_warning("The name " BUS_NAME " was taken from us on the system bus");
        give_up(f);
        return 0;
}

static int on_name_answer(sd_bus_message *m, void *userdata, UNUSED sd_bus_error *e) {
        Face *f = userdata;
        uint32_t result = 0;

        const int level = f->bus->system_trouble_told ? LOG_DEBUG : LOG_WARNING;
        if (sd_bus_message_is_method_error(m, NULL))
                log_write(level, NULL, "The system bus refuses the name " BUS_NAME ": %s",
                          sd_bus_message_get_error(m)->message);
        else if (sd_bus_message_read(m, "u", &result) < 0 || (result != 1 && result != 4))
                log_write(level, NULL, "The name " BUS_NAME " on the system bus has another owner");
        else {
                log_info("Serving " BUS_NAME " on the system bus");
                f->bus->system_trouble_told = false;
                settle(f->bus);
                return 0;
        }
        f->bus->system_trouble_told = true;
        give_up(f);
        return 0;
}

static int connect_system(Face *f) {
        int r;

        if ((r = sd_bus_open_system_with_description(&f->connection, "system bus")) < 0 ||
            (r = sd_bus_set_method_call_timeout(f->connection, ASK_USEC)) < 0 ||
            (r = sd_bus_set_exit_on_disconnect(f->connection, false)) < 0 || (r = senders_watch(f)) < 0 ||
            (r = face_add_objects(f)) < 0 ||
            (r = sd_bus_match_signal_async(f->connection, NULL, "org.freedesktop.DBus.Local",
                                           "/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local", "Disconnected",
                                           on_disconnected, NULL, f)) < 0 ||
            (r = sd_bus_match_signal_async(f->connection, NULL, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                           "org.freedesktop.DBus", "NameLost", on_name_lost, NULL, f)) < 0 ||
            (r = sd_bus_request_name_async(f->connection, NULL, BUS_NAME, 0, on_name_answer, f)) < 0)
                return r;
        return sd_bus_attach_event(f->connection, f->bus->event, SD_EVENT_PRIORITY_NORMAL);
}

static void join(Bus *b) {
        Face *f;
        int r = face_new(b, &f);
        if (r >= 0) {
                f->is_system = true;
                r = connect_system(f);
                if (r >= 0)
                        b->system = f;
                else
                        face_free(f);
        }
        if (r >= 0)
                return;

        if (!b->system_trouble_told)
                log_info("There is no system bus (%s): only the socket is served until there is one", strerror(-r));
        b->system_trouble_told = true;
        retry_later(b);
        settle(b);
}

void bus_join_system(Bus *b, BusSettled settled, void *userdata) {
        b->settled = settled;
        b->settled_data = userdata;
        join(b);
}

void system_bus_done(Bus *b) {
        b->retry = sd_event_source_disable_unref(b->retry);
        b->system = NULL; /* freed with the other faces */
}
