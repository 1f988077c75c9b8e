/* The daemon's own socket: it accepts, the bus serves. */
#pragma once

#include "bus/bus.h"

typedef struct Server {
        Bus *bus;
        int dir_fd; /* the runtime directory's, not ours; -1 when the socket was given to us */
        int fd;
        mode_t mode;
        sd_event_source *io, *pause;
} Server;
#define SERVER_INIT ((Server){ .dir_fd = -1, .fd = -1 })

/* Listen at RUNTIME_SOCKET in dir_fd with that mode, or on the one socket that the service manager passed. */
int server_start(Server *s, sd_event *event, Bus *bus, int dir_fd, mode_t mode, Error *e);
/* Take in whoever has connected; returns how many. */
unsigned server_accept(Server *s);
/* Stop listening unless somebody has connected by then, who is taken in. 1: so it was, and it goes on; 0: nobody. Of a
 * socket that the service manager passed, who comes later is the next daemon's. */
int server_leave(Server *s, Error *e);
/* Stop listening, and remove the socket if it is ours. Any state. */
void server_done(Server *s);
