/* The session daemon ends by itself when nobody needs it. */
#pragma once

#include "daemon/server.h"

typedef struct Idle {
        Engine *engine;
        Server *server;
        uint64_t after_usec, since_usec, peers_seen;
        sd_event_source *timer;
} Idle;

/* End the event loop when there have been no networks, domains, operations and clients for after_usec; 0: never. */
int idle_start(Idle *i, sd_event *event, Engine *engine, Server *server, uint64_t after_usec, Error *e);
void idle_done(Idle *i);
