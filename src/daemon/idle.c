/* Looked at a few times per period instead of at every change: an idle time somewhat longer than configured hurts
 * nobody. A client that came and went between two looks starts the time anew. One that connects at the very last
 * moment is found in the socket's queue, and served. */
#include "daemon/idle.h"

#include "base/log.h"
#include "base/time-util.h"

#define LOOKS_PER_PERIOD 4

static bool is_busy(Idle *i) {
        uint64_t peers_ever = bus_peers_ever(i->server->bus);
        bool was_visited = peers_ever != i->peers_seen;

        i->peers_seen = peers_ever;
        return was_visited || bus_peers(i->server->bus) > 0 || !engine_is_empty(i->engine);
}

static int on_look(sd_event_source *source, UNUSED uint64_t usec, void *userdata) {
        Idle *i = userdata;
        uint64_t now = now_monotonic_usec();

        if (is_busy(i) || i->since_usec == 0)
                i->since_usec = now;
        if (now - i->since_usec >= i->after_usec) {
                AUTO(error_clear) Error error = ERROR_INIT;
                int visited = server_leave(i->server, &error);

                if (visited < 0)
                        log_error("%s: ending", error_text(&error));
                else if (visited == 0)
                        log_debug("Nobody needs this daemon: ending");
                if (visited <= 0)
                        return sd_event_exit(sd_event_source_get_event(source), visited);
        }
        int r = sd_event_source_set_time_relative(source, i->after_usec / LOOKS_PER_PERIOD + 1);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int idle_start(Idle *i, sd_event *event, Engine *engine, Server *server, uint64_t after_usec, Error *e) {
        if (after_usec == 0)
                return 0;

        *i = (Idle){ .engine = engine, .server = server, .after_usec = after_usec };
        int r = sd_event_add_time_relative(event, &i->timer, CLOCK_MONOTONIC, after_usec / LOOKS_PER_PERIOD + 1,
                                           USEC_PER_MSEC, on_look, i);
        return r < 0 ? error_set_errno(e, r, "Failed to set the timer of idleness") : 0;
}

void idle_done(Idle *i) {
        i->timer = sd_event_source_disable_unref(i->timer);
}
